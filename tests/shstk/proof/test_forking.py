"""Forking: the paths of a text cover everything, and no two of them meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from model.designs import DESIGNS, Design
from model.kernel import STEPS, Step
from shstk.proof import forking, paths
from shstk.proof.forking import Fork, Stop, covered
from shstk.proof.paths import step_paths
from shstk.proof.sorts import bounded, unbounded
from shstk.space import Bound

BITS = 3
WORDS = [z3.BitVec(f"w{n}", BITS) for n in range(2)]
RLIMIT = 5_000_000
Text = Callable[[Fork], int]


def random_text(seed: int) -> Text:
    """A text that compares two words as it likes, stops sometimes, and counts its turns."""

    def text(fork: Fork) -> int:
        chance = random.Random(seed)
        result = 0
        for _ in range(chance.randrange(1, 6)):
            left, right = chance.choice(WORDS), chance.choice([*WORDS, z3.BitVecVal(3, BITS)])
            compare = chance.choice([z3.ULT, z3.ULE, lambda a, b: a == b])
            outcome = fork.decide(compare(left, right))
            # The rest of the text depends on the path, and on nothing else.
            chance = random.Random(chance.randrange(1 << 30) * 2 + outcome)
            result = result * 2 + outcome
            if outcome and chance.random() < 0.2:
                raise Stop("disabled")
        return result

    return text


class Given(Fork):
    """A fork that knows the words, and so has nothing to decide."""

    def __init__(self, words: Sequence[int]) -> None:
        super().__init__()
        self.words = words

    def decide(self, condition: Any, shape: object = None) -> bool:
        values = [z3.BitVecVal(v, BITS) for v in self.words]
        known = z3.simplify(z3.substitute(condition, *zip(WORDS, values, strict=True)))
        assert z3.is_true(known) or z3.is_false(known)
        return bool(z3.is_true(known))


def outcome_of(text: Text, fork: Fork) -> int | str:
    """The result of a text, or why it stops."""
    try:
        return text(fork)
    except Stop as stop:
        return stop.status


def text_disagreements(seed: int, prune: bool = True) -> Iterator[str]:
    """How the endings of a random text differ from what it does with every pair of numbers."""
    text = random_text(seed)
    ends = [*forking.endings(text, prune)]
    for words in ((a, b) for a in range(1 << BITS) for b in range(1 << BITS)):
        values = [z3.BitVecVal(v, BITS) for v in words]
        at = [
            e
            for e in ends
            if z3.is_true(
                z3.simplify(z3.substitute(e.fork.condition, *zip(WORDS, values, strict=True)))
            )
        ]
        found = [e.stop.status if e.stop else e.result for e in at]
        if found != [outcome_of(text, Given(words))]:
            yield f"{words}: {found}, not {outcome_of(text, Given(words))}"


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), prune=st.booleans())
def test_each_run_of_a_text_is_one_ending(seed: int, prune: bool) -> None:
    """For all numbers exactly one ending's condition is true, and it is what the text does."""
    assert [*text_disagreements(seed, prune)] == []


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_pruned_endings_are_possible(seed: int) -> None:
    """What is left after pruning can happen: pruning does its work where a solver can tell."""
    for ending in forking.endings(random_text(seed)):
        solver = z3.Solver()
        assert solver.check(ending.fork.condition) == z3.sat


def test_unknown_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a budget too small for any answer both outcomes of every decision are kept."""
    monkeypatch.setattr(forking, "FEASIBLE_RLIMIT", 1)
    for seed in range(10):
        assert [*text_disagreements(seed)] == []
    x = z3.Int("x")

    def text(fork: Fork) -> bool:
        return fork.decide(x * x * x == 7) if fork.decide(x * x > 5) else False

    assert len([*forking.endings(text)]) == 3


def test_the_same_question_has_the_same_answer() -> None:
    """A condition that was decided is not decided again, pruned or not."""
    a = z3.Bool("a")

    def text(fork: Fork) -> tuple[bool, bool]:
        return fork.decide(a), fork.decide(a)

    for prune in (False, True):
        ends = [*forking.endings(text, prune)]
        assert sorted(e.result for e in ends if e.result) == [(False, False), (True, True)]
        assert all(e.fork.decisions[1].forced for e in ends)


def test_what_is_plain_is_no_decision() -> None:
    """A condition that simplifies to true or false leaves no trace on the path."""
    a = z3.Bool("a")
    (ending,) = forking.endings(lambda f: f.decide(z3.Or(a, z3.Not(a))) and not f.decide(a != a))
    assert ending.result is True
    assert ending.fork.decisions == []
    assert z3.is_true(z3.simplify(ending.fork.condition))


def gaps(design: Design, steps: Sequence[Step], bound: Bound | None = None) -> Iterator[str]:
    """The steps whose paths leave something out."""
    universe = bounded(bound) if bound else unbounded()
    for step in steps:
        found = step_paths(universe, design, step)
        solver = z3.Solver()
        solver.set("rlimit", RLIMIT)
        solver.add(*universe.axioms, z3.Not(covered([p.condition for p in found])))
        if solver.check() != z3.unsat:
            yield step.name


@pytest.mark.parametrize("bound", [None, Bound(1, 1, 1)], ids=str)
def test_paths_cover_everything(design: Design, bound: Bound | None) -> None:
    """Whatever the state and the inputs are, some path of a step is taken."""
    assert [*gaps(design, STEPS, bound)] == []


def test_no_two_paths_meet(design: Design) -> None:
    """The conditions of two paths of a step exclude each other."""
    for step in STEPS:
        conditions = [p.condition for p in step_paths(unbounded(), design, step)]
        solver = z3.Solver()
        solver.set("rlimit", RLIMIT)
        numbered = [z3.Bool(f"path {n}") for n in range(len(conditions))]
        solver.add(*(z3.Implies(n, c) for n, c in zip(numbered, conditions, strict=True)))
        solver.add(z3.AtLeast(*numbered, 2))
        assert solver.check() == z3.unsat, step.name


def test_a_choice_switched_off_is_no_gap() -> None:
    """With families switched off the paths that are left still cover everything."""
    for step in STEPS:
        off = frozenset({"alloc-failure", "munmap-eintr", "tls-failure", "compat"})
        found = paths.step_paths(unbounded(), DESIGNS["v1"], step, off)
        solver = z3.Solver()
        solver.add(z3.Not(covered([p.condition for p in found])))
        assert solver.check() == z3.unsat, step.name
