"""The recorded traces: executed again, for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterexamples import itf
from model.designs import DESIGNS
from shstk.reference import replay_on_reference
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


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_recorded_trace_replays_on_the_reference_machine(file: Path) -> None:
    """On real addresses it violates what it says, and ends in something that can be seen."""
    trace = itf.read(file)
    result = replay_on_reference(trace, DESIGNS[trace.design])
    assert result, result.reason
    assert result.aftermath and result.aftermath == trace.aftermath


def test_another_design_does_not_do_it() -> None:
    """The machine runs the design's own text: v1's trace is none of the merged design's."""
    trace = itf.read(CORPUS / "v1-not-in-use.itf.json")
    assert not replay_on_reference(trace, DESIGNS["linux-6.12"])


def test_both_designs_are_recorded() -> None:
    """The corpus has traces of the patch as posted and of the merged design."""
    assert {itf.read(f).design for f in FILES} == {"v1", "linux-6.12"}


@pytest.mark.parametrize("file", FILES[:3], ids=lambda f: f.name)
def test_recorded_trace_is_written_back_exactly(file: Path) -> None:
    """Reading and writing a recorded trace gives the same bytes."""
    assert itf.dumps(itf.read(file)) == file.read_text(encoding="utf-8")
