"""What scenarios can expect: the outcome of a line, and statements about the end."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from counterexamples.expressions import REGISTERS, Expression, Wrong, expression, shown
from model.kernel import errno as kernel_errno

VECTORS = {"#UD": 6, "#SS": 12, "#GP": 13, "#PF": 14, "#CP": 21}
NO_CODE = ("#UD",)
WARNINGS = ("double free", "munmap failed")  # parts of model.events.Warning
FEATURES = ("SHSTK", "WRSS")
# Numbers by name; where a number has two names, the kernel text's.
ERRNO_NUMBERS = {n: v for n, v in vars(errno).items() if n.startswith("E") and isinstance(v, int)}
ERRNO_NAMES = {
    **errno.errorcode,
    **{v: n for n, v in vars(kernel_errno).items() if n.startswith("E") and isinstance(v, int)},
}


# -- the outcome of a line ---------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One thing that a line is expected to do; ``design`` empty: on every design.

    ``kind``: ok, errno, fault, dies, WARN, blocks, handler or gives.  ``number``: the errno
    or the vector; ``code``: an exception's error code, None: any.
    """

    text: str
    kind: str
    design: str = ""
    number: int = 0
    code: int | None = None
    warning: str = ""
    gives: Expression | None = None


OUTCOMES = (
    "ok or 0 (no exception, no error, no WARN, nobody dies of a signal), an errno (EPERM), "
    "#PF 0x46, #CP 1, #GP, #UD, dies, WARN [double free|munmap failed], blocks, handler, "
    "or a number or address where the operation gives one"
)


def parse_outcomes(text: str, design: str = "") -> tuple[Outcome, ...]:
    """What stands after ``=>``, between commas."""
    pieces = [" ".join(piece.split()) for piece in text.split(",")]
    if not all(pieces):
        raise Wrong(f"nothing is expected here; after => stands {OUTCOMES}")
    return tuple(_outcome(piece, design) for piece in pieces)


def _outcome(text: str, design: str) -> Outcome:
    first, _, rest = text.partition(" ")
    if first in VECTORS:
        return Outcome(text, "fault", design, VECTORS[first], _code(first, rest))
    if first == "WARN" and (not rest or rest in WARNINGS):
        return Outcome(text, "WARN", design, warning=rest)
    if text in ("ok", "dies", "blocks", "handler"):
        return Outcome(text, text, design)
    if text in ERRNO_NUMBERS:
        return Outcome(text, "errno", design, ERRNO_NUMBERS[text])
    if re.fullmatch(r"E[A-Z]{3,}[0-9]*", text):
        raise Wrong(f"there is no errno {shown(text)}; right is {OUTCOMES}")
    try:
        return Outcome(text, "gives", design, gives=expression(text))
    except Wrong:
        raise Wrong(f"{shown(text)} cannot be expected; right is {OUTCOMES}") from None


def _code(vector: str, text: str) -> int | None:
    text = text.removeprefix("error ")
    if not text:
        return None
    if vector in NO_CODE or not re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,8}", text):
        right = "has no error code" if vector in NO_CODE else "is followed by its error code"
        raise Wrong(f"{shown(text)} cannot follow {vector}; {vector} {right}")
    return int(text, 0)


# -- statements about the end ------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """What is to hold at the end; ``kind`` is one of ``STATEMENTS``.

    ``words``: the cause of a death, a warning, the features.
    """

    text: str
    kind: str
    task: str = ""
    words: str = ""
    count: int = 0
    register: str = ""
    address: Expression | None = None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The addresses in it."""
        return () if self.address is None else (self.address,)


_TASK = r"(?P<task>[A-Za-z][A-Za-z0-9_]{0,15})"
_CAUSE = r"(?: of (?P<words>\S.*))?"
_COUNT = r"(?P<count>no|[0-9]{1,5}) shadow stacks?"
_FEATURES = r"(?P<words>none|(?:SHSTK|WRSS)(?: (?:SHSTK|WRSS))?)"
# Form, as it is documented; kind; what it looks like.
STATEMENTS: tuple[tuple[str, str, str], ...] = (
    ("TASK dies [of CAUSE]", "dies", rf"{_TASK} dies{_CAUSE}"),
    ("TASK is alive", "alive", rf"{_TASK} is alive"),
    ("[no] WARN [double free|munmap failed]", "warn", r"(?P<no>no )?WARN(?: (?P<words>.+))?"),
    ("N shadow stacks are left in TASK's mm", "left", rf"{_COUNT} (?:is|are) left in {_TASK}'s mm"),
    ("TASK owns N shadow stacks", "owns", rf"{_TASK} owns {_COUNT}"),
    (
        "ADDRESS is [not] mapped [in TASK's mm]",
        "mapped",
        rf"(?P<address>\S+) is (?P<no>not )?mapped(?: in {_TASK}'s mm)?",
    ),
    (
        "TASK's ssp|rsp|rip|base|size is ADDRESS",
        "register",
        rf"{_TASK}'s (?P<register>{'|'.join(REGISTERS)}) is (?P<address>\S+)",
    ),
    ("TASK's features are none|SHSTK [WRSS]", "features", rf"{_TASK}'s features are {_FEATURES}"),
    (
        "TASK's locked features are none|SHSTK|WRSS",
        "locked",
        rf"{_TASK}'s locked features are {_FEATURES}",
    ),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for _, kind, pattern in STATEMENTS)
FORMS = "; ".join(form for form, _, _ in STATEMENTS)
# What a task dies of: a signal, perhaps with the exception behind it, or by itself.
_DEATH = re.compile(
    r"SIG[A-Z0-9]{2,5}( \(.+)?|#(UD|SS|GP|PF|CP)\b.*|exit(\(\d*\)?)?|exit_group|de_thread"
)
CAUSES = (
    "a cause is SIGKILL, SIGSEGV (#PF error 0x46), #CP error 1, exit(0), exit_group or de_thread"
)


def parse_statement(text: str) -> Statement:
    """What stands after ``expect:``."""
    text = " ".join(text.split())
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match:
            return _statement(text, kind, match.groupdict())
    raise Wrong(f"{shown(text)} is no statement about the end; right are: {FORMS}")


def _statement(text: str, kind: str, found: dict[str, str | None]) -> Statement:
    words = found.get("words") or ""
    if kind == "dies" and words and not _DEATH.fullmatch(words):
        raise Wrong(f"{shown(words)} is nothing to die of; {CAUSES}")
    if kind == "warn" and words and words not in WARNINGS:
        raise Wrong(f"there is no warning {shown(words)}; known are {', '.join(WARNINGS)}")
    negated = {"warn": "no warn", "mapped": "not mapped"}
    address = found.get("address")
    return Statement(
        text,
        negated[kind] if found.get("no") else kind,
        task=found.get("task") or "",
        words=words,
        count=int((found.get("count") or "0").replace("no", "0")),
        register=found.get("register") or "",
        address=expression(address) if address else None,
    )


# -- comparing ---------------------------------------------------------------------


def same_cause(expected: str, cause: str) -> bool:
    """The cause of a death begins with what is expected, or the exception in it does."""
    wanted = expected.removesuffix(")") if "(#" in expected else expected
    inside = cause.partition(" (")[2].removesuffix(")")
    return any(_begins(text, wanted) for text in (cause, inside))


def _begins(text: str, start: str) -> bool:
    """``start`` is the beginning of ``text`` and does not end within a word."""
    rest = text.removeprefix(start)
    return text.startswith(start) and not re.match(r"\w", rest)
