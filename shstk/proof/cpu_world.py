"""The CPU text's world over z3 terms: any registers, on any memory.

An access forks: it goes through, or is refused, which ends the path with ``Faulted``.
Registers and memory stay as the
text has left them, so what a fault has changed can be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import z3

from model.cpu.concrete import KERNEL32_CS, KERNEL_CS, REGISTERS, USER32_CS, USER_CS
from model.cpu.world import Cpu, PageFaultCode, Vector
from shstk.proof.forking import Fork, Stop
from shstk.proof.memory import Memory, Pages, allowing, canonical, word
from shstk.proof.terms import BITS, SymbolicCond, Word, as_bool, as_word

_NOT_RPL = 0xFFFC
#: Linux's code segments, without RPL: those of 64-bit code, those of DPL 3, all.
_LONG = (KERNEL_CS, USER_CS & _NOT_RPL)
_USER = (USER32_CS & _NOT_RPL, USER_CS & _NOT_RPL)
_SEGMENTS = (KERNEL32_CS, KERNEL_CS, *_USER)


class Faulted(Stop):
    """An exception: its vector and error code and, where the vector is #PF's, the address.

    A refused access is one path: whether its address is canonical is in the terms.
    """

    def __init__(
        self,
        name: str,
        vector: z3.BitVecRef,
        code: z3.BitVecRef,
        address: z3.BitVecRef | None = None,
    ) -> None:
        super().__init__("fault", name)
        self.vector = vector
        self.code = code
        self.address = address


@dataclass(frozen=True)
class RegisterTerms:
    """All registers at an instant, as terms: words, and ``long_mode`` a condition."""

    words: dict[str, z3.BitVecRef]
    long_mode: z3.BoolRef


def any_registers(name: str = "") -> RegisterTerms:
    """Arbitrary registers, named as the CPU names them."""
    words = {r: z3.BitVec(f"{name}{r}", BITS) for r in REGISTERS if r != "long_mode"}
    return RegisterTerms(words, z3.Bool(f"{name}long_mode"))


class SymbolicCpu:
    """``model.cpu.world.Cpu``, on one path.  Registers are attributes, as in the concrete world."""

    rip: Any
    rsp: Any
    ssp: Any
    cs: Any
    cpl: Any
    cf: Any
    long_mode: Any
    cr4_cet: Any
    u_cet: Any
    s_cet: Any
    pl0_ssp: Any
    pl3_ssp: Any

    def __init__(self, fork: Fork, registers: RegisterTerms, memory: Memory, pages: Pages) -> None:
        self.decide = fork.decide
        for name, term in registers.words.items():
            setattr(self, name, Word(term, fork.decide))
        self.long_mode = SymbolicCond(registers.long_mode, fork.decide)
        self.memory = memory
        self.pages = pages

    def registers(self) -> RegisterTerms:
        """The registers as they are now."""
        words = {r: as_word(getattr(self, r)) for r in REGISTERS if r != "long_mode"}
        return RegisterTerms(words, as_bool(self.long_mode))

    # -- accesses by CPL -----------------------------------------------------------------
    def load(self, address: Any, width: int, /) -> Any:
        self._check(address, width, Vector.SS, write=False, shadow=False, user=self._user())
        return self._load(address, width)

    def store(self, address: Any, width: int, value: Any, /) -> None:
        self.probe_store(address, width)
        self.memory.store(as_word(address), width, as_word(value), shadow=False)

    def probe_store(self, address: Any, width: int, /) -> None:
        self._check(address, width, Vector.SS, write=True, shadow=False, user=self._user())

    def shadow_load(self, address: Any, width: int, /) -> Any:
        return self._shadow_load(address, width, self._user())

    def shadow_store(self, address: Any, width: int, value: Any, /) -> None:
        self._shadow_store(address, width, value, self._user())

    def probe_shadow_store(self, address: Any, width: int, /) -> None:
        self._probe_shadow_store(address, width, self._user())

    # -- accesses of a given type ----------------------------------------------------------
    def user_shadow_store(self, address: Any, width: int, value: Any, /) -> None:
        self._shadow_store(address, width, value, True)

    def supervisor_shadow_load(self, address: Any, width: int, /) -> Any:
        return self._shadow_load(address, width, False)

    def supervisor_shadow_store(self, address: Any, width: int, value: Any, /) -> None:
        self._shadow_store(address, width, value, False)

    def probe_supervisor_shadow_store(self, address: Any, width: int, /) -> None:
        self._probe_shadow_store(address, width, False)

    def _shadow_load(self, address: Any, width: int, user: bool) -> Any:
        self._check(address, width, Vector.GP, write=False, shadow=True, user=user)
        return self._load(address, width)

    def _shadow_store(self, address: Any, width: int, value: Any, user: bool) -> None:
        self._probe_shadow_store(address, width, user)
        self.memory.store(as_word(address), width, as_word(value), shadow=True)

    def _probe_shadow_store(self, address: Any, width: int, user: bool) -> None:
        self._check(address, width, Vector.GP, write=True, shadow=True, user=user)

    def _load(self, address: Any, width: int) -> Word:
        return Word(self.memory.load(as_word(address), width), self.decide)

    def _user(self) -> bool:
        return bool(self.cpl == 3)

    def _check(
        self, address: Any, width: int, odd: Vector, *, write: bool, shadow: bool, user: bool
    ) -> None:
        """Fault unless the access is allowed; ``odd``: for an address that is not canonical."""
        first = as_word(address)
        last = z3.simplify(first + word(width - 1))
        there, end = self.pages.allow(first, width, allowing(write=write, shadow=shadow, user=user))
        if self.decide(z3.And(there, end)):
            return
        at = z3.If(there, last & word(~0xFFF), first)
        bits = PageFaultCode.W * write | PageFaultCode.U * user | PageFaultCode.SS * shadow
        present = z3.If(self.pages.mapped(at), word(PageFaultCode.P), word(0))
        paged = z3.And(canonical(first), canonical(last))
        raise Faulted(
            f"#PF or #{odd.name}",
            z3.simplify(z3.If(paged, word(Vector.PF), word(odd))),
            z3.simplify(z3.If(paged, word(int(bits)) | present, word(0))),
            z3.simplify(at),
        )

    # -- segments and faults -----------------------------------------------------------------
    def code_segment_l(self, selector: Any, /) -> Any:
        index = self._segment(selector)
        return index.isin(_LONG)

    def code_segment_dpl(self, selector: Any, /) -> Any:
        index = self._segment(selector)
        user = as_bool(index.isin(_USER))
        return Word(z3.If(user, word(3), word(0)), self.decide)

    def _segment(self, selector: Any) -> Word:
        """The selector without RPL; #GP(selector) where it names no code segment of Linux's."""
        index = Word(z3.simplify(as_word(selector) & word(_NOT_RPL)), self.decide)
        if index.isin(_SEGMENTS):
            return index
        self.fault(Vector.GP, index)

    def fault(self, vector: Vector, error_code: Any = 0, /) -> NoReturn:
        raise Faulted(f"#{vector.name}", word(vector), as_word(error_code))


if TYPE_CHECKING:

    def _is_a_cpu(c: SymbolicCpu) -> Cpu:
        return c
