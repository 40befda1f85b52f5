"""The C engine against brute force in Python, on small random programs."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.engine import Engine, Hit, Progress, Result, TrapError, Witness
from shstk.engine.program import (
    ADDR,
    CHOICE,
    GROUP,
    LEAF,
    MASK,
    MM,
    NONE,
    PLAIN,
    TASK,
    TEST,
    TRAP,
    Field,
    Layout,
    Leaf,
    Program,
    Values,
)

SEEDS = st.integers(0, 2**32)
RENAMINGS = (TASK, MM, ADDR, GROUP)


@dataclass
class Nodes:
    """A pool of nodes under construction."""

    pool: list[int] = field(default_factory=list)

    def add(self, *words: int) -> int:
        """Append a node and return its offset."""
        self.pool.extend(words)
        return len(self.pool) - len(words)

    def test(self, cell: int, children: Sequence[int]) -> int:
        """Append a test of a cell."""
        return self.add(TEST, cell, len(children), *children)

    def choice(self, children: Sequence[int]) -> int:
        """Append a choice."""
        return self.add(CHOICE, len(children), *children)


# The reference: what the tables mean, as plainly as can be.


def walk(program: Program, values: Values, node: int) -> Iterator[int]:
    """Leaves or masks that a tree reaches in a state."""
    assert node != TRAP
    if node == NONE:
        return
    nodes = program.nodes
    if nodes[node] == TEST:
        yield from walk(program, values, nodes[node + 3 + values[nodes[node + 1]]])
    elif nodes[node] == CHOICE:
        for i in range(nodes[node + 1]):
            yield from walk(program, values, nodes[node + 2 + i])
    else:
        yield nodes[node + 1]


def apply(program: Program, leaf: Leaf, values: Values) -> Values:
    """The successor by a leaf."""
    new = list(values)
    for dst, src, table in leaf.moves:
        new[dst] = program.tables[table][values[src]]
    for dst, value in leaf.consts:
        new[dst] = value
    assert TRAP not in new
    return tuple(new)


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    return [bit for bit in range(64) if mask >> bit & 1]


@dataclass
class Reference:
    """Breadth-first search over the tables."""

    program: Program
    prune_mask: int = 0
    order: list[Values] = field(default_factory=list)
    number: dict[Values, int] = field(default_factory=dict)
    reached: list[tuple[int, int]] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    hits: dict[tuple[int, int], Hit] = field(default_factory=dict)
    witnesses: dict[int, Witness] = field(default_factory=dict)
    saturated: dict[int, int] = field(default_factory=dict)
    transitions: int = 0
    pruned: int = 0
    edges: list[tuple[int, int, int]] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)

    def run(self) -> Reference:
        """Search until nothing is new."""
        for values in self.program.initial:
            self.enter(values, -1, -1)
        done = 0
        while done < len(self.order):
            if done not in self.ended:
                self.expand(done)
            done += 1
        return self

    def note(self, kind: str, pair: tuple[int, int], action: int, state: int, leaf: int) -> None:
        """Record predicates that hold for the first time."""
        for bit in bits(pair[0]):
            self.hits.setdefault((bit, action), Hit(kind, bit, action, state, leaf))
        for bit in bits(pair[1]):
            on_step = leaf if kind == "step" else -1
            self.witnesses.setdefault(bit, Witness(bit, state, on_step))

    def enter(self, values: Values, parent: int, leaf: int) -> int:
        """Add a state unless it is known."""
        if values in self.number:
            return self.number[values]
        state = self.number[values] = len(self.order)
        self.order.append(values)
        self.reached.append((parent, leaf))
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        pair = judge(self.program, values)
        action = self.program.leaves[leaf].action if leaf >= 0 else self.program.n_actions
        self.note("state", pair, action, state, leaf)
        if pair[0] & self.prune_mask:
            self.ended.add(state)
        return state

    def expand(self, state: int) -> None:
        """Fire all transitions of a state, after all reports."""
        values, leaves = self.order[state], self.program.leaves
        fired = [n for root in self.program.roots for n in walk(self.program, values, root)]
        for number in sorted(fired, key=lambda n: leaves[n].saturated != 1 << 31):
            leaf = leaves[number]
            pair = (leaf.violations, leaf.witnesses)
            self.note("step", pair, leaf.action, state, number)
            for bit in bits(leaf.saturated):
                self.saturated[bit] = self.saturated.get(bit, 0) + 1
            if leaf.saturated:
                continue
            if leaf.violations & self.prune_mask:
                self.pruned += 1
                continue
            self.transitions += 1
            target = self.enter(apply(self.program, leaf, values), state, number)
            self.edges.append((state, number, target))

    def levels(self) -> tuple[int, ...]:
        """Number of states at each depth."""
        return tuple(self.depths.count(d) for d in range(max(self.depths) + 1))


def judge(program: Program, values: Values) -> tuple[int, int]:
    """The state predicates that hold."""
    violations = witnesses = 0
    for root in program.state_roots:
        for mask in walk(program, values, root):
            violations |= program.masks[mask][0]
            witnesses |= program.masks[mask][1]
    return violations, witnesses


# Random programs.


def random_layout(rng: random.Random, most: int = 3) -> Layout:
    """A small layout; every kind of record may hold every sort of reference."""
    counts = {
        "tasks": rng.randint(1, most),
        "mms": rng.randint(0, most),
        "addrs": rng.randint(0, most),
        "groups": rng.randint(0, 2),
    }
    ids = (0, counts["tasks"], counts["mms"], counts["addrs"], counts["groups"])

    def fields(least: int, most: int) -> list[Field]:
        some = []
        for _ in range(rng.randint(least, most)):
            sort = rng.choice((PLAIN, *RENAMINGS))
            extra = rng.choice((1, 1, 2)) if sort else rng.randint(2, 5)
            some.append((ids[sort] + extra, sort))
        return some

    layout = Layout.build(fields(1, 5), fields(0, 2), fields(0, 2), **counts)
    return spread(rng, layout) if rng.random() < 0.5 else layout


def spread(rng: random.Random, layout: Layout) -> Layout:
    """The layout with each record somewhere in a word of its own."""
    word, shift = list(layout.cell_word), list(layout.cell_shift)
    maps = [record for row in layout.map_cells for record in row]
    records = [r for r in (*layout.task_cells, *layout.group_cells, *maps) if r]
    if len(records) > 16:
        return layout
    for number, record in enumerate(records):
        bits = sum(layout.cell_width[cell] for cell in record)
        base = rng.randint(0, 64 - bits) - layout.place(record)[1]
        for cell in record:
            word[cell] = number
            shift[cell] += base
    spread_out = replace(layout, words=len(records), cell_word=tuple(word), cell_shift=tuple(shift))
    spread_out.validate()
    return spread_out


def random_values(rng: random.Random, layout: Layout) -> Values:
    """Any state; many cells are zero, so that empty records occur."""
    zero = rng.random()
    return tuple(0 if rng.random() < zero else rng.randrange(s) for s in layout.cell_size)


def random_tree(rng: random.Random, layout: Layout, nodes: Nodes, ends: list[int]) -> int:
    """A tree (or DAG) over existing nodes; choices if the ends are leaves."""
    pool = [*ends, NONE]
    for _ in range(rng.randint(1, 12)):
        # Mostly recent nodes, for depth.
        recent = pool if rng.random() < 0.3 else pool[-len(ends) :]
        if rng.random() < 0.7:
            cell = rng.randrange(layout.cells)
            pool.append(nodes.test(cell, rng.choices(recent, k=layout.cell_size[cell])))
        elif nodes.pool[ends[0]] == LEAF:
            pool.append(nodes.choice(rng.choices(recent, k=rng.randint(0, 3))))
    return pool[-1]


def random_leaf(rng: random.Random, layout: Layout, tables: list[tuple[int, ...]]) -> Leaf:
    """A leaf that writes a few cells from others, through new tables."""
    size = layout.cell_size
    moves: list[tuple[int, int, int]] = []
    consts: list[tuple[int, int]] = []
    for dst in rng.sample(range(layout.cells), rng.randint(1, min(4, layout.cells))):
        src = rng.randrange(layout.cells)
        if rng.random() < 0.3:
            consts.append((dst, rng.randrange(size[dst])))
            continue
        if size[src] <= size[dst] and rng.random() < 0.5:
            tables.append(tuple(range(size[src])))
        else:
            tables.append(tuple(rng.randrange(size[dst]) for _ in range(size[src])))
        moves.append((dst, src, len(tables) - 1))
    return Leaf(
        action=rng.randrange(3),
        violations=rng.choice((0, 0, 0, 0, 0, 1, 2, 1 << 63)),
        witnesses=rng.choice((0, 0, 1, 6)),
        saturated=rng.choice((0, 0, 0, 0, 5)),
        moves=tuple(moves),
        consts=tuple(consts),
    )


def random_program(rng: random.Random) -> Program:
    """A program without any symmetry."""
    layout = random_layout(rng)
    tables: list[tuple[int, ...]] = []
    leaves = tuple(random_leaf(rng, layout, tables) for _ in range(rng.randint(2, 15)))
    masks = tuple((rng.choice((0, 1, 8)), rng.choice((0, 1, 16))) for _ in range(3))
    nodes = Nodes()
    ends = [nodes.add(LEAF, leaf) for leaf in range(len(leaves))]
    mask_ends = [nodes.add(MASK, mask) for mask in range(len(masks))]
    initial = {random_values(rng, layout) for _ in range(rng.randint(1, 3))}
    return Program(
        layout=layout,
        initial=tuple(sorted(initial)),
        nodes=nodes.pool,
        roots=tuple(random_tree(rng, layout, nodes, ends) for _ in range(rng.randint(1, 5))),
        leaves=leaves,
        n_actions=3,
        tables=tuple(tables),
        state_roots=tuple(random_tree(rng, layout, nodes, mask_ends) for _ in range(2)),
        masks=masks,
    )


# Renamings.

Renaming = dict[int, tuple[int, ...]]


def renamings(layout: Layout) -> list[Renaming]:
    """All renamings of ids: for each sort, the new id of each old one."""
    groups = [itertools.permutations(range(layout.ids(sort))) for sort in RENAMINGS]
    return [dict(zip(RENAMINGS, p, strict=True)) for p in itertools.product(*groups)]


def rename(layout: Layout, renaming: Renaming, values: Values) -> Values:
    """The state with all ids renamed, and the records moved accordingly."""
    new = [-1] * layout.cells

    def move(old: Sequence[int], to: Sequence[int]) -> None:
        for src, dst in zip(old, to, strict=True):
            sort, value = layout.cell_sort[src], values[src]
            is_id = 1 <= value <= layout.ids(sort)
            new[dst] = renaming[sort][value - 1] + 1 if is_id else value

    for i, task in enumerate(layout.task_cells):
        move(task, layout.task_cells[renaming[TASK][i]])
    for i, group in enumerate(layout.group_cells):
        move(group, layout.group_cells[renaming[GROUP][i]])
    for m, row in enumerate(layout.map_cells):
        for a, record in enumerate(row):
            move(record, layout.map_cells[renaming[MM][m]][renaming[ADDR][a]])
    assert -1 not in new
    return tuple(new)


def orbit(layout: Layout, values: Values) -> set[Values]:
    """All renamings of a state."""
    return {rename(layout, renaming, values) for renaming in renamings(layout)}


class SymmetricProgram:
    """A random program whose steps take any ids as parameters, hence symmetric."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.layout = random_layout(rng)
        while self.layout.tasks < 2 or self.layout.cells < 6:
            self.layout = random_layout(rng)
        self.nodes = Nodes()
        self.leaves: list[Leaf] = []
        self.tables: list[tuple[int, ...]] = []

    def program(self) -> Program:
        """A few kinds of steps, from the state in which all is NULL or zero."""
        steps = [self.step(action) for action in range(self.rng.randint(4, 10))]
        return Program(
            layout=self.layout,
            initial=((0,) * self.layout.cells,),
            nodes=self.nodes.pool,
            roots=tuple(root for roots in steps for root in roots),
            leaves=tuple(self.leaves),
            n_actions=10,
            tables=tuple(self.tables),
        )

    def frames(self) -> list[tuple[int, ...]]:
        """All (task, mm, address, group) parameters; 0 where there is no id."""
        return list(itertools.product(*(range(max(1, self.layout.ids(s))) for s in RENAMINGS)))

    def cells(self, frame: tuple[int, ...]) -> list[int]:
        """The cells of the records that the parameters name, in a fixed order."""
        task, mm, addr, group = frame
        layout = self.layout
        cells = list(layout.task_cells[task])
        if layout.groups:
            cells += layout.group_cells[group]
        if layout.mms and layout.addrs:
            cells += layout.map_cells[mm][addr]
        return cells

    def step(self, action: int) -> list[int]:
        """The trees of one kind of step, one for each choice of parameters."""
        layout, rng = self.layout, self.rng
        cells = self.cells(self.frames()[0])
        # A guard or an update is about a position among the cells of the frame.
        guards = [(i, self.some_value(cells[i])) for i in self.sample(cells, 0, 2)]
        updates = [(i, self.some_source(cells, i)) for i in self.sample(cells, 1, 3)]
        violations = rng.choice((0, 0, 2))
        roots = []
        for frame in self.frames():
            here = self.cells(frame)
            moves, consts = [], []
            for i, (kind, value) in updates:
                if kind == "copy":
                    self.tables.append(tuple(range(layout.cell_size[here[value]])))
                    moves.append((here[i], here[value], len(self.tables) - 1))
                else:
                    consts.append((here[i], self.absolute(kind, value, here[i], frame)))
            self.leaves.append(
                Leaf(action, violations=violations, moves=tuple(moves), consts=tuple(consts))
            )
            node = self.nodes.add(LEAF, len(self.leaves) - 1)
            for i, (kind, value) in guards:
                children = [NONE] * layout.cell_size[here[i]]
                children[self.absolute(kind, value, here[i], frame)] = node
                node = self.nodes.test(here[i], children)
            roots.append(node)
        return roots

    def sample(self, cells: list[int], least: int, most: int) -> list[int]:
        """A few positions among the cells."""
        return self.rng.sample(range(len(cells)), min(len(cells), self.rng.randint(least, most)))

    def some_value(self, cell: int) -> tuple[str, int]:
        """A constant, or the parameter of the sort of the cell."""
        layout = self.layout
        ids = layout.ids(layout.cell_sort[cell])
        if ids and self.rng.random() < 0.7:
            return "param", 0
        constants = [v for v in range(layout.cell_size[cell]) if v == 0 or v > ids]
        return "const", self.rng.choice(constants)

    def some_source(self, cells: list[int], i: int) -> tuple[str, int]:
        """What to write to a cell: a value, or another cell of the same type."""
        layout = self.layout
        kind = (layout.cell_sort[cells[i]], layout.cell_size[cells[i]])
        alike = [
            j for j, c in enumerate(cells) if (layout.cell_sort[c], layout.cell_size[c]) == kind
        ]
        if self.rng.random() < 0.3:
            return "copy", self.rng.choice(alike)
        return self.some_value(cells[i])

    def absolute(self, kind: str, value: int, cell: int, frame: tuple[int, ...]) -> int:
        """A value in terms of the parameters."""
        return frame[self.layout.cell_sort[cell] - 1] + 1 if kind == "param" else value


