"""linux-6.6-rc1: the design as it was merged.

"x86/shstk: Handle thread shadow stack", b2926a36b97a, with 83bc7940a701 (munmap is not tried
again on -EINTR) and before the three fixes of September 2023.  A vfork child is told by its
vfork_done alone: it has its parent's base and size.  Read from arch/x86/kernel/shstk.c and
process.c and asm/mmu_context.h of 6.6-rc1.
"""

from __future__ import annotations

from model.designs.fix_vfork_clone_failure import FixVforkCloneFailure
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.state import NO, NULL, Task
from model.world import World


class Linux66RC1(FixVforkCloneFailure):
    """The design as merged."""

    name = "linux-6.6-rc1"
    title = "the design as merged, June to September 2023"
    cite = "b2926a36b97a, with 83bc7940a701 (6.6-rc1)"
    source = "arch/x86/kernel/shstk.c, 6.6-rc1"

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0  # base and size stay the parent's
        return super().shstk_alloc_thread_stack(k, tsk, args)

    def shstk_free(self, k: World, tsk: Task) -> int:
        if k.current.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        self.unmap_shadow_stack(k, tsk)
        return 0

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if tsk.vfork_done == NULL:
            return self.shstk_free(k, tsk)
        return 0
