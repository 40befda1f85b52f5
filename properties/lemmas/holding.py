"""Stacks that several tasks hold: who has one recorded, and whose it is then."""

from model.kernel.signal import fatal_signal_pending
from model.state import KERNEL_KINDS, LEFT, NO, NULL, Addr, Ctl, Mm, Sort, Task
from model.world import Cond, World
from properties.lemmas.cloning import cloning, thread_to_be
from properties.vocabulary import lemma, on

RELEASED = (Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED)


@lemma("on-holds-its-stack", "a task that is on a stack has it recorded", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    there = on(t) & ~t.ctl.isin((*RELEASED, Ctl.DEAD, Ctl.WORKER))
    # Whoever fails in exec past mm_release() has let go, and dies.
    dies = t.ctl.isin((Ctl.USER, Ctl.EXITING)) & fatal_signal_pending(t) & (t.base == NULL)
    return ~there | ((t.base == t.ssp) & (t.size != 0)) | dies


@lemma("released-holds-nothing", "who has released its mm has nothing recorded", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~t.ctl.isin(RELEASED) | (t.base == NULL) | (t.size == 0)


@lemma("held-is-mapped", "what a task has recorded is a stack of the kernel's", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    held = (t.base != NULL) & (t.size != 0)
    return ~held | t.mm.at(t.base).kind.isin(KERNEL_KINDS)


@lemma(
    "held-by-its-owner",
    "what a task has recorded belongs to one who has recorded it too",
    Sort.TASK,
)
def _(k: World, t: Task) -> Cond:
    owner = t.mm.at(t.base).owner
    holds = (owner.mm == t.mm) & (owner.base == t.base) & (owner.size != 0)
    return (t.base == NULL) | (t.size == 0) | ((owner != NULL) & (owner != LEFT) & holds)


@lemma("owner-holds", "the owner of a mapping has it recorded", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    owner = m.at(a).owner
    holds = (owner.base == a) & (owner.size != 0)
    return (owner == NULL) | (owner == LEFT) | holds


@lemma("nobody-has-left", "no stack of the kernel's has an owner that has left", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    return ~m.at(a).kind.isin(KERNEL_KINDS) | ((m.at(a).owner != LEFT) & (m.at(a).owner != NULL))


@lemma("worker-holds-nothing", "a kernel worker has nothing recorded", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.worker == NO) | (t.base == NULL)


@lemma("forked-is-alone", "nobody else uses the mm of a clone in flight", Sort.TASK, Sort.TASK)
def _(k: World, t: Task, u: Task) -> Cond:
    forked = cloning(t) & (t.child.mm != t.mm)
    return ~forked | (u == t.child) | (u.mm != t.child.mm)


@lemma(
    "thread-to-be-shares-nothing",
    "nobody else has the stack of a thread to be",
    Sort.TASK,
    Sort.TASK,
)
def _(k: World, t: Task, u: Task) -> Cond:
    child = t.child
    mine = thread_to_be(t) & on(child) & (u.mm == child.mm)
    return ~mine | (u == child) | (u.base != child.ssp)
