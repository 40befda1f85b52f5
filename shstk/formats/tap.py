"""KTAP version 1, as the kernel's own tests print it (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shstk.formats.cases import Case, Outcome, Suite, Violation
from shstk.verdicts import VIOLATED

VERSION = "KTAP version 1"


def render(suites: Sequence[Suite]) -> str:
    """A test for each suite, with its cases nested in it."""
    lines = [VERSION, f"1..{len(suites)}"]
    for number, suite in enumerate(suites, 1):
        lines += [f"  {line}" for line in _suite(suite)]
        failed = suite.count(Outcome.FAILED) + suite.count(Outcome.ERROR)
        lines.append(_result(not failed, number, suite.name))
    return "\n".join(lines)


def _suite(suite: Suite) -> Iterator[str]:
    yield VERSION
    yield f"1..{len(suite.cases)}"
    for number, case in enumerate(suite.cases, 1):
        passed = case.outcome in (Outcome.PASSED, Outcome.SKIPPED)
        if not passed:
            # Diagnostic lines come right before the result that they belong to.
            yield from (f"# {_one_line(line)}".rstrip() for line in _diagnostics(case))
        yield _result(passed, number, case.name, _more(case))


def _more(case: Case) -> str:
    """What follows the name: a directive, or a word."""
    if case.outcome is Outcome.SKIPPED:
        return f"SKIP {case.message}"
    if case.outcome is Outcome.ERROR:
        return f"ERROR {case.message}"
    if case.surprise:
        return case.message
    if case.expected is not None and case.status == VIOLATED:
        return "expected violation"
    return "" if case.status == VIOLATED else case.status


def _diagnostics(case: Case) -> Iterator[str]:
    yield f"{case.name}: {case.message}"
    # The property's first violation has its shortest run.
    for violation in case.violations[:1]:
        yield from _steps(violation)
    yield from case.remarks
    for violation in case.violations[1:]:
        where = f" in {violation.step}" if violation.step else ""
        yield f"also {violation.conjunct}{where}, {len(violation.steps)} steps"


def _steps(violation: Violation) -> Iterator[str]:
    for number, step in enumerate(violation.steps, 1):
        yield f"{number:>3}  {step.line}"
        yield from (f"       {each}" for each in step.changes)
    if violation.loop is not None:
        yield f"the run repeats from step {violation.loop + 1} for ever"


def _result(passed: bool, number: int, name: str, more: str = "") -> str:
    # A name has no hash sign: that begins what follows it.
    name = _one_line(name).replace("#", "")
    line = f"{'ok' if passed else 'not ok'} {number} {name}"
    return f"{line} # {_one_line(more)}" if more else line


def _one_line(text: str) -> str:
    """Without line breaks and other control characters; spaces at the left stay."""
    return "".join(c if c.isprintable() else " " for c in text)
