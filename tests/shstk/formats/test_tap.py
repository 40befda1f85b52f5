"""KTAP, by the grammar of the kernel's documentation."""

from __future__ import annotations

import re
from typing import Any

from format_samples import known, plain, strange

from shstk.formats import tap

RESULT = re.compile(r"(ok|not ok) (\d+) ([^#]+?)(?: # (.+))?")


def parsed(lines: list[str]) -> tuple[list[tuple[bool, str, str, list[Any]]], list[str]]:
    """KTAP by its grammar: results with what is nested before each, and the diagnostics."""
    assert lines[0] == "KTAP version 1"
    plan = re.fullmatch(r"1\.\.(\d+)", lines[1])
    assert plan
    results: list[tuple[bool, str, str, list[Any]]] = []
    diagnostics, nested = [], []
    for line in lines[2:]:
        if line.startswith("  "):
            nested.append(line[2:])
        elif line.startswith("#"):
            diagnostics.append(line)
        else:
            match = RESULT.fullmatch(line)
            assert match, line
            assert int(match[2]) == len(results) + 1
            inner = parsed(nested)[0] if nested else []
            nested = []
            results.append((match[1] == "ok", match[3], match[4] or "", inner))
    assert not nested and len(results) == int(plan[1])
    return results, diagnostics


def test_ktap_has_a_test_for_each_design_with_its_properties_nested() -> None:
    """Version, plan, numbered results; a parent fails if a nested test does."""
    results, _ = parsed(tap.render(plain()).splitlines())
    assert [name for _, name, _, _ in results] == [s.name for s in plain()]
    for passed, _, _, inner in results:
        assert passed == all(ok for ok, _, _, _ in inner)
    inner = {name: (ok, more) for ok, name, more, _ in results[0][3]}
    assert inner["not-in-use"] == (False, "")
    assert inner["inherited"] == (True, "holds")
    assert inner["exec-resets"][0] and inner["exec-resets"][1].startswith("SKIP ")


def test_ktap_tells_the_steps_before_the_result() -> None:
    """The diagnostic lines right before a failure have each step and the kernel function."""
    lines = [line.strip() for line in tap.render(plain()).splitlines()]
    end = next(n for n, line in enumerate(lines) if re.match(r"not ok \d+ not-in-use", line))
    start = max(n for n in range(end) if RESULT.fullmatch(lines[n]) or lines[n].startswith("1.."))
    case = next(c for c in plain()[0].cases if c.name == "not-in-use")
    told = "\n".join(lines[start + 1 : end])
    assert all(line.startswith("#") for line in lines[start + 1 : end])
    assert all(step.line in told for step in case.violations[0].steps)
    assert "[copy_process, kernel/fork.c, 6.12]" in told


def test_ktap_marks_expected_violations() -> None:
    """They are ok, and said to be expected; then nothing else needs a diagnostic."""
    text = tap.render(known())
    assert re.search(r"^  ok \d+ not-in-use # expected violation$", text, re.M)
    assert "not ok" not in text


def test_ktap_writes_any_text_on_its_line() -> None:
    """A line break or a hash sign in a name does not make another result of it."""
    (result,), _ = parsed(tap.render([strange()]).splitlines())
    assert len(result[3]) == 1 and not result[3][0][0]
