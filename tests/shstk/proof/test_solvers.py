"""Asking solvers: answers, budgets, errors, contradictions among premises, Ctrl-C."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import z3
from proof_samples import all_samples, pages, steps

from shstk.errors import UserError
from shstk.proof import solvers
from shstk.proof.batch import Batch, Goal, batch
from shstk.proof.engines import SOLVERS, ScriptError
from shstk.proof.solvers import premises_consistent, solve, vacuous

BOTH = pytest.mark.parametrize("solver", ["z3", "cvc5"])
CONTRADICTION = Batch(
    "contradiction",
    "(declare-sort T 0)\n(declare-fun f (T) Bool)\n(declare-fun a () T)\n"
    "(assert (forall ((t T)) (f t)))\n(assert (not (f a)))\n",
    (Goal("anything", "(not (= a a))"),),
)
FACTORS = (
    "(declare-fun x () (_ BitVec 64))\n(declare-fun y () (_ BitVec 64))\n"
    "(assert (= (bvmul x y) #x7fffdeadbeef1235))\n(assert (bvult #x0000000000000001 x))\n"
    "(assert (bvult #x0000000000000001 y))\n(assert (= (bvurem (bvmul x x) "
    "#x0000000000001001) #x0000000000000007))\n(assert (= (bvurem (bvmul y y) "
    "#x0000000000001003) #x0000000000000017))\n"
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@BOTH
def test_samples_are_proved(solver: str) -> None:
    """Steps keep their invariant, and PAGE_ALIGN does what it should: 30 goals, in order."""
    batches = all_samples()
    results, interrupted = solve(batches, solver)
    assert not interrupted
    assert [(r.batch, r.goal) for r in results] == [
        (b.name, g.name) for b in batches for g in b.goals
    ]
    assert {(r.goal, r.status) for r in results if r.status != "unsat"} == set()
    assert all(r.rlimit_used > 0 and not r.cached and r.solver == solver for r in results)


@BOTH
def test_a_wrong_claim_is_not_proved(solver: str) -> None:
    """PAGE_ALIGN of x is not always above x: sat, next to a goal that is proved."""
    x = z3.Const("x", z3.BitVecSort(64))
    up = (x + 4095) & z3.BitVecVal((1 << 64) - 4096, 64)
    claims = {"above": z3.UGT(up, x), "page": z3.URem(up, 4096) == 0, "nowrap": z3.UGE(up, x)}
    results, _ = solve([batch("b", [], claims)], solver)
    assert [r.status for r in results] == ["sat", "unsat", "sat"]


@BOTH
def test_a_step_without_a_premise_is_not_proved(solver: str) -> None:
    """Without the invariant that a task owns its stack, exit_mm frees another's: not unsat."""
    whole = steps()[0]
    premises = whole.prelude.splitlines(keepends=True)
    owned = [n for n, p in enumerate(premises) if "(mapping.owner (task.mm" in p]
    less = "".join(p for n, p in enumerate(premises) if n not in owned)
    goal = next(g for g in whole.goals if g.name == "base-is-owned")
    results, _ = solve([Batch("less", less, (goal,))], solver, rlimit=300_000)
    assert len(owned) == 1 and [r.status for r in results] != ["unsat"]


@BOTH
def test_a_budget_that_runs_out_is_unknown_with_a_reason(solver: str) -> None:
    """Not proved, not refuted, and it says so; the same units again give the same answer."""
    hard = Batch("hard", FACTORS, (Goal("factors", "true"),))
    first, _ = solve([hard], solver, rlimit=20_000, cache=False)
    again, _ = solve([hard], solver, rlimit=20_000, cache=False)
    assert first[0].status == "unknown" and first[0].reason
    assert (first[0].rlimit_used, first[0].reason) == (again[0].rlimit_used, again[0].reason)


@BOTH
def test_same_text_same_answer(solver: str) -> None:
    """Units and answers do not depend on what else is asked at the same time, or before."""
    alone, _ = solve([pages()], solver, cache=False)
    among, _ = solve([*steps(), pages()], solver, cache=False)
    said = [(r.goal, r.status, r.rlimit_used) for r in alone]
    assert said == [(r.goal, r.status, r.rlimit_used) for r in among if r.batch == pages().name]


@BOTH
@pytest.mark.parametrize(
    "negated", ["(not (p q))", "(not p", "(and p 3)", "(not p))", "p) (assert false"]
)
def test_a_text_that_is_rejected_is_an_error(solver: str, negated: str) -> None:
    """It names batch and goal, and is never an answer."""
    broken = Batch("my batch", "(declare-fun p () Bool)\n", (Goal("my goal", negated),))
    with pytest.raises(ScriptError, match="my batch: my goal"):
        solve([pages(), broken], solver)


@BOTH
def test_a_prelude_that_is_rejected_is_an_error(solver: str) -> None:
    """A command that no solver knows is an error, not a comment."""
    for prelude in ("(declare-fun p () Bol)\n", "(asert false)\n", "(check-sat)(assert false)\n"):
        with pytest.raises(ScriptError, match="my batch"):
            solve([Batch("my batch", prelude, (Goal("g", "true"),))], solver)


def test_a_text_that_only_z3_understands_is_an_error_of_cvc5() -> None:
    """z3's own division is rejected by cvc5, loudly."""
    prelude = "(declare-fun x () (_ BitVec 64))\n"
    own = Batch("own", prelude, (Goal("g", "(distinct (bvudiv_i x #x0000000000000003) x x)"),))
    assert solve([own], "z3")[0][0].status == "unsat"
    with pytest.raises(ScriptError, match="own: g: cvc5.*bvudiv_i"):
        solve([own], "cvc5")


