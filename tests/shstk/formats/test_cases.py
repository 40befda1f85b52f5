"""Verdicts as tests: what passes, fails, is skipped."""

from __future__ import annotations

from dataclasses import replace

from format_samples import expecting, known, plain

from shstk.formats.cases import Outcome
from shstk.verdicts import HOLDS, NOT_APPLICABLE, UNKNOWN, VIOLATED


def test_a_verdict_is_a_test() -> None:
    """Violated fails, not applicable is skipped, holds passes."""
    outcomes = {c.status: c.outcome for s in plain() for c in s.cases}
    assert outcomes == {
        VIOLATED: Outcome.FAILED,
        HOLDS: Outcome.PASSED,
        NOT_APPLICABLE: Outcome.SKIPPED,
    }


def test_an_expected_violation_passes() -> None:
    """Nothing fails where every verdict is the expected one, and the violations are still there."""
    cases = [c for s in known() for c in s.cases]
    assert not any(c.outcome in (Outcome.FAILED, Outcome.ERROR) for c in cases)
    assert any(c.violations for c in cases)


def test_only_what_changed_fails() -> None:
    """A property that holds unexpectedly fails, and so does one that is not there."""
    suite = expecting(inherited=VIOLATED, nosuch=HOLDS)
    failed = {c.name: c.message for c in suite.cases if c.outcome is Outcome.FAILED}
    assert failed == {
        "inherited": "expected violated, found holds",
        "nosuch": "expected holds, found not checked",
    }


def test_what_is_not_known_is_an_error() -> None:
    """Unknown is neither passed nor skipped."""
    case = replace(plain()[0].cases[0], status=UNKNOWN)
    assert case.outcome is Outcome.ERROR
    assert replace(case, expected=HOLDS, surprise=True).outcome is Outcome.ERROR