# Exploration.


def assert_same(engine: Engine, result: Result, reference: Reference) -> None:
    """All that was found is as in the reference, in the same order."""
    count = len(reference.order)
    assert result.complete
    assert result.states == result.expanded == count
    assert [engine.state(i) for i in range(count)] == reference.order
    assert [(engine.parent(i), engine.leaf(i)) for i in range(count)] == reference.reached
    assert [engine.depth(i) for i in range(count)] == reference.depths
    assert result.levels == reference.levels()
    assert (result.transitions, result.pruned) == (reference.transitions, reference.pruned)
    assert result.hits == reference.hits
    assert result.witnesses == reference.witnesses
    assert result.saturated == reference.saturated
    assert list(engine.edges()) == reference.edges
    assert result.violations == sum(1 << b for b in {bit for bit, _ in reference.hits})
    assert result.witnessed == sum(1 << b for b in reference.witnesses)


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from([None, 1, 0xFF, (1 << 64) - 1]))
def test_exploration_equals_brute_force(seed: int, prune_mask: int | None) -> None:
    program = random_program(random.Random(seed))
    engine = Engine(program)
    result = engine.explore(prune=prune_mask is not None, prune_mask=prune_mask or 0)
    assert_same(engine, result, Reference(program, prune_mask or 0).run())


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_what_is_said_once_changes_nothing_else(seed: int) -> None:
    """A leaf that only reports is left out once it is known, and all that is found is the same."""
    program = random_program(random.Random(seed))
    leaves = tuple(replace(x, saturated=x.saturated and 1 << 31) for x in program.leaves)
    program = replace(program, leaves=leaves)
    engine = Engine(program)
    result = engine.explore()
    reference = Reference(program).run()
    assert set(result.saturated) == set(reference.saturated)
    assert result.saturated.get(31, 0) <= reference.saturated.get(31, 0)
    assert_same(engine, replace(result, saturated=reference.saturated), reference)
    values = random_values(random.Random(seed), program.layout)
    assert engine.violations(values) == judge(program, values)


