"""Instructions of user code, as operations.

What an instruction does is the text in ``model/cpu``; here it is executed by a thread, an
exception becomes a signal, and the move is named as the life cycle knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from model.cpu import branch, shadow, supervisor
from model.cpu.concrete import ConcreteCpu, CpuFault
from model.cpu.words import noncanonical
from model.cpu.world import Vector
from model.reference import image
from model.reference.machine import Machine, Move, NotNow, Read
from model.reference.memcalls import range_of
from model.reference.operations import Address, operation
from model.reference.signals import exception, fetched, moved, token_below
from model.reference.system import Thread
from model.reference.tokens import all_tokens
from model.reference.world import SH_STK_EN, offset, stack_is_mapped

USER = "instructions"


def execute(
    m: Machine, t: Thread, name: str, run: Callable[[ConcreteCpu], None], dies_of: str = ""
) -> bool:
    """Execute one instruction of a task that can run; False: it raised an exception.

    ``dies_of``: the life cycle's step for it where the stack that SSP is on is not mapped.
    """
    m.require_running(t)
    if not fetched(m, t):
        return False
    try:
        run(m.cpu(t))
    except CpuFault as fault:
        gone = bool(dies_of) and on(t) and not stack_is_mapped(m.system.space(t), t)
        exception(m, t, name, fault, dies_of if gone else "fault")
        return False
    return True


def on(t: Thread) -> bool:
    """Shadow stacks are on for the CPU."""
    return bool(t.regs.u_cet & SH_STK_EN)


def _function(t: Thread) -> int:
    """The address of a function that the code at RIP calls: its own for each place."""
    return image.FUNCTIONS + (t.regs.rip * 0x9E3779B1 >> 7) % (image.TEXT_SIZE // 2) & ~0xF


# -- near branches -----------------------------------------------------------------


@operation(USER)
def call(m: Machine, t: Thread, target: Address | None = None, next: bool = False) -> None:
    """CALL rel32; ``next``: to the next instruction, which pushes nothing on the shadow stack."""
    m.require_running(t)
    before, overwritten = t.ssp, on(t) and token_below(m, t, 1)
    where = _function(t) if target is None else target
    displacement = 0 if next else (where - t.regs.rip - 5) % (1 << 64)

    if execute(m, t, "CALL", lambda c: branch.call_rel(c, displacement), "call"):
        if t.ssp == before:
            m.tell(Move(t.tid))
        else:
            m.tell(Move(t.tid, (("call", {"token after": not overwritten}),)))
        fetched(m, t)


@operation(USER)
def ret(m: Machine, t: Thread, imm: int = 0) -> None:
    """RET, releasing ``imm`` bytes; #CP where the stacks disagree."""
    if imm >= 1 << 16:
        raise NotNow("RET releases at most 65535 bytes")
    before = t.ssp
    if execute(m, t, "RET", lambda c: branch.ret(c, imm), "ret"):
        m.tell(moved(m, t, before))
        fetched(m, t)


@operation(USER)
def jmp(m: Machine, t: Thread, target: Address) -> None:
    """JMP: the shadow stack has no part in it."""

    def run(c: ConcreteCpu) -> None:
        if noncanonical(target):
            c.fault(Vector.GP)
        c.rip = target

    if execute(m, t, "JMP", run):
        m.tell(Move(t.tid))
        fetched(m, t)


@operation(USER)
def endbr64(m: Machine, t: Thread) -> None:
    """ENDBR64: nothing."""
    if execute(m, t, "ENDBR64", branch.endbr64):
        m.tell(Move(t.tid))


# -- SSP ---------------------------------------------------------------------------


@operation(USER)
def rdsspq(m: Machine, t: Thread) -> int | None:
    """RDSSPQ: gives SSP, and 0 (what the register held) where shadow stacks are off."""
    value = 0

    def run(c: ConcreteCpu) -> None:
        nonlocal value
        value = shadow.rdsspq(c, 0)

    if not execute(m, t, "RDSSPQ", run):
        return None
    m.effects.append(Read(t.name, "SSP", value))
    m.tell(Move(t.tid))
    return value


@operation(USER)
def incsspq(m: Machine, t: Thread, count: int) -> None:
    """INCSSPQ: SSP goes up by 8 * ``count``, 255 at most."""
    _incssp(m, t, "INCSSPQ", lambda c: shadow.incsspq(c, count))


@operation(USER)
def incsspd(m: Machine, t: Thread, count: int) -> None:
    """INCSSPD: SSP goes up by 4 * ``count``, 255 at most."""
    _incssp(m, t, "INCSSPD", lambda c: shadow.incsspd(c, count))


def _incssp(m: Machine, t: Thread, name: str, run: Callable[[ConcreteCpu], None]) -> None:
    before = t.ssp
    if execute(m, t, name, run):
        m.tell(moved(m, t, before))


@operation(USER)
def rstorssp(m: Machine, t: Thread, addr: Address) -> None:
    """RSTORSSP: SSP goes to the restore token at ``addr``, which becomes a previous-ssp token."""
    if execute(m, t, "RSTORSSP", lambda c: shadow.rstorssp(c, addr)):
        _arrive(m, t)
        m.tell(Move(t.tid, (("rstorssp", _to(t, False)),)))


