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

# z3's own operators of a division by what is not 0, where SMT-LIB's are total.
_WORDS = {f"{op}_i": op for op in ("bvudiv", "bvurem", "bvsdiv", "bvsrem", "bvsmod")}
_EMPTY = {"and": "true", "or": "false"}  # of no parts, where a term stands
_FRESH = re.compile(r"\|[^|]*\||[^\s()|]+![0-9]+(?![^\s()|])")
_PART = re.compile(r"(?<![^\s()])[$?]x[0-9]+(?![^\s()])")
_LET = re.compile(r"\s*\(let \(\((\S+) (.*)\)\)\s*")
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
    negated = [z3.Not(claim) for claim in goals.values()]
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

    z3 numbers parts by what else there is, orders them by that, and names also what others
    than the formula have a use for.  It writes each one on a line of its own.
    """
    *lines, body = text.split("\n")
    parts: dict[str, str] = {}
    for line in lines:
        found = _LET.fullmatch(line)
        assert found is not None, f"no part of a formula: {line}"
        parts[found[1]] = found[2]
    body = body.strip().removesuffix(")" * len(parts))
    uses = Counter(name for part in (*parts.values(), body) for name in _PART.findall(part))
    named: dict[str, str] = {}
    lets: list[str] = []

    def use(match: re.Match[str]) -> str:
        name = match[0]
        if uses[name] == 1:
            return _PART.sub(use, parts[name])
        if name not in named:
            value = _PART.sub(use, parts[name])
            named[name] = f"{name[0]}x{len(named)}"
            lets.append(f"(let (({named[name]} {value})) ")
        return named[name]

    whole = _PART.sub(use, body)
    return f"{''.join(lets)}{whole}{')' * len(lets)}"


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
