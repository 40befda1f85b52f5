"""RDMSR and WRMSR, by example."""

from __future__ import annotations

import pytest
from cpu_machine import HERE, TOP_A, Machine, faults, machine64

from model.cpu import Vector, rdmsr, rdsspq, sysret, wrmsr
from model.cpu.msr import IA32_PL0_SSP, IA32_PL3_SSP, IA32_S_CET, IA32_U_CET

MSRS = {
    "u_cet": IA32_U_CET,
    "s_cet": IA32_S_CET,
    "pl0_ssp": IA32_PL0_SSP,
    "pl3_ssp": IA32_PL3_SSP,
}


def kernel(**registers: int) -> Machine:
    """At CPL 0."""
    return machine64(**{"cpl": 0, "cs": 0x10} | registers)


@pytest.mark.parametrize("name", MSRS)
def test_an_msr_holds_what_was_written(name: str) -> None:
    """WRMSR, then RDMSR."""
    c = kernel()
    wrmsr(c, MSRS[name], 0x7000_0000_1004)
    assert getattr(c, name) == rdmsr(c, MSRS[name]) == 0x7000_0000_1004
    assert c.rip == HERE + 4


def test_switching_shadow_stacks_on() -> None:
    """PL3_SSP, then U_CET, then the return to user mode: what arch_prctl does."""
    c = kernel(u_cet=0)
    wrmsr(c, IA32_PL3_SSP, TOP_A)
    wrmsr(c, IA32_U_CET, 1)
    sysret(c, HERE, 0, 0x33)
    assert rdsspq(c, 0) == TOP_A


@pytest.mark.parametrize("name", MSRS)
def test_msrs_are_privileged(name: str) -> None:
    """#GP(0) at CPL 3."""
    c = machine64()
    with faults(c, Vector.GP):
        wrmsr(c, MSRS[name], 0)
    with faults(c, Vector.GP):
        rdmsr(c, MSRS[name])


@pytest.mark.parametrize("name", MSRS)
def test_addresses_in_msrs_are_canonical(name: str) -> None:
    """#GP(0) for others."""
    c = kernel()
    for value in (1 << 47, 1 << 63):
        with faults(c, Vector.GP):
            wrmsr(c, MSRS[name], value)


@pytest.mark.parametrize("msr", [IA32_PL0_SSP, IA32_PL3_SSP])
def test_an_ssp_is_a_multiple_of_4(msr: int) -> None:
    """#GP(0) if bits 1:0 are not 0."""
    c = kernel()
    for value in (TOP_A + 1, TOP_A + 2):
        with faults(c, Vector.GP):
            wrmsr(c, msr, value)


@pytest.mark.parametrize("msr", [IA32_U_CET, IA32_S_CET])
def test_reserved_bits_of_the_controls(msr: int) -> None:
    """#GP(0) for bits 9:6, and for suppressed tracking that waits for ENDBRANCH."""
    c = kernel()
    for value in (1 << 6, 1 << 9, 3 << 10):
        with faults(c, Vector.GP):
            wrmsr(c, msr, value)
    for value in (1 << 10, 1 << 11, 7):
        wrmsr(c, msr, value)


def test_an_msr_that_is_not_there() -> None:
    """#GP(0)."""
    c = kernel()
    with faults(c, Vector.GP):
        wrmsr(c, 0x6A9, 0)
    with faults(c, Vector.GP):
        rdmsr(c, 0x6A9)
