"""Obligations as SMT-LIB 2 text: what solvers are given, kept, and exported.

The text is all there is: a solver is asked no more and no less than what a file of it says.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import z3

from shstk.proof import lowlevel

# z3's own operators of a division by what is not 0, where SMT-LIB's are total.
_WORDS = {f"{op}_i": op for op in ("bvudiv", "bvurem", "bvsdiv", "bvsrem", "bvsmod")}
_EMPTY = {"and": "true", "or": "false"}  # of no parts, where a term stands
_FUNCTION = "(declare-fun "
MANY = 20_000  # formulas whose texts are kept
_FRESH = re.compile(r"\|[^|]*\||[^\s()|]+![0-9]+(?![^\s()|])")
_LET = re.compile(r"\s*\(let \(\((\S+) (.*)\)\)\s*")
_INDEXED = ("_", "as")
_QUANTIFIED = re.compile(r"\((?:exists|forall) ")
_TOKEN = re.compile(r"\|[^|]*\||[()]|[^\s()|]+")
_NAME, _PAREN, _STEP = re.compile(r"\|[^|]*\|"), re.compile(r"[()]"), {"(": 1, ")": -1}
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
    said = _said([*premises, *negated])
    sorts = dict.fromkeys(sort for one in said for sort in one.sorts)
    functions = dict.fromkeys(function for one in said for function in one.functions)
    names: dict[str, str] = {}
    given = [f"(assert {one.text})" for one in said[: len(premises)]]
    commands = [_renamed(c, names) for c in [*sorts, *functions, *given]]
    bodies = [_renamed(one.text, names, new=False) for one in said[len(premises) :]]
    prelude = "".join([f"{command}\n" for command in commands])
    return Batch(name, prelude, tuple(Goal(g, b) for g, b in zip(goals, bodies, strict=True)))


@dataclass(frozen=True)
class _Said:
    """A formula as text, with what declares its symbols."""

    formula: Any  # kept, so that no other has its address
    text: str
    sorts: tuple[str, ...]
    functions: tuple[str, ...]


_SAID: dict[int, _Said] = {}  # by the formula's address: many paths share the same premises


def _said(formulas: Sequence[z3.BoolRef]) -> list[_Said]:
    """Formulas as text; whatever else there is, each has the same."""
    if len(_SAID) > MANY:
        _SAID.clear()
    new = {lowlevel.address(f): f for f in formulas}
    new = {at: f for at, f in new.items() if at not in _SAID}
    if new:
        _SAID.update(zip(new, _made(list(new.values())), strict=True))
    return [_SAID[lowlevel.address(f)] for f in formulas]


def _made(formulas: Sequence[z3.BoolRef]) -> list[_Said]:
    declarations, texts = _printed(formulas)
    named = [(name, d) for d in declarations for name in _introduced(d)]
    declared = dict(named)
    if len(declared) < len(named) and len(formulas) > 1:
        # A name for two things: as long as they are in different formulas, each has its own.
        return [one for formula in formulas for one in _made([formula])]
    return [
        _whole(formula)
        if len(declared) < len(named) or _QUANTIFIED.search(text)
        else _parted(formula, _lettered(text), declared)
        for formula, text in zip(formulas, texts, strict=True)
    ]


def _whole(formula: z3.BoolRef) -> _Said:
    """A formula with names that are not what they are elsewhere."""
    declarations, _ = _printed([formula])
    functions = tuple(d for d in declarations if d.startswith(_FUNCTION))
    sorts = tuple(d for d in declarations if not d.startswith(_FUNCTION))
    return _Said(formula, _standard(plain(formula)), sorts, functions)


def _parted(formula: z3.BoolRef, text: str, declared: Mapping[str, str]) -> _Said:
    """A formula with those of some declarations that it needs, in the order of its text."""
    needed: dict[str, None] = {}

    def need(said: str) -> None:
        for name in _TOKEN.findall(said):
            declaration = declared.get(name)
            if declaration is not None and declaration not in needed and declaration != said:
                need(declaration)  # the sorts it needs are declared before it
                needed[declaration] = None

    need(text)
    functions = tuple(d for d in needed if d.startswith(_FUNCTION))
    sorts = tuple(d for d in needed if not d.startswith(_FUNCTION))
    return _Said(formula, text, sorts, functions)


def _introduced(declaration: str) -> Iterator[str]:
    """The names that a declaration is for: of a sort or function, or of a datatype's parts."""
    kind, name, *rest = _TOKEN.findall(declaration.removeprefix("("))
    if kind != "declare-datatypes":
        yield name
        return
    depth, last = 2, name
    for token in rest:
        # ((Sort 0)) (((constructor (part Sort))))
        if token not in "()" and last == "(" and 3 <= depth <= 5:
            yield token
        depth += (token == "(") - (token == ")")
        last = token


