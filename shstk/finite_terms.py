"""Values of the finite world: a function of one source each, decided only where it matters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from model.state import Record
from model.world import Cond, Term

if TYPE_CHECKING:
    from shstk.finite import Run

MASK64 = (1 << 64) - 1


class Source:
    """Where a value comes from: a state cell, or an input by its place in the run.

    Interned by ``cell_source`` and ``input_source``, so that the same source is the same
    object in every run; extraction compares and hashes little else.  ``family``: of an input
    that says whether that event family is granted.
    """

    __slots__ = ("kind", "number", "labels", "family")

    def __init__(
        self, kind: str, number: int, labels: tuple[object, ...], family: str = ""
    ) -> None:
        self.kind = kind  # "cell" or "input"
        self.number = number
        self.labels = labels
        self.family = family


@functools.cache
def cell_source(number: int) -> Source:
    """The source of a state cell."""
    return Source("cell", number, ())


_INPUTS: dict[tuple[int, tuple[object, ...], tuple[type, ...], str], Source] = {}


def input_source(number: int, labels: tuple[object, ...], family: str = "") -> Source:
    """The source of a run's ``number``-th input, with its possible values."""
    # True and 1 are equal, and so are tuples of them; their types tell them apart.
    key = (number, labels, tuple(map(type, labels)), family)
    known = _INPUTS.get(key)
    if known is None:
        known = _INPUTS[key] = Source("input", number, labels, family)
    return known


Values = tuple[Source | None, tuple[Any, ...]]
Decision = tuple[Source, int, bool]  # source, mask of domain indices, outcome


class FiniteCond(Cond):
    """A condition; evaluated, and so decided, only when asked for.

    ``any_of``: it is the disjunction of these; ``none_of``: the negation of that.
    """

    __slots__ = ("run", "_evaluate", "any_of", "none_of")

    def __init__(
        self,
        run: Run,
        evaluate: Callable[[], bool],
        any_of: Sequence[Cond] = (),
        none_of: Sequence[Cond] = (),
    ) -> None:
        self.run = run
        self._evaluate = evaluate
        self.any_of = any_of
        self.none_of = none_of

    def evaluate(self) -> bool:
        """What it is; decides what it depends on."""
        return self._evaluate()

    def __bool__(self) -> bool:
        return self.evaluate()

    def __and__(self, other: Cond | bool) -> Cond:
        return _And(self, other)

    def __or__(self, other: Cond | bool) -> Cond:
        return _Or(self, other)

    def __invert__(self) -> Cond:
        return _Not(self)


# Most conditions are made to be asked once: these are objects instead of towers of closures.
class _And(FiniteCond):
    __slots__ = ("left", "right")
    any_of = none_of = ()

    def __init__(self, left: FiniteCond, right: Cond | bool) -> None:
        self.left = left
        self.right = right

    def evaluate(self) -> bool:
        if not self.left.evaluate():
            return False
        right = self.right
        return right.evaluate() if isinstance(right, FiniteCond) else bool(right)


class _Or(FiniteCond):
    __slots__ = ("left", "right")
    any_of = none_of = ()

    def __init__(self, left: FiniteCond, right: Cond | bool) -> None:
        self.left = left
        self.right = right

    def evaluate(self) -> bool:
        if self.left.evaluate():
            return True
        right = self.right
        return right.evaluate() if isinstance(right, FiniteCond) else bool(right)


class _Not(FiniteCond):
    __slots__ = ("left",)
    any_of = ()

    def __init__(self, left: FiniteCond) -> None:
        self.left = left

    @property
    def none_of(self) -> Sequence[Cond]:  # type: ignore[override]
        return self.left.any_of

    def evaluate(self) -> bool:
        return not self.left.evaluate()


class _Is(FiniteCond):
    """A term is a constant."""

    __slots__ = ("left", "right")
    any_of = none_of = ()

    def __init__(self, left: FiniteTerm, right: object) -> None:
        self.left = left
        self.right = right

    def evaluate(self) -> bool:
        return self.left.equals(self.right)


class _Same(FiniteCond):
    """Two terms are equal."""

    __slots__ = ("left", "right")
    any_of = none_of = ()

    def __init__(self, left: FiniteTerm, right: FiniteTerm) -> None:
        self.left = left
        self.right = right

    def evaluate(self) -> bool:
        left, right = self.left, self.right
        source, values = here = left._known or left.resolve()
        there = right._known or right.resolve()
        # A variable equals itself, whatever it holds: nothing to decide.
        if here == there:
            return True
        if source is None:
            return right.is_value(values[0])
        if there[0] is None:
            return left.is_value(there[1][0])
        return left.is_value(right.force())


