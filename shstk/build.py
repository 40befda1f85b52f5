"""From a design to a program for the engine: extraction, selection of steps, dispatch."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from model.designs import Design
from model.events import Event
from model.kernel import FAMILIES, STEPS, Environment, Step
from model.state import Ctl, Task
from model.world import Cond
from properties import PROPERTIES, Conjunct, EventConjunct, Property, StateConjunct, TaskConjunct
from properties.vocabulary import Claim
from shstk.engine import program as engine
from shstk.factoring import Factoring
from shstk.finite import Outcome, Run, Watch
from shstk.lowering import lower
from shstk.running import runs
from shstk.slices import WHOLE, Slice
from shstk.space import Bound, Space
from shstk.tables import (
    REPORT,
    Forest,
    Leaf,
    Mask,
    Node,
    Test,
    exchange_tasks,
    fold,
    step_trees,
)

ORDINARY = frozenset(f.name for f in FAMILIES.values() if f.environment is Environment.ORDINARY)


@dataclass(frozen=True)
class Part:
    """A conjunct and the property it is part of; its place in the list is its bit."""

    property: Property
    conjunct: Conjunct

    @builtins.property
    def name(self) -> str:
        """For example ``own-mm/nothing-else-hit``."""
        return f"{self.property.id}/{self.conjunct.name}"


def claims() -> list[Part]:
    """Every conjunct about a state or an event, in a fixed order: bit i is claim i."""
    return [
        Part(p, c)
        for p in PROPERTIES.values()
        for c in p.conjuncts
        if isinstance(c, (StateConjunct, EventConjunct))
    ]


CLAIMS = claims()


@dataclass
class Tables:
    """A design's trees at a bound, for task 0.

    ``steps`` has each step's transitions; ``reports`` where its events violate a claim, or
    bear witness; ``state_claims`` the trees of claims about states.
    """

    design: Design
    space: Space
    forest: Forest
    steps: dict[str, int]
    reports: dict[str, int]
    state_claims: list[tuple[int, int]]  # bit and tree
    reads: list[set[str]]  # of each claim: the state variables it speaks about


@dataclass
class Piece:
    """Trees of one text, in a forest of their own; ``reads`` by the claim's place."""

    nodes: list[Node]
    roots: tuple[int, ...]
    reads: dict[int, set[str]]


Share = Callable[[str, Design, Callable[[Design], Piece]], Piece]


def alone(_name: str, design: Design, make: Callable[[Design], Piece]) -> Piece:
    """A piece that is made, and shared with nobody."""
    return make(design)


def extract(
    design: Design,
    bound: Bound,
    switched_off: frozenset[str] = frozenset(),
    progress: Callable[[str], None] | None = None,
    share: Share = alone,
) -> Tables:
    """Run the text of every step and claim into trees.

    ``share`` may know a piece already, from a design that gives the text the same.
    """
    space, forest = Space(bound), Forest()
    tables = Tables(design, space, forest, {}, {}, [], [set() for _ in CLAIMS])

    def add(piece: Piece) -> list[int]:
        for bit, reads in piece.reads.items():
            tables.reads[bit] |= reads
        return forest.graft(piece.nodes, piece.roots)

    for number, step in enumerate(STEPS):
        if step.family in switched_off:
            continue
        if progress:
            progress(f"{design.name}: reading {step.name}")
        read = partial(_step, space, step, number * bound.tasks, switched_off)
        tables.steps[step.name], tables.reports[step.name] = add(share(step.name, design, read))
    for bit, claim in enumerate(CLAIMS):
        if isinstance(claim.conjunct, StateConjunct):
            each = isinstance(claim.conjunct, TaskConjunct)
            read = partial(_state_claim, space, bit, claim.conjunct, each)
            for tree in add(share(claim.name, design, read)):
                for task in range(bound.tasks if each else 1):
                    tables.state_claims.append((bit, exchange_tasks(space, forest, tree, task, {})))
    return tables


def _step(
    space: Space, step: Step, action: int, switched_off: frozenset[str], design: Design
) -> Piece:
    forest, reads = Forest(), [set[str]() for _ in CLAIMS]
    trees = step_trees(space, forest, design, step, action, _watch(reads), switched_off)
    return Piece(forest.nodes, trees, {bit: names for bit, names in enumerate(reads) if names})


def _state_claim(space: Space, bit: int, claim: StateConjunct, each: bool, design: Design) -> Piece:
    forest, reads = Forest(), set[str]()
    roots = []
    for text, fails in ((claim.holds, True), (claim.premise, False)):
        tree, read = _predicate(space, forest, design, text, 1 << bit, fails, each)
        roots.append(tree)
        reads |= read
    return Piece(forest.nodes, tuple(roots), {bit: reads})


