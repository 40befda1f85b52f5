"""A run in one line a step says what the page about it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterexamples import itf
from counterexamples.render import render_text
from counterexamples.told import ROOT, told, why
from model.designs import DESIGNS

CORPUS = sorted((ROOT / "counterexamples" / "corpus").glob("*.itf.json"))


def words(text: str) -> str:
    """Without line breaks and columns."""
    return " ".join(text.split())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name.removesuffix(".itf.json"))
def test_names_and_words_are_those_of_the_page(path: Path) -> None:
    """Every step, change and note, and the reason, in the same words with the same names."""
    trace = itf.read(path)
    design = DESIGNS[trace.design]
    page = words(render_text(trace, design))
    steps = told(trace, design)
    assert len(steps) == len(trace.steps)
    for number, step in enumerate(steps, 1):
        assert words(f"{number} {step.who} {step.what}") in page
        assert all(words(each) in page for each in step.changes)
    assert words(why(trace, design)) in page


def test_a_step_has_the_place_of_its_text() -> None:
    """File and line here, function and file of Linux there."""
    trace = itf.read(ROOT / "counterexamples" / "corpus" / "linux-6.12-not-in-use.itf.json")
    step = told(trace, DESIGNS["linux-6.12"])[1]
    assert (step.function, step.source) == ("copy_process", "kernel/fork.c, 6.12")
    assert step.place is not None and step.place[0] == "model/kernel/fork.py"
    line = (ROOT / step.place[0]).read_text().splitlines()[step.place[1] - 1]
    assert line.startswith(("@step", "def "))
