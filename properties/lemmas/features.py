"""Features: what is on, what a record says, what a started image has."""

from model.kernel.signal import fatal_signal_pending
from model.state import NO, NULL, SHADOW_KINDS, Addr, Ctl, Sort, Task
from model.world import Cond, World
from properties.vocabulary import lemma, on

LEAVING = (Ctl.EXITING, Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED)


@lemma("no-base-no-size", "a task without a stack of its own has recorded no size", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.base != NULL) | (t.size == 0)


@lemma("no-size-no-base", "a task that has recorded no size has no stack of its own", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.size != 0) | (t.base == NULL)


@lemma("no-features", "there is no features word", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return t.shstk == NO


@lemma("off-has-no-size", "a task with the feature off has recorded no size", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.shstk != NO) | (t.size == 0)


@lemma("on-is-enabled", "SSP is on only for a task with the feature on", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~on(t) | (t.shstk != NO)


@lemma(
    "on-is-recorded", "SSP is on only for a task with a recorded size, or one that dies", Sort.TASK
)
def _(k: World, t: Task) -> Cond:
    return ~on(t) | (t.size != 0) | t.ctl.isin(LEAVING) | fatal_signal_pending(t)


@lemma(
    "enabled-is-on", "a task with stacks enabled has SSP on, or is dying or no user task", Sort.TASK
)
def _(k: World, t: Task) -> Cond:
    outside = t.ctl.isin((*LEAVING, Ctl.DEAD, Ctl.WORKER)) | (t.worker != NO)
    return ~k.design.enabled(t) | on(t) | outside | fatal_signal_pending(t)


@lemma("wrss-is-on", "WRSS is on only where SSP is, or for the dying, or a worker", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    outside = t.ctl.isin((*LEAVING, Ctl.DEAD, Ctl.WORKER)) | (t.worker != NO)
    return (t.wrss == NO) | on(t) | outside | fatal_signal_pending(t)


@lemma("wrss-is-enabled", "WRSS is on only where the feature is", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.wrss == NO) | (t.shstk != NO)


@lemma("disabling-is-unlocked", "a task that disables has not locked the feature", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.PRCTL_DISABLE) | (t.locked_shstk == NO)


@lemma("disabling-is-on", "a task that disables shadow stacks has them on", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.PRCTL_DISABLE) | k.design.enabled(t)


@lemma(
    "released-has-no-size", "a task that has released its stack for exec records no size", Sort.TASK
)
def _(k: World, t: Task) -> Cond:
    return ~t.ctl.isin((Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED)) | (t.size == 0)


@lemma("switched-has-no-size", "a task on a new mm has recorded no size there", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.mm_switched == NO) | (t.size == 0)


@lemma("switched-is-off", "SSP is off from the switch to the new mm on", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.mm_switched == NO) | ~on(t)


@lemma("switching-is-switched", "an image to be started has its mm switched", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.EXEC_SWITCHED) | (t.mm_switched != NO)


@lemma(
    "released-is-dying-or-in-exec",
    "a task that has released its stack is in exec or dies",
    Sort.TASK,
)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.EXIT_RELEASED) | (t.vfork_done == NULL)


@lemma(
    "new-image-has-no-shadow-stack",
    "no shadow stack is in the mm of an image to be started",
    Sort.TASK,
    Sort.ADDR,
)
def _(k: World, t: Task, a: Addr) -> Cond:
    return (t.ctl != Ctl.EXEC_SWITCHED) | ~t.mm.at(a).kind.isin(SHADOW_KINDS)
