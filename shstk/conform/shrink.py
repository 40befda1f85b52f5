"""Shrinking a divergence: fewer lines, the same kind of difference, many candidates a boot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from counterexamples.lines import Line
from model.designs import Design
from shstk.conform.campaign import Campaign
from shstk.conform.compare import Divergence
from shstk.conform.compile import Case, executable

ROUNDS = 8
PAIRS_MAX = 24  # lines of a scenario of which all pairs are tried


def shrink(
    found: Divergence, design: Design, campaign: Campaign, say: Callable[[str], None]
) -> Divergence:
    """The smallest divergence of its kind that leaving out lines leads to."""
    best = found
    for number in range(1, ROUNDS + 1):
        lines = [asked.line for asked in best.case.asked[: best.step]]
        say(f"shrinking: round {number}, {len(lines)} lines")
        better = _round(best, lines, design, campaign)
        if better is None:
            return best
        best = better
    return best


def _round(
    best: Divergence, lines: Sequence[Line], design: Design, campaign: Campaign
) -> Divergence | None:
    """The best of what all candidates of a round show, None: none is better."""
    cases: list[Case] = []
    known: set[tuple[Line, ...]] = set()
    for candidate in candidates(lines):
        case, kept = executable(best.case.scenario, design, candidate, len(cases) + 1)
        if kept and kept not in known:
            known.add(kept)
            cases.append(case)
    if not cases:
        return None
    found = [o.divergence for o in campaign.run(cases) if o.divergence is not None]
    same = [each for each in found if kind_of(each) == kind_of(best)]
    smaller = [each for each in same if each.step < len(lines)]
    return min(smaller, key=lambda each: each.step, default=None)


def candidates(lines: Sequence[Line]) -> Iterator[tuple[Line, ...]]:
    """All of them; with one, or two, or a run of them left out.

    >>> sorted(len(c) for c in candidates("abc"))
    [1, 1, 1, 2, 2, 2, 3]
    """
    count = len(lines)
    dropped = {frozenset[int]()}
    dropped |= {frozenset((n,)) for n in range(count)}
    if count <= PAIRS_MAX:
        dropped |= {frozenset(pair) for pair in combinations(range(count), 2)}
    width = 3
    while width < count:
        dropped |= {frozenset(range(n, min(n + width, count))) for n in range(0, count, width)}
        width *= 2
    for gone in sorted(dropped, key=lambda gone: (-len(gone), sorted(gone))):
        if len(gone) < count:
            yield tuple(line for n, line in enumerate(lines) if n not in gone)


def kind_of(divergence: Divergence) -> tuple[bool, str]:
    """What differs first, whoever's it is."""
    what = divergence.differences[0].what
    return divergence.harness, what.partition(": ")[2] or what
