"""Random machines: one on which an instruction succeeds, and then up to two things go wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpu_machine import NOISE, PAGE, Kind, Machine, SparseMemory
from hypothesis import strategies as st

from model.cpu import Frame
from model.cpu.concrete import KERNEL_CS, USER32_CS, USER_CS, Registers
from model.cpu.words import MASK32, MASK64, TOKEN_BUSY, noncanonical

#: What is mapped, from the lowest page up; stacks next to each other, with no gap between.
LAYOUT = (Kind.RW, Kind.RW, Kind.SHADOW, Kind.SHADOW, Kind.KERNEL_SHADOW, Kind.KERNEL_SHADOW)
END = len(LAYOUT) * PAGE
#: Where: low memory mostly; else across a hole in the address space, at an end, or around it.
BASES64 = (
    *(0x10_0000, 0x10_0000, 0x10_0000, 0, MASK64 + 1 - END, MASK64 + 1 - PAGE),
    *((1 << 47) - 3 * PAGE, 0xFFFF_8000_0000_0000, MASK64 + 1 - 3 * PAGE),
)
BASES32 = (0x10_0000, 0x10_0000, 0, *(MASK32 + 1 - n for n in (END, PAGE, 3 * PAGE)))
EDGES = (0, 4, 8, 12, 16, 24, 28, 32, 64, 0x800, PAGE - 32, PAGE - 24, PAGE - 8, PAGE - 4)

SELECTORS = (USER_CS, USER32_CS, KERNEL_CS, 0x08, 0x13, 0x2B, 0)
BACK = 0x40_2000  # a return address
ODD = 1 << 47  # an address that is not canonical
#: They work at CPL 0 only, or are how one leaves it.
PRIVILEGED = "wruss setssbsy clrssbsy sysret sysexit iret_to_user rdmsr wrmsr".split()


@dataclass
class Case:
    """A machine about to execute an instruction, and its operands."""

    registers: Registers
    memory: SparseMemory
    instruction: Callable[..., Any]
    operands: dict[str, Any]

    def machine(self) -> Machine:
        """A fresh machine in that state."""
        memory = SparseMemory()
        memory.kinds = dict(self.memory.kinds)
        memory.bytes = {page: bytearray(b) for page, b in self.memory.bytes.items()}
        return Machine(self.registers, memory)


@st.composite
def cases(draw: st.DrawFn, instruction: Callable[..., Any]) -> Case:
    """A state and operands; hypothesis shrinks towards success."""
    name = instruction.__name__
    long_mode = draw(st.sampled_from((True, True, False)))
    base = draw(st.sampled_from(BASES64 if long_mode else BASES32))
    mask = MASK64 if long_mode else MASK32
    memory = SparseMemory()
    for page, kind in enumerate(LAYOUT):
        address = (base + page * PAGE) & mask
        if not noncanonical(address):
            memory.map(address, kind, word=NOISE)

    def pointer(first: int, align: int) -> int:
        """Into the two pages of one kind."""
        at = draw(st.sampled_from(EDGES)) + draw(st.sampled_from((0, PAGE)))
        return (base + first * PAGE + at & -align) & mask

    kernel = name.startswith(tuple(PRIVILEGED))
    width = 8 if long_mode else 4
    r = Registers(
        rip=0x40_1000,
        rsp=pointer(0, width),
        ssp=pointer(4 if kernel else 2, draw(st.sampled_from((8, 8, width)))),
        cs=(KERNEL_CS if kernel else USER_CS) if long_mode else USER32_CS,
        cpl=0 if kernel else 3,
        long_mode=long_mode,
        u_cet=3,
        s_cet=draw(st.sampled_from((3, 0))),
        pl0_ssp=pointer(4, 8),
        pl3_ssp=pointer(2, 4),
    )
    if name in ("setssbsy", "clrssbsy"):
        r.s_cet = 1
    operand, other = pointer(4 if name == "clrssbsy" else 2, 8), pointer(2, 8)
    to = draw(st.sampled_from((USER_CS, USER32_CS)))
    places = _plant(draw(st.booleans()), name, r, memory, operand, other, to)
    operands = _operands(draw, instruction, r, operand, to)
    for _ in range(draw(st.integers(0, 2))):
        _spoil(draw, r, memory, operands, places)
    return Case(r, memory, instruction, operands)


def _plant(
    odd: bool, name: str, r: Registers, memory: SparseMemory, operand: int, other: int, to: int
) -> list[int]:
    """Put the words where the instruction looks for them; where that is."""
    width = 8 if r.long_mode else 4
    lbit = int(r.long_mode)
    if name in ("iret", "ret_far"):
        r.ssp &= -8
    pushed = r.ssp + (28 if odd else 24)
    far = [
        *((r.rsp, BACK, width), (r.rsp + width, to, width), (r.rsp + 2 * width, 1, width)),
        *((r.rsp + 3 * width, r.rsp, width), (r.rsp + 4 * width, 0x2B, width)),
        *((r.ssp, pushed, 8), (r.ssp + 8, BACK, 8), (r.ssp + 16, to, 8)),
        (r.ssp + 24, 0 if odd else (r.ssp + 24) | TOKEN_BUSY, 8),
    ]
    plans = {
        "ret": [(r.rsp, BACK, width), (r.ssp, BACK, width)],
        "ret_far": far,
        "iret": far,
        "rstorssp": [(operand, (operand + (12 if odd else 8)) | lbit, 8)],
        "saveprevssp": [(r.ssp, (other + 4 * odd) | lbit | 2, 8), (r.ssp + 8, 0, 4)],
        "setssbsy": [(r.pl0_ssp, r.pl0_ssp, 8)],
        "interrupt": [(r.pl0_ssp, r.pl0_ssp, 8)],
        "clrssbsy": [(operand, operand | TOKEN_BUSY, 8)],
        "iret_to_user": [(r.ssp, r.ssp | TOKEN_BUSY, 8)],
    }
    words = plans.get(name, [])
    mask = MASK64 if r.long_mode else MASK32
    for at, word, size in words:
        if memory.mapped(at & mask, size):
            memory.poke(at & mask, word & ((1 << 8 * size) - 1), size)
    return [at & mask for at, _, _ in words] or [operand]


def _operands(
    draw: st.DrawFn, instruction: Callable[..., Any], r: Registers, operand: int, to: int
) -> dict[str, Any]:
    """Operands by the names of the instruction's parameters."""
    values = (0, 1, 2, 255, 256, operand, MASK64)
    by_name: dict[str, tuple[Any, ...]] = {
        "operand": (operand,),
        "displacement": (0x1000, 0, MASK64 - 0x1000),
        "count": values,
        "imm16": (0, 8, 0xFFFF),
        "msr": (0x6A0, 0x6A2, 0x6A4, 0x6A7),
        "width": (8, 4) if r.long_mode else (4,),
        "frame": tuple(Frame(BACK, cs, r.rsp, cf) for cs in (USER_CS, USER32_CS) for cf in (0, 1)),
        "value": (operand, *values),
        "dest": values,
        "selector": (to,),
        **dict.fromkeys(("target", "offset", "rcx", "rdx", "r11"), (BACK,)),
        **dict.fromkeys(("entry", "stack"), (0xFFFF_8880_0000_0000,)),
    }
    parameters = list(inspect.signature(instruction).parameters)[1:]
    return {n: draw(st.sampled_from(by_name[n])) for n in parameters if n != "length"}


