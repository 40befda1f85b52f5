"""Exit of a task: mm_release, the mm dropped, exit_thread (kernel/exit.c, fork.c of 6.12)."""

from __future__ import annotations

from model.events import FutexWoken
from model.kernel.mmap import owns_mapping
from model.kernel.signal import fatal_signal_pending
from model.kernel.steps import step
from model.state import LEFT, NULL, Ctl, Exit, Mm, Task
from model.world import World


def complete_vfork_done(tsk: Task) -> None:
    """complete(): the waiter's wait is over (kernel/fork.c)."""
    if tsk.vfork_done == NULL:
        return
    waiter = tsk.vfork_done
    tsk.vfork_done = NULL
    waiter.child = NULL


def mm_release(k: World, tsk: Task) -> int:
    """deactivate_mm(), then the CLEARTID futex, then the vfork parent (kernel/fork.c).

    Non-zero: unmapping is to be retried, and nothing has happened yet.
    """
    mm = tsk.mm
    if k.design.deactivate_mm(k, tsk) != 0:
        return 1
    if k.exists_task(lambda t: (t != tsk) & (t.mm == mm)):
        k.emit(FutexWoken(tsk, owns_mapping(k, mm, tsk)))
    complete_vfork_done(tsk)
    return 0


def leave_mm(k: World, tsk: Task, mm: Mm) -> None:
    """``tsk`` no longer uses ``mm``: what it still owns there has lost its owner (ghost)."""
    k.replace_owner(mm, tsk, LEFT)


def mmput(k: World, mm: Mm) -> None:
    """exit_mmap() when the last user has gone."""
    if k.exists_task(lambda t: t.mm == mm):
        return
    k.clear_mappings(mm)


@step(Ctl.USER, Ctl.WORKER, family="exit", function="do_exit", source="kernel/exit.c, 6.12")
def exit(k: World) -> None:
    """the task exits by itself"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    current.ctl = Ctl.EXITING


@step(Ctl.USER, family="exit-group", function="do_group_exit", source="kernel/exit.c, 6.12")
def exit_group(k: World) -> None:
    """exit_group: every member of the group dies at its next chance"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    current.group.exit = Exit.EXITED


@step(
    Ctl.EXITING, Ctl.USER, Ctl.WORKER, function="exit_mm", source="kernel/exit.c, 6.12", fair=True
)
def exit_mm_release(k: World) -> None:
    """exit_mm: mm_release() gives up the shadow stack, then wakes whoever waits

    A task with a fatal signal pending gets here by itself (get_signal(), do_group_exit());
    until then nobody can tell it from one that has entered do_exit().
    """
    current = k.current
    k.require((current.ctl == Ctl.EXITING) | fatal_signal_pending(current))
    if mm_release(k, current) != 0:
        return
    current.ctl = Ctl.EXIT_RELEASED


@step(Ctl.EXIT_RELEASED, function="do_exit", source="kernel/exit.c, 6.12")
def exit_mm_drop(k: World) -> None:
    """do_exit: current->mm = NULL, mmput(), exit_thread(), and the task is gone

    One step: between the parts only the group still has the member, and who waits for
    that (de_thread()) may as well have been killed before.
    """
    current = k.current
    mm = current.mm
    group = current.group
    leave_mm(k, current, mm)
    current.mm = NULL
    mmput(k, mm)
    # The mm is NULL, so no design unmaps anything here.
    k.design.exit_thread(k, current)
    k.reset(current)
    if k.exists_task(lambda t: t.group == group):
        return
    k.reset(group)
