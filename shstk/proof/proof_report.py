"""What ``prove`` prints: verdicts, the lemmas behind them; or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from model.designs import Design
from model.kernel import FAMILIES
from properties import PROPERTIES
from properties.lemmas import CHAIN_LEMMAS, LEMMAS
from shstk.proof.cpu_proofs import CpuProof, TheoremProof
from shstk.proof.judge import BOUNDED, Judged, Judgement
from shstk.proof.proofs import ClaimProof, DesignProof
from shstk.proof.solvers import identity
from shstk.verdicts import NOT_INDUCTIVE, PROVED, VIOLATED

WIDTH = 100
MANY = " for any number of tasks"


def text(judgement: Judgement, design: Design, explain: bool) -> str:
    """A design's verdicts, with what each rests on."""
    proof = judgement.proof
    lines = ["=" * WIDTH, f"{design.name}: {design.title}", f"  {design.cite}"]
    lines += [f"  {proof.environment} environment" + _without(proof), *_effort(proof)]
    lines += [f"  unless     {name}: {FAMILIES[name].meaning}" for name in proof.without] + [""]
    for v in judgement.verdicts:
        lines += _verdict(v, proof)
        if explain and v.status == PROVED:
            lines += _lemmas(v)
    if explain:
        lines += ["", *_pool(proof)]
    return "\n".join(lines)


def _without(proof: DesignProof) -> str:
    return f", without {', '.join(proof.without)}" if proof.without else ""


def _effort(proof: DesignProof) -> list[str]:
    versions = ", ".join(" ".join(identity(s).split()[:2]) for s in proof.solvers)
    how = "kept from before" if proof.cached else f"{proof.seconds:.1f} s"
    total = len(proof.kept) + len(proof.dropped)
    return [
        f"  inductive  {len(proof.kept)} of a pool of {total} claims about states",
        f"  proved     {proof.obligations:,} obligations on {proof.paths} paths: unsat "
        f"({versions}; {how})",
    ]


def _verdict(v: Judged, proof: DesignProof) -> list[str]:
    word = {NOT_INDUCTIVE: "NOT INDUCTIVE"}.get(v.status, v.status.upper())
    line = f"  {word:<14} {v.property:<26}"
    notes = []
    if v.status == PROVED:
        line += f" unless {' or '.join(proof.without)}" if proof.without else MANY
        if v.idle:
            notes.append("nothing that it speaks about can happen")
    elif v.status == VIOLATED and v.trace is not None:
        count = len(v.trace.steps)
        line += f" {count} step{'' if count == 1 else 's'}: {v.trace.conjunct} ({v.trace.where})"
    elif v.status == BOUNDED:
        line += " explored by `shstk check`, not proved: about endless runs"
    else:
        notes += [_open(c) for c in v.claims if c.status != PROVED]
        if v.explored:
            notes.append(f"no violation up to {v.explored}")
    proved = [c.conjunct for c in v.claims if c.status == PROVED]
    if v.status == VIOLATED and proved:
        notes.append(f"proved: {', '.join(proved)}")
    return [line.rstrip(), *(f"{'':17}{note}" for note in notes)]


def _open(claim: ClaimProof) -> str:
    where = ", ".join(claim.paths[:3]) + (" …" if len(claim.paths) > 3 else "")
    what = "not preserved by" if claim.status == NOT_INDUCTIVE else "the solver gave up on"
    return f"{claim.conjunct}: {what} {where}"


def _lemmas(v: Judged) -> list[str]:
    used = sorted({name for c in v.claims for name in c.lemmas})
    if not used:
        return [f"{'':17}by the text of the steps alone"]
    return textwrap.wrap(
        "by " + ", ".join(used), WIDTH, initial_indent=" " * 17, subsequent_indent=" " * 20
    )


