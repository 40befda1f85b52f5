"""Mapping and unmapping, as far as shadow stacks meet it.

munmap takes a range, never an object: what is mapped there now goes, whatever the
caller believes it to be.  Partial overlap of ranges is left to the memory level.
"""

from __future__ import annotations

from typing import cast

from model.events import Allocated, Unmapped
from model.kernel import errno
from model.kernel.signal import fatal_signal_pending
from model.state import NO, NULL, SHADOW_KINDS, YES, Addr, Ctl, Kind, Mm, Special, Task
from model.world import PAGE_SIZE, Cond, Term, World

SZ_4G = 1 << 32
TASK_SIZE_MAX = (1 << 47) - PAGE_SIZE

# Representative sizes, in bytes: the finite world's stand-in for all of them.
# clone3's stack_size: not given, below 4, unaligned, a page multiple, 4 GiB, above.
STACK_SIZES = (0, 3, 5000, 1 << 20, SZ_4G, SZ_4G + PAGE_SIZE, 8 << 30)
# RLIMIT_STACK: typical, zero, unaligned, above 4 GiB, infinity.
RLIMITS = (8 << 20, 0, 100000, 6 << 30, (1 << 64) - 1)


def page_align(size: Term | int) -> Term:
    """PAGE_ALIGN on 64 bits, wrap-around included (include/linux/align.h)."""
    return cast(Term, (size + (PAGE_SIZE - 1)) & ((1 << 64) - PAGE_SIZE))


def rlimit_stack(k: World) -> Term:
    """rlimit(RLIMIT_STACK): user space may have set it to anything."""
    return k.number("RLIMIT_STACK", RLIMITS)


def rlimit_stack_max_4g(k: World, rlimit: Term) -> Term | int:
    """min(rlimit(RLIMIT_STACK), SZ_4G)."""
    if rlimit < SZ_4G:
        return rlimit
    return SZ_4G


def mmap_shadow_stack(
    k: World,
    tsk: Task,
    size: Term,
    kind: Kind,
    requested: Term | int,
    rlimit: Term,
    compat: Cond | bool,
) -> tuple[Addr | Special, int]:
    """do_mmap() of a new VM_SHADOW_STACK area in current->mm: its address, 0; or NULL, errno.

    ``tsk`` is whom it is for.  Length 0 is -EINVAL; -ENOMEM is possible at any time.
    Which free address is taken is arbitrary (mm/mmap.c, 6.12).
    """
    if size == 0:
        return NULL, errno.EINVAL
    mm = k.current.mm
    if k.no_room(mm, size, low=compat):
        return NULL, errno.ENOMEM
    addr = k.fresh_addr(mm, "addr", size, shadow=True, low=compat)
    mapping = mm.at(addr)
    mapping.kind = kind
    mapping.owner = tsk
    k.emit(Allocated(tsk, addr, kind, size, requested, rlimit, compat))
    return addr, 0


def can_still_run(tsk: Task) -> Cond:
    """In user mode or on its way back there, on the stack SSP points into, and not dying."""
    returns = tsk.ctl.isin(
        (
            Ctl.USER,
            Ctl.CLONE_COPIED,
            Ctl.CLONE_FAILED,
            Ctl.VFORK_WAIT,
            Ctl.PRCTL_DISABLE,
        )
    )
    return returns & (tsk.ssp != NULL) & ~fatal_signal_pending(tsk)


EINTR, EPERM, EINVAL, OK = "EINTR", "EPERM", "EINVAL", ""


def vm_munmap(k: World, tsk: Task, addr: Addr, size: Term) -> str:
    """vm_munmap() of ``tsk``'s recorded range in current->mm; the errno's name, or ''.

    mmap_write_lock_killable() gives -EINTR only with a fatal signal pending and the lock
    contended (by another user of the mm, or by a reader of /proc).  A sealed area is
    -EPERM, size 0 is -EINVAL, a range without areas is success (mm/mmap.c, 6.12).
    """
    if size == 0:
        return EINVAL
    # Who dies of a signal comes from get_signal(), which has taken SIGKILL off the queue.
    dequeued = k.current.ctl.isin((Ctl.USER, Ctl.WORKER))
    if fatal_signal_pending(k.current) & ~dequeued:
        if k.may("munmap-eintr", "mmap_lock contended"):
            return EINTR
    return do_munmap(k, tsk, addr, size)


def do_munmap(k: World, tsk: Task, addr: Addr, size: Term) -> str:
    """What vm_munmap() does once it has the mmap_lock."""
    mm = k.current.mm
    if size == 0:
        return EINVAL
    mapping = mm.at(addr)
    if mapping.sealed == YES:
        return EPERM
    still_used = k.exists_task(
        lambda t: (t != tsk) & (t.mm == mm) & (t.ssp == addr) & can_still_run(t)
    )
    k.emit(
        Unmapped(
            tsk,
            mm,
            addr,
            kind=mapping.kind,
            owner=mapping.owner,
            still_used=still_used,
            own=mapping.owner == tsk,
            recorded_here=tsk.mm_switched == NO,
            for_worker=tsk.worker == YES,
        )
    )
    k.reset(mapping)
    return OK


def owns_mapping(k: World, mm: Mm, tsk: Task) -> Cond:
    """Some shadow stack in ``mm`` belongs to ``tsk``."""
    return k.exists_addr(lambda a: mm.at(a).kind.isin(SHADOW_KINDS) & (mm.at(a).owner == tsk))
