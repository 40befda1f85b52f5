"""What a violation depends on: the smallest sets of event families without which it is gone.

A run that violates a property is a set of families, those that it uses; without one of them it
cannot happen.  So a set that is to help has a member in common with every such run: it *hits*
them all.  The smallest sets that hit the runs known so far are explored: each of them either
lets another violating run through, which is one more to hit, or it is an answer.  No part of an
answer is one, because some known run avoids it.

The first explorations are at small bounds: what is violated there is violated, and what is not
is explored again at the question's bounds.

Of a property up to five sets of up to three families are given, in this order: sets without
which no run makes its premise true come last, because there it says nothing; smaller sets first;
of one size those that leave most states, so take least away; then the order of the families.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from model.designs import Design
from model.kernel import FAMILIES
from shstk.plan import DEFAULT_BOUNDS, Question, in_environment
from shstk.pool import Meter, run
from shstk.space import Bound, Space
from shstk.used import used
from shstk.verdicts import Report, Verdict
from shstk.violating import Families, Found, Job, violating

SMALL = (Bound(2, 2, 1), Bound(2, 1, 2))  # where most wrong answers are found out
MOST = 3  # families in an answer
ANSWERS = 5  # of a property
TRIES = 60  # sets of one size: more are not explored

ORDER = {name: number for number, name in enumerate(FAMILIES)}


def hitting(runs: Collection[Families], most: int = MOST) -> list[Families]:
    """The sets of up to ``most`` families that hit every run, without those that have
    another of them in them; smallest first, then in the order of the families."""
    every = sorted(frozenset().union(*runs), key=ORDER.__getitem__)
    found: list[Families] = []
    for size in range(1, most + 1):
        for members in combinations(every, size):
            candidate = frozenset(members)
            if not any(f <= candidate for f in found) and all(candidate & r for r in runs):
                found.append(candidate)
    return found


# -- one property --------------------------------------------------------------------
@dataclass
class _Search:
    """The state of the search for one property.

    ``runs`` has what each known violating run uses, ``states`` how many states a set leaves
    at the small bounds, where nothing is violated without it.
    """

    verdict: Verdict
    runs: set[Families]
    states: dict[Families, int] = field(default_factory=dict)
    met: set[Families] = field(default_factory=set)
    sure: set[Families] = field(default_factory=set)  # at the question's bounds, too
    given_up: set[Families] = field(default_factory=set)

    def rank(self, families: Families) -> tuple[bool, int, int, list[int]]:
        """Where the property still says something first; then small sets; then those
        that leave most states, so take away least."""
        order = sorted(ORDER[f] for f in families)
        return families not in self.met, len(families), -self.states[families], order

    def todo(self) -> tuple[list[Families], bool]:
        """The sets to be explored next, and whether that is at the question's bounds."""
        sets = [s for s in hitting(self.runs) if s not in self.given_up]
        for size in range(1, MOST + 1):
            mine = [s for s in sets if len(s) == size]
            new = [s for s in mine if s not in self.states]
            if new and len(mine) <= TRIES:
                return new, False
            if sum(s in self.met for s in sets if len(s) <= size) >= ANSWERS:
                break
        best = sorted((s for s in sets if s in self.states), key=self.rank)[:ANSWERS]
        return [s for s in best if s not in self.sure], True

    def note(self, found: Found, without: Families, whole: bool) -> None:
        """An exploration without ``without`` has ended."""
        id_ = self.verdict.property.id
        self.runs |= found.runs.get(id_, set())
        if id_ in found.runs:
            return
        if not found.complete:
            self.given_up.add(without)
            return
        self.states.setdefault(without, found.states)
        if id_ in found.met:
            self.met.add(without)
        if whole:
            self.sure.add(without)

    def finish(self) -> None:
        """Put the answers into the verdict."""
        sure = sorted((s for s in hitting(self.runs) if s in self.sure), key=self.rank)[:ANSWERS]
        named = {s: tuple(sorted(s, key=ORDER.__getitem__)) for s in sure}
        self.verdict.depends_on = tuple(named.values())
        self.verdict.not_met = tuple(named[s] for s in sure if s not in self.met)


# -- all properties ------------------------------------------------------------------
@dataclass(frozen=True)
class Asked:
    """How the reports came about: the bound (None: the default ones), the families that were
    off, bytes for an exploration."""

    bound: Bound | None
    without: Families
    memory: int | None


def attach_depends(
    reports: Sequence[Report], designs: Sequence[Design], asked: Asked, meter: Meter
) -> bool:
    """Say of every violation what it depends on; True if Ctrl-C cut it short.

    Claims about endless runs are left out: there, that less can happen does not mean that less
    is violated.  The answers are for the bounds of the reports; of one that is larger than the
    default ones, for what these have of it.
    """
    by_name = {d.name: d for d in designs}
    return any(
        _report(report, by_name[report.design], asked, meter)
        for report in reports
        if not report.depends
    )


def _report(report: Report, design: Design, asked: Asked, meter: Meter) -> bool:
    searches = _searches(report, design, asked)
    while True:
        wanted: dict[tuple[Families, bool], set[str]] = {}
        for id_, search in searches.items():
            sets, whole = search.todo()
            for each in sets:
                wanted.setdefault((each, whole), set()).add(id_)
        if not wanted:
            break
        jobs = [
            Job(design, _questions(report, asked, each, frozenset(ids), whole))
            for (each, whole), ids in wanted.items()
        ]
        found, interrupted = run(violating, jobs, meter)
        if interrupted:
            return True
        for (each, whole), result in zip(wanted, found, strict=True):
            for id_ in wanted[each, whole]:
                searches[id_].note(result, each, whole)
    for search in searches.values():
        search.finish()
    report.depends = True
    return False


def _searches(report: Report, design: Design, asked: Asked) -> dict[str, _Search]:
    """By property, the violations that have a run within the bounds."""
    bounds = _within(asked.bound)
    searches = {}
    for verdict in report.violated:
        traces = [s.trace for s in verdict.sites]
        if bounds:
            traces = [t for t in traces if _fits(Bound(*t.bound), bounds)]
        if traces:
            runs = {used(Space(Bound(*t.bound)), design, t.steps) for t in traces}
            searches[verdict.property.id] = _Search(verdict, runs)
    return searches


def _questions(
    report: Report, asked: Asked, off: Families, properties: Families, whole: bool
) -> tuple[Question, ...]:
    """What to explore without ``off``: at the question's bounds, or at small ones within them."""
    bounds = _within(asked.bound)
    if whole:
        each: Sequence[Bound | None] = bounds or (None,)
    else:
        each = [b for b in SMALL if not bounds or _fits(b, bounds)] or bounds
    common = asked.without | off, properties, asked.memory
    questions = [
        q for b in each for q in in_environment(report.design, report.environment, b, *common)
    ]
    # What a short one finds, a long one need not.
    return tuple(sorted(questions, key=lambda q: q.bound.tasks))


def _fits(bound: Bound, bounds: Sequence[Bound]) -> bool:
    """A bound lies within one of these."""
    return any(
        bound.tasks <= b.tasks and bound.mms <= b.mms and bound.stacks <= b.stacks for b in bounds
    )


def _within(bound: Bound | None) -> tuple[Bound, ...]:
    """What the default bounds have of a bound; nothing of None: the default questions."""
    if bound is None:
        return ()
    cut = (
        Bound(min(bound.tasks, b.tasks), min(bound.mms, b.mms), min(bound.stacks, b.stacks))
        for b in DEFAULT_BOUNDS
    )
    return tuple(dict.fromkeys(cut))
