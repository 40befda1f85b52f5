"""The README says what the tool says."""

from __future__ import annotations

from pathlib import Path

from counterexamples import itf
from counterexamples.render import render_text

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- trace: linux-6.12 not-in-use -->\n", "<!-- end -->"


def test_readme_shows_the_recorded_trace() -> None:
    """The trace in the README is the recorded one, as the tool prints it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip("\n")
    recorded = ROOT / "counterexamples" / "corpus" / "linux-6.12-not-in-use.itf.json"
    assert shown == "```\n" + render_text(itf.read(recorded)).strip("\n") + "\n```"


def test_every_source_is_in_the_architecture_page() -> None:
    """ARCHITECTURE.md names every module of shstk."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in (ROOT / "shstk").glob("*.py"):
        assert path.name == "__init__.py" or path.name in page, path.name
