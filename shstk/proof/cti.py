"""Counterexamples to induction: why a claim is not preserved by a step.

A state in which every claim in force holds, and a step after which (or in which) another
one is false.  No run need lead to that state, so it is never a violation.  It is looked for
in bounded universes, small ones first, and then shown to the finite world: only if that
agrees about the state, the step and the claim, by its own evaluation, is it confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import z3

from counterexamples.trace import Pick, StateView
from model.designs import Design
from model.kernel import Step
from model.state import RECORD_OF
from shstk.build import CLAIMS
from shstk.finite import Impossible, Run
from shstk.proof.bits import number
from shstk.proof.invariants import Invariant, named
from shstk.proof.models import Asked, Ground, Unknown, Way, ground, step_ways, usual
from shstk.replay import BY_NAME, Successor, step_outcomes
from shstk.running import runs_step
from shstk.space import Bound, Space, Valuation
from shstk.views import view

BOUNDS = (Bound(2, 1, 1), Bound(2, 2, 2), Bound(3, 2, 2), Bound(3, 2, 3))
TRIES = 6  # states at a bound that the finite world may disagree about
# Where there is a choice, a state that at least makes sense in the finite world.
SENSIBLE = named(("live-has-mm", "dead-has-no-mm", "dead-has-no-stack", "references-are-tasks"))


@dataclass(frozen=True)
class Cti:
    """A state, and the step of a task from which the claim does not come out true.

    ``claim``: an invariant (false in ``after``), a claim about an event (false when that
    happens in the step), or what has to exist for the step to make sense (then ``after`` is
    ``before``).  ``in_force``: how many claims hold in ``before``.
    """

    claim: str
    step: str
    task: int
    before: StateView
    after: StateView
    picks: Mapping[str, Pick]
    notes: tuple[str, ...]
    confirmed: bool
    bound: Bound
    in_force: int


@dataclass(frozen=True)
class Found:
    """What a solver says: a state, a step with its choices, the state after it."""

    before: Valuation
    task: int
    step: Step
    picks: Mapping[str, object]
    after: Valuation


# -- what is claimed ---------------------------------------------------------------
@dataclass(frozen=True)
class Goal:
    """A claim at a step: ``kind`` as in a problem (invariant, event, need)."""

    name: str
    kind: str
    invariant: Invariant | None = None

    def broken(self, way: Way, design: Design) -> Any:
        """That a way is gone and the claim is false."""
        where, gone = way.ground, way.condition
        if self.kind == "need":
            missing = [where.term(z3.Not(n)) for what, n in way.path.needs if what == self.name]
            return z3.And(gone, z3.Or(*missing))
        if self.invariant is not None:
            broken = z3.Not(way.after(claim_term(where, design, self.invariant)))
        else:
            broken = z3.Or(*(z3.Not(h) for _, h in way.event_claims((self.name,))))
        return z3.And(gone, way.needs, broken)


def goal(claim: str) -> Goal:
    """The claim of this name, as problems call it (``own-mm/nothing-else-hit 0``)."""
    name, _, last = claim.rpartition(" ")
    plain = name if last.isdigit() else claim
    if plain.endswith(" exists"):
        return Goal(plain.removesuffix(" exists"), "need")
    for invariant in named((plain,)):
        return Goal(plain, "invariant", invariant)
    if any(part.name == plain for part in CLAIMS):
        return Goal(plain, "event")
    raise ValueError(f"there is no claim {claim!r}")


@lru_cache(maxsize=1024)
def claim_term(where: Ground, design: Design, invariant: Invariant) -> Any:
    """An invariant in bits; kept, because many questions assume it."""
    return where.claim(invariant, design)


# -- looking for one ---------------------------------------------------------------
def counterexample(
    design: Design,
    path: str,
    in_force: Sequence[Invariant],
    claim: str,
    bounds: Sequence[Bound] = BOUNDS,
    switched_off: frozenset[str] = frozenset(),
    rlimit: int | None = None,
) -> Cti | None:
    """Why ``claim`` fails at a step, given by the name of one of its paths or its own.

    If the claim is an invariant, it holds before the step like those in force.  At the smallest
    bound with a confirmed one; if there is none, one that is not confirmed; None where no
    state of these bounds is one, or the solver does not know (``rlimit``: z3 resource units
    for a question).
    """
    step = BY_NAME[path.split(" ")[0]]
    wanted = goal(claim)
    assumed = list(in_force)
    if wanted.invariant is not None and wanted.name not in {i.name for i in assumed}:
        assumed.append(wanted.invariant)
    best: Cti | None = None
    for bound in bounds:
        where = ground(bound)
        for found in _found(where, design, step, assumed, wanted, switched_off, rlimit):
            cti = confirm(where.space, design, found, assumed, claim, switched_off)
            if cti.confirmed:
                return cti
            best = best or cti
    return best


def _found(
    where: Ground,
    design: Design,
    step: Step,
    assumed: Sequence[Invariant],
    wanted: Goal,
    switched_off: frozenset[str],
    rlimit: int | None,
) -> Iterator[Found]:
    """States that the solver finds, each as plain as it can be made, no two the same."""
    ways = step_ways(where, design, step, switched_off)
    broken = [wanted.broken(way, design) for way in ways]
    asked = Asked(rlimit)
    asked.add(*where.typed, *(claim_term(where, design, i) for i in assumed))
    asked.add(*(term for way in ways for term in way.typed))
    try:
        for _ in range(TRIES):
            asked.solver.push()  # what makes one state plain is not asked of the next
            if not asked.possible(z3.Or(*broken)):
                return
            asked.add(z3.Or(*broken))
            _plain(asked, where, design)
            way = ways[_plainest(asked, ways, broken)]
            for choice, term in way.inputs:
                asked.plain(choice, term)
            found = _read(asked.model, where, way)
            asked.solver.pop()
            yield found
            asked.add(z3.Not(z3.And(*where.holds(found.before))))
    except Unknown as unknown:
        if unknown.interrupted:
            raise KeyboardInterrupt from None


def _plain(asked: Asked, where: Ground, design: Design) -> None:
    """As much as can be is as in an empty world: free slots, nothing mapped."""
    for lemma in SENSIBLE:
        asked.prefer(claim_term(where, design, lemma))
    asked.smallest(where.current)
    for first in (True, False):
        for at, cell in enumerate(where.space.cells):
            if (cell.field.name in ("ctl", "kind")) is first:
                if not asked.prefer(where.initially(at)) and cell.field.sort is not None:
                    asked.smallest(where.cells[at])


def _plainest(asked: Asked, ways: Sequence[Way], broken: Sequence[Any]) -> int:
    """A way on which the claim is false, with usual choices if there is one."""
    for n, term in enumerate(broken):
        if asked.prefer(z3.And(term, *(usual(c, t) for c, t in ways[n].inputs))):
            return n
    return next(n for n, term in enumerate(broken) if asked.prefer(term))


def _read(model: Any, where: Ground, way: Way) -> Found:
    before = where.valuation(model)
    after = where.valuation(model, [way.after(cell) for cell in where.cells])
    task = number(model, where.current) - 2
    return Found(before, task, way.step, way.picks(model), after)


# -- the finite world's opinion ------------------------------------------------------
def confirm(
    space: Space,
    design: Design,
    found: Found,
    assumed: Sequence[Invariant],
    claim: str,
    switched_off: frozenset[str] = frozenset(),
) -> Cti:
    """What was found, with whether the finite world sees it too."""
    wanted = goal(claim)
    cti = Cti(
        claim=claim,
        step=found.step.name,
        task=found.task,
        before=view(space, found.before),
        after=view(space, found.after if wanted.kind != "need" else found.before),
        picks={n: v if isinstance(v, (bool, int, str)) else str(v) for n, v in found.picks.items()},
        notes=(),
        confirmed=False,
        bound=space.bound,
        in_force=sum(i.name != wanted.name for i in assumed),
    )
    if not all(holds(space, design, i, found.before) for i in assumed):
        return cti
    if wanted.kind == "need":
        return replace(cti, confirmed=_impossible(space, design, found, switched_off))
    taken = _successor(space, design, found, switched_off)
    if taken is None:
        return cti
    if wanted.invariant is not None:
        false = not holds(space, design, wanted.invariant, found.after, unless=True)
    else:
        false = wanted.name in taken.violations
    return replace(cti, picks=taken.picks, notes=taken.notes, confirmed=false)


def holds(
    space: Space, design: Design, invariant: Invariant, at: Valuation, unless: bool = False
) -> bool:
    """An invariant of all objects of a state, by the finite world's own evaluation.

    ``unless``: what to say where a claim follows NULL, and so neither holds nor fails.
    """
    run = Run(space, design, 0, (), at)

    def every(sorts: Sequence[Any], objects: tuple[Any, ...]) -> bool:
        if not sorts:
            return bool(invariant.claim(cast(Any, run), *objects))
        handles = (
            RECORD_OF[sorts[0]](cast(Any, run), run.const(n))
            for n in range(space.bound.size(sorts[0]))
        )
        return all(every(sorts[1:], (*objects, handle)) for handle in handles)

    try:
        return every(invariant.sorts, ())
    except Impossible:
        return unless


def _successor(
    space: Space, design: Design, found: Found, switched_off: frozenset[str]
) -> Successor | None:
    """The step by the text, if it leads where the solver says."""
    before, task, step = found.before, found.task, found.step
    try:
        ways = step_outcomes(
            space, design, before, task, step, switched_off, fixed=dict(found.picks)
        )
    except AssertionError:
        return None  # a property follows NULL there: not a state of the finite world
    return next((way for way in ways if way.after == found.after), None)


def _impossible(space: Space, design: Design, found: Found, switched_off: frozenset[str]) -> bool:
    outcomes = runs_step(
        space,
        design,
        found.task,
        found.step,
        state=found.before,
        switched_off=switched_off,
        fixed=dict(found.picks),
    )
    return any(outcome.status == "impossible" for outcome in outcomes)
