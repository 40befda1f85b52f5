"""Bounded universes for a SAT solver: what is true there as bits, and models read back.

A state is a constant for each cell of a ``Space``; a member of an enumeration is its number.
Quantifiers are expanded and applications are cases, so nothing but bits is left: what a
solver finds is a state, a step and choices that the finite world can be given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Any, cast

import z3

from model.designs import Design
from model.events import Allocated
from model.kernel import Step
from model.state import Field, Sort, fields
from shstk.proof.bits import Bits, is_enumeration, number, width
from shstk.proof.heap import Heap
from shstk.proof.invariants import Invariant
from shstk.proof.paths import Path, step_paths, task_at
from shstk.proof.sorts import INDEX, bounded, encode, functions, range_of
from shstk.proof.terms import BITS, Word
from shstk.proof.world import Input
from shstk.space import Bound, Space, Valuation

RLIMIT = 100_000_000  # z3 resource units for one question


# -- states ----------------------------------------------------------------------
class Ground:
    """A bounded universe whose state is a constant for each cell.

    What a claim reads through NULL is the initial value: the finite world does not follow
    NULL, so no answer depends on it that the finite world has.
    """

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.space = Space(bound)
        self.universe = bounded(bound)
        self.functions = functions(self.universe)
        self.bits = Bits()
        self._cells = [z3.Const(c.name, range_of(self.universe, c.field)) for c in self.space.cells]
        self.cells = [self.bits.of(c) for c in self._cells]
        self.current = self.bits.of(task_at(self.universe))
        self._codes = [self._code_table(c.field, c.domain) for c in self.space.cells]
        self._cases = [(g, self._case(f)) for f, g in self.functions.items()]

    def _code_table(self, field: Field[Any], domain: Sequence[object]) -> list[int]:
        """For each member of a cell's domain what stands for it in bits."""
        terms = [self.bits.of(encode(self.universe, field, v)) for v in domain]
        return [int(z3.is_true(t)) if z3.is_bool(t) else int(t.as_long()) for t in terms]

    def _case(self, field: Field[Any]) -> Any:
        """A variable as a function's body: which cell, by the index."""
        sorts = next(index for record, index in INDEX.items() if field in fields(record))
        at = [z3.Var(n, self.universe.sorts[s]) for n, s in enumerate(sorts)]
        body = encode(self.universe, field, field.values[0])
        for cell, constant in zip(self.space.cells, self._cells, strict=True):
            if cell.field is field:
                members = self._index(sorts, cell.index)
                here = z3.And(*(a == m for a, m in zip(at, members, strict=True)))
                body = z3.If(here, constant, body)
        return body

    def _index(self, sorts: Sequence[Sort], index: Sequence[int]) -> tuple[Any, ...]:
        elements = self.universe.elements
        assert elements is not None
        return tuple(elements[s][n] for s, n in zip(sorts, index, strict=True))

    def term(self, term: Any) -> Any:
        """A term about the state, in bits over its cells."""
        return self.bits.of(z3.simplify(z3.substitute_funs(term, *self._cases)))

    def claim(self, invariant: Invariant, design: Design) -> Any:
        """An invariant about all objects, in bits over the cells."""
        return self.term(invariant.formula(self.universe, design, Heap(self.functions)))

    def updates(self, heap: Heap) -> dict[int, Any]:
        """What each cell that changes holds afterwards."""
        out = {}
        for at, cell in enumerate(self.space.cells):
            if cell.field in heap.touched:
                new = self.term(heap.read(cell.field, self._index(INDEX[cell.record], cell.index)))
                if not new.eq(self.cells[at]):
                    out[at] = new
        return out

    @property
    def typed(self) -> list[Any]:
        """That every cell holds a member of its domain (any number, where it is one)."""
        return [
            z3.Or(*(constant == value for value in codes))
            for cell, constant, codes in zip(self.space.cells, self.cells, self._codes, strict=True)
            if cell.field.store is None and not z3.is_bool(constant)
        ]

    def initially(self, cell: int) -> Any:
        """That a cell has its field's initial value."""
        return _equals(self.cells[cell], self._codes[cell][0])

    def holds(self, valuation: Valuation, cells: Sequence[Any] | None = None) -> list[Any]:
        """That the state is this one."""
        return [
            _equals(constant, codes[index])
            for constant, codes, index in zip(
                cells or self.cells, self._codes, valuation, strict=True
            )
        ]

    def valuation(self, model: Any, cells: Sequence[Any] | None = None) -> Valuation:
        """The state in a model; ValueError where a cell has no such value."""
        values = []
        for cell, codes, constant in zip(
            self.space.cells, self._codes, cells or self.cells, strict=True
        ):
            value = number(model, constant)
            if cell.field.store is not None:
                values.append(cell.domain.index(cell.field.store(value)))
            else:
                values.append(codes.index(value))
        return tuple(values)


def _equals(constant: Any, value: int) -> Any:
    if z3.is_bool(constant):
        return constant if value else z3.Not(constant)
    return constant == value


@cache
def ground(bound: Bound) -> Ground:
    """The universe of a bound; terms of two of them do not mix."""
    return Ground(bound)


