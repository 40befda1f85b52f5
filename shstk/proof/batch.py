"""Obligations as SMT-LIB 2 text: what solvers are given, kept, and exported.

The text is all there is: a solver is asked no more and no less than what a file of it says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import z3

from shstk.proof import lowlevel

# z3's own operators of a division by what is not 0, where SMT-LIB's are total.
_WORDS = {f"{op}_i": op for op in ("bvudiv", "bvurem", "bvsdiv", "bvsrem", "bvsmod")}
_EMPTY = {"and": "true", "or": "false"}  # of no parts, where a term stands
_FRESH = re.compile(r"\|[^|]*\||[^\s()|]+![0-9]+(?![^\s()|])")
_LET = re.compile(r"\s*\(let \(\((\S+) (.*)\)\)\s*")
_INDEXED = ("_", "as")
_QUANTIFIED = re.compile(r"\((?:exists|forall) ")
_TOKEN = re.compile(r"\|[^|]*\||[()]|[^\s()|]+")
_FORM = re.compile(r'\|[^|]*\||"[^"]*"|;[^\n]*|[()]|[^\s()|";]+')


@dataclass(frozen=True)
class Goal:
    """A claim to be proved: ``negated`` is an SMT-LIB term that has to be unsatisfiable."""

    name: str
    negated: str


@dataclass(frozen=True)
class Batch:
    """Goals with the same premises: ``prelude`` declares all symbols and asserts the premises."""

    name: str
    prelude: str
    goals: tuple[Goal, ...]
    about: str = ""  # in words, for whoever reads it as a file

    def script(self, goal: Goal) -> str:
        """The goal by itself, as a whole SMT-LIB 2 file that has to be unsat."""
        return (
            f"; {self.name}: {goal.name}\n(set-info :status unsat)\n"
            f"{self.prelude}(assert {goal.negated})\n(check-sat)\n"
        )


def batch(name: str, premises: Sequence[z3.BoolRef], goals: Mapping[str, z3.BoolRef]) -> Batch:
    """A batch from z3 terms; each goal is a claim that is to follow from the premises."""
    negated = [lowlevel.negation(claim) for claim in goals.values()]
    declarations, assertions = _printed([*premises, *negated])
    names: dict[str, str] = {}
    given = [f"(assert {_standard(text)})" for text in assertions[: len(premises)]]
    commands = [_renamed(c, names) for c in [*declarations, *given]]
    bodies = [_renamed(_standard(text), dict(names)) for text in assertions[len(premises) :]]
    prelude = "".join(f"{command}\n" for command in commands)
    return Batch(name, prelude, tuple(Goal(g, b) for g, b in zip(goals, bodies, strict=True)))


def _printed(formulas: Sequence[z3.BoolRef]) -> tuple[list[str], list[str]]:
    """What declares the symbols of some formulas, and the formulas.

    By the printer that z3 has for benchmarks, which takes a thirtieth of the other's time.
    """
    context, true = z3.main_ctx().ref(), z3.BoolVal(True)
    array = (z3.Ast * len(formulas))(*(f.as_ast() for f in formulas))
    text = z3.Z3_benchmark_to_smtlib_string(
        context, "", "", "unsat", "", len(formulas), array, true.as_ast()
    )
    head, *parts = text.removesuffix("\n(check-sat)\n").split("\n(assert\n")
    declarations = [" ".join(c.split()) for c in forms(head) if not c.startswith("(set-info")]
    assertions = [p.removesuffix(")").strip() for p in parts]
    assert len(assertions) == len(formulas), "a formula for each assertion"
    return declarations, [
        plain(formula) if _QUANTIFIED.search(text) else _lettered(text)
        for formula, text in zip(formulas, assertions, strict=True)
    ]


@lru_cache(maxsize=20_000)
def _lettered(text: str) -> str:
    """A formula on one line, whose parts have names where they are used more than once.

    z3 numbers parts by what else there is, orders them by that, and does not name all that are
    used twice, but some that others than the formula have a use for.  It writes each one on a
    line of its own.
    """
    *lines, body = text.split("\n")
    parts = _Parts()
    for line in lines:
        found = _LET.fullmatch(line)
        assert found is not None, f"no part of a formula: {line}"
        parts.named[found[1]] = parts.read(found[2])
    return parts.written(parts.read(body.strip().removesuffix(")" * len(lines))))


class _Parts:
    """Parts of a formula by number, after those they are made of; equal ones are one."""

    def __init__(self) -> None:
        self.named: dict[str, int] = {}  # as z3 calls them
        self._numbers: dict[str | tuple[int, ...], int] = {}
        self._parts: list[str | tuple[int, ...]] = []

    def read(self, text: str) -> int:
        """The number of a term, whose named parts are known."""
        open_: list[list[int]] = [[]]
        for token in _TOKEN.findall(text):
            if token == "(":
                open_.append([])
            elif token == ")":
                closed = open_.pop()
                open_[-1].append(self._number(tuple(closed)))
            else:
                known = self.named.get(token)
                open_[-1].append(self._number(token) if known is None else known)
        ((number,),) = open_
        return number

    def _number(self, part: str | tuple[int, ...]) -> int:
        known = self._numbers.get(part)
        if known is None:
            known = self._numbers[part] = len(self._parts)
            self._parts.append(part)
        return known

    def written(self, whole: int) -> str:
        """A term with names for what it has more than once, in the order of their use."""
        order = self._order(whole)
        uses = Counter(p for n in order for p in self._parts[n] if isinstance(p, int))
        said: dict[int, str] = {}
        lets: list[str] = []
        for number in order:
            part = self._parts[number]
            if isinstance(part, str):
                said[number] = part
                continue
            said[number] = f"({' '.join([said[p] for p in part])})"
            # (_ extract 7 0) is no term.
            if uses[number] > 1 and said[part[0]] not in _INDEXED:
                name = f"$x{len(lets)}"
                lets.append(f"(let (({name} {said[number]})) ")
                said[number] = name
        return f"{''.join(lets)}{said[whole]}{')' * len(lets)}"

    def _order(self, whole: int) -> list[int]:
        """The parts of a term, each once and after its own, from left to right."""
        done: dict[int, None] = {}
        stack = [whole]
        while stack:
            part = self._parts[stack[-1]]
            todo = [] if isinstance(part, str) else [p for p in part if p not in done]
            if todo:
                stack += reversed(todo)
            else:
                done[stack.pop()] = None
        return list(done)


@lru_cache(maxsize=20_000)
def _standard(text: str) -> str:
    """A command or term on one line, in SMT-LIB's words; many paths share the same premises."""
    open_: list[list[str]] = [[]]
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "(":
            open_.append([])
        elif token == ")":
            closed = open_.pop()
            open_[-1].append(_application(closed))
        else:
            open_[-1].append(_WORDS.get(token, token))
    return " ".join(_constant(part) for part in open_[0])


