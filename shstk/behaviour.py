"""Exploring two designs in lockstep: the shortest runs after which they differ, step by step."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from counterexamples.trace import Pick
from model.designs import Design
from model.kernel import STEPS, Step
from shstk.build import Request, program
from shstk.cache import digest, explored_sources, kept
from shstk.concretize import Concretizer, Node
from shstk.engine import Engine, Hit, Progress, Result
from shstk.finite import Outcome
from shstk.loader import design_files
from shstk.lockstep import Choices, Match, Pair, pairs
from shstk.lockstep_tables import BITS, extract
from shstk.parting import Parting, Picks, Walk, admits, after, first, odd
from shstk.plan import DEFAULT_BOUNDS, DETAIL_BOUNDS, families_in
from shstk.product import Product, ProductSlice
from shstk.replay import Successor, pick
from shstk.search import TEXT_ERRORS, InternalError, text_failure
from shstk.slices import MERGES
from shstk.space import Bound, Valuation

TRIED = 2000  # combinations of the choices that two designs do not share


@dataclass(frozen=True)
class Comparison:
    """Two designs to explore in lockstep, over a bound and a slice, in an environment."""

    designs: tuple[Design, Design]
    environment: str
    bound: Bound
    without: frozenset[str] = frozenset()
    merged: frozenset[str] = frozenset()  # the variables that the slice merges
    memory: int | None = None


@dataclass
class Lockstep:
    """How far it went, and of each step the first difference."""

    environment: str
    bound: Bound
    slice: str
    status: str  # complete, memory, interrupted
    states: int
    transitions: int
    depth: int
    seconds: float
    saturated: bool
    partings: list[Parting] = field(default_factory=list)
    refined: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """All that both can reach while they agree was explored."""
        return self.status == "complete"


def comparisons(
    designs: tuple[Design, Design],
    environment: str,
    bound: Bound | None,
    without: frozenset[str],
    memory: int | None,
) -> list[Comparison]:
    """What to explore: small bounds over all variables, larger ones without details."""
    details = frozenset(MERGES)
    if bound is not None:
        small = bound.tasks <= 2 and bound.mms * bound.stacks <= 2
        merged = frozenset() if small else details
        return [Comparison(designs, environment, bound, without, merged, memory)]
    return [
        *(Comparison(designs, environment, b, without, details, memory) for b in DEFAULT_BOUNDS),
        *(Comparison(designs, environment, b, without, frozenset(), memory) for b in DETAIL_BOUNDS),
    ]


def compared(asked: Comparison, tell: Callable[[str], None]) -> Lockstep:
    """The answer, kept between runs; a task for ``shstk.pool``."""
    one, other = asked.designs
    what = f"{asked.environment} {asked.bound} {sorted(asked.without)} {sorted(asked.merged)}"
    both = f"{digest(one.name, [], one)} {digest(other.name, [], other)}"
    return kept(
        digest(f"lockstep {what} {both}", explored_sources(), one),
        "lockstep",
        lambda: explore(asked, tell),
        lambda made: made.complete,
    )


def explore(asked: Comparison, tell: Callable[[str], None] | None = None) -> Lockstep:
    """Explore; where a slice shows a difference that no run has, again with more variables."""
    try:
        return _explore(asked, tell)
    except TEXT_ERRORS as error:
        raise text_failure(error, _raised_in(error, asked.designs)) from None


def _raised_in(error: Exception, designs: Sequence[Design]) -> Design:
    """The design in whose text an exception came up: through a file that the other has not."""
    frames = {f.filename for f in traceback.extract_tb(error.__traceback__)}
    one, other = designs
    others_own = set(design_files(other)) - set(design_files(one))
    return other if any(str(path) in frames for path in others_own) else one


def _explore(asked: Comparison, tell: Callable[[str], None] | None) -> Lockstep:
    tables = extract(asked.designs, asked.bound, asked.without, tell)
    merged, refined = asked.merged, []
    while True:
        slice_ = ProductSlice(merged)
        families = families_in(asked.environment, asked.without)
        engine = Engine(program(tables, Request(families, sum(BITS), slice_)))

        def progress(p: Progress) -> None:
            if tell:
                names = " and ".join(d.name for d in asked.designs)
                tell(f"{names}: {p.states:,} states, depth {p.depth}")

        result = engine.explore(symmetry=True, max_bytes=asked.memory, progress=progress)
        if result.trap is not None:
            raise InternalError(f"lockstep reaches an impossible value: {result.trap.kind}")
        finder = Finder(asked, Product(asked.bound), engine, slice_)
        partings, spurious = _partings(asked, engine, result, finder)
        if not spurious or not merged or not result.complete:
            break
        dropped = next(n for n in reversed(MERGES) if n in merged)
        refined.append(f"{spurious}: {slice_} was too coarse, explored with {dropped}")
        merged -= {dropped}
    return Lockstep(
        asked.environment,
        asked.bound,
        str(slice_),
        result.status,
        result.states,
        result.transitions,
        len(result.levels) - 1,
        result.seconds,
        any(result.saturated.get(bit, 0) for bit in range(4)),
        partings,
        refined,
    )


def _partings(
    asked: Comparison, engine: Engine, result: Result, finder: Finder
) -> tuple[list[Parting], str]:
    """Of each step the first difference that has a run; the first step where none has."""
    hits = sorted(result.hits.values(), key=lambda h: (engine.depth(h.state), h.action, h.state))
    found: dict[str, Parting] = {}
    failed: list[str] = []
    for hit in hits:
        step = STEPS[hit.action // asked.bound.tasks]
        if step.name in found:
            continue
        parting = finder.parting(hit, step)
        if parting:
            found[step.name] = parting
        else:
            failed.append(step.name)
    out = sorted(found.values(), key=lambda p: p.length)
    return out, next((name for name in failed if name not in found), "")


@dataclass(frozen=True)
class Joint(Successor):
    """A step that both designs take the same way, and the second one's choices."""

    pair: Pair = field(kw_only=True)


