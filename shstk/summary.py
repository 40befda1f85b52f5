"""The end of what check prints: all verdicts counted, and each violation in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from shstk.expectations import plain, program_name
from shstk.programs import ProgramVerdict
from shstk.verdicts import HOLDS, NOT_APPLICABLE, PROVED, UNKNOWN, VIOLATED, Report, Verdict

WORDS = {
    PROVED: ("proved", "proved"),
    HOLDS: ("holds", "hold"),
    VIOLATED: ("violated", "violated"),
    NOT_APPLICABLE: ("not met", "not met"),
    UNKNOWN: ("unknown", "unknown"),
}


def summary(reports: Sequence[Report]) -> list[str]:
    """A line for each design and environment, and below it one for each violated property."""
    return [line for report in reports for line in _report(report)]


def _report(report: Report) -> Iterator[str]:
    programs = plain(report)
    counts = Counter(v.status for v in report.verdicts) + Counter(v.status for v in programs)
    said = [
        f"{counts[status]} {words[counts[status] != 1]}"
        for status, words in WORDS.items()
        if counts[status]
    ]
    without = f", without {', '.join(report.without)}" if report.without else ""
    head = f"{report.design}, {report.environment} environment{without}"
    yield f"{head}: {', '.join(said) or 'nothing explored'}"
    yield from (_violated(v) for v in report.violated)
    yield from (_program(v) for v in programs if v.status == VIOLATED)


def _violated(verdict: Verdict) -> str:
    trace = verdict.trace
    if trace is None:
        return f"  VIOLATED  {verdict.property.id}"
    steps = _many(len(trace.steps), "step")
    return f"  VIOLATED  {verdict.property.id:<26} {steps:>8}   {trace.conjunct} ({trace.where})"


def _program(verdict: ProgramVerdict) -> str:
    steps = _many(verdict.depth, "operation")
    return f"  VIOLATED  {program_name(verdict)}, {steps} ({verdict.where})"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
