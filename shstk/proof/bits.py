"""Terms over enumerations as bits, for a SAT solver."""

from __future__ import annotations

from typing import Any

import z3


class Bits:
    """Terms over enumerations as terms over bit vectors: a member is its place in its sort."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # keeps the terms whose ids are keys

    def of(self, term: Any) -> Any:
        """The same term, in bits."""
        todo = [term]
        while todo:
            top = todo[-1]
            missing = [c for c in top.children() if c.get_id() not in self._known]
            if missing and top.get_id() not in self._known:
                todo += missing
                continue
            todo.pop()
            if top.get_id() not in self._known:
                self._known[top.get_id()] = (top, self._rebuilt(top))
        return self._known[term.get_id()][1]

    def _rebuilt(self, term: Any) -> Any:
        parts = [self._known[c.get_id()][1] for c in term.children()]
        if not parts:
            return _leaf(term)
        if all(new.eq(old) for new, old in zip(parts, term.children(), strict=True)):
            return term
        kind = term.decl().kind()
        if kind == z3.Z3_OP_AND:
            return z3.And(*parts)
        if kind == z3.Z3_OP_OR:
            return z3.Or(*parts)
        if kind == z3.Z3_OP_ITE:
            return z3.If(*parts)
        if kind == z3.Z3_OP_EQ:
            return parts[0] == parts[1]
        if kind == z3.Z3_OP_DISTINCT:
            return z3.Distinct(*parts)
        assert not any(is_enumeration(c.sort()) for c in term.children()), term.decl()
        return term.decl()(*parts)


def is_enumeration(sort: Any) -> bool:
    """A sort of named members."""
    return isinstance(sort, z3.DatatypeSortRef)


def width(sort: Any) -> int:
    """How many bits a member of an enumeration takes."""
    return max(1, (int(sort.num_constructors()) - 1).bit_length())


def code(member: Any) -> int:
    """The place of a member in its sort."""
    sort, decl = member.sort(), member.decl()
    return next(n for n in range(sort.num_constructors()) if sort.constructor(n).eq(decl))


def _leaf(term: Any) -> Any:
    if not is_enumeration(term.sort()):
        return term
    if term.decl().kind() == z3.Z3_OP_DT_CONSTRUCTOR:
        return z3.BitVecVal(code(term), width(term.sort()))
    return z3.BitVec(term.decl().name(), width(term.sort()))


def number(model: Any, term: Any) -> int:
    """What a bit vector or a Boolean is in a model; 0 where the model does not say."""
    value = model.eval(term, model_completion=True)
    return int(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())
