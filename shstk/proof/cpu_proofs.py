"""Proofs about instructions and signal frames, over a symbolic stack, as ``prove`` reports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.designs import Design
from properties.memory import conjuncts_proved
from shstk.cache import ROOT, digest, found, keep
from shstk.pool import Meter
from shstk.proof import proof_cache
from shstk.proof.cpu_counterexamples import confirm, counterexample
from shstk.proof.cpu_theorems import Theorem, batches, cpu_theorems
from shstk.proof.proofs import Interrupted
from shstk.proof.solvers import identity, solve
from shstk.verdicts import PROVED, UNKNOWN

REFUTED = "refuted"  # with numbers that do it
# What a theorem's obligations are made from, besides the design: folders, with all in them.
PARTS = ("model", "properties", "shstk/proof")


@dataclass(frozen=True)
class TheoremProof:
    """A theorem: proved; or refuted by the move ``goal``, with the numbers that do it.

    ``confirmed``: the concrete CPU and the kernel text, given the numbers, break it too.
    """

    name: str
    property: str
    conjunct: str
    sentence: str
    assumptions: tuple[str, ...]
    status: str
    goal: str = ""
    numbers: tuple[tuple[str, int], ...] = ()
    confirmed: bool = False


@dataclass(frozen=True)
class CpuProof:
    """All theorems of a design; ``whole``: the conjuncts they establish, ``part``: in part.

    ``open``: the obligations, by batch and goal, that are not unsat.
    """

    design: str
    theorems: tuple[TheoremProof, ...]
    obligations: int
    whole: tuple[str, ...]
    part: tuple[str, ...]
    open: frozenset[tuple[str, str]]


def prove_cpu(
    design: Design, solvers: Sequence[str] = ("z3",), meter: Meter | None = None
) -> CpuProof:
    """Prove the theorems of the CPU level; from the cache if every answer is there.

    Raises ``Interrupted`` on Ctrl-C, and what the design's text raises.
    """
    sources = [p for part in PARTS for p in (ROOT / part).rglob("*.py")]
    key = digest(f"cpu {design.name} {identity('z3')}", sources, design)
    known = found(key, "cpu")
    if isinstance(known, CpuProof) and all(
        proof_cache.answered(key, identity(s), known.open) for s in solvers
    ):
        return known
    if meter:
        meter.show(f"{design.name}: reading instructions")
    theorems = cpu_theorems(design)
    every = batches(theorems)
    said: dict[tuple[str, str], set[str]] = {}
    for solver in solvers:
        answers, interrupted = solve(every, solver, progress=meter)
        if interrupted:
            raise Interrupted
        for a in answers:
            said.setdefault((a.batch, a.goal), set()).add(a.status)
    proofs = tuple(_proof(t, design, said) for t in theorems)
    whole, part = _conjuncts(proofs)
    not_unsat = frozenset(place for place, statuses in said.items() if statuses != {"unsat"})
    count = sum(len(b.goals) for b in every)
    out = CpuProof(design.name, proofs, count, whole, part, not_unsat)
    if all(t.status != UNKNOWN for t in proofs):
        proof_cache.plan_store(key, proof_cache.plan_of(every))
        keep(key, "cpu", out)
    return out


def _proof(theorem: Theorem, design: Design, said: dict[tuple[str, str], set[str]]) -> TheoremProof:
    about = (theorem.property, theorem.conjunct, theorem.sentence, theorem.assumptions)
    open_ = [(b, g) for b in theorem.batches for g in b.goals if said[b.name, g.name] != {"unsat"}]
    if not open_:
        return TheoremProof(theorem.name, *about, PROVED)
    for b, g in open_:
        numbers = counterexample(b, g)
        if numbers is not None and confirm(theorem, g, numbers, design):
            shown = tuple(sorted(numbers.items()))
            return TheoremProof(theorem.name, *about, REFUTED, g.name, shown, True)
    return TheoremProof(theorem.name, *about, UNKNOWN, open_[0][1].name)


def _conjuncts(proofs: Sequence[TheoremProof]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The conjuncts of the machine's properties that the theorems establish, and in part."""
    proved = {p.name for p in proofs if p.status == PROVED}
    whole: list[str] = []
    part: list[str] = []
    for (property_, conjunct), share in conjuncts_proved().items():
        if set(share.statements) <= proved:
            (whole if share.complete else part).append(f"{property_}/{conjunct}")
    return tuple(whole), tuple(part)
