"""The finite state space of a bound: which cells there are, and their values.

A *valuation* is a tuple of small integers, one per cell, each an index into the
cell's domain; domain values are what the text sees (enumeration members, booleans,
object numbers from 0, NULL, LEFT).  Cells are numbered tasks first, then groups,
then mappings by (mm, address): the engine's layout relies on that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model.state import FIRST_TASK, NULL, Field, Group, Mapping, Record, Sort, Task, fields
from shstk.engine.program import MAX_IDS, Layout
from shstk.finite_terms import Source

Valuation = tuple[int, ...]

ENGINE_SORT = {None: 0, Sort.TASK: 1, Sort.MM: 2, Sort.ADDR: 3, Sort.GROUP: 4}


@dataclass(frozen=True)
class Cell:
    """One variable of one object."""

    record: type[Record]
    index: tuple[int, ...]
    field: Field[Any]
    domain: tuple[object, ...]

    @property
    def name(self) -> str:
        """For example ``task0.ctl`` or ``mm1.at2.kind``."""
        if self.record is Mapping:
            return f"mm{self.index[0]}.at{self.index[1]}.{self.field.name}"
        return f"{self.record.__name__.lower()}{self.index[0]}.{self.field.name}"


@dataclass(frozen=True)
class Bound:
    """How many tasks, mms and addresses (stacks) there are."""

    tasks: int
    mms: int
    stacks: int

    def __post_init__(self) -> None:
        for what in ("tasks", "mms", "stacks"):
            number = getattr(self, what)
            if not 1 <= number <= MAX_IDS:
                raise ValueError(f"--{what} {number}: a bound is between 1 and {MAX_IDS}")

    def size(self, sort: Sort) -> int:
        """How many objects of ``sort``; there are as many groups as tasks."""
        if sort is Sort.MM:
            return self.mms
        return self.stacks if sort is Sort.ADDR else self.tasks


class Space:
    """All cells of a bound."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.cells: list[Cell] = []
        self._number: dict[tuple[type[Record], tuple[int, ...], str], int] = {}
        for task in range(bound.tasks):
            self._add(Task, (task,))
        for group in range(bound.tasks):
            self._add(Group, (group,))
        for mm in range(bound.mms):
            for addr in range(bound.stacks):
                self._add(Mapping, (mm, addr))
        self.domains = [cell.domain for cell in self.cells]
        self.columns = self._columns()
        self.sources = [Source("cell", n, domain) for n, domain in enumerate(self.domains)]

    def domain(self, field: Field[Any]) -> tuple[object, ...]:
        """The values of a field under this bound, initial value first."""
        if field.sort is None:
            return tuple(field.values)
        return (NULL, *range(self.bound.size(field.sort)), *field.values[1:])

    def _add(self, record: type[Record], index: tuple[int, ...]) -> None:
        for field in fields(record):
            self._number[record, index, field.name] = len(self.cells)
            self.cells.append(Cell(record, index, field, self.domain(field)))

    def _columns(self) -> dict[type[Record], dict[str, Any]]:
        """The cells of a field of a record: a list by object, of mappings by mm and address."""
        out: dict[type[Record], dict[str, Any]] = {}
        for number, cell in enumerate(self.cells):
            column = out.setdefault(cell.record, {}).setdefault(cell.field.name, [])
            for at in cell.index[:-1]:
                if at == len(column):
                    column.append([])
                column = column[at]
            assert len(column) == cell.index[-1], "cells are in the order of their objects"
            column.append(number)
        return out

    def number(self, record: type[Record], index: tuple[int, ...], field: str) -> int:
        """The cell of a field of an object."""
        return self._number[record, index, field]

    def value(self, valuation: Sequence[int], record: type[Record], index: int, field: str) -> Any:
        """A field of a task or group in a valuation, as the text would see it."""
        cell = self._number[record, (index,), field]
        return self.cells[cell].domain[valuation[cell]]

    @cached_property
    def initial(self) -> Valuation:
        """One task in user mode, its own group and mm, shadow stacks off."""
        values = [0] * len(self.cells)
        for field, value in FIRST_TASK.items():
            cell = self._number[Task, (0,), field]
            values[cell] = self.cells[cell].domain.index(value)
        return tuple(values)

    @cached_property
    def layout(self) -> Layout:
        """The engine's packing of this space."""

        def shape(record: type[Record]) -> list[tuple[int, int]]:
            return [(len(self.domain(f)), ENGINE_SORT[f.sort]) for f in fields(record)]

        return Layout.build(
            shape(Task),
            shape(Group),
            shape(Mapping),
            tasks=self.bound.tasks,
            mms=self.bound.mms,
            addrs=self.bound.stacks,
            groups=self.bound.tasks,
        )
