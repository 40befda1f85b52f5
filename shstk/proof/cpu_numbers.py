"""Moves on numbers: the concrete CPU and kernel text on what a solver's model says of memory.

Contents and pages are those of ``shstk.proof.memory``, but as numbers, and nothing of a term is
left: that a claim is wrong is seen on registers and bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from model.cpu.concrete import REGISTERS, ConcreteCpu, CpuFault, PageFault, Registers
from model.cpu.words import MASK64, noncanonical
from model.cpu.world import PageFaultCode, Vector
from model.designs.design import Design
from model.kernel.errno import EFAULT, EINTR
from model.kernel.mmap import TASK_SIZE_MAX
from model.world import PAGE_SIZE
from shstk.proof.cpu_moves import Move
from shstk.proof.forking import Stop
from shstk.proof.memory import STACKS, USER, Kind, allowing

Numbers = Mapping[str, int]
_MAPPED_USER = (*USER, Kind.NO_ACCESS)


@dataclass
class NumberMemory:
    """``model.cpu.concrete.Memory``: bytes that have been stored, over what a model says."""

    numbers: Numbers
    name: str
    stored: dict[int, int] = field(default_factory=dict)
    pushed: set[int] = field(default_factory=set)  # where shadow-stack stores have gone

    def copy(self) -> NumberMemory:
        """The memory as it is now."""
        return NumberMemory(self.numbers, self.name, dict(self.stored), set(self.pushed))

    def _look(self, function: str, at: int) -> int:
        function = self.name + function
        return self.numbers.get(f"{function}[{at:#x}]", self.numbers.get(f"{function}[else]", 0))

    def byte(self, address: int) -> int:
        """The byte there, whatever the page is."""
        address &= MASK64
        initial = self._look("mem", address >> 3) >> 8 * (address & 7) & 0xFF
        return self.stored.get(address, initial)

    def peek(self, address: int, width: int) -> int:
        """The little-endian number there, whatever the page is."""
        return int.from_bytes(bytes(self.byte(address + i) for i in range(width)), "little")

    def kind(self, address: int) -> Kind:
        """What the page is: a user's only in the user's address space."""
        address &= MASK64
        kind = Kind(self._look("kind", address // PAGE_SIZE))
        if noncanonical(address) or (kind in USER and address >= TASK_SIZE_MAX):
            return Kind.UNMAPPED
        return kind

    # -- what the CPU asks ------------------------------------------------------------
    def load(self, address: int, width: int, shadow: bool, user: bool, /) -> int:
        self._check(address, width, write=False, shadow=shadow, user=user)
        return self.peek(address, width)

    def store(self, address: int, width: int, value: int, shadow: bool, user: bool, /) -> None:
        self._check(address, width, write=True, shadow=shadow, user=user)
        for i, byte in enumerate((value % (1 << 8 * width)).to_bytes(width, "little")):
            at = (address + i) & MASK64
            self.stored[at] = byte
            if shadow:
                self.pushed.add(at)

    def probe_store(self, address: int, width: int, shadow: bool, user: bool, /) -> None:
        self._check(address, width, write=True, shadow=shadow, user=user)

    def _check(self, address: int, width: int, *, write: bool, shadow: bool, user: bool) -> None:
        allowed = allowing(write=write, shadow=shadow, user=user)
        for at in (address, (address + width - 1) & MASK64):
            if self.kind(at) not in allowed:
                code = PageFaultCode.W * write | PageFaultCode.U * user | PageFaultCode.SS * shadow
                present = PageFaultCode.P * (self.kind(at) is not Kind.UNMAPPED)
                first = address if at == address else at - at % PAGE_SIZE
                raise PageFault(first, int(code | present))


@dataclass
class NumberUser:
    """``model.kernel.uaccess.UserMemory`` on that memory."""

    cpu: ConcreteCpu
    memory: NumberMemory
    numbers: Numbers
    name: str

    def __post_init__(self) -> None:
        self.features = self._number("features")
        self.features_locked = self._number("features_locked")
        self.shstk_base = self._number("shstk_base")
        self.shstk_size = self._number("shstk_size")
        self.wrss = bool(self._number("wrss"))

    def _number(self, name: str) -> int:
        return self.numbers.get(self.name + name, 0)

    @property
    def ssp(self) -> int:
        return self.cpu.pl3_ssp

    @ssp.setter
    def ssp(self, value: int) -> None:
        self.cpu.pl3_ssp = value

    @property
    def u_cet(self) -> int:
        return self.cpu.u_cet

    @u_cet.setter
    def u_cet(self, value: int) -> None:
        self.cpu.u_cet = value

    def user_shstk_missing(self) -> bool:
        return bool(self._number("missing"))

    def in_ia32_syscall(self) -> bool:
        return bool(self._number("ia32"))

    def write_user_shstk_64(self, addr: int, value: int) -> int:
        return EFAULT if addr % 8 else self._store(addr, 8, value, True)

    def write_user_shstk_32(self, addr: int, value: int) -> int:
        return EFAULT if addr % 4 else self._store(addr, 4, value, True)

    def _store(self, addr: int, width: int, value: int, shadow: bool) -> int:
        try:
            self.memory.store(addr, width, value, shadow, True)
        except PageFault:
            return EFAULT
        return 0

    def get_user(self, addr: int) -> tuple[int, int]:
        try:
            return self.memory.load(addr, 8, False, True), 0
        except PageFault:
            return 0, EFAULT

    def put_user(self, addr: int, value: int) -> int:
        return self._store(addr, 8, value, False)

    def copy_to_user(self, addr: int, words: tuple[int, ...]) -> int:
        for done, value in enumerate(words):
            if self.put_user((addr + 8 * done) & MASK64, value):
                return 8 * (len(words) - done)
        return 0

    def vma_is_shadow_stack(self, addr: int) -> bool:
        kind = self.memory.kind(addr)
        if kind in _MAPPED_USER:
            return kind in STACKS
        above = f"{self.name}above_is_shadow"
        return bool(self.numbers.get(f"{above}[{addr:#x}]", self.numbers.get(f"{above}[else]", 0)))

    def mmap_read_lock_killable(self) -> int:
        return EINTR if self._number("killed") else 0


class NumberMoment:
    """``properties.memory.vocabulary.Moment`` on numbers."""

    def __init__(self, registers: Registers, memory: NumberMemory) -> None:
        self.registers = registers.copy()
        self.memory = memory.copy()

    def __getattr__(self, name: str) -> Any:
        if name not in REGISTERS:
            raise AttributeError(name)
        return getattr(self.registers, name)

    @property
    def ssp(self) -> int:
        r = self.registers
        return r.ssp if r.cpl == 3 else r.pl3_ssp

    def byte(self, address: int) -> int:
        return self.memory.byte(address)

    def dword(self, address: int) -> int:
        return self.memory.peek(address, 4)

    def word(self, address: int) -> int:
        return self.memory.peek(address, 8)

    def shadow(self, address: int) -> bool:
        return self.memory.kind(address) is Kind.SHADOW

    def stack(self, address: int) -> bool:
        return self.memory.kind(address) in STACKS

    def readable(self, address: int) -> bool:
        return self.memory.kind(address) in USER


class NumberBench:
    """A move's bench: everything as ``numbers`` say."""

    def __init__(self, design: Design, numbers: Numbers) -> None:
        self.design = design
        self.numbers = numbers
        self._start("")
        self.before = self.later = self.now()

    def _start(self, name: str) -> None:
        registers = Registers()
        for register in REGISTERS:
            value = self.numbers.get(name + register, 0)
            setattr(registers, register, bool(value) if register == "long_mode" else value)
        self.memory = NumberMemory(self.numbers, name)
        self.cpu = ConcreteCpu(registers, self.memory)
        self.user = NumberUser(self.cpu, self.memory, self.numbers, name)

    def now(self) -> NumberMoment:
        """Everything as it is."""
        return NumberMoment(self.cpu, self.memory)

    def operand(self, name: str) -> int:
        return self.numbers.get(name, 0)

    def require(self, condition: Any) -> None:
        if not condition:
            self.outside()

    def outside(self) -> NoReturn:
        raise Stop("outside")

    def handler(self, ssp: int) -> None:
        was = self.memory
        self._start("later_")
        self.later = self.now()
        self.require(self.cpu.ssp == ssp)
        self.require(all(self.memory.byte(at) == was.byte(at) for at in was.pushed))


