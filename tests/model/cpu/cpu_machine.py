"""A small machine for the tests: sparse memory with pages of five kinds, and a CPU on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import pytest

from model.cpu import SH_STK_EN, PageFaultCode, Vector
from model.cpu.concrete import ConcreteCpu, CpuFault, PageFault, Registers

PAGE = 4096
NOISE = 0x5A5A_5A5A_5A5A_5A5A  # what random memory is full of, so that a stray 0 is seen
P, W, U, SS = PageFaultCode.P, PageFaultCode.W, PageFaultCode.U, PageFaultCode.SS


class Kind(Enum):
    """What the page tables say of a page."""

    RW = "ordinary"
    RO = "read-only"
    SHADOW = "shadow stack"
    KERNEL = "kernel"
    KERNEL_SHADOW = "supervisor shadow stack"


USER_KINDS = (Kind.RW, Kind.RO, Kind.SHADOW)


class SparseMemory:
    """Pages by number.  ``log`` has every access that was not refused, probes too."""

    def __init__(self) -> None:
        self.kinds: dict[int, Kind] = {}
        self.bytes: dict[int, bytearray] = {}
        self.log: list[tuple[str, int, int, bool]] = []

    def __repr__(self) -> str:
        """The pages, and the words on them that are not blank."""
        kinds = {hex(page * PAGE): kind.name for page, kind in sorted(self.kinds.items())}
        starts = (page * PAGE + at for page in sorted(self.bytes) for at in range(0, PAGE, 8))
        words = {hex(a): hex(self.peek(a)) for a in starts if self.peek(a) not in (0, NOISE)}
        return f"{kinds} {words}"

    def map(self, address: int, kind: Kind, pages: int = 1, word: int = 0) -> None:
        """Fresh pages, full of ``word``."""
        for page in range(address // PAGE, address // PAGE + pages):
            self.kinds[page] = kind
            self.bytes[page] = bytearray(word.to_bytes(8, "little") * (PAGE // 8))

    # -- what the CPU asks ------------------------------------------------------------
    def load(self, address: int, width: int, shadow: bool, user: bool, /) -> int:
        self._check(address, width, False, shadow, user)
        self.log.append(("load", address, width, shadow))
        return self.peek(address, width)

    def store(self, address: int, width: int, value: int, shadow: bool, user: bool, /) -> None:
        self._check(address, width, True, shadow, user)
        self.log.append(("store", address, width, shadow))
        self.poke(address, value, width)

    def probe_store(self, address: int, width: int, shadow: bool, user: bool, /) -> None:
        self._check(address, width, True, shadow, user)
        self.log.append(("probe", address, width, shadow))

    def _check(self, address: int, width: int, write: bool, shadow: bool, user: bool) -> None:
        for part in (address, address + width - 1):
            kind = self.kinds.get(part // PAGE)
            if kind is None or not _allowed(kind, write, shadow, user):
                at = address if part // PAGE == address // PAGE else part // PAGE * PAGE
                code = W * write | U * user | SS * shadow | P * (kind is not None)
                raise PageFault(at, int(code))

    # -- what the tests ask -------------------------------------------------------------
    def peek(self, address: int, width: int = 8) -> int:
        """What is there, whatever the page tables say."""
        parts = (self.bytes[a // PAGE][a % PAGE] for a in range(address, address + width))
        return int.from_bytes(bytes(parts), "little")

    def poke(self, address: int, value: int, width: int = 8) -> None:
        """Write it there, whatever the page tables say."""
        for a, byte in enumerate(value.to_bytes(width, "little"), address):
            self.bytes[a // PAGE][a % PAGE] = byte

    def mapped(self, address: int, width: int = 8) -> bool:
        """All of it is on mapped pages."""
        return {address // PAGE, (address + width - 1) // PAGE} <= set(self.kinds)

    def snapshot(self) -> dict[int, bytes]:
        """Every byte."""
        return {page: bytes(content) for page, content in self.bytes.items()}


def _allowed(kind: Kind, write: bool, shadow: bool, user: bool) -> bool:
    """SDM Vol. 3A, "Determination of Access Rights", as far as these kinds go."""
    if shadow:
        return kind == (Kind.SHADOW if user else Kind.KERNEL_SHADOW)
    if user and kind not in USER_KINDS:
        return False
    return not write or kind in (Kind.RW, Kind.KERNEL)


class Machine(ConcreteCpu):
    """A CPU whose memory is known to be sparse."""

    memory: SparseMemory

    def __init__(self, registers: Registers, memory: SparseMemory) -> None:
        super().__init__(registers, memory)


# Two shadow stacks of two pages, a one-page hole below each, and a data stack.
STACK = 0x7FFD_0000_0000
SHSTK_A = 0x7F00_0000_1000
SHSTK_B = 0x7F00_0000_4000
TOP_A = SHSTK_A + 2 * PAGE
TOP_B = SHSTK_B + 2 * PAGE
TOP = STACK + 2 * PAGE
HERE = 0x40_1000  # where RIP is
THERE = 0x40_2000  # where a branch goes

# The same below 4 GiB, for compatibility mode.
STACK32 = 0x3000_0000
SHSTK32_A = 0x2000_1000
SHSTK32_B = 0x2000_4000
TOP32 = STACK32 + 2 * PAGE
TOP32_A = SHSTK32_A + 2 * PAGE
TOP32_B = SHSTK32_B + 2 * PAGE


def machine64(**registers: int) -> Machine:
    """64-bit user mode, shadow stacks on, both stacks half full of zeros."""
    memory = SparseMemory()
    memory.map(STACK, Kind.RW, 2)
    memory.map(SHSTK_A, Kind.SHADOW, 2)
    memory.map(SHSTK_B, Kind.SHADOW, 2)
    start = Registers(rip=HERE, rsp=TOP - 256, ssp=TOP_A - 256, u_cet=SH_STK_EN)
    return _machine(start, memory, registers)


def machine32(**registers: int) -> Machine:
    """32-bit user mode (compatibility mode), shadow stacks on."""
    memory = SparseMemory()
    memory.map(STACK32, Kind.RW, 2)
    memory.map(SHSTK32_A, Kind.SHADOW, 2)
    memory.map(SHSTK32_B, Kind.SHADOW, 2)
    start = Registers(
        rip=HERE, rsp=TOP32 - 256, ssp=TOP32_A - 256, cs=0x23, long_mode=False, u_cet=SH_STK_EN
    )
    return _machine(start, memory, registers)


def _machine(start: Registers, memory: SparseMemory, registers: dict[str, int]) -> Machine:
    for name, value in registers.items():
        setattr(start, name, value)
    return Machine(start, memory)


@contextmanager
def faults(
    c: Machine, vector: Vector, error_code: int = 0, address: int | None = None
) -> Iterator[None]:
    """The instruction faults in this way, and has changed nothing."""
    registers, memory = c.copy(), c.memory.snapshot()
    with pytest.raises(CpuFault) as caught:
        yield
    fault = caught.value
    assert (fault.vector, fault.error_code, fault.address) == (vector, error_code, address)
    assert (c.copy(), c.memory.snapshot()) == (registers, memory)
