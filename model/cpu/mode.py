"""What an instruction asks of the processor's mode before it does anything."""

from __future__ import annotations

from model.cpu.words import MASK32, MASK64, high32, noncanonical
from model.cpu.world import SH_STK_EN, WR_SHSTK_EN, Cpu, Flag, Vector, Word

_BOTH = SH_STK_EN | WR_SHSTK_EN


def shadow_stack_enabled(c: Cpu) -> Flag:
    """ShadowStackEnabled(CPL): "CR4.CET & IA32_U_CET.SH_STK_EN", below CPL 3 IA32_S_CET."""
    if c.cpl == 3:
        return (c.cr4_cet == 1) & ((c.u_cet & SH_STK_EN) != 0)
    return supervisor_shadow_stack_enabled(c)


def user_shadow_stack_enabled(c: Cpu) -> Flag:
    """ShadowStackEnabled(3)."""
    return (c.cr4_cet == 1) & ((c.u_cet & SH_STK_EN) != 0)


def supervisor_shadow_stack_enabled(c: Cpu) -> Flag:
    """ShadowStackEnabled(0)."""
    return (c.cr4_cet == 1) & ((c.s_cet & SH_STK_EN) != 0)


def require_shadow_stack(c: Cpu) -> None:
    """#UD unless shadow stacks are on at this CPL."""
    if shadow_stack_enabled(c):
        return
    c.fault(Vector.UD)


def require_shadow_stack_writes(c: Cpu) -> None:
    """#UD unless shadow stacks are on at this CPL, and WRSS with them."""
    if c.cr4_cet == 0:
        c.fault(Vector.UD)
    if c.cpl == 3:
        if (c.u_cet & _BOTH) != _BOTH:
            c.fault(Vector.UD)
        return
    if (c.s_cet & _BOTH) != _BOTH:
        c.fault(Vector.UD)


def l_bit(c: Cpu) -> Word:
    """The L of tokens: "IA32_EFER.LMA AND CS.L", as a number."""
    if c.long_mode:
        return 1
    return 0


def address_mask(long_mode: Flag) -> Word:
    """Linear addresses have 32 bits outside 64-bit mode, and wrap there.

    SSP too: the manual keeps it below 4 GiB on the way into compatibility mode (but for
    SYSRET and SYSEXIT) and does not say what a push at 0 or a pop at 4 GiB does.
    """
    if long_mode:
        return MASK64
    return MASK32


def linear_address(c: Cpu, operand: Word) -> Word:
    """Linear_Address(mem operand), in flat segments."""
    return operand & address_mask(c.long_mode)


def next_rip(c: Cpu, length: int) -> Word:
    """The address of the next instruction."""
    return (c.rip + length) & address_mask(c.long_mode)


def check_rip(c: Cpu, rip: Word, long_mode: Flag) -> None:
    """#GP(0) unless code in that mode can be at ``rip``."""
    if long_mode:
        if noncanonical(rip):
            c.fault(Vector.GP)
        return
    if high32(rip) != 0:  # beyond the limit of a flat segment
        c.fault(Vector.GP)


def check_ssp(c: Cpu, ssp: Word, long_mode: Flag) -> None:
    """#GP(0) unless code in that mode can have this SSP (RET far and IRET)."""
    if long_mode:
        if noncanonical(ssp):  # "not canonical relative to the current paging mode"
            c.fault(Vector.GP)
        return
    if high32(ssp) != 0:  # "CS.L = 0 AND tempSSP[63:32] != 0"
        c.fault(Vector.GP)
