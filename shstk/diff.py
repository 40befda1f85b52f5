"""What a change of design does: to the verdicts, and to what one can see of a run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from model.designs import Design
from properties import EventConjunct
from shstk.assessment import assess
from shstk.behaviour import Lockstep, compared, comparisons
from shstk.build import CLAIMS
from shstk.errors import UserError
from shstk.expectations import program_name
from shstk.hooks import Hook, differing
from shstk.parting import Parting, odd, on_trace
from shstk.pool import Meter, run
from shstk.programs import ProgramVerdict
from shstk.search import Site, TextFailure
from shstk.space import Bound
from shstk.verdicts import HOLDS, NOT_APPLICABLE, UNKNOWN, VIOLATED, Report, Verdict

Two = tuple[Design, Design]


@dataclass(frozen=True)
class Asked:
    """What to compare two designs over; as in ``shstk.assessment.assess``."""

    environments: Sequence[str] = ("ordinary",)
    bound: Bound | None = None
    without: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()
    proofs: bool = True
    memory: int | None = None


@dataclass(frozen=True)
class Change:
    """A property with another verdict, or that is violated in another way.

    ``partings``: where the trace of each design parts in the other; None: nowhere, or there
    is none.  ``sites``: conjuncts and steps in which it is violated in one of them only.
    """

    environment: str
    verdicts: tuple[Verdict, Verdict]
    partings: tuple[Parting | None, Parting | None]
    sites: tuple[list[Site], list[Site]]

    @property
    def status(self) -> bool:
        """The verdict is another."""
        return self.verdicts[0].status != self.verdicts[1].status

    @property
    def elsewhere(self) -> bool:
        """What is violated, or where, is another; not only after how many steps."""
        one, other = (_violation(v) for v in self.verdicts)
        return one[:3] != other[:3]


@dataclass(frozen=True)
class ProgramChange:
    """A claim of the CPU level with another verdict."""

    name: str
    abilities: tuple[str, ...]
    verdicts: tuple[ProgramVerdict, ProgramVerdict]


@dataclass
class Diff:
    """All that was found of two designs, or is known of them until now.

    ``reported``: the environments whose verdicts were compared, each with the bounds up to which
    something only holds, in either design.
    """

    designs: Two
    hooks: list[Hook]
    changes: list[Change] = field(default_factory=list)
    programs: list[ProgramChange] = field(default_factory=list)
    locksteps: list[Lockstep] = field(default_factory=list)
    reported: dict[str, tuple[Bound, ...]] = field(default_factory=dict)
    unknown: int = 0  # verdicts
    interrupted: bool = False
    uncompared: list[str] = field(default_factory=list)  # after Ctrl-C: properties

    @property
    def changed(self) -> bool:
        """A verdict, or behaviour."""
        return bool(self.changes or self.programs or any(k.partings for k in self.locksteps))

    @property
    def complete(self) -> bool:
        """Nothing was cut short."""
        cut = any(not lockstep.complete for lockstep in self.locksteps)
        return not (self.unknown or self.interrupted or cut)

    def first_partings(self, environment: str) -> list[Parting]:
        """Of each step the shortest run, over all bounds, after which it goes differently."""
        best: dict[str, Parting] = {}
        for lockstep in self.locksteps:
            if lockstep.environment == environment:
                for parting in lockstep.partings:
                    known = best.get(parting.step)
                    if known is None or _length(parting) < _length(known):
                        best[parting.step] = parting
        return sorted(best.values(), key=_length)


def _length(parting: Parting) -> tuple[int, int]:
    """The shortest first; then the one with the most usual choices."""
    taken = [*parting.runs[0], *(a for a in parting.answers if a)]
    return parting.length, sum(odd(step.picks) for step in taken)


def compare(designs: Two, asked: Asked, meter: Meter | None = None) -> Diff:
    """Compare two designs; after Ctrl-C, what was found until then."""
    *_, found = stages(designs, asked, meter)
    return found


def stages(designs: Two, asked: Asked, meter: Meter | None = None) -> Iterator[Diff]:
    """The same as it becomes known: text, behaviour, the verdicts of each environment.

    It is one object all the time, which becomes more.
    """
    meter = meter or Meter()
    one, other = designs = _named(designs)
    out = Diff(designs, differing(one, other))
    yield out
    todo = [
        comparison
        for environment in asked.environments
        for comparison in comparisons(
            designs, environment, asked.bound, asked.without, asked.memory
        )
    ]
    try:
        out.locksteps, out.interrupted = run(compared, todo, meter)
    except TextFailure as failure:
        raise UserError(str(failure)) from None
    yield out
    for environment in asked.environments:
        if out.interrupted:
            return
        _assess(out, environment, asked, meter)
        yield out


def _assess(out: Diff, environment: str, asked: Asked, meter: Meter) -> None:
    """Add the verdicts of an environment."""
    reports, out.interrupted = assess(
        list(dict.fromkeys(out.designs)),
        environments=[environment],
        bound=asked.bound,
        without=asked.without,
        wanted=asked.wanted,
        proofs=asked.proofs,
        memory=asked.memory,
        meter=meter,
    )
    by_name = {report.design: report for report in reports}
    one, other = (by_name.get(design.name) for design in out.designs)
    if one and other:
        if not out.interrupted:
            out.reported[environment] = _bounds((one, other))
        _add(out, (one, other), asked.without)


def _bounds(reports: tuple[Report, Report]) -> tuple[Bound, ...]:
    """The bounds up to which something was explored that nothing violates and nobody proved."""
    explored = (HOLDS, NOT_APPLICABLE)
    verdicts = [v for r in reports for v in r.verdicts if v.status in explored]
    return tuple(dict.fromkeys(b for v in verdicts for b in v.bounds))


def _named(designs: Two) -> Two:
    """The designs, with two names; one that is compared with itself has one."""
    one, other = designs
    if one is other or one.name != other.name:
        return designs
    one, other = copy.copy(one), copy.copy(other)
    one.name, other.name = f"{one.name}.A", f"{other.name}.B"
    return one, other


def _add(out: Diff, reports: tuple[Report, Report], without: frozenset[str]) -> None:
    """What differs in an environment."""
    theirs = {v.property.id: v for v in reports[1].verdicts}
    for mine in reports[0].verdicts:
        verdicts = mine, theirs[mine.property.id]
        out.unknown += sum(v.status == UNKNOWN for v in verdicts)
        if out.interrupted and any(v.status == UNKNOWN for v in verdicts):
            out.uncompared.append(mine.property.id)
            continue
        change = _change(out.designs, reports[0].environment, verdicts, without)
        if change:
            out.changes.append(change)
    programs = [{(program_name(v), v.abilities): v for v in r.programs} for r in reports]
    for key in programs[0].keys() | programs[1].keys():
        out.unknown += sum(key in p and p[key].status == UNKNOWN for p in programs)
    # Which abilities were tried together depends on what each of them does.
    for key in [k for k in programs[0] if k in programs[1]]:
        both = programs[0][key], programs[1][key]
        if _said(both[0]) != _said(both[1]):
            out.programs.append(ProgramChange(*key, both))


def _said(verdict: ProgramVerdict) -> tuple[object, ...]:
    return verdict.status, verdict.depth if verdict.status == VIOLATED else None


def _change(
    designs: Two, environment: str, verdicts: tuple[Verdict, Verdict], without: frozenset[str]
) -> Change | None:
    one, other = verdicts
    names = [{_site(s): s for s in v.sites} for v in verdicts]
    only = (
        [s for name, s in names[0].items() if name not in names[1]],
        [s for name, s in names[1].items() if name not in names[0]],
    )
    if one.status == other.status and _violation(one) == _violation(other) and not any(only):
        return None
    partings: list[Parting | None] = [None, None]
    if _violation(one) != _violation(other):
        if one.trace:
            partings[0] = on_trace(designs, one.trace, without)
        if other.trace and (parting := on_trace(designs[::-1], other.trace, without)):
            partings[1] = parting.swapped()
    return Change(environment, verdicts, (partings[0], partings[1]), only)


def _site(site: Site) -> tuple[str, str]:
    """What counts as the same violation; of a claim about states only the first run is known."""
    claim = CLAIMS[site.claim]
    about_events = isinstance(claim.conjunct, EventConjunct)
    return claim.name, site.step if about_events else ""


def _violation(verdict: Verdict) -> tuple[object, ...]:
    """What is violated where, and after how many steps."""
    trace = verdict.trace
    if verdict.status != VIOLATED or trace is None:
        return ()
    last = trace.steps[-1].step if trace.steps else ""
    return trace.claim, trace.where, last, len(trace.steps), trace.loop is not None
