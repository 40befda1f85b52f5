"""Laws between the text, its tables, slices of them, and the engine's packing and symmetry.

States are met on random walks over the whole model, so every one of them is reachable.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.designs import Design
from model.kernel import FAMILIES, STEPS
from model.state import Sort
from shstk.build import CLAIMS, ORDINARY, Request, Tables, program
from shstk.engine import Engine, Program, Result
from shstk.slices import MERGES, WHOLE, Slice
from shstk.space import Bound, Space, Valuation
from shstk.tables import REPORT, SATURATION_BIT, Forest, apply, exchange_tasks

ALL = frozenset(FAMILIES)
SMALL = Bound(2, 1, 1)
WIDE = Bound(2, 2, 2)
DEADLY = frozenset({"exit", "exit-group", "sigkill", "exec", "exec-failure"})
SEEDS = st.integers(0, 2**32)
EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)

TablesOf = Callable[[Design, Bound], Tables]


@dataclass(frozen=True, eq=False)
class Explorer:
    """A program and its engine."""

    tables: Tables
    program: Program
    engine: Engine

    @property
    def space(self) -> Space:
        """The space of the whole model."""
        return self.tables.space

    def successors(self, state: Valuation) -> list[tuple[int, Valuation]]:
        """Actions and where they lead."""
        found = self.engine.successors(state)
        return [(self.program.leaves[leaf].action, after) for leaf, after in found]

    @cache  # noqa: B019 - explorers last as long as the session
    def trees(self, task: int) -> tuple[Forest, dict[str, int], dict[str, int]]:
        """The trees of steps and of reports for a task, by the steps' names."""
        forest = Forest(self.tables.forest)
        memo: dict[int, int] = {}

        def mine(roots: dict[str, int]) -> dict[str, int]:
            return {n: exchange_tasks(self.space, forest, r, task, memo) for n, r in roots.items()}

        return forest, mine(self.tables.steps), mine(self.tables.reports)

    def walk(self, seed: int, longest: int = 24) -> Valuation:
        """A reachable state; on the way every action is as likely, but few tasks die."""
        chance = random.Random(seed)
        state = self.space.initial
        for _ in range(chance.randrange(longest)):
            following = self.successors(state)
            if not following:
                break
            actions = sorted({a for a, _ in following})
            tasks = self.space.bound.tasks
            gentle = [a for a in actions if STEPS[a // tasks].family not in DEADLY]
            action = chance.choice(gentle if gentle and chance.random() < 0.97 else actions)
            state = chance.choice([s for a, s in following if a == action])
        return state


@pytest.fixture(scope="session")
def explorer_of(tables_of: TablesOf) -> Callable[..., Explorer]:
    """An engine for a design, bound, slice and mask of claims, built once."""

    @cache
    def build(
        design: Design,
        bound: Bound,
        part: Slice = WHOLE,
        claims: int = -1,
        families: frozenset[str] = ALL,
    ) -> Explorer:
        tables = tables_of(design, bound)
        made = program(tables, Request(families, claims, part))
        return Explorer(tables, made, Engine(made))

    return build


Build = Callable[..., Explorer]


# -- text and tables -------------------------------------------------------------


@pytest.mark.parametrize("bound", [SMALL, WIDE], ids=str)
@settings(EXAMPLES, max_examples=12)
@given(seed=SEEDS)
def test_a_table_step_is_a_text_step(
    explorer_of: Build, design: Design, bound: Bound, seed: int
) -> None:
    """In a reachable state, text, tables and engine give the same successors and reports."""
    explorer = explorer_of(design, bound)
    state = explorer.walk(seed)
    every = set()
    for task in range(bound.tasks):
        forest, steps, reports = explorer.trees(task)
        for number, step in enumerate(STEPS):
            action = number * bound.tasks + task
            taken = list(oracle.take(explorer.space, design, state, task, step))
            text = {t.after for t in taken if t.after is not None}
            full = {SATURATION_BIT[t.saturated] for t in taken if t.saturated is not None}
            leaves = apply(forest, steps[step.name], state)
            assert {leaf.action for leaf, _ in leaves} <= {action}
            assert {tuple(after) for leaf, after in leaves if not leaf.saturated} == text
            assert {leaf.saturated for leaf, _ in leaves if leaf.saturated} == full

            said = [leaf for leaf, _ in apply(forest, reports[step.name], state)]
            assert all(leaf.saturated == REPORT for leaf in said)
            assert joined(leaf.violations for leaf in said) == {
                b for t in taken for b in t.violated
            }
            assert joined(leaf.witnesses for leaf in said) == {
                b for t in taken for b in t.witnessed
            }
            every |= {(action, after) for after in text}
    assert set(explorer.successors(state)) == every


def joined(masks: Iterable[int]) -> set[int]:
    """The bits of all masks."""
    return {bit for mask in masks for bit in range(64) if mask >> bit & 1}


@EXAMPLES
@given(seed=SEEDS)
def test_state_claims_are_what_the_text_says(explorer_of: Build, design: Design, seed: int) -> None:
    """In a reachable state the predicate tables give what the claims' own text gives."""
    explorer = explorer_of(design, WIDE)
    state = explorer.walk(seed)
    violated, witnessed = explorer.engine.violations(state)
    assert (joined([violated]), joined([witnessed])) == oracle.judge(explorer.space, design, state)


# -- packing -----------------------------------------------------------------------


@EXAMPLES
@given(seed=SEEDS)
def test_packing_keeps_every_value(explorer_of: Build, design: Design, seed: int) -> None:
    """A packed state unpacks to itself."""
    explorer = explorer_of(design, WIDE)
    layout = explorer.space.layout
    state = explorer.walk(seed)
    assert layout.unpack(layout.pack(state)) == state


@EXAMPLES
@given(seed=SEEDS)
def test_packing_keeps_any_value_of_the_domains(seed: int) -> None:
    """So does a state that no run reaches."""
    space, chance = Space(WIDE), random.Random(seed)
    state = tuple(chance.randrange(len(domain)) for domain in space.domains)
    assert space.layout.unpack(space.layout.pack(state)) == state


# -- symmetry ----------------------------------------------------------------------

Renaming = dict[Sort, Sequence[int]]


def renamings(bound: Bound) -> list[Renaming]:
    """Every way to exchange objects of a bound."""
    each = [itertools.permutations(range(bound.size(sort))) for sort in Sort]
    return [dict(zip(Sort, images, strict=True)) for images in itertools.product(*each)]


def renamed(space: Space, state: Valuation, renaming: Renaming) -> Valuation:
    """The state with its objects exchanged, and every reference to them."""
    out = [0] * len(state)
    for cell, value in zip(space.cells, state, strict=True):
        sorts = [cell.record.sort] if cell.record.sort else [Sort.MM, Sort.ADDR]
        index = tuple(renaming[s][i] for s, i in zip(sorts, cell.index, strict=True))
        known = cell.domain[value]
        if cell.field.sort is not None and isinstance(known, int):
            value = cell.domain.index(renaming[cell.field.sort][known])
        out[space.number(cell.record, index, cell.field.name)] = value
    return tuple(out)


@EXAMPLES
@given(seed=SEEDS)
def test_renamed_states_have_one_canonical_form(
    explorer_of: Build, design: Design, seed: int
) -> None:
    """The canonical form is the same for all renamings of a state, and is one of them."""
    explorer = explorer_of(design, WIDE)
    state = explorer.walk(seed)
    orbit = {renamed(explorer.space, state, r) for r in renamings(WIDE)}
    forms = {explorer.engine.canonical(s) for s in orbit}
    assert len(forms) == 1
    assert forms <= orbit


@EXAMPLES
@given(seed=SEEDS)
def test_the_text_does_not_tell_objects_apart(
    explorer_of: Build, design: Design, seed: int
) -> None:
    """The steps from a renamed state are the renamed steps, and violate the same."""
    explorer = explorer_of(design, WIDE)
    space, state = explorer.space, explorer.walk(seed)
    renaming = random.Random(seed).choice(renamings(WIDE))
    other = renamed(space, state, renaming)
    assert oracle.judge(space, design, other) == oracle.judge(space, design, state)

    def steps(start: Valuation, names: Renaming) -> set[object]:
        """What can happen, as it looks after renaming."""
        return {
            (
                t.step.name,
                names[Sort.TASK][t.task],
                t.after and renamed(space, t.after, names),
                t.saturated,
                frozenset(t.violated),
            )
            for t in oracle.steps_from(space, design, start, ALL)
        }

    same = {sort: range(WIDE.size(sort)) for sort in Sort}
    assert steps(other, dict(same)) == steps(state, renaming)


def depths(explorer: Explorer, result: Result) -> dict[str, int]:
    """The least depth at which each claim is violated."""
    out: dict[str, int] = {}
    for (bit, _action), hit in result.hits.items():
        at = explorer.engine.depth(hit.state) + (hit.kind == "step")
        name = CLAIMS[bit].name
        out[name] = min(at, out.get(name, at))
    return out


@pytest.mark.parametrize(
    "families", [ORDINARY, ALL - {"lock", "wrss"}], ids=["ordinary", "hostile"]
)
def test_symmetry_loses_no_violation(
    explorer_of: Build, design: Design, families: frozenset[str]
) -> None:
    """With and without symmetry the same claims are violated, at the same depths."""
    explorer = explorer_of(design, SMALL, WHOLE, -1, families)
    full = explorer.engine.explore(symmetry=False)
    found = depths(explorer, full)
    reduced = explorer.engine.explore(symmetry=True)
    assert full.complete and reduced.complete
    assert depths(explorer, reduced) == found != {}
    assert reduced.witnessed == full.witnessed
    # Two tasks, each with its group: no orbit has more than four states.
    assert full.states / 4 <= reduced.states < full.states


def test_symmetry_keeps_one_state_of_each_orbit(explorer_of: Build, design: Design) -> None:
    """Reduced states are the canonical forms of all states, each as deep as its shallowest."""
    families = ORDINARY - {"lock", "wrss", "compat", "run"}
    engine = explorer_of(design, SMALL, WHOLE, -1, families).engine
    full = engine.explore(symmetry=False)
    orbits: dict[Valuation, int] = {}
    for number in range(full.states):
        # Numbers are in the order of depth.
        orbits.setdefault(engine.canonical(engine.state(number)), engine.depth(number))
    reduced = engine.explore(symmetry=True)
    assert {engine.state(n): engine.depth(n) for n in range(reduced.states)} == orbits


# -- slices ------------------------------------------------------------------------


def slice_of(tables: Tables, bit: int) -> Slice:
    """The slice that merges all that a claim does not speak about."""
    return Slice(frozenset(MERGES) - tables.reads[bit])


@pytest.mark.parametrize("kept", [None, "off", "kind"], ids=str)
@settings(EXAMPLES, max_examples=150)
@given(seed=SEEDS)
def test_a_step_of_the_whole_is_a_step_of_the_slice(
    explorer_of: Build, design: Design, kept: str | None, seed: int
) -> None:
    """Projecting a step of the whole model gives a step of the slice."""
    whole = explorer_of(design, WIDE)
    part = Slice(frozenset(MERGES) - {kept})
    sliced = explorer_of(design, WIDE, part, 0)
    state = whole.walk(seed)
    image = {(a, part.project(whole.space, s)) for a, s in whole.successors(state)}
    assert image <= set(sliced.successors(part.project(whole.space, state)))


def test_a_slice_starts_where_the_whole_starts(explorer_of: Build, design: Design) -> None:
    """The slice's initial state is the initial state's projection, and is packed as such."""
    part = Slice(frozenset(MERGES))
    sliced = explorer_of(design, WIDE, part, 0)
    assert sliced.program.initial == (part.project(sliced.space, sliced.space.initial),)


def test_slices_violate_what_the_whole_violates(explorer_of: Build, design: Design) -> None:
    """Every claim that the whole model violates is violated in its slice, and as early.

    For the designs of this project the slices are exact: they violate nothing else.
    """
    whole = explorer_of(design, SMALL)
    result = whole.engine.explore(symmetry=True)
    assert result.complete
    found = depths(whole, result)
    assert found
    sliced: dict[str, int] = {}
    for bit in range(len(CLAIMS)):
        part = slice_of(whole.tables, bit)
        made = program(whole.tables, Request(ALL, 1 << bit, part))
        explorer = Explorer(whole.tables, made, Engine(made))
        outcome = explorer.engine.explore(symmetry=True)
        assert outcome.complete
        sliced |= depths(explorer, outcome)
    assert sliced == found
