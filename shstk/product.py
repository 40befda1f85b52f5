"""The state of two designs in lockstep: what is common, and what each notes about its tasks.

As long as nothing tells two designs apart they have the same tasks, mms, mappings and SSPs.
What differs meanwhile is their bookkeeping, which is nobody's but the design's: the second's
lies in cells of its own, named like the first's with a prime.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

from model.state import SHADOW_KINDS, Field, Kind, Mapping, Record, Task
from shstk.engine.program import Layout
from shstk.slices import Slice
from shstk.space import Cell, Space, Valuation

# Variables that only a design's own hooks read.  (fork asks for the base too, but only to
# tell one kind of shadow stack from another; see ``looks``.)
BOOKKEEPING = ("base", "size", "shstk")
PRIME = "'"


def _primed(name: str) -> Field[Any]:
    own: Field[Any] = copy.copy(vars(Task)[name])
    own.name = name + PRIME
    return own


PRIMED = [_primed(name) for name in BOOKKEEPING]


def looks(field: Field[Any], value: object) -> object:
    """How a value looks to whoever is no claim: all shadow stacks are alike."""
    if field is vars(Mapping)["kind"] and value in SHADOW_KINDS:
        return Kind.MAP
    return value


def common(field: Field[Any]) -> bool:
    """It is part of how a design behaves: no bookkeeping, and not for claims alone."""
    return not field.ghost and field not in PRIMED and field.name not in BOOKKEEPING


class Product(Space):
    """The cells of a bound, and the second design's bookkeeping."""

    def _add(self, record: type[Record], index: tuple[int, ...]) -> None:
        super()._add(record, index)
        if record is Task:
            for field in PRIMED:
                self._number[Task, index, field.name] = len(self.cells)
                self.cells.append(Cell(Task, index, field, self.domain(field)))

    @cached_property
    def layout(self) -> Layout:
        """The engine's packing of this space."""
        return ProductSlice(frozenset()).layout(self)

    def alone(self, plain: Space, valuation: Valuation, side: int) -> Valuation:
        """What one design's state is, the first's (0) or the second's (1)."""
        out = []
        for cell in plain.cells:
            own = side == 1 and cell.record is Task and cell.field.name in BOOKKEEPING
            name = cell.field.name + PRIME * own
            out.append(valuation[self.number(cell.record, cell.index, name)])
        return tuple(out)


class ProductSlice(Slice):
    """A slice of a product."""

    def variables(self, record: type[Record]) -> list[Field[Any]]:
        """A task has the second design's bookkeeping, too."""
        return [*super().variables(record), *(PRIMED if record is Task else [])]
