"""A step that is being made."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from model.cpu.concrete import USER_CS
from model.cpu.words import MASK32
from model.reference.vma import SZ_4G
from shstk.conform.instructions import places
from shstk.conform.instructions.ahead import Ahead
from shstk.conform.instructions.cases import Step
from shstk.conform.instructions.layout import Kind


@dataclass
class Draft(Ahead):
    """A step to be: what it sets so far.

    ``looked_at``: addresses at which the instruction will look, besides the tops of stacks.
    """

    random: Random = field(default_factory=Random)
    place: places.Place = places.PLACES[0]
    name: str = ""
    arguments: tuple[int, ...] = ()
    looked_at: list[int] = field(default_factory=list)
    odd_ssp: bool = False  # SSP is to be 4 higher: a case cannot set that

    @property
    def width(self) -> int:
        """Bytes of a stack word."""
        return 8 if self.long_mode else 4

    @property
    def lbit(self) -> int:
        """L of tokens."""
        return int(self.long_mode)

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.random.random() < probability

    # -- making ----------------------------------------------------------------------
    def begin(self) -> None:
        """Every register, at the start of a case."""
        self.registers.update(
            rip=places.code(self.random, self.place),
            cs=self.place.selector,
            rsp=self.pointer(Kind.RW),
            cf=int(self.chance(0.3)),
            rax=0,
            rcx=1,
            rdx=0,
            rdi=0,
            rsi=0,
        )
        if self.run.regs.u_cet:
            ssp = self.pointer(Kind.SHADOW)
            self.registers["ssp"] = ssp if places.fits(ssp, self.long_mode) else ssp - 8

    def pointer(self, *kinds: Kind) -> int:
        """An address in a page of one of these kinds that the mode can have."""
        below = 1 << 64 if self.get("cs") == USER_CS else SZ_4G
        return places.pointer(self.random, self.place, kinds, below)

    def plant(self, address: int, width: int, value: int) -> None:
        """Put a value where the instruction looks, if a case can."""
        address &= self.mask
        self.looked_at.append(address)
        first = address & ~7
        for word in dict.fromkeys((first, (address + width - 1) & ~7)):
            if not self.run.can_plant(word):
                return
        for byte in range(width):
            at = address + byte
            old = self.word(at)
            assert old is not None
            shift = 8 * (at & 7)
            new = (value >> 8 * byte) & 0xFF
            self.words[at & ~7] = old & ~(0xFF << shift) | new << shift

    def complete(self) -> None:
        """What the kernel would refuse to set is not set."""
        for name in ("rsp", "ssp"):
            if name in self.registers and not self.long_mode:
                self.registers[name] &= MASK32
        ssp = self.registers.get("ssp")
        if ssp is not None and not (self.run.regs.u_cet and places.fits(ssp, self.long_mode)):
            del self.registers["ssp"]

    def half_pop(self) -> Step:
        """INCSSPD by 1: how a case gets an SSP that is no multiple of 8."""
        registers = {**self.registers, "rcx": 1}
        self.registers = {"rcx": self.get("rcx")}
        words, self.words = self.words, {}
        return Step("incsspd", (), self.long_mode, registers, words)

    def step(self) -> Step:
        """The step as it is."""
        return Step(self.name, self.arguments, self.long_mode, self.registers, self.words)
