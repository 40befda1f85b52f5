"""Lowering of a validated program into the arrays that the C engine reads.

The formats are described where engine.c reads them: nodes at ``walk``, rows
and operations of leaves at ``apply``, records at ``load_kind``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shstk.engine.program import (
    CHOICE,
    LEAF,
    MASK,
    NONE,
    PLAIN,
    TRAP,
    Layout,
    Leaf,
    Order,
    Program,
)

#: A child for a bit pattern beyond the size of its cell, and one that ends a walk at leaf or
#: mask number n (LAST_END - n).
PAD: Final = -3
LAST_END: Final = -4

_U64: Final = (1 << 64) - 1
_MARKED: Final = 1 << 63


@dataclass
class Lowered:
    """Flat arrays of a program, named as in ``struct tables``."""

    words: int
    n_actions: int
    ids: tuple[int, ...]
    stack: int = 0
    fan: int = 0
    step_pool: int = 0
    pool: array[int] = field(default_factory=lambda: array("i"))
    roots: array[int] = field(default_factory=lambda: array("i"))
    state_roots: array[int] = field(default_factory=lambda: array("i"))
    rows: array[int] = field(default_factory=lambda: array("Q"))
    ops: array[int] = field(default_factory=lambda: array("Q"))
    tabs: array[int] = field(default_factory=lambda: array("Q"))
    masks: array[int] = field(default_factory=lambda: array("Q"))
    action: array[int] = field(default_factory=lambda: array("I"))
    saturated: array[int] = field(default_factory=lambda: array("I"))
    violations: array[int] = field(default_factory=lambda: array("Q"))
    witnesses: array[int] = field(default_factory=lambda: array("Q"))
    kinds: tuple[array[int], ...] = ()


def lower(program: Program, order: Order) -> Lowered:
    """The arrays for a program that has been validated, in the order found there."""
    layout = program.layout
    out = Lowered(
        words=layout.words,
        n_actions=program.n_actions,
        ids=(0, layout.tasks, layout.mms, layout.addrs, layout.groups),
    )
    _lower_trees(program, order, out)
    for pair in program.masks:
        out.masks.extend(pair)
    leaves = _LeafLowering(program, out)
    for leaf in program.leaves:
        leaves.add(leaf)
    maps = [record for row in layout.map_cells for record in row]
    records = (layout.task_cells, layout.group_cells, maps)
    out.kinds = tuple(_lower_kind(layout, kind) for kind in records)
    return out


def _lower_trees(program: Program, order: Order, out: Lowered) -> None:
    """Lay out the nodes of all trees, children before parents."""
    place = _lower_nodes(program, order.steps, out)
    out.roots.extend(place.get(root, root) for root in program.roots)
    out.fan = order.fan
    out.stack = _stack_need(program, order.steps)
    out.step_pool = len(out.pool)
    place = _lower_nodes(program, order.predicates, out)
    out.state_roots.extend(place.get(root, root) for root in program.state_roots)


def _lower_nodes(
    program: Program, order: Mapping[int, Sequence[int]], out: Lowered
) -> dict[int, int]:
    """Emit nodes; returns what to write for each as a child of another node."""
    layout = program.layout
    place: dict[int, int] = {}
    for node, below in order.items():
        kind, operand = program.nodes[node], program.nodes[node + 1]
        children = [place.get(child, child) for child in below]
        if kind in (LEAF, MASK):
            place[node] = LAST_END - operand
        elif not children:
            place[node] = NONE
        else:
            place[node] = len(out.pool)
            if kind == CHOICE:
                out.pool.append(-len(children))
            else:
                width = layout.cell_width[operand]
                mask = (1 << width) - 1
                out.pool.append(
                    layout.cell_word[operand] | layout.cell_shift[operand] << 4 | mask << 10
                )
                out.pool.append(0)
                # Bit patterns beyond the size of the cell must not occur either.
                children += [PAD] * (mask + 1 - len(children))
            out.pool.extend(children)
    return place


def _stack_need(program: Program, order: Mapping[int, Sequence[int]]) -> int:
    """How many postponed children a walk over one tree keeps at most."""
    need: dict[int, int] = {}
    for node, children in order.items():
        if program.nodes[node] == CHOICE:
            last = len(children) - 1
            waiting = [last - i + need.get(child, 0) for i, child in enumerate(children)]
        else:
            waiting = [need.get(child, 0) for child in children]
        need[node] = max(waiting, default=0)
    return max((need.get(root, 0) for root in program.roots), default=0)


class _LeafLowering:
    """Turns the updates of leaves into masks, rotations and table look-ups."""

    def __init__(self, program: Program, out: Lowered) -> None:
        self._layout = program.layout
        self._tables = program.tables
        self._out = out
        # Leaves share operations and tables: most write the same few cells.
        self._op_lists: dict[tuple[tuple[int, int], ...], int] = {}
        self._tabs: dict[tuple[int, int, int], int] = {}
        self._identity = [tuple(t) == tuple(range(len(t))) for t in program.tables]
        self._constant = [len(set(t)) == 1 and TRAP not in t for t in program.tables]

    def add(self, leaf: Leaf) -> None:
        """Append one leaf to the arrays."""
        layout, out = self._layout, self._out
        keep = [_U64] * layout.words
        const = [0] * layout.words
        copies: dict[tuple[int, int, int], int] = {}
        lookups: list[tuple[int, int]] = []
        for dst, value in leaf.consts:
            self._set_const(keep, const, dst, value)
        for dst, src, table in leaf.moves:
            if self._identity[table] and dst == src:
                continue
            if self._constant[table]:
                self._set_const(keep, const, dst, self._tables[table][0])
                continue
            keep[layout.cell_word[dst]] &= ~self._mask(dst)
            if self._identity[table]:
                turn = (layout.cell_shift[dst] - layout.cell_shift[src]) % 64
                key = (layout.cell_word[src], layout.cell_word[dst], turn)
                copies[key] = copies.get(key, 0) | self._copied(dst, src)
            else:
                lookups.append(self._lookup(dst, src, table))
        ops = [(mask, s | d << 4 | turn << 8) for (s, d, turn), mask in copies.items()]
        head = self._op_list((*ops, *lookups)) | len(ops) << 32 | len(lookups) << 44
        if leaf.violations or leaf.witnesses or leaf.saturated:
            head |= _MARKED
        out.rows.append(head)
        out.rows.extend(keep)
        out.rows.extend(const)
        out.action.append(leaf.action)
        out.saturated.append(leaf.saturated)
        out.violations.append(leaf.violations)
        out.witnesses.append(leaf.witnesses)

    def _mask(self, cell: int) -> int:
        """The bits of a cell in its word."""
        return ((1 << self._layout.cell_width[cell]) - 1) << self._layout.cell_shift[cell]

    def _copied(self, dst: int, src: int) -> int:
        """The bits that a copy writes; a wider source has zeros above them."""
        width = min(self._layout.cell_width[dst], self._layout.cell_width[src])
        return ((1 << width) - 1) << self._layout.cell_shift[dst]

    def _set_const(self, keep: list[int], const: list[int], dst: int, value: int) -> None:
        """Make a leaf write a constant."""
        word = self._layout.cell_word[dst]
        keep[word] &= ~self._mask(dst)
        const[word] |= value << self._layout.cell_shift[dst]

    def _lookup(self, dst: int, src: int, table: int) -> tuple[int, int]:
        """The operation that writes a table entry, shifted to its place already."""
        layout, out = self._layout, self._out
        width, shift = layout.cell_width[src], layout.cell_shift[dst]
        key = (table, width, shift)
        if key not in self._tabs:
            self._tabs[key] = len(out.tabs)
            entries = [_U64 if v == TRAP else v << shift for v in self._tables[table]]
            out.tabs.extend(entries + [_U64] * ((1 << width) - len(entries)))
        places = layout.cell_word[src] | layout.cell_word[dst] << 4 | layout.cell_shift[src] << 8
        return (1 << width) - 1, places | self._tabs[key] << 32

    def _op_list(self, ops: tuple[tuple[int, int], ...]) -> int:
        """Number of the first of these operations."""
        if ops not in self._op_lists:
            self._op_lists[ops] = len(self._out.ops) // 2
            for op in ops:
                self._out.ops.extend(op)
        return self._op_lists[ops]


def _lower_kind(layout: Layout, records: Sequence[Sequence[int]]) -> array[int]:
    """The shape and the places of the records of one kind."""
    shape = layout.shape(records[0]) if records else ()
    refs = [
        (sort, shift, width, size > layout.ids(sort) + 1)
        for shift, width, sort, size in shape
        if sort != PLAIN
    ]
    mask = (1 << sum(width for _, width, _, _ in shape)) - 1
    out = array("I", [len(records), mask & 0xFFFFFFFF, mask >> 32, len(refs)])
    for ref in refs:
        out.extend(ref)
    for record in records:
        out.extend(layout.place(record))
    return out
