"""Ownership: whose a mapping is, and that a recorded range is its owner's."""

from model.state import KERNEL_KINDS, LEFT, NO, NULL, SHADOW_KINDS, Addr, Ctl, Kind, Mm, Sort, Task
from model.world import Cond, World
from properties.lemmas.cloning import thread_to_be
from properties.vocabulary import lemma, on


@lemma(
    "free-is-nothing",
    "where nothing is mapped there is no owner, no seal and no token",
    Sort.MM,
    Sort.ADDR,
)
def _(k: World, m: Mm, a: Addr) -> Cond:
    at = m.at(a)
    return (at.kind != Kind.FREE) | ((at.owner == NULL) & (at.sealed == NO) & (at.token == NO))


@lemma("user-memory-has-no-owner", "what user space maps belongs to no task", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    return ~m.at(a).kind.isin((Kind.ORDINARY, Kind.MAP)) | (m.at(a).owner == NULL)


@lemma("owner-uses-mm", "the owner of a mapping uses the mm it is in", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    owner = m.at(a).owner
    return (owner == NULL) | (owner == LEFT) | (owner.mm == m)


@lemma("record-is-owned", "what a task has recorded as its stack belongs to it", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    at = t.mm.at(t.base)
    return (t.base == NULL) | (t.size == 0) | ((at.owner == t) & at.kind.isin(KERNEL_KINDS))


@lemma("thread-has-its-stack", "a thread to be is on a stack of its own", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    child = t.child
    at = child.mm.at(child.ssp)
    own = on(child) & (at.owner == child) & at.kind.isin(SHADOW_KINDS)
    return ~thread_to_be(t) | ~on(t) | own


@lemma("worker-has-no-stack", "a kernel worker has recorded no stack of its own", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.worker == NO) | (t.base == NULL) | (t.mm.at(t.base).owner != t)


@lemma("worker-owns-nothing", "no mapping belongs to a kernel worker", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    owner = m.at(a).owner
    return (owner == NULL) | (owner == LEFT) | (owner.worker == NO)


@lemma("nothing-sealed", "nothing is sealed", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    return m.at(a).sealed == NO


@lemma("no-tokens", "no stack has a restore token", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    return m.at(a).token == NO


@lemma("dead-own-nothing", "a mapping's owner is a task that is there", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    owner = m.at(a).owner
    return (owner == NULL) | (owner == LEFT) | (owner.ctl != Ctl.DEAD)
