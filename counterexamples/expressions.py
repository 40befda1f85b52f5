"""Numbers, sizes and addresses as scenarios write them, and what they mean when a line runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from model.world import U64

REGISTERS = ("ssp", "rsp", "rip", "base", "size")  # base, size: thread.shstk
PARTS = ("end", "size")  # of a range
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
TERMS_MAX = 3
# What cannot be the name of a task or a range.
RESERVED = (*REGISTERS, "end", "picture", "WARN", "no")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}")
_NUMBER = re.compile(r"(0x[0-9a-fA-F_]{1,24})|([0-9]{1,20})([KMGT]?)")
_DOTTED = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,15})(?:\.([a-z]{1,8}))?")
_TERM = re.compile(r"([+-]?)([^+-]+)")

NUMBER_FORM = "a number is 4096, 64K, 8M, 4G, 32T or 0x1000, below 2^64"
FORM = (
    "an address is a number, a bound name (A, A.end, A.size), a register (ssp, rsp, rip, base, "
    "size, or another task's: C.ssp), or up to three of these with + and -"
)


class Wrong(Exception):
    """What is wrong with a piece of a scenario, and what would be right; no place yet."""


def shown(text: str) -> str:
    """What a user wrote, quoted, and cut where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def name_of(text: str, what: str) -> str:
    """``text`` if it can name something."""
    if not _NAME.fullmatch(text):
        raise Wrong(f"{shown(text)} cannot name {what}; a letter, then up to 15 letters, digits, _")
    if text in RESERVED:
        raise Wrong(f"{text!r} cannot name {what}, it has a meaning already; choose another name")
    return text


def number(text: str) -> int:
    """A number: decimal with a unit (K, M, G, T) or without, or hexadecimal."""
    match = _NUMBER.fullmatch(text)
    if not match:
        raise Wrong(f"{shown(text)} is no number; {NUMBER_FORM}")
    try:
        value = int(match[1], 16) if match[1] else int(match[2]) << UNITS[match[3]]
    except ValueError:  # underscores at wrong places
        raise Wrong(f"{shown(text)} is no number; {NUMBER_FORM}") from None
    if value >= U64:
        raise Wrong(f"{shown(text)} does not fit 64 bits; {NUMBER_FORM}")
    return value


@dataclass(frozen=True)
class Constant:
    """A number."""

    value: int


@dataclass(frozen=True)
class Register:
    """A register or a field of thread.shstk; ``task`` empty: of the task whose line it is."""

    task: str
    name: str


@dataclass(frozen=True)
class Named:
    """A name that a line has bound; ``part``: '', 'end' or 'size'."""

    name: str
    part: str


Term = Constant | Register | Named


@dataclass(frozen=True)
class Expression:
    """A sum of terms, modulo 2^64.  Equal where it is written the same."""

    text: str
    terms: tuple[tuple[int, Term], ...] = field(compare=False)  # sign, term

    def value(self, look_up: Callable[[Term], int]) -> int:
        """What it comes to; ``look_up`` knows registers and names."""
        total = 0
        for sign, term in self.terms:
            total += sign * (term.value if isinstance(term, Constant) else look_up(term))
        return total % U64

    @property
    def named(self) -> tuple[Named, ...]:
        """The bound names in it; ``T.size`` can be a task's too."""
        return tuple(term for _, term in self.terms if isinstance(term, Named))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it asks."""
        tasks = (term.task for _, term in self.terms if isinstance(term, Register))
        return tuple(task for task in tasks if task)


def expression(text: str) -> Expression:
    """Parse an address or a number."""
    pieces = _TERM.findall(text)
    if not pieces or "".join(sign + word for sign, word in pieces) != text or pieces[0][0]:
        raise Wrong(f"{shown(text)} is no address; {FORM}")
    if len(pieces) > TERMS_MAX:
        raise Wrong(f"{shown(text)} has {len(pieces)} terms; {FORM}")
    terms = tuple((-1 if sign == "-" else 1, _term(word, text)) for sign, word in pieces)
    return Expression(text, terms)


def _term(word: str, text: str) -> Term:
    if word[0].isdigit():
        return Constant(number(word))
    match = _DOTTED.fullmatch(word)
    if not match:
        raise Wrong(f"{shown(text)} is no address; {FORM}")
    name, part = match[1], match[2] or ""
    if name in REGISTERS and not part:
        return Register("", name)
    if name in RESERVED or (part and part not in (*PARTS, *REGISTERS)):
        raise Wrong(f"{shown(text)} is no address; {FORM}")
    if part in REGISTERS and part not in PARTS:
        return Register(name, part)
    return Named(name, part)
