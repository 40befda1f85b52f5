"""Hints: what is written is read again, and no answer depends on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.designs import DESIGNS
from model.kernel import STEPS
from shstk.proof import hints
from shstk.proof.hints import Hint, Hints, parse, recorded, render
from shstk.proof.induction import Dropped, Prover
from shstk.proof.instances import Only
from shstk.proof.invariants import of_chains, pool
from shstk.proof.path_solver import conjunct
from shstk.proof.worker import Worker

POOL = pool()
NAMES = tuple(i.name for i in POOL)
QUICK = settings(max_examples=6, deadline=None)

# -- text ----------------------------------------------------------------------------
words = st.text("abz.-_!'0123456789", min_size=1, max_size=8)
terms = st.one_of(words, st.builds("({} {})".format, words, words))
found = st.tuples(words, st.tuples(words, st.lists(terms, max_size=3).map(tuple)))


def lines(of: Hints) -> set[tuple[str, Hint]]:
    """Hints one by one."""
    return {(s, (n, t)) for s, only in of.items() for n, every in only.items() for t in every}


@given(st.lists(found, max_size=8))
def test_what_is_written_is_read(used: list[tuple[str, Hint]]) -> None:
    """Each instance comes back for its step, whatever the order, and is written once."""
    text = render(used)
    assert lines(parse(text)) == set(used)
    assert render(lines(parse(text))) == text == render([*used[::-1], *used])


@given(st.lists(found, max_size=4), st.lists(st.text(max_size=40), max_size=4), st.randoms())
def test_a_foreign_line_is_no_hint(
    used: list[tuple[str, Hint]], foreign: list[str], chance: random.Random
) -> None:
    """Lines without two tabs, and comments, are passed over; what is around them is read."""
    others = [part for text in foreign for part in text.splitlines() if part.count("\t") != 2]
    mixed = [*render(used).splitlines(), *others, "# a\tb\tc"]
    chance.shuffle(mixed)
    assert lines(parse("\n".join(mixed))) == set(used)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    """A damaged file is never an error, and what is read is made of texts."""
    for step, (name, of) in lines(parse(text)):
        assert step and isinstance(name, str) and all(isinstance(t, str) for t in of)


@given(st.lists(found, min_size=1, max_size=6), st.data())
def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(
    used: list[tuple[str, Hint]], data: st.DataObject
) -> None:
    """Whatever the place, all the lines before it are hints."""
    text = render(used)
    cut = text[: data.draw(st.integers(0, len(text)))]
    whole = "".join(line for line in cut.splitlines(keepends=True) if line.endswith("\n"))
    assert lines(parse(whole)) <= lines(parse(cut)) and lines(parse(whole)) <= set(used)


def test_the_hints_of_the_project_are_about_what_there_is() -> None:
    """They name lemmas and steps of the project, and are as they would be written."""
    of = lines(recorded())
    assert len(of) > 1000
    assert {name for _, (name, _) in of} <= {i.name for i in (*POOL, *of_chains())}
    assert {step for step, _ in of} <= {s.name for s in STEPS}
    arity = {i.name: len(i.sorts) for i in (*POOL, *of_chains())}
    assert all(len(terms) >= arity[name] for _, (name, terms) in of)
    assert render(of) == hints.FILE.read_text(encoding="utf-8")


def test_without_the_file_there_are_no_hints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that is not there is no error."""
    monkeypatch.setattr(hints, "FILE", tmp_path / "none.txt")
    assert recorded.__wrapped__() == {}


# -- hints prove nothing -----------------------------------------------------------------
# A design, and half of the pool (by a seed), so that others are dropped and events fail.
CASES = {
    "vfork_completed": ("linux-6.12", 0),
    "munmap": ("linux-6.12", 2),
    "exit_mm_drop": ("linux-6.12", 2),
    "shstk_disable": ("linux-6.12", 2),
    "exit_mm_release": ("v1", 1),
}


@dataclass(frozen=True)
class Outcome:
    """What a proof says of a step, but for the instances it took.

    ``open``: the conjuncts that fail.  Of these the goals that hold are proved where that takes
    the hinted instances alone: they are left out of the ``goals`` that are to be proved.
    """

    kept: list[str]
    dropped: list[Dropped]
    open: frozenset[str]
    goals: frozenset[tuple[str, str]]
    witnessed: frozenset[str]
    unsafe: frozenset[str]


def outcome(step: str, of: Only) -> Outcome:
    """The outcome with these hints."""
    design, seed = CASES[step]
    tried = random.Random(seed).sample(NAMES, len(NAMES) // 2)
    steps = [s for s in STEPS if s.name == step]
    with Prover(DESIGNS[design], steps, frozenset(), POOL, hints={step: of}) as prover:
        kept, dropped = prover.largest(tried)
        proved = prover.obligations(kept, explain=False)
    assert not any(p.unknown for p in proved)
    open_ = frozenset(conjunct(goal) for p in proved for goal in p.failing)
    goals = {(p.path, g.name) for p in proved for b in p.batches for g in b.goals}
    return Outcome(
        kept,
        sorted(dropped, key=lambda d: d.name),
        open_,
        frozenset((p, g) for p, g in goals if conjunct(g) not in open_),
        frozenset(f"{p.path} {c}" for p in proved for c in p.witnessed),
        frozenset(p.path for p in proved if p.unsafe),
    )


@cache
def truth(step: str) -> Outcome:
    """The same where there are no hints, so that all is asked with every instance."""
    return outcome(step, {})


def of_step(step: str) -> list[Hint]:
    """The recorded hints of a step."""
    return sorted(hint for s, hint in lines(recorded()) if s == step)


def only(found: Sequence[Hint]) -> Only:
    """Hints as a path solver wants them."""
    return parse(render(("x", hint) for hint in found)).get("x", {})


NONSENSE: Only = {
    "no-such-lemma": (("current",),),
    **dict.fromkeys(NAMES, ((), ("current",) * 7, ("no-such-term",), ("task.0", "nor (this)"))),
}


@pytest.mark.parametrize("step", CASES)
def test_recorded_hints_and_nonsense_change_no_answer(step: str) -> None:
    """What is kept, dropped where and when, open and witnessed is as without any hint."""
    assert outcome(step, only(of_step(step))) == truth(step)
    assert outcome(step, NONSENSE) == truth(step)


@pytest.mark.parametrize("step", ("vfork_completed", "munmap", "shstk_disable"))
@QUICK
@given(data=st.data())
def test_no_answer_depends_on_which_hints_there_are(step: str, data: st.DataObject) -> None:
    """Any part of the recorded hints, and those of other steps, give the same answers."""
    part = data.draw(st.sets(st.sampled_from(of_step(step))))
    other = data.draw(st.sets(st.sampled_from(of_step("clone_thread")), max_size=20))
    assert outcome(step, only(sorted(part | other))) == truth(step)


def test_the_cases_leave_something_open_and_drop_something() -> None:
    """Where everything is proved, equal answers would say little."""
    assert sum(len(truth(step).dropped) for step in CASES) > 10
    assert sum(len(truth(step).open) for step in CASES) > 3
    assert {bool(truth(step).unsafe) for step in CASES} == {True, False}


def test_hints_are_used() -> None:
    """With the recorded ones no path of a step is asked about with every instance."""
    steps = [s for s in STEPS if s.name in ("munmap", "exit_mm_drop", "shstk_disable")]
    worker = Worker(DESIGNS["linux-6.12"], steps, frozenset(), POOL, recorded())
    found = worker.check(NAMES, None)
    assert not any(f.failing for f in found)
    assert not any("all" in vars(s) for s in worker.solvers.values())
