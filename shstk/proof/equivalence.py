"""That a changed design does the same, step by step: proved for any number of tasks.

Both texts of a step are run one after the other in the symbolic world, from the same state,
with the same choices, on one path: its conditions are those that either asks for.  Where the
two end differently, that path must contradict the invariant that is proved of the first.
Then, by induction, the two have the same runs, and the same events happen in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import CodeType, FunctionType
from typing import Any, cast

import z3

from model.designs import Design
from model.events import Event
from model.kernel import Step
from model.state import Record, Sort, fields
from model.world import Cond
from properties import EventConjunct
from properties.vocabulary import Claim
from shstk.build import CLAIMS
from shstk.loader import HOOKS
from shstk.plan import families_in
from shstk.proof.forking import Fork, Stop, covered, endings
from shstk.proof.ground import Place, instantiate
from shstk.proof.heap import Heap
from shstk.proof.induction import enabled_steps
from shstk.proof.invariants import Invariant
from shstk.proof.paths import task_at
from shstk.proof.problem import Problems
from shstk.proof.sorts import INDEX, enumeration, functions, unbounded
from shstk.proof.terms import BITS, SymbolicCond, Tree, Value, Word
from shstk.proof.world import Input, SymbolicWorld

RLIMIT = 5_000_000  # z3 resource units for one path


@dataclass(frozen=True)
class Comparison:
    """What was proved: ``differs`` names a step and why it is not proved to do the same; empty:
    the two are equivalent."""

    steps: tuple[str, ...]
    paths: int
    differs: str = ""

    def __bool__(self) -> bool:
        return not self.differs


class _World(SymbolicWorld):
    """Choices are told apart by name and by how often it was asked for; events keep the state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.moments: list[Heap] = []

    def _input(self, name: str, sort: Any, values: tuple[object, ...], of: Sort | None) -> Any:
        self._act("a choice")
        count = sum(i.name == name for i in self.inputs)
        term = z3.Const(f"{name.replace(' ', '-')}!{count}", sort)
        self.inputs.append(Input(name, term, values, of))
        return term

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.moments.append(self.heap.copy())

    def said(self, claim: Claim, number: int) -> SymbolicCond:
        """What a claim says of an event at its moment."""
        now, self.heap = self.heap, self.moments[number]
        try:
            return self.formula(lambda: claim(cast(Any, self), self.events[number]))
        finally:
            self.heap = now


@dataclass
class _Run:
    """One text on a path: how it ended, and its world then."""

    world: _World
    status: str