def _printed(formulas: Sequence[z3.BoolRef]) -> tuple[list[str], list[str]]:
    """What declares the symbols of some formulas, and the formulas.

    By the printer that z3 has for benchmarks, which takes a thirtieth of the other's time.
    """
    context, true = z3.main_ctx().ref(), z3.BoolVal(True)
    array = lowlevel.pointers([f.as_ast() for f in formulas])
    text = z3.Z3_benchmark_to_smtlib_string(
        context, "", "", "unsat", "", len(formulas), array, true.as_ast()
    )
    head, *parts = text.removesuffix("\n(check-sat)\n").split("\n(assert\n")
    # On one line; a name can have more than one space.
    lines = [c.splitlines() for c in forms(head) if not c.startswith("(set-info")]
    declarations = [" ".join(line.strip() for line in c) for c in lines]
    assertions = [p.removesuffix(")").strip() for p in parts]
    assert len(assertions) == len(formulas), "a formula for each assertion"
    return declarations, assertions


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
    said = parts.written(parts.read(body.strip().removesuffix(")" * len(lines))))
    return _standard(said) if parts.odd else said


class _Parts:
    """Parts of a formula by number, after those they are made of; equal ones are one."""

    def __init__(self) -> None:
        self.named: dict[str, int] = {}  # as z3 calls them
        self.odd = False  # something is not in SMT-LIB's words
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
                self.odd |= len(closed) == 2 and self._parts[closed[0]] in _EMPTY
                open_[-1].append(self._number(tuple(closed)))
            else:
                known = self.named.get(token)
                if known is None:
                    first = not open_[-1] and len(open_) > 1
                    self.odd |= token in _WORDS or (token in _EMPTY and not first)
                    known = self._number(token)
                open_[-1].append(known)
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


def _standard(text: str) -> str:
    """A command or term on one line, in SMT-LIB's words."""
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


def _renamed(text: str, names: dict[str, str], new: bool = True) -> str:
    """Fresh names counted from 0: their numbers depend on what else was made before.

    ``names`` says what became of those seen already; different names stay different.  ``new``:
    it is told of others.
    """
    fresh = _fresh(text)
    if all(token == names.get(token) for token in fresh):
        return text
    known = names if new else dict(names)
    for token in fresh:
        if token not in known:
            base = token.rpartition("!")[0]
            known[token] = f"{base}!{sum(n.rpartition('!')[0] == base for n in known)}"
    return _FRESH.sub(lambda match: known.get(match[0], match[0]), text)


@lru_cache(maxsize=20_000)
def _fresh(text: str) -> tuple[str, ...]:
    """The fresh names of a command or term, in their order."""
    found = _FRESH.findall(text) if "!" in text else []
    return tuple(dict.fromkeys(name for name in found if not name.startswith("|")))


def _application(parts: list[str]) -> str:
    """A conjunction of one is no conjunction: SMT-LIB has none, and z3 prints them."""
    if len(parts) == 2 and parts[0] in _EMPTY:
        return _constant(parts[1])
    return f"({' '.join([*parts[:1], *map(_constant, parts[1:])])})"


def _constant(part: str) -> str:
    return _EMPTY.get(part, part)


def forms(text: str) -> list[str]:
    """Top-level commands, or terms, of a text.  Raises ``ValueError`` if they are cut off."""
    lines = [line for line in text.split("\n") if line]
    return lines if all(map(_one_form, lines)) else _forms(text)


@lru_cache(maxsize=20_000)
def _one_form(line: str) -> bool:
    """A line is surely one form, whatever stands before and after it; most are in many texts."""
    if not (line.startswith("(") and line.endswith(")")) or '"' in line or ";" in line:
        return False
    if line.count("|") % 2:
        return False
    depths = list(itertools.accumulate(map(_STEP.__getitem__, _PAREN.findall(_NAME.sub("", line)))))
    return depths.index(0) == len(depths) - 1 if 0 in depths else False


def _forms(text: str) -> list[str]:
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
