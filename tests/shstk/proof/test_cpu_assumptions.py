"""Premises of the theorems about single moves: they can be true, and each of them is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import z3

from model.cpu.words import align8
from model.cpu.world import WR_SHSTK_EN
from model.designs import DESIGNS, Design
from properties.memory import STATEMENTS, Statement, words
from properties.memory.tokens import word_on_a_stack
from properties.memory.vocabulary import Step
from shstk.proof.cpu_counterexamples import counterexample, refutes
from shstk.proof.cpu_moves import MOVES
from shstk.proof.cpu_step import SymbolicStep
from shstk.proof.cpu_theorems import paths_for, theorem
from shstk.proof.terms import as_bool

LINUX = DESIGNS["linux-6.12"]

# -- a theorem says something ----------------------------------------------------------------


def premise_can_be_true(statement: Statement, move: str, design: Design) -> bool:
    """Some path of the move satisfies the premise."""
    for path in sorted(paths_for(move, design).paths, key=lambda p: p.fault is not None):
        step = SymbolicStep(path, design.guard_gaps, design.prctl.shstk)
        solver = z3.Solver()
        solver.set("rlimit", 5_000_000)
        solver.add(path.condition, as_bool(statement.premise(step)))  # type: ignore[arg-type]
        if solver.check() == z3.sat:
            return True
    return False


@pytest.mark.parametrize("id", sorted(STATEMENTS))
def test_every_premise_can_be_true_of_every_move(id: str) -> None:
    """No statement is true because it is about nothing."""
    statement = STATEMENTS[id]
    never_fault = {"endbr32", "endbr64", "rdsspd", "rdsspq"}
    skip = never_fault | {"sysenter"} if id == "fault-changes-nothing" else set()
    assert [
        m for m in statement.moves if m not in skip and not premise_can_be_true(statement, m, LINUX)
    ] == []


# -- what is assumed is needed ------------------------------------------------------------------


def without(id: str, *moves: str, premise: Callable[..., object]) -> tuple[Statement, str]:
    """A statement with a weaker premise, about some moves; and the move that refutes it."""
    statement = replace(STATEMENTS[id], moves=moves, premise=premise)
    one = theorem(statement, LINUX)
    for goal in one.batches[0].goals:
        numbers = counterexample(one.batches[0], goal)
        if numbers is not None:
            move = goal.name.partition(":")[0]
            assert refutes(statement, MOVES[move], numbers, LINUX)
            return statement, move
    return statement, ""


def _frames(s: Step, *, token: bool = False, wrss: bool = False, busy: bool = False) -> object:
    """``frames_premise`` less what is named."""
    at, p = s.any("at"), s.any("P")
    below = (p & 7 == 0) & (s.before.ssp <= p) & (s.after.ssp <= p) & (p <= at)
    all_ = words.from_user_mode(s) & words.usual_ssp(s) & below & s.before.shadow(at)
    if not wrss:
        all_ = all_ & ((s.before.u_cet & WR_SHSTK_EN) == 0)
    if not token:
        all_ = all_ & s.no(words.restores(p, s.before.word(p)))
    if not busy:
        all_ = all_ & (s.before.word(align8(at)) != align8(at) | 1)
    return all_


def test_a_restore_token_at_the_parents_ssp_is_overwritten() -> None:
    """RSTORSSP to P itself leaves a previous-ssp token there."""
    assert without("frames-step", "rstorssp", premise=lambda s: _frames(s, token=True))[1]


def test_wrss_overwrites_the_parents_frames() -> None:
    """With WR_SHSTK_EN user code can write to them, wherever SSP is."""
    assert without("frames-step", "wrssq", premise=lambda s: _frames(s, wrss=True))[1]


def test_iret_can_clear_a_busy_bit_in_the_parents_frames() -> None:
    """The word at P that is P plus 1 looks like a busy token of a stack that IRET has left."""
    assert without("frames-step", "iret", premise=lambda s: _frames(s, busy=True))[1]


def test_saveprevssp_by_itself_overwrites_the_parents_frames() -> None:
    """It takes any word with bit 1 for a previous-ssp token, and writes below where it points."""
    assert without("frames-step", "saveprevssp", premise=_frames)[1]


def test_a_call_from_inside_a_shadow_stack_can_make_a_token() -> None:
    """A return address just above the place it is pushed to is a restore token."""

    def premise(s: Step) -> object:
        usual = words.from_user_mode(s) & words.usual_ssp(s) & word_on_a_stack(s)
        return usual & words.aligned_in_64_bit_mode(s) & s.before.long_mode

    assert without("no-new-token", "call_rel", premise=premise)[1]


def test_a_restorer_of_the_programs_own_choice_can_make_a_token() -> None:
    """Delivery pushes sa_restorer unseen: with ssp - 7 it is a restore token at ssp - 16."""

    def premise(s: Step) -> object:
        here = words.from_user_mode(s) & words.usual_ssp(s) & word_on_a_stack(s)
        return here & words.apart(s.before.rip, s.before.ssp)

    assert without("no-new-token", "deliver", premise=premise)[1]


def test_without_a_gap_incssp_steps_into_the_next_stack() -> None:
    """Where two stacks touch, the element it reads last is in the other."""

    def premise(s: Step) -> object:
        lo, hi, ssp = s.any("lo"), s.any("hi"), s.before.ssp
        stack = (lo & 4095 == 0) & (hi & 4095 == 0) & (lo <= ssp) & (ssp <= hi)
        return words.from_user_mode(s) & words.usual_ssp(s) & stack & s.done

    for move in ("incsspq", "ret", "call_rel"):
        assert without("no-step-over-a-gap", move, premise=premise)[1]
