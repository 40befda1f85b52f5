"""What is proved of a design in an environment, and what that rests on.

A proof is the obligations' answers and nothing else.  What an unchanged design has to prove
is remembered by the digests of the obligations' texts, so that a proof that is there need
not be made again; one answer that is missing, and all of it is.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.designs import Design
from model.kernel import FAMILIES
from properties import PROPERTIES, EventConjunct, LivenessConjunct, Property
from shstk.build import CLAIMS
from shstk.cache import ROOT, digest, found, keep
from shstk.plan import families_in
from shstk.pool import Meter
from shstk.proof import hints, proof_cache
from shstk.proof.induction import Dropped, Induction, enabled_steps, induction
from shstk.proof.invariants import Invariant, of_chains, pool
from shstk.proof.path_solver import conjunct
from shstk.proof.solvers import identity, solve
from shstk.proof.step_proof import Shared
from shstk.verdicts import NOT_INDUCTIVE, PROVED, UNKNOWN

# What the obligations of a design are made from, besides the design.
TEXT = ("model", "model/kernel", "model/designs")
MAKERS = ("properties", "shstk/proof")  # with all in them


@dataclass(frozen=True)
class ClaimProof:
    """A conjunct of a property: proved, or where it is not.

    ``paths``: those on which it is not proved; ``goals``: which goal of each.  ``lemmas``:
    what the proof uses, if that was asked for.  ``idle``: it is about an event that can only
    happen where it says nothing.
    """

    conjunct: str
    status: str
    paths: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    lemmas: tuple[str, ...] = ()
    idle: bool = False


@dataclass(frozen=True)
class PropertyProof:
    """A property: proved if all its conjuncts are."""

    property: str
    claims: tuple[ClaimProof, ...]

    @builtins.property
    def status(self) -> str:
        """proved, unknown (a budget was too small) or not-inductive."""
        of = {c.status for c in self.claims}
        return UNKNOWN if UNKNOWN in of else NOT_INDUCTIVE if NOT_INDUCTIVE in of else PROVED

    @builtins.property
    def idle(self) -> bool:
        """It is proved, but nothing that it speaks about can happen."""
        return self.status == PROVED and all(c.idle for c in self.claims)


@dataclass(frozen=True)
class DesignProof:
    """Everything proved of a design in an environment."""

    design: str
    environment: str
    without: tuple[str, ...]
    properties: tuple[PropertyProof, ...]
    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    paths: int
    obligations: int
    solvers: tuple[str, ...] = ()
    seconds: float = 0.0
    cached: bool = False
    needed: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of lemmas, by lemma
    missing: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @builtins.property
    def assumption(self) -> str:
        """What the proofs leave out, in words; empty if nothing."""
        return "; or ".join(FAMILIES[name].meaning for name in self.without)

    def of(self, property_: str) -> PropertyProof | None:
        """What is proved of one property; None for claims about endless runs."""
        return next((p for p in self.properties if p.property == property_), None)


@dataclass
class Interrupted(Exception):
    """Ctrl-C."""


def prove(
    design: Design,
    environment: str = "ordinary",
    without: frozenset[str] = frozenset(),
    solvers: Sequence[str] = ("z3",),
    meter: Meter | None = None,
    explain: bool = False,
) -> DesignProof:
    """Prove what can be proved; from the cache if every answer is there.

    Raises ``Interrupted`` on Ctrl-C (answers found until then are kept), ``UserError`` for a
    solver that is not there, and what the design's text raises.
    """
    start = time.monotonic()
    key = _key(design, environment, without, explain)
    known = found(key, "proof")
    answered = all(proof_cache.answered(key, identity(s)) for s in solvers)
    if isinstance(known, DesignProof) and answered:
        seconds = time.monotonic() - start
        return replace(known, solvers=tuple(solvers), seconds=seconds, cached=True)
    tell = meter.show if meter else lambda _text: None
    made = obligations(design, environment, without, tell, explain)
    out = _summary(design, environment, without, made)
    failed: set[tuple[str, str]] = set()
    for solver in solvers:
        answers, interrupted = solve(made.batches, solver, progress=meter)
        if interrupted:
            raise Interrupted
        failed |= {(a.batch, a.goal) for a in answers if a.status != "unsat"}
    if failed:
        return replace(_spoiled(out, failed), solvers=tuple(solvers))
    proof_cache.plan_store(key, proof_cache.plan_of(made.batches))
    keep(key, "proof", out)
    seconds = time.monotonic() - start
    return replace(out, solvers=tuple(solvers), seconds=seconds)


def obligations(
    design: Design,
    environment: str = "ordinary",
    without: frozenset[str] = frozenset(),
    tell: Callable[[str], None] = lambda _text: None,
    explain: bool = False,
) -> Induction:
    """The obligations, not asked yet."""
    families = families_in(environment, without)
    # Where a waiter can die and leave its child, chains break: to try these would only take time.
    tried = pool() if "vfork-abandon" in families else (*pool(), *of_chains())
    try:
        steps = enabled_steps(families)
        return induction(design, steps, without, tried, tell, explain, _shared(without, tried))
    except KeyboardInterrupt:
        raise Interrupted from None


def _sources(text: Sequence[str]) -> list[Path]:
    sources = [p for part in text for p in (ROOT / part).glob("*.py")]
    sources += [p for part in MAKERS for p in (ROOT / part).rglob("*.py")]
    sources += [ROOT / "shstk" / f"{name}.py" for name in ("build", "identities", "plan")]
    return [*sources, hints.FILE]


def _shared(without: frozenset[str], tried: Sequence[Invariant]) -> Shared:
    """What steps' proofs depend on, besides what the step asks of the design."""
    names = " ".join(i.name for i in tried)
    sources = _sources([part for part in TEXT if part != "model/designs"])
    return Shared(digest(f"step {sorted(without)} {names} {identity('z3')}", sources, None))


