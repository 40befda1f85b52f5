"""Values of the concrete world: plain Python values under the operators the text uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.state import Record
from model.world import U64, Cond, Term

MASK64 = U64 - 1


class Undefined(Exception):
    """A decision about a field of nothing: the text followed NULL."""


NOTHING = object()  # what a field of NULL holds


@dataclass(frozen=True)
class Range:
    """A page range as the life cycle knows it: equal where it starts at the same address.

    ``start`` and ``size`` in bytes.  Ranges that overlap otherwise are the memory level's.
    """

    start: int
    size: int = field(compare=False)

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size

    def __str__(self) -> str:
        return f"{self.start:#x}"


class Truth(Cond):
    """A condition: known, or an exception for whoever asks."""

    __slots__ = ("_value",)

    def __init__(self, value: bool | Callable[[], bool]) -> None:
        self._value = value

    def __bool__(self) -> bool:
        value = self._value
        return value if value is True or value is False else value()

    def __and__(self, other: Cond | bool) -> Cond:
        left, right = self._value, other._value if isinstance(other, Truth) else other
        if callable(left) or callable(right):  # it has no value unless the other decides first
            return Truth(lambda: bool(self) and bool(other))
        return KNOWN[bool(left and right)]

    def __or__(self, other: Cond | bool) -> Cond:
        left, right = self._value, other._value if isinstance(other, Truth) else other
        if callable(left) or callable(right):
            return Truth(lambda: bool(self) or bool(other))
        return KNOWN[bool(left or right)]

    def __invert__(self) -> Cond:
        value = self._value
        return Truth(lambda: not self) if callable(value) else KNOWN[not value]


KNOWN = (Truth(False), Truth(True))


def _refuse() -> bool:
    raise Undefined("the text follows a reference that is NULL")


class Value(Term):
    """A value that is known."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        left, right = self.value, other.value if type(other) is Value else plain(other)
        if left is NOTHING or right is NOTHING:
            return Truth(_refuse)
        if isinstance(right, str) and not isinstance(left, str):
            raise TypeError(f"{left} is compared with {right!r}")
        return KNOWN[bool(left is right or left == right)]

    def __lt__(self, other: Term | int) -> Cond:
        return Truth(bool(self.value < plain(other)))

    def __le__(self, other: Term | int) -> Cond:
        return Truth(bool(self.value <= plain(other)))

    def __add__(self, other: Term | int) -> Term:
        return Value((self.value + plain(other)) & MASK64)

    def __and__(self, other: Term | int) -> Term:
        return Value(self.value & plain(other))

    def __floordiv__(self, other: int) -> Term:
        return Value(self.value // other)

    def __mod__(self, other: int) -> Term:
        return Value(self.value % other)

    def isin(self, values: Sequence[object]) -> Cond:
        if self.value is NOTHING:
            return Truth(_refuse)
        return KNOWN[self.value in values]

    def __repr__(self) -> str:
        return f"Value({self.value!r})"


def plain(value: object) -> Any:
    """The Python value behind a term, a record's index, or what is plain already."""
    if isinstance(value, Record):
        value = value.index[0]
    if isinstance(value, Value):
        return value.value
    if isinstance(value, Truth):
        return bool(value)
    return value
