"""From answers to verdicts: one per property, design and environment."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from counterexamples.trace import Trace
from properties import PROPERTIES, LivenessConjunct, Property
from shstk.build import CLAIMS
from shstk.search import Answer, Coverage, Site
from shstk.space import Bound

if TYPE_CHECKING:
    from shstk.programs import ProgramVerdict

VIOLATED, HOLDS, UNKNOWN, NOT_APPLICABLE = "violated", "holds", "unknown", "not-applicable"
PROVED, NOT_INDUCTIVE = "proved", "not-inductive"


@dataclass
class Verdict:
    """What is known of a property of a design in an environment.

    ``trace`` is a shortest run to the violation; ``sites`` the other conjuncts and steps
    it is violated in.  ``unexercised``: conjuncts whose premise no run made true.
    ``depends_on``: the smallest sets of event families without which it is not violated, those
    of ``not_met`` last, without which nothing makes its premise true; None: not asked.
    """

    property: Property
    status: str
    bounds: tuple[Bound, ...]
    trace: Trace | None = None
    sites: list[Site] = field(default_factory=list)
    unexercised: tuple[str, ...] = ()
    saturated: bool = False
    seconds: float = 0.0
    note: str = ""
    assumptions: tuple[str, ...] = ()
    depends_on: tuple[tuple[str, ...], ...] | None = None
    not_met: tuple[tuple[str, ...], ...] = ()

    @builtins.property
    def witness(self) -> bool:
        """Every conjunct's premise was seen to be true."""
        return not self.unexercised


@dataclass
class Report:
    """A design in an environment: its verdicts and what it took.

    ``depends``: its verdicts say what the violations depend on.
    """

    design: str
    environment: str
    verdicts: list[Verdict]
    coverage: list[tuple[Bound, Coverage]]
    refined: list[str]
    without: tuple[str, ...] = ()
    programs: list[ProgramVerdict] = field(default_factory=list)  # of the CPU level
    depends: bool = False

    @builtins.property
    def violated(self) -> list[Verdict]:
        """The verdicts that are violations."""
        return [v for v in self.verdicts if v.status == VIOLATED]

    @builtins.property
    def states(self) -> int:
        """States of all explorations together."""
        return sum(c.states for _, c in self.coverage)

    @builtins.property
    def transitions(self) -> int:
        """Transitions of all explorations together."""
        return sum(c.transitions for _, c in self.coverage)

    @builtins.property
    def seconds(self) -> float:
        """Seconds of exploration, on one core."""
        return sum(c.seconds for _, c in self.coverage)


def combine(answers: Iterable[Answer], properties: frozenset[str] = frozenset()) -> list[Report]:
    """One report per design and environment, in the order of the answers."""
    grouped: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        key = (answer.question.design, answer.question.environment)
        grouped.setdefault(key, []).append(answer)
    return [
        Report(
            design,
            environment,
            [
                _verdict(p, group)
                for p in PROPERTIES.values()
                if (not properties or p.id in properties) and p.kind != "liveness"
            ],
            [(a.question.bound, c) for a in group for c in a.coverage],
            [line for a in group for line in a.refined],
            tuple(sorted(group[0].question.without)),
        )
        for (design, environment), group in grouped.items()
    ]


def _verdict(prop: Property, answers: list[Answer]) -> Verdict:
    bits = [b for b, claim in enumerate(CLAIMS) if claim.property is prop]
    mask = sum(1 << b for b in bits)
    relevant = [(a, c) for a in answers for c in a.coverage if c.claims & mask]
    sites = sorted((s for a in answers for s in a.sites if s.claim in bits), key=preference)
    witnessed = 0
    for _, coverage in relevant:
        witnessed |= coverage.witnessed
    unexercised = tuple(CLAIMS[b].conjunct.name for b in bits if not witnessed >> b & 1)
    cut = [(a.question.bound, c) for a, c in relevant if c.status != "complete"]
    covered = 0
    for _, coverage in relevant:
        covered |= coverage.claims
    note = ""
    if sites:
        status = VIOLATED
    elif cut or mask & ~covered:
        status = UNKNOWN
        note = "; ".join(f"{c.status} at depth {c.depth}, {c.states:,} states" for _, c in cut)
        note = note or "interrupted before it was explored"
    elif len(unexercised) == len(bits):
        status = NOT_APPLICABLE
        note = "no run makes its premise true"
    else:
        status = HOLDS
    if status == HOLDS and unexercised:
        note = f"never exercised: {', '.join(unexercised)}"
    return Verdict(
        prop,
        status,
        tuple(dict.fromkeys(a.question.bound for a, _ in relevant)),
        sites[0].trace if sites else None,
        distinct(sites),
        unexercised,
        any(c.saturated for _, c in relevant),
        sum(c.seconds for _, c in relevant),
        note,
    )


def preference(site: Site) -> tuple[bool, int, int, str]:
    """Runs without an earlier violation first, then the shortest."""
    soiled = any(step.violations for step in site.trace.steps[:-1])
    return soiled, len(site.trace.steps), site.claim, site.step


def distinct(sites: list[Site]) -> list[Site]:
    """The first of each conjunct and step."""
    out: dict[tuple[int, str], Site] = {}
    for site in sites:
        out.setdefault((site.claim, site.step), site)
    return list(out.values())


def is_liveness(prop: Property) -> bool:
    """The property speaks about endless runs."""
    return any(isinstance(c, LivenessConjunct) for c in prop.conjuncts)
