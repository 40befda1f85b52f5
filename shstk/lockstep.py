"""Two designs in lockstep: a step by one, then by the other, from one state with the same choices.

A choice is the same where both ask for it by the same name with the same alternatives.  What
only the second asks for is its own: it answers as the first does if it can do so one way or
another.  Ghost variables, which nothing but claims reads, are no part of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from model.designs import Design
from model.kernel import Step
from model.state import Record, Sort, Task
from shstk.finite import Disabled, Impossible, Run, Saturated, untaken
from shstk.finite_terms import Decision, FiniteTerm, Source
from shstk.observed import IN_THE_STATE, observed
from shstk.product import BOOKKEEPING, PRIME, PRIMED, Product, common, looks
from shstk.running import take
from shstk.space import Valuation


class Match(Enum):
    """How a run of the first design, the one that leads, compares."""

    SAME = "the second design answers the same"
    DIFFERS = "the second design answers otherwise, or the step cannot happen there"
    UNKNOWN = "one of them finds no object left within the bound"
    OTHER = "the step cannot happen in the first design, but in the second"
    NONE = "the step cannot happen in the first design"
    TRAP = "no reachable state gets here"


Choices = dict[str, tuple[object, ...]]  # the values that are left, by the name of the choice
Updates = dict[int, tuple[int | None, tuple[int, ...]]]  # as in ``shstk.finite``


@dataclass
class Pair:
    """A run of the leading design beside one of the other.

    ``asked`` are the inputs that the leading design asked for; ``alone``: the other asked for
    others.  ``updates``, where the leading design is the first and both can take the step, are
    those of the product.  ``choices`` are of the leading design and of the other.
    """

    decisions: list[Decision]
    match: Match
    asked: list[Source] = field(default_factory=list)
    alone: bool = False
    saturated: Sort | None = None
    updates: Updates = field(default_factory=dict)
    both: bool = False  # both can take the step
    choices: tuple[Choices, Choices] = ({}, {})


class _Both(Run):
    """The world of a pair of runs: state, decisions and choices are common.

    Each design reads and writes its own bookkeeping.
    """

    def __init__(
        self,
        space: Product,
        design: Design,
        current: int,
        prefix: Sequence[bool],
        state: Valuation | None,
        switched_off: frozenset[str],
    ) -> None:
        self.side = 0
        self.asked: dict[tuple[object, ...], Source] = {}
        self._times: dict[tuple[object, ...], int] = {}
        self.named: dict[str, Source] = {}
        super().__init__(space, design, current, prefix, state, switched_off)

    def take_turn(self, design: Design, side: int, step: Step) -> _Turn:
        """The step from the same state, by a design; raises what the text raises."""
        self.design, self.side = design, side
        self.overlay, self.events, self.named, self._times = {}, [], {}, {}
        take(step, self)
        # Found out now, while the bookkeeping that is looked at is this design's.
        updates = self.updates()
        seen = [observed(e) for e in self.events if not isinstance(e, IN_THE_STATE)]
        for value in (v for event in seen for v in event.values()):
            if isinstance(value, FiniteTerm):
                value.resolve()
        return _Turn(self.overlay, updates, seen, self.named)

    def _cell(self, record: Record, name: str) -> int:
        if self.side == 1 and isinstance(record, Task) and name in BOOKKEEPING:
            name += PRIME
        return super()._cell(record, name)

    def choose(self, name: str, values: Sequence[object], family: str = "") -> FiniteTerm:
        # True and 1 are equal; their types tell them apart.
        alternatives = (name, *((type(v), v) for v in values))
        time = self._times[alternatives] = self._times.get(alternatives, 0) + 1
        known = self.asked.get((time, *alternatives))
        if known is not None:
            self.named[name] = known
            return FiniteTerm(self, (known, tuple(values)))
        term = super().choose(name, values, family)
        self.named[name] = self.asked[time, *alternatives] = self.inputs[-1][1]
        return term

    def left(self, named: dict[str, Source]) -> Choices:
        """The values that are left for choices."""
        return {
            name: tuple(v for i, v in enumerate(s.labels) if self.allowed(s) >> i & 1)
            for name, s in named.items()
        }

    def value(self, turn: _Turn, cell: int) -> FiniteTerm:
        """A cell after a turn, as it looks to others."""
        term, field = self._load(turn.overlay, cell), self.space.cells[cell].field
        return term._map(lambda v: looks(field, v))

    def same(self, one: object, other: object) -> bool:
        """Two values are equal; decides what they depend on, as far as that matters."""
        (from_, values), (also, others) = _known(one), _known(other)
        if from_ is not also:
            value = one.force() if isinstance(one, FiniteTerm) else one
            return FiniteTerm(self, (also, others)).is_in(lambda v: _equal(v, value))
        if from_ is None:
            return _equal(values[0], others[0])
        mask = 0
        for i, (v, w) in enumerate(zip(values, others, strict=True)):
            mask |= _equal(v, w) << i
        return self.decide(from_, mask)


@dataclass
class _Turn:
    """What a design did: new values, what happened as others see it, and its choices."""

    overlay: dict[int, FiniteTerm]
    updates: Updates
    seen: list[dict[str, object]]
    named: dict[str, Source]


def _known(value: object) -> tuple[Source | None, tuple[Any, ...]]:
    return value.resolve() if isinstance(value, FiniteTerm) else (None, (value,))


def _equal(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def pairs(
    space: Product,
    designs: Sequence[Design],
    leader: int,
    current: int,
    step: Step,
    state: Valuation | None = None,
    switched_off: frozenset[str] = frozenset(),
) -> Iterator[Pair]:
    """Every run of a step by task ``current``, one per sequence of decisions.

    ``leader`` (0 or 1) is which of the two designs goes first.
    """
    stack: list[tuple[bool, ...]] = [()]
    while stack:
        prefix = stack.pop()
        run = _Both(space, designs[leader], current, prefix, state, switched_off)
        first = end = None
        try:
            first = run.take_turn(designs[leader], leader, step)
        except Disabled:
            pass
        except Impossible:
            end = Pair(run.decisions, Match.TRAP)
        except Saturated as full:
            end = Pair(run.decisions, Match.UNKNOWN, saturated=full.sort)
        stack += untaken(run.decisions, len(prefix))
        if end:
            yield end
        else:
            yield from _followed(run, first, designs[1 - leader], 1 - leader, step)


def _followed(
    run: _Both, first: _Turn | None, other: Design, side: int, step: Step
) -> Iterator[Pair]:
    """Every run of the other design beside one of the leading design, which may have none."""
    decisions, restricted, inputs = run.decisions, run.restricted, run.inputs
    asked, known = run.named, run.asked
    stack = [tuple(d[2] for d in decisions)]
    while stack:
        run.prefix = prefix = stack.pop()
        run.decisions, run.restricted = list(decisions), dict(restricted)
        run.inputs, run.asked = list(inputs), dict(known)
        pair = Pair(run.decisions, Match.DIFFERS, [source for _, source in inputs])
        _follow(run, pair, first, other, side, step)
        pair.choices = run.left(asked), run.left(run.named)
        pair.alone = bool(first or pair.match is Match.OTHER) and (
            set(asked.values()) != set(run.named.values())
        )
        stack += untaken(run.decisions, len(prefix))
        yield pair


def _follow(
    run: _Both, pair: Pair, first: _Turn | None, other: Design, side: int, step: Step
) -> None:
    """One run of the other design, and how the leading design's compares."""
    if not first:
        pair.match = Match.NONE
    try:
        second = run.take_turn(other, side, step)
    except Disabled:
        return
    except Impossible:
        pair.match = Match.TRAP
        return
    except Saturated as full:
        if first:
            pair.match, pair.saturated = Match.UNKNOWN, full.sort
        return
    if not first:
        pair.match = Match.OTHER
        return
    if _same_events(run, first, second) and _same_state(run, first, second):
        pair.match = Match.SAME
    primed = {c: u for c, u in second.updates.items() if run.space.cells[c].field in PRIMED}
    pair.updates, pair.both = {**first.updates, **primed}, True


def _same_state(run: _Both, first: _Turn, second: _Turn) -> bool:
    """Both leave the same, as far as it is not theirs alone."""
    cells = run.space.cells
    return all(
        run.same(run.value(first, cell), run.value(second, cell))
        for cell in sorted(first.overlay.keys() | second.overlay.keys())
        if common(cells[cell].field)
    )


def _same_events(run: _Both, first: _Turn, second: _Turn) -> bool:
    """The same happened in the same order, as far as others can see."""
    return len(first.seen) == len(second.seen) and all(
        one.keys() == other.keys() and all(run.same(v, other[n]) for n, v in one.items())
        for one, other in zip(first.seen, second.seen, strict=True)
    )
