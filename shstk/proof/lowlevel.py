"""z3's own functions, where its Python layer costs more than the solver.

That layer looks at the sort of each argument again and again.  Here are the few calls that
are made hundreds of thousands of times, on terms whose sorts are known to be right.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import z3

ANSWERS = {1: z3.sat, -1: z3.unsat, 0: z3.unknown}


def address(term: Any) -> int:
    """Where a term is: no other's place as long as somebody keeps it."""
    return int(term.ast.value)


def addresses(terms: Iterable[Any]) -> tuple[int, ...]:
    """What tells these terms from others, as long as somebody keeps them."""
    return tuple([t.ast.value for t in terms])


def same(one: Any, other: Any) -> bool:
    """``one.eq(other)``."""
    return bool(one.ast.value == other.ast.value)


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


_SIMPLE: dict[int, tuple[Any, Any]] = {}  # by address, with the term itself
MANY = 20_000  # as many are kept


def simplified(term: Any) -> Any:
    """``z3.simplify``; each run of a text makes the terms again that others have made."""
    at = address(term)
    known = _SIMPLE.get(at)
    if known is None:
        if len(_SIMPLE) >= MANY:
            _SIMPLE.clear()
        known = _SIMPLE[at] = term, z3.simplify(term)
    return known[1]


def value(term: Any) -> bool | None:
    """True or False if a term is that constant, as ``z3.is_true`` and ``z3.is_false`` say."""
    return _VALUES.get(z3.Z3_get_bool_value(term.ctx.ref(), term.as_ast()))


_VALUES = {1: True, -1: False}


def substitute(term: Any, variables: Any, objects: Sequence[Any]) -> Any:
    """``z3.substitute`` of a Boolean term; ``variables`` are pointers, ``objects`` terms."""
    values = pointers([o.as_ast() for o in objects])
    made = z3.Z3_substitute(term.ctx.ref(), term.as_ast(), len(objects), variables, values)
    return z3.BoolRef(made, term.ctx)


def after(terms: Sequence[Any], changes: Sequence[tuple[Any, Any]]) -> list[Any]:
    """``z3.substitute_funs`` of Boolean terms, None for one that stays as it is.

    In all at once: what they have in common is looked at once.
    """
    whole = z3.substitute_funs(conjunction(*terms), *changes)
    context = whole.ctx
    parts = [z3.Z3_get_app_arg(context.ref(), whole.as_ast(), n) for n in range(len(terms))]
    return [
        None if part.value == address(term) else z3.BoolRef(part, context)
        for part, term in zip(parts, terms, strict=True)
    ]


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


# -- terms by their address ------------------------------------------------------------
def _unchecked(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of z3 itself: its Python layer asks after each call whether it has failed.

    For those that cannot fail, on addresses of terms that somebody keeps.
    """
    (elementary,) = function.__defaults__
    where = ctypes.cast(elementary.f, ctypes.c_void_p).value
    assert where is not None
    return ctypes.PYFUNCTYPE(result, *arguments)(where)


_AT, _NUMBER = ctypes.c_void_p, ctypes.c_uint
_kind = _unchecked(z3.Z3_get_ast_kind, ctypes.c_int, _AT, _AT)
_size = _unchecked(z3.Z3_get_app_num_args, _NUMBER, _AT, _AT)
_part = _unchecked(z3.Z3_get_app_arg, _AT, _AT, _AT, _NUMBER)
_body = _unchecked(z3.Z3_get_quantifier_body, _AT, _AT, _AT)
_function = _unchecked(z3.Z3_get_app_decl, _AT, _AT, _AT)
_operator = _unchecked(z3.Z3_get_decl_kind, ctypes.c_int, _AT, _AT)
_sort = _unchecked(z3.Z3_get_sort, _AT, _AT, _AT)


class Nodes:
    """The terms that terms are made of, by address.

    Terms that were asked about are kept: an address means nothing when its term is gone.
    """

    def __init__(self, context: z3.Context) -> None:
        self._context = context
        self._at = context.ref().value
        self._terms: dict[int, Any] = {}
        self._parts: dict[int, tuple[int, ...]] = {}

    def at(self, term: Any) -> int:
        """A term's address, from now on for ever."""
        node = address(term)
        self._terms.setdefault(node, term)
        return node

    def term(self, node: int) -> Any:
        """The term at an address."""
        known = self._terms.get(node)
        if known is None:
            where = z3.Ast(node)
            where.value = node
            known = self._terms[node] = z3.z3._to_expr_ref(where, self._context)
        return known

    def parts(self, node: int) -> tuple[int, ...]:
        """The arguments of a function, or the body of a quantifier."""
        known = self._parts.get(node)
        if known is None:
            known = self._parts[node] = self._parts_of(node)
        return known

    def _parts_of(self, node: int) -> tuple[int, ...]:
        kind = _kind(self._at, node)
        if kind == z3.Z3_APP_AST:
            return tuple([_part(self._at, node, n) for n in range(_size(self._at, node))])
        return (_body(self._at, node),) if kind == z3.Z3_QUANTIFIER_AST else ()

    def below(self, whole: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """A term and all it is made of, each once, with its parts; from right to left."""
        seen: set[int] = set()
        stack = [whole]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                parts = self.parts(node)
                yield node, parts
                stack += parts

    def functions(self, whole: int) -> set[int]:
        """The functions that a term applies to something."""
        return {
            self.function(node)
            for node, parts in self.below(whole)
            if parts and not self.is_quantifier(node)
        }

    def is_variable(self, node: int) -> bool:
        """It is bound by a quantifier, or to be replaced by one of many values."""
        return bool(_kind(self._at, node) == z3.Z3_VAR_AST)

    def is_quantifier(self, node: int) -> bool:
        """It says "for all" or "there is"."""
        return bool(_kind(self._at, node) == z3.Z3_QUANTIFIER_AST)

    def function(self, node: int) -> int:
        """The function of an application."""
        return int(_function(self._at, node))

    def operator(self, node: int) -> int:
        """What kind of function that is, as z3 numbers them."""
        return int(_operator(self._at, _function(self._at, node)))

    def sort(self, node: int) -> int:
        """The address of a term's sort."""
        return int(_sort(self._at, node))
