"""RDMSR and WRMSR of the shadow-stack MSRs (SDM Vol. 2D "WRMSR"; Vol. 4 for the MSRs)."""

from __future__ import annotations

from model.cpu.mode import next_rip
from model.cpu.words import misaligned, noncanonical
from model.cpu.world import Cpu, Vector, Word

IA32_U_CET = 0x6A0
IA32_S_CET = 0x6A2
IA32_PL0_SSP = 0x6A4
IA32_PL3_SSP = 0x6A7

_RESERVED = 0x3C0  # bits 9:6
_SUPPRESS_AND_TRACKER = 0xC00  # bits 10 and 11


def rdmsr(c: Cpu, msr: Word, length: int = 2) -> Word:
    """RDMSR: the MSR's 64 bits.  An MSR that is not modelled is "unimplemented": #GP(0)."""
    if c.cpl != 0:
        c.fault(Vector.GP)
    value = read_msr(c, msr)
    c.rip = next_rip(c, length)
    return value


def read_msr(c: Cpu, msr: Word) -> Word:
    """The value of an MSR."""
    if msr == IA32_U_CET:
        return c.u_cet
    if msr == IA32_S_CET:
        return c.s_cet
    if msr == IA32_PL0_SSP:
        return c.pl0_ssp
    if msr == IA32_PL3_SSP:
        return c.pl3_ssp
    c.fault(Vector.GP)


def wrmsr(c: Cpu, msr: Word, value: Word, length: int = 2) -> None:
    """WRMSR: #GP(0) at CPL > 0, and for a value that the MSR cannot hold."""
    if c.cpl != 0:
        c.fault(Vector.GP)
    if msr == IA32_U_CET:
        check_cet(c, value)
        c.u_cet = value
    elif msr == IA32_S_CET:
        check_cet(c, value)
        c.s_cet = value
    elif msr == IA32_PL0_SSP:
        check_pl_ssp(c, value)
        c.pl0_ssp = value
    elif msr == IA32_PL3_SSP:
        check_pl_ssp(c, value)
        c.pl3_ssp = value
    else:
        c.fault(Vector.GP)
    c.rip = next_rip(c, length)


def check_cet(c: Cpu, value: Word) -> None:
    """IA32_U_CET and IA32_S_CET: reserved bits, and a bitmap address that is canonical."""
    if noncanonical(value):
        c.fault(Vector.GP)
    if (value & _RESERVED) != 0:
        c.fault(Vector.GP)
    if (value & _SUPPRESS_AND_TRACKER) == _SUPPRESS_AND_TRACKER:
        c.fault(Vector.GP)  # suppressed, and waiting for ENDBRANCH


def check_pl_ssp(c: Cpu, value: Word) -> None:
    """IA32_PL0_SSP to IA32_PL3_SSP: canonical, and a multiple of 4."""
    if noncanonical(value):
        c.fault(Vector.GP)
    if misaligned(value, 4):
        c.fault(Vector.GP)
