"""The paths of a step are what the finite world does: conditions, states after, events, needs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import oracle
import pytest
import z3
from agreement import (
    Case,
    Compiled,
    Interpretation,
    any_state,
    cases,
    claim_in,
    compiled,
    following,
    walk,
    witness,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from model.designs import Design
from model.kernel import FAMILIES, STEPS, Step
from model.state import NULL, Ctl, Record, Task, fields
from shstk.proof.heap import Heap
from shstk.proof.invariants import pool
from shstk.proof.paths import Path, step_paths
from shstk.proof.sorts import INDEX, Universe, bounded, functions, unbounded
from shstk.proof.world import Input
from shstk.space import Bound, Space, Valuation

SEEDS = st.integers(0, 2**32)
SMALL, TWO, WIDE = Bound(2, 1, 1), Bound(2, 2, 2), Bound(3, 2, 2)
FAMILIES_OF_CLONES = frozenset(
    {"kernel", "enable", "thread", "vfork", "late-clone-failure", "sigkill", "exit"}
)

# -- agreement -----------------------------------------------------------------------


class StepRun:
    """The paths of a step, to be evaluated in interpretations."""

    def __init__(
        self,
        universe: Universe,
        design: Design,
        step: Step,
        switched_off: frozenset[str] = frozenset(),
        paths: Sequence[Path] | None = None,
    ) -> None:
        self.universe, self.design, self.step = universe, design, step
        self.switched_off = switched_off
        self.paths = paths or step_paths(universe, design, step, switched_off)
        self.conditions: list[list[int]] = []
        self._terms: dict[int, Any] = {}
        for p in self.paths:
            parts = p.condition.children() or [p.condition]
            self._terms |= {t.get_id(): t for t in parts}
            self.conditions.append([t.get_id() for t in parts])
        self._asked: dict[int, Compiled] = {}
        self.inputs: dict[str, tuple[Input, bool]] = {}
        for p in self.paths:
            for i in p.world.inputs:
                by_place = z3.is_bv(i.term) and i.term.size() == 8
                self.inputs[i.term.decl().name()] = i, by_place
        self.base = functions(universe)
        self.untold: set[tuple[int, str]] = set()  # what paths change without saying so
        self._posts: dict[int, list[tuple[type[Record], tuple[int, ...], Any, Any]]] = {}

    def constants(
        self, space: Space, task: int, chosen: Mapping[str, object], chance: random.Random
    ) -> dict[str, Any]:
        """Values for the constants; what is not ``chosen`` is arbitrary."""
        out: dict[str, Any] = {"current": task}
        for name, (i, by_place) in self.inputs.items():
            labels = i.values if i.sort is None else range(space.bound.size(i.sort))
            value = chosen[i.name] if i.name in chosen else chance.choice([*labels])
            if by_place:
                value = i.values.index(value) if value in i.values else 255
            out[name] = value
        return out

    def taken(self, at: Interpretation, constants: Mapping[str, Any]) -> list[Path]:
        """The paths whose condition is true."""
        known: dict[int, bool] = {}

        def true(key: int) -> bool:
            if key not in known:
                if key not in self._asked:
                    self._asked[key] = compiled(self._terms[key])
                known[key] = self._asked[key](at, constants)
            return known[key]

        paths = zip(self.paths, self.conditions, strict=True)
        return [p for p, conditions in paths if all(map(true, conditions))]

    def after(
        self, path: Path, at: Interpretation, space: Space, constants: Mapping[str, Any]
    ) -> dict[int, object]:
        """What each variable that the path touches holds afterwards, by its cell."""
        if path.number not in self._posts:
            self._posts[path.number] = [*self._reads(path)]
        out: dict[int, object] = {}
        for record, here, f, term in self._posts[path.number]:
            read = compiled(term)
            ranges = [range(space.bound.size(s)) for s in INDEX[record]]
            for objects in [here] if here else itertools.product(*ranges):
                there = {f"at.{n}": o for n, o in enumerate(objects)}
                value = read(at, {**constants, **there})
                stored = f.store(value) if f.store is not None else value
                out[space.number(record, objects, f.name)] = stored
        return out

    def writes_to_null(
        self, path: Path, at: Interpretation, space: Space, constants: Mapping[str, Any]
    ) -> bool:
        """A variable of what is no task, group or mm holds something else afterwards."""
        self.after(path, at, space, constants)
        for _, here, f, term in self._posts[path.number]:
            if here:
                continue
            read, table = compiled(term), at.tables[self.base[f].name()]
            for index, before in table.items():
                parts = index if isinstance(index, tuple) else (index,)
                there = {f"at.{n}": o for n, o in enumerate(parts)}
                if type(parts[0]) is not int and read(at, {**constants, **there}) != before:
                    return True
        return False

    def _reads(self, path: Path) -> Iterator[tuple[type[Record], tuple[int, ...], Any, Any]]:
        """Reads of what the path has touched: at each object of a bound, or () at any object."""
        elements = self.universe.elements
        for record, sorts in INDEX.items():
            places: dict[tuple[int, ...], tuple[Any, ...]] = {}
            if elements is None:
                named = (z3.Const(f"at.{n}", self.universe.sorts[s]) for n, s in enumerate(sorts))
                places[()] = tuple(named)
            else:
                for each in itertools.product(*(enumerate(elements[s]) for s in sorts)):
                    places[tuple(n for n, _ in each)] = tuple(term for _, term in each)
            for f in fields(record):
                for objects, place in places.items():
                    term = path.world.heap.read(f, place)
                    if f in path.world.heap.touched:
                        yield record, objects, f, term
                    elif not term.eq(self.base[f](*place)):
                        self.untold.add((path.number, f.name))


def step_disagreements(
    run: StepRun,
    space: Space,
    state: Valuation,
    task: int,
    chance: random.Random,
    seen: set[int] | None = None,
    choices: Callable[[Case], Iterable[Mapping[str, object]]] | None = None,
) -> Iterator[str]:
    """How the paths of a step differ, in a state, from what the finite world does there.

    ``seen`` collects the paths that are taken; ``choices``: which values of inputs
    are tried, each value of each if there is nothing said.
    """
    at = Interpretation.of(space, state, chance)
    for case in cases(space, run.design, state, task, run.step, run.switched_off):
        if any(v is None for values in case.inputs.values() for v in values):
            continue  # the bound has no object left, and there is none to choose
        for chosen in choices(case) if choices else case.samples(chance):
            constants = run.constants(space, task, chosen, chance)
            taken = run.taken(at, constants)
            where = f"{run.design.name}: {run.step.name} of task {task}, {chosen}"
            if len(taken) != 1:
                yield f"{where}: {len(taken)} paths are taken"
                continue
            (path,) = taken
            if seen is not None:
                seen.add(path.number)
            for said in _different(run, space, state, case, chosen, path, at, constants):
                yield f"{where}, path {path.number}: {said}"


def _different(
    run: StepRun,
    space: Space,
    state: Valuation,
    case: Case,
    chosen: Mapping[str, object],
    path: Path,
    at: Interpretation,
    constants: Mapping[str, Any],
) -> Iterator[str]:
    """How a path differs from a case of the finite world, for these values of the inputs."""
    needs = [what for what, real in path.needs if not compiled(real)(at, constants)]
    if case.status == "impossible":
        if case.no_object and not needs:
            yield "the finite world has no object to write to, and the path needs none"
        if not needs and not case.no_mm and run.writes_to_null(path, at, space, constants):
            yield "it writes through NULL, and needs nothing"
        return
    if path.status != case.status:
        yield f"{path.status}, not {case.status}"
    if needs:
        yield f"it needs {needs}, the finite world does not"
    if case.status != "done" or path.status != "done":
        return
    assert case.outcome is not None
    expected = following(state, case.outcome)
    found = run.after(path, at, space, constants)
    for cell, c in enumerate(space.cells):
        here = found.get(cell, c.domain[state[cell]])
        if here != c.domain[expected[cell]]:
            yield f"{c.name} is {here} afterwards, not {c.domain[expected[cell]]}"
    for number, name in run.untold:
        if number == path.number:
            yield f"it changes {name}, and does not say so"
    yield from _said_otherwise(case, chosen, path, at, constants)


def _said_otherwise(
    case: Case,
    chosen: Mapping[str, object],
    path: Path,
    at: Interpretation,
    constants: Mapping[str, Any],
) -> Iterator[str]:
    """How a path's events, and what claims say of them, differ."""
    assert case.outcome is not None
    ours = [type(e).__name__ for e in path.world.events]
    theirs = [type(e).__name__ for e in case.outcome.events]
    if ours != theirs:
        yield f"its events are {ours}, not {theirs}"
        return
    said = [(e.name, t) for e in path.events for t in (e.holds.term, e.premise.term)]
    names = [finding.question for finding in case.outcome.findings]
    if [name for name, _ in said] != names:
        yield f"its claims are {[name for name, _ in said]}, not {names}"
        return
    for (name, term), finding in zip(said, case.outcome.findings, strict=True):
        answer = case.said(finding, chosen)
        if answer is not None and compiled(term)(at, constants) != answer:
            yield f"{name} (or its premise) is {not answer}, not {answer}"


