"""v3: the series of November 2022; up to v9 the life cycle stayed the same.

"[PATCH v3 26/37] x86/shstk: Handle thread shadow stack",
Message-ID 20221104223604.29615-27-rick.p.edgecombe@intel.com.  Against v1 there is a features
word, and current's counts; the allocation comes before fpu_clone(), so kernel workers get a
stack of their own; base and size stay after a free; sizes are not quartered.  Against what was
merged, munmap is tried again on -EINTR; the memory level is v3's (``user_memory_v3``).
"""

from __future__ import annotations

from model.designs.linux_6_6_rc1 import Linux66RC1
from model.designs.user_memory_v3 import UserMemoryV3
from model.events import Retried, Warned, Warning
from model.kernel.mmap import EINTR, OK, vm_munmap
from model.state import NO, NULL, Off, Task
from model.world import World


class V3(UserMemoryV3, Linux66RC1):
    """The series as posted in November 2022."""

    name = "v3"
    title = "the series of November 2022; its life cycle stayed up to v9"
    cite = "Message-ID 20221104223604.29615-27-rick.p.edgecombe@intel.com"
    source = "arch/x86/kernel/shstk.c, v3 26/37"
    map_above4g = False  # MAP_ABOVE4G came with v5

    def unmap_or_retry(self, k: World, tsk: Task) -> int:
        """unmap_shadow_stack(); 1: it goes round its loop once more."""
        err = vm_munmap(k, tsk, tsk.base, tsk.size)
        if err == EINTR:
            k.emit(Retried(tsk))
            return 1
        if err != OK:
            k.emit(Warned(tsk, Warning.MUNMAP_FAILED, err))
        return 0

    def shstk_free(self, k: World, tsk: Task) -> int:
        if k.current.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        return self.unmap_or_retry(k, tsk)

    def shstk_disable(self, k: World) -> int:
        current = k.current
        # The MSRs are cleared first, which nobody can see while munmap is tried again.
        if self.shstk_free(k, current) != 0:
            return 1
        current.ssp = NULL
        current.off = Off.TOP
        current.shstk = False
        current.wrss = False
        return 0