def _renamed(text: str, names: dict[str, str]) -> str:
    """Fresh names counted from 0: their numbers depend on what else was made before.

    ``names`` says what became of those seen already; different names stay different.
    """

    def new(match: re.Match[str]) -> str:
        token = match[0]
        if token.startswith("|"):
            return token
        if token not in names:
            base = token.rpartition("!")[0]
            names[token] = f"{base}!{sum(n.rpartition('!')[0] == base for n in names)}"
        return names[token]

    return _FRESH.sub(new, text)


def _application(parts: list[str]) -> str:
    """A conjunction of one is no conjunction: SMT-LIB has none, and z3 prints them."""
    if len(parts) == 2 and parts[0] in _EMPTY:
        return _constant(parts[1])
    return f"({' '.join([*parts[:1], *map(_constant, parts[1:])])})"


def _constant(part: str) -> str:
    return _EMPTY.get(part, part)


def forms(text: str) -> list[str]:
    """Top-level commands, or terms, of a text.  Raises ``ValueError`` if they are cut off."""
    out: list[str] = []
    depth = start = 0
    for match in _FORM.finditer(text):
        token = match[0]
        if depth == 0:
            start = match.start()
        depth += (token == "(") - (token == ")")
        if depth < 0:
            raise ValueError("a ) too many")
        if depth == 0 and not token.startswith(";"):
            out.append(text[start : match.end()])
    if depth:
        raise ValueError("a ) is missing")
    return out


def plain(term: Any) -> str:
    """A z3 term as SMT-LIB text on one line."""
    return " ".join(term.sexpr().split())
