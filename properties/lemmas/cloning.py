"""A clone in flight and a vfork wait: who points to whom, and what the child has."""

from model.state import NO, NULL, Ctl, Off, Sort, Task
from model.world import Cond, World
from properties.vocabulary import lemma, on

CLONING = (Ctl.CLONE_COPIED, Ctl.CLONE_FAILED)


def cloning(t: Task) -> Cond:
    """The clone of ``t`` is in flight."""
    return t.ctl.isin(CLONING)


def thread_to_be(t: Task) -> Cond:
    """``t`` clones a user thread into its mm, and not as a vfork child."""
    child = t.child
    return cloning(t) & (t.clone_vfork == NO) & (child.mm == t.mm) & (child.worker == NO)


@lemma("clone-has-child", "a clone in flight has its child", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~cloning(t) | ((t.child != NULL) & (t.child.ctl == Ctl.NEW))


@lemma("child-is-made-or-awaited", "only who clones or waits for one has a child", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.child == NULL) | cloning(t) | (t.ctl == Ctl.VFORK_WAIT)


@lemma("one-parent", "no task is the child of two", Sort.TASK, Sort.TASK)
def _(k: World, t: Task, u: Task) -> Cond:
    return (t == u) | (t.child == NULL) | (t.child != u.child)


@lemma("new-has-no-child", "a task being created waits for nobody and nobody for it", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.NEW) | ((t.vfork_done == NULL) & (t.child == NULL))


@lemma("waiter-waits", "the waiter on a task's completion waits for that task", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    w = t.vfork_done
    return (w == NULL) | ((w.child == t) & (w.ctl == Ctl.VFORK_WAIT))


@lemma("awaited-knows", "a task that is waited for knows its waiter", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    waits = (t.ctl == Ctl.VFORK_WAIT) & (t.child != NULL)
    return ~waits | (t.child.vfork_done == t)


@lemma(
    "awaited-is-alive", "a task that is waited for has started and not let go of its mm", Sort.TASK
)
def _(k: World, t: Task) -> Cond:
    gone = t.ctl.isin((Ctl.DEAD, Ctl.NEW, Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED))
    return (t.vfork_done == NULL) | ~gone


@lemma("child-shares-locks", "a clone in flight has its parent's locks", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    same = (t.child.locked_shstk == t.locked_shstk) & (t.child.locked_wrss == t.locked_wrss)
    return ~cloning(t) | same


@lemma("child-is-on-like-parent", "a clone in flight is on like its parent, or a worker", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    same = (on(t) & on(t.child)) | (~on(t) & ~on(t.child))
    return ~cloning(t) | (t.child.worker != NO) | same


@lemma("off-child-of-off", "a clone in flight of a task with stacks off is off", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~cloning(t) | k.design.enabled(t) | ~on(t.child)


@lemma("child-is-enabled-like-parent", "a clone in flight is enabled like its parent", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~cloning(t) | (t.child.shstk == t.shstk)


@lemma("child-starts-at-top", "a thread to be is at the top of its stack", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~thread_to_be(t) | ~on(t) | (t.child.off == Off.TOP)


@lemma("worker-is-off", "a kernel worker has no SSP", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.worker == NO) | ~on(t)


@lemma("worker-stays-one", "a kernel worker never runs in user mode", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    inside = (Ctl.NEW, Ctl.WORKER, Ctl.EXITING, Ctl.EXIT_RELEASED)
    return (t.worker == NO) | t.ctl.isin(inside)


@lemma("worker-is-marked", "who is in a worker's state is one", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.WORKER) | (t.worker != NO)


@lemma(
    "vfork-clone-shares-stack",
    "a vfork child in flight in its parent's mm is on its stack",
    Sort.TASK,
)
def _(k: World, t: Task) -> Cond:
    child = t.child
    vfork = cloning(t) & (t.clone_vfork != NO) & (child.mm == t.mm)
    return ~vfork | (child.worker != NO) | (child.ssp == t.ssp)


def goes_on(t: Task) -> Cond:
    """``t`` clones a user task that is no thread of its own: it goes on where ``t`` is."""
    child = t.child
    return cloning(t) & ((child.mm != t.mm) | (t.clone_vfork != NO)) & (child.worker == NO)


@lemma("forked-has-parents-ssp", "a fork child in flight has its parent's SSP", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~(goes_on(t) & (t.child.mm != t.mm)) | (t.child.ssp == t.ssp)


@lemma(
    "child-goes-on-in-place",
    "a fork or vfork child in flight has its parent's place on the stack",
    Sort.TASK,
)
def _(k: World, t: Task) -> Cond:
    return ~goes_on(t) | (t.child.off == t.off)
