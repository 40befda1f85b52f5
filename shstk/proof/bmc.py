"""Bounded symbolic search: the shortest run to a violation, sizes being any 64-bit number.

The steps are unrolled over a bounded universe from the initial state, one depth after the
other, so the first run that is found is a shortest.  The solver's run is then executed by the
text in the finite world, and on the reference machine: the solver is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import z3

from counterexamples.trace import Trace, TraceStep
from model.designs import Design
from model.kernel import STEPS, Step
from model.world import PAGE_SIZE
from properties import PROPERTIES
from shstk.build import CLAIMS, ORDINARY
from shstk.errors import UserError
from shstk.proof.bits import number
from shstk.proof.invariants import named
from shstk.proof.limits import Limit, check_limits, limited
from shstk.proof.models import Asked, Ground, Unknown, Way, ground, step_ways, usual
from shstk.reference import SLOT
from shstk.replay import Successor, step_outcomes, violation
from shstk.search import InternalError, on_reference, replays
from shstk.space import Bound

DEFAULT_BOUND = Bound(2, 2, 2)
DEFAULT_DEPTH = 4
Progress = Callable[[str], None]


@dataclass(frozen=True)
class BmcResult:
    """``status``: violated, none up to depth, unknown or interrupted.

    ``depth``: the steps of ``trace``, or how many steps were searched completely.
    """

    status: str
    depth: int
    trace: Trace | None = None
    reason: str = ""


# -- one step ----------------------------------------------------------------------
class Relation:
    """One step of any task, as a formula over the cells before and after it.

    ``which`` says the way: its upper bits the step, in the order of ``STEPS``.
    """

    def __init__(self, where: Ground, ways: Sequence[Way]) -> None:
        self.ground = where
        self.ways: dict[int, Way] = {}
        self.steps = list(dict.fromkeys(way.step.name for way in ways))
        counts = dict.fromkeys(self.steps, 0)
        for way in ways:
            counts[way.step.name] += 1
        self.low = max(1, (max(counts.values(), default=1) - 1).bit_length())
        high = max(1, (len(self.steps) - 1).bit_length())
        self.which = z3.BitVec("which", high + self.low)
        seen = dict.fromkeys(self.steps, 0)
        for way in ways:
            name = way.step.name
            self.ways[self.steps.index(name) << self.low | seen[name]] = way
            seen[name] += 1
        self.after = [z3.Const(f"{c.decl().name()}'", c.sort()) for c in where.cells]
        self.inputs = {t.get_id(): t for way in ways for _, t in way.inputs}
        self.formula = z3.And(*self._parts())
        self._moments: dict[int, tuple[list[Any], list[tuple[Any, Any]]]] = {}

    def goes(self, place: int) -> Any:
        """That the step goes this way."""
        return self.which == place

    def _parts(self) -> Iterator[Any]:
        yield z3.Or(*(self.goes(place) for place in self.ways))
        for place, way in self.ways.items():
            yield z3.Implies(self.goes(place), z3.And(way.condition, *way.typed))
        for at, cell in enumerate(self.ground.cells):
            yield self.after[at] == self._updated(at, cell)

    def _updated(self, at: int, cell: Any) -> Any:
        """What a cell holds afterwards: ways that write the same are one case."""
        cases: dict[int, tuple[Any, list[Any]]] = {}
        for place, way in self.ways.items():
            if at in way.updates:
                new = way.updates[at]
                cases.setdefault(new.get_id(), (new, []))[1].append(self.goes(place))
        value = cell
        for new, taken in cases.values():
            value = z3.If(z3.Or(*taken), new, value)
        return value

    def cells(self, moment: int) -> list[Any]:
        """The state after so many steps."""
        return self._moment(moment)[0]

    def at(self, term: Any, moment: int) -> Any:
        """A term about a step, as it is about the step after so many."""
        return z3.substitute(term, *self._moment(moment)[1])

    def _moment(self, moment: int) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """The cells after so many steps, and all that is renamed for the next step."""
        if moment not in self._moments:
            here = [self.which, self.ground.current, *self.inputs.values()]
            now, then = (_renamed(self.ground.cells, m) for m in (moment, moment + 1))
            renaming = list(zip(here, _renamed(here, moment), strict=True))
            renaming += zip(self.ground.cells, now, strict=True)
            renaming += zip(self.after, then, strict=True)
            self._moments[moment] = now, renaming
        return self._moments[moment]


def _renamed(constants: Sequence[Any], moment: int) -> list[Any]:
    return [z3.Const(f"{c.decl().name()}@{moment}", c.sort()) for c in constants]


@lru_cache(maxsize=8)
def relation(
    where: Ground, design: Design, families: frozenset[str], switched_off: frozenset[str]
) -> Relation:
    """The steps of a design in these event families; kept, because many questions ask for it."""
    steps = [s for s in STEPS if s.family in families and s.family not in switched_off]
    return Relation(
        where, [way for s in steps for way in step_ways(where, design, s, switched_off)]
    )


# -- searching ---------------------------------------------------------------------
def claim_names(wanted: Collection[str]) -> tuple[str, ...]:
    """Conjuncts by ``property/conjunct``, or all of a property; in a fixed order."""
    for name in wanted:
        if not any(name in (part.name, part.property.id) for part in CLAIMS):
            endless = name.partition("/")[0] in PROPERTIES
            why = "it speaks of endless runs" if endless else "`shstk properties` lists them"
            raise UserError(f"{name!r} is no claim about states or events: {why}")
    return tuple(p.name for p in CLAIMS if p.name in wanted or p.property.id in wanted)


def search(
    design: Design,
    claims: Collection[str],
    bound: Bound = DEFAULT_BOUND,
    depth: int = DEFAULT_DEPTH,
    families: Collection[str] = ORDINARY,
    switched_off: frozenset[str] = frozenset(),
    where: Sequence[Limit] = (),
    environment: str = "ordinary",
    rlimit: int | None = None,
    progress: Progress | None = None,
) -> BmcResult:
    """A shortest run within ``bound`` and ``depth`` steps that violates one of ``claims``.

    ``where`` limits the choices of its last step.  ``rlimit``: z3 resource units for a depth.
    UserError where a claim or a choice does not exist; InternalError where the text or the
    reference machine does not do what the solver says.
    """
    wanted = claim_names(claims)
    done = 0
    try:
        finder = Finder(design, wanted, bound, families, switched_off, where, rlimit, progress)
        while done < depth:
            if finder.violated_after(done + 1):
                trace = finder.trace(environment)
                return BmcResult("violated", done + 1, trace, finder.reason)
            done += 1
    except Unknown as unknown:
        status = "interrupted" if unknown.interrupted else "unknown"
        return BmcResult(status, done, None, str(unknown))
    except KeyboardInterrupt:
        return BmcResult("interrupted", done)
    return BmcResult("none up to depth", done)


class Finder:
    """The unrolled steps, a depth at a time, and the run that was found."""

    def __init__(
        self,
        design: Design,
        claims: Sequence[str],
        bound: Bound,
        families: Collection[str],
        switched_off: frozenset[str],
        where: Sequence[Limit],
        rlimit: int | None,
        progress: Progress | None,
    ) -> None:
        self.design = design
        self.switched_off = switched_off
        self.progress = progress or (lambda _words: None)
        self.ground = ground(bound)
        self.progress(f"{design.name}: reading the steps")
        self.relation = relation(self.ground, design, frozenset(families), switched_off)
        check_limits(where, list(self.relation.ways.values()))
        self.traps = self._where(lambda way: z3.Not(way.needs))
        self.bad = self._violations(claims, where)
        self.asked = Asked(rlimit)
        self.asked.add(*self.ground.holds(self.ground.space.initial, self.relation.cells(0)))
        self.depth = 0
        self.reason = ""  # why the reference machine has not executed the run

    def _where(self, condition: Callable[[Way], Any]) -> Any:
        """That the step goes a way of which the condition is true."""
        cases = [(p, condition(way)) for p, way in self.relation.ways.items()]
        return z3.Or(*(z3.And(self.relation.goes(p), c) for p, c in cases if not z3.is_false(c)))

    def _violations(self, claims: Sequence[str], where: Sequence[Limit]) -> dict[str, Any]:
        """For each claim, that the step violates it (at an event, or in the state after)."""
        limits = self._where(lambda way: limited(way, where)) if where else z3.BoolVal(True)
        renamed = list(zip(self.ground.cells, self.relation.after, strict=True))
        bad: dict[str, list[Any]] = {name: [] for name in claims}
        for place, way in self.relation.ways.items():
            for name, holds in way.event_claims(bad):
                bad[name].append(z3.And(self.relation.goes(place), z3.Not(holds)))
        for invariant in named(claims):
            holds = self.ground.claim(invariant, self.design)
            bad[invariant.name].append(z3.Not(z3.substitute(holds, *renamed)))
        return {name: z3.And(limits, z3.Or(*parts)) for name, parts in bad.items()}

    def violated_after(self, depth: int) -> bool:
        """Is a claim violated by the ``depth``-th step of some run?  Depths come one by one."""
        self.progress(f"{self.design.name}: {depth} step{'s' * (depth > 1)}")
        last = depth - 1
        self.asked.add(self.relation.at(self.relation.formula, last))
        trap = self.relation.at(self.traps, last)
        bad = {name: self.relation.at(term, last) for name, term in self.bad.items()}
        self.depth = depth
        if not self.asked.possible(z3.Or(trap, *bad.values())):
            self.asked.add(z3.Not(trap))
            return False
        if z3.is_true(self.asked.model.eval(trap, model_completion=True)):
            way = self._taken(last)
            raise InternalError(f"a run writes through NULL: {way.path.name}, at depth {depth}")
        self.asked.add(z3.Not(trap))
        self.claim = next(name for name, term in bad.items() if self.asked.prefer(term))
        return True

    def _taken(self, moment: int) -> Way:
        place = number(self.asked.model, self.relation.at(self.relation.which, moment))
        return self.relation.ways[place]

    # -- the run -------------------------------------------------------------------
    def _plain(self) -> None:
        """Of all runs to the violation the first in order, with the fewest oddities.

        Steps in the order of ``STEPS``, tasks and objects by number; flags off, sizes the
        usual ones, or else the smallest.
        """
        for moment in range(self.depth):
            which = self.relation.at(self.relation.which, moment)
            self.asked.smallest(z3.Extract(which.size() - 1, self.relation.low, which))
            self.asked.smallest(self.relation.at(self.ground.current, moment))
        for moment in reversed(range(self.depth)):
            step = self._taken(moment).step
            for wish in self._wishes(step):
                self.asked.prefer(self.relation.at(wish, moment))
        for moment in range(self.depth):
            for choice, term in self._taken(moment).inputs:
                self.asked.plain(choice, self.relation.at(term, moment))

    def _wishes(self, step: Step) -> Iterator[Any]:
        """Flags off and usual numbers, whichever way of the step is gone."""
        ways = [(p, way) for p, way in self.relation.ways.items() if way.step is step]
        for name in dict.fromkeys(c.name for _, way in ways for c, _ in way.inputs):
            yield z3.And(
                *(
                    z3.Implies(self.relation.goes(p), usual(c, t))
                    for p, way in ways
                    for c, t in way.inputs
                    if c.name == name
                )
            )

    def trace(self, environment: str) -> Trace:
        """The run that was found, executed by the text, then by the reference machine."""
        try:
            self._plain()
        except (Unknown, KeyboardInterrupt):
            self.progress(f"{self.design.name}: the run is shown as it was found")
        steps: list[TraceStep] = []
        before = self.ground.space.initial
        for moment in range(self.depth):
            taken = self._execute(moment, before)
            steps.append(taken.traced(self.ground.space))
            before = taken.after
        trace = violation(self.ground.space, self.design, self.claim, steps, environment)
        replays(trace, self.design, self.ground.space)
        try:
            return on_reference(trace, self.design)
        except InternalError as error:
            if not self._huge():
                raise
            self.reason = f"not shown on the reference machine, which has no room: {error}"
            return trace

    def _huge(self) -> bool:
        """A stack is bigger than the machine's places for them, which lie ``SLOT`` apart."""
        sizes = [
            number(self.asked.model, self.relation.at(self.ground.term(size), moment))
            for moment in range(self.depth)
            for size in self._taken(moment).sizes
        ]
        return max(sizes, default=0) > SLOT - 2 * PAGE_SIZE

    def _execute(self, moment: int, before: tuple[int, ...]) -> Successor:
        """The step by the text, with the choices of the solver; it has to lead where that says."""
        way, model = self._taken(moment), self.asked.model
        picks = way.picks(model, lambda term: self.relation.at(term, moment))
        task = number(model, self.relation.at(self.ground.current, moment)) - 2
        wanted = self.ground.valuation(model, self.relation.cells(moment + 1))
        for successor in step_outcomes(
            self.ground.space, self.design, before, task, way.step, self.switched_off, fixed=picks
        ):
            if successor.after == wanted:
                return successor
        shown = ", ".join(f"{n}={v}" for n, v in picks.items())
        raise InternalError(
            f"{self.claim}: step {moment + 1}, {way.step.name} by task {task} with {shown}, "
            "does not go as the solver says"
        )
