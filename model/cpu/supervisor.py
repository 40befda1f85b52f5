"""The shadow-stack instructions of CPL 0 (SDM Vol. 2, one page each).

Linux uses WRUSS, to write tokens and signal frames; it has no supervisor shadow stacks,
so SETSSBSY and CLRSSBSY are #UD there.
"""

from __future__ import annotations

from model.cpu.mode import l_bit, linear_address, next_rip, supervisor_shadow_stack_enabled
from model.cpu.words import MASK32, TOKEN_BUSY, high32, misaligned
from model.cpu.world import ControlProtection, Cpu, Vector, Word


def wrussq(c: Cpu, operand: Word, value: Word, length: int = 6) -> None:
    """WRUSSQ m64, r64: a store to a user shadow stack (SDM Vol. 2D, WRUSS)."""
    wruss(c, operand, 8, value, length)


def wrussd(c: Cpu, operand: Word, value: Word, length: int = 5) -> None:
    """WRUSSD m32, r32: a store to a user shadow stack (SDM Vol. 2D, WRUSS)."""
    wruss(c, operand, 4, value & MASK32, length)  # "SRC[31:0]"


def wruss(c: Cpu, operand: Word, width: int, value: Word, length: int) -> None:
    """WRUSS of ``width`` bytes.  It asks for CR4.CET alone, not for SH_STK_EN."""
    if c.cr4_cet == 0:
        c.fault(Vector.UD)
    if c.cpl != 0:  # "IF CPL > 0"
        c.fault(Vector.GP)
    dest_la = linear_address(c, operand)
    if misaligned(dest_la, width):
        c.fault(Vector.GP)
    c.user_shadow_store(dest_la, width, value)  # "as user-mode access"
    c.rip = next_rip(c, length)


def require_supervisor_shadow_stack(c: Cpu) -> None:
    """#UD unless supervisor shadow stacks are on, then #GP(0) unless at CPL 0."""
    if supervisor_shadow_stack_enabled(c):
        if c.cpl != 0:  # "IF CPL > 0"
            c.fault(Vector.GP)
        return
    c.fault(Vector.UD)


def setssbsy(c: Cpu, length: int = 4) -> None:
    """SETSSBSY: make the stack of IA32_PL0_SSP busy and switch to it (SDM Vol. 2B)."""
    require_supervisor_shadow_stack(c)
    ssp_la = c.pl0_ssp
    if misaligned(ssp_la, 8):
        c.fault(Vector.GP)
    c.probe_supervisor_shadow_store(ssp_la, 8)  # the compare and exchange is locked
    if c.supervisor_shadow_load(ssp_la, 8) != ssp_la:  # the token, not busy
        c.fault(Vector.CP, ControlProtection.SETSSBSY)
    if (l_bit(c) == 0) & (high32(ssp_la) != 0):  # "the address in token is not below 4G"
        c.fault(Vector.CP, ControlProtection.SETSSBSY)
    c.supervisor_shadow_store(ssp_la, 8, ssp_la | TOKEN_BUSY)
    c.ssp = ssp_la
    c.rip = next_rip(c, length)


def clrssbsy(c: Cpu, operand: Word, length: int = 4) -> None:
    """CLRSSBSY m64: free a supervisor shadow stack; SSP becomes 0 (SDM Vol. 2A).

    "CF is set if an invalid token was detected", which is not a fault.
    """
    require_supervisor_shadow_stack(c)
    ssp_la = linear_address(c, operand)
    if misaligned(ssp_la, 8):
        c.fault(Vector.GP)
    c.probe_supervisor_shadow_store(ssp_la, 8)  # the compare and exchange is locked
    if c.supervisor_shadow_load(ssp_la, 8) == (ssp_la | TOKEN_BUSY):
        c.supervisor_shadow_store(ssp_la, 8, ssp_la)
        c.cf = 0
    else:
        c.cf = 1
    c.ssp = 0
    c.rip = next_rip(c, length)
