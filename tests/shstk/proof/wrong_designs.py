"""Designs with a mistake, for tests of what is not proved."""

from __future__ import annotations

from model.designs.linux_6_12 import Linux612
from model.state import NULL, Task
from model.world import World


class ForgetsToZero(Linux612):
    """shstk_free() leaves the size: a second free hits whatever is there."""

    def shstk_free(self, k: World, tsk: Task) -> int:
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        if tsk.base == NULL:
            return 0
        self.unmap_shadow_stack(k, tsk)
        return 0
