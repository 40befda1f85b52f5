"""All instances, of which few are asserted: the answers are those of a solver that has all."""

from __future__ import annotations

from functools import cache

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from model.designs import DESIGNS
from model.kernel import STEPS
from shstk.footprint import Observed
from shstk.proof.asserted import Asserted, Every, Guards
from shstk.proof.hints import recorded
from shstk.proof.invariants import pool
from shstk.proof.problem import Problem, Problems
from shstk.proof.sorts import unbounded
from shstk.proof.step_proof import StepProof

POOL = pool()
NAMES = frozenset(i.name for i in POOL)
PATHS = (("linux-6.12", "munmap"), ("linux-6.12", "exit_mm_drop"), ("v1", "exit_mm_release"))


@cache
def problem(design: str, step: str) -> Problem:
    """A step's first path."""
    observed = Observed(DESIGNS[design])
    problems = Problems(unbounded(), observed.design, POOL)
    (of,) = (s for s in STEPS if s.name == step)
    proof = StepProof(observed, problems, of, frozenset(), {}, Guards())
    return proof.solver(proof.paths[0]).problem


@cache
def solvers(design: str, step: str, hints: bool) -> tuple[Asserted, Every, Asserted]:
    """With the hinted premises, or those that are no lemma's; from there with all; with all."""
    of, guards = problem(design, step), Guards()
    few = Asserted(of, of.premises_at(recorded().get(step, {}) if hints else {}), guards)
    return few, Every(few), Asserted(of, of.premises, guards)


@pytest.mark.parametrize("hints", (True, False))
@pytest.mark.parametrize(("design", "step"), PATHS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_few_instances_say_what_all_say(
    design: str, step: str, hints: bool, data: st.DataObject
) -> None:
    """Whatever is assumed and asked, one after the other: sat, unsat, and what can happen."""
    _, every, whole = solvers(design, step, hints)
    for _ in range(data.draw(st.integers(1, 3))):
        kept = NAMES.difference(data.draw(st.sets(st.sampled_from(sorted(NAMES)))))
        claims = len(whole.problem.claims)
        wanted = sorted(data.draw(st.sets(st.integers(0, claims - 1), min_size=1)))
        answer = every.ask(kept, wanted)
        assert answer == whole.ask(kept, wanted) != z3.unknown
        if answer == z3.sat:
            assert every.false(wanted)
            assert all(whole.ask(kept, [n]) == z3.sat for n in every.false(wanted))
        else:
            used = every.core()
            assert {name for name, _ in used} <= kept | {""}
            assert {made.id for _, made in used} <= {made.id for _, made in whole.premises}
        assert every.possible(kept) == whole.possible(kept)
        events = range(len(whole.problem.path.events))
        assert every.witnessed(kept, events)[0] == whole.witnessed(kept, events)[0]


@pytest.mark.parametrize(("design", "step"), PATHS)
def test_the_hinted_ones_do_not_learn_from_the_others(design: str, step: str) -> None:
    """What is added for all instances changes no answer of the few that share the solver."""
    few, every, _ = solvers(design, step, False)
    wanted = [[n] for n in range(len(few.problem.claims))]
    alone = Asserted(few.problem, [*few.premises], Guards())
    before = [alone.ask(NAMES, one) for one in wanted]
    for one in wanted:
        every.ask(NAMES, one)
    assert len(every.premises) > len(few.premises)
    assert [few.ask(NAMES, one) for one in wanted] == before
    assert z3.sat in before
