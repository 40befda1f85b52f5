"""Digests of formulas and paths: equal only where the same is said, in whatever process.

z3 orders the parts of a conjunction, or the sides of an equation, by what else there is: a
digest does not depend on that order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import z3

from shstk.proof import lowlevel
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
        self._nodes = lowlevel.Nodes(universe.left.ctx)
        self._terms: dict[int, str] = {}  # by address
        self._heads: dict[int, tuple[str, bool]] = {}  # of functions: without the arguments

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
        known, nodes = self._terms, self._nodes
        whole = nodes.at(term)
        stack = [whole]
        while stack:
            at = stack[-1]
            if at in known:
                stack.pop()
                continue
            parts = nodes.parts(at)
            todo = [p for p in parts if p not in known]
            if todo:
                stack += todo
                continue
            head, ordered = self._head(at)
            said = [known[p] for p in parts]
            known[at] = _digest(head, *(said if ordered else sorted(said)))
            stack.pop()
        return known[whole]

    def _head(self, node: int) -> tuple[str, bool]:
        """A term without its parts, and whether their order says anything."""
        if not self._nodes.parts(node) or self._nodes.is_quantifier(node):
            return _alone(self._nodes.term(node)), True
        function = self._nodes.function(node)
        known = self._heads.get(function)
        if known is None:
            declared = self._nodes.term(node).decl()
            kind = declared.kind()
            head = f"{kind} {declared.name()} {declared.params()}"
            known = self._heads[function] = head, kind not in _UNORDERED
        return known


def _alone(term: Any) -> str:
    """A quantifier without its body, or a variable or constant."""
    if z3.is_quantifier(term):
        sorts = [str(term.var_sort(n)) for n in range(term.num_vars())]
        return f"quantifier {term.is_forall()} {term.is_lambda()} {sorts}"
    if z3.is_var(term):
        return f"variable {z3.get_var_index(term)} {term.sort()}"
    return f"{term.sexpr()} {term.sort()}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
