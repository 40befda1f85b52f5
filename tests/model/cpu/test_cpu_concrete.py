"""The concrete world itself: registers and faults."""

from __future__ import annotations

import pytest
from cpu_machine import SparseMemory, machine64

from model.cpu import ControlProtection, Vector
from model.cpu.concrete import REGISTERS, ConcreteCpu, CpuFault, PageFault, Registers

NAMES = "rip rsp ssp cs cpl cf long_mode cr4_cet u_cet s_cet pl0_ssp pl3_ssp"


def test_a_cpu_starts_with_a_copy_of_the_registers() -> None:
    """What it does is not seen in the registers it was made from."""
    registers = Registers(rip=1, ssp=64)
    cpu = ConcreteCpu(registers, SparseMemory())
    assert cpu.copy() == registers
    cpu.ssp = 32
    assert (registers.ssp, cpu.copy().ssp) == (64, 32)


def test_a_clone_starts_with_its_parents_registers() -> None:
    """A CPU can be made from a CPU."""
    parent = machine64()
    child = ConcreteCpu(parent, parent.memory)
    assert child.copy() == parent.copy()
    child.assign(Registers())
    assert child.copy() == Registers()
    assert parent.copy() != Registers()


def test_registers_are_plain_attributes() -> None:
    """No dictionary, and no name that is not a register."""
    assert tuple(NAMES.split()) == REGISTERS
    with pytest.raises(AttributeError):
        ConcreteCpu(Registers(), SparseMemory()).ssq = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (CpuFault(Vector.UD), "#UD"),
        (CpuFault(Vector.GP, 0x10), "#GP(0x10)"),
        (CpuFault(Vector.SS), "#SS(0x0)"),
        (CpuFault(Vector.CP, ControlProtection.NEAR_RET), "#CP(NEAR_RET)"),
        (CpuFault(Vector.PF, 0x46, 0x7000), "#PF(W|U|SS) at 0x7000"),
    ],
)
def test_a_fault_reads_as_in_the_manual(fault: CpuFault, text: str) -> None:
    """Vector, error code, and CR2 of a page fault."""
    assert str(fault) == text


def test_what_memory_refuses_becomes_a_page_fault() -> None:
    """With the address and the error code that memory says."""

    class Refusing(SparseMemory):
        def load(self, address: int, width: int, shadow: bool, user: bool, /) -> int:
            raise PageFault(0x5000, 0x44)

    cpu = ConcreteCpu(Registers(), Refusing())
    with pytest.raises(CpuFault) as caught:
        cpu.shadow_load(0x4FFC, 8)
    assert (caught.value.vector, caught.value.error_code) == (Vector.PF, 0x44)
    assert caught.value.address == 0x5000


def test_an_access_across_the_end_of_the_lower_half() -> None:
    """Any byte that is not canonical: no page fault, but #GP(0) or #SS(0)."""
    cpu = machine64()
    for access, vector in ((cpu.load, Vector.SS), (cpu.shadow_load, Vector.GP)):
        with pytest.raises(CpuFault) as caught:
            access((1 << 47) - 4, 8)
        assert (caught.value.vector, caught.value.address) == (vector, None)