class Finder(Concretizer):
    """From a path of the lockstep exploration to a run of both designs."""

    space: Product

    def __init__(
        self, asked: Comparison, space: Product, engine: Engine, slice_: ProductSlice
    ) -> None:
        super().__init__(space, asked.designs[0], engine, slice_, True, asked.without)
        self.asked = asked

    def _pairs(self, state: Valuation, leader: int, task: int, step: Step) -> list[Pair]:
        designs, without = self.asked.designs, self.asked.without
        return list(pairs(self.space, designs, leader, task, step, state, without))

    def _successors(self, state: Valuation, step: int) -> list[Successor]:
        key = (state, step)
        if key not in self._outcomes:
            self._outcomes[key] = [
                Joint(
                    task,
                    STEPS[step],
                    after(state, pair),
                    Outcome(pair.decisions, "done"),
                    first(pair.choices[0]),
                    (),
                    (),
                    pair=pair,
                )
                for task in range(self.space.bound.tasks)
                for pair in self._pairs(state, 0, task, STEPS[step])
                if pair.match is Match.SAME
            ]
        return self._outcomes[key]

    def parting(self, hit: Hit, step: Step) -> Parting | None:
        """A run to the state of a hit, after which the designs differ in ``step``."""
        nodes = self._reach(hit.state)
        found = [
            (node.odd() + sum(odd(picks) for picks in chosen if picks), number, task, chosen)
            for number, node in enumerate(nodes)
            for task in range(self.space.bound.tasks)
            for leader in (0, 1)
            for chosen in self._unmatched(node.state, leader, task, step)
        ]
        if not found:
            return None
        _, number, task, chosen = min(found, key=lambda f: f[:3])
        walk = Walk(self.asked.designs, self.asked.bound, self.asked.without)
        for joint in _run(nodes[number]):
            walk.go(joint.task, joint.step, joint.pair)
        return walk.part(task, step, chosen)

    def _unmatched(
        self, state: Valuation, leader: int, task: int, step: Step
    ) -> list[tuple[Picks | None, Picks | None]]:
        """What the leading design can do and the other cannot: each one's choices then."""
        found = self._pairs(state, leader, task, step)
        agreed = [p for p in found if p.match in (Match.SAME, Match.UNKNOWN)]
        best: dict[tuple[tuple[str, Pick], ...], tuple[Picks, Picks | None]] = {}
        for pair in found:
            if pair.match is not Match.DIFFERS:
                continue
            for picks in _combinations(pair.choices[0]):
                if any(admits(p.choices[0], picks) for p in agreed):
                    continue
                key, answer = tuple(picks.items()), _answer(pair, picks)
                known = best.get(key)
                if known is None or _order(answer) < _order(known[1]):
                    best[key] = picks, answer
        return [(one, other) if leader == 0 else (other, one) for one, other in best.values()]


def _order(picks: Picks | None) -> tuple[bool, int]:
    """An answer before none, then the most usual choices."""
    return picks is None, odd(picks or {})


def _answer(pair: Pair, picks: Picks) -> Picks | None:
    """The other design's choices beside these of the leading one; None: it cannot go."""
    if not pair.both:
        return None
    return {n: picks.get(n, p) for n, p in first(pair.choices[1]).items()}


def _combinations(choices: Choices) -> Iterator[dict[str, Pick]]:
    values = [[pick(v) for v in left] for left in choices.values()]
    for combined in itertools.islice(itertools.product(*values), TRIED):
        yield dict(zip(choices, combined, strict=True))


def _run(node: Node) -> Sequence[Joint]:
    """The steps that lead to a node."""
    out: list[Joint] = []
    at: Node | None = node
    while at is not None and isinstance(at.successor, Joint):
        out.append(at.successor)
        at = at.previous
    return out[::-1]
