"""Two designs along one run: how far they go the same way, and what each does where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from counterexamples.render import USUAL
from counterexamples.trace import Pick, StateView, Trace, TraceStep
from model.designs import Design
from model.kernel import Step
from shstk.finite_terms import FiniteTerm
from shstk.lockstep import Choices, Match, Pair, pairs
from shstk.observed import IN_THE_STATE, observed
from shstk.product import BOOKKEEPING, Product, common, looks
from shstk.replay import BY_NAME, Successor, pick, step_outcomes
from shstk.search import InternalError
from shstk.space import Bound, Space, Valuation
from shstk.views import view

Picks = Mapping[str, Pick]


@dataclass(frozen=True)
class Parting:
    """The run up to where two designs part, as each takes it, and what each then does.

    ``answers``: the next step of ``task`` in each, None where it cannot happen; with the
    same choices, as far as both ask for them.
    """

    initial: StateView
    runs: tuple[tuple[TraceStep, ...], tuple[TraceStep, ...]]
    task: int
    step: str
    answers: tuple[TraceStep | None, TraceStep | None]

    @property
    def length(self) -> int:
        """Steps to the difference, the one that differs included."""
        return len(self.runs[0]) + 1

    @property
    def key(self) -> object:
        """The same for partings that look the same."""
        taken = [*self.runs[0], *self.answers]
        return self.step, [s and (s.task, s.step, s.picks, s.notes) for s in taken]

    def swapped(self) -> Parting:
        """The same, with the designs in the other order."""
        runs, answers = self.runs, self.answers
        return replace(self, runs=(runs[1], runs[0]), answers=(answers[1], answers[0]))


class Walk:
    """Both designs on one run: their common state, each one's own, and the steps so far."""

    def __init__(
        self, designs: Sequence[Design], bound: Bound, switched_off: frozenset[str] = frozenset()
    ) -> None:
        self.designs = designs
        self.switched_off = switched_off
        self.plain, self.product = Space(bound), Product(bound)
        self.common = self.product.initial
        self.at = [self.plain.initial, self.plain.initial]
        self.taken: tuple[list[TraceStep], list[TraceStep]] = [], []

    def pairs(self, task: int, step: Step, leader: int = 0) -> list[Pair]:
        """Every way the step can go next in both."""
        return list(
            pairs(self.product, self.designs, leader, task, step, self.common, self.switched_off)
        )

    def go(self, task: int, step: Step, pair: Pair) -> None:
        """Take a step that goes the same way in both, led by the first."""
        self.common = after(self.common, pair)
        for side in (0, 1):
            wanted = self.product.alone(self.plain, self.common, side)
            found = [
                s
                for s in self.options(side, task, step, first(pair.choices[side]))
                if self.alike(s.after, wanted)
            ]
            if not found:
                name = self.designs[side].name
                raise InternalError(f"{step.name} does not go in {name} as it does in lockstep")
            self.taken[side].append(found[0].traced(self.plain))
            self.at[side] = found[0].after

    def part(self, task: int, step: Step, chosen: tuple[Picks | None, Picks | None]) -> Parting:
        """What each does next, given its choices; None: it cannot."""
        answers = []
        for side in (0, 1):
            picks = chosen[side]
            options = [] if picks is None else self.options(side, task, step, picks)
            best = min(options, key=lambda s: s.oddity, default=None)
            answers.append(best.traced(self.plain) if best else None)
        runs = tuple(self.taken[0]), tuple(self.taken[1])
        initial = view(self.plain, self.plain.initial)
        return Parting(initial, runs, task, step.name, (answers[0], answers[1]))

    def options(self, side: int, task: int, step: Step, picks: Picks) -> list[Successor]:
        """Every way one design takes the step with these choices."""
        design = self.designs[side]
        return step_outcomes(
            self.plain, design, self.at[side], task, step, self.switched_off, picks
        )

    def alike(self, one: Valuation, other: Valuation) -> bool:
        """Two states of one design are the same to whoever is no claim."""
        return all(
            looks(cell.field, cell.domain[v]) == looks(cell.field, cell.domain[w])
            for cell, v, w in zip(self.plain.cells, one, other, strict=True)
            if common(cell.field) or cell.field.name in BOOKKEEPING
        )


def after(state: Valuation, pair: Pair) -> Valuation:
    """The state of the product after a step from ``state``."""
    out = list(state)
    for cell, (source, table) in pair.updates.items():
        assert source is None, "the state is given, so every update is a constant"
        out[cell] = table[0]
    return tuple(out)


def first(choices: Choices) -> dict[str, Pick]:
    """Of each choice the first value that is left."""
    return {name: pick(values[0]) for name, values in choices.items()}


def odd(picks: Picks) -> int:
    """How many of the choices are something special."""
    return sum(v is True or v != USUAL.get(n, v) for n, v in picks.items())


def admits(choices: Choices, picks: Picks) -> bool:
    """The choices can be these."""
    return choices.keys() == picks.keys() and all(
        picks[name] in [pick(v) for v in values] for name, values in choices.items()
    )


def on_trace(
    designs: Sequence[Design], trace: Trace, switched_off: frozenset[str] = frozenset()
) -> Parting | None:
    """Where the second design leaves a trace of the first; None: nowhere."""
    # One more of each than the trace has: the second design may need it.
    bound = Bound(*(min(8, n + 1) for n in trace.bound))
    walk = Walk(designs, bound, switched_off)
    for traced in trace.steps:
        step = BY_NAME[traced.step]
        found = [p for p in walk.pairs(traced.task, step) if admits(p.choices[0], traced.picks)]

        def leads(state: Valuation, wanted: StateView = traced.state) -> bool:
            return _within(view(walk.plain, state), wanted)

        same = [
            p
            for p in found
            if p.match is Match.SAME
            and leads(walk.product.alone(walk.plain, after(walk.common, p), 0))
        ]
        if not same:
            return walk.part(traced.task, step, (traced.picks, _theirs(found)))
        walk.go(traced.task, step, same[0])
    return None


def _theirs(found: Sequence[Pair]) -> Picks | None:
    """The second design's choices where it can take the step."""
    able = [first(p.choices[1]) for p in found if p.both]
    return min(able, key=odd, default=None)


def _within(state: StateView, smaller: StateView) -> bool:
    """A state agrees with one that has fewer objects."""
    mms = zip(state["mms"], smaller["mms"], strict=False)
    return (
        state["tasks"][: len(smaller["tasks"])] == smaller["tasks"]
        and state["groups"][: len(smaller["groups"])] == smaller["groups"]
        and all(mm[: len(less)] == less for mm, less in mms)
    )


def happened(successor: Successor) -> tuple[Mapping[str, object], ...]:
    """What others can see of a step, besides the state after it, in order."""
    return tuple(
        {name: _plain(value) for name, value in observed(event).items()}
        for event in successor.outcome.events
        if not isinstance(event, IN_THE_STATE)
    )


def _plain(value: object) -> object:
    return value.force() if isinstance(value, FiniteTerm) else value
