"""The symbolic world: the text over any number of tasks, groups, mms and addresses.

``exists`` is an existential quantifier; where the text branches on it, one path has a
witness and the other a universal.  An input is a free constant.  Sizes have 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, cast

import z3

from model.designs import Design
from model.events import Event
from model.state import (
    LEFT,
    RECORD_OF,
    Addr,
    Field,
    Kind,
    Mapping,
    Mm,
    Record,
    Sort,
    Special,
    Task,
    fields,
)
from model.world import Cond, KindTable, Term, copied_kind, copied_owner
from shstk.identities import Identities
from shstk.proof import lowlevel
from shstk.proof.forking import Decision, Fork, Stop, endings
from shstk.proof.heap import Heap
from shstk.proof.sorts import Universe, encode, enumeration, range_of
from shstk.proof.terms import SymbolicCond, Tree, Value, Word, as_bool


@dataclass(frozen=True)
class Input:
    """An arbitrary choice of a run: its name in traces, its constant, the values it can have."""

    name: str
    term: Any
    values: tuple[object, ...] = ()
    sort: Sort | None = None


class SymbolicWorld(Identities):
    """One run of a text.  ``heap`` is the state now, ``old`` the state before the step."""

    def __init__(
        self,
        universe: Universe,
        design: Design,
        fork: Fork,
        heap: Heap,
        current: Any = None,
        switched_off: frozenset[str] = frozenset(),
        tag: str = "",
    ) -> None:
        self.universe = universe
        self.design = design
        self.fork = fork
        self.old = heap
        self.heap = heap.copy()
        self.switched_off = switched_off
        self.tag = tag
        self.inputs: list[Input] = []
        self.events: list[Event] = []
        self.dereferenced: list[tuple[str, z3.BoolRef]] = []
        self.granted: list[SymbolicCond] = []  # conditions on births, which can always be met
        self._current = current
        self.watch: Callable[[SymbolicWorld, Event], None] | None = None
        self._asking = False  # a predicate of an exists is being evaluated

    # -- values ------------------------------------------------------------------
    def decide(self, condition: z3.BoolRef, shape: Tree | None = None) -> bool:
        """The truth of a condition on this path, which keeps one with quantifiers as written."""
        self._act("an if, and, or, not")
        return self.fork.decide(condition, shape)

    def _act(self, what: str) -> None:
        """A predicate is asked of many objects, and later again: it only reads and combines."""
        if self._asking:
            raise TypeError(f"{what} in a predicate of exists: it reads, and combines with & | ~")

    def cond(self, term: z3.BoolRef) -> Cond:
        """A condition of this run."""
        return SymbolicCond(term, self.decide)

    def handle(self, sort: Sort, term: Any, world: Any = None) -> Any:
        """An object, or NULL."""
        value = Value(term, self.decide, partial(self.universe.encode, sort))
        return RECORD_OF[sort](world or cast(Any, self), value)

    @property
    def current(self) -> Task:
        return cast(Task, self.handle(Sort.TASK, self._current))

    def _coded(self, field: Field[Any], value: object) -> Any:
        if isinstance(value, Record):
            value = value.index[0]
        if isinstance(value, (Value, Word)):
            return value.term
        if isinstance(value, SymbolicCond):
            return value.term
        return encode(self.universe, field, value)

    def _wrapped(self, field: Field[Any], term: Any, world: Any = None) -> Any:
        if field.sort is not None:
            return self.handle(field.sort, term, world)
        if field.store is not None:
            return Word(term, self.decide)
        return Value(term, self.decide, partial(encode, self.universe, field))

    # -- state -------------------------------------------------------------------
    @staticmethod
    def index(record: Record) -> tuple[Any, ...]:
        """The terms that say which object a record is."""
        return tuple(cast(Value, t).term for t in record.index)

    def read(self, record: Record, field: Field[Any]) -> object:
        return self._wrapped(field, self.heap.read(field, self.index(record)))

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""
        return type(record)(cast(Any, _Before(self)), *record.index)

    def write(self, record: Record, field: Field[Any], value: object) -> None:
        self._act("a write")
        self._object(record, field)
        term = self._coded(field, value)
        if not lowlevel.same(term.sort(), range_of(self.universe, field)):
            raise TypeError(f"{field.name} is set to a {term.sort()}, which it cannot be")
        self.heap.write(field, self.index(record), term)

    def _object(self, record: Record, field: Field[Any]) -> None:
        """What is written through must be an object: an obligation of the path."""
        sorts = (Sort.MM, Sort.ADDR) if isinstance(record, Mapping) else (record.sort,)
        for sort, term in zip(sorts, self.index(record), strict=True):
            assert sort is not None
            self._needed(f"{type(record).__name__}.{field.name}", sort, term)

    def _address_space(self, mm: Any, what: str) -> None:
        """Nor is a whole mm changed through NULL."""
        self._needed(f"Mm.{what}", Sort.MM, mm)

    def _needed(self, what: str, sort: Sort, term: Any) -> None:
        real = lowlevel.simplified(self.universe.is_object(sort, term))
        if lowlevel.value(real) is not True:
            if not any(lowlevel.same(real, known) for _, known in self.dereferenced):
                self.dereferenced.append((what, real))

    # -- quantifiers -------------------------------------------------------------
    def _exists(self, sort: Sort, predicate: Callable[[Any], Cond]) -> Cond:
        then = self.heap.copy()  # whoever looks for a witness later looks at this moment

        def body(term: Any) -> SymbolicCond:
            now, self.heap = self.heap, then
            outer, self._asking = self._asking, True
            try:
                return self.tree(predicate(self.handle(sort, term)))
            finally:
                self.heap, self._asking = now, outer

        if self.universe.elements is not None:
            return self.cond(self.universe.exists([sort], lambda t: body(t).term))
        return Tree(
            "exists",
            (),
            self.decide,
            (sort,),
            body,
            lambda: self.universe.exists([sort], lambda t: body(t).term),
        )

    def tree(self, value: Cond | bool) -> SymbolicCond:
        """A condition of the text, or a Python bool, as a condition of this run."""
        return (
            value if isinstance(value, SymbolicCond) else SymbolicCond(as_bool(value), self.decide)
        )

    # -- choices -----------------------------------------------------------------
    def require(self, condition: Cond | bool) -> None:
        if not condition:
            raise Stop("disabled")

    def _input(self, name: str, sort: Any, values: tuple[object, ...], of: Sort | None) -> Any:
        self._act("a choice")
        term = z3.Const(f"{name.replace(' ', '-')}!{len(self.inputs)}{self.tag}", sort)
        self.inputs.append(Input(name, term, values, of))
        return term

    def choose(self, name: str, values: Sequence[object]) -> Term:
        first = values[0]
        if len(values) == 1 and isinstance(first, int):
            return Word(z3.BitVecVal(first, 64), self.decide)
        if isinstance(first, bool):
            return self._value(self._input(name, z3.BoolSort(), (False, True), None), z3.BoolVal)
        if isinstance(first, Enum):
            sort, members = enumeration(type(first))
            term = self._input(name, sort, tuple(values), None)
            chosen = self._value(term, lambda v: members[cast(Enum, v)])
            self.require(chosen.isin(values))
            return chosen
        # Anything else by its place in the list.
        term = self._input(name, z3.BitVecSort(8), tuple(values), None)
        self.require(self.cond(z3.ULT(term, len(values))))
        return self._value(term, lambda v: z3.BitVecVal(values.index(v), 8))

    def _value(self, term: Any, code: Callable[[Any], Any]) -> Value:
        return Value(term, self.decide, code)

    def number(self, name: str, samples: Sequence[int]) -> Term:
        return Word(self._input(name, z3.BitVecSort(64), tuple(samples), None), self.decide)

    def _flag(self, name: str, family: str) -> Cond:
        return self.cond(self._input(name, z3.BoolSort(), (False, True), None))

    def _never(self) -> Cond:
        return self.cond(z3.BoolVal(False))

    def _any(self, sort: Sort, name: str) -> Any:
        term = self._input(name, self.universe.sorts[sort], (), sort)
        self.require(self.cond(self.universe.is_object(sort, term)))
        return self.handle(sort, term)

    def _fresh(self, sort: Sort, name: str, free: Callable[[Any], Cond]) -> Any:
        found = self._any(sort, name)
        self.require(free(found))
        return found

    # -- births ------------------------------------------------------------------
    def fresh_task(self, name: str) -> Task:
        task = super().fresh_task(name)
        if self.universe.elements is None:
            self._bear(task)
        return task

    def _bear(self, task: Task) -> None:
        """The task is younger than all others.  Granted, not decided: there is such a number."""
        when = z3.Int(f"birth.{len(self.heap.newborn)}{self.tag}")
        since = self._exists(Sort.TASK, lambda t: self._born_since(t, when))
        self.granted.append(self.tree(~since))
        self.heap.newborn.append((self.index(task)[0], when))

    def _born_since(self, task: Task, when: Any) -> Cond:
        return self.cond(self.heap.born(self.index(task)[0]) >= when)

    def older(self, t: Task, u: Task) -> Cond:
        """``t`` was made before ``u``: only a lemma, of any number of tasks, may ask."""
        if self._current is not None or self.universe.elements is not None:
            raise TypeError("only a lemma may ask who is older")
        return self.cond(self.heap.born(self.index(t)[0]) < self.heap.born(self.index(u)[0]))

    # -- bulk --------------------------------------------------------------------
    def copy_mappings(
        self,
        src: Mm,
        dst: Mm,
        own: Sequence[Addr],
        owner: Task,
        own_kind: dict[Any, Any],
        other_kind: dict[Any, Any],
    ) -> None:
        (source,), (target,) = self.index(src), self.index(dst)
        self._address_space(target, "copy")
        then = self.heap.copy()
        owned = [self.index(a)[0] for a in own]

        def copied(addr: Any, field: Field[Any], made: Callable[..., Any]) -> Any:
            """``made`` of the kind that is mapped at an address of ``src``."""
            old = then.read(cast(Any, Mapping.kind), (source, addr))

            def by_kind(table: KindTable, heir: object) -> Any:
                out = None
                for kind, member in enumeration(Kind)[1].items():
                    of = self._coded(field, made(table, heir, kind))
                    out = of if out is None else z3.If(old == member, of, out)
                return out

            mine = z3.Or(*(addr == a for a in owned))
            return z3.If(mine, by_kind(own_kind, owner), by_kind(other_kind, LEFT))

        def kind(_mm: Any, addr: Any) -> Any:
            return copied(addr, cast(Any, Mapping.kind), lambda t, _heir, k: copied_kind(t, k))

        def heir_of(_mm: Any, addr: Any) -> Any:
            return copied(addr, cast(Any, Mapping.owner), copied_owner)

        def here(mm: Any, _addr: Any) -> z3.BoolRef:
            return z3.BoolVal(True) if mm.eq(target) else mm == target

        for f in fields(Mapping):
            new: Callable[..., Any] = partial(_copied, then, f, source)
            if f is cast(Any, Mapping.kind):
                new = kind
            elif f is cast(Any, Mapping.owner):
                new = heir_of
            self.heap.update(f, here, new)

    def clear_mappings(self, mm: Mm) -> None:
        (target,) = self.index(mm)
        self._address_space(target, "clear")
        for f in fields(Mapping):
            empty = encode(self.universe, f, f.values[0])
            self.heap.update(f, lambda m, _a: m == target, lambda *_at, v=empty: v)

    def replace_owner(self, mm: Mm, old: Task, new: Special) -> None:
        (target,), (gone,) = self.index(mm), self.index(old)
        self._address_space(target, "owners")
        then = self.heap.copy()
        heir = self.universe.encode(Sort.TASK, new)
        owner = cast(Any, Mapping.owner)
        self.heap.update(
            owner,
            lambda m, a: z3.And(m == target, then.read(owner, (m, a)) == gone),
            lambda *_at: heir,
        )

    def emit(self, event: Event) -> None:
        self._act("an event")
        self.events.append(event)
        if self.watch is not None:
            self.watch(self, event)

    # -- claims --------------------------------------------------------------------
    def formula(self, claim: Callable[[], Cond | bool]) -> SymbolicCond:
        """What a claim says here, as one condition: a case for each way its ``if``s can go."""
        outer = self.fork
        out: SymbolicCond | None = None

        def text(fork: Fork) -> SymbolicCond:
            self.fork = fork
            return self.tree(claim())

        try:
            for ending in endings(text, prune=False):
                assert ending.result is not None, "a claim does not stop"
                case: Cond = ending.result
                for decision in ending.fork.decisions:
                    case = case | ~self._decided(decision)
                out = cast(SymbolicCond, case if out is None else out & case)
        finally:
            self.fork = outer
        assert out is not None
        return out

    def _decided(self, decision: Decision) -> SymbolicCond:
        """What a decision says."""
        condition = decision.shape
        if not isinstance(condition, SymbolicCond):
            condition = SymbolicCond(decision.condition, self.decide)
        return cast(SymbolicCond, condition if decision.outcome else ~condition)

    @property
    def path(self) -> list[SymbolicCond]:
        """The decisions of this run, one by one."""
        return [self._decided(d) for d in self.fork.decisions]


def _copied(then: Heap, field: Field[Any], source: Any, _mm: Any, addr: Any) -> Any:
    return then.read(field, (source, addr))


class _Before:
    """A view of a run's state before the step; reads only."""

    def __init__(self, world: SymbolicWorld) -> None:
        self.world = world

    def read(self, record: Record, field: Field[Any]) -> object:
        term = self.world.old.read(field, self.world.index(record))
        return self.world._wrapped(field, term, self)
