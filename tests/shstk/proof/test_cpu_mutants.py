"""Texts that are wrong in one place: each breaks a theorem, and the break is real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from model.cpu.branch import call64, call_rel, ret64
from model.cpu.mode import (
    address_mask,
    l_bit,
    linear_address,
    next_rip,
    require_shadow_stack,
    shadow_stack_enabled,
)
from model.cpu.words import (
    MASK64,
    TOKEN_L,
    TOKEN_PREVIOUS,
    misaligned,
    noncanonical,
    previous_ssp_token,
    restore_token_address,
)
from model.cpu.world import ControlProtection, Vector
from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel.errno import EFAULT
from model.kernel.mmap import TASK_SIZE_MAX
from properties.memory import STATEMENTS
from shstk.proof.cpu_counterexamples import confirm, counterexample
from shstk.proof.cpu_moves import Move, single
from shstk.proof.cpu_theorems import theorem

LINUX = DESIGNS["linux-6.12"]


# -- instructions ----------------------------------------------------------------------


def rstorssp_that_stores_first(c: Any, operand: Any, length: int = 4) -> None:
    """The previous-ssp token is there before the restore token has been looked at."""
    require_shadow_stack(c)
    ssp_la = linear_address(c, operand)
    if misaligned(ssp_la, 8):
        c.fault(Vector.GP)
    lbit = l_bit(c)
    token = c.shadow_load(ssp_la, 8)
    c.shadow_store(ssp_la, 8, previous_ssp_token(c.ssp, lbit))
    if (token & (TOKEN_L | TOKEN_PREVIOUS)) != lbit:
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    if restore_token_address(token) != ssp_la:
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    c.ssp = ssp_la
    c.rip = next_rip(c, length)


def rstorssp_that_keeps_the_token(c: Any, operand: Any, length: int = 4) -> None:
    """The restore token stays, so that it can be used again."""
    require_shadow_stack(c)
    ssp_la = linear_address(c, operand)
    if misaligned(ssp_la, 8):
        c.fault(Vector.GP)
    lbit = l_bit(c)
    c.probe_shadow_store(ssp_la, 8)
    token = c.shadow_load(ssp_la, 8)
    if (token & (TOKEN_L | TOKEN_PREVIOUS)) != lbit:
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    if restore_token_address(token) != ssp_la:
        c.fault(Vector.CP, ControlProtection.RSTORSSP)
    c.ssp = ssp_la
    c.rip = next_rip(c, length)


def incsspq_that_looks_once(c: Any, count: Any, length: int = 5) -> None:
    """The last element is not read: SSP can pass over the end of the stack."""
    require_shadow_stack(c)
    mask = address_mask(c.long_mode)
    ssp = c.ssp & mask
    c.shadow_load(ssp, 8)
    c.ssp = (ssp + ((count & 0xFF) << 3)) & mask
    c.rip = next_rip(c, length)


def incsspq_of_16_bits(c: Any, count: Any, length: int = 5) -> None:
    """A count of up to 65535 can step over a guard page: only the ends are read."""
    require_shadow_stack(c)
    mask = address_mask(c.long_mode)
    ssp, count = c.ssp & mask, count & 0xFFFF
    c.shadow_load(ssp, 8)
    if count != 0:
        c.shadow_load((ssp + ((count - 1) << 3)) & mask, 8)
    c.ssp = (ssp + (count << 3)) & mask
    c.rip = next_rip(c, length)


def ret_that_pops_first(c: Any, imm16: Any = 0) -> None:
    """SSP moves before the comparison."""
    back = c.load(c.rsp, 8)
    if shadow_stack_enabled(c):
        shadow = c.shadow_load(c.ssp, 8)
        c.ssp = (c.ssp + 8) & MASK64
        if shadow != back:
            c.fault(Vector.CP, ControlProtection.NEAR_RET)
    c.rsp = (c.rsp + 8 + imm16) & MASK64
    c.rip = back


def ret_that_compares_half(c: Any, imm16: Any = 0) -> None:
    """Only the low half of the return address has to agree."""
    back = c.load(c.rsp, 8)
    if shadow_stack_enabled(c):
        if c.shadow_load(c.ssp, 8) & 0xFFFF_FFFF != back & 0xFFFF_FFFF:
            c.fault(Vector.CP, ControlProtection.NEAR_RET)
        c.ssp = (c.ssp + 8) & MASK64
    c.rsp = (c.rsp + 8 + imm16) & MASK64
    c.rip = back


def call_that_checks_last(c: Any, target: Any, length: int = 2) -> None:
    """The target is checked when both stacks have been written."""
    back, rsp, ssp = (c.rip + length) & MASK64, (c.rsp - 8) & MASK64, (c.ssp - 8) & MASK64
    if shadow_stack_enabled(c):
        c.probe_store(rsp, 8)
        c.shadow_store(ssp, 8, back)
        c.ssp = ssp
    c.store(rsp, 8, back)
    if noncanonical(target):
        c.fault(Vector.GP)
    c.rsp = rsp
    c.rip = target


def call_that_pushes_upwards(c: Any, target: Any, length: int = 2) -> None:
    """The return address goes where SSP points, over the caller's frame."""
    back = (c.rip + length) & MASK64
    if shadow_stack_enabled(c):
        c.probe_store((c.rsp - 8) & MASK64, 8)
        c.shadow_store(c.ssp, 8, back)
    call64(c, target, back, False)


