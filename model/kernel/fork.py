"""clone in all its flavours: copy_process, kernel_clone, and the vfork wait.

Read from kernel/fork.c of 6.12; 6.1 and what v1's 5.17 quotes of it have the same
order.  Left out: CLONE_SIGHAND without CLONE_THREAD, namespaces, ptrace, and the failures
before copy_thread() where nothing that they free has to do with a shadow stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from model.events import CloneFailed, CloneStarted, Failed
from model.kernel.errno import EFAULT, EPERM
from model.kernel.exit import leave_mm, mmput
from model.kernel.mmap import TASK_SIZE_MAX, owns_mapping
from model.kernel.signal import fatal_signal_pending
from model.kernel.steps import step
from model.state import NULL, SHADOW_KINDS, YES, Addr, Ctl, Kind, Mm, Task
from model.world import Cond, Term, World

CLONE_VM = 0x0100
CLONE_VFORK = 0x4000
CLONE_THREAD = 0x10000
NO_TOKEN = cast(Addr, NULL)

# What fork makes of a mapping: of the child's own stack, and of everybody else's.
# Ordinary memory and map_shadow_stack memory stay what they are: user space's.
OWN_COPY = {k: Kind.COPY for k in (Kind.CLONE, Kind.SETUP, Kind.COPY, Kind.ORPHAN)}
OTHER_COPY = {k: Kind.ORPHAN for k in (Kind.CLONE, Kind.SETUP, Kind.COPY, Kind.ORPHAN)}

EARLY_FAILURES = ("EAGAIN: RLIMIT_NPROC", "EAGAIN: max_threads", "ENOMEM: copy_files")
LATE_FAILURES = (
    "EAGAIN: alloc_pid",
    "EEXIST: set_tid in use",
    "EMFILE: CLONE_PIDFD",
    "EFAULT: CLONE_PIDFD",
    "EAGAIN: cgroup_can_fork",
    "ENOMEM: dying pid namespace",
)


@dataclass(frozen=True)
class CloneArgs:
    """kernel_clone_args: flags, worker (args->fn), and the ABI of the system call.

    ``shstk_token``: the stack that the token in clone3's argument lies on.
    """

    flags: int
    worker: bool = False
    shstk_token: Addr = NO_TOKEN

    def stack_size(self, k: World) -> Term:
        """clone3's stack_size, in bytes; 0 where clone() or fork() was called."""
        if self.worker:
            return k.choose("stack_size", (0,))
        size = k.number("stack_size", k.design.stack_sizes)
        # clone3_stack_valid(): access_ok() of a stack that does not begin at 0.
        k.require(size < TASK_SIZE_MAX)
        return size

    def in_compat_syscall(self, k: World) -> Cond:
        """The clone came through the 32-bit entry (a property of the call, not the task)."""
        return k.may("compat", "compat")

    def set_new_tls(self, k: World) -> int:
        """The errno of a CLONE_SETTLS whose address is wrong, 0 if it is not.

        EPERM: not below TASK_SIZE_MAX; EFAULT: in a 32-bit system call, which has a user_desc
        there to be copied (set_new_tls(), arch/x86/kernel/process.c, 6.12).
        """
        if k.may("tls-failure", "bad TLS"):
            if k.choose("TLS errno", ("EPERM", "EFAULT")) == "EFAULT":
                return EFAULT
            return EPERM
        return 0


def copy_process(k: World, args: CloneArgs) -> None:
    """copy_process() up to and including copy_thread()."""
    current = k.current
    k.require(~fatal_signal_pending(current))
    child = k.fresh_task("child")
    dup_task_struct(k, child)
    child.worker = args.worker
    if args.flags & CLONE_THREAD == 0:
        child.group = k.fresh_group()
    copy_mm(k, child, args)
    current.child = child
    current.clone_vfork = args.flags & CLONE_VFORK != 0
    err = k.design.copy_thread(k, child, args)
    if err == 0:
        err = k.design.shstk_validate_clone(k, child, args)
    if err != 0:
        k.emit(Failed(current, err))
        bad_fork_cleanup_io(k)
        return
    current.ctl = Ctl.CLONE_COPIED


