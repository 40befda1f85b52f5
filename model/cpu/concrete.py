"""The concrete world of the CPU text: words are Python ints, memory is an object.

This is machinery, not text.  A ``ConcreteCpu`` *is* a ``Registers``, so that instructions
read and write plain attributes: a thread keeps one, and a clone starts with a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, NoReturn, Protocol

from model.cpu.words import MASK64, noncanonical
from model.cpu.world import ControlProtection, Cpu, PageFaultCode, Vector

#: Linux's code segments (arch/x86/include/asm/segment.h): selector without RPL -> (L, DPL).
KERNEL32_CS, KERNEL_CS, USER32_CS, USER_CS = 0x08, 0x10, 0x23, 0x33
_SEGMENTS = {0x08: (False, 0), 0x10: (True, 0), 0x20: (False, 3), 0x30: (True, 3)}


class PageFault(Exception):
    """Raised by memory: the access at ``address`` is refused (``world.PageFaultCode``)."""

    def __init__(self, address: int, error_code: int) -> None:
        super().__init__(address, error_code)
        self.address = address
        self.error_code = error_code


class CpuFault(Exception):
    """An instruction was aborted by an exception; ``address`` is CR2, for #PF only."""

    def __init__(self, vector: Vector, error_code: int = 0, address: int | None = None) -> None:
        super().__init__(vector, error_code, address)
        self.vector = vector
        self.error_code = error_code
        self.address = address

    def __str__(self) -> str:
        if self.vector == Vector.UD:
            return "#UD"
        if self.vector == Vector.CP:
            return f"#CP({ControlProtection(self.error_code).name})"
        if self.vector == Vector.PF:
            bits = "|".join(str(bit.name) for bit in PageFaultCode(self.error_code))
            return f"#PF({bits}) at {self.address:#x}"
        return f"#{self.vector.name}({self.error_code:#x})"


class Memory(Protocol):
    """An address space, as the CPU sees it.  Nothing is mapped at non-canonical addresses.

    ``width`` is 4 or 8, ``shadow`` asks for a shadow-stack access, ``user`` for one of user
    type.  An access may straddle two pages; one that is refused changes nothing.
    """

    def load(self, address: int, width: int, shadow: bool, user: bool, /) -> int:
        """The little-endian value at ``address``.  Raises PageFault."""

    def store(self, address: int, width: int, value: int, shadow: bool, user: bool, /) -> None:
        """Write ``value``, which fits ``width`` bytes.  Raises PageFault."""

    def probe_store(self, address: int, width: int, shadow: bool, user: bool, /) -> None:
        """Raise the PageFault that a store would raise; write nothing."""


@dataclass(slots=True)
class Registers:
    """What the shadow-stack instructions know of a thread's registers (``world.Cpu``).

    The defaults are a 64-bit user thread of a kernel that has set CR4.CET, shadow stacks
    off.  In user mode ``pl3_ssp`` is whatever the last entry to the kernel left.
    """

    rip: int = 0
    rsp: int = 0
    ssp: int = 0
    cs: int = USER_CS
    cpl: int = 3
    cf: int = 0
    long_mode: bool = True
    cr4_cet: int = 1
    u_cet: int = 0
    s_cet: int = 0
    pl0_ssp: int = 0
    pl3_ssp: int = 0

    def copy(self) -> Registers:
        """The registers alone, as they are now."""
        return Registers(*_contents(self))

    def assign(self, other: Registers) -> None:
        """Every register becomes that of ``other``."""
        for name in REGISTERS:
            setattr(self, name, getattr(other, name))


#: The names of the registers.
REGISTERS = tuple(field.name for field in fields(Registers))
_contents = attrgetter(*REGISTERS)


class ConcreteCpu(Registers):
    """A processor that starts with a copy of ``registers``, on ``memory``."""

    __slots__ = ("memory",)
    memory: Memory

    def __init__(self, registers: Registers, memory: Memory) -> None:
        # Written out, because a machine is copied for every line that is tried.
        self.rip = registers.rip
        self.rsp = registers.rsp
        self.ssp = registers.ssp
        self.cs = registers.cs
        self.cpl = registers.cpl
        self.cf = registers.cf
        self.long_mode = registers.long_mode
        self.cr4_cet = registers.cr4_cet
        self.u_cet = registers.u_cet
        self.s_cet = registers.s_cet
        self.pl0_ssp = registers.pl0_ssp
        self.pl3_ssp = registers.pl3_ssp
        self.memory = memory

    # -- accesses by CPL -----------------------------------------------------------------
    def load(self, address: int, width: int, /) -> int:
        try:
            return self.memory.load(address, width, False, self.cpl == 3)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.SS) from None

    def store(self, address: int, width: int, value: int, /) -> None:
        try:
            self.memory.store(address, width, value, False, self.cpl == 3)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.SS) from None

    def probe_store(self, address: int, width: int, /) -> None:
        try:
            self.memory.probe_store(address, width, False, self.cpl == 3)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.SS) from None

    def shadow_load(self, address: int, width: int, /) -> int:
        return self._shadow_load(address, width, self.cpl == 3)

    def shadow_store(self, address: int, width: int, value: int, /) -> None:
        self._shadow_store(address, width, value, self.cpl == 3)

    def probe_shadow_store(self, address: int, width: int, /) -> None:
        self._probe_shadow_store(address, width, self.cpl == 3)

    # -- accesses of a given type ----------------------------------------------------------
    def user_shadow_store(self, address: int, width: int, value: int, /) -> None:
        self._shadow_store(address, width, value, True)

    def supervisor_shadow_load(self, address: int, width: int, /) -> int:
        return self._shadow_load(address, width, False)

    def supervisor_shadow_store(self, address: int, width: int, value: int, /) -> None:
        self._shadow_store(address, width, value, False)

    def probe_supervisor_shadow_store(self, address: int, width: int, /) -> None:
        self._probe_shadow_store(address, width, False)

    def _shadow_load(self, address: int, width: int, user: bool) -> int:
        try:
            return self.memory.load(address, width, True, user)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.GP) from None

    def _shadow_store(self, address: int, width: int, value: int, user: bool) -> None:
        try:
            self.memory.store(address, width, value, True, user)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.GP) from None

    def _probe_shadow_store(self, address: int, width: int, user: bool) -> None:
        try:
            self.memory.probe_store(address, width, True, user)
        except PageFault as refused:
            raise _fault(refused, address, width, Vector.GP) from None

    # -- segments and faults -----------------------------------------------------------------
    def code_segment_l(self, selector: int, /) -> bool:
        return _segment(selector)[0]

    def code_segment_dpl(self, selector: int, /) -> int:
        return _segment(selector)[1]

    def fault(self, vector: Vector, error_code: int = 0, /) -> NoReturn:
        raise CpuFault(vector, error_code)


def _segment(selector: int) -> tuple[bool, int]:
    """L and DPL of a code segment; #GP(selector) where there is none."""
    segment = _SEGMENTS.get(selector & 0xFFFC)
    if segment is None:
        raise CpuFault(Vector.GP, selector & 0xFFFC)
    return segment


def _fault(refused: PageFault, address: int, width: int, noncanonical_is: Vector) -> CpuFault:
    """What the CPU makes of an access that memory refused.

    Canonicality is looked at here and not before each access: it costs nothing until then.
    """
    if noncanonical(address) or noncanonical((address + width - 1) & MASK64):
        return CpuFault(noncanonical_is)
    return CpuFault(Vector.PF, refused.error_code, refused.address)


if TYPE_CHECKING:

    def _is_a_cpu(c: ConcreteCpu) -> Cpu:
        return c
