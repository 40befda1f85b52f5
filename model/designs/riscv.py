"""riscv: Zicfiss as merged: the stack is given up in deactivate_mm() and nowhere else.

Read from arch/riscv/kernel/usercfi.c, process.c and asm/mmu_context.h.  shdw_stk_base and
shdw_stk_size are base and size, ubcfi_en is SHSTK of the features, ubcfi_locked its lock.
SSAMOSWAP comes and goes with SHSTK: there is no switch and no lock for it.  Left out: landing
pads, and what signals and map_shadow_stack(2) do to memory.  CLONE_SETTLS takes any address.
No code asks whether a task is a 32-bit one.
"""

from __future__ import annotations

from model.designs.design import Design
from model.kernel.errno import EINVAL
from model.kernel.fork import CLONE_VFORK, CLONE_VM, CloneArgs
from model.kernel.mmap import (
    mmap_shadow_stack,
    page_align,
    rlimit_stack,
    rlimit_stack_max_4g,
    vm_munmap,
)
from model.kernel.prctl import SHSTK
from model.state import NO, NULL, YES, Kind, Off, Task
from model.world import Cond, Term, World


class Riscv(Design):
    """Zicfiss as merged."""

    name = "riscv"
    title = "RISC-V Zicfiss as merged"
    cite = "Message-ID 20250731-v5_user_cfi_series-v19-11-09b468d7beab@rivosinc.com, up to v26"
    source = "arch/riscv/kernel/usercfi.c, 08ee1559052b"
    architecture = "riscv"
    prctl_call = "prctl"
    has_wrss = False
    lockable = (SHSTK,)

    def enabled(self, tsk: Task) -> Cond:
        return tsk.shstk == YES

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.worker:
            # args->fn: no shstk_alloc_thread_stack().  user_cfi_state stays the creator's.
            return 0
        return self.shstk_alloc_thread_stack(k, child, args)

    def calc_shstk_size(self, k: World, size: Term | int, rlimit: Term) -> Term:
        if size != 0:
            return page_align(size)
        return page_align(rlimit_stack_max_4g(k, rlimit))

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if tsk.shstk == NO:
            return 0
        if args.flags & CLONE_VFORK != 0:
            tsk.base = NULL
            tsk.size = 0
            return 0
        if args.flags & CLONE_VM == 0:
            return 0
        requested = args.stack_size(k)
        rlimit = rlimit_stack(k)
        size = self.calc_shstk_size(k, requested, rlimit)
        addr, err = mmap_shadow_stack(k, tsk, size, Kind.CLONE, requested, rlimit, False)
        if err != 0:
            return err
        tsk.base = addr
        tsk.size = size
        tsk.ssp = addr
        tsk.off = Off.TOP
        return 0

    def shstk_release(self, k: World, tsk: Task) -> int:
        """Whatever vm_munmap() says is ignored."""
        if tsk.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        if tsk.base == NULL:
            return 0
        vm_munmap(k, tsk, tsk.base, tsk.size)
        tsk.base = NULL
        tsk.size = 0
        return 0

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        return self.shstk_release(k, tsk)

    def exit_thread(self, k: World, tsk: Task) -> int:
        return 0  # no HAVE_EXIT_THREAD

    def shstk_setup(self, k: World) -> int:
        """PR_SET_SHADOW_STACK_STATUS with ENABLE."""
        current = k.current
        if current.base != NULL:
            return EINVAL
        rlimit = rlimit_stack(k)
        size = self.calc_shstk_size(k, 0, rlimit)
        addr, err = mmap_shadow_stack(k, current, size, Kind.SETUP, 0, rlimit, False)
        if err != 0:
            return err
        current.base = addr
        current.size = size
        current.ssp = addr
        current.off = Off.TOP
        current.shstk = True
        return 0

    def shstk_disable(self, k: World) -> int:
        """PR_SET_SHADOW_STACK_STATUS without ENABLE."""
        current = k.current
        self.shstk_release(k, current)
        current.ssp = NULL
        current.off = Off.TOP
        current.shstk = False
        current.wrss = False
        return 0

    def can_lock(self, tsk: Task) -> Cond:
        return tsk.shstk == YES

    def flush_thread(self, k: World, tsk: Task) -> None:
        """Nothing of this is reset before start_thread()."""

    def start_thread(self, k: World, tsk: Task) -> None:
        tsk.locked_shstk = False
        tsk.locked_wrss = False
        tsk.shstk = False
        tsk.wrss = False
        tsk.base = NULL
        tsk.size = 0
        tsk.ssp = NULL
        tsk.off = Off.TOP