def call_that_pushes_ssp(c: Any, target: Any, length: int = 2) -> None:
    """What is pushed is SSP plus 1: a restore token."""
    ssp = (c.ssp - 8) & MASK64
    c.probe_store((c.rsp - 8) & MASK64, 8)
    if shadow_stack_enabled(c):
        c.shadow_store(ssp, 8, c.ssp | 1)
        c.ssp = ssp
    call64(c, target, (c.rip + length) & MASK64, False)


INSTRUCTIONS = [
    (rstorssp_that_stores_first, "rstorssp", "fault-changes-nothing"),
    (rstorssp_that_keeps_the_token, "rstorssp", "token-consumed"),
    (incsspq_that_looks_once, "incsspq", "no-step-over-a-gap"),
    (incsspq_of_16_bits, "incsspq", "no-step-over-a-gap"),
    (ret_that_pops_first, "ret", "fault-changes-nothing"),
    (ret_that_pops_first, "ret", "ret-mismatch"),
    (ret_that_compares_half, "ret", "ret-mismatch"),
    (call_that_checks_last, "call_abs", "fault-changes-nothing"),
    (call_that_pushes_upwards, "call_abs", "frames-step"),
    (call_that_pushes_ssp, "call_abs", "no-new-token"),
]


def broken(id: str, design: Design, moves: dict[str, Move], name: str) -> bool:
    """The statement is refuted by that move, and the concrete CPU agrees."""
    one = theorem(STATEMENTS[id], design, moves)
    for batch in one.batches:
        for goal in batch.goals:
            if goal.name.partition(":")[0] == name:
                numbers = counterexample(batch, goal)
                if numbers is not None:
                    assert confirm(one, goal, numbers, design, moves.get(name))
                    return True
    return False


@pytest.mark.parametrize("wrong, name, id", INSTRUCTIONS, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_instruction_breaks_a_theorem(
    wrong: Callable[..., Any], name: str, id: str
) -> None:
    """By itself, among all others that are right."""
    assert broken(id, LINUX, {name: single(wrong)}, name)


@pytest.mark.parametrize("right, name", [(call_rel, "call_rel"), (ret64, "ret")])
def test_a_right_instruction_in_its_own_stead_breaks_nothing(
    right: Callable[..., Any], name: str
) -> None:
    """It is not being replaced that is found."""
    assert not broken("fault-changes-nothing", LINUX, {name: single(right)}, name)


# -- designs ---------------------------------------------------------------------------


class NoBit63(Linux612):
    """The frame is the bare SSP."""

    name = "no-bit-63"

    def put_shstk_data(self, u: Any, addr: Any, data: Any) -> int:
        return u.write_user_shstk_64(addr, data)  # type: ignore[no-any-return]

    def get_shstk_data(self, u: Any, addr: Any) -> Any:
        return u.get_user(addr)


class SspFirst(Linux612):
    """SSP moves before the frame on the data stack is written, as before 31255e072b2e."""

    name = "ssp-first"
    ssp_before_frame = True


class FrameAtSsp(Linux612):
    """The frame overwrites the word that SSP points to."""

    name = "frame-at-ssp"

    def shstk_push_sigframe(self, u: Any, target_ssp: Any) -> Any:
        if self.put_shstk_data(u, target_ssp, target_ssp) != 0:
            return 0, EFAULT
        return target_ssp, 0


class AnywhereBack(Linux612):
    """sigreturn does not check where it goes."""

    name = "anywhere-back"

    def restore_to(self, token_addr: Any) -> Any:
        return token_addr, 0


class AlmostBack(Linux612):
    """sigreturn ends 8 bytes too high."""

    name = "almost-back"

    def restore_to(self, token_addr: Any) -> Any:
        if misaligned(token_addr, 8):
            return 0, EFAULT
        if token_addr < TASK_SIZE_MAX - 8:
            return token_addr + 8, 0
        return 0, EFAULT


class AnyMemory(Linux612):
    """sigreturn does not ask whether SSP is on a shadow stack."""

    name = "any-memory"

    def shstk_pop_sigframe(self, u: Any, ssp: Any) -> Any:
        token_addr, err = self.get_shstk_data(u, ssp)
        if err != 0:
            return 0, err
        return self.restore_to(token_addr)


@pytest.mark.parametrize(
    "wrong, name, id",
    [
        (NoBit63, "deliver", "frame-is-no-address"),
        (SspFirst, "deliver", "failed-delivery"),
        (FrameAtSsp, "deliver", "frames-step"),
        (AnywhereBack, "sigreturn", "installed-aligned"),
        (AnywhereBack, "sigreturn", "installed-below-task-size"),
        (AlmostBack, "round-trip", "round-trip"),
        (AnyMemory, "sigreturn", "only-a-frame"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_wrong_design_breaks_a_theorem(wrong: type[Design], name: str, id: str) -> None:
    """Which is the one that names what is wrong with it."""
    assert broken(id, wrong(), {}, name)
