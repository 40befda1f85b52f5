"""Far branches and 32-bit code, as operations: how a program changes its code segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from model.cpu import far
from model.cpu.concrete import USER32_CS, USER_CS, ConcreteCpu
from model.reference import image
from model.reference.instructions import USER, execute, on
from model.reference.machine import Machine, Move
from model.reference.operations import Address, operation
from model.reference.signals import fetched, moved, token_below
from model.reference.system import Thread

Segment = Literal["64", "32"]
SELECTORS = {"64": USER_CS, "32": USER32_CS}
FAR_FRAME = 3  # words that a far CALL pushes on the shadow stack, and one for alignment


@operation(USER)
def mov_rsp(m: Machine, t: Thread, value: Address) -> None:
    """MOV to RSP: another data stack; the shadow stack stays."""
    m.require_running(t)
    t.regs.rsp = value
    m.tell(Move(t.tid))


@operation(USER)
def jmp_far(m: Machine, t: Thread, segment: Segment, target: Address | None = None) -> None:
    """Far JMP to 64-bit or 32-bit code; #GP where SSP does not fit into 32 bits."""
    _branch(m, t, "far JMP", lambda c, s, a: far.jmp_far(c, s, a), segment, target)


@operation(USER)
def call_far(m: Machine, t: Thread, segment: Segment = "64", target: Address | None = None) -> None:
    """Far CALL: CS, the return address and SSP on the shadow stack."""
    _branch(m, t, "far CALL", lambda c, s, a: far.call_far(c, s, a), segment, target)


def _branch(
    m: Machine,
    t: Thread,
    name: str,
    run: Callable[[ConcreteCpu, int, int], None],
    segment: str,
    target: Address | None,
) -> None:
    m.require_running(t)
    where = image.ENTRY if target is None else target
    before, overwritten = t.ssp, on(t) and token_below(m, t, FAR_FRAME + 1)
    if not execute(m, t, name, lambda c: run(c, SELECTORS[segment], where), "call"):
        return
    if not t.regs.long_mode:
        m.tell(Move(t.tid, outside="32-bit code runs"))
    elif t.ssp == before:
        m.tell(Move(t.tid))
    else:
        m.tell(Move(t.tid, (("call", {"token after": not overwritten}),)))
    fetched(m, t)


@operation(USER)
def ret_far(m: Machine, t: Thread, imm: int = 0) -> None:
    """Far RET; #CP error 2 where the shadow stack has no such frame."""
    before = t.ssp
    if execute(m, t, "far RET", lambda c: far.ret_far(c, imm), "ret"):
        _back(m, t, before)


@operation(USER)
def iret(m: Machine, t: Thread) -> None:
    """IRET to the same privilege level, from a frame that the program has pushed."""
    before = t.ssp
    if execute(m, t, "IRET", far.iret, "ret"):
        _back(m, t, before)


def _back(m: Machine, t: Thread, before: int) -> None:
    move = moved(m, t, before)
    m.tell(move if t.regs.long_mode else Move(t.tid, outside="32-bit code runs"))
    fetched(m, t)
