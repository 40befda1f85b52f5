"""That a changed design does the same, step by step: proved for any number of tasks.

Both texts of a step are run one after the other in the symbolic world, from the same state,
with the same choices, on one path: its conditions are those that either asks for.  Where the
two end differently, that path must contradict the invariant that is proved of the first.
Then, by induction, the two have the same runs, and the same events happen in them.

Or from two states that are ``alike``, of every step: then the two have runs that nobody can
tell apart, though their bookkeeping is not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import CodeType, FunctionType
from typing import Any, cast

import z3

from model.designs import Design
from model.kernel import Step
from model.state import Field, Sort
from shstk.loader import HOOKS
from shstk.observed import IN_THE_STATE, observed
from shstk.plan import families_in
from shstk.proof.alike import NUMBERS, Alike, excusable
from shstk.proof.differences import (
    Difference,
    Remembering,
    first_value,
    of_events,
    of_states,
    of_what_is_seen,
)
from shstk.proof.forking import Fork, Stop, covered, endings
from shstk.proof.ground import Place
from shstk.proof.heap import Heap
from shstk.proof.induction import enabled_steps
from shstk.proof.instances import instantiate
from shstk.proof.invariants import Invariant
from shstk.proof.paths import task_at
from shstk.proof.problem import Problems
from shstk.proof.sorts import functions, unbounded
from shstk.proof.terms import SymbolicCond
from shstk.proof.world import SymbolicWorld

RLIMIT = 5_000_000  # z3 resource units for one path


@dataclass(frozen=True)
class Comparison:
    """What was proved: ``differs`` names a step and why it is not proved to do the same; empty:
    the two are equivalent.  ``unread``: what they differ in nevertheless, in words; ``blind``:
    in a number, too, where the model does not look at numbers.
    """

    steps: tuple[str, ...]
    paths: int
    differs: str = ""
    unread: tuple[str, ...] = ()
    blind: bool = False

    def __bool__(self) -> bool:
        return not self.differs


@dataclass
class _Run:
    """One text on a path: how it ended, and its world then."""

    world: Remembering
    status: str


class Equivalence:
    """Compares changed designs with one whose invariant is proved: ``kept``."""

    def __init__(self, design: Design, kept: Sequence[Invariant]) -> None:
        self.design = design
        self.universe = unbounded()
        self.problems = Problems(self.universe, design, kept)
        self.base = Heap(functions(self.universe))
        self.current = task_at(self.universe)

    def compare(
        self, other: Design, hooks: frozenset[str], environment: str = "ordinary"
    ) -> Comparison:
        """Are two designs that differ in what these hooks run equivalent in an environment?"""
        steps = [s for s in enabled_steps(families_in(environment)) if hooks_of(s) & hooks]
        if "enabled" in hooks:
            why = self._enabled(other)
            if why:
                return Comparison(tuple(s.name for s in steps), 0, why)
        return self._steps(other, steps, None)

    def compare_alike(
        self, other: Design, hooks: frozenset[str], environment: str = "ordinary"
    ) -> Comparison:
        """The same, but what they note need not be the same where nothing reads it.

        All steps are compared: what differs may have been noted in any of those before.
        """
        every = enabled_steps(families_in(environment))
        changed = [s for s in every if hooks_of(s) & hooks]
        seen = self.differing(other, changed)
        excused = excusable(seen)
        if excused is None:
            return Comparison((), 0, "the state after it differs in what is read")
        rules, words = excused
        found = self._steps(other, every, Alike(self.universe, self.design, rules))
        if found:
            return replace(found, unread=words)
        if all(f.store is None for f in seen):
            return found
        found = self._steps(other, every, Alike(self.universe, self.design, rules, numbers=True))
        return replace(found, unread=(NUMBERS,), blind=True) if found else found

    def differing(self, other: Design, steps: Sequence[Step]) -> set[Field[Any]]:
        """The variables that steps of two designs may leave different, from the same state."""
        out: set[Field[Any]] = set()
        for step in steps:
            for _, first, second in self._product(other, step, None):
                if (first.status, second.status) != ("done", "done"):
                    continue
                path = _path(first, second)
                for f, term in of_states(
                    self.universe, first.world.heap, second.world.heap
                ).items():
                    if f not in out and not self._excluded(step.name, path, Difference("", [term])):
                        out.add(f)
        return out

    def _steps(self, other: Design, steps: Sequence[Step], alike: Alike | None) -> Comparison:
        names = tuple(s.name for s in steps)
        paths = 0
        for step in steps:
            conditions = []
            for fork, first, second in self._product(other, step, alike):
                paths += 1
                conditions.append(fork.condition)
                path = _path(first, second)
                for difference in self._differences(first, second, alike):
                    if difference and not self._excluded(step.name, path, difference):
                        return Comparison(names, paths, f"{step.name}: {difference.why}")
            if not _unsat([z3.Not(covered(conditions))]):
                return Comparison(names, paths, f"{step.name}: the paths are not known to be all")
        return Comparison(names, paths)

    # -- both texts on one path --------------------------------------------------------
    def _product(
        self, other: Design, step: Step, alike: Alike | None
    ) -> Iterator[tuple[Fork, _Run, _Run]]:
        theirs = alike.other(self.base) if alike else self.base

        sides = ("original", "mutant") if alike else ("", "")

        def text(fork: Fork) -> tuple[_Run, _Run]:
            first = self._run(fork, self.design, step, self.base, sides[0])
            return first, self._run(fork, other, step, theirs, sides[1])

        for ending in endings(text):
            assert ending.result is not None, "what stops a text is caught"
            yield ending.fork, *ending.result

    def _run(self, fork: Fork, design: Design, step: Step, heap: Heap, side: str) -> _Run:
        k = Remembering(self.universe, design, fork, heap, self.current, side=side)
        try:
            k.require(k.cond(self.universe.is_object(Sort.TASK, self.current)))
            k.require(k.current.ctl.isin(step.at))
            step.run(cast(Any, k))
        except Stop as stop:
            return _Run(k, stop.status)
        return _Run(k, "done")

    # -- where they differ ---------------------------------------------------------------
    def _differences(self, first: _Run, second: _Run, alike: Alike | None) -> Iterator[Difference]:
        """All that has to be impossible for the two to be the same."""
        if first.status != second.status:
            able, other = (first, second) if first.status == "done" else (second, first)
            which = "only the original" if able is first else "only the mutant"
            # What only the other asks for it can choose as it likes, such as the first value.
            asked = {i.term.get_id() for i in able.world.inputs}
            own = [i for i in other.world.inputs if i.term.get_id() not in asked]
            usual = [i.term == first_value(i) for i in own if i.values]
            yield Difference(f"{which} can take it", [z3.And(*usual)])
            return
        if first.status != "done":
            return
        one, two = first.world, second.world
        states = "the state after it differs"
        if alike:
            yield Difference(states, alike.differences(one.heap, two.heap))
            yield of_what_is_seen(one, _seen(one), _seen(two))
        else:
            yield Difference(states, [*of_states(self.universe, one.heap, two.heap).values()])
            yield of_events(self.universe, one, two)
        # What the original writes through is an object: that is part of its proof.
        known = [real for _, real in one.dereferenced]
        new = [real for _, real in two.dereferenced if not any(real.eq(k) for k in known)]
        yield Difference("it writes through NULL", [z3.Not(real) for real in new])

    def _enabled(self, other: Design) -> str:
        """What properties ask of a task's features has the same answer."""
        k = SymbolicWorld(self.universe, self.design, Fork(prune=False), self.base, self.current)
        task = k.current
        out = Difference("enabled: differs for some task")
        out.compare(k, self.design.enabled(task), other.enabled(task))
        there = k.cond(self.universe.is_object(Sort.TASK, self.current))
        same = self._excluded("enabled", [cast(SymbolicCond, there)], out)
        return "" if not out or same else out.why

    # -- asking --------------------------------------------------------------------------
    def _excluded(self, name: str, path: Sequence[SymbolicCond], difference: Difference) -> bool:
        """The path, the difference and the invariant exclude each other."""
        grounder = self.problems.grounder
        premises: list[Any] = list(self.universe.axioms)
        universals = list(self.problems.universals)
        places: dict[tuple[int, ...], Place] = {}
        wrong: list[Any] = []
        assumed = [*((c, premises) for c in path), *((c, wrong) for c in difference.trees)]
        for condition, into in assumed:
            made = grounder.assumed(name, condition)
            into.append(made.formula)
            universals += made.universals
            places.update((tuple(t.get_id() for t in p), p) for p in made.places)
        wrong += difference.terms
        goal = z3.Or(*wrong)
        where = [*grounder.places(goal), (self.current,)]
        places.update((tuple(t.get_id() for t in p), p) for p in where)
        if _unsat([*premises, goal]):
            return True
        premises += [i.formula for _, i in instantiate(grounder, universals, list(places.values()))]
        return _unsat([*premises, goal])


def _path(first: _Run, second: _Run) -> list[SymbolicCond]:
    """What is decided on the path of two runs, and what is granted there."""
    return [*second.world.path, *first.world.granted, *second.world.granted]


def _seen(world: Remembering) -> list[dict[str, object]]:
    return [observed(e) for e in world.events if not isinstance(e, IN_THE_STATE)]


def _unsat(terms: Sequence[Any]) -> bool:
    solver = z3.SimpleSolver()
    solver.set("rlimit", RLIMIT)
    solver.add(*terms)
    return bool(solver.check() == z3.unsat)


# -- which steps run which hooks -----------------------------------------------------------
def hooks_of(step: Step) -> frozenset[str]:
    """The hooks that a step may call, by the names in its text: never too few."""
    found: set[str] = set()
    seen: set[Callable[..., Any]] = set()
    todo: list[FunctionType] = [cast(FunctionType, step.run)]
    while todo:
        function = todo.pop()
        if function in seen:
            continue
        seen.add(function)
        names = set(_names(function.__code__))
        found |= names & HOOKS.keys()
        for name in names:
            called = function.__globals__.get(name)
            if isinstance(called, FunctionType) and called.__module__.startswith("model."):
                todo.append(called)
    return frozenset(found)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
