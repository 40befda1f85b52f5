"""The instruction campaign from the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from instruction_guest import BOCHS, guest

from shstk.conform.boots import Place
from shstk.conform.instructions import command
from shstk.conform.instructions.cases import read_cases
from shstk.conform.instructions.command import add_arguments
from shstk.conform.instructions.generate import generate
from shstk.conform.instructions.table import INSTRUCTIONS
from shstk.errors import UserError

SEED = 7


def run(monkeypatch: pytest.MonkeyPatch, *words: str, texts: object = BOCHS) -> int:
    """The exit status of the command, on a guest without a kernel."""
    monkeypatch.setattr(command, "place", lambda on, kernel, say: Place(None, on, say))
    monkeypatch.setattr(command, "boot_of", lambda where: guest(texts))  # type: ignore[arg-type]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return command.command(parser.parse_args(words))


def test_a_campaign_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each instruction did, what Bochs does otherwise, and the sum."""
    assert run(monkeypatch, "--cases", "150", "--seed", str(SEED)) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out if "succeed" in line][:3] == [*INSTRUCTIONS][:3]
    assert any("far RET and IRET read" in line for line in out)
    assert out[-1].startswith("150 cases, ") and out[-1].endswith("0 unexplained divergences")


def test_what_bochs_does_otherwise_is_no_excuse_on_a_real_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --on host every deviation is a divergence, shrunk and printed with both sides."""
    arguments = ("--cases", "60", "--seed", str(SEED), "--on", "host")
    assert run(monkeypatch, *arguments) == 1
    out = capsys.readouterr().out
    assert "DIVERGES" in out and "predicted" in out and "otherwise, as predicted" not in out
    shrunk = out.split("SHRUNK")[1].split("\n", 1)[1].split("predicted")[0]
    (case,) = read_cases("\n".join(line.strip() for line in shrunk.splitlines()[:-1]))
    assert case.steps


def test_a_campaign_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object with the counts and the shrunk cases."""
    assert run(monkeypatch, "--cases", "50", "--format", "json", "--on", "host") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["cases"] == 50 and told["unexplained"] >= len(told["divergences"]) > 0
    assert sum(times for _, _, times in told["outcomes"]) == told["instructions"]


def test_cases_from_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without --cases only those of the files are run."""
    file = tmp_path / "some.cases"
    file.write_text("# kept\n" + "".join(case.text() for case in generate(SEED, 5)))
    assert run(monkeypatch, str(file), str(file), texts=INSTRUCTIONS) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("10 cases, ")


def test_errors_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong number, a file that is not there, one that is none."""
    with pytest.raises(UserError, match="--cases -1"):
        run(monkeypatch, "--cases", "-1")
    with pytest.raises(UserError, match="nowhere: No such file"):
        run(monkeypatch, "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text"):
        run(monkeypatch, str(tmp_path / "binary"))
    (tmp_path / "wrong").write_text("case 1 wrss 0\n")
    with pytest.raises(UserError, match="wrong: line 1"):
        run(monkeypatch, str(tmp_path / "wrong"))
