"""What must happen in the end: claims about endless runs.

A run is *fair* when no task stays for ever in a control state in which the kernel
carries on by itself.  An endless fair run in which ``holds`` stays false for one
task is a violation, shown as a lasso.
"""

from model.kernel.signal import fatal_signal_pending
from model.state import NULL, Ctl, Task
from model.world import Cond
from properties.vocabulary import Judged, declare

LEAVING = (Ctl.EXITING, Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED)

vfork_resumes = declare(
    "vfork-resumes",
    "if the vfork child exits, execs or dies, a parent that is not dying itself resumes",
    "kernel/fork.c wait_for_vfork_done()",
    assumption="the kernel's own steps are weakly fair",
)


def _child_is_gone(k: Judged, t: Task) -> Cond:
    child = t.child
    return (t.ctl == Ctl.VFORK_WAIT) & (
        (child == NULL) | child.ctl.isin(LEAVING) | fatal_signal_pending(child)
    )


@vfork_resumes.eventually("resumes", premise=_child_is_gone)
def _(k: Judged, t: Task) -> Cond:
    return ~_child_is_gone(k, t) | fatal_signal_pending(t)


unmap_terminates = declare(
    "unmap-terminates",
    "a task that gives up its stack gets past it",
    "v1 25/35 unmap_shadow_stack() retries on -EINTR; 83bc7940a701 removed that",
    assumption="a contended mmap_lock is free at some retry (dropped by unfair-lock)",
)


def _giving_up(k: Judged, t: Task) -> Cond:
    dying = (t.ctl == Ctl.USER) & fatal_signal_pending(t)
    return dying | t.ctl.isin((Ctl.EXITING, Ctl.CLONE_FAILED, Ctl.PRCTL_DISABLE))


@unmap_terminates.eventually("gets-past", premise=_giving_up)
def _(k: Judged, t: Task) -> Cond:
    return ~_giving_up(k, t)
