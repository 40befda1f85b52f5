"""The subcommand, on a guest in Python and on a real kernel where one is at hand."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_guest
import pytest

from counterexamples import itf
from counterexamples.scenario import read
from model.designs import DESIGNS
from shstk.conform import boots, command, record
from shstk.conform.__main__ import main
from shstk.conform.campaign import Campaign, Ended, campaign_file, configured
from shstk.conform.replay import replay_on_kernel, shown
from shstk.conform.scenarios import random_case
from shstk.conform.traces import case_of
from shstk.kernel.prepare import ready

DESIGN = DESIGNS["linux-6.12"]
SCENARIO = """design: linux-6.12
A = P arch_prctl ENABLE SHSTK
P vfork C
P sigkill
C call
"""
WRONG = '''"""A wrong design."""

from model.designs.linux_6_12 import Linux612
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.state import Task
from model.world import World


class Wrong(Linux612):
    """A vfork child keeps its parent's base."""

    name = "vfork-keeps-base"

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0
        return Linux612.shstk_alloc_thread_stack(self, k, tsk, args)
'''

real = pytest.mark.skipif(
    not ready(), reason="no kernel or emulator at hand: `python -m shstk.kernel` gets them"
)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The guest in Python instead of a kernel, in a directory of its own."""

    class Place:
        on = "host"
        boot = staticmethod(fake_guest.boot(DESIGN))

    monkeypatch.setattr(command, "place", lambda on, kernel, say: Place())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_divergence_is_exit_status_0(faked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the last line says how much was compared."""
    assert main(["--scenarios", "20", "--seed", "3"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("linux-6.12 against Linux 6.12-fake on host: 20 scenarios, ")
    assert last.endswith(" steps, 0 divergences") and not list(faked.iterdir())


def test_a_divergence_is_shown_shrunk_and_kept(
    faked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1; both sides; a scenario file that shows it again."""
    (faked / "wrong.py").write_text(WRONG)
    assert main(["--scenarios", "30", "--design", "wrong.py"]) == 1
    out = capsys.readouterr().out
    assert "DIVERGES  seed 0, scenario" in out and "vfork-keeps-base  " in out
    kept = faked / "divergence-1.scn"
    assert len(read(kept).lines) <= 4
    assert main([str(kept), "--design", "wrong.py"]) == 1
    assert main([str(kept)]) == 0


def test_files_are_run_and_refused_with_reasons(
    faked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be run is told, and does not stop the others."""
    (faked / "good.scn").write_text(SCENARIO)
    (faked / "bad.scn").write_text("design: linux-6.12\nP iret\n")
    assert main(["good.scn", "bad.scn", "--format", "json"]) == 0
    told = capsys.readouterr()
    assert "not run: bad.scn: line 2: iret: far branches" in told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert lines[0]["steps"] == 4 and lines[0]["divergence"] is None
    assert lines[-1]["scenarios"] == 1 and lines[-1]["operations"]["vfork"] == 1
    assert main(["good.scn"]) == 0
    assert ": 1 scenario, 4 steps, 0 divergences" in capsys.readouterr().out
    assert main(["bad.scn"]) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--scenarios", "-1"], "a number from 0 to"),
        (["--scenarios", "0"], "no scenario"),
        (["--seed", "-1"], "--seed -1: a number from 0 on"),
        (["--instructions", "5", "--seed", "-1"], "--seed -1: a number from 0 on"),
        (["--instructions", "-3"], "--instructions -3: a number from 0 to 1,000,000"),
        (["--design", "arm64"], "x86"),
        (["--design", "none"], "none"),
        (["missing.scn"], "cannot be read"),
        (["--kernel", "missing"], "missing"),
        (["--on", "host", "--kernel", "x"], "--on bochs"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Exit status 2, and what would be right."""
    monkeypatch.chdir(tmp_path)
    if words == ["--scenarios", "0"]:
        monkeypatch.setattr(command, "place", lambda on, kernel, say: None)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert why in err and err.count("\n") == 1


def test_a_host_without_shadow_stacks_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--on host needs user_shstk among the CPU's flags."""
    (tmp_path / "cpuinfo").write_text("flags : fpu shstk\n")
    monkeypatch.setattr(boots, "CPUINFO", tmp_path / "cpuinfo")
    assert main(["--on", "host"]) == 2
    assert "user_shstk" in capsys.readouterr().err
    (tmp_path / "cpuinfo").write_text("flags : fpu user_shstk\n")
    assert boots.place("host", None, lambda text: None).kernel is None


def test_a_guest_that_always_stops_keeps_what_was_found(
    faked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scenarios before, and those in which it stopped; then one line, exit status 2."""
    good = fake_guest.boot(DESIGN)

    def boot(campaign: bytes) -> Iterator[str]:
        for line in good(campaign):
            if json.loads(line).get("step") == 2:
                raise Ended("panic")
            yield line

    class Place:
        on = "host"

    Place.boot = staticmethod(boot)  # type: ignore[attr-defined]
    monkeypatch.setattr(command, "place", lambda on, kernel, say: Place())
    assert main(["--scenarios", "30"]) == 2
    told = capsys.readouterr()
    assert told.out.count("THE GUEST FAILED") == 4 and "of 30 scenarios" in told.out
    assert told.err == "shstk: the guest has stopped 4 times\n"


def test_a_kernel_without_huge_pages_is_predicted_as_such() -> None:
    """It places large areas at any page, which is found out on it."""
    small = copy.copy(DESIGN)
    small.huge_pages = False
    guest = fake_guest.boot(small, shift=1 << 21)
    found = configured(DESIGN, Campaign(guest))
    assert DESIGN.huge_pages and not found.huge_pages
    assert configured(DESIGN, Campaign(fake_guest.boot(DESIGN, shift=1 << 21))) is DESIGN
    cases = [random_case(found, 2, number) for number in range(20)]
    assert [o.divergence for o in Campaign(guest).run(cases)] == [None] * 20
    assert any(o.divergence for o in Campaign(fake_guest.boot(DESIGN)).run(cases))


# -- what was recorded -------------------------------------------------------------------------
def test_the_record_is_of_the_corpus() -> None:
    """Every trace has its entry, and it is what is predicted of the trace now."""
    kept = record.read()
    names = {path.name for path in record.CORPUS.glob("linux-6.12-*.itf.json")}
    assert set(kept.traces) == names and kept.kernel.startswith("6.12.")
    for name, each in kept.traces.items():
        if not each.reason:
            told = case_of(itf.read(record.CORPUS / name), DESIGN, 1)
            assert list(each.shown) == shown(told.case, len(told.case.asked)), name


# -- real kernels ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def where() -> boots.Place:
    """Debian's kernel in Bochs."""
    return boots.place("bochs", None, lambda text: None)


@real
def test_a_real_kernel_does_what_the_machine_does(where: boots.Place) -> None:
    """Random scenarios, twice: no divergence, and the same lines both times."""
    cases = [random_case(DESIGN, 1000, number) for number in range(60)]
    lines: list[str] = []

    def boot(campaign: bytes) -> Iterator[str]:
        for line in where.boot(campaign):
            lines.append(line)
            yield line

    outcomes = list(Campaign(boot, emulated=True).run(cases))
    assert [o.divergence for o in outcomes] == [None] * 60
    assert sum(o.steps for o in outcomes) == sum(len(case.asked) for case in cases)
    assert list(where.boot(campaign_file(cases)))[: len(lines)] == lines


@real
def test_counterexamples_on_a_real_kernel(where: boots.Place) -> None:
    """Every trace that user space can cause is confirmed, and shows what is recorded."""
    kept = record.read()
    names = sorted(kept.traces)
    traces = [itf.read(record.CORPUS / name) for name in names]
    for name, result in zip(names, replay_on_kernel(traces, DESIGN, where.boot, True), strict=True):
        assert result.confirmed or result.reason == kept.traces[name].reason != ""
        assert tuple(result.shown) == kept.traces[name].shown


@real
def test_a_wrong_model_is_caught_by_a_real_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A vfork child that keeps base, within 40 scenarios, shrunk to few lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(WRONG)
    assert main(["--scenarios", "40", "--design", "wrong.py"]) == 1
    assert "shadow stacks" in capsys.readouterr().out
    assert len(read(tmp_path / "divergence-1.scn").lines) <= 4


@real
def test_ctrl_c_keeps_what_was_found(tmp_path: Path) -> None:
    """Exit status 130, and a summary of the scenarios that were compared."""
    words = [sys.executable, "-m", "shstk.conform", "--scenarios", "1500", "--format", "json"]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        words, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    last = json.loads(rest.splitlines()[-1])
    assert first["steps"] and last["interrupted"] and 0 < last["scenarios"] < 1500