def state_disagreements(
    runs_of: Callable[[Step], StepRun],
    space: Space,
    state: Valuation,
    chance: random.Random,
    steps: Sequence[Step] = tuple(STEPS),
) -> Iterator[str]:
    """The same for every task and each of the steps."""
    for task in range(space.bound.tasks):
        for step in steps:
            if space.value(state, Task, task, "ctl") in step.at or chance.random() < 0.02:
                yield from step_disagreements(runs_of(step), space, state, task, chance)


# -- tests ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def runs_of() -> RunsOf:
    """The paths of a design's steps over a bound, or over any number of objects; made once."""

    @cache
    def steps(bound: Bound | None, design: Design) -> Callable[[Step], StepRun]:
        universe = bounded(bound) if bound else unbounded()
        return cache(lambda step: StepRun(universe, design, step))

    return steps


RunsOf = Callable[[Bound | None, Design], Callable[[Step], StepRun]]


@pytest.mark.parametrize("bound", [SMALL, TWO, WIDE], ids=str)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_paths_do_what_the_finite_world_does(
    runs_of: RunsOf, design: Design, bound: Bound, seed: int
) -> None:
    """In any state, one path is taken for each choice, and it does what the finite world does."""
    space, chance = Space(bound), random.Random(seed)
    state = any_state(space, design, chance)
    assert [*state_disagreements(runs_of(None, design), space, state, chance)] == []


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_bounded_paths_do_what_the_finite_world_does(
    runs_of: RunsOf, design: Design, seed: int
) -> None:
    """The same of the paths over a bound, whose objects are known to be different."""
    space, chance = Space(TWO), random.Random(seed)
    state = any_state(space, design, chance)
    assert [*state_disagreements(runs_of(TWO, design), space, state, chance)] == []