def _watch(reads: list[set[str]]) -> Watch:
    """Ask of every event which claims it violates and which premises it makes true.

    ``reads`` collects the variables that each claim speaks about.
    """

    def questions(run: Run, event: Event) -> list[tuple[object, Callable[[], bool]]]:
        out: list[tuple[object, Callable[[], bool]]] = []
        kind: Any = type(event)
        for bit, c in _about(kind):
            holds = partial(c.holds, run, event)
            # Small questions instead of a large one: the answers of a disjunction
            # taken apart are a sum, not a product.
            for part in run.counterparts(holds):
                out.append(((1 << bit, 0), partial(_asked, run, reads[bit], part, True)))
            if not out or out[-1][0] != (1 << bit, 0):
                out.append(((1 << bit, 0), partial(_asked, run, reads[bit], holds, False)))
            premise = partial(c.premise, run, event)
            out.append(((0, 1 << bit), partial(_asked, run, reads[bit], premise, True)))
        return out

    return questions


@cache
def _about(kind: Any) -> list[tuple[int, EventConjunct]]:
    """The claims about events of a kind, by number."""
    return [
        (bit, claim.conjunct)
        for bit, claim in enumerate(CLAIMS)
        if isinstance(claim.conjunct, EventConjunct) and issubclass(kind, claim.conjunct.event)
    ]


def _asked(
    run: Run, reads: set[str], claim: Cond | Callable[[], Cond | bool], wanted: bool
) -> bool:
    """Evaluate a claim about an event and note what it reads."""
    run.read_fields = reads
    answer = bool(claim if isinstance(claim, Cond) else claim()) == wanted
    run.read_fields = None
    return answer


def _predicate(
    space: Space, forest: Forest, design: Design, text: Claim, bit: int, fails: bool, each: bool
) -> tuple[int, set[str]]:
    """Tree of a state claim: its bit as a violation where it fails, or as a witness.

    ``each``: the claim is about a task, here task 0.
    """
    reads: set[str] = set()

    def evaluate(k: Any) -> None:
        k.read_fields = reads
        k.require(bool(text(k, k.current) if each else text(k)) != fails)

    end = forest.add(Mask(bit, 0) if fails else Mask(0, bit))

    def leaf(outcome: Outcome) -> int:
        if outcome.status == "impossible":
            return engine.TRAP
        return end if outcome.status == "done" else engine.NONE

    return fold(forest, runs(space, design, 0, evaluate), leaf), reads


@dataclass(frozen=True)
class Request:
    """What to build a program for: event families, claims, and the slice of the state."""

    families: frozenset[str]
    claims: int = -1  # mask
    slice: Slice = WHOLE


def program(tables: Tables, request: Request) -> engine.Program:
    """The engine's program for a request.  Action number: step * tasks + task."""
    space = tables.space
    tasks = space.bound.tasks
    forest = Forest(tables.forest)
    memo: dict[int, int] = {}

    def keep(node: Leaf | Mask) -> Leaf | Mask | None:
        """Drop the claims that were not asked for."""
        masks = node.violations & request.claims, node.witnesses & request.claims
        if isinstance(node, Mask):
            return Mask(*masks) if any(masks) else None
        if node.saturated == REPORT and not any(masks):
            return None
        if masks == (node.violations, node.witnesses):
            return node
        return replace(node, violations=masks[0], witnesses=masks[1])

    def prepare(tree: int) -> int:
        return request.slice.apply(space, forest, tree, keep, memo, request.families)

    steps, reports = [], []
    for step in STEPS:
        if step.family in request.families and step.name in tables.steps:
            steps.append(prepare(tables.steps[step.name]))
            reports.append(prepare(tables.reports[step.name]))
    roots = []
    factoring = Factoring(forest)
    for task in range(tasks):
        ctl = space.number(Task, (task,), "ctl")
        exchanged: dict[int, int] = {}
        # A step's events ask much of what the step asks; the engine fires reports first.
        mine = [exchange_tasks(space, forest, t, task, exchanged) for t in (*reports, *steps)]
        roots.append(_dispatch(factoring, ctl, len(Ctl), mine))
    predicates = [prepare(t) for bit, t in tables.state_claims if request.claims >> bit & 1]
    layout = request.slice.layout(space)
    initial = request.slice.project(space, space.initial)
    return lower(forest, layout, initial, roots, predicates, len(STEPS) * tasks)


def _dispatch(factoring: Factoring, ctl: int, values: int, trees: Iterable[int]) -> int:
    """One tree for all steps of a task: first its control state, then every step there."""
    forest = factoring.forest
    by_value: list[list[int]] = [[] for _ in range(values)]
    for tree in trees:
        node = forest.nodes[tree] if tree >= 0 else None
        for value in range(values):
            if isinstance(node, Test) and node.cell == ctl:
                by_value[value].append(node.children[value])
            else:
                by_value[value].append(tree)
    return forest.test(ctl, tuple([factoring.choice(b) for b in by_value]))
