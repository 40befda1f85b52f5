"""--expect and --record: a check that fails only where a verdict is not the known one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shstk.cli import main
from shstk.expectations import Expectations
from shstk.verdicts import HOLDS, NOT_APPLICABLE, PROVED, VIOLATED

SMALL = ["--tasks", "2", "--mms", "1", "--stacks", "1"]
CHECK = ["check", "v1", *SMALL, "--bounded", "--property", "not-in-use"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where expectations are."""
    return tmp_path / "expect.json"


def test_what_is_recorded_is_expected(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--record writes what --expect reads, of each environment; then nothing has changed."""
    words = [*CHECK, "--hostile", "--property", "inherited"]
    assert main([*words, "--record", str(file)]) == 1
    assert json.loads(file.read_text()) == {
        "v1": {"not-in-use": "violated", "inherited": "holds"},
        "v1 ordinary+hostile": {"not-in-use": "violated", "inherited": "holds"},
    }
    capsys.readouterr()
    assert main([*words, "--expect", str(file)]) == 0
    assert capsys.readouterr().err == ""


def test_each_difference_is_a_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another verdict, one that the file lacks, another environment: status 1."""
    file.write_text('{"v1": {"not-in-use": "holds"}}')
    assert main([*CHECK, "--property", "inherited", "--hostile", "--expect", str(file)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"shstk: v1 inherited: not in {file}, found holds",
        "shstk: v1 not-in-use: expected holds, found violated",
        f"shstk: v1 ordinary+hostile inherited: not in {file}, found holds",
        f"shstk: v1 ordinary+hostile not-in-use: not in {file}, found violated",
    ]


def test_what_was_not_asked_for_is_not_compared(file: Path) -> None:
    """Other properties than --property and other designs in the file do not matter."""
    file.write_text('{"v1": {"not-in-use": "violated", "own-mm": "proved"}, "v9": {"x": "holds"}}')
    assert main([*CHECK, "--expect", str(file)]) == 0


@pytest.mark.parametrize("form", ["text", "json", "junit", "tap", "sarif"])
def test_the_status_is_the_same_in_every_format(
    form: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A violation is 1, an expected one 0, and the output is all there is on stdout."""
    file.write_text('{"v1": {"not-in-use": "violated"}}')
    assert main([*CHECK, "--format", form]) == 1
    assert main([*CHECK, "--format", form, "--expect", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "not-in-use" in out and err == ""


def test_a_property_of_the_cpu_level_may_stand_for_all_its_protocols(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its id, or each conjunct and protocol by its name."""
    words = ["check", "v1", *SMALL, "--bounded", "--property", "vfork-return-faults"]
    name = "vfork-return-faults/near-ret-fault"
    file.write_text('{"v1": {"vfork-return-faults": "violated"}}')
    assert main([*words, "--expect", str(file)]) == 0
    exact = {f"{name} (glibc 2.36)": "holds", f"{name} (glibc 2019)": "violated"}
    file.write_text(json.dumps({"v1": exact}))
    assert main([*words, "--expect", str(file)]) == 0
    capsys.readouterr()
    file.write_text(json.dumps({"v1": exact | {f"{name} (glibc 2.36)": "violated"}}))
    assert main([*words, "--expect", str(file)]) == 1
    assert "(glibc 2.36): expected violated, found holds" in capsys.readouterr().err


def test_proved_and_holds_are_different_verdicts_but_where_nothing_is_proved() -> None:
    """Only a bounded run may find that what is expected to be proved holds; never the reverse."""
    exact, bounded = Expectations("F", {}), Expectations("F", {}, bounded=True)
    for found in (PROVED, HOLDS, NOT_APPLICABLE, VIOLATED):
        assert exact.met(PROVED, found) == (found == PROVED)
        assert bounded.met(PROVED, found) == (found != VIOLATED)
        assert bounded.met(HOLDS, found) == exact.met(HOLDS, found) == (found == HOLDS)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"v1": []}', '{"v1": {"own-mm": 1}}', '{"v1": {"own-mm": "hold"}}'],
)
def test_a_file_that_expects_nothing_is_refused(
    content: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that names the file, before anything is explored."""
    file.write_text(content)
    assert main([*CHECK, "--expect", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"shstk: --expect {file}: ") and err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_told_without_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with it, and what would be right."""
    broken, binary = tmp_path / "broken.json", tmp_path / "binary.json"
    broken.write_text('{\n"v1": x')
    binary.write_bytes(b"\xff\xfe")
    for file, said in (
        (tmp_path / "none.json", "cannot be read: No such file or directory; --record writes one"),
        (broken, "line 2: not JSON: Expecting value; expected {"),
        (binary, "no text that is JSON; expected {"),
    ):
        assert main([*CHECK, "--expect", str(file)]) == 2
        assert said in capsys.readouterr().err
