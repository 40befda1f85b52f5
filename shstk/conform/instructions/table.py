"""The instructions of the campaign: how each is encoded, and the text that says what it does.

Operands are in fixed registers, so that an encoding has no choices: addresses in RDI, values and
targets in RAX, counts in RCX.  ``arguments`` are what is part of the encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.cpu import branch, far, shadow, supervisor
from model.cpu.concrete import ConcreteCpu
from model.cpu.mode import address_mask
from model.cpu.words import MASK64, noncanonical
from model.cpu.world import Vector
from model.reference import instructions, memcalls
from model.reference.machine import Machine, Returned
from model.reference.operations import Address, Bytes
from model.reference.system import Thread

#: General registers that are operands.
GENERAL = ("rax", "rcx", "rdx", "rdi", "rsi")
MAP_SHADOW_STACK = 453  # its number, in RAX
SELECTOR = 0xFFFF
General = dict[str, int]
#: Executes the text on a CPU: general registers, arguments, length; what RAX gets, or None.
Text = Callable[[ConcreteCpu, General, tuple[int, ...], int], int | None]
#: Does it as an operation of the reference machine; what RAX gets, or None.
Operation = Callable[[Machine, Thread, General], int | None]


@dataclass(frozen=True)
class Instruction:
    """``encode(long_mode, *arguments)`` gives the bytes, empty where the mode has no such form.

    Either ``text`` or ``operation`` says what it does.  An operation leaves RIP alone.
    """

    name: str
    encode: Callable[..., bytes]
    text: Text | None = None
    operation: Operation | None = None


INSTRUCTIONS: dict[str, Instruction] = {}


def _text(name: str, encode: Callable[..., bytes], text: Text) -> None:
    INSTRUCTIONS[name] = Instruction(name, encode, text=text)


def _operation(name: str, code: bytes, run: Operation) -> None:
    INSTRUCTIONS[name] = Instruction(name, _fixed(code, only64=True), operation=run)


def _fixed(code: bytes, only64: bool = False) -> Callable[..., bytes]:
    """The same bytes in both modes."""
    return lambda long_mode: code if long_mode or not only64 else b""


def _wide(code: bytes) -> Callable[..., bytes]:
    """First argument: the operand size, 8 with REX.W; a second: imm16, with another opcode."""

    def encode(long_mode: bool, width: int, imm16: int = 0) -> bytes:
        if width == 8 and not long_mode:
            return b""
        rex = b"\x48" if width == 8 else b""
        if imm16:  # the opcode with an immediate is the one below
            return rex + bytes((code[0] - 1,)) + imm16.to_bytes(2, "little")
        return rex + code

    return encode


# -- near branches -----------------------------------------------------------------


def _call_rel(long_mode: bool, displacement: int) -> bytes:
    return b"\xe8" + (displacement & 0xFFFF_FFFF).to_bytes(4, "little")


def _ret(long_mode: bool, imm16: int = 0) -> bytes:
    return b"\xc2" + imm16.to_bytes(2, "little") if imm16 else b"\xc3"


_text("call_rel", _call_rel, lambda c, r, a, n: branch.call_rel(c, a[0] & MASK64, n))
_text("call_abs", _fixed(b"\xff\xd0"), lambda c, r, a, n: branch.call_abs(c, r["rax"], n))
_text("ret", _ret, lambda c, r, a, n: branch.ret(c, *a))
_text("endbr64", _fixed(b"\xf3\x0f\x1e\xfa"), lambda c, r, a, n: branch.endbr64(c, n))
_text("endbr32", _fixed(b"\xf3\x0f\x1e\xfb"), lambda c, r, a, n: branch.endbr32(c, n))


# -- far branches: their operand is in memory, at RDI --------------------------------


def far_operand(c: ConcreteCpu, r: General, width: int) -> tuple[int, int]:
    """Selector and offset of a far pointer; fetching an operand is not in the text."""
    address = r["rdi"] & address_mask(c.long_mode)
    if noncanonical(address):
        c.fault(Vector.GP)
    offset = c.load(address, width)
    return c.load(address + width, 4) & SELECTOR, offset


def _jmp_far(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    far.jmp_far(c, *far_operand(c, r, a[0]))


def _call_far(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    far.call_far(c, *far_operand(c, r, a[0]), a[0], n)


def _ret_far(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    far.ret_far(c, a[1] if len(a) > 1 else 0, a[0])


_text("jmp_far", _wide(b"\xff\x2f"), _jmp_far)
_text("call_far", _wide(b"\xff\x1f"), _call_far)
_text("ret_far", _wide(b"\xcb"), _ret_far)
_text("iret", _wide(b"\xcf"), lambda c, r, a, n: far.iret(c, a[0]))


# -- the shadow stack ----------------------------------------------------------------

_text("rdsspd", _fixed(b"\xf3\x0f\x1e\xc8"), lambda c, r, a, n: shadow.rdsspd(c, r["rax"], n))
_text(
    "rdsspq",
    _fixed(b"\xf3\x48\x0f\x1e\xc8", only64=True),
    lambda c, r, a, n: shadow.rdsspq(c, r["rax"], n),
)
_text("incsspd", _fixed(b"\xf3\x0f\xae\xe9"), lambda c, r, a, n: shadow.incsspd(c, r["rcx"], n))
_text(
    "incsspq",
    _fixed(b"\xf3\x48\x0f\xae\xe9", only64=True),
    lambda c, r, a, n: shadow.incsspq(c, r["rcx"], n),
)
_text("rstorssp", _fixed(b"\xf3\x0f\x01\x2f"), lambda c, r, a, n: shadow.rstorssp(c, r["rdi"], n))
_text("saveprevssp", _fixed(b"\xf3\x0f\x01\xea"), lambda c, r, a, n: shadow.saveprevssp(c, n))
_text(
    "wrssd",
    _fixed(b"\x0f\x38\xf6\x07"),
    lambda c, r, a, n: shadow.wrssd(c, r["rdi"], r["rax"], n),
)
_text(
    "wrssq",
    _fixed(b"\x48\x0f\x38\xf6\x07", only64=True),
    lambda c, r, a, n: shadow.wrssq(c, r["rdi"], r["rax"], n),
)

# -- the kernel's --------------------------------------------------------------------

_text(
    "wrussd",
    _fixed(b"\x66\x0f\x38\xf5\x07"),
    lambda c, r, a, n: supervisor.wrussd(c, r["rdi"], r["rax"], n),
)
_text(
    "wrussq",
    _fixed(b"\x66\x48\x0f\x38\xf5\x07", only64=True),
    lambda c, r, a, n: supervisor.wrussq(c, r["rdi"], r["rax"], n),
)
_text("setssbsy", _fixed(b"\xf3\x0f\x01\xe8"), lambda c, r, a, n: supervisor.setssbsy(c, n))
_text(
    "clrssbsy",
    _fixed(b"\xf3\x0f\xae\x37"),
    lambda c, r, a, n: supervisor.clrssbsy(c, r["rdi"], n),
)


# -- ordinary memory, and map_shadow_stack: operations of the reference machine ------


def _map(m: Machine, t: Thread, r: General) -> int | None:
    """SYSCALL; what it returns is the last effect, also where it is an error."""
    memcalls.map_shadow_stack(m, t, Bytes(r["rsi"]), Address(r["rdi"]), flags=r["rdx"])
    effect = m.effects[-1]
    assert isinstance(effect, Returned)
    return effect.value & MASK64


_operation(
    "store",
    b"\x48\x89\x07",
    lambda m, t, r: instructions.store(m, t, Address(r["rdi"]), Address(r["rax"])),
)
_operation("load", b"\x48\x8b\x07", lambda m, t, r: instructions.load(m, t, Address(r["rdi"])))
_operation("push", b"\x50", lambda m, t, r: instructions.push(m, t, Address(r["rax"])))
_operation("pop", b"\x58", lambda m, t, r: instructions.pop(m, t))
_operation("map_shadow_stack", b"\x0f\x05", _map)
