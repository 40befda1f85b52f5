"""The state as the next instruction will find it, and whether anybody says what it does."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.cpu.words import MASK32, MASK64
from model.reference.vma import TASK_SIZE_MAX
from shstk.conform.instructions import layout
from shstk.conform.instructions.cases import Case, Step
from shstk.conform.instructions.predict import Run
from shstk.conform.instructions.table import MAP_SHADOW_STACK

USER_DS = 0x2B
FLAGS = 0x202  # interrupts on, nothing else
_CF = 1


@dataclass
class Ahead:
    """A run, and what the next step sets."""

    run: Run
    registers: dict[str, int] = field(default_factory=dict)
    words: dict[int, int] = field(default_factory=dict)

    @property
    def long_mode(self) -> bool:
        """The instruction is executed in 64-bit mode."""
        return self.run.regs.code_segment_l(self.get("cs"))

    @property
    def mask(self) -> int:
        """Of addresses."""
        return MASK64 if self.long_mode else MASK32

    def get(self, name: str) -> int:
        """A register."""
        if name in self.registers:
            return self.registers[name]
        known = self.run.general.get(name)
        return getattr(self.run.regs, name) if known is None else known

    def word(self, address: int) -> int | None:
        """The aligned word that ``address`` is in; None where it cannot be read."""
        at = address & ~7
        return self.words[at] if at in self.words else self.run.peek(at)

    def value(self, address: int, width: int) -> int | None:
        """The number at an address; None where it cannot be read."""
        low, high = self.word(address), self.word((address + width - 1) & MASK64)
        if low is None or high is None:
            return None
        both = low if low is high or address & 7 == 0 else low | high << 64
        return both >> 8 * (address & 7) & ((1 << 8 * width) - 1)


def outside(ahead: Ahead, name: str, arguments: tuple[int, ...]) -> bool:
    """Neither the text nor the manual says what an instruction does in this state.

    IRET with other flags than CF, or another SS; 32-bit code that uses its stack across
    4 GiB, which "may or may not cause the indicated exceptions" (SDM Vol. 3A, "Limit
    Checking"); code where there is none, which the model does not know of; and SYSCALL for
    another system call, where it is not fetched, or where the kernel chooses the place.
    """
    rip, rsp = ahead.get("rip"), ahead.get("rsp")
    if not layout.in_code(rip) and rip < TASK_SIZE_MAX:
        return True
    if not ahead.long_mode and (0 < rsp < 16 or rsp > MASK32 - 40):
        return True
    if name == "map_shadow_stack":
        known = ahead.get("rax") == MAP_SHADOW_STACK and ahead.get("rdi") != 0
        return not known or rip >= TASK_SIZE_MAX
    return name == "iret" and _iret_outside(ahead, arguments[0])


def _iret_outside(ahead: Ahead, width: int) -> bool:
    at = [(ahead.get("rsp") + n * width) & ahead.mask for n in range(5)]
    flags, selector = ahead.value(at[2], width), ahead.value(at[4], width)
    if flags is not None and flags | _CF != FLAGS | _CF:
        return True
    return ahead.long_mode and selector is not None and selector & 0xFFFF != USER_DS


def inside(case: Case) -> bool:
    """Of every step of a case somebody says what it does."""
    run = Run(case.mode)
    for step in case.steps:
        if outside(ahead_of(run, step), step.name, step.arguments):
            return False
        run.step(step)
        if run.faulted:
            return True
    return True


def ahead_of(run: Run, step: Step) -> Ahead:
    """The state in which a step's instruction will be executed."""
    return Ahead(run, step.registers, step.words)
