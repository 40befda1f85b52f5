"""The sorts of the life cycle, as z3 has them, and the variables as functions on them.

Tasks, groups, mms and addresses are uninterpreted: however many there are.  Or, to look for
a model of a bounded size, enumerations of so many.  NULL is an element of each sort that no
quantifier ranges over, and so is LEFT among the tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import z3

from model.state import (
    LEFT,
    NULL,
    Field,
    Group,
    Mapping,
    Record,
    Sort,
    Task,
    fields,
)
from shstk.proof import lowlevel
from shstk.space import Bound

INDEX: dict[type[Record], tuple[Sort, ...]] = {
    Task: (Sort.TASK,),
    Group: (Sort.GROUP,),
    Mapping: (Sort.MM, Sort.ADDR),
}
NAMES = {Sort.TASK: "Task", Sort.GROUP: "Group", Sort.MM: "Mm", Sort.ADDR: "Addr"}


@cache
def enumeration(enum: type[Enum]) -> tuple[Any, dict[Enum, Any]]:
    """An enumeration's sort and its members."""
    names = [f"{enum.__name__}.{m.name}" for m in enum]
    sort, members = z3.EnumSort(enum.__name__, names)
    return sort, dict(zip(enum, members, strict=True))


@dataclass(frozen=True)
class Universe:
    """The sorts, and the elements of each where they are so many and no more."""

    sorts: dict[Sort, Any]
    null: dict[Sort, Any]
    left: Any
    elements: dict[Sort, tuple[Any, ...]] | None = None
    _objects: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # by the term's address

    @property
    def axioms(self) -> list[z3.BoolRef]:
        """What is true of the constants."""
        if self.elements is not None:
            return []
        return [self.null[Sort.TASK] != self.left]

    def encode(self, sort: Sort, value: object) -> Any:
        """A reference's constant: NULL, LEFT, or, in a bounded universe, a number."""
        if value is NULL:
            return self.null[sort]
        if value is LEFT and sort is Sort.TASK:
            return self.left
        if self.elements is not None and isinstance(value, int):
            return self.elements[sort][value]
        raise TypeError(f"{value!r} is no {NAMES[sort]}")

    def is_object(self, sort: Sort, term: Any) -> z3.BoolRef:
        """``term`` is an object, neither NULL nor LEFT."""
        at = lowlevel.address(term)
        known = self._objects.get(at)
        if known is None:
            known = self._objects[at] = term, self._is_object(sort, term)
        return known[1]

    def _is_object(self, sort: Sort, term: Any) -> z3.BoolRef:
        real = lowlevel.distinct(term, self.null[sort])
        if sort is not Sort.TASK:
            return real
        return lowlevel.conjunction(real, lowlevel.distinct(term, self.left))

    def exists(self, sorts: Sequence[Sort], body: Callable[..., z3.BoolRef]) -> z3.BoolRef:
        """Some objects of these sorts make ``body`` true."""
        if self.elements is not None:
            ranges = [self.elements[s] for s in sorts]
            return z3.Or(*(body(*each) for each in itertools.product(*ranges)))
        with _Bound(self, sorts) as bound:
            real = [self.is_object(s, v) for s, v in zip(sorts, bound, strict=True)]
            return z3.Exists(bound, z3.And(*real, body(*bound)))

    def forall(self, sorts: Sequence[Sort], body: Callable[..., z3.BoolRef]) -> z3.BoolRef:
        """All objects of these sorts make ``body`` true."""
        if self.elements is not None:
            ranges = [self.elements[s] for s in sorts]
            return z3.And(*(body(*each) for each in itertools.product(*ranges)))
        with _Bound(self, sorts) as bound:
            real = [self.is_object(s, v) for s, v in zip(sorts, bound, strict=True)]
            return z3.ForAll(bound, z3.Implies(z3.And(*real), body(*bound)))


class _Bound:
    """Variables for a quantifier, named by how deep it is: the same text, the same term."""

    depth = 0

    def __init__(self, universe: Universe, sorts: Sequence[Sort]) -> None:
        first = _Bound.depth
        self.variables = [
            z3.Const(f"{NAMES[s].lower()}.bound.{n}", universe.sorts[s])
            for n, s in enumerate(sorts, first)
        ]

    def __enter__(self) -> list[Any]:
        _Bound.depth += len(self.variables)
        return self.variables

    def __exit__(self, *_: object) -> None:
        _Bound.depth -= len(self.variables)


@cache
def unbounded() -> Universe:
    """Any number of objects."""
    sorts = {s: z3.DeclareSort(name) for s, name in NAMES.items()}
    null = {s: z3.Const(f"NULL.{NAMES[s]}", sorts[s]) for s in sorts}
    return Universe(sorts, null, z3.Const("LEFT.Task", sorts[Sort.TASK]))


@cache
def bounded(bound: Bound) -> Universe:
    """So many objects as the bound says."""
    sorts, null, elements = {}, {}, {}
    left = None
    tag = f"{bound.tasks}.{bound.mms}.{bound.stacks}"
    for s, name in NAMES.items():
        names = [f"{name}{n}/{tag}" for n in range(bound.size(s))]
        special = [f"NULL.{name}/{tag}"] + [f"LEFT.Task/{tag}"] * (s is Sort.TASK)
        sorts[s], members = z3.EnumSort(f"{name}/{tag}", [*special, *names])
        null[s] = members[0]
        if s is Sort.TASK:
            left = members[1]
        elements[s] = tuple(members[len(special) :])
    return Universe(sorts, null, left, elements)


@cache
def births() -> Any:
    """When a task was made, as a number: later ones have greater ones.  Any number of tasks only.

    A ghost: set when a task is made, and asked by lemmas alone.
    """
    return z3.Function("task.born", unbounded().sorts[Sort.TASK], z3.IntSort())


def range_of(universe: Universe, field: Field[Any]) -> Any:
    """The z3 sort of a variable's values."""
    if field.sort is not None:
        return universe.sorts[field.sort]
    if field.store is not None:
        return z3.BitVecSort(64)
    first = field.values[0]
    return enumeration(type(first))[0] if isinstance(first, Enum) else z3.BoolSort()


def encode(universe: Universe, field: Field[Any], value: object) -> Any:
    """A constant of the text as a value of a variable."""
    if field.sort is not None:
        return universe.encode(field.sort, value)
    if field.store is not None and isinstance(value, int):
        return z3.BitVecVal(value, 64)
    if isinstance(value, Enum):
        return enumeration(type(value))[1][value]
    if isinstance(value, bool):
        return z3.BoolVal(value)
    raise TypeError(f"{value!r} is no value of {field.name}")


def functions(universe: Universe, tag: str = "") -> dict[Field[Any], Any]:
    """An uninterpreted function for each state variable; ``tag`` tells states apart."""
    out = {}
    for record, index in INDEX.items():
        domain = [universe.sorts[s] for s in index]
        for f in fields(record):
            name = f"{record.__name__.lower()}.{f.name}{tag}"
            out[f] = z3.Function(name, *domain, range_of(universe, f))
    return out
