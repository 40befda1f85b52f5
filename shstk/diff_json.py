"""``shstk diff --format json``: the same as the text, for programs.

Pairs are in the order of the designs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from counterexamples.trace import TraceStep
from shstk.behaviour import Lockstep
from shstk.build import CLAIMS
from shstk.diff import Change, Diff, ProgramChange
from shstk.parting import Parting
from shstk.search import Site
from shstk.space import Bound
from shstk.verdicts import VIOLATED, Verdict


def as_json(diff: Diff) -> str:
    """``verdicts``, ``programs`` and ``behaviour`` have what differs; all empty: nothing does."""
    environments = dict.fromkeys(lockstep.environment for lockstep in diff.locksteps)
    document = {
        "designs": [{"name": d.name, "title": d.title, "cite": d.cite} for d in diff.designs],
        "changed": diff.changed,
        "complete": diff.complete,
        "text": [{"name": h.name, "where": list(h.where)} for h in diff.hooks],
        "verdicts": [_change(c) for c in diff.changes],
        "programs": [_program(c) for c in diff.programs],
        "behaviour": [
            {"environment": environment, **_parting(parting)}
            for environment in environments
            for parting in diff.first_partings(environment)
        ],
        "lockstep": [_lockstep(lockstep) for lockstep in diff.locksteps],
    }
    return json.dumps(document, indent=2)


def _change(change: Change) -> dict[str, Any]:
    return {
        "property": change.verdicts[0].property.id,
        "environment": change.environment,
        "verdicts": [_verdict(v) for v in change.verdicts],
        "only": [[_site(s) for s in sites] for sites in change.sites],
        "parting": [p and _parting(p) for p in change.partings],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    trace = verdict.trace
    return {
        "status": verdict.status,
        "steps": len(trace.steps) if trace else None,
        "conjunct": trace.conjunct if trace else None,
        "where": trace.where if trace else None,
        "run": _run(trace.steps) if trace else None,
        "loop": trace.loop if trace else None,
        "bounds": [_bound(b) for b in verdict.bounds],
    }


def _site(site: Site) -> dict[str, Any]:
    steps = len(site.trace.steps)
    return {"conjunct": CLAIMS[site.claim].conjunct.name, "step": site.step, "steps": steps}


def _program(change: ProgramChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "abilities": list(change.abilities),
        "verdicts": [
            {
                "status": v.status,
                "depth": v.depth,
                "scenario": list(v.scenario) if v.status == VIOLATED else None,
            }
            for v in change.verdicts
        ],
    }


def _parting(parting: Parting) -> dict[str, Any]:
    return {
        "steps": parting.length,
        "run": _run(parting.runs[0]),
        "task": parting.task,
        "step": parting.step,
        "answers": [
            a and {"picks": dict(a.picks), "notes": list(a.notes)} for a in parting.answers
        ],
    }


def _run(steps: Sequence[TraceStep]) -> list[dict[str, Any]]:
    return [{"task": s.task, "step": s.step, "picks": dict(s.picks)} for s in steps]


def _lockstep(lockstep: Lockstep) -> dict[str, Any]:
    return {
        "environment": lockstep.environment,
        "bound": _bound(lockstep.bound),
        "slice": lockstep.slice,
        "status": lockstep.status,
        "states": lockstep.states,
        "transitions": lockstep.transitions,
        "depth": lockstep.depth,
        "saturated": lockstep.saturated,
    }


def _bound(bound: Bound) -> dict[str, int]:
    return {"tasks": bound.tasks, "mms": bound.mms, "stacks": bound.stacks}
