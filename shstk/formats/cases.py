"""Reports as tests: a suite for each design and environment, a case for each verdict."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from counterexamples.render import render_text
from counterexamples.told import Told, told, why
from model.designs import DESIGNS, Design
from shstk.expectations import (
    NOT_CHECKED,
    Expectations,
    plain,
    program_name,
    property_of,
)
from shstk.loader import design_files
from shstk.programs import ProgramVerdict, scenario_text
from shstk.report import depends_text
from shstk.search import Site
from shstk.verdicts import NOT_APPLICABLE, UNKNOWN, VIOLATED, Report, Verdict


class Outcome(Enum):
    """What a test framework makes of a verdict."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # not applicable
    ERROR = "error"  # not known


@dataclass(frozen=True)
class Violation:
    """A conjunct that is violated, in a step: file and line of the claim, and the run."""

    conjunct: str
    where: str
    step: str
    why: str
    steps: tuple[Told, ...]
    loop: int | None = None


@dataclass(frozen=True)
class Case:
    """A verdict.  ``note`` is one line about it, ``details`` a violation's text with its
    ``remarks``, lines about what it depends on.

    ``expected``: None where nothing was, "" where the file does not have it.  ``surprise``:
    it is not what was expected.
    """

    name: str
    status: str
    note: str
    seconds: float
    violations: tuple[Violation, ...] = ()
    details: str = ""
    remarks: tuple[str, ...] = ()
    expected: str | None = None
    surprise: bool = False

    @builtins.property
    def property(self) -> str:
        """The property's id."""
        return property_of(self.name)

    @builtins.property
    def outcome(self) -> Outcome:
        """With expectations, whether they are met; else, whether the property is."""
        if self.status == UNKNOWN and (self.expected is None or self.surprise):
            return Outcome.ERROR
        if self.surprise or (self.expected is None and self.status == VIOLATED):
            return Outcome.FAILED
        return Outcome.SKIPPED if self.status == NOT_APPLICABLE else Outcome.PASSED

    @builtins.property
    def message(self) -> str:
        """What to say of it in one line."""
        now = f"{self.status}: {self.note}" if self.note else self.status
        if not self.surprise:
            return now
        return f"expected {self.expected or 'nothing of that name'}, found {now}"


@dataclass(frozen=True)
class Suite:
    """A design in an environment.  ``file``: that of a design that is the user's own."""

    design: Design
    environment: str
    without: tuple[str, ...]
    seconds: float
    cases: tuple[Case, ...]
    file: tuple[Path, int] | None

    @property
    def name(self) -> str:
        """For example ``linux-6.12 (ordinary+hostile environment)``."""
        off = f", without {', '.join(self.without)}" if self.without else ""
        return f"{self.design.name} ({self.environment} environment{off})"

    def count(self, outcome: Outcome) -> int:
        """How many cases come out like that."""
        return sum(c.outcome is outcome for c in self.cases)


def suites(
    reports: Sequence[Report], designs: dict[str, Design], expectations: Expectations | None
) -> list[Suite]:
    """All reports as tests."""
    return [_suite(r, designs[r.design], expectations) for r in reports]


def _suite(report: Report, design: Design, expectations: Expectations | None) -> Suite:
    cases = [_case(v, design) for v in report.verdicts]
    cases += [_program_case(v, design) for v in plain(report)]
    if expectations is not None:
        cases = _compared(cases, report, expectations)
    file = None
    if DESIGNS.get(design.name) is not design:
        file = design_files(design)[0], _line(type(design))
    seconds = report.seconds
    return Suite(design, report.environment, report.without, seconds, tuple(cases), file)


def _line(cls: type) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 1


def _compared(cases: list[Case], report: Report, expectations: Expectations) -> list[Case]:
    """The same with what was expected, and what was expected but is not there."""
    expected = expectations.of(report)
    out = []
    for case in cases:
        said = expected.get(case.name, "")
        surprise = not said or not expectations.met(said, case.status)
        out.append(replace(case, expected=said, surprise=surprise))
    known = {case.name for case in cases}
    out += [
        Case(name, NOT_CHECKED, "", 0.0, expected=said, surprise=True)
        for name, said in expected.items()
        if name not in known
    ]
    return out


# -- cases ---------------------------------------------------------------------------
def _case(verdict: Verdict, design: Design) -> Case:
    trace = verdict.trace
    note = verdict.note
    if verdict.status == VIOLATED and trace is not None:
        count = len(trace.steps)
        steps = f"{count} step{'' if count == 1 else 's'}"
        note = f"{trace.conjunct} ({trace.where}), {steps}: {why(trace, design)}"
    elif not note:
        note = "; ".join(f"assuming {a}" for a in verdict.assumptions)
    details = render_text(trace, design) if trace is not None else ""
    remarks = tuple(depends_text(verdict))
    return Case(
        verdict.property.id,
        verdict.status,
        note,
        verdict.seconds,
        _violations(verdict, design),
        "\n".join([details, *remarks]),
        remarks,
    )


def _violations(verdict: Verdict, design: Design) -> tuple[Violation, ...]:
    """A property's violations: one for each conjunct and step."""
    if verdict.trace is None or verdict.status != VIOLATED:
        return ()
    last = verdict.trace.steps[-1].step if verdict.trace.steps else ""
    sites = verdict.sites or [Site(-1, last, verdict.trace)]  # of an endless run there is one
    return tuple(
        Violation(
            s.trace.conjunct,
            s.trace.where,
            s.step,
            why(s.trace, design),
            told(s.trace, design),
            s.trace.loop,
        )
        for s in sites
    )


def _program_case(verdict: ProgramVerdict, design: Design) -> Case:
    name = program_name(verdict)
    if verdict.status != VIOLATED:
        note = f"assuming {verdict.assumption}" if verdict.assumption else ""
        return Case(name, verdict.status, note, 0.0)
    lines = tuple(Told(*line.partition(" ")[::2]) for line in verdict.scenario)
    conjunct, where = verdict.conjunct, verdict.where
    found = Violation(conjunct, where, verdict.protocol, verdict.seen, lines)
    many = f"{verdict.depth} operation{'' if verdict.depth == 1 else 's'}"
    note = f"{conjunct} ({where}), {many}: {verdict.seen}"
    return Case(name, VIOLATED, note, 0.0, (found,), scenario_text(verdict, design))
