"""What the engine runs: a packed state layout and a program of decision tables.

A state is a vector of small unsigned integers, the *cells*.  Every cell
belongs to exactly one *record*: a task, a group, or the mapping at one pair
(mm, address).  All records of one kind have the same shape and each lies
inside one 64-bit word, so that symmetry reduction can move whole records.

Transitions are trees in a flat pool of integers, the *nodes*:

    [TEST, cell, n, child_0 .. child_{n-1}]   follow child[value of cell]
    [CHOICE, n, child_0 .. child_{n-1}]       follow all children, in order
    [LEAF, leaf]                              the transition happens

and state predicates are trees of TEST nodes that end in

    [MASK, m]                                 the pair masks[m] holds

A child is the offset of a node, or NONE (no transition, no predicate holds),
or TRAP (a value that must not occur: exploration stops with an error).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

TEST: Final = 1
CHOICE: Final = 2
LEAF: Final = 3
MASK: Final = 4

NONE: Final = -1
TRAP: Final = -2

PLAIN: Final = 0
TASK: Final = 1
MM: Final = 2
ADDR: Final = 3
GROUP: Final = 4

MAX_WORDS: Final = 16
MAX_IDS: Final = 8
#: Values of a cell: a node has room for twelve bits.
MAX_SIZE: Final = 4096
#: Values of a reference cell (NULL, the ids and the extra constants).
MAX_REF_SIZE: Final = 32
MAX_LEAVES: Final = 1 << 30
#: Leaves one state may fire, and entries waiting in a walk over a tree.
MAX_FAN: Final = 1 << 20

_SORT_NAMES: Final = ("plain", "task", "mm", "address", "group")
_U64: Final = (1 << 64) - 1

Field = tuple[int, int]
Values = tuple[int, ...]


def _require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _width(size: int) -> int:
    """Bits of a cell with that many values; never none, so shifts stay in range."""
    return max(1, (size - 1).bit_length())


@dataclass(frozen=True)
class Layout:
    """Where each cell lies, what it refers to, and which record it is part of.

    A reference cell holds 0 for NULL and id + 1 for one of the n ids of its
    sort; greater values are constants which symmetry leaves alone.
    """

    words: int
    cell_word: tuple[int, ...]
    cell_shift: tuple[int, ...]
    cell_width: tuple[int, ...]
    cell_sort: tuple[int, ...]
    cell_size: tuple[int, ...]
    tasks: int
    mms: int
    addrs: int
    groups: int
    task_cells: tuple[tuple[int, ...], ...]
    group_cells: tuple[tuple[int, ...], ...]
    map_cells: tuple[tuple[tuple[int, ...], ...], ...]

    @staticmethod
    def build(
        task_fields: Sequence[Field],
        group_fields: Sequence[Field] = (),
        map_fields: Sequence[Field] = (),
        *,
        tasks: int,
        mms: int = 0,
        addrs: int = 0,
        groups: int = 0,
    ) -> Layout:
        """Number and place the cells of records with the given (size, sort) fields.

        Cells are numbered tasks first, then groups, then mappings (by mm, then
        by address).  Each record goes to the first word that has room for it.
        """
        shapes = [task_fields] * tasks + [group_fields] * groups + [map_fields] * (mms * addrs)
        room: list[int] = []
        word: list[int] = []
        shift: list[int] = []
        records: list[tuple[int, ...]] = []
        for fields in shapes:
            bits = sum(_width(size) for size, _ in fields)
            _require(bits <= 64, f"a record of {bits} bits does not fit a word")
            place = next((w for w, used in enumerate(room) if used + bits <= 64), len(room))
            if place == len(room):
                room.append(0)
            records.append(tuple(range(len(word), len(word) + len(fields))))
            for size, _ in fields:
                word.append(place)
                shift.append(room[place])
                room[place] += _width(size)
        cells = [field for fields in shapes for field in fields]
        first_map = tasks + groups
        layout = Layout(
            words=max(1, len(room)),
            cell_word=tuple(word),
            cell_shift=tuple(shift),
            cell_width=tuple(_width(size) for size, _ in cells),
            cell_sort=tuple(sort for _, sort in cells),
            cell_size=tuple(size for size, _ in cells),
            tasks=tasks,
            mms=mms,
            addrs=addrs,
            groups=groups,
            task_cells=tuple(records[:tasks]),
            group_cells=tuple(records[tasks:first_map]),
            map_cells=tuple(
                tuple(records[first_map + m * addrs : first_map + (m + 1) * addrs])
                for m in range(mms)
            ),
        )
        layout.validate()
        return layout

    @property
    def cells(self) -> int:
        """Number of cells of a state."""
        return len(self.cell_word)

    def ids(self, sort: int) -> int:
        """Number of ids of a sort; none for plain cells."""
        return (0, self.tasks, self.mms, self.addrs, self.groups)[sort]

    def pack(self, values: Sequence[int]) -> tuple[int, ...]:
        """Pack the values of all cells into words."""
        _require(len(values) == self.cells, f"{len(values)} values for {self.cells} cells")
        words = [0] * self.words
        for cell, value in enumerate(values):
            _require(0 <= value < self.cell_size[cell], f"cell {cell} cannot hold {value}")
            words[self.cell_word[cell]] |= value << self.cell_shift[cell]
        return tuple(words)

    def unpack(self, words: Sequence[int]) -> Values:
        """The values of all cells of a packed state."""
        return tuple(
            (words[word] >> shift) & ((1 << width) - 1)
            for word, shift, width in zip(
                self.cell_word, self.cell_shift, self.cell_width, strict=True
            )
        )

    def validate(self) -> None:
        """Raise ValueError unless the engine can rely on every field."""
        _require(1 <= self.words <= MAX_WORDS, f"{self.words} words")
        for sort in (TASK, MM, ADDR, GROUP):
            count = self.ids(sort)
            _require(0 <= count <= MAX_IDS, f"{count} ids of sort {_SORT_NAMES[sort]}")
        self._validate_cells()
        self._validate_records()

    def _validate_cells(self) -> None:
        """Check that cells are in range and do not overlap."""
        columns = (self.cell_shift, self.cell_width, self.cell_sort, self.cell_size)
        _require(all(len(c) == self.cells for c in columns), "cell columns differ in length")
        taken = [0] * self.words
        rows = zip(self.cell_word, *columns, strict=True)
        for cell, (word, shift, width, sort, size) in enumerate(rows):
            _require(0 <= word < self.words, f"cell {cell}: no word {word}")
            _require(width >= 1 and shift >= 0, f"cell {cell}: bad place")
            _require(shift + width <= 64, f"cell {cell} straddles words")
            _require(0 <= sort < len(_SORT_NAMES), f"cell {cell}: no sort {sort}")
            _require(1 <= size <= MAX_SIZE, f"cell {cell}: {size} values")
            _require(size <= 1 << width, f"cell {cell}: {size} values in {width} bits")
            # Each test node has a child for every pattern of the bits.
            _require(width <= _width(MAX_SIZE), f"cell {cell}: {width} bits")
            if sort != PLAIN:
                _require(size > self.ids(sort), f"cell {cell} cannot refer to every id")
                _require(
                    width <= _width(MAX_REF_SIZE), f"cell {cell}: {width} bits for a reference"
                )
            mask = ((1 << width) - 1) << shift
            _require(taken[word] & mask == 0, f"cell {cell} overlaps another cell")
            taken[word] |= mask

    def _validate_records(self) -> None:
        """Check that records part the cells and that those of a kind look alike."""
        _require(len(self.task_cells) == self.tasks, "task_cells: wrong length")
        _require(len(self.group_cells) == self.groups, "group_cells: wrong length")
        _require(len(self.map_cells) == self.mms, "map_cells: wrong length")
        _require(all(len(row) == self.addrs for row in self.map_cells), "map_cells: wrong length")
        maps = [record for row in self.map_cells for record in row]
        for name, records in (
            ("task", self.task_cells),
            ("group", self.group_cells),
            ("map", maps),
        ):
            _require(len({self.shape(r) for r in records}) <= 1, f"{name} records differ in shape")
        members = [c for r in (*self.task_cells, *self.group_cells, *maps) for c in r]
        _require(sorted(members) == list(range(self.cells)), "records do not part the cells")

    def place(self, record: Sequence[int]) -> tuple[int, int]:
        """The word of a record and the lowest bit of it there."""
        if not record:
            return 0, 0
        return self.cell_word[record[0]], min(self.cell_shift[c] for c in record)

    def shape(self, record: Sequence[int]) -> tuple[tuple[int, int, int, int], ...]:
        """Shift from the start of the record, width, sort and size of its cells."""
        word, base = self.place(record)
        _require(all(self.cell_word[c] == word for c in record), "a record straddles words")
        shape = tuple(
            (self.cell_shift[c] - base, self.cell_width[c], self.cell_sort[c], self.cell_size[c])
            for c in record
        )
        # Symmetry moves records as runs of bits, so no other cell may lie inside.
        bits = max((shift + width for shift, width, _, _ in shape), default=0)
        _require(bits == sum(width for _, width, _, _ in shape), "a record is not contiguous")
        return shape


@dataclass(frozen=True)
class Leaf:
    """One outcome of a step: a parallel update in which all reads see the old state.

    ``moves`` are (dst, src, table), meaning new[dst] = tables[table][old[src]];
    ``consts`` are (dst, value).  A leaf that is ``saturated`` has no successor:
    each bit names a bound that was full.  Its predicates still count.  With bit 31
    alone, the leaf only reports: it fires before all others, and where its violation is
    pruned, the same action's other leaves are pruned in that state.
    """

    action: int
    violations: int = 0
    witnesses: int = 0
    saturated: int = 0
    moves: tuple[tuple[int, int, int], ...] = ()
    consts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Order:
    """The nodes of the transition trees and of the predicates, children first, with these.

    ``fan``: upper bound for the number of leaves that one state fires.
    """

    steps: Mapping[int, Sequence[int]]
    predicates: Mapping[int, Sequence[int]]
    fan: int


@dataclass(frozen=True)
class Program:
    """Initial states, transition trees and state predicate trees over a layout.

    ``roots`` are tried in order on every state.  The results of all
    ``state_roots`` are joined.  ``masks`` are (violations, witnesses).  A table
    has an entry for each value of its source cell; TRAP marks an impossible one.
    """

    layout: Layout
    initial: tuple[Values, ...]
    nodes: Sequence[int]
    roots: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    n_actions: int
    tables: tuple[tuple[int, ...], ...] = ()
    state_roots: tuple[int, ...] = ()
    masks: tuple[tuple[int, int], ...] = ()

    def validate(self) -> Order:
        """Raise ValueError unless the engine can rely on every field."""
        self.layout.validate()
        _require(bool(self.initial), "no initial state")
        for values in self.initial:
            self.layout.pack(values)
        _require(0 <= self.n_actions <= MAX_LEAVES, f"{self.n_actions} actions")
        _require(len(self.leaves) <= MAX_LEAVES, f"{len(self.leaves)} leaves")
        _require(len(self.masks) <= MAX_LEAVES, f"{len(self.masks)} masks")
        fine: set[tuple[int, ...]] = set()
        for number, leaf in enumerate(self.leaves):
            self._validate_leaf(number, leaf, fine)
        for number, (violations, witnesses) in enumerate(self.masks):
            in_range = 0 <= violations <= _U64 and 0 <= witnesses <= _U64
            _require(in_range, f"mask {number} exceeds 64 bits")
        steps = self.postorder(self.roots, {TEST, CHOICE, LEAF})
        fan = self._fan(steps)
        _require(fan <= MAX_FAN, "too many transitions from one state")
        return Order(steps, self.postorder(self.state_roots, {TEST, MASK}), fan)

    def _validate_leaf(self, number: int, leaf: Leaf, fine: set[tuple[int, ...]]) -> None:
        """Check the labels and the updates of a leaf; those in ``fine`` have been seen."""
        _require(0 <= leaf.action < self.n_actions, f"leaf {number}: no action {leaf.action}")
        _require(0 <= leaf.violations <= _U64, f"leaf {number}: violations exceed 64 bits")
        _require(0 <= leaf.witnesses <= _U64, f"leaf {number}: witnesses exceed 64 bits")
        _require(0 <= leaf.saturated < 1 << 32, f"leaf {number}: saturated exceeds 32 bits")
        if not fine.issuperset(leaf.moves):
            for move in leaf.moves:
                self._validate_move(number, *move)
            fine.update(leaf.moves)
        if not fine.issuperset(leaf.consts):
            for dst, value in leaf.consts:
                self._validate_target(number, dst)
                fits = 0 <= value < self.layout.cell_size[dst]
                _require(fits, f"leaf {number}: cell {dst} cannot hold {value}")
            fine.update(leaf.consts)
        written = [update[0] for update in (*leaf.moves, *leaf.consts)]
        if len(set(written)) < len(written):
            twice = next(dst for i, dst in enumerate(written) if dst in written[:i])
            raise ValueError(f"leaf {number} writes cell {twice} twice")

    def _validate_move(self, number: int, dst: int, src: int, table: int) -> None:
        """Check that a leaf's table fits the cells."""
        size = self.layout.cell_size
        self._validate_target(number, dst)
        _require(0 <= src < len(size), f"leaf {number}: no cell {src}")
        _require(0 <= table < len(self.tables), f"leaf {number}: no table {table}")
        row = self.tables[table]
        _require(len(row) == size[src], f"leaf {number}: table {table} does not fit cell {src}")
        fits = max(row) < size[dst] and min(row) >= TRAP and NONE not in row
        _require(fits, f"leaf {number}: table {table} does not fit cell {dst}")

    def _validate_target(self, number: int, dst: int) -> None:
        """Check that a leaf writes an existing cell."""
        _require(0 <= dst < self.layout.cells, f"leaf {number}: no cell {dst}")

    def children(self, node: int) -> Sequence[int]:
        """The children of a TEST or CHOICE node; none for other nodes."""
        kind = self.nodes[node]
        if kind == TEST:
            return self.nodes[node + 3 : node + 3 + self.nodes[node + 2]]
        if kind == CHOICE:
            return self.nodes[node + 2 : node + 2 + self.nodes[node + 1]]
        return ()

    def postorder(self, roots: Iterable[int], kinds: set[int]) -> dict[int, Sequence[int]]:
        """All nodes below the roots, children first, and their children.

        ValueError if malformed or cyclic.
        """
        order: dict[int, Sequence[int]] = {}
        children: dict[int, Sequence[int]] = {}
        # Nodes on the way down are False, finished ones True.
        finished: dict[int, bool] = {}
        stack = self._below(roots, finished)
        while stack:
            node = stack[-1]
            if node not in finished:
                self._validate_node(node, kinds)
                finished[node] = False
                children[node] = self.children(node)
                stack += self._below(children[node], finished)
                continue
            stack.pop()
            if not finished[node]:
                finished[node] = True
                order[node] = children[node]
        return order

    def _below(self, children: Iterable[int], finished: Mapping[int, bool]) -> list[int]:
        """The children that are nodes still to be visited, without repetitions."""
        found: list[int] = []
        for child in set(children):
            if child < TRAP:
                raise ValueError(f"no node {child}")
            if child >= 0 and not finished.get(child, False):
                if child in finished:
                    raise ValueError(f"node {child} is its own descendant")
                found.append(child)
        return sorted(found, reverse=True)

    def _validate_node(self, node: int, kinds: set[int]) -> None:
        """Check the kind, the extent and the operands of a node."""
        # Conditions are spelled out for speed: there may be many nodes.
        if not 0 <= node < len(self.nodes) - 1:
            raise ValueError(f"no node {node}")
        kind, operand = self.nodes[node], self.nodes[node + 1]
        if kind not in kinds:
            raise ValueError(f"node {node}: kind {kind} is not allowed here")
        length = 2
        if kind == TEST:
            if not 0 <= operand < self.layout.cells:
                raise ValueError(f"node {node}: no cell {operand}")
            size = self.layout.cell_size[operand]
            # The length of a node cut off before its count does not matter.
            count = self.nodes[node + 2] if node + 2 < len(self.nodes) else size
            if count != size:
                raise ValueError(f"node {node}: {count} children for {size} values")
            length = 3 + count
        elif kind == CHOICE:
            if operand < 0:
                raise ValueError(f"node {node}: {operand} children")
            length += operand
        elif not 0 <= operand < len(self.leaves if kind == LEAF else self.masks):
            raise ValueError(f"node {node}: no leaf or mask {operand}")
        if node + length > len(self.nodes):
            raise ValueError(f"node {node} is cut off")

    def _fan(self, order: Mapping[int, Sequence[int]]) -> int:
        """Upper bound for the number of leaves that one state fires."""
        fans = self.fans(order)
        return sum(fans.get(root, 0) for root in self.roots)

    def fans(self, order: Mapping[int, Sequence[int]]) -> Mapping[int, int]:
        """For each node, children first, the most leaves that a walk from it reaches."""
        fans: dict[int, int] = {}
        for node, children in order.items():
            below = [fans.get(child, 0) for child in children]
            if self.nodes[node] == CHOICE:
                fans[node] = sum(below)
            else:
                fans[node] = max(below, default=1 if self.nodes[node] == LEAF else 0)
        return fans
