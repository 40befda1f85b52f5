"""Instructions as Bochs 3.0 executes them, where that is not what the manual says.

A divergence from ``model/cpu`` is explained only if the text here predicts everything that
was seen, and only by deviations that had an effect.  Read in Bochs: cet.cc, ctrl_xfer64.cc,
ctrl_xfer32.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model.cpu.concrete import ConcreteCpu
from model.cpu.mode import address_mask, l_bit, next_rip, require_shadow_stack, shadow_stack_enabled
from model.cpu.words import (
    TOKEN_HOLE,
    TOKEN_L,
    TOKEN_PREVIOUS,
    align8,
    high32,
    misaligned,
    noncanonical,
    previous_ssp,
    previous_ssp_token,
    restore_token_address,
)
from model.cpu.world import ControlProtection, Vector
from shstk.conform.instructions.bochs_far import call_far, iret, ret_far
from shstk.conform.instructions.deviations import (
    HOLE,
    PARTLY,
    PUSHED,
    READ_FIRST,
    TARGET_LAST,
    BochsText,
    Note,
    branch,
    fault_is,
    push,
    wide,
)
from shstk.conform.instructions.table import INSTRUCTIONS, General, Instruction, Text

# -- near branches -----------------------------------------------------------------


def _call_rel(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    back = next_rip(c, n)
    target = (back + a[0]) & address_mask(c.long_mode)
    _call(c, target, back, shadow_stack_enabled(c) and a[0] != 0, note)


def _call_abs(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    target = r["rax"] & address_mask(c.long_mode)
    _call(c, target, next_rip(c, n), shadow_stack_enabled(c), note)


def _call(c: ConcreteCpu, target: int, back: int, tracked: bool, note: Note) -> None:
    width = 8 if c.long_mode else 4
    if noncanonical(target):
        note(TARGET_LAST)
    with branch(c):
        c.rsp = (c.rsp - width) & address_mask(c.long_mode)
        c.store(c.rsp, width, back)
        with fault_is(note, PUSHED):
            if tracked:
                push(c, width, back, note)
            if noncanonical(target):
                c.fault(Vector.GP)
        c.rip = target


def _ret(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    width = 8 if c.long_mode else 4
    back = c.load(c.rsp, width)
    ssp = c.ssp
    if shadow_stack_enabled(c):
        if c.shadow_load(ssp, width) != back:
            c.fault(Vector.CP, ControlProtection.NEAR_RET)
        ssp = wide(c, ssp + width, note)
    if c.long_mode and noncanonical(back):
        c.fault(Vector.GP)
    c.ssp = ssp
    c.rsp = (c.rsp + width + sum(a)) & address_mask(c.long_mode)
    c.rip = back


# -- the shadow stack ----------------------------------------------------------------


def _incssp(c: ConcreteCpu, r: General, width: int, n: int, note: Note) -> None:
    require_shadow_stack(c)
    count = r["rcx"] & 0xFF
    c.shadow_load(c.ssp, width)
    c.shadow_load(wide(c, c.ssp + (max(count, 1) - 1) * width, note), width)
    c.ssp = wide(c, c.ssp + count * width, note)
    c.rip = next_rip(c, n)


def _rstorssp(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    require_shadow_stack(c)
    at = r["rdi"] & address_mask(c.long_mode)
    if misaligned(at, 8):
        c.fault(Vector.GP)
    lbit = l_bit(c)
    with fault_is(note, READ_FIRST):
        token = c.shadow_load(at, 8)
    wrong = token & (TOKEN_L | TOKEN_PREVIOUS) != lbit or (lbit == 0 and high32(token) != 0)
    if wrong or restore_token_address(token) != at:
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    c.shadow_store(at, 8, previous_ssp_token(c.ssp, lbit))
    c.ssp = at
    c.cf = (token & TOKEN_HOLE) >> 2
    c.rip = next_rip(c, n)


def _saveprevssp(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int, note: Note) -> None:
    require_shadow_stack(c)
    if misaligned(c.ssp, 8):
        c.fault(Vector.GP)
    token = c.shadow_load(c.ssp, 8)
    if c.cf:
        if c.long_mode:
            c.fault(Vector.GP)
        note(HOLE)
        hole = c.shadow_load(c.ssp, 4)
        c.ssp = wide(c, c.ssp + 4, note)
        if hole != 0:
            c.fault(Vector.GP)
    if not token & TOKEN_PREVIOUS or (not c.long_mode and high32(token) != 0):
        c.fault(Vector.GP)
    old = previous_ssp(token)
    c.shadow_store(wide(c, old - 4, note), 4, 0)
    with fault_is(note, PARTLY):
        c.shadow_store(wide(c, align8(old) - 8, note), 8, old | l_bit(c))
    c.ssp = wide(c, c.ssp + 8, note)
    c.rip = next_rip(c, n)


_TEXTS: Mapping[str, BochsText] = {
    **{"call_rel": _call_rel, "call_abs": _call_abs, "ret": _ret},
    "call_far": call_far,
    **{"ret_far": ret_far, "iret": iret, "rstorssp": _rstorssp, "saveprevssp": _saveprevssp},
    "incsspd": lambda c, r, a, n, note: _incssp(c, r, 4, n, note),
    "incsspq": lambda c, r, a, n, note: _incssp(c, r, 8, n, note),
}


def texts(note: Note) -> dict[str, Instruction]:
    """All instructions; those of which Bochs has its own idea tell ``note`` of deviations."""

    def noted(text: BochsText) -> Text:
        return lambda c, r, a, n: text(c, r, a, n, note)

    own: dict[str, Any] = {name: noted(text) for name, text in _TEXTS.items()}
    return {
        name: replace(instruction, text=own.get(name, instruction.text))
        for name, instruction in INSTRUCTIONS.items()
    }