def test_a_report_comes_before_what_it_prunes() -> None:
    """Wherever a report stands, what its action does in that state is pruned."""
    layout = Layout.build([(2, PLAIN)], tasks=1)
    nodes = Nodes()
    roots = (nodes.test(0, [nodes.add(LEAF, 0)] * 2), nodes.test(0, [nodes.add(LEAF, 1)] * 2))
    leaves = (Leaf(0, consts=((0, 1),)), Leaf(0, violations=1, saturated=1 << 31))
    engine = Engine(Program(layout, ((0,),), nodes.pool, roots, leaves, n_actions=1))
    pruned = engine.explore(prune=True)
    assert (pruned.states, pruned.transitions, pruned.pruned) == (1, 0, 1)
    assert engine.explore().states == 2


def test_a_report_is_not_asked_for_again() -> None:
    """Where there are many states, what a leaf reports is counted only until it is known."""
    program = counter(6, limit=6)
    leaves = tuple(replace(x, witnesses=x.saturated and 1) for x in program.leaves)
    result = Engine(replace(program, leaves=leaves)).explore()
    assert result.states == 6**6
    assert result.witnessed == 1
    assert 0 < result.saturated[31] < 6**6 < Engine(program).explore().saturated[31] + 1


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_single_states_equal_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    program = random_program(rng)
    engine = Engine(program)
    values = random_values(rng, program.layout)
    expected = [
        (number, apply(program, program.leaves[number], values))
        for root in program.roots
        for number in walk(program, values, root)
        if not program.leaves[number].saturated
    ]
    assert engine.successors(values) == expected
    assert engine.violations(values) == judge(program, values)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_paths_and_lookup(seed: int) -> None:
    program = random_program(random.Random(seed))
    engine = Engine(program)
    result = engine.explore()
    for state in range(min(result.states, 200)):
        assert engine.lookup(engine.state(state)) == state
        path = engine.path(state)
        assert len(path) == engine.depth(state) + 1
        assert path[0][0] == -1 and path[-1][1] == state
        for (_, source), (leaf, target) in itertools.pairwise(path):
            assert (leaf, engine.state(target)) in engine.successors(engine.state(source))


