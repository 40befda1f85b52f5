"""fix-clone-error-handling: the second fix of September 2023, on top of the first.

"x86/shstk: Remove useless clone error handling", 748c90c69336: copy_thread() no longer frees
what it allocated, since copy_process() would run exit_thread().  It does not where
copy_thread() itself fails.

What 509ff51ee652 then changed is here as it was before: shstk_free() leaves base and size as
they are, so that a later one unmaps the same range again, silently, whatever is there.
"""

from __future__ import annotations

from model.designs.fix_double_unmap_warning import FixDoubleUnmapWarning
from model.state import NO, NULL, Task
from model.world import World


class FixCloneErrorHandling(FixDoubleUnmapWarning):
    """6.6-rc2 with the first two fixes."""

    name = "fix-clone-error-handling"
    title = "6.6-rc2 without copy_thread()'s own cleanup (second fix of September 2023)"
    cite = "748c90c69336, on 331955600ddf"
    source = "arch/x86/kernel/shstk.c, 748c90c69336"

    def shstk_free(self, k: World, tsk: Task) -> int:
        if k.current.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        if tsk.base == NULL:
            return 0
        self.unmap_shadow_stack(k, tsk)
        return 0
