"""z3's own functions, where its Python layer costs more than the solver.

That layer looks at the sort of each argument again and again.  Here are the few calls that
are made hundreds of thousands of times, on terms whose sorts are known to be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import z3

ANSWERS = {1: z3.sat, -1: z3.unsat, 0: z3.unknown}


def pointers(terms: Sequence[Any]) -> Any:
    """An array of terms, as z3's functions take it; the terms must outlive it."""
    return (z3.Ast * len(terms))(*terms)


def implies(condition: Any, conclusion: Any) -> Any:
    """``z3.Implies`` of two Booleans."""
    made = z3.Z3_mk_implies(condition.ctx.ref(), condition.as_ast(), conclusion.as_ast())
    return z3.BoolRef(made, condition.ctx)


def substitute(term: Any, variables: Any, objects: Sequence[Any]) -> Any:
    """``z3.substitute`` of a Boolean term; ``variables`` are pointers, ``objects`` terms."""
    values = pointers([o.as_ast() for o in objects])
    made = z3.Z3_substitute(term.ctx.ref(), term.as_ast(), len(objects), variables, values)
    return z3.BoolRef(made, term.ctx)


def check(solver: z3.Solver, assumptions: Sequence[Any]) -> z3.CheckSatResult:
    """``solver.check`` under assumptions, which are given as ``as_ast()`` of Boolean constants."""
    array = pointers(assumptions)
    answer = z3.Z3_solver_check_assumptions(
        solver.ctx.ref(), solver.solver, len(assumptions), array
    )
    return ANSWERS[answer]


def core_ids(solver: z3.Solver) -> list[int]:
    """The ids of the assumptions in the last unsatisfiable core."""
    context = solver.ctx.ref()
    vector = z3.Z3_solver_get_unsat_core(context, solver.solver)
    z3.Z3_ast_vector_inc_ref(context, vector)
    try:
        size = z3.Z3_ast_vector_size(context, vector)
        every = (z3.Z3_ast_vector_get(context, vector, n) for n in range(size))
        return [z3.Z3_get_ast_id(context, ast) for ast in every]
    finally:
        z3.Z3_ast_vector_dec_ref(context, vector)