# -- steps -----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Way:
    """A path of a step over the cells: when it is taken, what it needs, what it changes."""

    path: Path
    ground: Ground
    condition: Any
    needs: Any
    updates: dict[int, Any]

    @property
    def step(self) -> Step:
        """The step it is a path of."""
        return self.path.step

    @property
    def inputs(self) -> list[tuple[Input, Any]]:
        """Its choices, with their constants."""
        return [(i, self.ground.bits.of(i.term)) for i in self.path.world.inputs]

    @property
    def sizes(self) -> list[Any]:
        """How big the shadow stacks are that it maps, in bytes."""
        events = self.path.world.events
        return [cast(Word, e.size).term for e in events if isinstance(e, Allocated)]

    @property
    def typed(self) -> list[Any]:
        """That a task takes it, with choices that there are."""
        last = self.ground.bound.tasks + 1
        task = z3.And(z3.UGE(self.ground.current, 2), z3.ULE(self.ground.current, last))
        return [task, *(typed_input(choice, term) for choice, term in self.inputs)]

    def event_claims(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """What the claims with these names say of its events."""
        for event in self.path.events:
            if event.name in names:
                yield event.name, self.ground.term(event.holds.term)

    def after(self, term: Any) -> Any:
        """What a claim about the state says of the state after it."""
        changed = [(self.ground.cells[at], new) for at, new in self.updates.items()]
        return z3.substitute(term, *changed) if changed else term

    def picks(self, model: Any, rename: Callable[[Any], Any] = lambda t: t) -> dict[str, object]:
        """The choices of a model, as values of the text."""
        return {i.name: chosen(i, number(model, rename(term))) for i, term in self.inputs}


def chosen(choice: Input, value: int) -> object:
    """What the bits of a choice stand for."""
    if choice.sort is not None:
        specials = 2 if choice.sort is Sort.TASK else 1  # NULL, and LEFT, come before the objects
        return value - specials
    if z3.is_bool(choice.term):
        return bool(value)
    if is_enumeration(choice.term.sort()):
        return list(type(choice.values[0]))[value] if isinstance(choice.values[0], Enum) else value
    return choice.values[value] if choice.term.size() == 8 else value


def is_number(choice: Input) -> bool:
    """A choice of a 64-bit number, or of a flag; not of an object or a word."""
    return bool(z3.is_bool(choice.term) or choice.term.sort() == z3.BitVecSort(BITS))


def usual(choice: Input, term: Any) -> Any:
    """That a flag is off, or a number the first of its samples."""
    if z3.is_bool(term):
        return z3.Not(term)
    return term == choice.values[0] if is_number(choice) else z3.BoolVal(True)


def typed_input(choice: Input, term: Any) -> Any:
    """That a choice is one of those that there are."""
    sort = choice.term.sort()
    if not is_enumeration(sort) or sort.num_constructors() == 1 << width(sort):
        return z3.BoolVal(True)
    return z3.ULT(term, sort.num_constructors())


@lru_cache(maxsize=1024)
def step_ways(
    where: Ground, design: Design, step: Step, switched_off: frozenset[str]
) -> tuple[Way, ...]:
    """The paths of a step that can be gone, over the cells."""
    out = []
    for path in step_paths(where.universe, design, step, switched_off):
        condition = where.term(path.condition) if path.status == "done" else z3.BoolVal(False)
        if not z3.is_false(condition):
            needs = where.term(z3.And(*(real for _, real in path.needs)))
            out.append(Way(path, where, condition, needs, where.updates(path.world.heap)))
    return tuple(out)


# -- asking ----------------------------------------------------------------------
class Unknown(Exception):
    """The solver does not know; ``interrupted``: because somebody wants it to stop."""

    def __init__(self, reason: str, interrupted: bool) -> None:
        super().__init__(reason)
        self.interrupted = interrupted


class Asked:
    """A solver for bits, and the model it found last."""

    def __init__(self, rlimit: int | None = None) -> None:
        self.solver = z3.SolverFor("QF_FD")
        self.rlimit = rlimit or RLIMIT
        self.solver.set("rlimit", self.rlimit)
        self.model: Any = None
        self._count = 0

    def add(self, *terms: Any) -> None:
        """From now on this is so."""
        self.solver.add(*terms)

    def possible(self, term: Any) -> bool:
        """Can it be so?  Unknown is raised where the solver gives up."""
        self._count += 1
        asked = z3.Bool(f"asked.{self._count}")
        self.solver.add(asked == term)
        before = self._units()
        answer = self.solver.check(asked)
        if answer == z3.unknown:
            raise self._unknown(self._units() - before)
        if answer == z3.sat:
            self.model = self.solver.model()
        return bool(answer == z3.sat)

    def _units(self) -> int:
        return sum(int(v) for name, v in self.solver.statistics() if name == "rlimit count")

    def _unknown(self, used: int) -> Unknown:
        """What the solver says of itself differs with the place where it stopped."""
        if used >= self.rlimit:
            return Unknown(f"the budget of {self.rlimit} resource units is spent", False)
        said = self.solver.reason_unknown().split("\n")[0]
        return Unknown(said, "keyboard" in said or "cancel" in said)

    def prefer(self, term: Any) -> bool:
        """Have it so from now on if it can be; there is a model already."""
        if not z3.is_true(self.model.eval(term, model_completion=True)):
            try:
                if not self.possible(term):
                    return False
            except Unknown as unknown:
                if unknown.interrupted:
                    raise
                return False
        self.solver.add(term)
        return True

    def smallest(self, term: Any) -> None:
        """Have a bit vector as small as it can be."""
        for bit in reversed(range(term.size())):
            self.prefer(z3.Extract(bit, bit, term) == 0)

    def plain(self, choice: Input, term: Any) -> None:
        """Have a choice as usual if it can be; what is no flag small, where that says nothing."""
        done = self.prefer(usual(choice, term)) and is_number(choice)
        if not done and not z3.is_bool(term):
            self.smallest(term)
