"""Verdicts of a proof: proved, or, where it is not, what exploration says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from counterexamples.trace import Trace
from model.designs import Design
from properties import PROPERTIES
from shstk.cache import digest, explored_sources, kept
from shstk.plan import in_environment
from shstk.pool import Meter, Teller, run
from shstk.proof.proofs import (
    ClaimProof,
    DesignProof,
    Interrupted,
    PropertyProof,
    prove,
)
from shstk.search import InternalError, answer_to, text_failures
from shstk.space import Bound
from shstk.verdicts import (
    HOLDS,
    NOT_APPLICABLE,
    PROVED,
    UNKNOWN,
    VIOLATED,
    Report,
    Verdict,
    combine,
)

BOUNDED = "bounded"  # a claim about endless runs: explored, never proved


@dataclass(frozen=True)
class Judged:
    """What is known of a property after a proof and, if that failed, an exploration.

    ``explored``: the bounds it was explored up to, if it was.  ``claims``: conjunct by
    conjunct, what the proof says.
    """

    property: str
    status: str
    claims: tuple[ClaimProof, ...]
    idle: bool = False
    trace: Trace | None = None
    explored: str = ""


@dataclass
class Judgement:
    """A design's verdicts."""

    proof: DesignProof
    verdicts: list[Judged] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True)
class Explored:
    """What an exploration says of a property; ``violated`` are the conjuncts with a trace."""

    property: str
    status: str
    bounds: tuple[Bound, ...]
    trace: Trace | None
    violated: frozenset[str]


def explored(v: Verdict) -> Explored:
    """An exploration's verdict as plain data."""
    violated = frozenset(s.trace.conjunct for s in v.sites)
    return Explored(v.property.id, v.status, v.bounds, v.trace, violated)


def contradiction(proof: DesignProof, verdicts: Sequence[Explored]) -> None:
    """Raise InternalError if something is proved and violated."""
    for v in verdicts:
        of = proof.of(v.property)
        if of is None or v.status != VIOLATED:
            continue
        proved = {c.conjunct for c in of.claims if c.status == PROVED}
        if both := v.violated & proved:
            name = f"{v.property}/{sorted(both)[0]}"
            raise InternalError(f"{name} of {proof.design} is proved, and there is a trace")


def promote(report: Report, proof: DesignProof) -> None:
    """In an exploration's report, what is proved is proved."""
    contradiction(proof, [explored(v) for v in report.verdicts])
    for v in report.verdicts:
        of = proof.of(v.property.id)
        if of is not None and of.status == PROVED and v.status != VIOLATED:
            v.status = PROVED
            v.note = "nothing that it speaks about can happen" if of.idle else ""
            if proof.without:
                v.assumptions = (*v.assumptions, f"not: {proof.assumption}")


def prove_reports(
    reports: Sequence[Report],
    designs: Sequence[Design],
    without: frozenset[str],
    meter: Meter,
    known: Sequence[DesignProof] = (),
) -> bool:
    """Prove what can be proved in the ordinary environment; True if Ctrl-C cut it short.

    ``known`` proofs are there already.  Raises InternalError if a proof and an exploration
    contradict each other.
    """
    of = {proof.design: proof for proof in known}
    by_name = {d.name: d for d in designs}
    open_ = [
        report
        for report in reports
        if report.environment == "ordinary"
        and any(v.status in (HOLDS, NOT_APPLICABLE) for v in report.verdicts)
    ]
    interrupted = False
    for report in open_:
        if report.design not in of:
            try:
                of[report.design] = prove_one((by_name[report.design], without), meter.show)
            except KeyboardInterrupt:
                interrupted = True
                break
    meter.clear()
    for report in open_:
        if report.design in of:
            promote(report, of[report.design])
    return interrupted


def prove_one(asked: tuple[Design, frozenset[str]], tell: Callable[[str], None]) -> DesignProof:
    """A task for ``shstk.pool``."""
    design, without = asked
    try:
        with text_failures(design):
            return prove(design, "ordinary", without, meter=Teller(tell))
    except Interrupted:
        raise KeyboardInterrupt from None


def judge(
    proof: DesignProof,
    design: Design,
    wanted: frozenset[str],
    memory: int | None,
    meter: Meter,
) -> Judgement:
    """Every property of a proof; those that are not proved are explored.

    Raises InternalError if the two contradict each other.
    """
    out = Judgement(proof)
    chosen = [p for p in proof.properties if not wanted or p.property in wanted]
    open_ = frozenset(p.property for p in chosen if p.status != PROVED)
    found: dict[str, Explored] = {}
    if open_:
        verdicts = _explored(proof, design, open_, memory, meter)
        out.interrupted = verdicts is None
        contradiction(proof, verdicts or [])
        found = {v.property: v for v in verdicts or []}
    out.verdicts = [_judged(p, found.get(p.property)) for p in chosen]
    for prop in PROPERTIES.values():
        if proof.of(prop.id) is None and (not wanted or prop.id in wanted):
            out.verdicts.append(Judged(prop.id, BOUNDED, ()))
    return out


def _judged(p: PropertyProof, verdict: Explored | None) -> Judged:
    if verdict is None:
        return Judged(p.property, p.status, p.claims, p.idle)
    if verdict.status == VIOLATED:
        return Judged(p.property, VIOLATED, p.claims, trace=verdict.trace)
    bounds = ", ".join(f"{b.tasks}x{b.mms}x{b.stacks}" for b in verdict.bounds)
    return Judged(p.property, p.status, p.claims, explored=bounds * (verdict.status == HOLDS))


def _explored(
    proof: DesignProof,
    design: Design,
    properties: frozenset[str],
    memory: int | None,
    meter: Meter,
) -> list[Explored] | None:
    """What exploration says of these properties, kept between runs; None after Ctrl-C."""
    without = frozenset(proof.without)
    questions = in_environment(design.name, proof.environment, None, without, properties, memory)
    asked = [(q.bound, q.details) for q in questions]
    what = (
        f"explored {design.name} {proof.environment} {sorted(without)} {sorted(properties)} {asked}"
    )

    def make() -> list[Explored] | None:
        answers, interrupted = run(answer_to, [(q, design) for q in questions], meter)
        if interrupted or any(a.interrupted for a in answers):
            return None
        return [explored(v) for r in combine(answers, properties) for v in r.verdicts]

    def whole(verdicts: list[Explored] | None) -> bool:
        return verdicts is not None and all(v.status != UNKNOWN for v in verdicts)

    return kept(digest(what, explored_sources(), design), "explored", make, whole)
