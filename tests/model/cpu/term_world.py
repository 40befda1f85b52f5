"""A world whose words can do no more than the text may ask of a word.

Words are 64-bit vectors: every operation wraps, as a solver's do.  Text that forgets a
mask, or that treats a word as a Python int, shows as a difference or a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from model.cpu import Frame, Vector
from model.cpu.concrete import REGISTERS, ConcreteCpu, CpuFault, Registers
from model.cpu.concrete import Memory as ConcreteMemory
from model.cpu.words import MASK64


class Answer:
    """A condition: it can be asked, and combined."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return self.value

    def __and__(self, other: Answer | bool) -> Answer:
        return Answer(self.value & _truth(other))

    def __or__(self, other: Answer | bool) -> Answer:
        return Answer(self.value | _truth(other))

    __rand__ = __and__
    __ror__ = __or__

    def __eq__(self, other: object) -> bool:
        raise TypeError("a condition is compared")

    __hash__ = None  # type: ignore[assignment]


class Term:
    """A word: ``+ - & | ^ << >> // %``, ``== !=``, unsigned ``< <=``, and nothing else."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __add__(self, other: Term | int) -> Term:
        return _word(self.value + _number(other))

    def __sub__(self, other: Term | int) -> Term:
        return _word(self.value - _number(other))

    def __and__(self, other: Term | int) -> Term:
        return _word(self.value & _number(other))

    def __or__(self, other: Term | int) -> Term:
        return _word(self.value | _number(other))

    def __xor__(self, other: Term | int) -> Term:
        return _word(self.value ^ _number(other))

    def __lshift__(self, other: int) -> Term:
        return _word(self.value << other)

    def __rshift__(self, other: int) -> Term:
        return _word(self.value >> other)

    def __floordiv__(self, other: int) -> Term:
        return _word(self.value // other)

    def __mod__(self, other: int) -> Term:
        return _word(self.value % other)

    def __eq__(self, other: object) -> Answer:  # type: ignore[override]
        return Answer(self.value == _number(other))

    def __ne__(self, other: object) -> Answer:  # type: ignore[override]
        return Answer(self.value != _number(other))

    def __lt__(self, other: Term | int) -> Answer:
        return Answer(self.value < _number(other))

    def __le__(self, other: Term | int) -> Answer:
        return Answer(self.value <= _number(other))

    def __bool__(self) -> bool:
        raise TypeError("the truth value of a word")

    __hash__ = None  # type: ignore[assignment]


def _word(value: int) -> Term:
    return Term(value & MASK64)


def _number(other: object) -> int:
    """A word's value, or a constant that is a word."""
    if isinstance(other, Term):
        return other.value
    assert isinstance(other, int) and not isinstance(other, bool) and 0 <= other <= MASK64
    return other


def _truth(other: Answer | bool) -> bool:
    return other.value if isinstance(other, Answer) else other


def lift(value: Any) -> Any:
    """A Python value as this world has it; a static number is lifted by its caller."""
    if isinstance(value, bool):
        return Answer(value)
    if isinstance(value, Frame):
        return _frame(value, lift)
    return Term(value) if isinstance(value, int) else value


def lower(value: Any) -> Any:
    """The Python value again."""
    if isinstance(value, Frame):
        return _frame(value, lower)
    return value.value if isinstance(value, (Term, Answer)) else value


def _frame(frame: Frame, each: Callable[[Any], Any]) -> Frame:
    return Frame(each(frame.rip), each(frame.cs), each(frame.rsp), each(frame.cf))


class TermCpu:
    """Gives the text terms, and keeps ints in a ConcreteCpu."""

    def __init__(self, registers: Registers, memory: ConcreteMemory) -> None:
        object.__setattr__(self, "below", ConcreteCpu(registers, memory))

    def __getattr__(self, name: str) -> Any:
        below = getattr(object.__getattribute__(self, "below"), name)
        if name in REGISTERS:
            return lift(below)

        def primitive(*arguments: Any) -> Any:
            return lift(below(*(lower(a) for a in arguments)))

        return primitive

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in REGISTERS
        setattr(self.below, name, lower(value))

    def fault(self, vector: Vector, error_code: Any = 0) -> NoReturn:
        raise CpuFault(vector, lower(error_code))
