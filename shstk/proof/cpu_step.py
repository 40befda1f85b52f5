"""A path of a move, as the statements of ``properties.memory`` ask about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import z3

from model.cpu.concrete import REGISTERS
from model.cpu.world import Vector
from model.world import Cond
from shstk.proof.cpu_paths import LATER, Instant, Path
from shstk.proof.memory import STACKS, Kind, allowing, word
from shstk.proof.terms import SymbolicCond, Word, as_bool, as_word
from shstk.proof.user_world import any_word

_SHADOW = allowing(write=False, shadow=True, user=True)
_READABLE = allowing(write=False, shadow=False, user=True)


def _never(_: z3.BoolRef) -> NoReturn:
    raise TypeError("a statement combines conditions and never asks one")


def _word(term: Any) -> Word:
    return Word(term, _never)


def _cond(term: Any) -> SymbolicCond:
    return SymbolicCond(term, _never)


class SymbolicMoment:
    """``properties.memory.vocabulary.Moment`` over terms."""

    def __init__(self, at: Instant) -> None:
        self.at = at
        words = at.registers.words
        for name, term in words.items():
            setattr(self, name, _word(term))
        self.long_mode = _cond(at.registers.long_mode)
        ssp = z3.If(words["cpl"] == 3, words["ssp"], words["pl3_ssp"])
        self.ssp = _word(z3.simplify(ssp))

    def _load(self, address: Any, width: int) -> Word:
        return _word(self.at.memory.load(as_word(address), width))

    def byte(self, address: Any) -> Word:
        return self._load(address, 1)

    def dword(self, address: Any) -> Word:
        return self._load(address, 4)

    def word(self, address: Any) -> Word:
        return self._load(address, 8)

    def _among(self, address: Any, kinds: tuple[Kind, ...]) -> SymbolicCond:
        return _cond(self.at.pages.among(as_word(address), kinds))

    def shadow(self, address: Any) -> SymbolicCond:
        return self._among(address, _SHADOW)

    def stack(self, address: Any) -> SymbolicCond:
        return self._among(address, STACKS)

    def readable(self, address: Any) -> SymbolicCond:
        return self._among(address, _READABLE)


@dataclass
class SymbolicStep:
    """``properties.memory.vocabulary.Step`` over terms: one path of a move.

    ``gaps`` are the design's guard gaps, None for a statement that must not ask for them;
    ``shstk`` is the design's feature bit, None for a move without kernel text, of which nobody
    can ask what the kernel takes to be on.
    """

    path: Path
    gaps: str | None
    shstk: int | None

    def __post_init__(self) -> None:
        self.before = SymbolicMoment(self.path.before)
        self.later = SymbolicMoment(self.path.later)
        self.after = SymbolicMoment(self.path.after)
        self.faulted = _cond(z3.BoolVal(self.path.fault is not None))
        self.error = _cond(z3.BoolVal(self.path.error != 0))
        self.done = _cond(z3.BoolVal(self.path.fault is None and self.path.error == 0))
        self.killed = _cond(z3.Or(z3.Bool("killed"), z3.Bool(f"{LATER}killed")))

    @property
    def guard_gaps(self) -> str:
        """The design's."""
        if self.gaps is None:
            raise TypeError("the statement does not say that it asks for guard gaps")
        return self.gaps

    @property
    def kernel_on(self) -> Cond:
        """The kernel takes shadow stacks to be on, and later too."""
        return self._on("") & self._on(LATER)

    def _on(self, name: str) -> Cond:
        if self.shstk is None:
            raise TypeError("the move has no kernel text")
        features = _word(any_word(f"{name}features"))
        size = _word(any_word(f"{name}shstk_size"))
        there = _cond(z3.Not(z3.Bool(f"{name}missing")))
        return there & (features & self.shstk != 0) & (size != 0)

    @property
    def registers_kept(self) -> SymbolicCond:
        """Every register is what it was."""
        was, now = self.path.before.registers, self.path.after.registers
        same = [was.words[r] == now.words[r] for r in REGISTERS if r != "long_mode"]
        return _cond(z3.simplify(z3.And(*same, was.long_mode == now.long_mode)))

    def any(self, name: str) -> Word:
        return _word(any_word(name))

    def raised(self, vector: Vector, code: int) -> SymbolicCond:
        fault = self.path.fault
        if fault is None:
            return _cond(z3.BoolVal(False))
        return _cond(z3.simplify(z3.And(fault.vector == word(vector), fault.code == word(code))))

    def no(self, what: Any) -> SymbolicCond:
        return _cond(z3.simplify(z3.Not(as_bool(what))))

    def implies(self, what: Any, then: Any) -> SymbolicCond:
        return _cond(z3.Implies(as_bool(what), as_bool(then)))
