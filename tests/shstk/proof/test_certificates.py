"""Certificates: there is one for what cvc5 proves, and it speaks of the script's assertions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from proof_samples import pages, steps

from shstk.errors import UserError
from shstk.proof.batch import Batch, Goal
from shstk.proof.certificates import certificate, write_certificates

SMALL = Batch(
    "small",
    "(declare-sort Task 0)\n(declare-fun lives (Task) Bool)\n(declare-fun a () Task)\n"
    "(assert (forall ((t Task)) (lives t)))\n(assert (= a a))\n",
    (Goal("lives", "(not (lives a))"),),
)


def test_a_proof_ends_in_false_and_assumes_what_is_asserted() -> None:
    """Its assumptions are assertions of the script: all that it needs, and no other."""
    proof = certificate(SMALL.script(SMALL.goals[0]))
    assert proof is not None
    assumed = re.findall(r"^\(assume @\w+ (.*)\)$", proof, re.MULTILINE)
    defined = dict(re.findall(r"^\(define (@t\d+) \(\) (.*)\)$", proof, re.MULTILINE))
    for _ in defined:
        assumed = [re.sub(r"@t\d+", lambda m: defined[m[0]], a) for a in assumed]
    variable = '(@var "t" Task)'
    assert set(assumed) <= {
        f"(forall (@list {variable}) (lives {variable}))",
        "(= a a)",
        "(not (lives a))",
    }
    assert "(not (lives a))" in assumed
    last = proof.strip().splitlines()[-1]
    assert re.match(r"\(step @\w+ false :rule ", last)


def test_a_certificate_is_the_same_every_time() -> None:
    """Byte for byte."""
    script = steps()[0].script(steps()[0].goals[4])
    assert certificate(script) == certificate(script) is not None


def test_what_is_not_unsat_has_no_certificate() -> None:
    """A goal with a model; a budget that is too small."""
    assert certificate("(declare-fun p () Bool)\n(assert p)\n(check-sat)\n") is None
    assert certificate(pages().script(pages().goals[1]), rlimit=10) is None


def test_every_step_of_the_samples_has_a_certificate(tmp_path: Path) -> None:
    """The goals with quantifiers, each next to its script; no step is merely trusted."""
    written = write_certificates(steps(), tmp_path)
    assert len(written) == 22 and all(w.path for w in written)
    for w in written:
        assert w.path is not None
        content = w.path.read_text()
        script = w.path.with_suffix(".smt2")
        assert f'(reference "{script.name}")' in content and ":rule trust" not in content
        assertions = script.read_text().count("(assert ")
        assert 1 <= content.count("(assume ") <= assertions


def test_a_limit_writes_so_many(tmp_path: Path) -> None:
    """The first ones; what has no certificate is listed without a file."""
    sat = Batch("sat", "(declare-fun p () Bool)\n", (Goal("p", "p"),))
    written = write_certificates([sat, SMALL, pages()], tmp_path, limit=2)
    assert [(w.batch, w.path is None) for w in written] == [("sat", True), ("small", False)]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".cpc", ".smt2"]


def test_where_nothing_can_be_written_is_a_users_error(tmp_path: Path) -> None:
    """One line, with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: not a directory"):
        write_certificates([SMALL], tmp_path / "file")
