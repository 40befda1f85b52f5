"""Values of the symbolic worlds: conditions, 64-bit words and other terms, over z3.

All arithmetic is unsigned and on 64 bits, and wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import z3

from model.world import Cond, Term
from shstk.proof import lowlevel

BITS = 64
Decide = Callable[..., bool]  # of a term, and of the Tree it is written as, if it is one


class SymbolicCond(Cond):
    """A condition; ``if`` on it is a decision of the run it belongs to."""

    __slots__ = ("term", "decide")

    def __init__(self, term: z3.BoolRef, decide: Decide) -> None:
        self.term = term
        self.decide = decide

    def __bool__(self) -> bool:
        return self.decide(self.term)

    def __and__(self, other: Cond | bool) -> Cond:
        if isinstance(other, Tree):
            return Tree("and", (self, other), self.decide)
        return SymbolicCond(lowlevel.conjunction(self.term, as_bool(other)), self.decide)

    def __or__(self, other: Cond | bool) -> Cond:
        if isinstance(other, Tree):
            return Tree("or", (self, other), self.decide)
        return SymbolicCond(lowlevel.disjunction(self.term, as_bool(other)), self.decide)

    def __invert__(self) -> Cond:
        return SymbolicCond(lowlevel.negation(self.term), self.decide)


def as_bool(value: Cond | bool) -> z3.BoolRef:
    """A condition, or a Python bool, as a z3 term."""
    if isinstance(value, SymbolicCond):
        return value.term
    if isinstance(value, bool):
        return z3.BoolVal(value)
    raise TypeError(f"{value!r} is no condition")


class Word(Term):
    """A 64-bit word."""

    __slots__ = ("term", "decide")

    def __init__(self, term: z3.BitVecRef, decide: Decide) -> None:
        self.term = term
        self.decide = decide

    def _make(self, term: z3.BitVecRef) -> Word:
        return Word(lowlevel.simplified(term), self.decide)

    def _cond(self, term: z3.BoolRef) -> Cond:
        return SymbolicCond(lowlevel.simplified(term), self.decide)

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        return self._cond(lowlevel.equal(self.term, as_word(other)))

    def __ne__(self, other: object) -> Cond:  # type: ignore[override]
        return self._cond(lowlevel.distinct(self.term, as_word(other)))

    __hash__ = None

    def __lt__(self, other: Term | int) -> Cond:
        return self._cond(z3.ULT(self.term, as_word(other)))

    def __le__(self, other: Term | int) -> Cond:
        return self._cond(z3.ULE(self.term, as_word(other)))

    def __add__(self, other: Term | int) -> Word:
        return self._make(self.term + as_word(other))

    __radd__ = __add__

    def __sub__(self, other: Term | int) -> Word:
        return self._make(self.term - as_word(other))

    def __rsub__(self, other: int) -> Word:
        return self._make(as_word(other) - self.term)

    def __and__(self, other: Term | int) -> Word:
        return self._make(self.term & as_word(other))

    __rand__ = __and__

    def __or__(self, other: Term | int) -> Word:
        return self._make(self.term | as_word(other))

    __ror__ = __or__

    def __xor__(self, other: Term | int) -> Word:
        return self._make(self.term ^ as_word(other))

    __rxor__ = __xor__

    def __lshift__(self, other: Term | int) -> Word:
        return self._make(self.term << as_word(other))

    def __rshift__(self, other: Term | int) -> Word:
        return self._make(z3.LShR(self.term, as_word(other)))

    def __floordiv__(self, other: int) -> Word:
        return self._make(z3.UDiv(self.term, as_word(other)))

    def __mod__(self, other: int) -> Word:
        return self._make(z3.URem(self.term, as_word(other)))

    def isin(self, values: Sequence[object]) -> Cond:
        return self._cond(z3.Or(*(self.term == as_word(v) for v in values)))


def as_word(value: object) -> z3.BitVecRef:
    """A word, or a Python int modulo 2^64, as a z3 term."""
    if isinstance(value, Word):
        return value.term
    if isinstance(value, int) and not isinstance(value, bool):
        return cast(z3.BitVecRef, z3.BitVecVal(value & ((1 << BITS) - 1), BITS))
    raise TypeError(f"{value!r} is no 64-bit word")


class Value(Term):
    """A term of another sort: a flag, a member of an enumeration, a reference.

    ``encode`` makes a z3 term of a constant it is compared with.
    """

    __slots__ = ("term", "decide", "encode")

    def __init__(self, term: Any, decide: Decide, encode: Callable[[object], Any]) -> None:
        self.term = term
        self.decide = decide
        self.encode = encode

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        # A record on the other side compares by what it refers to.
        index = getattr(other, "index", None)
        if index is not None and not callable(index):
            other = index[0]
        right = other.term if isinstance(other, Value) else self.encode(other)
        return SymbolicCond(lowlevel.simplified(lowlevel.equal(self.term, right)), self.decide)

    def __ne__(self, other: object) -> Cond:  # type: ignore[override]
        return ~(self == other)

    __hash__ = None

    def isin(self, values: Sequence[object]) -> Cond:
        equal = [lowlevel.equal(self.term, self.encode(v)) for v in values]
        some = lowlevel.disjunction(*equal) if equal else z3.BoolVal(False)
        return SymbolicCond(lowlevel.simplified(some), self.decide)


class Tree(SymbolicCond):
    """A condition with a quantifier in it, kept as it was written.

    ``op`` is ``and``, ``or``, ``not`` or ``exists``; an ``exists`` has sorts and a
    body, which makes a condition of terms.  What asks for ``term`` gets a z3 quantifier.
    """

    __slots__ = ("op", "parts", "sorts", "body")

    def __init__(
        self,
        op: str,
        parts: Sequence[SymbolicCond],
        decide: Decide,
        sorts: Sequence[Any] = (),
        body: Callable[..., SymbolicCond] | None = None,
        term: Callable[[], z3.BoolRef] | None = None,
    ) -> None:
        self.op = op
        self.parts = parts
        self.sorts = sorts
        self.body = body
        super().__init__(term() if term else _combined(op, parts), decide)

    def __bool__(self) -> bool:
        return self.decide(self.term, self)

    def __and__(self, other: Cond | bool) -> Cond:
        return Tree("and", (self, _cond(other, self.decide)), self.decide)

    def __or__(self, other: Cond | bool) -> Cond:
        return Tree("or", (self, _cond(other, self.decide)), self.decide)

    def __invert__(self) -> Cond:
        return Tree("not", (self,), self.decide)


def _combined(op: str, parts: Sequence[SymbolicCond]) -> z3.BoolRef:
    terms = [p.term for p in parts]
    return z3.Not(terms[0]) if op == "not" else z3.And(*terms) if op == "and" else z3.Or(*terms)


def _cond(value: Cond | bool, decide: Decide) -> SymbolicCond:
    return value if isinstance(value, SymbolicCond) else SymbolicCond(as_bool(value), decide)