def test_all_states_of_a_small_model(runs_of: RunsOf, design: Design) -> None:
    """The same in every state of a model with threads, vforks and failing clones."""
    space, chance = Space(SMALL), random.Random(0)
    states = oracle.explore(space, design, FAMILIES_OF_CLONES).depth
    assert len(states) > 200
    runs = runs_of(None, design)
    assert [d for s in states for d in state_disagreements(runs, space, s, chance)] == []


def test_every_path_is_taken(runs_of: RunsOf, design: Design) -> None:
    """In a state that a path's condition describes, the finite world goes that way."""
    space, chance = Space(WIDE), random.Random(0)
    some, any_number = runs_of(WIDE, design), runs_of(None, design)
    asked = done = 0

    def first(case: Case) -> Iterable[Mapping[str, object]]:
        return itertools.islice(case.samples(chance), 1)

    for step in STEPS:
        run = any_number(step)
        for path in some(step).paths:
            if path.status == "disabled":
                continue
            found = witness(space, path)
            if found is None:
                # Its condition says that what it needs is not there.
                assert path.needs
                continue
            asked += 1
            state, task = found
            taken: set[int] = set()
            differences = step_disagreements(run, space, state, task, chance, taken, first)
            assert [*differences] == []
            if path.number not in taken:
                # The solver has chosen what a variable of NULL holds.
                statuses = {c.status for c in cases(space, design, state, task, step)}
                assert "impossible" in statuses, path.name
            done += path.number in taken
    assert asked > 150 and done > 0.9 * asked


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_families_that_are_switched_off_are_so_in_both(design: Design, seed: int) -> None:
    """Both worlds take the same events away when families are switched off."""
    space, chance = Space(TWO), random.Random(seed)
    off = frozenset(chance.sample(sorted(FAMILIES), 12))
    off |= {"alloc-failure", "tls-failure", "munmap-eintr"} & {*chance.sample([*FAMILIES], 20)}
    state, task = any_state(space, design, chance), chance.randrange(2)
    able = [s for s in STEPS if space.value(state, Task, task, "ctl") in s.at]
    for step in chance.sample(able, min(5, len(able))):
        run = StepRun(unbounded(), design, step, off)
        assert [*step_disagreements(run, space, state, task, chance)] == []


def test_every_number_with_every_other(runs_of: RunsOf, design: Design) -> None:
    """Paths and claims are right about each stack_size with each RLIMIT_STACK and each ABI."""
    space, chance = Space(SMALL), random.Random(0)
    (enable,) = (s for s in STEPS if s.name == "enable")
    enabled = [
        following(space.initial, case.outcome)
        for case in cases(space, design, space.initial, 0, enable)
        if case.outcome is not None and case.outcome.events and case.status == "done"
    ]
    state = next(s for s in enabled if space.value(s, Task, 0, "size"))
    for step in STEPS:
        if step.name in ("clone_thread", "clone_vm", "create_io_thread"):
            run = runs_of(None, design)(step)
            found = step_disagreements(run, space, state, 0, chance, choices=Case.combinations)
            assert [*found] == []


