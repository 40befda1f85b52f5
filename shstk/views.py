"""Between the finite world's valuations and the plain states of traces."""

from __future__ import annotations

from typing import cast

from counterexamples.trace import Extent, Fields, StateView, Value
from model.state import Group, Mapping, Record, Task, fields
from shstk.space import Space, Valuation


def extent(space: Space) -> Extent:
    """The bound of a space, as traces record it."""
    return Extent(space.bound.tasks, space.bound.mms, space.bound.stacks)


def view(space: Space, valuation: Valuation) -> StateView:
    """The state that a valuation stands for."""

    def read(record: type[Record], *index: int) -> Fields:
        cells = {f.name: space.number(record, index, f.name) for f in fields(record)}
        return {name: cast(Value, space.domains[c][valuation[c]]) for name, c in cells.items()}

    tasks, mms, stacks = extent(space)
    return {
        "tasks": tuple(read(Task, t) for t in range(tasks)),
        "groups": tuple(read(Group, g) for g in range(tasks)),
        "mms": tuple(tuple(read(Mapping, m, a) for a in range(stacks)) for m in range(mms)),
    }


def valuation(space: Space, state: StateView) -> Valuation:
    """The valuation that stands for a state; ValueError where the space has none."""
    shape = Extent(len(state["tasks"]), len(state["mms"]), len(state["mms"][0]))
    if shape != extent(space):
        raise ValueError(f"the state has {_counted(shape)}, the space {_counted(extent(space))}")
    values = []
    for cell in space.cells:
        if cell.record is Mapping:
            value = state["mms"][cell.index[0]][cell.index[1]][cell.field.name]
        elif cell.record is Task:
            value = state["tasks"][cell.index[0]][cell.field.name]
        else:
            value = state["groups"][cell.index[0]][cell.field.name]
        # A number's domain is smaller than the number in worlds that keep all of it.
        kept = cell.field.store(value) if cell.field.store else value
        if kept not in cell.domain:
            raise ValueError(f"{cell.name} cannot be {value!r} within the bound")
        values.append(cell.domain.index(kept))
    return tuple(values)


def _counted(shape: Extent) -> str:
    return f"{shape.tasks} tasks, {shape.mms} mms and {shape.stacks} addresses"