def test_lookup_of_unknown_state() -> None:
    program = counter(3, limit=2)
    engine = Engine(program)
    assert engine.lookup((0, 0, 0)) is None
    engine.explore(max_depth=1)
    assert engine.lookup((1, 0, 1)) is None
    engine.explore()
    assert engine.lookup((1, 0, 1)) == 5
    with pytest.raises(IndexError):
        engine.state(8)


# Symmetry.


@settings(max_examples=1000, deadline=None)
@given(SEEDS)
def test_canonical_form_is_one_per_orbit(seed: int) -> None:
    rng = random.Random(seed)
    layout = random_layout(rng)
    values = random_values(rng, layout)
    engine = Engine(Program(layout, (values,), (), (), (), 0))
    form = engine.canonical(values)
    everything = orbit(layout, values)
    assert form in everything
    for other in rng.sample(sorted(everything), min(len(everything), 30)):
        assert engine.canonical(other) == form


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_symmetric_exploration_finds_all_orbits(seed: int) -> None:
    program = SymmetricProgram(random.Random(seed)).program()
    engine = Engine(program)
    raw = engine.explore(max_states=2000)
    if not raw.complete:
        return
    forms = [engine.canonical(engine.state(i)) for i in range(raw.states)]
    depth = {form: engine.depth(i) for i, form in reversed(list(enumerate(forms)))}
    edges = {(forms[source], forms[target]) for source, _, target in engine.edges()}
    result = engine.explore(symmetry=True)
    assert result.complete
    assert {engine.state(i): engine.depth(i) for i in range(result.states)} == depth
    assert {(engine.state(s), engine.state(t)) for s, _, t in engine.edges()} == edges
    assert result.hits.keys() == raw.hits.keys()
    for form in depth:
        for other in itertools.islice(orbit(program.layout, form), 5):
            found = engine.lookup(other)
            assert found is not None and engine.state(found) == form


