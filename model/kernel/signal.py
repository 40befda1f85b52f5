"""Fatal signals: who has one pending, who gets one, and what happens next."""

from __future__ import annotations

from model.kernel.steps import step
from model.state import NULL, Ctl, Exit, Task
from model.world import Cond, World


def fatal_signal_pending(tsk: Task) -> Cond:
    """SIGKILL is pending: the group exits, or another member is in de_thread().

    kernel/signal.c: complete_signal() and zap_other_threads() give every member of the
    group SIGKILL at once; the model derives that from the group's record.
    """
    group = tsk.group
    return (group.exit != Exit.NO) | ((group.exec_task != NULL) & (group.exec_task != tsk))


def force_fatal_sig(k: World, tsk: Task) -> None:
    """SIGSEGV that cannot be caught: the whole group dies (kernel/signal.c, 6.12).

    A group that is dying already keeps its reason.
    """
    if tsk.group.exit == Exit.NO:
        tsk.group.exit = Exit.FAULTED


# complete_signal() needs a member that can still take the signal: not one past exit_signals().
CAN_BE_KILLED = tuple(
    c for c in Ctl if c not in (Ctl.DEAD, Ctl.NEW, Ctl.EXITING, Ctl.EXIT_RELEASED)
)


@step(
    *CAN_BE_KILLED,
    family="sigkill",
    function="complete_signal",
    source="kernel/signal.c, 6.12",
    fair=False,
)
def sigkill(k: World) -> None:
    """SIGKILL from outside the group"""
    current = k.current
    k.require(current.group.exit == Exit.NO)
    current.group.exit = Exit.KILLED
