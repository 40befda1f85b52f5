"""Every path of a move over terms: its condition, and what it leaves."""

from __future__ import annotations

import errno
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import z3

from model.designs.design import Design
from shstk.proof.cpu_moves import Move
from shstk.proof.cpu_world import Faulted, RegisterTerms, SymbolicCpu, any_registers
from shstk.proof.forking import Fork, Stop, endings
from shstk.proof.memory import Memory, Pages, word
from shstk.proof.terms import Word, as_bool, as_word
from shstk.proof.user_world import SymbolicUser, any_word

LATER = "later_"


@dataclass(frozen=True)
class Instant:
    """Registers, contents and pages at an instant."""

    registers: RegisterTerms
    memory: Memory
    pages: Pages

    @property
    def key(self) -> Hashable:
        """The same for two instants at which everything is the same term."""
        r = self.registers
        writes = [(w.address.get_id(), w.width, w.value.get_id()) for w in self.memory.writes]
        words = [term.get_id() for term in r.words.values()]
        return self.memory.name, r.long_mode.get_id(), (*words,), (*writes,)


@dataclass(frozen=True, eq=False)
class Path:
    """A way through a move, or several that leave the same.

    ``error``: an errno, 0 for none; ``fault``: how it was aborted.
    """

    condition: z3.BoolRef
    before: Instant
    later: Instant
    after: Instant
    fault: Faulted | None
    error: int

    @property
    def ending(self) -> str:
        """How it ends, in a word."""
        if self.fault is not None:
            return self.fault.detail
        return errno.errorcode[self.error] if self.error else "done"


@dataclass
class SymbolicBench:
    """A move's bench: everything is arbitrary."""

    design: Any
    fork: Fork
    pages: Pages
    cpu: SymbolicCpu = field(init=False)
    user: SymbolicUser = field(init=False)
    before: Instant = field(init=False)
    later: Instant = field(init=False)

    def __post_init__(self) -> None:
        self._start("", self.pages)
        self.before = self.later = self.now()

    def _start(self, name: str, pages: Pages) -> None:
        memory = Memory(pages, f"{name}mem")
        self.cpu = SymbolicCpu(self.fork, any_registers(name), memory, pages)
        self.user = SymbolicUser(self.cpu, name)
        self.pages = pages
        self.require(well_formed(self.now().registers))

    def now(self) -> Instant:
        """Everything as it is."""
        return Instant(self.cpu.registers(), self.cpu.memory.copy(), self.pages)

    def operand(self, name: str) -> Word:
        return Word(any_word(name), self.fork.decide)

    def require(self, condition: Any) -> None:
        term = condition if z3.is_expr(condition) else as_bool(condition)
        if not self.fork.decide(term):
            self.outside()

    def outside(self) -> NoReturn:
        raise Stop("outside")

    def handler(self, ssp: Any) -> None:
        pushed = [w for w in self.cpu.memory.writes if w.shadow]
        was = self.cpu.memory
        self._start(LATER, Pages(f"{LATER}kind", self.pages.below))
        self.later = self.now()
        self.require(as_word(self.cpu.ssp) == as_word(ssp))
        now = self.cpu.memory
        there = [now.load(w.address, w.width) == was.load(w.address, w.width) for w in pushed]
        self.require(z3.And(*there))


def well_formed(r: RegisterTerms) -> z3.BoolRef:
    """What the registers can be (``model.cpu.world.Cpu``)."""
    w = r.words
    low = z3.And(z3.ULT(w["rip"], word(1 << 32)), z3.ULT(w["rsp"], word(1 << 32)))
    bits = [z3.ULE(w[name], word(1)) for name in ("cf", "cr4_cet")]
    return z3.And(z3.ULE(w["cpl"], word(3)), *bits, z3.Or(r.long_mode, low))


@dataclass(frozen=True, eq=False)
class Paths:
    """All paths of a move, and that they are all."""

    move: str
    design: str
    paths: tuple[Path, ...]
    outside: tuple[z3.BoolRef, ...]

    @property
    def covered(self) -> z3.BoolRef:
        """Some path is taken, or the state is not what the move is about."""
        return z3.Or(*(p.condition for p in self.paths), *self.outside)


def paths_of(name: str, move: Move, design: Design | None, pages: Pages | None = None) -> Paths:
    """Run a move over terms.  ``design``: None for an instruction, which asks none."""
    pages = pages or Pages()
    bench: SymbolicBench

    def run(fork: Fork) -> int:
        nonlocal bench
        bench = SymbolicBench(design, fork, pages)
        return move(bench)

    found: dict[Hashable, list[Path]] = {}
    outside: list[z3.BoolRef] = []
    for ending in endings(run):
        condition = ending.fork.condition
        stop = ending.stop
        if stop is not None and not isinstance(stop, Faulted):
            if stop.status != "outside":
                raise stop
            outside.append(condition)
            continue
        fault = stop if isinstance(stop, Faulted) else None
        error = ending.result or 0
        path = Path(condition, bench.before, bench.later, bench.now(), fault, error)
        found.setdefault(_leaves(path), []).append(path)
    merged = (
        replace(p, condition=z3.Or(*(q.condition for q in (p, *rest))))
        for p, *rest in found.values()
    )
    return Paths(name, design.name if design else "", tuple(merged), tuple(outside))


def _leaves(path: Path) -> Hashable:
    """What tells the endings of a move apart; terms by their numbers."""
    fault = path.fault
    aborted = [] if fault is None else [fault.vector, fault.code, fault.address]
    numbers = tuple(term.get_id() for term in aborted if term is not None)
    return path.error, fault is None, numbers, path.later.key, path.after.key
