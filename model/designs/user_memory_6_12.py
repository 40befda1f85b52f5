"""linux-6.12 and user memory: arch/x86/kernel/shstk.c, signal_64.c and signal_32.c of 6.12.117.

Two things that shstk.rst says are not what the code does.  ARCH_SHSTK_UNLOCK "Only works
via ptrace", but by the task itself it is ARCH_SHSTK_ENABLE.  "32 bit ABI signals are not
supported", but sigreturn by int 0x80 is open to a 64-bit task, and it does not look at
the shadow stack at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from model.designs.user_memory import (
    SHADOW_STACK_SET_TOKEN,
    SS_FRAME_SIZE,
    PrctlNumbers,
    UserMemoryDesign,
    below,
    misaligned,
)
from model.kernel.errno import (
    EFAULT,
    EINVAL,
    ENOSPC,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    ERANGE,
)
from model.kernel.mmap import SZ_4G, TASK_SIZE_MAX, page_align
from model.kernel.uaccess import CET_WRSS_EN, MASK32, MASK64, UserMemory, u64
from model.world import Cond

ARCH_SHSTK_ENABLE = 0x5001
ARCH_SHSTK_DISABLE = 0x5002
ARCH_SHSTK_LOCK = 0x5003
ARCH_SHSTK_UNLOCK = 0x5004
ARCH_SHSTK_STATUS = 0x5005

ARCH_SHSTK_SHSTK = 1 << 0
ARCH_SHSTK_WRSS = 1 << 1

SHSTK_DATA_BIT = 1 << 63  # marks a signal frame's word


class UserMemory612(UserMemoryDesign):
    """The merged design, at the memory level."""

    prctl = PrctlNumbers(
        enable=ARCH_SHSTK_ENABLE,
        disable=ARCH_SHSTK_DISABLE,
        lock=ARCH_SHSTK_LOCK,
        status=ARCH_SHSTK_STATUS,
        shstk=ARCH_SHSTK_SHSTK,
        wrss=ARCH_SHSTK_WRSS,
    )
    ssp_before_frame = False  # since 31255e072b2e
    ssp_before_x32_frame = True  # which 31255e072b2e left alone

    # -- tokens ------------------------------------------------------------------------
    def create_rstor_token(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        """A restore token that leads to ``ssp``, just below it: (where it is, errno)."""
        if misaligned(ssp, 8):
            return 0, EINVAL
        addr = below(ssp, SS_FRAME_SIZE)
        if u.write_user_shstk_64(addr, ssp | 1) != 0:
            return 0, EFAULT
        return addr, 0

    # -- signals -----------------------------------------------------------------------
    def put_shstk_data(self, u: UserMemory, addr: u64, data: u64) -> int:
        if data & SHSTK_DATA_BIT != 0:
            return EINVAL  # WARN_ON_ONCE: an SSP in the kernel's half
        if u.write_user_shstk_64(addr, data | SHSTK_DATA_BIT) != 0:
            return EFAULT
        return 0

    def get_shstk_data(self, u: UserMemory, addr: u64) -> tuple[u64, int]:
        ldata, err = u.get_user(addr)
        if err != 0:
            return 0, EFAULT
        if ldata & SHSTK_DATA_BIT == 0:
            return 0, EINVAL
        return ldata & (MASK64 - SHSTK_DATA_BIT), 0

    def shstk_push_sigframe(self, u: UserMemory, target_ssp: u64) -> tuple[u64, int]:
        if misaligned(target_ssp, 8):
            return 0, EINVAL
        ssp = below(target_ssp, SS_FRAME_SIZE)
        if self.put_shstk_data(u, ssp, target_ssp) != 0:
            return 0, EFAULT
        return ssp, 0

    def shstk_pop_sigframe(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        """The SSP that the word at ``ssp`` leads back to.

        That it lies just above the word, or in the same stack, is not checked.
        """
        if misaligned(ssp, 8):
            return 0, EINVAL
        err = u.mmap_read_lock_killable()
        if err != 0:
            return 0, err
        token_addr, err = self.get_shstk_data(u, ssp)
        if err != 0:
            return 0, err
        # SSP can be off the end of its stack, where other memory may follow.
        if u.vma_is_shadow_stack(ssp):
            return self.restore_to(token_addr)
        return 0, EFAULT

    def restore_to(self, token_addr: u64) -> tuple[u64, int]:
        """shstk_pop_sigframe()'s last two checks."""
        if misaligned(token_addr, 8):
            return 0, EINVAL
        if token_addr < TASK_SIZE_MAX:
            return token_addr, 0
        return 0, EINVAL

    def setup_signal_shadow_stack(self, u: UserMemory, restorer: u64) -> int:
        """[SSP-8] = SSP | bit 63; [SSP-16] = restorer; SSP -= 16.

        After an error SSP is what it was, and so is every word at or above it.  The word
        at SSP-8 may have been written: the restorer is pushed after it, and can fail alone.
        """
        if u.user_shstk_missing() | (u.features & ARCH_SHSTK_SHSTK == 0):
            return 0
        if restorer == 0:
            return EINVAL
        ssp = u.ssp
        if ssp == 0:
            return EINVAL
        ssp, err = self.shstk_push_sigframe(u, ssp)
        if err != 0:
            return err
        ssp = below(ssp, SS_FRAME_SIZE)
        if u.write_user_shstk_64(ssp, restorer) != 0:
            return EFAULT
        u.ssp = ssp
        return 0

    def restore_signal_shadow_stack(self, u: UserMemory) -> int:
        if u.user_shstk_missing() | (u.features & ARCH_SHSTK_SHSTK == 0):
            return 0
        ssp = u.ssp
        if ssp == 0:
            return EINVAL
        ssp, err = self.shstk_pop_sigframe(u, ssp)
        if err != 0:
            return err
        u.ssp = ssp
        return 0

    def ia32_setup_rt_frame(
        self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]
    ) -> int:
        """signal_32.c leaves the shadow stack alone, on the way in …"""
        return put_frame()

    def ia32_rt_sigreturn(self, u: UserMemory) -> int:
        """… and on the way out: nothing is checked, SSP stays."""
        return 0

    # -- map_shadow_stack(2) -----------------------------------------------------------
    def alloc_shstk(
        self, u: UserMemory, addr: u64, size: u64, token_offset: u64, set_res_tok: Cond | bool
    ) -> tuple[u64, int]:
        mapped_addr, err = u.mmap_shadow_stack(addr, size, fixed_noreplace=addr != 0, above_4g=True)
        if err != 0:
            return 0, err
        if set_res_tok:
            return self.set_token_or_unmap(u, mapped_addr, size, token_offset)
        return mapped_addr, 0

    def set_token_or_unmap(
        self, u: UserMemory, mapped_addr: u64, size: u64, token_offset: u64
    ) -> tuple[u64, int]:
        """alloc_shstk()'s end; a token that cannot be written is EINVAL, whatever it was."""
        _, err = self.create_rstor_token(u, (mapped_addr + token_offset) & MASK64)
        if err != 0:
            u.munmap(mapped_addr, size)
            return 0, EINVAL
        return mapped_addr, 0

    def map_shadow_stack(self, u: UserMemory, addr: u64, size: u64, flags: u64) -> tuple[u64, int]:
        """The token ends at ``addr + size``, before the size is rounded up to pages."""
        flags = flags & MASK32  # unsigned int
        set_tok = flags & SHADOW_STACK_SET_TOKEN != 0
        if u.user_shstk_missing():
            return 0, EOPNOTSUPP
        if flags & (MASK32 - SHADOW_STACK_SET_TOKEN) != 0:
            return 0, EINVAL
        if set_tok & (size < SS_FRAME_SIZE):
            return 0, ENOSPC
        if (addr != 0) & (addr < SZ_4G):
            return 0, ERANGE
        aligned_size = cast(u64, page_align(size))
        if aligned_size < size:
            return 0, EOVERFLOW
        return self.alloc_shstk(u, addr, aligned_size, size, set_tok)

    # -- arch_prctl(2) -------------------------------------------------------------------
    def arch_prctl_check(self, u: UserMemory, option: int, features: u64) -> int:
        if u.in_ia32_syscall():
            return EINVAL  # do_arch_prctl_common() has none of these options
        if (option == ARCH_SHSTK_STATUS) | (option == ARCH_SHSTK_LOCK):
            return 0
        if (option == ARCH_SHSTK_ENABLE) | (option == ARCH_SHSTK_DISABLE):
            return self.change_check(u, features)
        if option == ARCH_SHSTK_UNLOCK:
            return self.change_check(u, features)  # of oneself: falls through to ENABLE
        return EINVAL

    def change_check(self, u: UserMemory, features: u64) -> int:
        """shstk_prctl() of current, from the lock on."""
        if features & u.features_locked != 0:
            return EPERM
        if features & ((features - 1) & MASK64) != 0:
            return EINVAL  # more than one bit
        if features == ARCH_SHSTK_WRSS:
            return self.wrss_check(u)
        if features == ARCH_SHSTK_SHSTK:
            if u.user_shstk_missing():
                return EOPNOTSUPP
            return 0
        return EINVAL

    def wrss_check(self, u: UserMemory) -> int:
        """What wrss_control() refuses, to switch off as to switch on."""
        if u.user_shstk_missing():
            return EOPNOTSUPP
        if u.features & ARCH_SHSTK_SHSTK == 0:
            return EPERM
        return 0

    def wrss_control(self, u: UserMemory, enable: bool) -> int:
        err = self.wrss_check(u)
        if err != 0:
            return err
        if enable:
            if u.features & ARCH_SHSTK_WRSS != 0:
                return 0
            u.features = u.features | ARCH_SHSTK_WRSS
            u.u_cet = u.u_cet | CET_WRSS_EN
            return 0
        if u.features & ARCH_SHSTK_WRSS == 0:
            return 0
        u.features = u.features & (MASK64 - ARCH_SHSTK_WRSS)
        u.u_cet = u.u_cet & (MASK64 - CET_WRSS_EN)
        return 0

    def arch_prctl(
        self,
        u: UserMemory,
        option: int,
        arg2: u64,
        shstk_setup: Callable[[], int],
        shstk_disable: Callable[[], int],
    ) -> tuple[u64, int]:
        err = self.arch_prctl_check(u, option, arg2)
        if err != 0:
            return 0, err
        if option == ARCH_SHSTK_STATUS:
            return 0, u.put_user(arg2, u.features)
        if option == ARCH_SHSTK_LOCK:
            u.features_locked = u.features_locked | arg2
            return 0, 0
        if arg2 == ARCH_SHSTK_WRSS:
            return 0, self.wrss_control(u, option != ARCH_SHSTK_DISABLE)
        if option == ARCH_SHSTK_DISABLE:
            if u.features & ARCH_SHSTK_SHSTK == 0:
                return 0, 0
            return 0, shstk_disable()
        if u.features & ARCH_SHSTK_SHSTK != 0:
            return 0, 0
        return 0, shstk_setup()