@dataclass
class _Difference:
    """Conditions each of which is a difference; ``why`` in words."""

    why: str
    terms: list[Any] = field(default_factory=list)
    trees: list[SymbolicCond] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.terms or self.trees)


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
        paths = 0
        names = tuple(s.name for s in steps)
        if "enabled" in hooks:
            why = self._enabled(other)
            if why:
                return Comparison(names, paths, why)
        for step in steps:
            conditions = []
            for fork, first, second in self._product(other, step):
                paths += 1
                conditions.append(fork.condition)
                for difference in self._differences(first, second):
                    if difference and not self._excluded(step.name, second.world.path, difference):
                        return Comparison(names, paths, f"{step.name}: {difference.why}")
            if not _unsat([z3.Not(covered(conditions))]):
                return Comparison(names, paths, f"{step.name}: the paths are not known to be all")
        return Comparison(names, paths)

    # -- both texts on one path --------------------------------------------------------
    def _product(self, other: Design, step: Step) -> Iterator[tuple[Fork, _Run, _Run]]:
        def text(fork: Fork) -> tuple[_Run, _Run]:
            return self._run(fork, self.design, step), self._run(fork, other, step)

        for ending in endings(text):
            assert ending.result is not None, "what stops a text is caught"
            yield ending.fork, *ending.result

    def _run(self, fork: Fork, design: Design, step: Step) -> _Run:
        k = _World(self.universe, design, fork, self.base, self.current)
        try:
            k.require(k.cond(self.universe.is_object(Sort.TASK, self.current)))
            k.require(k.current.ctl.isin(step.at))
            step.run(cast(Any, k))
        except Stop as stop:
            return _Run(k, stop.status)
        return _Run(k, "done")

    # -- where they differ ---------------------------------------------------------------
    def _differences(self, first: _Run, second: _Run) -> Iterator[_Difference]:
        """All that has to be impossible for the two to be the same."""
        if first.status != second.status:
            able, other = (first, second) if first.status == "done" else (second, first)
            which = "only the original" if able is first else "only the mutant"
            # What only the other asks for it can choose as it likes, such as the first value.
            asked = {i.term.get_id() for i in able.world.inputs}
            own = [i for i in other.world.inputs if i.term.get_id() not in asked]
            usual = [i.term == _first(i) for i in own if i.values]
            yield _Difference(f"{which} can take it", [z3.And(*usual)])
            return
        if first.status != "done":
            return
        one, two = first.world, second.world
        yield _Difference("the state after it differs", self._heaps(one.heap, two.heap))
        out = _Difference("what happens in it differs")
        if [type(e) for e in one.events] != [type(e) for e in two.events]:
            out.terms.append(z3.BoolVal(True))
        else:
            for n, (here, there) in enumerate(zip(one.events, two.events, strict=True)):
                for f in dataclasses.fields(here):
                    _compared(out, one, getattr(here, f.name), getattr(there, f.name))
                if self._heaps(one.moments[n], two.moments[n]):
                    _claims(out, (one, two), n)
        yield out
        # What the original writes through is an object: that is part of its proof.
        known = [real for _, real in one.dereferenced]
        new = [real for _, real in two.dereferenced if not any(real.eq(k) for k in known)]
        yield _Difference("it writes through NULL", [z3.Not(real) for real in new])

    def _heaps(self, one: Heap, two: Heap) -> list[Any]:
        """A difference between two states, at an object of which nothing is known."""
        out = []
        for record, sorts in INDEX.items():
            at = self._somewhere(record, sorts)
            for f in fields(record):
                if f in one.touched | two.touched:
                    here, there = one.read(f, at), two.read(f, at)
                    if not here.eq(there):
                        out.append(here != there)
        return [t for t in map(z3.simplify, out) if not z3.is_false(t)]

    def _somewhere(self, record: type[Record], sorts: Sequence[Sort]) -> tuple[Any, ...]:
        name = record.__name__.lower()
        return tuple(z3.Const(f"some.{name}.{s.value}", self.universe.sorts[s]) for s in sorts)

    def _enabled(self, other: Design) -> str:
        """What properties ask of a task's features has the same answer."""
        k = _World(self.universe, self.design, Fork(prune=False), self.base, self.current)
        task = k.current
        out = _Difference("enabled: differs for some task")
        _compared(out, k, self.design.enabled(task), other.enabled(task))
        there = k.cond(self.universe.is_object(Sort.TASK, self.current))
        same = self._excluded("enabled", [cast(SymbolicCond, there)], out)
        return "" if not out or same else out.why

    # -- asking --------------------------------------------------------------------------
    def _excluded(self, name: str, path: Sequence[SymbolicCond], difference: _Difference) -> bool:
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


def _compared(out: _Difference, k: SymbolicWorld, one: Any, two: Any) -> None:
    """Add to ``out`` the condition that two values of an event differ."""
    if isinstance(one, Record) and isinstance(two, Record):
        for a, b in zip(k.index(one), k.index(two), strict=True):
            _different(out, a, b)
    elif isinstance(one, (Value, Word)) and isinstance(two, (Value, Word)):
        _different(out, one.term, two.term)
    elif isinstance(one, (Cond, bool)) and isinstance(two, (Cond, bool)):
        a, b = k.tree(one), k.tree(two)
        if not a.term.eq(b.term):
            differ = (a & ~b) | (~a & b)
            (out.trees if isinstance(differ, Tree) else out.terms).append(
                differ if isinstance(differ, Tree) else cast(SymbolicCond, differ).term
            )
    elif isinstance(one, (Enum, str, int)) and isinstance(two, (Enum, str, int)):
        if one != two:
            out.terms.append(z3.BoolVal(True))
    else:  # a constant beside a term: a word, or a reference
        term, constant = (one, two) if hasattr(one, "term") else (two, one)
        out.terms.append((term != constant).term)


def _first(chosen: Input) -> Any:
    """The first value of a choice, as the symbolic world has it."""
    value = chosen.values[0]
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, Enum):
        return enumeration(type(value))[1][value]
    words = chosen.term.sort().size()
    return z3.BitVecVal(value if words == BITS else 0, words)


def _claims(out: _Difference, worlds: tuple[_World, _World], number: int) -> None:
    """Where the moments of an event are not the same: what claims about events say there is."""
    for part in CLAIMS:
        c = part.conjunct
        if isinstance(c, EventConjunct) and isinstance(worlds[0].events[number], c.event):
            for claim in (c.holds, c.premise):
                _compared(out, worlds[0], *(w.said(claim, number) for w in worlds))


def _different(out: _Difference, a: Any, b: Any) -> None:
    if not a.eq(b):
        out.terms.append(a != b)


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