def test_bounded_and_unbounded_paths_are_the_same(runs_of: RunsOf, design: Design) -> None:
    """Over enough objects, the same paths with the same conditions, ends and needs."""
    space, chance = Space(WIDE), random.Random(1)
    states = [any_state(space, design, chance) for _ in range(4)]
    for step in STEPS:
        ours, theirs = runs_of(WIDE, design)(step), runs_of(None, design)(step)
        assert [p.status for p in ours.paths] == [p.status for p in theirs.paths]
        for state in states:
            at = Interpretation.of(space, state, chance)
            constants = ours.constants(space, chance.randrange(3), {}, chance)
            for p, q in zip(ours.paths, theirs.paths, strict=True):
                for a, b in zip(_said(p), _said(q), strict=True):
                    assert compiled(a)(at, constants) == compiled(b)(at, constants), p.name


def _said(path: Path) -> list[Any]:
    """All conditions of a path."""
    return [
        path.condition,
        *(c.term for c in path.world.path),
        *(real for _, real in path.needs),
        *(e.holds.term for e in path.events),
    ]


def test_the_decisions_are_the_condition(runs_of: RunsOf, design: Design) -> None:
    """The decisions of a path, as its world keeps them, say what its condition says."""
    space, chance = Space(TWO), random.Random(2)
    for step in STEPS:
        run = runs_of(None, design)(step)
        for _ in range(8):
            at = Interpretation.of(space, any_state(space, design, chance), chance)
            constants = run.constants(space, chance.randrange(2), {}, chance)
            for path in run.paths:
                each = [compiled(c.term)(at, constants) for c in path.world.path]
                assert all(each) == compiled(path.condition)(at, constants), path.name


@pytest.mark.parametrize("universe", ["any number", "bounded"])
def test_claims_say_the_same(design: Design, universe: str) -> None:
    """Every lemma and every claim about states is as true in terms as in the finite world."""
    space, chance = Space(TWO), random.Random(3)
    where = bounded(TWO) if universe == "bounded" else unbounded()
    heap = Heap(functions(where))
    answers = set()
    for claim in pool():
        objects = [z3.Const(f"object.{n}", where.sorts[s]) for n, s in enumerate(claim.sorts)]
        about = compiled(claim.at(where, design, heap, objects).term)
        everywhere = compiled(claim.formula(where, design, heap))
        ranges = [range(space.bound.size(s)) for s in claim.sorts]
        for _ in range(6):
            state = any_state(space, design, chance)
            at = Interpretation.of(space, state, chance)
            said = []
            for each in itertools.product(*ranges):
                said.append(claim_in(space, design, state, claim, each))
                found = about(at, {f"object.{n}": o for n, o in enumerate(each)})
                assert said[-1] in (None, found), claim.name
            assert None in said or everywhere(at, {}) == all(said), claim.name
            answers |= {*said}
    assert {True, False} <= answers


def test_unmapping_an_mm_needs_the_mm(runs_of: RunsOf, design: Design) -> None:
    """A path that unmaps all of an mm, or takes a task's name off it, needs that mm."""
    space, chance = Space(TWO), random.Random(0)
    state = list(space.initial)
    for task, name, value in (
        (0, "ctl", Ctl.CLONE_COPIED),
        (0, "child", 1),
        (1, "ctl", Ctl.NEW),
        (1, "group", 1),
        (1, "mm", NULL),
    ):
        cell = space.number(Task, (task,), name)
        state[cell] = space.domains[cell].index(value)
    (step,) = (s for s in STEPS if s.name == "late_clone_failure")
    run = runs_of(None, design)(step)
    at = Interpretation.of(space, tuple(state), chance)
    (case, *_) = cases(space, design, tuple(state), 0, step)
    assert case.status == "impossible" and case.no_mm
    constants = run.constants(space, 0, next(case.samples(chance)), chance)
    (path,) = run.taken(at, constants)
    assert [what for what, real in path.needs if not compiled(real)(at, constants)]


def test_reachable_states_need_nothing(runs_of: RunsOf, design: Design) -> None:
    """What paths need is there in every state that random runs reach."""
    space = Space(TWO)
    for seed in range(15):
        chance = random.Random(seed)
        state = walk(space, design, chance)
        for task in range(2):
            for step in STEPS:
                if space.value(state, Task, task, "ctl") in step.at:
                    statuses = {c.status for c in cases(space, design, state, task, step)}
                    assert "impossible" not in statuses