class FiniteTerm(Term):
    """A value as a function of one source, which may have to be found out first."""

    __slots__ = ("run", "_known", "_find", "number")

    def __init__(self, run: Run, known: Values | Callable[[], Values]) -> None:
        self.run = run
        # The object it certainly refers to, if it does: asked for at every access.
        self.number: int | None = None
        self._known: Values | None = None
        if isinstance(known, tuple):
            self._known = known
            if known[0] is None and type(known[1][0]) is int:
                self.number = known[1][0]
        else:
            self._find = known

    def resolve(self) -> Values:
        """The source (None: a constant) and the value for each member of its domain."""
        if self._known is not None:
            return self._known
        known = self._find()
        if not self.run.asking:  # an answer's decisions are not the run's
            self._known = known
        return known

    @property
    def constant(self) -> bool:
        """Known, without any decision, to be one value."""
        return self._known is not None and self._known[0] is None

    @property
    def samples(self) -> tuple[Any, ...]:
        """All that it can be, as far as that is known without any decision."""
        return self._known[1] if self._known is not None else ()

    def is_in(self, accepted: Callable[[Any], bool]) -> bool:
        """Decide whether the value is accepted."""
        source, values = self._known or self.resolve()
        if source is None:
            return accepted(values[0])
        mask = 0
        for i, value in enumerate(values):
            if accepted(value):
                mask |= 1 << i
        return self.run.decide(source, mask)

    def equals(self, value: object) -> bool:
        """Decide whether it is this value, which is of the kind that it can be."""
        if isinstance(value, str):
            values = self.resolve()[1]
            if not isinstance(values[0], str):
                shown = ", ".join(map(str, values))
                raise TypeError(f"a variable is compared with {value!r}; its values are {shown}")
        return self.is_value(value)

    def is_value(self, value: object) -> bool:
        """Decide whether it is this value."""
        source, values = self._known or self.resolve()
        if source is None:
            return bool(values[0] is value or values[0] == value)
        run = self.run
        space = run.space
        if source.kind != "cell" or values is not space.domains[source.number]:
            mask = 0
            for i, v in enumerate(values):
                if v is value or v == value:
                    mask |= 1 << i
            return run.decide(source, mask)
        # Domains live as long as the space, and values as long as they are kept here: their
        # identities are safe keys.
        key = (id(values), id(value))
        kept = space.masks.get(key)
        if kept is None:
            mask = sum(1 << i for i, v in enumerate(values) if v is value or v == value)
            kept = space.masks[key] = mask, value
        return run.decide(source, kept[0])

    def force(self) -> Any:
        """The value itself, deciding between all that are possible."""
        source, values = self._known or self.resolve()
        if source is None:
            return values[0]
        allowed = self.run.allowed(source)
        if not allowed & (allowed - 1):
            return values[allowed.bit_length() - 1]
        for i, value in enumerate(values):
            if allowed >> i & 1 and self.is_value(value):
                return value
        raise AssertionError("a source without values")

    def _map(self, function: Callable[[Any], Any]) -> FiniteTerm:
        def resolve() -> Values:
            source, values = self.resolve()
            return source, tuple([function(v) for v in values])

        return FiniteTerm(self.run, resolve if self._known is None else resolve())

    def _compare(self, other: object, relation: Callable[[Any, Any], bool]) -> FiniteCond:
        if not isinstance(other, FiniteTerm):
            return FiniteCond(self.run, lambda: self.is_in(lambda v: relation(v, other)))
        right = other

        def evaluate() -> bool:
            if self.resolve()[0] is None:
                left = self.force()
                return right.is_in(lambda v: relation(left, v))
            value = right.force()
            return self.is_in(lambda v: relation(v, value))

        return FiniteCond(self.run, evaluate)

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        if isinstance(other, Record):
            other = other.index[0]
        return _Same(self, other) if isinstance(other, FiniteTerm) else _Is(self, other)

    def __lt__(self, other: Term | int) -> Cond:
        return self._compare(other, lambda a, b: a < b)

    def __le__(self, other: Term | int) -> Cond:
        return self._compare(other, lambda a, b: a <= b)

    def _arith(self, other: Term | int, function: Callable[[int, int], int]) -> FiniteTerm:
        right: int = other.force() if isinstance(other, FiniteTerm) else cast(int, other)
        return self._map(lambda v: function(v, right) & MASK64)

    def __add__(self, other: Term | int) -> Term:
        return self._arith(other, lambda a, b: a + b)

    def __and__(self, other: Term | int) -> Term:
        return self._arith(other, lambda a, b: a & b)

    def __floordiv__(self, other: int) -> Term:
        return self._arith(other, lambda a, b: a // b)

    def __mod__(self, other: int) -> Term:
        return self._arith(other, lambda a, b: a % b)

    def isin(self, values: Sequence[object]) -> Cond:
        return FiniteCond(self.run, lambda: self.is_in(values.__contains__))
