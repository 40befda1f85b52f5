"""Digests of formulas and paths: equal only where the same is said, in whatever process.

z3 orders the parts of a conjunction, or the sides of an equation, by what else there is: a
digest does not depend on that order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import z3

from shstk.proof.paths import Path
from shstk.proof.sorts import NAMES, Universe
from shstk.proof.terms import SymbolicCond, Tree

# Whose arguments have no order.
_UNORDERED = frozenset(
    {
        *(z3.Z3_OP_AND, z3.Z3_OP_OR, z3.Z3_OP_EQ, z3.Z3_OP_DISTINCT, z3.Z3_OP_ADD),
        *(z3.Z3_OP_BADD, z3.Z3_OP_BMUL, z3.Z3_OP_BAND, z3.Z3_OP_BOR, z3.Z3_OP_BXOR),
    }
)


class Fingerprints:
    """Digests of terms; those that terms share are made once."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._terms: dict[int, tuple[Any, str]] = {}  # by id, with the term, which keeps the id

    def path(self, path: Path, changes: Iterable[tuple[Any, Any]]) -> str:
        """Of all that is to be proved of a path; ``changes`` as ``Problems.changes`` has them."""
        world = path.world
        said = [
            *(self.condition(c) for c in world.path),
            *("granted " + self.condition(c) for c in world.granted),
            *(f"{function} {self.term(body)}" for function, body in changes),
            *(
                f"{e.name} {self.condition(e.holds)} {self.condition(e.premise)}"
                for e in path.events
            ),
            *(f"{what} exists {self.term(real)}" for what, real in path.needs),
        ]
        return _digest(path.step.name, *said)

    def condition(self, condition: SymbolicCond, depth: int = 0) -> str:
        """Of a condition as it was written, with the quantifiers it has."""
        c = condition
        if not isinstance(c, Tree):
            return self.term(c.term)
        if c.op != "exists":
            return _digest(c.op, *(self.condition(p, depth) for p in c.parts))
        assert c.body is not None
        bound = [
            z3.Const(f"bound.{n}.{NAMES[s]}", self._universe.sorts[s])
            for n, s in enumerate(c.sorts, depth)
        ]
        body = self.condition(c.body(*bound), depth + len(bound))
        return _digest("exists", *(NAMES[s] for s in c.sorts), body)

    def term(self, term: Any) -> str:
        """Of a term."""
        stack = [term]
        while stack:
            at = stack[-1]
            if at.get_id() in self._terms:
                stack.pop()
                continue
            parts = at.children()
            todo = [p for p in parts if p.get_id() not in self._terms]
            if todo:
                stack += todo
                continue
            said = [self._terms[p.get_id()][1] for p in parts]
            self._terms[at.get_id()] = at, _digest(_head(at), *_ordered(at, said))
            stack.pop()
        return self._terms[term.get_id()][1]


def _head(term: Any) -> str:
    """A term without its parts."""
    if z3.is_quantifier(term):
        sorts = [str(term.var_sort(n)) for n in range(term.num_vars())]
        return f"quantifier {term.is_forall()} {term.is_lambda()} {sorts}"
    if z3.is_var(term):
        return f"variable {z3.get_var_index(term)} {term.sort()}"
    if term.num_args() == 0:
        return f"{term.sexpr()} {term.sort()}"
    declared = term.decl()
    return f"{declared.kind()} {declared.name()} {declared.params()}"


def _ordered(term: Any, parts: list[str]) -> list[str]:
    if z3.is_app(term) and term.decl().kind() in _UNORDERED:
        return sorted(parts)
    return parts


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
