"""arm64: Guarded Control Stacks, as in current trees (after the clean-ups of 2025 and 2026).

Merged for 6.13; d2be3270f40b, 75fdf823f94b, 98a97bf41528 and 53c998527ffa cleaned it up.
Read from arch/arm64/mm/gcs.c, kernel/process.c and asm/mmu_context.h.  gcs_base and
gcs_size are base and size, GCSPR_EL0 is SSP: its top is base+size-8, where a 0 ends the stack.
PR_SHADOW_STACK_WRITE is WRSS.  Left out: PR_SHADOW_STACK_PUSH, WRITE before ENABLE, ptrace,
and what signals and map_shadow_stack(2) do to memory.  A 32-bit task cannot switch GCS on,
and CLONE_SETTLS takes any address.
"""

from __future__ import annotations

from model.designs.design import Design
from model.kernel.errno import EINVAL
from model.kernel.fork import CLONE_VFORK, CLONE_VM, CloneArgs
from model.kernel.mmap import mmap_shadow_stack, page_align, rlimit_stack, vm_munmap
from model.state import NO, NULL, YES, Kind, Off, Task
from model.world import PAGE_SIZE, Cond, Term, World

SZ_2G = 1 << 31


class Arm64(Design):
    """GCS without the second calls of gcs_free()."""

    name = "arm64"
    title = "arm64 GCS, as in current trees"
    cite = "506496bcbb42, with d2be3270f40b 75fdf823f94b 98a97bf41528 53c998527ffa"
    source = "arch/arm64/mm/gcs.c, 6.19.y"
    architecture = "arm64"
    prctl_call = "prctl"
    # Halves: of 1 nothing is left, that of 16 GiB is above 4 GiB.
    stack_sizes = (0, 1, 5000, 1 << 20, 8 << 30, (8 << 30) + 2 * PAGE_SIZE, 16 << 30)

    def enabled(self, tsk: Task) -> Cond:
        return tsk.shstk == YES

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.worker:
            # args->fn: no copy_thread_gcs().  All that is in thread_struct stays the creator's.
            return 0
        return self.copy_thread_gcs(k, child, args)

    def copy_thread_gcs(self, k: World, p: Task, args: CloneArgs) -> int:
        p.base = NULL
        p.size = 0
        return self.gcs_alloc_thread_stack(k, p, args)

    def gcs_size(self, size: Term | int, rlimit: Term) -> Term:
        if size != 0:
            return page_align(size)
        half = rlimit // 2
        if half >= SZ_2G:
            return page_align(SZ_2G)
        if half == 0:
            return page_align(PAGE_SIZE)  # max(PAGE_SIZE, PAGE_ALIGN(0))
        return page_align(half)

    def gcs_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if tsk.shstk == NO:
            return 0
        if args.flags & (CLONE_VFORK | CLONE_VM) != CLONE_VM:
            return 0  # GCSPR_EL0 is the parent's
        requested = args.stack_size(k)
        rlimit = rlimit_stack(k)
        size = self.gcs_size(requested // 2, rlimit)
        addr, err = mmap_shadow_stack(k, tsk, size, Kind.CLONE, requested, rlimit, False)
        if err != 0:
            return err
        tsk.base = addr
        tsk.size = size
        tsk.ssp = addr
        tsk.off = Off.TOP
        return 0

    def gcs_free(self, k: World, task: Task) -> int:
        """Whatever vm_munmap() says is ignored.  gcspr_el0 is only the saved copy of SSP."""
        if (task.mm == NULL) | (task.mm != k.current.mm):
            return 0
        if task.base != NULL:
            vm_munmap(k, task, task.base, task.size)
        task.base = NULL
        task.size = 0
        return 0

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        return self.gcs_free(k, tsk)

    def exit_thread(self, k: World, tsk: Task) -> int:
        return 0  # no HAVE_EXIT_THREAD

    def shstk_setup(self, k: World) -> int:
        """PR_SET_SHADOW_STACK_STATUS with ENABLE."""
        current = k.current
        # off is INSIDE where a GCS that is off has left gcspr_el0 other than 0.
        if (current.base != NULL) | (current.off == Off.INSIDE):
            return EINVAL
        rlimit = rlimit_stack(k)
        size = self.gcs_size(0, rlimit)
        addr, err = mmap_shadow_stack(k, current, size, Kind.SETUP, 0, rlimit, False)
        if err != 0:
            return err
        current.ssp = addr
        current.off = Off.TOP
        current.base = addr
        current.size = size
        current.shstk = True
        return 0

    def shstk_disable(self, k: World) -> int:
        """PR_SET_SHADOW_STACK_STATUS without ENABLE: the stack stays, as does GCSPR_EL0.

        The argument is the new mode, so WRITE may stay or come; what is locked does not change.
        """
        current = k.current
        current.ssp = NULL
        current.off = Off.INSIDE
        current.shstk = False
        if current.locked_wrss == NO:
            current.wrss = k.choose("PR_SHADOW_STACK_WRITE", (False, True))
        return 0

    def flush_thread(self, k: World, tsk: Task) -> None:
        self.flush_gcs(k, tsk)

    def flush_gcs(self, k: World, tsk: Task) -> None:
        tsk.ssp = NULL
        tsk.off = Off.TOP
        tsk.base = NULL
        tsk.size = 0
        tsk.shstk = False
        tsk.wrss = False
        tsk.locked_shstk = False
        tsk.locked_wrss = False

    def start_thread(self, k: World, tsk: Task) -> None:
        """flush_gcs() has reset everything."""