def test_orbits_of_independent_counters() -> None:
    engine = Engine(counter(4, limit=3))
    assert engine.explore().states == 3**4
    result = engine.explore(symmetry=True)
    assert result.states == 15  # multisets of four out of three values
    assert result.symmetry
    assert engine.lookup((2, 0, 1, 0)) == engine.lookup((0, 0, 1, 2))


# Limits and failures.


def counter(tasks: int, limit: int) -> Program:
    """Tasks that each count up to a limit; full counters saturate."""
    layout = Layout.build([(limit, PLAIN)], tasks=tasks)
    nodes = Nodes()
    up = tuple(range(1, limit)) + (TRAP,)
    leaves: list[Leaf] = []
    roots: list[int] = []
    for (cell,) in layout.task_cells:
        step, full = len(leaves), len(leaves) + 1
        leaves += [Leaf(0, moves=((cell, cell, 0),)), Leaf(1, saturated=1 << 31)]
        children = [nodes.add(LEAF, step)] * (limit - 1) + [nodes.add(LEAF, full)]
        roots.append(nodes.test(cell, children))
    return Program(
        layout=layout,
        initial=((0,) * tasks,),
        nodes=nodes.pool,
        roots=tuple(roots),
        leaves=tuple(leaves),
        n_actions=2,
        tables=(up,),
    )


