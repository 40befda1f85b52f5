"""One mutant at one bound: what it violates that the design it was made from does not."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from counterexamples.trace import Trace, TraceStep
from model.designs import Design
from properties import EventConjunct, StateConjunct
from shstk.build import CLAIMS
from shstk.plan import Question
from shstk.replay import BY_NAME, Successor, step_outcomes
from shstk.search import Answer, Site, TextFailure, answer
from shstk.space import Space, Valuation
from shstk.used import used

VIOLATED, IDLE, CURED = "violated", "exercised no more", "violated no more"
MOST = 8  # families that are switched off for a claim
WIDTH = 200  # states of the design that are followed along a mutant's run
NULL_USED = "dereferences NULL"
NO_REPLAY = ": the trace does not replay on the reference machine: "


@dataclass(frozen=True)
class Catch:
    """A conjunct that tells a mutant from its design, the step it is violated in, a shortest run.

    ``how``: it is violated; or nothing makes its premise true any more (no step, no run); or
    the design violates it there and the mutant does not (no run).
    """

    claim: str
    step: str
    how: str
    trace: Trace | None = None
    without: tuple[str, ...] = ()  # event families that were switched off

    @builtins.property
    def property(self) -> str:
        """The property it is a conjunct of."""
        return self.claim.split("/")[0]

    @builtins.property
    def steps(self) -> int:
        """The length of the run."""
        return len(self.trace.steps) if self.trace else 0


@dataclass(frozen=True)
class Base:
    """What the design itself does: where it violates which claim, and after how many steps."""

    sites: dict[tuple[int, str], int]
    explored: int  # mask of claims
    witnessed: int  # mask of claims
    complete: bool


@dataclass
class Seen:
    """What a question about a mutant has shown.  ``failure``: its text cannot be executed."""

    catches: list[Catch] = field(default_factory=list)
    sites: frozenset[tuple[int, str]] = frozenset()
    witnessed: int = 0
    complete: bool = False
    interrupted: bool = False
    failure: str = ""


def base_of(question: Question, design: Design, tell: Callable[[str], None]) -> Base:
    """Explore the design."""
    found = answer(question, design, tell)
    sites: dict[tuple[int, str], int] = {}
    for site in found.sites:
        key = (site.claim, site.step)
        sites[key] = min(len(site.trace.steps), sites.get(key, len(site.trace.steps)))
    return Base(sites, *_covered(found))


def _covered(found: Answer) -> tuple[int, int, bool]:
    """Claims that were explored, claims whose premise was true, and whether all was explored."""
    explored = witnessed = 0
    for c in found.coverage:
        explored |= c.claims
        witnessed |= c.witnessed
    return explored, witnessed, all(c.status == "complete" for c in found.coverage)


def seen(
    question: Question, base: Base, original: Design, mutant: Design, tell: Callable[[str], None]
) -> Seen:
    """Ask a mutant what was asked of the design."""
    try:
        found = answer(replace(question, design=mutant.name), mutant, tell)
    except TextFailure as failure:
        return Seen(failure=_failure(str(failure)))
    out = Seen(interrupted=found.interrupted)
    _, out.witnessed, out.complete = _covered(found)
    out.sites = frozenset((s.claim, s.step) for s in found.sites)
    space = Space(question.bound)
    shortest: dict[int, Site] = {}
    for site in sorted(found.sites, key=lambda s: len(s.trace.steps)):
        if site.claim not in shortest and _is_new(site, base, original, space):
            shortest[site.claim] = site
    out.catches = [
        Catch(CLAIMS[s.claim].name, s.step, VIOLATED, s.trace, tuple(sorted(question.without)))
        for s in shortest.values()
    ]
    return out


def _failure(said: str) -> str:
    """What became of a text that could not be explored to the end, in a few words."""
    if NULL_USED in said:
        return "it dereferences NULL"
    if NO_REPLAY in said:
        # The machine has no bookkeeping of its own to be wrong about.
        claim, why = said.split(NO_REPLAY)
        return f"it violates {claim.split()[-1]}, and the machine cannot follow it: {why}"
    return said


def missing(
    asked: Sequence[tuple[Base, Seen]], without: frozenset[str] = frozenset()
) -> list[Catch]:
    """What the design shows in answer to some questions, and the mutant to none of them.

    ``without``: the event families that were switched off.
    """
    off = tuple(sorted(without))
    exercised = unexercised = 0
    sites: set[tuple[int, str]] = set()
    for base, found in asked:
        exercised |= base.witnessed
        unexercised |= found.witnessed
        sites |= base.sites.keys()
    lost = exercised & ~unexercised
    for _, found in asked:
        sites -= found.sites
    # Of a claim about states only the first step is known.
    still = {claim for _, found in asked for claim, _ in found.sites}
    cured = [
        (claim, step)
        for claim, step in sorted(sites)
        if isinstance(CLAIMS[claim].conjunct, EventConjunct) or claim not in still
    ]
    return [
        *(Catch(c.name, "", IDLE, None, off) for b, c in enumerate(CLAIMS) if lost >> b & 1),
        *(Catch(CLAIMS[claim].name, step, CURED, None, off) for claim, step in cured),
    ]


def quieter(question: Question, design: Design, tell: Callable[[str], None]) -> list[Question]:
    """The question without some events, so that the design keeps a claim that it violates.

    A claim about states that is false in some run hides what else would make it false.
    """
    space = Space(question.bound)
    every = answer(question, design, tell).sites
    counts = Counter(f for s in every for f in used(space, design, s.trace.steps))
    out = []
    for claim in sorted({s.claim for s in every}):
        part, sites, off = CLAIMS[claim], every, question.without
        if not isinstance(part.conjunct, StateConjunct):
            continue
        alone = replace(question, properties=frozenset({part.property.id}))
        for _ in range(MOST):
            runs = [s.trace for s in sites if s.claim == claim]
            if not runs:
                out.append(replace(alone, without=off))
                break
            families = used(space, design, min(runs, key=lambda t: len(t.steps)).steps)
            if not families:
                break
            # Of what the run needs, what fewest violations need: not all that can happen.
            off |= {min(sorted(families), key=lambda f: counts[f])}
            sites = answer(replace(alone, without=off), design, tell).sites
    return out


def _is_new(site: Site, base: Base, original: Design, space: Space) -> bool:
    """The design does not do this: it has no such violation, or only after more steps."""
    if all(claim != site.claim for claim, _ in base.sites):
        return bool(base.explored >> site.claim & 1)
    known = base.sites.get((site.claim, site.step))
    if known is not None and known <= len(site.trace.steps):
        return False
    # Of two runs of the same length one is reported: the other may be the design's too.
    return not violates(original, site.trace, space)


def violates(design: Design, trace: Trace, space: Space) -> bool:
    """Doing the same steps, with the same choices, the design violates the same claim."""
    states: list[Valuation] = [space.initial]
    for traced in trace.steps:
        after: dict[Valuation, None] = {}
        for at in states:
            for successor in _likewise(design, at, traced, space):
                if trace.claim in successor.violations:
                    return True
                after[successor.after] = None
        states = list(after)[:WIDTH]
    return False


def _likewise(
    design: Design, at: Valuation, traced: TraceStep, space: Space
) -> Iterator[Successor]:
    """The same step in another design, with the same choices as far as both ask for them."""
    step = BY_NAME[traced.step]
    every = step_outcomes(space, design, at, traced.task, step)
    for names in {frozenset(s.picks) for s in every}:
        wanted = {n: v for n, v in traced.picks.items() if n in names}
        for successor in step_outcomes(space, design, at, traced.task, step, wanted=wanted):
            if successor.picks.keys() == names:  # otherwise it has asked for more
                yield successor
