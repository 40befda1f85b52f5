"""Current's user memory as the kernel sees it, over the same terms as the CPU's world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import z3

from model.kernel.errno import EFAULT, EINTR
from model.kernel.uaccess import UserMemory
from shstk.proof.cpu_world import SymbolicCpu
from shstk.proof.forking import Stop
from shstk.proof.memory import STACKS, USER, Kind, allowing
from shstk.proof.terms import BITS, SymbolicCond, Word, as_word

WORDS = ("features", "features_locked", "shstk_base", "shstk_size")
FLAGS = ("wrss", "missing", "ia32", "killed")


def any_word(name: str) -> z3.BitVecRef:
    """An arbitrary word; the same name is the same word."""
    return z3.BitVec(name, BITS)


class SymbolicUser:
    """``model.kernel.uaccess.UserMemory``, on one path.

    SSP is IA32_PL3_SSP in the kernel, and what goes before and after is the CPU's matter.
    ``mmap_shadow_stack`` gives an arbitrary place: its search is not here.
    """

    features: Any
    features_locked: Any
    shstk_base: Any
    shstk_size: Any
    wrss: Any

    def __init__(self, cpu: SymbolicCpu, name: str = "") -> None:
        self.cpu = cpu
        self.name = name
        for register in WORDS:
            setattr(self, register, Word(any_word(name + register), cpu.decide))
        self.wrss = self._flag("wrss")

    def _flag(self, name: str) -> SymbolicCond:
        return SymbolicCond(z3.Bool(self.name + name), self.cpu.decide)

    @property
    def ssp(self) -> Any:
        return self.cpu.pl3_ssp

    @ssp.setter
    def ssp(self, value: Any) -> None:
        self.cpu.pl3_ssp = value

    @property
    def u_cet(self) -> Any:
        return self.cpu.u_cet

    @u_cet.setter
    def u_cet(self, value: Any) -> None:
        self.cpu.u_cet = value

    def user_shstk_missing(self) -> Any:
        return self._flag("missing")

    def in_ia32_syscall(self) -> Any:
        return self._flag("ia32")

    # -- memory --------------------------------------------------------------------------
    def write_user_shstk_64(self, addr: Any, value: Any) -> int:
        return self._store(addr, 8, value, shadow=True)

    def write_user_shstk_32(self, addr: Any, value: Any) -> int:
        return self._store(addr, 4, value, shadow=True)

    def _store(self, addr: Any, width: int, value: Any, *, shadow: bool) -> int:
        aligned = as_word(addr) & (width - 1) == 0 if shadow else z3.BoolVal(True)
        kinds = allowing(write=True, shadow=shadow, user=True)
        if self.cpu.decide(z3.And(aligned, *self.cpu.pages.allow(as_word(addr), width, kinds))):
            self.cpu.memory.store(as_word(addr), width, as_word(value), shadow=shadow)
            return 0
        return EFAULT

    def get_user(self, addr: Any) -> tuple[Any, int]:
        if self.cpu.decide(z3.And(*self.cpu.pages.allow(as_word(addr), 8, USER))):
            return Word(self.cpu.memory.load(as_word(addr), 8), self.cpu.decide), 0
        return 0, EFAULT

    def put_user(self, addr: Any, value: Any) -> int:
        return self._store(addr, 8, value, shadow=False)

    def copy_to_user(self, addr: Any, words: tuple[Any, ...]) -> int:
        for number, value in enumerate(words):
            if self.put_user(addr + 8 * number, value):
                return 8 * (len(words) - number)
        return 0

    # -- areas ---------------------------------------------------------------------------
    def vma_is_shadow_stack(self, addr: Any) -> Any:
        """Where something is mapped, what it is; else what the next area is, which is arbitrary."""
        at, pages = as_word(addr), self.cpu.pages
        above = z3.Function(self.name + "above_is_shadow", z3.BitVecSort(BITS), z3.BoolSort())
        here = pages.among(at, (*USER, Kind.NO_ACCESS))
        is_stack = z3.If(here, pages.among(at, STACKS), above(at))
        return SymbolicCond(is_stack, self.cpu.decide)

    def mmap_read_lock_killable(self) -> int:
        return EINTR if self._flag("killed") else 0

    def mmap_shadow_stack(
        self, addr: Any, size: Any, *, fixed_noreplace: Any, above_4g: bool
    ) -> tuple[Any, int]:
        raise Stop("unsupported", "where a new area goes is not known here")

    def munmap(self, addr: Any, size: Any) -> int:
        raise Stop("unsupported", "unmapping is not known here")


if TYPE_CHECKING:

    def _is_user_memory(u: SymbolicUser) -> UserMemory:
        return u