def test_saturation_is_counted() -> None:
    result = Engine(counter(3, limit=4)).explore()
    assert result.states == 64
    assert result.transitions == 3 * 3 * 16
    assert result.saturated == {31: 3 * 16}


def test_growth() -> None:
    """Enough states for the arrays and the index to grow many times."""
    engine = Engine(counter(6, limit=8))
    result = engine.explore()
    assert result.states == 8**6
    assert result.levels[:3] == (1, 6, 21)
    assert len(result.levels) == 6 * 7 + 1
    assert engine.state(result.states - 1) == (7,) * 6
    assert sum(1 for _ in engine.edges()) == result.transitions == 6 * 7 * 8**5
    least = result.states * (8 + 4 + 4 + 4)
    assert least < result.peak_bytes < 4 * least


def test_state_limit() -> None:
    engine = Engine(counter(3, limit=4))
    result = engine.explore(max_states=20)
    assert (result.status, result.states, sum(result.levels)) == ("states", 20, 20)
    assert all(target < 20 for _, _, target in engine.edges())
    assert engine.explore(max_states=64).complete


def test_depth_limit() -> None:
    result = Engine(counter(3, limit=4)).explore(max_depth=2)
    assert (result.status, result.levels, result.expanded) == ("depth", (1, 3, 6), 4)
    assert Engine(counter(3, limit=4)).explore(max_depth=10).complete


@pytest.mark.parametrize("max_bytes", [0, 1_000_000, 5_000_000])
def test_memory_limit(max_bytes: int) -> None:
    engine = Engine(counter(6, limit=8))
    result = engine.explore(max_bytes=max_bytes)
    assert result.status == "memory"
    assert max_bytes == 0 or result.peak_bytes <= max_bytes
    assert result.states >= max_bytes // 40
    assert sum(result.levels) in (0, result.states)
    for source, _, target in engine.edges():
        assert source < result.expanded
        assert target < result.states


def test_progress_and_interrupt() -> None:
    """An interrupt from the keyboard keeps what has been found."""
    seen: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    engine = Engine(counter(8, limit=8))
    result = engine.explore(progress=interrupt)
    assert result.status == "interrupted"
    assert 0 < seen[0].states <= result.states < 8**8
    assert seen[0].frontier > 0 and seen[0].bytes > 0
    assert all(t < result.states for _, _, t in itertools.islice(engine.edges(), 1000))
    assert engine.explore(max_states=1000).status == "states"


def test_failing_progress_stops_the_exploration() -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Engine(counter(8, limit=8)).explore(progress=fail)
    assert threading.active_count() == 1


def test_trap_in_transition_tree() -> None:
    program = counter(2, limit=3)
    nodes = list(program.nodes)
    nodes[program.roots[0] + 3 + 2] = TRAP
    engine = Engine(replace(program, nodes=nodes))
    result = engine.explore()
    assert result.status == "trap" and result.trap is not None
    assert (result.trap.kind, result.trap.leaf) == ("transition tree", -1)
    assert result.trap.values == engine.state(result.trap.state) == (2, 0)
    with pytest.raises(TrapError):
        engine.successors((2, 1))


