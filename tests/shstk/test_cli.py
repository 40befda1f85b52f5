"""The command line: what it prints, its exit status, and errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.designs import DESIGNS
from shstk.cli import main

SMALL = ["--tasks", "2", "--mms", "1", "--stacks", "1"]


def test_designs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each design has a line, and an object in JSON."""
    assert main(["designs"]) == 0
    assert "linux-6.12" in capsys.readouterr().out
    assert main(["designs", "--format", "json"]) == 0
    assert [d["design"] for d in json.loads(capsys.readouterr().out)] == list(DESIGNS)


def test_properties_and_events_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Properties and event families have a line each."""
    assert main(["properties"]) == 0
    assert "not-in-use" in capsys.readouterr().out
    assert main(["events"]) == 0
    assert "sigkill" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["check", "nosuch"],
        ["check", "/nonexistent/design.py"],
        ["check", "--property", "nosuch"],
        ["check", "--without", "nosuch"],
        ["check", "--without", "kernel"],
        ["check", "--tasks", "0"],
        ["check", "--tasks", "9"],
        ["check", "--tasks", "two"],
        ["check", "--mms", "-1"],
        ["check", "--memory", "lots"],
        ["check", "--expect", "/nonexistent.json"],
        ["check", "--out", "/dev/null/x"],
        ["check", "--record", "/dev/null/x"],
        ["check", "--record", "/"],
        ["check", "--format", "xml"],
        ["baseline", "nosuch"],
        ["trace", "v1", "nosuch"],
        ["trace", "nosuch", "own-mm"],
        ["explore", "v1", "--graph", "x.png"],
        ["replay", "/nonexistent.itf.json"],
        ["export", "v1", "--to", "tla"],
        ["nosuch"],
        ["check", "--nosuch"],
        ["run", "/nonexistent.scn"],
        ["run", "/dev/null"],
        ["programs", "nosuch"],
        ["programs", "--property", "own-mm"],
        ["programs", "--depth", "0"],
        ["trace", "v1", "guard-gap", "--format", "itf"],
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said in one line on stderr, with exit status 2."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("shstk: ") and err.count("\n") == 1


def test_an_option_of_another_command_is_told_with_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whose help would have said what it takes."""
    assert main(["trace", "v1", "own-mm", "--bounded"]) == 2
    assert "--bounded (see shstk trace --help)" in capsys.readouterr().err


