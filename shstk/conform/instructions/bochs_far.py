"""Far CALL, far RET and IRET as Bochs 3.0 executes them.

Read in Bochs: call_far.cc, ret_far.cc, iret.cc, ctrl_xfer_pro.cc (branch_far), access2.cc.
"""

from __future__ import annotations

from model.cpu.concrete import ConcreteCpu
from model.cpu.far import return_segment, target_segment
from model.cpu.mode import address_mask, next_rip, shadow_stack_enabled
from model.cpu.words import MASK32, MASK64, TOKEN_BUSY, align8, high32, misaligned, noncanonical
from model.cpu.world import ControlProtection, Vector
from shstk.conform.instructions.ahead import USER_DS
from shstk.conform.instructions.deviations import (
    CUT,
    FAR_PUSHED,
    FRAME_ORDER,
    FREE_SSP,
    OUTER,
    POPPED,
    SHADOW_FIRST,
    SHORT,
    SSP_OF_TARGET,
    TARGET_LAST,
    Note,
    branch,
    fault_is,
    push,
    wide,
)
from shstk.conform.instructions.table import General, far_operand

_RPL, _NULL = 3, 0xFFFC


def _branch_far(c: ConcreteCpu, selector: int, rip: int, to_long: bool, note: Note) -> None:
    """branch_far(): the checks, then CS and RIP."""
    if to_long:
        if noncanonical(rip):
            c.fault(Vector.GP)
    elif shadow_stack_enabled(c) and high32(c.ssp) != 0:
        c.fault(Vector.GP)
    if not to_long and high32(rip) != 0:
        note(CUT)
    c.rip = rip & address_mask(to_long)
    c.rsp = c.rsp & address_mask(to_long)
    c.cs = selector & ~_RPL | c.cpl
    c.long_mode = to_long


def call_far(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    width = a[0]
    selector, offset = far_operand(c, r, width)
    to_long = target_segment(c, selector)
    back, old_cs, old_ssp = next_rip(c, n), c.cs, c.ssp
    mask = address_mask(to_long)
    if noncanonical(offset & mask):
        note(TARGET_LAST)
    with branch(c):
        c.store((c.rsp - width) & mask, width, old_cs)
        with fault_is(note, FAR_PUSHED):
            c.store((c.rsp - 2 * width) & mask, width, back)
            c.rsp = (c.rsp - 2 * width) & mask
            _branch_far(c, selector, offset & mask, to_long, note)
            if shadow_stack_enabled(c):
                _push_far(c, (old_cs, back, old_ssp), note)


def _push_far(c: ConcreteCpu, words: tuple[int, ...], note: Note) -> None:
    if misaligned(c.ssp, 8):
        c.shadow_store(wide(c, c.ssp - 4, note), 4, 0)
        c.ssp = align8(c.ssp)
    for word in words:
        push(c, 8, word, note)


def _restore(c: ConcreteCpu, selector: int, rip: int, to_long: bool, note: Note) -> int:
    """shadow_stack_restore(): the SSP in the far frame."""
    if noncanonical(rip) if to_long else high32(rip) != 0:
        note(SHADOW_FIRST)
    if misaligned(c.ssp, 8):
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    with fault_is(note, FRAME_ORDER):
        ssp, lip, cs = (c.shadow_load(wide(c, c.ssp + 8 * n, note), 8) for n in range(3))
    if cs != selector or lip != rip & address_mask(to_long) or misaligned(ssp, 4):
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    if c.long_mode != to_long:
        note(SSP_OF_TARGET)
    if noncanonical(ssp):
        note(FREE_SSP)
    if not c.long_mode and high32(ssp) != 0:
        c.fault(Vector.GP)
    return ssp


def ret_far(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    width, imm16 = a[0], sum(a[1:])
    mask = address_mask(c.long_mode)
    with fault_is(note, FRAME_ORDER):
        selector = c.load((c.rsp + width) & mask, width) & 0xFFFF
        rip = c.load(c.rsp & mask, width)
    to_long = return_segment(c, selector)
    with branch(c):
        if shadow_stack_enabled(c):
            c.ssp = _restore(c, selector, rip, to_long, note)
        _branch_far(c, selector, rip, to_long, note)
        c.rsp = (c.rsp + 2 * width + imm16) & address_mask(to_long)


def iret(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    width = a[0]
    mask = address_mask(c.long_mode)
    with fault_is(note, FRAME_ORDER):
        flags = c.load((c.rsp + 2 * width) & mask, width)
        selector = c.load((c.rsp + width) & mask, width) & 0xFFFF
        rip = c.load(c.rsp & mask, width)
        to_long = return_segment(c, selector)  # before RSP and SS are read
    with branch(c):
        if width == 8:
            _iretq(c, selector, rip, flags, to_long, note)
        else:
            _iretd(c, selector, rip, flags, to_long, note)


def _iretd(c: ConcreteCpu, selector: int, rip: int, flags: int, to_long: bool, note: Note) -> None:
    """The same privilege level and a width of 4: RSP moves on by 12 in its lower half."""
    if c.long_mode:
        note(SHORT)
    old = c.ssp
    if shadow_stack_enabled(c):
        c.ssp = _restore(c, selector, rip, to_long, note)
        if c.ssp != old:
            note(POPPED)
            _free_token(c, old)
    _branch_far(c, selector, rip, to_long, note)
    c.cf = flags & 1
    c.rsp = _low_half(c.rsp, c.rsp + 12)


def _iretq(c: ConcreteCpu, selector: int, rip: int, flags: int, to_long: bool, note: Note) -> None:
    """A width of 8: as if to an outer privilege level."""
    with fault_is(note, FRAME_ORDER):
        data = c.load((c.rsp + 32) & MASK64, 8) & 0xFFFF
        rsp = c.load((c.rsp + 24) & MASK64, 8)
        if data != USER_DS:
            c.fault(Vector.GP, data & _NULL)
    enabled = shadow_stack_enabled(c)
    pl3_ssp = c.ssp  # the last entry to the kernel was at the end of the step before
    if enabled:
        note(OUTER)
        if misaligned(c.ssp, 8):
            c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    _branch_far(c, selector, rip, to_long, note)
    c.cf = flags & 1
    c.rsp = rsp if to_long else _low_half(c.rsp, rsp)
    if enabled:
        old, c.ssp = c.ssp, pl3_ssp
        _free_token(c, old)


def _low_half(old: int, new: int) -> int:
    return old & ~MASK32 | new & MASK32


def _free_token(c: ConcreteCpu, at: int) -> None:
    """shadow_stack_atomic_clear_busy(): what is there is always written."""
    word = c.shadow_load(at, 8)
    c.shadow_store(at, 8, at if word == at | TOKEN_BUSY else word)
