"""v3 and user memory: shstk.c and signal.c at the end of the series.

map_shadow_stack is 29/37, Message-ID 20221104223604.29615-30-rick.p.edgecombe@intel.com.
sigreturn asks neither how SSP is aligned nor what memory it points to; there is no
ARCH_CET_STATUS yet.

Where mapping fails, map_shadow_stack(2) writes the token all the same: the return value that is
looked at is the argument.  The token goes to size - errno, which user code can choose.
"""

from __future__ import annotations

from typing import cast

from model.designs.user_memory import SHADOW_STACK_SET_TOKEN, SS_FRAME_SIZE
from model.designs.user_memory_6_6 import UserMemory66
from model.designs.user_memory_6_12 import ARCH_SHSTK_STATUS
from model.kernel.errno import EINVAL, ENOSYS, EOVERFLOW
from model.kernel.mmap import page_align
from model.kernel.uaccess import MASK32, MASK64, UserMemory, u64
from model.world import Cond

MAX_ERRNO = 4095


class UserMemoryV3(UserMemory66):
    """The series of November 2022, at the memory level."""

    def shstk_pop_sigframe(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        token_addr, err = self.get_shstk_data(u, ssp)
        if err != 0:
            return 0, err
        return self.restore_to(token_addr)

    # -- map_shadow_stack(2) -----------------------------------------------------------
    def map_shadow_stack(self, u: UserMemory, addr: u64, size: u64, flags: u64) -> tuple[u64, int]:
        flags = flags & MASK32  # unsigned int
        set_tok = flags & SHADOW_STACK_SET_TOKEN != 0
        if u.user_shstk_missing():
            return 0, ENOSYS
        if flags & (MASK32 - SHADOW_STACK_SET_TOKEN) != 0:
            return 0, EINVAL
        if set_tok & (size < SS_FRAME_SIZE):
            return 0, EINVAL
        aligned_size = cast(u64, page_align(size))
        if aligned_size < size:
            return 0, EOVERFLOW
        return self.alloc_shstk(u, addr, aligned_size, size, set_tok)

    def alloc_shstk(
        self, u: UserMemory, addr: u64, size: u64, token_offset: u64, set_res_tok: Cond | bool
    ) -> tuple[u64, int]:
        mapped_addr, err = u.mmap_shadow_stack(
            addr, size, fixed_noreplace=addr != 0, above_4g=False
        )
        if set_res_tok:
            if err == 0:
                return self.set_token_or_unmap(u, mapped_addr, size, token_offset)
            if addr <= MASK64 - MAX_ERRNO:  # !IS_ERR_VALUE(addr): it should be mapped_addr
                return self.set_token_at_error(u, err, token_offset)
        return mapped_addr, err

    def set_token_at_error(self, u: UserMemory, err: int, token_offset: u64) -> tuple[u64, int]:
        """alloc_shstk()'s end where nothing was mapped: mapped_addr is -errno."""
        _, failed = self.create_rstor_token(u, (token_offset - err) & MASK64)
        if failed != 0:
            return 0, EINVAL  # and vm_munmap(-errno) does nothing
        return 0, err

    # -- arch_prctl(2) -------------------------------------------------------------------
    def arch_prctl_check(self, u: UserMemory, option: int, features: u64) -> int:
        if option == ARCH_SHSTK_STATUS:
            return EINVAL
        return UserMemory66.arch_prctl_check(self, u, option, features)
