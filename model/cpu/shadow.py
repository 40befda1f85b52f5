"""The shadow-stack instructions of every privilege level (SDM Vol. 2, one page each).

The forms with Q exist in 64-bit mode only.  Lengths are those of the shortest encoding.
"""

from __future__ import annotations

from model.cpu.mode import (
    address_mask,
    l_bit,
    linear_address,
    next_rip,
    require_shadow_stack,
    require_shadow_stack_writes,
    shadow_stack_enabled,
)
from model.cpu.words import (
    MASK32,
    TOKEN_HOLE,
    TOKEN_L,
    TOKEN_PREVIOUS,
    align8,
    high32,
    misaligned,
    previous_ssp,
    previous_ssp_token,
    restore_token_address,
)
from model.cpu.world import ControlProtection, Cpu, Vector, Word


def rdsspq(c: Cpu, dest: Word, length: int = 5) -> Word:
    """RDSSPQ r64: what the register holds afterwards, ``dest`` before (SDM Vol. 2B, RDSSP).

    "NOP when CET shadow stacks are not enabled": hence XOR before it and TEST after it.
    """
    enabled = shadow_stack_enabled(c)
    c.rip = next_rip(c, length)
    if enabled:
        return c.ssp
    return dest


def rdsspd(c: Cpu, dest: Word, length: int = 4) -> Word:
    """RDSSPD r32: what the 64-bit register holds afterwards (SDM Vol. 2B, RDSSP)."""
    enabled = shadow_stack_enabled(c)
    c.rip = next_rip(c, length)
    if enabled:
        return c.ssp & MASK32  # "SSP[31:0]"; a 32-bit result clears the upper half
    return dest


def incsspq(c: Cpu, count: Word, length: int = 5) -> None:
    """INCSSPQ r64: pop and discard up to 255 qwords (SDM Vol. 2A, INCSSP)."""
    incssp(c, count & 0xFF, 8, 3, length)  # "R64[7:0]"


def incsspd(c: Cpu, count: Word, length: int = 4) -> None:
    """INCSSPD r32: pop and discard up to 255 dwords (SDM Vol. 2A, INCSSP)."""
    incssp(c, count & 0xFF, 4, 2, length)  # "R32[7:0]"


def incssp(c: Cpu, count: Word, width: int, scale: int, length: int) -> None:
    """INCSSP by ``count`` elements of ``width = 1 << scale`` bytes.

    It "performs a pop and discard of the first and last element", and of the first even if
    the count is 0.  At most 2040 bytes lie between, so it passes over no unmapped page.
    """
    require_shadow_stack(c)
    mask = address_mask(c.long_mode)
    ssp = c.ssp & mask
    c.shadow_load(ssp, width)
    if count != 0:  # "IF Range > 0"
        c.shadow_load((ssp + ((count - 1) << scale)) & mask, width)
    c.ssp = (ssp + (count << scale)) & mask
    c.rip = next_rip(c, length)


def rstorssp(c: Cpu, operand: Word, length: int = 4) -> None:
    """RSTORSSP m64: switch to the shadow stack whose restore token is there (SDM Vol. 2B).

    The load is "Locked": a locked access is a write from the start, so it page-faults as
    one.  The manual writes the old token back before #CP; the memory stays as it was.
    """
    require_shadow_stack(c)
    ssp_la = linear_address(c, operand)
    if misaligned(ssp_la, 8):
        c.fault(Vector.GP)
    lbit = l_bit(c)
    c.probe_shadow_store(ssp_la, 8)
    token = c.shadow_load(ssp_la, 8)
    if (token & (TOKEN_L | TOKEN_PREVIOUS)) != lbit:  # "L flag in token does not match"
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    if (lbit == 0) & (high32(token) != 0):  # "SSP to be restored not below 4G"
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    if restore_token_address(token) != ssp_la:  # "does not match the requested top of stack"
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    c.shadow_store(ssp_la, 8, previous_ssp_token(c.ssp, lbit))
    c.ssp = ssp_la
    c.cf = (token & TOKEN_HOLE) >> 2  # "4 byte aligned, i.e., there is an alignment hole"
    c.rip = next_rip(c, length)


def saveprevssp(c: Cpu, length: int = 4) -> None:
    """SAVEPREVSSP: leave a restore token on the stack that RSTORSSP left (SDM Vol. 2B)."""
    require_shadow_stack(c)
    if misaligned(c.ssp, 8):
        c.fault(Vector.GP)
    mask = address_mask(c.long_mode)
    token = c.shadow_load(c.ssp & mask, 8)  # "Pop the previous-ssp token"
    ssp = (c.ssp + 8) & mask
    if c.cf == 1:
        if c.long_mode:  # the hole "can be present only when in legacy/compatibility mode"
            c.fault(Vector.GP)
        if c.shadow_load(ssp, 4) != 0:  # "must be zero"
            c.fault(Vector.GP)
        ssp = (ssp + 4) & mask
    if (token & TOKEN_PREVIOUS) == 0:  # "bit 1 was 0"
        c.fault(Vector.GP)
    lbit = l_bit(c)
    if (lbit == 0) & (high32(token) != 0):  # "SSP not in 4G"
        c.fault(Vector.GP)
    old_ssp = previous_ssp(token)
    hole = (old_ssp - 4) & mask
    place = (align8(old_ssp) - 8) & mask  # "at next 8 byte aligned address"
    c.probe_shadow_store(hole, 4)
    c.probe_shadow_store(place, 8)
    c.shadow_store(hole, 4, 0)  # overwritten by the token if the old SSP is aligned to 8
    c.shadow_store(place, 8, old_ssp | lbit)
    c.ssp = ssp
    c.rip = next_rip(c, length)


def wrssq(c: Cpu, operand: Word, value: Word, length: int = 5) -> None:
    """WRSSQ m64, r64: a store to the shadow stack (SDM Vol. 2D, WRSS)."""
    wrss(c, operand, 8, value, length)


def wrssd(c: Cpu, operand: Word, value: Word, length: int = 4) -> None:
    """WRSSD m32, r32: a store to the shadow stack (SDM Vol. 2D, WRSS)."""
    wrss(c, operand, 4, value & MASK32, length)  # "SRC[31:0]"


def wrss(c: Cpu, operand: Word, width: int, value: Word, length: int) -> None:
    """WRSS of ``width`` bytes; #UD also where only WR_SHSTK_EN is missing."""
    require_shadow_stack_writes(c)
    dest_la = linear_address(c, operand)
    if misaligned(dest_la, width):
        c.fault(Vector.GP)
    c.shadow_store(dest_la, width, value)
    c.rip = next_rip(c, length)