@operation(USER)
def saveprevssp(m: Machine, t: Thread) -> None:
    """SAVEPREVSSP: a restore token is left on the stack that RSTORSSP came from."""
    if execute(m, t, "SAVEPREVSSP", shadow.saveprevssp):
        m.tell(Move(t.tid, outside="SAVEPREVSSP long after its RSTORSSP"))


@operation(USER)
def pivot(m: Machine, t: Thread, addr: Address) -> None:
    """RSTORSSP to ``addr`` and SAVEPREVSSP right after it: the two halves of a stack switch."""
    if not execute(m, t, "RSTORSSP", lambda c: shadow.rstorssp(c, addr)):
        return
    _arrive(m, t)
    arrived = Move(t.tid, (("rstorssp", _to(t, False)),))
    try:
        shadow.saveprevssp(m.cpu(t))
    except CpuFault as fault:
        m.tell(arrived)
        exception(m, t, "SAVEPREVSSP", fault, "fault")
        return
    m.tell(Move(t.tid, (("rstorssp", {**_to(t, True), "SSP after": offset(t)}),)))


def _arrive(m: Machine, t: Thread) -> None:
    """SSP belongs to the area that it points into now."""
    area = m.system.space(t).find(t.ssp)
    assert area is not None, "RSTORSSP has just written there"
    t.stack = range_of(area)


def _to(t: Thread, saved: bool) -> dict[str, object]:
    return {"to": t.stack, "SAVEPREVSSP": saved}


# -- stores and loads --------------------------------------------------------------


@operation(USER)
def wrssq(m: Machine, t: Thread, addr: Address, value: Address) -> None:
    """WRSSQ: a store to a shadow stack."""
    _write(m, t, "WRSSQ", lambda c: shadow.wrssq(c, addr, value))


@operation(USER)
def wrssd(m: Machine, t: Thread, addr: Address, value: Address) -> None:
    """WRSSD: a store of 4 bytes to a shadow stack."""
    _write(m, t, "WRSSD", lambda c: shadow.wrssd(c, addr, value))


def _write(m: Machine, t: Thread, name: str, run: Callable[[ConcreteCpu], None]) -> None:
    m.require_running(t)
    space = m.system.space(t)
    before = all_tokens(space)
    if execute(m, t, name, run):
        made = all_tokens(space) != before
        m.tell(Move(t.tid, outside="a token is written by hand" if made else ""))


@operation(USER)
def store(m: Machine, t: Thread, addr: Address, value: Address) -> None:
    """MOV to memory, 8 bytes; to a shadow stack it is a page fault."""

    def run(c: ConcreteCpu) -> None:
        _canonical(c, addr)
        c.store(addr, 8, value)

    if execute(m, t, "MOV", run):
        m.tell(Move(t.tid))


def _canonical(c: ConcreteCpu, addr: int) -> None:
    """#GP(0) for an operand that is not canonical; #SS(0) is for RSP's own (SDM vol. 2, MOV)."""
    if noncanonical(addr) or noncanonical((addr + 7) % (1 << 64)):
        c.fault(Vector.GP)


@operation(USER)
def load(m: Machine, t: Thread, addr: Address) -> int | None:
    """MOV from memory, 8 bytes; a shadow stack can be read."""
    value = 0

    def run(c: ConcreteCpu) -> None:
        nonlocal value
        _canonical(c, addr)
        value = c.load(addr, 8)

    if not execute(m, t, "MOV", run):
        return None
    m.effects.append(Read(t.name, f"[{addr:#x}]", value))
    m.tell(Move(t.tid))
    return value


@operation(USER)
def push(m: Machine, t: Thread, value: Address) -> None:
    """PUSH, on the data stack."""

    def run(c: ConcreteCpu) -> None:
        rsp = (c.rsp - 8) % (1 << 64)
        c.store(rsp, 8, value)
        c.rsp = rsp

    if execute(m, t, "PUSH", run):
        m.tell(Move(t.tid))


@operation(USER)
def pop(m: Machine, t: Thread) -> int | None:
    """POP, off the data stack; gives what was there."""
    value = 0

    def run(c: ConcreteCpu) -> None:
        nonlocal value
        value = c.load(c.rsp, 8)
        c.rsp = (c.rsp + 8) % (1 << 64)

    if not execute(m, t, "POP", run):
        return None
    m.tell(Move(t.tid))
    return value


# -- what user code may not do -----------------------------------------------------

Privileged = Literal["SETSSBSY", "CLRSSBSY", "WRUSSQ", "WRUSSD"]


@operation(USER)
def privileged(m: Machine, t: Thread, instruction: Privileged) -> None:
    """An instruction of the kernel's, at CPL 3: an exception."""
    run: dict[str, Callable[[ConcreteCpu], None]] = {
        "SETSSBSY": supervisor.setssbsy,
        "CLRSSBSY": lambda c: supervisor.clrssbsy(c, 0),
        "WRUSSQ": lambda c: supervisor.wrussq(c, 0, 0),
        "WRUSSD": lambda c: supervisor.wrussd(c, 0, 0),
    }
    execute(m, t, instruction, run[instruction])
