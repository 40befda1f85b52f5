"""What is not the same in two runs of a step, as conditions for a solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

import z3

from model.events import Event
from model.state import Field, Record, Sort, Task, fields
from model.world import Cond
from properties import EventConjunct
from properties.vocabulary import Claim
from shstk.build import CLAIMS
from shstk.proof.heap import Heap
from shstk.proof.sorts import INDEX, Universe, enumeration
from shstk.proof.terms import BITS, SymbolicCond, Tree, Value, Word
from shstk.proof.world import Input, SymbolicWorld


class Remembering(SymbolicWorld):
    """Choices are told apart by name and by how often it was asked for; events keep the state.

    ``side``: whose choice a task is that has only to satisfy a predicate; empty: the same task
    is chosen by both.
    """

    def __init__(self, *arguments: Any, side: str = "") -> None:
        super().__init__(*arguments)
        self.moments: list[Heap] = []
        self.side = side

    def _input(self, name: str, sort: Any, values: tuple[object, ...], of: Sort | None) -> Any:
        self._act("a choice")
        count = sum(i.name == name for i in self.inputs)
        term = z3.Const(f"{name.replace(' ', '-')}!{count}", sort)
        self.inputs.append(Input(name, term, values, of))
        return term

    def some_task(self, predicate: Callable[[Task], Cond]) -> Task:
        if not self.side:
            return super().some_task(predicate)
        # There is one, and it may be any: so whatever is said of it is said of all choices.
        self.require(self._exists(Sort.TASK, predicate))
        term = z3.Const(f"{self.side}.{len(self.granted)}", self.universe.sorts[Sort.TASK])
        found = cast(Task, self.handle(Sort.TASK, term))
        there = self.cond(self.universe.is_object(Sort.TASK, term))
        self.granted.append(self.tree(there & predicate(found)))
        return found

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
class Difference:
    """Conditions each of which is a difference; ``why`` in words."""

    why: str
    terms: list[Any] = field(default_factory=list)
    trees: list[SymbolicCond] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.terms or self.trees)

    def certain(self) -> None:
        """There is a difference, whatever the state and the choices."""
        self.terms.append(z3.BoolVal(True))

    def unequal(self, a: Any, b: Any) -> None:
        """Two terms that should be the same."""
        if not a.eq(b):
            self.terms.append(a != b)

    def compare(self, k: SymbolicWorld, one: Any, two: Any) -> None:
        """Two values of an event, or two answers."""
        if isinstance(one, Record) and isinstance(two, Record):
            for a, b in zip(k.index(one), k.index(two), strict=True):
                self.unequal(a, b)
        elif isinstance(one, (Value, Word)) and isinstance(two, (Value, Word)):
            self.unequal(one.term, two.term)
        elif isinstance(one, (Cond, bool)) and isinstance(two, (Cond, bool)):
            self._conditions(k.tree(one), k.tree(two))
        elif isinstance(one, (Enum, str, int, type)) and isinstance(two, (Enum, str, int, type)):
            if one != two:
                self.certain()
        else:  # a constant beside a term: a word, or a reference
            term, constant = (one, two) if hasattr(one, "term") else (two, one)
            self.terms.append((term != constant).term)

    def _conditions(self, a: SymbolicCond, b: SymbolicCond) -> None:
        if a.term.eq(b.term):
            return
        differ = (a & ~b) | (~a & b)
        if isinstance(differ, Tree):
            self.trees.append(differ)
        else:
            self.terms.append(cast(SymbolicCond, differ).term)


def of_states(universe: Universe, one: Heap, two: Heap) -> dict[Field[Any], Any]:
    """Where two states may differ, by variable, at an object of which nothing is known."""
    out = {}
    for record in INDEX:
        at = somewhere(universe, record)
        for f in fields(record):
            if f in one.touched | two.touched:
                here, there = one.read(f, at), two.read(f, at)
                differs = z3.simplify(here != there)
                if not here.eq(there) and not z3.is_false(differs):
                    out[f] = differs
    return out


def somewhere(universe: Universe, record: type[Record]) -> tuple[Any, ...]:
    """An object of which nothing is known, as the index of a record."""
    name = record.__name__.lower()
    return tuple(z3.Const(f"some.{name}.{s.value}", universe.sorts[s]) for s in INDEX[record])


def of_events(universe: Universe, one: Remembering, two: Remembering) -> Difference:
    """What happened in two runs, down to what properties say of it."""
    out = Difference("what happens in it differs")
    if [type(e) for e in one.events] != [type(e) for e in two.events]:
        out.certain()
        return out
    for n, (here, there) in enumerate(zip(one.events, two.events, strict=True)):
        for f in dataclasses.fields(here):
            out.compare(one, getattr(here, f.name), getattr(there, f.name))
        if of_states(universe, one.moments[n], two.moments[n]):
            _claims(out, (one, two), n)
    return out


def of_what_is_seen(
    k: SymbolicWorld, one: Sequence[Mapping[str, object]], two: Sequence[Mapping[str, object]]
) -> Difference:
    """What others can see of the events of two runs (``shstk.observed``)."""
    out = Difference("what can be seen of it differs")
    if [(e["event"], e.keys()) for e in one] != [(e["event"], e.keys()) for e in two]:
        out.certain()
        return out
    for here, there in zip(one, two, strict=True):
        for name, value in here.items():
            out.compare(k, value, there[name])
    return out


def _claims(out: Difference, worlds: tuple[Remembering, Remembering], number: int) -> None:
    """Where the moments of an event are not the same: what claims about events say there is."""
    for part in CLAIMS:
        c = part.conjunct
        if isinstance(c, EventConjunct) and isinstance(worlds[0].events[number], c.event):
            for claim in (c.holds, c.premise):
                out.compare(worlds[0], *(w.said(claim, number) for w in worlds))


def first_value(chosen: Input) -> Any:
    """The first value of a choice, as the symbolic world has it."""
    value = chosen.values[0]
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, Enum):
        return enumeration(type(value))[1][value]
    words = chosen.term.sort().size()
    return z3.BitVecVal(value if words == BITS else 0, words)
