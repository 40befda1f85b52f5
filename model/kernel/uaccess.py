"""What kernel code may ask about current's user memory: real addresses and qwords.

The life-cycle text knows stacks by identity; the text in ``model.designs.user_memory``
knows them by address.  Values are unsigned 64-bit numbers, and sums and differences are
wrapped by an explicit ``& MASK64``.  A world's terms need ``+ - & | << >> == != < <=``,
with the term on the left of ``<`` and ``<=``.  Conditions combine with ``&`` and ``|``
only: ``~`` of a Python bool is not its negation, so the text asks in the positive form.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from model.world import Cond

u64: TypeAlias = int  # a symbolic world's terms stand in for it

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1

CET_SHSTK_EN = 1 << 0  # MSR_IA32_U_CET (arch/x86/include/asm/msr-index.h, 6.12)
CET_WRSS_EN = 1 << 1


class UserMemory(Protocol):
    """Current's user memory and what the kernel keeps beside it; ``u`` in the text.

    Functions that can fail return an errno, 0 for success.  A failed access changes
    nothing.  The mmap_lock is not modelled: what a function does, it does at once.
    """

    # -- registers and bookkeeping of current ----------------------------------------
    ssp: u64  # MSR_IA32_PL3_SSP
    u_cet: u64  # MSR_IA32_U_CET: CET_SHSTK_EN, CET_WRSS_EN
    features: u64  # thread.features; v1 has no such word and does not ask
    features_locked: u64  # thread.features_locked, v1's thread.feat_prctl_locked
    wrss: Cond | bool  # v1's thread.shstk.wrss; 6.12 does not ask

    @property
    def shstk_base(self) -> u64:
        """thread.shstk.base"""

    @property
    def shstk_size(self) -> u64:
        """thread.shstk.size; v1 takes shadow stacks to be on where it is not 0"""

    def user_shstk_missing(self) -> Cond | bool:
        """The CPU or the boot has no X86_FEATURE_USER_SHSTK (v1: X86_FEATURE_SHSTK)."""

    def in_ia32_syscall(self) -> Cond | bool:
        """Current entered by int 0x80 or a 32-bit program's syscall; x32 is not that."""

    # -- memory ------------------------------------------------------------------------
    def write_user_shstk_64(self, addr: u64, value: u64) -> int:
        """WRUSSQ: 8 bytes into a writable shadow stack, 8-aligned; or EFAULT."""

    def write_user_shstk_32(self, addr: u64, value: u64) -> int:
        """WRUSSD: 4 bytes into a writable shadow stack, 4-aligned; or EFAULT."""

    def get_user(self, addr: u64) -> tuple[u64, int]:
        """Read 8 bytes at any alignment from memory of any kind: (value, 0 or EFAULT)."""

    def put_user(self, addr: u64, value: u64) -> int:
        """An ordinary store of 8 bytes: never into a shadow stack; or EFAULT."""

    def copy_to_user(self, addr: u64, words: tuple[u64, ...]) -> int:
        """Ordinary stores of ``words`` in order; how many *bytes* were not copied."""

    # -- areas of current->mm ------------------------------------------------------------
    def vma_is_shadow_stack(self, addr: u64) -> Cond | bool:
        """find_vma() finds a VM_SHADOW_STACK area: the lowest one that ends above ``addr``.

        It need not contain ``addr``; where a read of ``addr`` has succeeded it does.
        """

    def mmap_read_lock_killable(self) -> int:
        """0; EINTR where a fatal signal is pending and the lock is contended."""

    def mmap_shadow_stack(
        self, addr: u64, size: u64, *, fixed_noreplace: Cond | bool, above_4g: bool
    ) -> tuple[u64, int]:
        """do_mmap() of an anonymous VM_SHADOW_STACK area: (address, errno); zeroes.

        ``size`` is a multiple of the page.  ``addr`` 0: the kernel chooses.
        ``fixed_noreplace``: at ``addr`` or not at all, without regard to guard gaps.
        ``above_4g`` (MAP_ABOVE4G): at 4 GiB or higher, when the kernel chooses and the
        syscall is neither ia32 nor x32.  In Linux's order: EINVAL size 0; ENOMEM no room,
        or beyond TASK_SIZE; EINVAL ``addr`` not page-aligned; EEXIST something is mapped
        there (mm/mmap.c, 6.12).
        """

    def munmap(self, addr: u64, size: u64) -> int:
        """vm_munmap()."""
