"""Values of the finite world: a function of one source each, decided only where it matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from model.state import Field, Record
from model.world import Cond, Term

if TYPE_CHECKING:
    from shstk.finite import Run
    from shstk.situations import Situations

Left = TypeVar("Left", bound="FiniteCond | FiniteTerm")
Right = TypeVar("Right")
MASK64 = (1 << 64) - 1


class Source:
    """Where a value comes from: a state cell, or an input by its place in the run.

    The same source is the same object in every run over a space (``Space.sources``,
    ``input_source``): extraction compares and hashes little else.  ``labels`` are its values;
    ``family``: of an input that says whether that event family is granted.
    """

    __slots__ = ("kind", "number", "labels", "family", "full", "masks")

    def __init__(
        self, kind: str, number: int, labels: tuple[object, ...], family: str = ""
    ) -> None:
        self.kind = kind  # "cell" or "input"
        self.number = number
        self.labels = labels
        self.family = family
        self.full = (1 << len(labels)) - 1
        # Where each value is that it was compared with, by identity; kept, so that it stays one.
        self.masks: dict[int, tuple[int, object]] = {}


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

    def key(self, met: Situations) -> object:
        """Equal to another one's if they say the same of the same values."""
        return id(self)

    def __bool__(self) -> bool:
        run = self.run
        if run.script:
            told: bool = run.script.pop()
            return told
        answer = self.evaluate()
        run.tape.append(answer)
        return answer

    def __and__(self, other: Cond | bool) -> Cond:
        return _And(self, other)

    def __or__(self, other: Cond | bool) -> Cond:
        return _Or(self, other)

    def __invert__(self) -> Cond:
        return _Not(self)


class AnyOf(FiniteCond):
    """Some condition is true."""

    __slots__ = ()

    def __init__(self, run: Run, conditions: Sequence[Cond]) -> None:
        self.run = run
        self.any_of = conditions
        self.none_of = ()

    def evaluate(self) -> bool:
        for each in self.any_of:
            if each.evaluate() if isinstance(each, FiniteCond) else each:
                return True
        return False

    def key(self, met: Situations) -> object:
        return AnyOf, *[_key(each, met) for each in self.any_of]


# Most conditions are made to be asked once: these are objects instead of towers of closures.
class _Pair(FiniteCond, Generic[Left, Right]):
    """A condition on two things, of the run that the left one is of."""

    __slots__ = ("left", "right")
    any_of = none_of = ()

    def __init__(self, left: Left, right: Right) -> None:
        self.left = left
        self.right = right

    @property
    def run(self) -> Run:  # type: ignore[override]
        return self.left.run

    def key(self, met: Situations) -> object:
        return type(self), self.left.key(met), _key(self.right, met)


class _And(_Pair[FiniteCond, "Cond | bool"]):
    __slots__ = ()

    def evaluate(self) -> bool:
        if not self.left.evaluate():
            return False
        right = self.right
        return right.evaluate() if isinstance(right, FiniteCond) else bool(right)


class _Or(_Pair[FiniteCond, "Cond | bool"]):
    __slots__ = ()

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

    @property
    def run(self) -> Run:  # type: ignore[override]
        return self.left.run

    def key(self, met: Situations) -> object:
        return _Not, self.left.key(met)

    def evaluate(self) -> bool:
        return not self.left.evaluate()


class _Is(_Pair["FiniteTerm", object]):
    """A term is a constant."""

    __slots__ = ()

    def evaluate(self) -> bool:
        return self.left.equals(self.right)


class _Same(_Pair["FiniteTerm", "FiniteTerm"]):
    """Two terms are equal."""

    __slots__ = ()

    def evaluate(self) -> bool:
        left, right = self.left, self.right
        number = left.number
        if number is not None and right.number is not None:
            return number == right.number
        source, values = here = left.known or left.resolve()
        there = right.known or right.resolve()
        # A variable equals itself, whatever it holds: nothing to decide.
        if here == there:
            return True
        if source is None:
            return right.is_value(values[0])
        if there[0] is None:
            return left.is_value(there[1][0])
        return left.is_value(right.force())


class _In(_Pair["FiniteTerm", "tuple[object, ...]"]):
    """A term is one of several constants."""

    __slots__ = ()

    def evaluate(self) -> bool:
        return self.left.is_in(self.right.__contains__)


