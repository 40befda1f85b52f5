"""Slices: exploring over the variables a property needs.

A slice merges values of a variable into classes (all into one: the variable is gone).
A test that cannot tell the members of a class apart becomes a choice, so a slice has
every run of the whole model and perhaps more: what holds in it holds.  What is violated
in it is replayed in the whole model before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.state import Exit, Field, Group, Kind, Mapping, Record, Task, fields
from shstk.engine.program import NONE, TRAP, Layout
from shstk.space import ENGINE_SORT, Space, Valuation
from shstk.tables import Choice, Forest, Leaf, Mask, Test, Update

Classes = tuple[int, ...]  # class of each domain index; class numbers in order of appearance


def _merge(field: Field[Any], *groups: tuple[object, ...]) -> Classes:
    """Classes in which the members of each group are one."""
    classes: list[int] = []
    seen: dict[object, int] = {}
    for value in field.values:
        key = next((g for g in groups if value in g), value)
        classes.append(seen.setdefault(key, len(seen)))
    return tuple(classes)


def _all(field: Field[Any]) -> Classes:
    return (0,) * len(field.values)


# Details that few properties speak about, each with what is left of it in a slice.
MERGES: dict[str, Classes] = {
    "off": _all(Task.off),
    "wrss": _all(Task.wrss),
    "locked_shstk": _all(Task.locked_shstk),
    "locked_wrss": _all(Task.locked_wrss),
    "exit": _merge(Group.exit, (Exit.KILLED, Exit.FAULTED, Exit.EXITED)),
    "kind": _merge(Mapping.kind, (Kind.CLONE, Kind.SETUP)),
}

# Those that a slice drops altogether: a claim that reads one is explored with it.
DETAILS = frozenset(name for name, classes in MERGES.items() if max(classes) == 0)


@dataclass(frozen=True)
class Slice:
    """Which variables are merged, by name."""

    merged: frozenset[str]

    def __str__(self) -> str:
        return "all variables" if not self.merged else "without " + " ".join(sorted(self.merged))

    def classes(self, field: Field[Any]) -> Classes | None:
        """The classes of a field's values, or None where it is whole."""
        return MERGES[field.name] if field.name in self.merged else None

    def variables(self, record: type[Record]) -> list[Field[Any]]:
        """The variables of a record of the space that is sliced."""
        return fields(record)

    def layout(self, space: Space) -> Layout:
        """The engine's packing of the slice."""

        def shape(record: type[Record]) -> list[tuple[int, int]]:
            out = []
            for f in self.variables(record):
                classes = self.classes(f)
                size = len(space.domain(f)) if classes is None else max(classes) + 1
                out.append((size, ENGINE_SORT[f.sort]))
            return out

        bound = space.bound
        return Layout.build(
            shape(Task),
            shape(Group),
            shape(Mapping),
            tasks=bound.tasks,
            mms=bound.mms,
            addrs=bound.stacks,
            groups=bound.tasks,
        )

    def project(self, space: Space, valuation: Sequence[int]) -> Valuation:
        """A valuation's image in the slice."""
        out = []
        for cell, value in zip(space.cells, valuation, strict=True):
            classes = self.classes(cell.field)
            out.append(value if classes is None else classes[value])
        return tuple(out)

    def apply(
        self,
        space: Space,
        forest: Forest,
        root: int,
        keep: Callable[[Leaf | Mask], Leaf | Mask | None],
        memo: dict[int, int],
        families: frozenset[str],
    ) -> int:
        """The tree in the slice, with what ``keep`` leaves of its ends, and these families on.

        ``memo`` is for all trees of which the same is wanted.
        """
        by_cell = [self.classes(cell.field) for cell in space.cells]

        def test(node: Test, children: tuple[int, ...]) -> int:
            classes = by_cell[node.cell]
            if classes is None:
                return forest.test(node.cell, children)
            joined = []
            for number in range(max(classes) + 1):
                members = [c for c, k in zip(children, classes, strict=True) if k == number]
                possible = tuple([c for c in members if c != TRAP])
                joined.append(forest.add(Choice(possible)) if possible else TRAP)
            return forest.test(node.cell, tuple(joined))

        def end(node: Leaf | Mask) -> int:
            kept = keep(node)
            if isinstance(kept, Leaf) and self.merged:
                updates = [_update(by_cell, u) for u in kept.updates]
                kept = replace(kept, updates=tuple([u for u in updates if not _identity(u)]))
            return NONE if kept is None else forest.add(kept)

        return forest.rewrite(root, test if self.merged else None, end, memo, families)


WHOLE = Slice(frozenset())


def _identity(update: Update) -> bool:
    cell, source, table = update
    return source == cell and table == tuple(range(len(table)))


def _update(by_cell: list[Classes | None], update: Update) -> Update:
    """An update's image: every member of a source class must lead to the same class."""
    cell, source, table = update
    to = by_cell[cell]
    images = table if to is None else tuple(to[v] for v in table)
    if source is None:
        return cell, None, images
    classes = by_cell[source]
    if classes is None:
        return cell, source, images
    out: list[int] = []
    for number in range(max(classes) + 1):
        found = {v for v, k in zip(images, classes, strict=True) if k == number}
        if len(found) != 1:
            raise ValueError(f"cell {source} is merged, and cell {cell} depends on what was merged")
        out.append(found.pop())
    return cell, source, tuple(out)
