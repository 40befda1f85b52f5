"""Counterexamples of the corpus as scenarios for a kernel."""

from __future__ import annotations

from pathlib import Path

import fake_guest
import pytest

from counterexamples import itf
from model.designs import DESIGNS
from shstk.conform.causable import NotCausable
from shstk.conform.replay import replay_on_kernel, tell
from shstk.conform.traces import case_of, lines_of

CORPUS = Path(__file__).parents[3] / "counterexamples" / "corpus"
DESIGN = DESIGNS["linux-6.12"]
FILES = sorted(CORPUS.glob("linux-6.12-*.itf.json"))
# The kernel's own munmap finds mmap_lock contended: only another task in the kernel can do that.
NOT_CAUSABLE = "freed-before-join"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".itf.json"))
def test_a_counterexample_is_one_where_the_kernel_goes_on_by_itself(path: Path) -> None:
    """Every trace but those that need a contended lock violates the same claim as a scenario."""
    trace = itf.read(path)
    if NOT_CAUSABLE in path.name:
        with pytest.raises(NotCausable, match="mmap_lock"):
            lines_of(trace)
        return
    assert case_of(trace, DESIGN, 1).violated


def test_all_of_them_in_one_boot(capsys: pytest.CaptureFixture[str]) -> None:
    """A right guest confirms them, and what it shows is told line by line."""
    traces = [itf.read(path) for path in FILES]
    results = replay_on_kernel(traces, DESIGN, fake_guest.boot(DESIGN))
    assert [bool(r.reason) for r in results] == [NOT_CAUSABLE in p.name for p in FILES]
    assert all(r.confirmed for r in results if not r.reason)
    byname = {path.name: result for path, result in zip(FILES, results, strict=True)}
    killed = byname["linux-6.12-not-in-use.itf.json"]
    assert tell(killed, DESIGN) == 0
    shown = capsys.readouterr().out
    assert "C call: " in shown and "#PF error 0x46 at A.end-8" in shown
    warned = byname["linux-6.12-no-false-alarm.itf.json"]
    assert "WARN double free" in warned.shown[-1]
    leaked = byname["linux-6.12-failed-clone-harmless.itf.json"]
    assert "B (8 MiB, rd wr ss), A (8 MiB, rd wr ss)" in leaked.shown[-1]


def test_a_kernel_that_differs_does_not_confirm(capsys: pytest.CaptureFixture[str]) -> None:
    """A design without the hole: the same scenario shows something else, side by side."""
    trace = itf.read(CORPUS / "linux-6.12-failed-clone-harmless.itf.json")
    (result,) = replay_on_kernel([trace], DESIGN, fake_guest.boot(DESIGNS["proposed"]))
    assert not result.confirmed
    assert tell(result, DESIGN) == 1
    assert "P: shadow stacks" in capsys.readouterr().out
