"""linux-6.6 and user memory, from 6.6-rc1 to the release: what 6.12 does otherwise."""

from __future__ import annotations

from collections.abc import Callable

from model.designs.user_memory import misaligned
from model.designs.user_memory_6_12 import UserMemory612
from model.kernel.errno import EFAULT, EINVAL
from model.kernel.uaccess import UserMemory, u64
from model.world import PAGE_SIZE


class UserMemory66(UserMemory612):
    """The design as merged in 6.6-rc1, at the memory level."""

    ssp_before_frame = True  # until 31255e072b2e (6.7)

    def x32_setup_rt_frame(self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]) -> int:
        """Until 2883f01ec37d (6.10) a handler installed by x32 gets nothing pushed."""
        return put_frame()

    def shstk_pop_sigframe(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        """The area is looked at only where SSP is the start of a page.

        An SSP off the end of its stack is that, where it is 8-aligned.  That the mmap_lock is
        not taken when a fatal signal comes first is not noticed (until 52f657e34d7b).
        """
        if misaligned(ssp, 8):
            return 0, EINVAL
        token_addr, err = self.get_shstk_data(u, ssp)
        if err != 0:
            return 0, err
        if misaligned(ssp, PAGE_SIZE):
            return self.restore_to(token_addr)
        if u.vma_is_shadow_stack(ssp):
            return self.restore_to(token_addr)
        return 0, EFAULT