def _key(value: object, met: Situations) -> object:
    return value.key(met) if isinstance(value, (FiniteCond, FiniteTerm)) else value


class FiniteTerm(Term):
    """A value as a function of one source, which may have to be found out first."""

    __slots__ = ("run", "known", "_find", "number")

    def __init__(self, run: Run, known: Values | Callable[[], Values]) -> None:
        self.run = run
        # The object it certainly refers to, if it does: asked for at every access.
        self.number: int | None = None
        self.known: Values | None = None
        if isinstance(known, tuple):
            self.known = known
            if known[0] is None and type(known[1][0]) is int:
                self.number = known[1][0]
        else:
            self._find = known

    def key(self, met: Situations) -> object:
        """Equal to another one's if they are the same value."""
        if self.number is not None:
            return self.number
        if self.known is None:
            return self._find.key(met) if isinstance(self._find, Later) else id(self)
        source, values = self.known
        return source if source is not None and values is source.labels else self.known

    def resolve(self) -> Values:
        """The source (None: a constant) and the value for each member of its domain."""
        if self.known is not None:
            return self.known
        known = self._find()
        self.known = known
        self.run.found.append((self, known))
        return known

    @property
    def constant(self) -> bool:
        """Known, without any decision, to be one value."""
        return self.known is not None and self.known[0] is None

    @property
    def samples(self) -> tuple[Any, ...]:
        """All that it can be, as far as that is known without any decision."""
        return self.known[1] if self.known is not None else ()

    def is_in(self, accepted: Callable[[Any], bool]) -> bool:
        """Decide whether the value is accepted."""
        source, values = self.known or self.resolve()
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
        source, values = self.known or self.resolve()
        if source is None:
            return bool(values[0] is value or values[0] == value)
        if values is not source.labels:
            return self.run.decide(source, _where(values, value))
        kept = source.masks.get(id(value))
        if kept is None:
            kept = source.masks[id(value)] = _where(values, value), value
        return self.run.decide(source, kept[0])

    def force(self) -> Any:
        """The value itself, deciding between all that are possible."""
        source, values = self.known or self.resolve()
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

        return FiniteTerm(self.run, resolve if self.known is None else resolve())

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
        if type(other) is FiniteTerm:
            return _Same(self, other)
        if isinstance(other, Record):
            index: Any = other.index[0]
            return _Same(self, index)
        return _Is(self, other)

    def __lt__(self, other: Term | int) -> Cond:
        return self._compare(other, lambda a, b: a < b)

    def __le__(self, other: Term | int) -> Cond:
        return self._compare(other, lambda a, b: a <= b)

    def _arith(self, other: Term | int, function: Callable[[int, int], int]) -> FiniteTerm:
        run = self.run
        if run.script:
            told: FiniteTerm = run.script.pop()
            return told
        right: int = other.force() if isinstance(other, FiniteTerm) else cast(int, other)
        result = self._map(lambda v: function(v, right) & MASK64)
        run.tape.append(result)
        return result

    def __add__(self, other: Term | int) -> Term:
        return self._arith(other, lambda a, b: a + b)

    def __and__(self, other: Term | int) -> Term:
        return self._arith(other, lambda a, b: a & b)

    def __floordiv__(self, other: int) -> Term:
        return self._arith(other, lambda a, b: a // b)

    def __mod__(self, other: int) -> Term:
        return self._arith(other, lambda a, b: a % b)

    def isin(self, values: Sequence[object]) -> Cond:
        return _In(self, tuple(values))


def _where(values: Sequence[object], value: object) -> int:
    """The places at which a value is, as a mask."""
    mask = 0
    for i, v in enumerate(values):
        if v is value or v == value:
            mask |= 1 << i
    return mask


class Later:
    """What a variable held in ``overlay``, of an object that is not known yet: finds it out."""

    __slots__ = ("run", "record", "field", "overlay")

    def __init__(
        self, run: Run, record: Record, field: Field[Any], overlay: dict[int, FiniteTerm]
    ) -> None:
        self.run = run
        self.record = record
        self.field = field
        self.overlay = overlay

    def key(self, met: Situations) -> object:
        """Equal to another one's if it is the same variable, and the same was written before."""
        index: Any = self.record.index
        return self.field, met.written(self.overlay), *[term.key(met) for term in index]

    def __call__(self) -> Values:
        return self.run.held(self.record, self.field, self.overlay).resolve()
