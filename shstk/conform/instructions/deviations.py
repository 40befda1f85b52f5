"""What Bochs 3.0 does otherwise than the manual, in words; and how its texts tell of it.

When an instruction faults, Bochs takes RIP back, and RSP and SSP for branches; memory, CS and
flags stay as they are by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from model.cpu.concrete import ConcreteCpu, CpuFault
from model.cpu.mode import address_mask
from model.cpu.words import MASK64
from shstk.conform.instructions.table import General

PUSHED = "CALL: what is pushed before the exception stays in memory"
TARGET_LAST = "CALL, near and far, pushes before it checks the target"
WIDE = "32-bit code: SSP is not cut to 32 bits"
READ_FIRST = "RSTORSSP reads before it writes, so that its page fault is one of a read"
HOLE = "SAVEPREVSSP looks for the alignment hole in the token, and a fault leaves SSP there"
PARTLY = "SAVEPREVSSP: the hole is written although the token cannot be"
FAR_PUSHED = "far CALL: what is pushed before the exception stays, and CS is the new one"
FRAME_ORDER = "far RET and IRET read their frames in another order"
SHADOW_FIRST = "far RET and IRET compare the shadow stack before RIP is checked"
FREE_SSP = "far RET and IRET accept an SSP that is not canonical"
SSP_OF_TARGET = "far RET and IRET check the new SSP for the mode that they come from"
OUTER = "IRETQ to the same privilege level takes SSP from IA32_PL3_SSP, and frees a token there"
SHORT = "IRETD in 64-bit code does not pop RSP and SS"
POPPED = "IRETD frees a token at the old SSP, not above the frame"
CUT = "far branches to 32-bit code cut the address to 32 bits"

Note = Callable[[str], None]
BochsText = Callable[[ConcreteCpu, General, tuple[int, ...], int, Note], int | None]


@contextmanager
def branch(c: ConcreteCpu) -> Iterator[None]:
    """A fault takes RIP, RSP and SSP back."""
    rip, rsp, ssp = c.rip, c.rsp, c.ssp
    try:
        yield
    except CpuFault:
        c.rip, c.rsp, c.ssp = rip, rsp, ssp
        raise


@contextmanager
def fault_is(note: Note, deviation: str) -> Iterator[None]:
    """A fault in here is of a deviation, or shows one."""
    try:
        yield
    except CpuFault:
        note(deviation)
        raise


def wide(c: ConcreteCpu, address: int, note: Note) -> int:
    """An address on the shadow stack: the manual would have 32 bits of it in 32-bit code."""
    address &= MASK64
    if address & address_mask(c.long_mode) != address:
        note(WIDE)
    return address


def push(c: ConcreteCpu, width: int, value: int, note: Note) -> None:
    """shadow_stack_push_32(), shadow_stack_push_64()."""
    ssp = wide(c, c.ssp - width, note)
    c.shadow_store(ssp, width, value)
    c.ssp = ssp
