"""What check prints: a table of verdicts, then the traces; or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from counterexamples.render import render_text
from model.designs import Design
from shstk.build import CLAIMS
from shstk.programs import ProgramVerdict, table
from shstk.reference import has_machine
from shstk.search import Site
from shstk.space import Bound
from shstk.summary import summary
from shstk.verdicts import NOT_APPLICABLE, PROVED, UNKNOWN, VIOLATED, Report, Verdict

WIDTH = 100


def bound_text(bound: Bound) -> str:
    """A bound in words."""

    def many(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    return f"{many(bound.tasks, 'task')}, {many(bound.mms, 'mm')}, {many(bound.stacks, 'stack')}"


def size_text(number: int) -> str:
    """Bytes in a unit that keeps them short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 10240 or unit == "GiB":
            return f"{number} {unit}"
        number //= 1024
    raise AssertionError


def site_name(site: Site) -> str:
    """Where a property is violated: conjunct and step."""
    return f"{CLAIMS[site.claim].conjunct.name} in {site.step}"


def text(reports: Sequence[Report], designs: dict[str, Design]) -> str:
    """All reports: per design its verdicts in each environment and the traces; the summary."""
    out: list[str] = []
    for report in reports:
        design = designs[report.design]
        out += [
            "=" * WIDTH,
            f"{design.name}: {design.title}",
            f"  {design.cite}",
            f"  {report.environment} environment"
            + (f", without {', '.join(report.without)}" if report.without else ""),
            *_coverage(report),
            "",
            *(line for verdict in report.verdicts for line in _verdict(verdict)),
            *_programs(report, design),
            "",
        ]
        ordinary = _ordinary(report, reports)
        for verdict in report.violated:
            out += _trace(verdict, design, ordinary)
    return "\n".join([*out, "=" * WIDTH, *summary(reports)])


def _programs(report: Report, design: Design) -> list[str]:
    """The CPU level: all short programs on the reference machine."""
    head = "  on the reference machine, all programs up to a length (`shstk programs`)"
    if report.environment == "ordinary" and not has_machine(design):
        return ["", head, "  not applicable: the machine is an x86"]
    if not report.programs:
        return []
    return ["", head, table(report.programs)]


def _ordinary(report: Report, reports: Sequence[Report]) -> Report | None:
    """The same design's report for the ordinary environment, beside another one."""
    if report.environment == "ordinary":
        return None
    return next(
        (r for r in reports if r.design == report.design and r.environment == "ordinary"), None
    )


def _coverage(report: Report) -> list[str]:
    lines = []
    for bound, coverage in report.coverage:
        full = " (bound saturated)" if coverage.saturated else ""
        cut = "" if coverage.status == "complete" else f"; STOPPED: {coverage.status}"
        lines.append(
            f"  explored  {bound_text(bound)}{full}: {coverage.states:,} states up to symmetry, "
            f"{coverage.transitions:,} transitions, depth {coverage.depth}, "
            f"{coverage.seconds:.1f} s, {size_text(coverage.peak_bytes)}{cut}"
        )
        lines.append(f"            {coverage.slice}")
    return lines + [f"  refined   {line}" for line in report.refined]


def _verdict(verdict: Verdict) -> list[str]:
    word = {NOT_APPLICABLE: "NOT MET", UNKNOWN: "UNKNOWN"}.get(
        verdict.status, verdict.status.upper()
    )
    line = f"  {word:<9} {verdict.property.id:<26}"
    if verdict.status == VIOLATED and verdict.trace is not None:
        trace = verdict.trace
        steps = f"{len(trace.steps)} step{'' if len(trace.steps) == 1 else 's'}"
        line += f" {steps:>8}   {trace.conjunct} ({trace.where})"
    elif verdict.status == PROVED:
        line += " for any number of tasks"
    elif verdict.status != UNKNOWN:
        line += " up to " + "; ".join(f"{b.tasks}x{b.mms}x{b.stacks}" for b in verdict.bounds)
    lines = [line.rstrip()]
    if verdict.note:
        lines.append(f"            {verdict.note}")
    lines += [f"            assuming {a}" for a in verdict.assumptions]
    others = verdict.sites[1:]
    if others:
        lines.append("            also " + _wrapped(others))
    return lines + [f"            {line}" for line in depends_text(verdict)]