def _spoil(
    draw: st.DrawFn,
    r: Registers,
    memory: SparseMemory,
    operands: dict[str, Any],
    places: list[int],
) -> None:
    """Let one thing be other than it should."""
    what = draw(st.sampled_from(("page", "word", "register", "operand")))
    if what == "page":
        page = draw(st.sampled_from(sorted(memory.kinds)))
        kind = draw(st.sampled_from((None, *Kind)))
        if kind is None:
            del memory.kinds[page]
        else:
            memory.kinds[page] = kind
    elif what == "word":
        at = draw(st.sampled_from((*places, r.ssp, r.rsp)))
        if memory.mapped(at):
            old = memory.peek(at)
            words = (0, ODD, old ^ 1, old ^ 2, old ^ 4, old ^ 8, old | 1 << 40, *SELECTORS)
            memory.poke(at, draw(st.sampled_from(words) | st.integers(0, MASK64)))
    elif what == "register":
        new: dict[str, tuple[Any, ...]] = {
            "rip": (0, (MASK64 if r.long_mode else MASK32) - 1),
            "cs": (KERNEL_CS, 0x08),
            "cpl": (0, 3),
            "cf": (1,),
            "cr4_cet": (0,),
            "u_cet": (0, 1, 2),
            "s_cet": (0, 1, 2, 3),
            "rsp": (r.rsp ^ 4, 0, ODD if r.long_mode else 8),
            "ssp": (r.ssp ^ 4, 0, ODD if r.long_mode else 8),
            "pl0_ssp": (r.pl0_ssp ^ 4, r.pl0_ssp ^ 8, ODD),
            "pl3_ssp": (r.pl3_ssp ^ 4, ODD, 1 << 40),
        }
        name = draw(st.sampled_from(sorted(new)))
        setattr(r, name, draw(st.sampled_from(new[name])))
    elif set(operands) - {"width"}:
        name = draw(st.sampled_from(sorted(set(operands) - {"width"})))
        if name == "frame":
            rip, cs = draw(st.sampled_from((BACK, ODD))), draw(st.sampled_from(SELECTORS))
            operands[name] = Frame(rip, cs, r.rsp, 0)
        elif name == "selector":
            operands[name] = draw(st.sampled_from(SELECTORS))
        else:
            odd = (ODD, 3 << 10, 1 << 6, 1 << 40, 0, MASK64)
            old = operands[name]
            operands[name] = draw(st.sampled_from((old ^ 4, old ^ 1, *odd)))
