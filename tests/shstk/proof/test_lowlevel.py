"""Calls below z3's Python layer say what that layer says."""

from __future__ import annotations

from typing import Any

import z3
from hypothesis import given
from hypothesis import strategies as st

from shstk.proof import lowlevel

SORT = z3.DeclareSort("Thing")
F = z3.Function("low.f", SORT, SORT)
P = z3.Function("low.p", SORT, z3.BoolSort())
R = z3.Function("low.r", SORT, SORT, z3.BoolSort())
A, B = z3.Consts("low.a low.b", SORT)


def grown(plan: list[tuple[int, int, int]]) -> list[Any]:
    """Formulas, each made of earlier ones."""
    objects, out = [A, B, F(A)], [P(A), P(B)]
    for kind, i, j in plan:
        one, other = objects[i % len(objects)], objects[j % len(objects)]
        left, right = out[i % len(out)], out[j % len(out)]
        if kind == 0:
            objects.append(F(one))
        elif kind == 1:
            out.append(R(one, other))
        elif kind == 2:
            out.append(z3.And(left, z3.Not(right), left))
        else:
            x = z3.Const("low.x", SORT)
            out.append(z3.ForAll([x], z3.Or(R(x, one), right)))
    return out


formulas = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))).map(grown)


@given(formulas)
def test_what_terms_are_made_of(terms: list[Any]) -> None:
    """Each part once, with its own parts in order, and the functions."""
    nodes = lowlevel.Nodes(z3.main_ctx())
    for term in terms:
        found = dict(nodes.below(nodes.at(term)))
        stack, seen = [term], set[int]()
        while stack:
            part = stack.pop()
            seen.add(lowlevel.address(part))
            parts = part.children()
            assert found[lowlevel.address(part)] == lowlevel.addresses(parts)
            assert lowlevel.same(nodes.term(lowlevel.address(part)), part)
            assert nodes.sort(lowlevel.address(part)) == lowlevel.address(part.sort())
            stack += parts
        assert seen == set(found)
        assert (lowlevel.address(R) in nodes.functions(nodes.at(term))) == ("low.r" in term.sexpr())


@given(formulas, st.booleans())
def test_functions_are_replaced_in_all_terms_as_in_each(terms: list[Any], both: bool) -> None:
    """None for those that stay as they are."""
    changes = [(P, z3.Or(P(z3.Var(0, SORT)), z3.Var(0, SORT) == A))]
    changes += [(F, z3.If(z3.Var(0, SORT) == A, B, F(z3.Var(0, SORT))))] * both
    for term, new in zip(terms, lowlevel.after(terms, changes), strict=True):
        alone = z3.substitute_funs(term, *changes)
        assert alone.eq(term) if new is None else alone.eq(new) and not new.eq(term)


@given(formulas)
def test_what_was_simplified_once_is_that(terms: list[Any]) -> None:
    """Asked again, and as z3 has it but for the order of parts."""
    for term in terms:
        made = lowlevel.simplified(term)
        assert lowlevel.same(made, lowlevel.simplified(term))
        solver = z3.Solver()
        solver.add(made != term)
        assert solver.check() != z3.sat
