"""From a claim that a solver refutes to numbers, and from numbers to a run that shows it."""

from __future__ import annotations

from typing import Any

import z3

from model.designs.design import Design
from properties.memory import STATEMENTS, Statement
from shstk.proof.batch import Batch, Goal
from shstk.proof.cpu_moves import MOVES, Move
from shstk.proof.cpu_numbers import Numbers, NumberStep
from shstk.proof.cpu_theorems import Theorem
from shstk.proof.forking import Stop

RLIMIT = 50_000_000  # z3 resource units


def counterexample(batch: Batch, goal: Goal) -> dict[str, int] | None:
    """Numbers that refute a claim; None: z3 has found none.

    A register, operand or arbitrary word stands under its name, a flag as 0 or 1.  Contents are
    ``mem[i]``, the word at ``8 * i``, and pages ``kind[n]``, a ``Kind``; ``[else]``: all others.
    Names that begin with ``later_`` are of the instant when a signal handler returns.
    """
    solver = z3.Solver()
    solver.set("rlimit", RLIMIT)
    solver.from_string(batch.script(goal))
    if solver.check() != z3.sat:
        return None
    model = solver.model()
    numbers: dict[str, int] = {}
    for declaration in model.decls():
        name = declaration.name()
        if declaration.arity() == 0:
            numbers[name] = _number(model[declaration])
            continue
        found = model[declaration]
        for entry in found.as_list()[:-1]:
            numbers[f"{name}[{_number(entry[0]):#x}]"] = _number(entry[1])
        numbers[f"{name}[else]"] = _number(found.else_value())
    return numbers


def _number(value: Any) -> int:
    return int(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())


def confirm(
    theorem: Theorem, goal: Goal, numbers: Numbers, design: Design, move: Move | None = None
) -> bool:
    """The move, executed on numbers by the concrete CPU, is one that the theorem is wrong about."""
    run = move or MOVES[goal.name.partition(":")[0]]
    return refutes(STATEMENTS[theorem.name], run, numbers, design)


def refutes(statement: Statement, move: Move, numbers: Numbers, design: Design) -> bool:
    """The statement's premise is true of the move, and its claim is not."""
    try:
        step: Any = NumberStep(move, design, numbers)
    except Stop:
        return False
    return bool(statement.premise(step)) and not statement.claim(step)
