"""Obligations as files: what is written is what solvers read."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof_samples import all_samples, pages

from shstk.errors import UserError
from shstk.proof.batch import Batch, Goal
from shstk.proof.engines import ScriptError
from shstk.proof.smtlib import Checked, check_file, export, file_name, text, wrapped

BOTH = pytest.mark.parametrize("solver", ["z3", "cvc5"])
WRONG = Batch("wrong", "(declare-fun p () Bool)\n", (Goal("p", "(not p)"), Goal("q", "false")))


@BOTH
def test_files_are_accepted_as_they_are(tmp_path: Path, solver: str) -> None:
    """Every goal of every sample gets the answer its file says."""
    *files, _ = export(all_samples(), tmp_path)
    answers = [c for f in files for c in check_file(f, solver)]
    assert answers == [Checked("unsat", "unsat")] * 30


@BOTH
def test_a_wrong_status_is_noticed(tmp_path: Path, solver: str) -> None:
    """A file that hopes for unsat where there is a model."""
    (file, _) = export([WRONG], tmp_path)
    assert check_file(file, solver) == [Checked("unsat", "sat"), Checked("unsat", "unsat")]


@BOTH
def test_expected_answers_are_the_files_status(tmp_path: Path, solver: str) -> None:
    """A goal that is known to be sat says so in its file and in the index."""
    (file, index) = export([WRONG], tmp_path, {("wrong", "p"): "sat"})
    assert check_file(file, solver) == [Checked("sat", "sat"), Checked("unsat", "unsat")]
    assert index.read_text().splitlines() == [
        "file\tbatch\tgoal\texpected",
        "wrong.smt2\twrong\tp\tsat",
        "wrong.smt2\twrong\tq\tunsat",
    ]


def test_a_file_that_only_z3_understands_is_an_error(tmp_path: Path) -> None:
    """cvc5's complaint is not skipped."""
    prelude = "(declare-fun x () (_ BitVec 64))\n"
    own = Batch("own", prelude, (Goal("g", "(distinct (bvudiv_i x #x0000000000000003) x x)"),))
    (file, _) = export([own], tmp_path)
    assert check_file(file, "z3") == [Checked("unsat", "unsat")]
    with pytest.raises(ScriptError, match="bvudiv_i"):
        check_file(file, "cvc5")


@BOTH
def test_a_file_with_a_line_missing_is_an_error(tmp_path: Path, solver: str) -> None:
    """As many answers as statuses, or it is no check."""
    (file, _) = export([WRONG], tmp_path)
    file.write_text(file.read_text().replace("(check-sat)\n", "", 1))
    with pytest.raises(ScriptError, match="1 answers, not 2"):
        check_file(file, solver)


def test_names_are_safe_and_do_not_clash() -> None:
    """No separators, no case to rely on, no dots in front, and not too long."""
    names = ["a/b", "a.b", "A/b", "a b", "a-b", "../../x", "", "é", "x" * 300, "x" * 301, "a\tb"]
    files = [file_name(n) for n in names]
    assert len({f.casefold() for f in files}) == len(names)
    assert all(f.isascii() and "/" not in f and f[0].isalnum() and len(f) < 120 for f in files)
    assert file_name("a/b") == "a.b.smt2"


def test_the_same_batches_make_the_same_files(tmp_path: Path) -> None:
    """Byte for byte."""
    one, two = (export(all_samples(), tmp_path / name) for name in ("one", "two"))
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in two]


def test_the_header_says_what_it_is() -> None:
    """Name, words, and how to ask each solver; no line of a name or of words leaves the comment."""
    batch = Batch("x\n(assert false)", "", (Goal("g\n(exit)", "true"),), "design v1\nstep exit_mm")
    lines = text(batch).splitlines()
    assert lines[:3] == ["; x (assert false)", "; design v1", "; step exit_mm"]
    assert "; g (exit)" in lines and "(assert false)" not in lines and lines.count("(exit)") == 1


def test_layout_changes_nothing_but_space() -> None:
    """Wrapped lines are short, and have the same words in the same order."""
    prelude = all_samples()[0].prelude
    lines = list(wrapped(prelude))
    assert " ".join("\n".join(lines).split()) == " ".join(prelude.split())
    assert max(map(len, lines)) < 140
    odd = '(assert (= |a  (b| "two  spaces"))'
    assert list(wrapped(odd)) == [odd]


def test_where_nothing_can_be_written_is_a_users_error(tmp_path: Path) -> None:
    """One line, with the path."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file.*: not a directory"):
            export([pages()], path)


def test_a_full_disk_is_a_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says, in one line."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=f"{tmp_path}: No space left on device"):
        export([pages()], tmp_path)


def test_two_batches_of_one_name_are_refused(tmp_path: Path) -> None:
    """One of them would be lost."""
    with pytest.raises(ValueError, match="same name"):
        export([pages(), pages()], tmp_path)