def depends_text(verdict: Verdict) -> list[str]:
    """The events that a violation needs, in words."""
    if verdict.depends_on is None:
        return []
    helps = [s for s in verdict.depends_on if s not in verdict.not_met]
    said = [
        "; or ".join(f"without {', '.join(s)}" for s in each) for each in (helps, verdict.not_met)
    ]
    words = [
        f"{word} {sets}" for word, sets in zip(("holds", "not met"), said, strict=True) if sets
    ]
    return textwrap.wrap("; ".join(words) or "no few events that it needs", WIDTH - 12)


def _wrapped(sites: Sequence[Site]) -> str:
    lines, line = [], ""
    for site in sites:
        part = f"{site_name(site)} ({len(site.trace.steps)} steps)"
        if line and len(line) + len(part) > WIDTH - 20:
            lines.append(line + ",")
            line = part
        else:
            line = f"{line}, {part}" if line else part
    return ("\n" + " " * 17).join([*lines, line])


def _trace(verdict: Verdict, design: Design, ordinary: Report | None) -> list[str]:
    """The property's trace; beside the ordinary environment, only what that does not show."""
    if verdict.trace is None:
        return []
    if ordinary is not None:
        known = {
            (s.claim, s.step)
            for v in ordinary.violated
            if v.property is verdict.property
            for s in v.sites
        }
        new = [s for s in verdict.sites if (s.claim, s.step) not in known]
        if known and not new:
            return []
        trace = new[0].trace if known else verdict.trace
    else:
        trace = verdict.trace
    return ["-" * WIDTH, render_text(trace, design), ""]


def as_json(reports: Sequence[Report], files: dict[int, str]) -> str:
    """The documented JSON; ``files`` names the file of a trace, by its id()."""
    return json.dumps({"designs": [_design(r, files) for r in reports]}, indent=2)


def _bound(bound: Bound) -> dict[str, int]:
    return {"tasks": bound.tasks, "mms": bound.mms, "stacks": bound.stacks}


def _design(report: Report, files: dict[int, str]) -> dict[str, Any]:
    bounds = list(dict.fromkeys(b for b, _ in report.coverage))
    return {
        "design": report.design,
        "environment": report.environment,
        "without": list(report.without),
        "bound": _bound(bounds[0]) if bounds else None,
        "bounds": [_bound(b) for b in bounds],
        "states": report.states,
        "transitions": report.transitions,
        "seconds": round(report.seconds, 3),
        "verdicts": [_verdict_json(v, files) for v in report.verdicts]
        + [program_json(v) for v in report.programs if not v.abilities],
        "programs": [program_json(v) for v in report.programs],
    }


def program_json(verdict: ProgramVerdict) -> dict[str, Any]:
    """A verdict of the CPU level; ``steps`` counts operations."""
    violated = verdict.status == VIOLATED
    return {
        "property": verdict.property,
        "status": verdict.status,
        "steps": verdict.depth if violated else None,
        "conjunct": verdict.conjunct,
        "where": verdict.where,
        "trace": None,
        "assumptions": [verdict.assumption] if verdict.assumption else [],
        "depends_on": None,
        "witness": verdict.witness,
        "saturated": False,
        "seconds": None,
        "protocol": verdict.protocol,
        "abilities": list(verdict.abilities),
        "depth": verdict.depth,
        "states": verdict.states,
        "scenario": list(verdict.scenario),
        "aftermath": [verdict.seen] if verdict.seen else [],
    }


def _sets(sets: tuple[tuple[str, ...], ...] | None) -> list[list[str]] | None:
    return None if sets is None else [list(s) for s in sets]


def _verdict_json(verdict: Verdict, files: dict[int, str]) -> dict[str, Any]:
    trace = verdict.trace
    return {
        "property": verdict.property.id,
        "status": verdict.status,
        "steps": len(trace.steps) if trace else None,
        "conjunct": trace.conjunct if trace else None,
        "where": trace.where if trace else None,
        "trace": files.get(id(trace)) if trace else None,
        "aftermath": list(trace.aftermath) if trace else [],
        "assumptions": list(verdict.assumptions),
        "depends_on": _sets(verdict.depends_on),
        "not_met_without": _sets(verdict.not_met),
        "witness": verdict.witness,
        "unexercised": list(verdict.unexercised),
        "saturated": verdict.saturated,
        "bounds": [_bound(b) for b in verdict.bounds],
        "sites": [
            {
                "conjunct": CLAIMS[s.claim].conjunct.name,
                "step": s.step,
                "steps": len(s.trace.steps),
                "trace": files.get(id(s.trace)),
            }
            for s in verdict.sites
        ],
        "seconds": round(verdict.seconds, 3),
        "note": verdict.note,
    }