def dup_task_struct(k: World, child: Task) -> None:
    """The child starts as a copy of everything, the shadow-stack bookkeeping and SSP too."""
    k.copy_fields(k.current, child)
    child.ctl = Ctl.NEW
    child.vfork_done = NULL
    child.child = NULL
    child.clone_vfork = False


def copy_mm(k: World, child: Task, args: CloneArgs) -> None:
    """CLONE_VM shares the mm; otherwise dup_mm() copies every mapping, to the same address."""
    if args.flags & CLONE_VM != 0:
        return
    mm: Mm = k.fresh_mm("mm")
    k.copy_mappings(k.current.mm, mm, (child.base, child.ssp), child, OWN_COPY, OTHER_COPY)
    child.mm = mm


@step(Ctl.USER, family="thread", function="copy_process", source="kernel/fork.c, 6.12")
def clone_thread(k: World) -> None:
    """clone a thread: CLONE_VM|CLONE_THREAD"""
    copy_process(k, CloneArgs(CLONE_VM | CLONE_THREAD))


@step(Ctl.USER, family="fork", function="copy_process", source="kernel/fork.c, 6.12")
def fork(k: World) -> None:
    """fork"""
    copy_process(k, CloneArgs(0))


@step(Ctl.USER, family="vfork", function="copy_process", source="kernel/fork.c, 6.12")
def vfork(k: World) -> None:
    """vfork: CLONE_VM|CLONE_VFORK"""
    copy_process(k, CloneArgs(CLONE_VM | CLONE_VFORK))


@step(Ctl.USER, family="vfork-copy", function="copy_process", source="kernel/fork.c, 6.12")
def clone_vfork_copy(k: World) -> None:
    """clone: CLONE_VFORK without CLONE_VM"""
    copy_process(k, CloneArgs(CLONE_VFORK))


@step(Ctl.USER, family="vfork-thread", function="copy_process", source="kernel/fork.c, 6.12")
def clone_vfork_thread(k: World) -> None:
    """clone: CLONE_VM|CLONE_VFORK|CLONE_THREAD"""
    copy_process(k, CloneArgs(CLONE_VM | CLONE_VFORK | CLONE_THREAD))


@step(Ctl.USER, family="vm", function="copy_process", source="kernel/fork.c, 6.12")
def clone_vm(k: World) -> None:
    """clone: CLONE_VM without CLONE_THREAD"""
    copy_process(k, CloneArgs(CLONE_VM))


@step(Ctl.USER, family="worker", function="create_io_thread", source="kernel/fork.c, 6.12")
def create_io_thread(k: World) -> None:
    """the kernel creates an io_uring worker for the task"""
    copy_process(k, CloneArgs(CLONE_VM | CLONE_THREAD, worker=True))


@step(
    Ctl.USER,
    family="early-clone-failure",
    function="copy_process",
    source="kernel/fork.c, 6.12",
)
def early_clone_failure(k: World) -> None:
    """the clone fails before copy_mm(): what is freed is a copy of its creator, mm included"""
    current = k.current
    k.require(k.design.releases_with_task_struct)
    k.require(~fatal_signal_pending(current))
    child = k.fresh_task("child")
    dup_task_struct(k, child)
    k.choose("error", EARLY_FAILURES)
    current.child = child
    bad_fork_cleanup_mm(k)


@step(
    Ctl.CLONE_COPIED,
    family="late-clone-failure",
    function="copy_process",
    source="kernel/fork.c, 6.12",
    fair=False,
)
def late_clone_failure(k: World) -> None:
    """the clone fails after copy_thread(); its error exit runs exit_thread(child)"""
    k.choose("error", LATE_FAILURES)
    bad_fork_cleanup_thread(k)


