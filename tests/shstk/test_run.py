"""``shstk run``: what it prints, and its exit status."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from counterexamples.render import WIDTH
from shstk import run
from shstk.errors import UserError

SCENARIOS = Path(__file__).resolve().parents[2] / "counterexamples" / "scenarios"
KILLED = SCENARIOS / "vfork-parent-killed.scn"


def execute(*words: str | Path) -> int:
    """The command with these arguments."""
    parser = argparse.ArgumentParser()
    run.add_parser(parser.add_subparsers())
    return run.run(parser.parse_args(["run", *map(str, words)]))


def scenario(tmp_path: Path, text: str) -> Path:
    """A scenario file."""
    path = tmp_path / "case.scn"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_scenario_is_told_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Each design has a heading, its steps as written, a picture, and what was expected."""
    assert execute(KILLED) == 0
    out = capsys.readouterr().out
    for wanted in (
        "design    v1: the patch as posted in January 2022",
        "design    linux-6.12: the merged design as of 6.12",
        "  1  A = P arch_prctl ENABLE SHSTK => ok",
        "       +  A  0x7ffff7600000-0x7ffff7e00000  8 MiB shadow stack (arch_prctl) of P, in mm0",
        "  7  C call => #PF 0x46, dies",
        "       C  is gone: SIGSEGV (#PF error 0x46 at 0x7ffff7dfffe8)",
        "no address space is left",
        "ok        7 of 7 outcomes of lines are as expected",
        "ok        C dies of SIGSEGV (#PF error 0x46)",
    ):
        assert wanted in out, wanted
    assert "NOT MET" not in out


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.scn")), ids=lambda path: path.stem)
def test_worked_scenarios_fit_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every worked scenario ends with status 0, in lines of 100 columns at most."""
    assert execute(path) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert [line for line in captured.out.splitlines() if len(line) > WIDTH] == []


def test_what_is_not_met_is_said_with_expected_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expectation that is not met is status 1, and a line on stderr for each."""
    path = scenario(tmp_path, "design: v1\nexpect: P is alive\nP arch_prctl ENABLE\nP ret => ok\n")
    assert execute(path) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"shstk: {path}:4: v1: expected ok, found #PF 0x44, dies",
        f"shstk: {path}:2: v1: expected P is alive, found P dies of "
        "SIGSEGV (#PF error 0x44 at 0x7ffff7fff000)",
    ]
    assert "       ! expected ok, found #PF 0x44, dies" in captured.out
    assert "NOT MET   0 of 1 outcomes of lines are as expected" in captured.out
    assert "NOT MET   P is alive; found: P dies of SIGSEGV" in captured.out


def test_json_is_an_object_per_step_and_one_for_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """JSON has the steps of all designs, and what was expected and found at the end."""
    assert execute(KILLED, "--format", "json") == 0
    *steps, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6, 7] * 2
    first, last = steps[0], steps[-1]
    assert (first["design"], first["task"], first["operation"]) == ("v1", "P", "arch_prctl")
    assert first["arguments"] == {"option": "ENABLE", "feature": "SHSTK"}
    assert first["tasks"]["P"]["features"] == ["SHSTK"]
    (area,) = first["mms"]["0"]
    assert (area["name"], area["owner"], area["shadow_stack"]) == ("A", "P", True)
    assert [effect["effect"] for effect in last["effects"]] == ["faulted", "died"]
    assert last["effects"][0]["error_code"] == 0x46
    assert end["met"] is True
    assert {e["design"] for e in end["expectations"]} == {"v1", "linux-6.12"}


def test_json_says_what_is_not_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not met is in the last object, and stdout is nothing but JSON."""
    path = scenario(tmp_path, "design: v1\nP call => EPERM\npicture\n")
    assert execute(path, "--format", "json") == 1
    *_, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert end["met"] is False
    assert end["expectations"] == [
        {"design": "v1", "line": 2, "step": 1, "expected": "EPERM", "found": "ok", "met": False}
    ]


def test_another_design(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--design`` takes a name or a file, and expectations for one design are for that alone."""
    path = SCENARIOS / "io-uring-worker.scn"
    assert execute(path, "--design", "linux-6.12") == 0
    assert "design    v1" not in capsys.readouterr().out
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from model.designs.v1 import V1\n\n\nclass Mine(V1):\n    name = 'mine'\n",
        encoding="utf-8",
    )
    assert execute(KILLED, "--design", mine) == 0
    assert "design    mine: the design in mine.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("P call\n", ":1: there is no design; write `design: NAME …`"),
        ("design: v1\nP exit\nP call\n", ":3: P is gone (exit(0)); alive are: none"),
        ("design: v1\nP frobnicate\n", ":2: there is no operation 'frobnicate'"),
    ],
)
def test_a_wrong_file_is_a_user_error(tmp_path: Path, text: str, words: str) -> None:
    """What is wrong with a file is one line with its place."""
    path = scenario(tmp_path, text)
    with pytest.raises(UserError) as error:
        execute(path)
    assert str(error.value).startswith(f"{path}{words}") and "\n" not in str(error.value)


def test_a_file_or_a_design_that_is_not_there() -> None:
    """Missing files and designs are user errors."""
    with pytest.raises(UserError, match="none.scn: cannot be read: No such file"):
        execute("none.scn")
    with pytest.raises(UserError, match="unknown design 'v9'"):
        execute(KILLED, "--design", "v9")