def test_design_file_with_a_syntax_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken design file is named with its line."""
    file = tmp_path / "mine.py"
    file.write_text("def broken(:\n")
    assert main(["check", str(file)]) == 2
    assert "mine.py:1" in capsys.readouterr().err


def test_broken_itf_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no trace is refused in one line."""
    file = tmp_path / "x.itf.json"
    file.write_text("{}")
    assert main(["replay", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_no_trace_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the line if there is one, and for a scenario what executes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.scn").write_text("P vfork C\n")
    hint = "a scenario is executed by `shstk run`"
    for name, said in (
        ("bad.scn", f"bad.scn: line 1: not JSON: Expecting value; ITF is JSON; {hint}"),
        ("none.scn", f"none.scn: cannot be read: No such file or directory; {hint}"),
        ("none.json", "none.json: cannot be read: No such file or directory"),
    ):
        assert main(["replay", name]) == 2
        assert capsys.readouterr().err == f"shstk: {said}\n"


DERIVED = """from model.designs.linux_6_12 import Linux612


class Mine(Linux612):
    \"\"\"Nothing is different.\"\"\"

    name = "mine"
"""


def test_a_violated_design_of_ones_own_is_pointed_to_its_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line of the text is the `diff` to say, with the same question; nowhere else."""
    file = tmp_path / "mine.py"
    file.write_text(DERIVED)
    words = [*SMALL, "--bounded", "--no-depends"]
    violated, kept = ["--property", "not-in-use"], ["--property", "inherited"]
    assert main(["check", str(file), *words, *violated, "--without", "compat"]) == 1
    command = " ".join(["shstk diff linux-6.12", str(file), *SMALL, *violated])
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["", f"what mine changes: {command} --without compat --bounded"]
    for name, which, more in (
        (str(file), kept, []),
        ("linux-6.12", violated, []),
        (str(file), violated, ["--format", "json"]),
        (str(file), violated, ["--format", "tap"]),
    ):
        main(["check", name, *words, *which, *more])
        assert "shstk diff" not in capsys.readouterr().out


def test_check_trace_and_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What check finds is in its JSON, in its files, and replays."""
    words = ["check", "v1", *SMALL, "--property", "not-in-use", "--format", "json"]
    assert main([*words, "--out", str(tmp_path)]) == 1
    (design,) = json.loads(capsys.readouterr().out)["designs"]
    (verdict,) = design["verdicts"]
    assert (verdict["status"], verdict["steps"]) == ("violated", 3)
    assert main(["replay", verdict["trace"]]) == 0
    assert main(["replay", verdict["trace"], "--design", "linux-6.12"]) == 1
    capsys.readouterr()
    assert main(["trace", "v1", "not-in-use", *SMALL]) == 0
    assert "VIOLATED not-in-use" in capsys.readouterr().out


def test_a_trace_replays_on_the_reference_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`replay --on reference` shows what comes of a violation, and refuses another design."""
    words = ["check", "v1", *SMALL, "--property", "not-in-use", "--format", "json"]
    assert main([*words, "--out", str(tmp_path)]) == 1
    (design,) = json.loads(capsys.readouterr().out)["designs"]
    (verdict,) = design["verdicts"]
    assert any("#PF error 0x46" in line for line in verdict["aftermath"])
    assert main(["replay", verdict["trace"], "--on", "reference"]) == 0
    assert "next CALL: #PF error 0x46" in capsys.readouterr().out
    other = ["replay", verdict["trace"], "--on", "reference", "--design", "linux-6.12"]
    assert main(other) == 1
    assert "does not replay on linux-6.12 on the reference machine" in capsys.readouterr().err


def test_a_property_of_the_cpu_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """check knows it, programs tells it whole, trace gives a scenario that runs."""
    prop = ["--property", "vfork-return-faults"]
    assert main(["check", "linux-6.12", *SMALL, *prop, "--format", "json"]) == 1
    (design,) = json.loads(capsys.readouterr().out)["designs"]
    assert {(v["protocol"], v["status"]) for v in design["verdicts"]} == {
        ("glibc 2.36", "holds"),
        ("glibc 2019", "violated"),
    }
    assert main(["programs", "linux-6.12", *prop, "--out", str(tmp_path)]) == 1
    assert "broken by" in capsys.readouterr().out
    assert list(tmp_path.glob("*.scn"))
    assert main(["trace", "linux-6.12", "vfork-return-faults"]) == 0
    file = tmp_path / "trace.scn"
    file.write_text(capsys.readouterr().out)
    assert main(["run", str(file)]) == 0


def test_the_end_of_a_check_is_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """All verdicts counted, then each violation in a line, whatever was printed before."""
    words = ["--property", "not-in-use", "--property", "inherited", "--bounded"]
    assert main(["check", "v1", "linux-6.12", *SMALL, *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    violated = "  VIOLATED  not-in-use                  {} steps   nobody-else-on-it (properties/"
    assert lines[-4] == "v1, ordinary environment: 1 holds, 1 violated"
    assert lines[-3].startswith(violated.format(3))
    assert lines[-2] == "linux-6.12, ordinary environment: 1 holds, 1 violated"
    assert lines[-1].startswith(violated.format(6))


def test_without_an_event_a_violation_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """The merged design's double-free warning needs a failing exec or a signal."""
    words = ["check", "linux-6.12", *SMALL, "--property", "no-false-alarm"]
    assert main(words) == 1
    off = ["--without", "exec-failure,sigkill,fault,exit-group"]
    assert main([*words, *off]) == 0


def test_memory_bound_stops_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """At the memory bound the run stops, and what was not decided is unknown."""
    words = ["check", "linux-6.12", "--tasks", "3", "--mms", "1", "--stacks", "1"]
    main([*words, "--property", "freed-at-most-once", "--memory", "600K", "--bounded"])
    assert "UNKNOWN" in capsys.readouterr().out


def test_explore_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Symmetry makes states fewer, and the counts are the same on every run."""
    counts = []
    for words in (["--no-symmetry"], [], []):
        assert main(["explore", "v1", *SMALL, "--slice", "--format", "json", *words]) == 0
        counts.append(json.loads(capsys.readouterr().out)["states"])
    assert counts[0] > counts[1] == counts[2]


def test_graph_is_written(tmp_path: Path) -> None:
    """The reachable graph is written as GraphML and as DOT."""
    small = ["--tasks", "1", "--mms", "1", "--stacks", "1", "--slice"]
    for name in ("g.graphml", "g.dot"):
        assert main(["explore", "v1", *small, "--graph", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 100


def test_output_does_not_depend_on_the_hash_seed() -> None:
    """The same bytes for every PYTHONHASHSEED."""
    words = [sys.executable, "-m", "shstk.cli", "trace", "v1", "own-mm", *SMALL]
    outputs = {
        subprocess.run(
            words, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1