@step(Ctl.CLONE_FAILED, function="bad_fork_cleanup_thread", source="kernel/fork.c, 6.12")
def clone_failed_again(k: World) -> None:
    """the failed clone tries again to unmap the child's stack"""
    bad_fork_cleanup_thread(k)


def bad_fork_cleanup_thread(k: World) -> None:
    """exit_thread(child), while child->mm is still set, and then bad_fork_cleanup_io."""
    if k.design.exit_thread(k, k.current.child) != 0:
        k.current.ctl = Ctl.CLONE_FAILED
        return
    bad_fork_cleanup_mm(k)


def bad_fork_cleanup_io(k: World) -> None:
    """The error exit of copy_thread() and the token's check: no exit_thread(child)."""
    bad_fork_cleanup_mm(k)


def bad_fork_cleanup_mm(k: World) -> None:
    """mmput(child->mm), free_task(), and the child is gone; the caller gets the error.

    arch_release_task_struct() comes last, but child->mm is not reset; where it is the
    caller's the mm is still there, so the order does not matter.
    """
    current = k.current
    child = current.child
    mm = child.mm
    k.design.arch_release_task_struct(k, child)
    stack = current.mm.at(current.ssp)
    k.emit(
        CloneFailed(
            current,
            left_behind=(mm == current.mm) & owns_mapping(k, mm, child),
            stack_gone=(current.ssp != NULL) & ~stack.kind.isin(SHADOW_KINDS),
        )
    )
    leave_mm(k, child, mm)
    k.reset(child)
    mmput(k, mm)
    current.child = NULL
    current.clone_vfork = False
    current.ctl = Ctl.USER


@step(Ctl.CLONE_COPIED, function="kernel_clone", source="kernel/fork.c, 6.12")
def clone_commit(k: World) -> None:
    """the clone goes through unless a fatal signal is pending; the child is woken

    vfork_done is set before wake_up_new_task(), and nobody can tell the moment after the
    commit from the moment after the wake-up: one step.
    """
    if fatal_signal_pending(k.current):
        bad_fork_cleanup_thread(k)
        return
    wake_up_new_task(k)


def wake_up_new_task(k: World) -> None:
    """vfork_done is set, the child is woken, a vfork parent starts to wait."""
    current = k.current
    child = current.child
    stack = child.mm.at(child.ssp)
    k.emit(
        CloneStarted(
            current,
            child,
            shares_mm=child.mm == current.mm,
            vfork=current.clone_vfork == YES,
            own_stack=(child.ssp != NULL) & stack.kind.isin(SHADOW_KINDS) & (stack.owner == child),
        )
    )
    if child.worker == YES:
        child.ctl = Ctl.WORKER
    else:
        child.ctl = Ctl.USER
    if current.clone_vfork == YES:
        child.vfork_done = current
        current.clone_vfork = False
        current.ctl = Ctl.VFORK_WAIT
        return
    current.child = NULL
    current.ctl = Ctl.USER


@step(Ctl.VFORK_WAIT, function="wait_for_vfork_done", source="kernel/fork.c, 6.12")
def vfork_completed(k: World) -> None:
    """the vfork wait is over: the child has exited or started a new image"""
    current = k.current
    k.require(current.child == NULL)
    current.ctl = Ctl.USER


@step(
    Ctl.VFORK_WAIT,
    family="vfork-abandon",
    function="wait_for_vfork_done",
    source="kernel/fork.c, 6.12",
)
def vfork_abandoned(k: World) -> None:
    """a fatal signal ends the vfork wait: child->vfork_done = NULL, the child runs on"""
    current = k.current
    k.require(current.child != NULL)
    k.require(fatal_signal_pending(current))
    current.child.vfork_done = NULL
    current.child = NULL
    current.ctl = Ctl.USER
