"""``shstk prove`` on the command line."""

from __future__ import annotations

import json

import pytest

from model.designs import DESIGNS
from shstk.cli import main
from shstk.proof.judge import Judged, Judgement
from shstk.proof.proofs import prove
from shstk.proof.prove_command import _counterexamples
from shstk.verdicts import NOT_INDUCTIVE

SIZES = ["--search", "2", "--property", "size-explicit", "--where"]


def test_prove_says_what_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0 if all that was asked about is proved."""
    words = ["prove", "linux-6.12", "--property", "own-mm", "--property", "freed-at-most-once"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "PROVED         own-mm                     for any number of tasks" in out


def test_what_is_not_proved_is_explored(capsys: pytest.CaptureFixture[str]) -> None:
    """A violated property has the length of its shortest trace."""
    assert main(["prove", "v1", "--property", "own-mm", "--format", "json"]) == 1
    (verdict,) = json.loads(capsys.readouterr().out)["designs"][0]["verdicts"]
    assert (verdict["status"], verdict["steps"]) == ("violated", 3)


def test_check_reports_proofs(capsys: pytest.CaptureFixture[str]) -> None:
    """check says PROVED where it is; with --bounded it only explores."""
    words = ["check", "linux-6.12", "--property", "own-mm", "--format", "json"]
    words += ["--tasks", "2", "--mms", "1", "--stacks", "1"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["designs"][0]["verdicts"][0]["status"] == "proved"
    assert main([*words, "--bounded"]) == 0
    assert json.loads(capsys.readouterr().out)["designs"][0]["verdicts"][0]["status"] == "holds"


def test_a_size_is_found_that_no_sample_has(capsys: pytest.CaptureFixture[str]) -> None:
    """--search gives the smallest number that violates, and the machine executes it."""
    words = ["prove", "v1", "--search", "2", "--property", "size-explicit"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "stack_size 4294967297 bytes" in out
    assert "0x100001000 bytes" in out
    assert main([*words, "--where", "stack_size<4K"]) == 1
    assert "none within 2 steps" in capsys.readouterr().err


def test_a_counterexample_to_induction_is_no_violation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is not inductive is shown with a state that may be unreachable, and says so."""
    proof = prove(DESIGNS["linux-6.12"], solvers=("z3", "cvc5"))
    of = proof.of("not-in-use")
    assert of is not None
    judgement = Judgement(proof, [Judged("not-in-use", NOT_INDUCTIVE, of.claims)])
    _counterexamples(judgement, DESIGNS["linux-6.12"], frozenset())
    out = capsys.readouterr().out
    assert "a counterexample to induction, no violation" in out
    assert "confirmed  the text does this in the finite world" in out
    assert "VIOLATED" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--property", "nosuch"], "there is no property 'nosuch'"),
        (["--without", "kernel"], "cannot be switched off"),
        (["--certificates"], "say --smtlib DIR too"),
        (["--search", "3"], "say --property ID"),
        (["--search", "0", "--property", "own-mm"], "a run of 1 to"),
        (["--where", "stack_size=1"], "--where goes with --search"),
        (["--search", "2", "--property", "size-explicit", "--where", "bogus"], "no condition"),
        (["--search", "2", "--smtlib", "d"], "leave out --smtlib, or --search"),
        (["--search", "2", "--solver", "z3"], "leave out --solver, or --search"),
        (["--search", "2", "--explain"], "leave out --explain, or --search"),
        (["--search", "2", "--certificates"], "leave out --certificates, or --search"),
        ([*SIZES, "compat=7"], "--where compat=7: compat is a flag"),
        ([*SIZES, "compat<1"], "say compat=1 or compat=0"),
        ([*SIZES, "stack_size=1,nosuch=1"], "no step asks for 'nosuch': numbers and flags are"),
        ([*SIZES, "to=1"], "no step asks for 'to'"),
    ],
)
def test_a_wrong_question_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors say what was wrong, exit 2, and are no traceback."""
    assert main(["prove", "v1", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
