"""execve past its point of no return: de_thread, exec_mmap, start_thread (fs/exec.c, 6.12).

Failures before the point of no return change nothing and are left out.  A failure
after it is fatal: bprm_execve() forces SIGSEGV.
"""

from __future__ import annotations

from model.events import ExecStarted
from model.kernel.exit import leave_mm, mm_release, mmput
from model.kernel.signal import fatal_signal_pending, force_fatal_sig
from model.kernel.steps import step
from model.state import NULL, Ctl, Kind, Task
from model.world import Cond, World


def others_in_group(k: World, tsk: Task) -> Cond:
    """Another member of the thread group is not reaped yet."""
    group = tsk.group
    return k.exists_task(lambda t: (t != tsk) & (t.group == group))


@step(Ctl.USER, family="exec", function="begin_new_exec", source="fs/exec.c, 6.12")
def execve(k: World) -> None:
    """execve reaches its point of no return; de_thread() kills the other threads"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    current.group.exec_task = current
    current.ctl = Ctl.EXEC_DE_THREAD


@step(Ctl.EXEC_DE_THREAD, function="de_thread", source="fs/exec.c, 6.12")
def de_thread_killed(k: World) -> None:
    """de_thread() is killed while it waits for the other threads: -EAGAIN"""
    current = k.current
    k.require(fatal_signal_pending(current))
    k.require(others_in_group(k, current))
    exec_failed(k, current)


@step(
    Ctl.EXEC_DE_THREAD,
    family="exec-failure",
    function="begin_new_exec",
    source="fs/exec.c, 6.12",
    fair=False,
)
def exec_fails_before_release(k: World) -> None:
    """execve fails between de_thread() and exec_mmap() (unshare_files, set_mm_exe_file)"""
    current = k.current
    k.require(~others_in_group(k, current))
    exec_failed(k, current)


@step(Ctl.EXEC_DE_THREAD, function="exec_mmap", source="fs/exec.c, 6.12")
def exec_mm_release(k: World) -> None:
    """exec_mmap: mm_release() of the old mm gives up the shadow stack, wakes a vfork parent"""
    current = k.current
    k.require(~others_in_group(k, current))
    if mm_release(k, current) != 0:
        return
    current.group.exec_task = NULL
    current.ctl = Ctl.EXEC_RELEASED


@step(Ctl.EXEC_RELEASED, function="exec_mmap", source="fs/exec.c, 6.12", fair=False)
def exec_mmap_killed(k: World) -> None:
    """exec_mmap: a killable lock gives -EINTR; the task dies on the old mm"""
    current = k.current
    k.require(fatal_signal_pending(current))
    exec_failed(k, current)


@step(Ctl.EXEC_RELEASED, function="exec_mmap", source="fs/exec.c, 6.12")
def exec_mmap(k: World) -> None:
    """exec_mmap: switch to the new mm; flush_thread() resets SSP"""
    current = k.current
    old_mm = current.mm
    leave_mm(k, current, old_mm)
    current.mm = k.fresh_mm("mm")
    mmput(k, old_mm)
    current.mm_switched = True
    k.design.flush_thread(k, current)
    current.ctl = Ctl.EXEC_SWITCHED


@step(
    Ctl.EXEC_SWITCHED,
    family="exec",
    function="load_elf_binary",
    source="fs/binfmt_elf.c, 6.12",
    fair=False,
)
def elf_load(k: World) -> None:
    """load_elf_binary maps a segment of the new image"""
    current = k.current
    addr = k.fresh_addr(current.mm, "addr")
    current.mm.at(addr).kind = Kind.ORDINARY


@step(
    Ctl.EXEC_SWITCHED,
    family="exec-failure",
    function="load_elf_binary",
    source="fs/binfmt_elf.c, 6.12",
    fair=False,
)
def exec_fails_after_switch(k: World) -> None:
    """the new image cannot be loaded; the task dies on the new mm"""
    exec_failed(k, k.current)


@step(Ctl.EXEC_SWITCHED, function="start_thread", source="fs/binfmt_elf.c, 6.12")
def start_thread(k: World) -> None:
    """the new image starts"""
    current = k.current
    k.design.start_thread(k, current)
    current.mm_switched = False
    current.ctl = Ctl.USER
    k.emit(ExecStarted(current))


def exec_failed(k: World, tsk: Task) -> None:
    """bprm_execve(): force_fatal_sig(SIGSEGV), on the way back to user mode."""
    if tsk.group.exec_task == tsk:
        tsk.group.exec_task = NULL
    force_fatal_sig(k, tsk)
    tsk.ctl = Ctl.USER
