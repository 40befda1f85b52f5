"""linux-6.12: the merged design (6.6) with its fixes, as of 6.12.

Merged as b2926a36b97a; 331955600ddf, 748c90c69336 and 509ff51ee652 fixed its clone
error handling and 83bc7940a701 the retry of munmap.  Read from arch/x86/kernel/shstk.c
and process.c of 6.12.117.
"""

from __future__ import annotations

from model.designs.design import Design
from model.designs.user_memory_6_12 import UserMemory612
from model.events import Warned, Warning
from model.kernel.errno import EOPNOTSUPP
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
from model.state import NO, NULL, YES, Kind, Off, Task
from model.world import Cond, Term, World


class Linux612(UserMemory612, Design):
    """The merged design."""

    name = "linux-6.12"
    title = "the merged design as of 6.12"
    cite = "b2926a36b97a, with 331955600ddf 748c90c69336 509ff51ee652 83bc7940a701"
    source = "arch/x86/kernel/shstk.c, 6.12"

    def enabled(self, tsk: Task) -> Cond:
        return tsk.shstk == YES

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        err = self.shstk_alloc_thread_stack(k, child, args)
        if err != 0:
            return err
        if args.worker:
            # fpu_clone(minimal): the init state.  The new stack is never run on.
            child.ssp = NULL
            child.off = Off.TOP
            return 0
        return args.set_new_tls(k)

    def adjust_shstk_size(self, k: World, size: Term, rlimit: Term) -> Term:
        if size != 0:
            return page_align(size)
        return page_align(rlimit_stack_max_4g(k, rlimit))

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if k.current.shstk == NO:
            return 0
        if args.flags & CLONE_VFORK != 0:
            tsk.base = NULL
            tsk.size = 0
            return 0
        if args.flags & CLONE_VM == 0:
            return 0
        requested = args.stack_size(k)
        rlimit = rlimit_stack(k)
        size = self.adjust_shstk_size(k, requested, rlimit)
        compat = args.in_compat_syscall(k)
        addr, err = mmap_shadow_stack(k, tsk, size, Kind.CLONE, requested, rlimit, compat)
        if err != 0:
            return err
        tsk.base = addr
        tsk.size = size
        tsk.ssp = addr  # fpu_clone() -> update_fpu_shstk()
        tsk.off = Off.TOP
        return 0

    def unmap_shadow_stack(self, k: World, tsk: Task) -> None:
        err = vm_munmap(k, tsk, tsk.base, tsk.size)
        if err == EINTR:
            return
        if err != OK:
            k.emit(Warned(tsk, Warning.MUNMAP_FAILED, err))

    def shstk_free(self, k: World, tsk: Task) -> int:
        if k.current.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        if tsk.base == NULL:
            return 0
        if tsk.size == 0:
            k.emit(Warned(tsk, Warning.DOUBLE_FREE))
            return 0
        self.unmap_shadow_stack(k, tsk)
        tsk.size = 0
        return 0

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        return self.shstk_free(k, tsk)

    def exit_thread(self, k: World, tsk: Task) -> int:
        return self.shstk_free(k, tsk)

    def shstk_setup(self, k: World) -> int:
        current = k.current
        if k.may("compat", "compat"):
            return EOPNOTSUPP
        rlimit = rlimit_stack(k)
        size = page_align(rlimit_stack_max_4g(k, rlimit))
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
        current = k.current
        current.ssp = NULL
        current.off = Off.TOP
        self.shstk_free(k, current)
        current.shstk = False
        current.wrss = False
        return 0

    def start_thread(self, k: World, tsk: Task) -> None:
        tsk.base = NULL
        tsk.size = 0
        tsk.shstk = False
        tsk.wrss = False
        tsk.locked_shstk = False
        tsk.locked_wrss = False
