"""The recorded traces: executed again, for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterexamples import itf
from model.designs import DESIGNS
from shstk.replay import replay
from shstk.space import Bound, Space

CORPUS = Path(itf.__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.itf.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_recorded_trace_replays(file: Path) -> None:
    """A recorded trace is still a run of its design that ends in its violation."""
    trace = itf.read(file)
    result = replay(trace, DESIGNS[trace.design], Space(Bound(*trace.bound)))
    assert result, result.reason


def test_both_designs_are_recorded() -> None:
    """The corpus has traces of every design."""
    assert {itf.read(f).design for f in FILES} == set(DESIGNS)


@pytest.mark.parametrize("file", FILES[:3], ids=lambda f: f.name)
def test_recorded_trace_is_written_back_exactly(file: Path) -> None:
    """Reading and writing a recorded trace gives the same bytes."""
    assert itf.dumps(itf.read(file)) == file.read_text(encoding="utf-8")