@BOTH
def test_what_z3_prints_both_understand(solver: str) -> None:
    """Divisions that z3 has simplified, conjunctions of one part and of none, odd names."""
    x, y = z3.Consts("x y", z3.BitVecSort(64))
    p = z3.Bool("a (name")
    claims = {
        "div": z3.simplify(z3.UDiv(x, 3)) == z3.UDiv(x, 3),
        "rem": z3.simplify(z3.URem(x, 3)) == z3.URem(x, 3),
        "signed": z3.simplify(x / 7) == x / 7,
        "one": z3.And(z3.Or(z3.And(p), z3.Not(p))),
        "none": z3.Implies(z3.Or(), z3.And(p, y == 3)),
        "and": z3.Implies(p, z3.And(p, z3.And())),
    }
    results, _ = solve([batch("printed", [z3.And(), z3.And(p)], claims)], solver)
    assert {r.goal for r in results if r.status != "unsat"} == set()


def test_fresh_names_do_not_change_a_text() -> None:
    """The same terms made again have the same text, whatever was made in between."""
    first = all_samples()
    z3.FreshConst(z3.IntSort())
    assert all_samples() == first


def test_different_fresh_names_stay_different() -> None:
    """Two constants of the same stem are not made one: their difference is satisfiable."""
    a, b = z3.FreshInt("n"), z3.FreshInt("n")
    late = z3.FreshInt("n")
    made = batch("fresh", [b > 0], {"equal": a == b, "late": z3.Or(late == a, late == b)})
    assert [r.status for r in solve([made])[0]] == ["sat", "sat"]


@BOTH
def test_contradictory_premises_are_found(solver: str) -> None:
    """The batch proves everything, and its premises alone are unsat."""
    assert solve([CONTRADICTION], solver)[0][0].status == "unsat"
    assert premises_consistent(CONTRADICTION, solver).status == "unsat"


@BOTH
def test_consistent_premises_are_not_called_contradictory(solver: str) -> None:
    """The samples' premises are sat or unknown, never unsat."""
    results, _ = vacuous(all_samples(), solver)
    assert [r.goal for r in results] == [solvers.PREMISES] * 3
    assert "unsat" not in {r.status for r in results} and results[-1].status == "sat"


@BOTH
def test_a_second_time_nothing_is_asked(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers come from the cache, and are the same; another budget is asked anew."""
    first, _ = solve([pages()], solver)
    monkeypatch.setattr(solvers, "_ask", None)
    again, _ = solve([pages()], solver)
    assert all(r.cached for r in again)
    assert [(r.goal, r.status, r.rlimit_used) for r in again] == [
        (r.goal, r.status, r.rlimit_used) for r in first
    ]
    with pytest.raises(TypeError):
        solve([pages()], solver, rlimit=77)


def test_a_corrupted_cache_proves_nothing(tmp_path: Path) -> None:
    """A sat that somebody made unsat in the cache's files is asked again, and is sat."""
    wrong = Batch("wrong", "(declare-fun p () Bool)\n", (Goal("p", "(not p)"),))
    assert solve([wrong])[0][0].status == "sat"
    (path,) = tmp_path.rglob("*.answers")
    path.write_bytes(path.read_bytes().replace(b'"sat"', b'"unsat"'))
    (again,) = solve([wrong])[0]
    assert again.status == "sat" and not again.cached


def test_a_solver_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is made up for a process that is gone."""
    monkeypatch.setitem(SOLVERS, "z3", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ScriptError, match=r"sample/pages/1: multiple: z3 died \(status -9\)"):
        solve([pages()])


def test_without_cvc5_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """cvc5 is optional."""

    def missing(name: str, *rest: Any) -> Any:
        if name == "cvc5":
            raise ImportError(name)
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="pip install cvc5==1.4.2"):
        solve([pages()], "cvc5")


def test_other_solvers_and_budgets_are_refused() -> None:
    """A user's mistake, in one line."""
    with pytest.raises(UserError, match="--solver yices"):
        solve([pages()], "yices")
    with pytest.raises(UserError, match="at least 1"):
        solve([pages()], "z3", rlimit=0)


def test_nothing_asked_nothing_answered() -> None:
    """No batches, no goals."""
    assert solve([]) == ([], False)
    assert solve([Batch("empty", "", ())]) == ([], False)


SCRIPT = """
import sys
from proof_samples import pages
from shstk.proof.batch import Batch, Goal
from shstk.proof.solvers import solve
from test_solvers import FACTORS
hard = Batch("hard", FACTORS, (Goal("a", "true"), Goal("b", "true")))
print("begun", flush=True)
results, interrupted = solve([pages(), hard], sys.argv[1], rlimit=2_000_000_000)
print([r.status for r in results], interrupted)
"""


@BOTH
def test_ctrl_c_keeps_what_was_found(solver: str) -> None:
    """It ends at once, though a solver is deep in a question, and gives what it has."""
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, solver],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{here}:{here.parent.parent.parent}"},
    )
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    time.sleep(3)
    os.killpg(child.pid, signal.SIGINT)
    start = time.monotonic()
    out, err = child.communicate(timeout=60)
    assert (out.strip(), err) == (f"{['unsat'] * 8} True", "")
    assert time.monotonic() - start < 3
