"""The solvers themselves: what one says to the goals of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from shstk.errors import UserError
from shstk.proof.batch import Batch, Goal
from shstk.proof.proof_cache import STATUSES, Verdict

QUICK = 10  # the part of a budget that a goal has in company, before it is asked by itself
SETTINGS = {
    # Instances of instances cost three times as much as z3 has it: premises of the form
    # "for all, there is" otherwise feed each other for ever.
    "z3": {"smt.qi.cost": "(+ weight (* 3 generation))", "smt.random_seed": "0"},
    "cvc5": {"seed": "0", "sat-random-seed": "0", "verbosity": "0"},
}
# cvc5 gives up (not: runs out) quickly where no trigger matches; then it is to enumerate.
CVC5_ATTEMPTS: tuple[dict[str, str], ...] = ({}, {"full-saturate-quant": "true"})
NO_CVC5 = (
    "--solver cvc5: cvc5 is not installed; `pip install cvc5==1.4.2` in the project's "
    "environment (the extra [cvc5] of pyproject.toml)"
)


class ScriptError(Exception):
    """A solver does not understand a script, or died of it: a fault of the script's maker."""


def installed(solver: str) -> None:
    """Load the solver before there are workers, so that they all have it."""
    try:
        __import__(solver)
    except ImportError:
        raise UserError(NO_CVC5 if solver == "cvc5" else "z3-solver is not installed") from None


# -- z3 --------------------------------------------------------------------------
def z3_answers(batch: Batch, goals: list[Goal], rlimit: int) -> Iterator[list[Verdict]]:
    """All goals at once; then each in company of the others; by itself unless that was unsat."""
    import z3

    for name, value in SETTINGS["z3"].items():
        z3.set_param(name, value)
    start = time.monotonic()
    if len(goals) > 1:
        # Without the tactics that a first question would go through: it is not that hard.
        together = z3.SimpleSolver(ctx=z3.Context())
        together.from_string(_together(batch, goals))
        status, used, reason = _z3_check(together, rlimit)
        if status == "unsat":
            yield _each(goals, used, time.monotonic() - start)
            return
    negated = "".join(f"(assert {g.negated})\n" for g in goals)
    context = z3.Context()
    premises = z3.Solver(ctx=context)
    premises.from_string(batch.prelude)
    terms = z3.parse_smt2_string(batch.prelude + negated, ctx=context)
    shared = len(terms) - len(premises.assertions()) == len(goals)
    for number, goal in enumerate(goals):
        start = time.monotonic()
        used = 0
        if shared:
            premises.push()
            premises.add(terms[len(terms) - len(goals) + number])
            status, used, reason = _z3_check(premises, max(1, rlimit // QUICK))
            premises.pop()
        if not shared or status != "unsat":
            alone = z3.Solver(ctx=z3.Context())
            alone.from_string(batch.script(goal))
            status, more, reason = _z3_check(alone, rlimit)
            used += more
        yield [Verdict(status, used, reason, time.monotonic() - start)]


def _together(batch: Batch, goals: list[Goal]) -> str:
    """A script that is unsat only if every goal's own script is: one of them is negated."""
    negated = " ".join(g.negated for g in goals)
    return f"{batch.prelude}(assert (or {negated}))\n(check-sat)\n"


def _each(goals: list[Goal], used: int, seconds: float) -> list[Verdict]:
    """That all goals were proved at once, told of each."""
    return [Verdict("unsat", used // len(goals), "", seconds / len(goals)) for _ in goals]


def _z3_check(solver: Any, rlimit: int) -> tuple[str, int, str]:
    solver.set("ctrl_c", False)
    solver.set("rlimit", rlimit)
    before = _z3_units(solver)
    status = str(solver.check())
    used = _z3_units(solver) - before
    reason = str(solver.reason_unknown()) if status == "unknown" else ""
    if "canceled" in reason or "resource limit" in reason:
        reason = f"{reason} (budget of {rlimit} resource units)"
    return status, used, reason


def _z3_units(solver: Any) -> int:
    statistics = solver.statistics()
    return sum(int(value) for name, value in statistics if name == "rlimit count")


# -- cvc5 ------------------------------------------------------------------------
def cvc5_answers(batch: Batch, goals: list[Goal], rlimit: int) -> Iterator[list[Verdict]]:
    """All goals at once; each by itself unless that was unsat."""
    start = time.monotonic()
    if len(goals) > 1:
        options = SETTINGS["cvc5"] | {"rlimit-per": str(rlimit)}
        solver, answer = cvc5_run(_together(batch, goals), options)
        if answer == "unsat":
            yield _each(goals, _cvc5_units(solver), time.monotonic() - start)
            return
    for goal in goals:
        start = time.monotonic()
        used = 0
        for attempt in CVC5_ATTEMPTS:
            options = SETTINGS["cvc5"] | attempt | {"rlimit-per": str(rlimit)}
            solver, answer = cvc5_run(batch.script(goal), options)
            status, _, reason = answer.partition(" ")
            used += _cvc5_units(solver)
            if status != "unknown" or "INCOMPLETE" not in reason:
                break
        yield [Verdict(status, used, reason.strip("()"), time.monotonic() - start)]


def cvc5_run(script: str, options: dict[str, str]) -> tuple[Any, str]:
    """Execute a script with one check; the solver, and its answer as cvc5 words it."""
    solver = cvc5_new(options)
    solver.setLogic("ALL")
    said = [line for line in cvc5_commands(solver, script) if line]
    if len(said) != 1 or said[0].split()[0] not in STATUSES:
        raise ScriptError(f"cvc5 answers {said!r}")
    return solver, said[0]


def cvc5_new(options: dict[str, str]) -> Any:
    """A solver with these options."""
    import cvc5

    solver = cvc5.Solver(cvc5.TermManager())
    for name, value in options.items():
        solver.setOption(name, value)
    return solver


def cvc5_commands(solver: Any, script: str) -> Iterator[str]:
    """What cvc5 says to each command of a script."""
    import cvc5

    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "script")
    symbols = parser.getSymbolManager()
    command = parser.nextCommand()
    while not command.isNull():
        # It takes the status a file hopes for as an order, and calls another answer an error.
        if command.getCommandName() != "set-info":
            said = command.invoke(solver, symbols)
            yield (said.decode() if isinstance(said, bytes) else str(said)).strip()
        command = parser.nextCommand()


def _cvc5_units(solver: Any) -> int:
    units = solver.getStatistics().get(True, True)["resource::resourceUnitsUsed"]
    return int(units["value"])


Answers = Callable[[Batch, list[Goal], int], Iterator[list[Verdict]]]
#: What each solver says to the goals of a batch, some at a time, within a budget for each goal.
SOLVERS: dict[str, Answers] = {"z3": z3_answers, "cvc5": cvc5_answers}