class NumberStep:
    """``properties.memory.vocabulary.Step`` on numbers: the move, executed."""

    def __init__(self, move: Move, design: Design, numbers: Numbers) -> None:
        bench: Any = NumberBench(design, numbers)  # words are ints, and a text takes any
        self.design = design
        self.numbers = numbers
        self.guard_gaps = design.guard_gaps
        self.fault: CpuFault | None = None
        errno = 0
        try:
            errno = move(bench)
        except CpuFault as fault:
            self.fault = fault
        self.before, self.later, self.after = bench.before, bench.later, bench.now()
        self.faulted = self.fault is not None
        self.error = errno != 0
        self.done = not self.faulted and not self.error
        self.killed = bool(numbers.get("killed") or numbers.get("later_killed"))
        self.kernel_on = self._on("") and self._on("later_")
        self.registers_kept = self.before.registers == self.after.registers

    def _on(self, name: str) -> bool:
        there = not self.numbers.get(f"{name}missing", 0)
        features = self.numbers.get(f"{name}features", 0) & self.design.prctl.shstk
        return bool(there and features and self.numbers.get(f"{name}shstk_size", 0))

    def any(self, name: str) -> int:
        return self.numbers.get(name, 0)

    def raised(self, vector: Vector, code: int) -> bool:
        f = self.fault
        return f is not None and (f.vector, f.error_code) == (vector, code)

    def no(self, what: bool) -> bool:
        return not what

    def implies(self, what: bool, then: bool) -> bool:
        return not what or then
