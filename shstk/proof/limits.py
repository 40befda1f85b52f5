"""Questions about a run's choices: ``stack_size<4K,RLIMIT_STACK=0``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from shstk.errors import UserError
from shstk.proof.models import Way, is_number
from shstk.proof.terms import BITS


@dataclass(frozen=True)
class Limit:
    """A condition on a choice of a step: ``stack_size < 4096``."""

    name: str
    op: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.number}"


RELATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "<": (operator.lt, z3.ULT),
    "<=": (operator.le, z3.ULE),
    "=": (operator.eq, operator.eq),
    "!=": (operator.ne, operator.ne),
    ">=": (operator.ge, z3.UGE),
    ">": (operator.gt, z3.UGT),
}
UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
LIMIT = re.compile(r"\s*(.+?)\s*(<=|>=|!=|<|>|=)\s*(0x[0-9a-fA-F]+|[0-9]+)([KMG]?)\s*")


def parse_where(text: str) -> tuple[Limit, ...]:
    """``NAME OP NUMBER[K|M|G]`` joined by commas, for example ``stack_size<4K,RLIMIT_STACK=0``."""
    limits = []
    for part in text.split(","):
        found = LIMIT.fullmatch(part)
        if not found:
            raise UserError(
                f"{part.strip()!r} is no condition: it is NAME OP NUMBER, OP one of "
                f"{' '.join(RELATIONS)}, NUMBER with K, M or G behind it or not"
            )
        name, op, digits, unit = found.groups()
        size = int(digits, 0 if digits.startswith("0x") else 10) << UNITS[unit]
        if size >= 1 << BITS:
            raise UserError(f"{part.strip()!r}: the number has more than {BITS} bits")
        limits.append(Limit(name, op, size))
    return tuple(limits)


def limited(way: Way, limits: Sequence[Limit]) -> Any:
    """The limits as a condition on a way's choices; false where it has no such choice."""
    terms = {choice.name: term for choice, term in way.inputs if is_number(choice)}
    parts = []
    for limit in limits:
        if limit.name not in terms:
            return z3.BoolVal(False)
        on_numbers, on_words = RELATIONS[limit.op]
        term = terms[limit.name]
        if z3.is_bool(term):
            yes, no = (z3.BoolVal(on_numbers(v, limit.number)) for v in (1, 0))
            parts.append(z3.If(term, yes, no))
        else:
            parts.append(on_words(term, z3.BitVecVal(limit.number, BITS)))
    return z3.And(*parts)


def check_limits(limits: Sequence[Limit], ways: Sequence[Way]) -> None:
    """Refuse limits on what no step chooses, and numbers that a flag does not have."""
    known = [(c.name, t) for way in ways for c, t in way.inputs if is_number(c)]
    numbers = {name for name, term in known if not z3.is_bool(term)}
    flags = {name for name, _ in known} - numbers
    for limit in limits:
        if limit.name not in numbers | flags:
            names = ", ".join(sorted(numbers | flags)) or "nothing"
            raise UserError(f"no step asks for {limit.name!r}: numbers and flags are {names}")
        if limit.name in flags and (limit.op not in ("=", "!=") or limit.number > 1):
            right = f"say {limit.name}=1 or {limit.name}=0"
            raise UserError(f"--where {limit}: {limit.name} is a flag, yes (1) or no (0); {right}")