def _key(design: Design, environment: str, without: frozenset[str], explain: bool) -> str:
    sources = _sources(TEXT)
    what = f"proof {design.name} {environment} {sorted(without)} {explain} {identity('z3')}"
    return digest(what, sources, design)


def _spoiled(proof: DesignProof, failed: set[tuple[str, str]]) -> DesignProof:
    """A solver does not confirm something: nothing that may rest on it is proved.

    Nothing rests on a claim about an event.  A claim about states is part of the invariant.
    """
    events = {p.name for p in CLAIMS if isinstance(p.conjunct, EventConjunct)}
    only = {conjunct(goal) for _, goal in failed}
    basis = not only <= events

    def claim(of: str, c: ClaimProof) -> ClaimProof:
        bad = basis or f"{of}/{c.conjunct}" in only
        return replace(c, status=UNKNOWN) if bad and c.status == PROVED else c

    spoiled = tuple(
        replace(p, claims=tuple(claim(p.property, c) for c in p.claims)) for p in proof.properties
    )
    return replace(proof, properties=spoiled)


def _summary(
    design: Design, environment: str, without: frozenset[str], made: Induction
) -> DesignProof:
    unsafe = any(p.unsafe for p in made.proved)
    proofs = []
    for prop in PROPERTIES.values():
        if not any(isinstance(c, LivenessConjunct) for c in prop.conjuncts):
            proofs.append(_property(prop, made, unsafe))
    return DesignProof(
        design.name,
        environment,
        tuple(sorted(without)),
        tuple(proofs),
        made.kept,
        tuple(made.dropped),
        len(made.proved),
        sum(len(b.goals) for b in made.batches),
        needed=_needed(made),
        missing=made.missing,
    )


def _property(prop: Property, made: Induction, unsafe: bool) -> PropertyProof:
    claims = []
    for c in prop.conjuncts:
        name = f"{prop.id}/{c.name}"
        if isinstance(c, EventConjunct):
            where = [(p.path, g) for p in made.proved for g in p.failing if conjunct(g) == name]
            unknown = any(name in _names(p.unknown) for p in made.proved)
            idle = not any(name in p.witnessed for p in made.proved)
            used = [set(n) for p in made.proved for g, n in p.needed.items() if conjunct(g) == name]
        else:
            where = [(d.path, name) for d in made.dropped if d.name == name]
            unknown = any(d.unknown for d in made.dropped if d.name == name)
            idle = False
            used = [set(p.needed.get(name, ())) for p in made.proved]
        status = UNKNOWN if unknown or unsafe else NOT_INDUCTIVE if where else PROVED
        lemmas = tuple(sorted(set().union(*used) - {name}))
        paths, goals = tuple(p for p, _ in where), tuple(g for _, g in where)
        nothing = idle and status == PROVED
        claims.append(ClaimProof(c.name, status, paths, goals, lemmas, nothing))
    return PropertyProof(prop.id, tuple(claims))


def _needed(made: Induction) -> dict[str, tuple[str, ...]]:
    out: dict[str, set[str]] = {}
    for p in made.proved:
        for goal, lemmas in p.needed.items():
            if goal in made.kept:
                out.setdefault(goal, set()).update(lemmas)
    return {name: tuple(sorted(used - {name})) for name, used in sorted(out.items())}


def _names(goals: Sequence[str]) -> set[str]:
    return {conjunct(g) for g in goals}