def _pool(proof: DesignProof) -> list[str]:
    """Every inductive claim: what it says, and what fails without it."""
    lines = ["  Inductive claims, and what is not proved without them:", ""]
    for name in proof.kept:
        lemma = LEMMAS.get(name) or CHAIN_LEMMAS.get(name)
        sentence = lemma.sentence if lemma else PROPERTIES[name.split("/")[0]].claim
        lines.append(f"  {name}: {sentence}")
        fails: dict[str, list[str]] = {}
        for claim, path in proof.missing.get(name, ()):
            fails.setdefault(claim, []).append(path)
        for claim, paths in sorted(fails.items()):
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            lines.append(f"      {claim} in {paths[0]}{more}")
        if not fails:
            lines.append("      nothing: every claim follows from the others")
    for d in proof.dropped:
        why = "the solver gave up on" if d.unknown else "not preserved by"
        lines.append(f"  dropped in round {d.round}: {d.name}, {why} {d.path}")
    return lines


def cpu_text(cpu: CpuProof, wanted: Collection[str]) -> str:
    """The theorems about instructions and signal frames."""
    lines = [
        "",
        f"  over a symbolic stack of any contents ({cpu.obligations} obligations)",
    ]
    for t in cpu.theorems:
        if not wanted or t.property in wanted:
            lines += _theorem(t, cpu)
    return "\n".join(lines)


def _theorem(t: TheoremProof, cpu: CpuProof) -> list[str]:
    claim = f"{t.property}/{t.conjunct}" if t.property else ""
    lines = [f"  {t.status.upper():<14} {t.name:<26} {claim}".rstrip()]
    notes = [t.sentence, *(f"if {a}" for a in t.assumptions)]
    if t.status == PROVED and claim:
        notes.append("all there is to the claim" if claim in cpu.whole else "one step of the claim")
    if t.status != PROVED:
        numbers = ", ".join(f"{n} {v:#x}" for n, v in t.numbers if v)
        notes.append(f"{t.goal}: {numbers}" if numbers else t.goal)
    if t.confirmed:
        notes.append("confirmed by executing the text on these numbers")
    return lines + [
        line
        for note in notes
        for line in textwrap.wrap(note, WIDTH, initial_indent=" " * 17, subsequent_indent=" " * 19)
    ]


def cpu_json(cpu: CpuProof, wanted: Collection[str]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            "theorem": t.name,
            "property": t.property,
            "conjunct": t.conjunct,
            "status": t.status,
            "sentence": t.sentence,
            "assumptions": list(t.assumptions),
            "whole": f"{t.property}/{t.conjunct}" in cpu.whole,
            "counterexample": {name: hex(value) for name, value in t.numbers},
            "confirmed": t.confirmed,
        }
        for t in cpu.theorems
        if not wanted or t.property in wanted
    ]


def as_json(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """All designs, in the shape of ``check --format json``."""
    return {"designs": [_design(j) for j in judgements]}


def _design(j: Judgement) -> dict[str, Any]:
    proof = j.proof
    return {
        "design": proof.design,
        "environment": proof.environment,
        "without": list(proof.without),
        "solvers": [" ".join(identity(s).split()[:2]) for s in proof.solvers],
        "obligations": proof.obligations,
        "paths": proof.paths,
        "seconds": round(proof.seconds, 3),
        "cached": proof.cached,
        "lemmas": [{"name": n, "needs": list(proof.needed.get(n, ()))} for n in proof.kept],
        "dropped": [{"name": d.name, "path": d.path, "unknown": d.unknown} for d in proof.dropped],
        "verdicts": [_json(v, proof) for v in j.verdicts],
    }


def _json(v: Judged, proof: DesignProof) -> dict[str, Any]:
    return {
        "property": v.property,
        "status": v.status,
        "assumptions": [f"not: {proof.assumption}"] if proof.without else [],
        "vacuous": v.idle,
        "steps": len(v.trace.steps) if v.trace is not None else None,
        "conjuncts": [
            {
                "conjunct": c.conjunct,
                "status": c.status,
                "paths": list(c.paths),
                "lemmas": list(c.lemmas),
            }
            for c in v.claims
        ],
    }
