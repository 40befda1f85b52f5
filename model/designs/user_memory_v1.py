"""v1 and user memory: 29/35 to 34/35 of the series of January 2022.

Tokens 29/35, signals 30/35, arch_prctl 31/35 (elf_feature_prctl.c), map_shadow_stack
32/35, WRSS 34/35: Message-ID 20220130211838.8382-30 to -35-rick.p.edgecombe@intel.com.

What delivery pushes is an ordinary restore token, and sigreturn takes any: RSTORSSP
could consume the one, and what SAVEPREVSSP or map_shadow_stack left will do for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from model.designs.user_memory import (
    SHADOW_STACK_SET_TOKEN,
    PrctlNumbers,
    UserMemoryDesign,
    align_down,
    below,
    misaligned,
)
from model.kernel.errno import (
    ECANCELED,
    EFAULT,
    EINVAL,
    ENOSYS,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
)
from model.kernel.mmap import TASK_SIZE_MAX, page_align
from model.kernel.uaccess import CET_WRSS_EN, MASK32, MASK64, UserMemory, u64
from model.world import Cond

ARCH_X86_FEATURE_STATUS = 0x3001
ARCH_X86_FEATURE_DISABLE = 0x3002
ARCH_X86_FEATURE_LOCK = 0x3003
ARCH_X86_FEATURE_ENABLE = 0x3004

LINUX_X86_FEATURE_SHSTK = 0x02
LINUX_X86_FEATURE_WRSS = 0x10

TOKEN_FLAGS = 3  # bit 0: 64-bit; bit 1: busy


class UserMemoryV1(UserMemoryDesign):
    """The series as posted, at the memory level.  ``proc32``: the ia32 form of a token."""

    prctl = PrctlNumbers(
        enable=ARCH_X86_FEATURE_ENABLE,
        disable=ARCH_X86_FEATURE_DISABLE,
        lock=ARCH_X86_FEATURE_LOCK,
        status=ARCH_X86_FEATURE_STATUS,
        shstk=LINUX_X86_FEATURE_SHSTK,
        wrss=LINUX_X86_FEATURE_WRSS,
    )
    ssp_before_frame = True
    ssp_before_x32_frame = True

    # -- tokens ------------------------------------------------------------------------
    def create_rstor_token(self, u: UserMemory, ssp: u64, proc32: Cond | bool) -> tuple[u64, int]:
        """A restore token that leads to ``ssp``, below it: (where it is, errno)."""
        token = ssp | 1
        slot = 8
        if proc32:
            token = ssp
            slot = 4
        if misaligned(ssp, slot):
            return 0, EINVAL
        addr = below(align_down(ssp, 8), 8)
        if u.write_user_shstk_64(addr, token) != 0:
            return 0, EFAULT
        return addr, 0

    def shstk_setup_rstor_token(
        self, u: UserMemory, ret_addr: u64, proc32: Cond | bool
    ) -> tuple[u64, int]:
        """A token that leads to SSP and ``ret_addr`` below it: (the new SSP, errno)."""
        if ret_addr == 0:
            return 0, EINVAL
        ssp = u.ssp
        if ssp == 0:
            return 0, EINVAL
        token_addr, err = self.create_rstor_token(u, ssp, proc32)
        if err != 0:
            return 0, err
        if proc32:
            ssp = below(token_addr, 4)
            return ssp, u.write_user_shstk_32(ssp, ret_addr & MASK32)
        ssp = below(token_addr, 8)
        return ssp, u.write_user_shstk_64(ssp, ret_addr)

    def shstk_check_rstor_token(self, u: UserMemory, proc32: Cond | bool) -> tuple[u64, int]:
        """Where the token at SSP leads to.  What kind of memory it is in is not checked."""
        token_addr = u.ssp
        if token_addr == 0:
            return 0, EINVAL
        token, err = u.get_user(token_addr)
        if err != 0:
            return 0, EFAULT
        mode = 1
        slot = 8
        if proc32:
            mode = 0
            slot = 4
        if token & 1 != mode:
            return 0, EINVAL
        if token & 2 != 0:
            return 0, EINVAL
        token = token & (MASK64 - TOKEN_FLAGS)
        if misaligned(token, slot):
            return 0, EINVAL
        if below(align_down(token, 8), 8) != token_addr:
            return 0, EINVAL
        if token < TASK_SIZE_MAX:
            return token, 0
        return 0, EINVAL

    # -- signals -----------------------------------------------------------------------
    def setup_signal_shadow_stack(
        self, u: UserMemory, restorer: u64, proc32: Cond | bool = False
    ) -> int:
        """[SSP-8] = SSP | 1; [SSP-16] = restorer; SSP -= 16.

        ``proc32``: the handler was installed by an ia32 syscall; then the token is SSP, at
        ALIGN_DOWN(SSP, 8) - 8, and the restorer takes 4 bytes.  As in 6.12, an error
        leaves SSP and what is at or above it, but may have written the token.
        """
        if u.user_shstk_missing() | (u.shstk_size == 0):
            return 0
        new_ssp, err = self.shstk_setup_rstor_token(u, restorer, proc32)
        if err != 0:
            return err
        u.ssp = new_ssp
        return 0

    def restore_signal_shadow_stack(self, u: UserMemory) -> int:
        if u.user_shstk_missing() | (u.shstk_size == 0):
            return 0
        new_ssp, err = self.shstk_check_rstor_token(u, u.in_ia32_syscall())
        if err != 0:
            return err
        u.ssp = new_ssp
        return 0

    def ia32_setup_rt_frame(
        self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]
    ) -> int:
        if self.setup_signal_shadow_stack(u, restorer, proc32=True) != 0:
            return EFAULT
        return put_frame()

    def ia32_rt_sigreturn(self, u: UserMemory) -> int:
        return self.restore_signal_shadow_stack(u)

    # -- map_shadow_stack(2) -----------------------------------------------------------
    def alloc_shstk(
        self, u: UserMemory, size: u64, token_offset: u64, set_res_tok: Cond | bool
    ) -> tuple[u64, int]:
        addr, err = u.mmap_shadow_stack(0, size, fixed_noreplace=False, above_4g=False)
        if err != 0:
            return 0, err
        if set_res_tok:
            return self.set_token_or_unmap(u, addr, size, token_offset)
        return addr, 0

    def set_token_or_unmap(
        self, u: UserMemory, addr: u64, size: u64, token_offset: u64
    ) -> tuple[u64, int]:
        """alloc_shstk()'s end; a token that cannot be written is EINVAL, whatever it was."""
        ssp = (addr + token_offset) & MASK64
        _, err = self.create_rstor_token(u, ssp, u.in_ia32_syscall())
        if err != 0:
            u.munmap(addr, size)
            return 0, EINVAL
        return addr, 0

    def map_shadow_stack(self, u: UserMemory, addr: u64, size: u64, flags: u64) -> tuple[u64, int]:
        """map_shadow_stack(size, flags): there is no ``addr``, and unknown flags are ignored.

        A size below 8 has no room for a token, which only its alignment finds out; that of
        size 4 by an ia32 syscall is right, and the token is written below the area.
        """
        if u.user_shstk_missing():
            return 0, ENOSYS
        aligned_size = cast(u64, page_align(size))
        if aligned_size < size:
            return 0, EOVERFLOW
        return self.alloc_shstk(u, aligned_size, size, flags & SHADOW_STACK_SET_TOKEN != 0)

    # -- arch_prctl(2) -------------------------------------------------------------------
    def arch_prctl_check(self, u: UserMemory, option: int, features: u64) -> int:
        """Unknown and impossible bits are found only after the others were switched."""
        if u.user_shstk_missing():
            return EOPNOTSUPP
        if (option == ARCH_X86_FEATURE_STATUS) | (option == ARCH_X86_FEATURE_LOCK):
            return 0
        if (option == ARCH_X86_FEATURE_ENABLE) | (option == ARCH_X86_FEATURE_DISABLE):
            if features & u.features_locked != 0:
                return EPERM
            return 0
        return EINVAL

    def wrss_control(self, u: UserMemory, enable: bool) -> int:
        """1, not an errno, where nothing changes: off without SHSTK, or so already."""
        if u.user_shstk_missing() | (u.shstk_size == 0):
            return 1
        if enable:
            if u.wrss:
                return 1
            u.u_cet = u.u_cet | CET_WRSS_EN
            u.wrss = True
            return 0
        if u.wrss:
            u.u_cet = u.u_cet & (MASK64 - CET_WRSS_EN)
            u.wrss = False
            return 0
        return 1

    def arch_prctl(
        self,
        u: UserMemory,
        option: int,
        arg2: u64,
        shstk_setup: Callable[[], int],
        shstk_disable: Callable[[], int],
    ) -> tuple[u64, int]:
        """ECANCELED where a requested bit did not change; those that did stay changed.

        STATUS returns what copy_to_user() does: 24 for a bad pointer, which is no error.
        """
        err = self.arch_prctl_check(u, option, arg2)
        if err != 0:
            return 0, err
        if option == ARCH_X86_FEATURE_STATUS:
            return self.copy_status_to_user(u, arg2), 0
        if option == ARCH_X86_FEATURE_LOCK:
            u.features_locked = u.features_locked | arg2
            return 0, 0
        if option == ARCH_X86_FEATURE_ENABLE:
            feat_succ = self.enable_features(u, arg2, shstk_setup)
        else:
            feat_succ = self.disable_features(u, arg2, shstk_disable)
        if feat_succ != arg2:
            return 0, ECANCELED
        return 0, 0

    def enable_features(self, u: UserMemory, features: u64, shstk_setup: Callable[[], int]) -> u64:
        """prctl_elf_feature(): the bits that were switched on, SHSTK first."""
        feat_succ = 0
        if features & LINUX_X86_FEATURE_SHSTK != 0:
            if (u.shstk_size == 0) & (u.shstk_base == 0):
                if shstk_setup() == 0:
                    feat_succ = LINUX_X86_FEATURE_SHSTK
        if features & LINUX_X86_FEATURE_WRSS != 0:
            if self.wrss_control(u, True) == 0:
                feat_succ = feat_succ | LINUX_X86_FEATURE_WRSS
        return feat_succ

    def disable_features(
        self, u: UserMemory, features: u64, shstk_disable: Callable[[], int]
    ) -> u64:
        """prctl_elf_feature(): the bits that were switched off, WRSS first."""
        feat_succ = 0
        if features & LINUX_X86_FEATURE_WRSS != 0:
            if self.wrss_control(u, False) == 0:
                feat_succ = LINUX_X86_FEATURE_WRSS
        if features & LINUX_X86_FEATURE_SHSTK != 0:
            if (u.shstk_size != 0) & (u.shstk_base != 0):
                if shstk_disable() == 0:
                    feat_succ = feat_succ | LINUX_X86_FEATURE_SHSTK
        return feat_succ

    def copy_status_to_user(self, u: UserMemory, addr: u64) -> int:
        """elf_feat_copy_status_to_user(): how many of the 24 bytes were not copied."""
        status = 0
        if u.wrss:
            status = LINUX_X86_FEATURE_WRSS
        if u.shstk_size == 0:
            return u.copy_to_user(addr, (status, 0, 0))
        status = status | LINUX_X86_FEATURE_SHSTK
        return u.copy_to_user(addr, (status, u.shstk_base, u.shstk_size))