def test_trap_in_update_table() -> None:
    program = counter(2, limit=3)
    engine = Engine(replace(program, tables=((1, TRAP, TRAP),)))
    result = engine.explore()
    assert result.status == "trap" and result.trap is not None
    assert (result.trap.kind, result.trap.values) == ("update table", (1, 0))
    assert result.trap.leaf == 0
    with pytest.raises(TrapError):
        engine.successors((1, 0))


def test_trap_in_state_predicate() -> None:
    program = counter(2, limit=3)
    nodes = [*program.nodes, TEST, 1, 3, NONE, NONE, TRAP]
    engine = Engine(replace(program, nodes=nodes, state_roots=(len(program.nodes),)))
    result = engine.explore()
    assert result.status == "trap" and result.trap is not None
    assert (result.trap.kind, result.trap.values) == ("state predicate tree", (0, 2))
    with pytest.raises(TrapError):
        engine.violations((0, 2))


# Layouts and validation.


def test_layout_places_records() -> None:
    layout = Layout.build(
        [(2, PLAIN), (4, TASK), (3, MM)],
        [(9, GROUP)],
        [(5, ADDR)],
        tasks=3,
        mms=2,
        addrs=2,
        groups=2,
    )
    assert layout.cells == 3 * 3 + 2 + 4
    assert layout.task_cells == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert layout.group_cells == ((9,), (10,))
    assert layout.map_cells == (((11,), (12,)), ((13,), (14,)))
    assert layout.words == 1
    values = (1, 3, 2, 0, 0, 0, 1, 1, 1, 8, 0, 4, 0, 3, 1)
    assert layout.unpack(layout.pack(values)) == values
    with pytest.raises(ValueError, match="cell 0 cannot hold 2"):
        layout.pack((2, *values[1:]))


def test_layout_of_many_words() -> None:
    layout = Layout.build([(4096, PLAIN)] * 5, tasks=8)
    assert layout.words == 8
    values = tuple(range(4000, 4040))
    assert layout.unpack(layout.pack(values)) == values


def test_layout_rejects() -> None:
    with pytest.raises(ValueError, match="fit a word"):
        Layout.build([(4096, PLAIN)] * 6, tasks=1)
    with pytest.raises(ValueError, match="cannot refer to every id"):
        Layout.build([(3, TASK)], tasks=3)
    layout = Layout.build([(4, PLAIN), (4, PLAIN)], tasks=2)
    with pytest.raises(ValueError, match="overlaps"):
        replace(layout, cell_shift=(0, 1, 4, 6)).validate()
    with pytest.raises(ValueError, match="straddles"):
        replace(layout, cell_shift=(0, 2, 62, 63)).validate()
    with pytest.raises(ValueError, match="not contiguous"):
        replace(layout, cell_shift=(0, 4, 2, 6)).validate()
    with pytest.raises(ValueError, match="differ in shape"):
        replace(layout, cell_shift=(0, 2, 6, 4)).validate()
    with pytest.raises(ValueError, match="part the cells"):
        replace(layout, task_cells=((0, 1), (0, 1))).validate()


def test_program_rejects() -> None:
    program = counter(2, limit=3)
    root = program.roots[0]

    def with_node(offset: int, word: int) -> Program:
        nodes = list(program.nodes)
        nodes[root + offset] = word
        return replace(program, nodes=nodes)

    bad = {
        "kind 7": with_node(0, 7),
        "no cell 2": with_node(1, 2),
        "children for 3 values": with_node(2, 2),
        "own descendant": with_node(3, root),
        "no node 999": with_node(3, 999),
        "cut off": replace(program, roots=(len(program.nodes),), nodes=[*program.nodes, CHOICE, 1]),
        "no node 50": replace(program, roots=(50,)),
        "does not fit cell 0": replace(program, tables=((1, 2, 3),)),
        "no table 0": replace(program, tables=()),
        "no action": replace(program, n_actions=1),
        "no initial": replace(program, initial=()),
        "cannot hold 3": replace(program, initial=((3, 0),)),
        "not allowed here": replace(program, state_roots=program.roots),
        "twice": replace(program, leaves=(Leaf(0, consts=((0, 1), (0, 1))), *program.leaves[1:])),
    }
    for message, wrong in bad.items():
        with pytest.raises(ValueError, match=message):
            Engine(wrong)
