"""v1: the patch of January 2022, on the series it was part of (Linux 5.17).

"[PATCH 28/35] x86/cet/shstk: Handle thread shadow stack",
Message-ID 20220130211838.8382-29-rick.p.edgecombe@intel.com; shstk_setup and
shstk_disable are 25/35 (-26), the prctl 31/35 (-32).

There is no features word: a task has shadow stacks on where thread.shstk.size != 0.
"""

from __future__ import annotations

from model.designs.design import Design
from model.designs.user_memory_v1 import UserMemoryV1
from model.events import Retried, Warned, Warning
from model.kernel.errno import ECANCELED
from model.kernel.fork import CLONE_VFORK, CLONE_VM, CloneArgs
from model.kernel.mmap import (
    EINTR,
    OK,
    mmap_shadow_stack,
    page_align,
    rlimit_stack,
    rlimit_stack_max_4g,
    vm_munmap,
)
from model.state import NULL, Kind, Off, Task
from model.world import Cond, Term, World


class V1(UserMemoryV1, Design):
    """The patch as posted."""

    name = "v1"
    title = "the patch as posted in January 2022"
    cite = "Message-ID 20220130211838.8382-29-rick.p.edgecombe@intel.com (Linux 5.17)"
    source = "arch/x86/kernel/shstk.c, v1 28/35"
    has_mseal = False  # mseal(2) came with 6.10
    signal_frame_is_token = True
    map_above4g = False
    huge_pages = False
    guard_gaps = "both"

    def enabled(self, tsk: Task) -> Cond:
        return tsk.size != 0

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.worker:
            # fpu_clone(): the init state.  PF_IO_WORKER returns before the allocation.
            child.ssp = NULL
            child.off = Off.TOP
            return 0
        err = args.set_new_tls(k)
        if err != 0:
            return err
        return self.shstk_alloc_thread_stack(k, child, args)

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if tsk.size == 0:
            return 0
        if args.flags & (CLONE_VFORK | CLONE_VM) != CLONE_VM:
            return 0
        requested = args.stack_size(k)
        rlimit = rlimit_stack(k)
        stack_size: Term | int = requested
        if requested == 0:
            stack_size = rlimit_stack_max_4g(k, rlimit)
        compat = args.in_compat_syscall(k)
        if compat:
            stack_size = stack_size // 4
        size = page_align(stack_size)
        addr, err = mmap_shadow_stack(k, tsk, size, Kind.CLONE, requested, rlimit, compat)
        if err != 0:
            tsk.base = NULL
            tsk.size = 0
            return err
        tsk.ssp = addr
        tsk.off = Off.TOP
        tsk.base = addr
        tsk.size = size
        return 0

    def unmap_shadow_stack(self, k: World, tsk: Task) -> int:
        err = vm_munmap(k, tsk, tsk.base, tsk.size)
        if err == EINTR:
            k.emit(Retried(tsk))
            return 1
        if err != OK:
            k.emit(Warned(tsk, Warning.MUNMAP_FAILED, err))
        return 0

    def shstk_free(self, k: World, tsk: Task) -> int:
        if (tsk.size == 0) | (tsk.base == NULL):
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        if self.unmap_shadow_stack(k, tsk) != 0:
            return 1
        tsk.base = NULL
        tsk.size = 0
        return 0

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if tsk.vfork_done == NULL:
            return self.shstk_free(k, tsk)
        return 0

    def exit_thread(self, k: World, tsk: Task) -> int:
        return self.shstk_free(k, tsk)

    def shstk_setup(self, k: World) -> int:
        current = k.current
        rlimit = rlimit_stack(k)
        size = page_align(rlimit_stack_max_4g(k, rlimit))
        compat = k.may("compat", "compat")
        addr, err = mmap_shadow_stack(k, current, size, Kind.SETUP, 0, rlimit, compat)
        if err != 0:
            return ECANCELED  # arch_prctl() makes that of any failure
        current.ssp = addr
        current.off = Off.TOP
        current.base = addr
        current.size = size
        return 0

    def shstk_disable(self, k: World) -> int:
        current = k.current
        if self.shstk_free(k, current) != 0:
            return 1
        current.ssp = NULL
        current.off = Off.TOP
        current.wrss = False
        return 0

    def start_thread(self, k: World, tsk: Task) -> None:
        tsk.base = NULL
        tsk.size = 0
        tsk.wrss = False
        tsk.locked_shstk = False
        tsk.locked_wrss = False
