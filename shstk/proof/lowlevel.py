"""z3's own functions, where its Python layer costs more than the solver.

That layer looks at the sort of each argument again and again.  Here are the few calls that
are made hundreds of thousands of times, on terms whose sorts are known to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def boolean(name: str) -> Any:
    """``z3.Bool``."""
    context = z3.main_ctx()
    symbol = z3.Z3_mk_string_symbol(context.ref(), name)
    sort = z3.Z3_mk_bool_sort(context.ref())
    return z3.BoolRef(z3.Z3_mk_const(context.ref(), symbol, sort), context)


def negation(term: Any) -> Any:
    """``z3.Not`` of a Boolean term."""
    return z3.BoolRef(z3.Z3_mk_not(term.ctx.ref(), term.as_ast()), term.ctx)


def conjunction(*terms: Any) -> Any:
    """``z3.And`` of Boolean terms, of which there is one at least."""
    context = terms[0].ctx
    array = pointers([t.as_ast() for t in terms])
    return z3.BoolRef(z3.Z3_mk_and(context.ref(), len(terms), array), context)


def disjunction(*terms: Any) -> Any:
    """``z3.Or`` of Boolean terms, of which there is one at least."""
    context = terms[0].ctx
    array = pointers([t.as_ast() for t in terms])
    return z3.BoolRef(z3.Z3_mk_or(context.ref(), len(terms), array), context)


def equal(one: Any, other: Any) -> Any:
    """``==`` of terms of a sort."""
    return z3.BoolRef(z3.Z3_mk_eq(one.ctx.ref(), one.as_ast(), other.as_ast()), one.ctx)


def distinct(one: Any, other: Any) -> Any:
    """``!=`` of terms of a sort."""
    array = pointers([one.as_ast(), other.as_ast()])
    return z3.BoolRef(z3.Z3_mk_distinct(one.ctx.ref(), 2, array), one.ctx)


def choice(condition: Any, one: Any, other: Any) -> Any:
    """``z3.If`` of terms of a sort, none of them a quantifier."""
    context = condition.ctx
    made = z3.Z3_mk_ite(context.ref(), condition.as_ast(), one.as_ast(), other.as_ast())
    return _PLAIN.get(type(one), type(one))(made, context)


# A constant's class has methods that a term of the same sort has not.
_PLAIN = {z3.BitVecNumRef: z3.BitVecRef, z3.IntNumRef: z3.ArithRef, z3.QuantifierRef: z3.BoolRef}


def applied(function: Any) -> Callable[..., Any]:
    """A function of some sorts, to be called with terms of these."""
    context, kind = function.ctx, type(function(*map(_any, _domain(function))))

    def call(*at: Any) -> Any:
        array = pointers([t.as_ast() for t in at])
        # The function itself: who has its pointer alone does not keep it.
        return kind(z3.Z3_mk_app(context.ref(), function.ast, len(at), array), context)

    return call


def _domain(function: Any) -> list[Any]:
    return [function.domain(n) for n in range(function.arity())]


def _any(sort: Any) -> Any:
    return z3.Const("any", sort)


def value(term: Any) -> bool | None:
    """True or False if a term is that constant, as ``z3.is_true`` and ``z3.is_false`` say."""
    return _VALUES.get(z3.Z3_get_bool_value(term.ctx.ref(), term.as_ast()))


_VALUES = {1: True, -1: False}


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
