"""The README says what the tool says."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterexamples import itf
from counterexamples.render import render_text
from properties import PROPERTIES
from shstk.cli import main
from shstk.conform.findings import findings

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- trace: linux-6.12 not-in-use -->\n", "<!-- end -->"


def test_readme_shows_the_recorded_trace() -> None:
    """The trace in the README is the recorded one, as the tool prints it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip("\n")
    recorded = ROOT / "counterexamples" / "corpus" / "linux-6.12-not-in-use.itf.json"
    assert shown == "```\n" + render_text(itf.read(recorded)).strip("\n") + "\n```"


SCENARIO = ROOT / "counterexamples" / "scenarios" / "vfork-parent-killed.scn"


def shown(begin: str) -> str:
    """What the README has between a mark and the next end, without the fence."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(begin)[1].split(END)[0].strip("\n").strip("`").strip("\n")


def test_readme_shows_a_scenario_and_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The scenario in the README is the file, and what follows is printed for it."""
    assert shown("<!-- scenario: vfork-parent-killed -->\n") == SCENARIO.read_text().strip("\n")
    assert main(["run", "--design", "linux-6.12", str(SCENARIO)]) == 0
    assert (
        capsys.readouterr().out.strip("\n").endswith(shown("<!-- run: vfork-parent-killed -->\n"))
    )


def test_readme_shows_the_cpu_level(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdicts on vfork in the README are those that are found."""
    words = [w for id_ in ("vfork-frames", "vfork-return-faults") for w in ("--property", id_)]
    assert main(["programs", "linux-6.12", *words]) == 1
    begin = "<!-- programs: linux-6.12 vfork-frames vfork-return-faults -->\n"
    assert capsys.readouterr().out.strip("\n") == shown(begin)


def test_every_source_is_in_the_architecture_page() -> None:
    """ARCHITECTURE.md names every module of shstk."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = ("shstk", "shstk/conform", "shstk/kernel", "counterexamples", "model/reference")
    for path in [p for folder in folders for p in (ROOT / folder).glob("*.py")]:
        assert path.name == "__init__.py" or path.name in page, path.name


def test_readme_shows_what_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdicts of a proof in the README are those that are found."""
    words = [w for id_ in PROPERTIES for w in ("--property", id_)]
    assert main(["prove", "linux-6.12", "--solver", "both", *words]) == 1
    rows = shown("<!-- prove: linux-6.12 -->\n").splitlines()
    assert rows == [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("  PROVED ", "  VIOLATED ", "  BOUNDED "))
    ]


def test_readme_shows_what_a_kernel_has_shown() -> None:
    """The findings in the README are those recorded of a real kernel."""
    assert shown("<!-- kernel: linux-6.12 -->\n") == findings()
