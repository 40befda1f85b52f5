"""What a design does to user memory: signals, sigreturn, map_shadow_stack, arch_prctl.

This is the memory level: addresses are numbers, ``u`` is ``model.kernel.uaccess``.
Functions return an errno, 0 for success, or a pair (value, errno); on an error the
value means nothing.  arch_prctl by ptrace is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.kernel.errno import EFAULT
from model.kernel.uaccess import MASK64, UserMemory, u64
from model.world import Cond

SS_FRAME_SIZE = 8
SHADOW_STACK_SET_TOKEN = 1 << 0  # flags of map_shadow_stack(2)


def misaligned(value: u64, size: int) -> Cond | bool:
    """!IS_ALIGNED(); ``size`` is a power of two."""
    return value & (size - 1) != 0


def align_down(value: u64, size: int) -> u64:
    """ALIGN_DOWN(); ``size`` is a power of two."""
    return value & (MASK64 - (size - 1))


def below(value: u64, size: int) -> u64:
    """``size`` bytes below an address, wrapping as unsigned long does."""
    return (value - size) & MASK64


@dataclass(frozen=True)
class PrctlNumbers:
    """The numbers of a design's arch_prctl(2): options, and feature bits."""

    enable: int
    disable: int
    lock: int
    status: int
    shstk: int
    wrss: int


class UserMemoryDesign:
    """The hooks, and the order in which signal delivery calls them."""

    prctl: PrctlNumbers

    # SSP moves before the frame on the user's stack is written, so that a delivery which
    # fails there leaves it moved.
    ssp_before_frame: bool
    ssp_before_x32_frame: bool

    # -- signals ---------------------------------------------------------------------
    def setup_signal_shadow_stack(self, u: UserMemory, restorer: u64) -> int:
        """Push the shadow-stack frame of a signal handler, then set SSP.

        ``restorer`` is sa_restorer, where the handler returns to.  The caller makes
        EFAULT of any error.
        """
        raise NotImplementedError

    def restore_signal_shadow_stack(self, u: UserMemory) -> int:
        """sigreturn: check what delivery pushed and set SSP to what it was.

        Any error becomes SIGSEGV (signal_fault()).
        """
        raise NotImplementedError

    def x64_setup_rt_frame(self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]) -> int:
        """Deliver a signal: ``put_frame`` writes the frame on the user's stack."""
        if self.ssp_before_frame:
            return self.ssp_then_frame(u, restorer, put_frame)
        return self.frame_then_ssp(u, restorer, put_frame)

    def x32_setup_rt_frame(self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]) -> int:
        """Deliver a signal to a handler installed by an x32 syscall."""
        if self.ssp_before_x32_frame:
            return self.ssp_then_frame(u, restorer, put_frame)
        return self.frame_then_ssp(u, restorer, put_frame)

    def ia32_setup_rt_frame(
        self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]
    ) -> int:
        """Deliver a signal to a handler installed by an ia32 syscall."""
        raise NotImplementedError

    def ia32_rt_sigreturn(self, u: UserMemory) -> int:
        """The shadow-stack part of sigreturn(2) and rt_sigreturn(2) by an ia32 syscall."""
        raise NotImplementedError

    def ssp_then_frame(self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]) -> int:
        if self.setup_signal_shadow_stack(u, restorer) != 0:
            return EFAULT
        return put_frame()

    def frame_then_ssp(self, u: UserMemory, restorer: u64, put_frame: Callable[[], int]) -> int:
        err = put_frame()
        if err != 0:
            return err
        if self.setup_signal_shadow_stack(u, restorer) != 0:
            return EFAULT
        return 0

    # -- map_shadow_stack(2) -----------------------------------------------------------
    def map_shadow_stack(self, u: UserMemory, addr: u64, size: u64, flags: u64) -> tuple[u64, int]:
        """A new shadow stack, with a restore token at its end if ``flags`` ask for one."""
        raise NotImplementedError

    # -- arch_prctl(2) -------------------------------------------------------------------
    def arch_prctl_check(self, u: UserMemory, option: int, features: u64) -> int:
        """The errors that come before anything changes; 0: go on (or nothing is to be done).

        A later error can still come: no memory, a bad pointer, v1's ECANCELED.
        """
        raise NotImplementedError

    def wrss_control(self, u: UserMemory, enable: bool) -> int:
        """Switch WRSS on or off."""
        raise NotImplementedError

    def arch_prctl(
        self,
        u: UserMemory,
        option: int,
        arg2: u64,
        shstk_setup: Callable[[], int],
        shstk_disable: Callable[[], int],
    ) -> tuple[u64, int]:
        """All of it: (what the syscall returns, errno).

        ``shstk_setup`` and ``shstk_disable`` are the design's own hooks for current (0, or
        an errno); they are called only where there is something to switch.
        """
        raise NotImplementedError
