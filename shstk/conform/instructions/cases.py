"""Cases: what is set before each instruction, and the instruction; as text for guest and people.

case 17 wrss
set rip=0x20000000 rsp=0x30001800 ssp=0x30003800 cs=0x33 cf=0
word 0x30003800 0x20000002
do c3 ret
end
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shstk.conform.instructions.table import INSTRUCTIONS
from shstk.errors import UserError

MODES = {"off": 0, "shstk": 1, "wrss": 3}  # IA32_U_CET
REGISTERS = ("rip", "rsp", "ssp", "cs", "cf", "rax", "rcx", "rdx", "rdi", "rsi")


@dataclass(frozen=True)
class Step:
    """Registers and 8-byte words to be set, then one instruction.

    ``long_mode`` is what the bytes are encoded for; SSP can be set to multiples of 8 below
    TASK_SIZE_MAX, as the kernel allows.
    """

    name: str
    arguments: tuple[int, ...] = ()
    long_mode: bool = True
    registers: dict[str, int] = field(default_factory=dict)
    words: dict[int, int] = field(default_factory=dict)

    @property
    def code(self) -> bytes:
        """The instruction's bytes."""
        return INSTRUCTIONS[self.name].encode(self.long_mode, *self.arguments)

    def lines(self) -> Iterator[str]:
        """As the guest reads it."""
        if self.registers:
            yield "set " + " ".join(f"{name}={value:#x}" for name, value in self.registers.items())
        for address, value in self.words.items():
            yield f"word {address:#x} {value:#x}"
        yield " ".join(("do", self.code.hex(), self.name, *map(str, self.arguments)))


@dataclass(frozen=True)
class Case:
    """Steps of one task; the first sets every register that counts.

    ``group``: the areas it is about (``layout.GROUPS``).
    """

    number: int
    mode: str
    group: int
    steps: tuple[Step, ...]

    def text(self) -> str:
        """As the guest reads it."""
        lines = [line for step in self.steps for line in step.lines()]
        return "\n".join((f"case {self.number} {self.mode} {self.group}", *lines, "end")) + "\n"


def read_cases(text: str) -> list[Case]:
    """Cases from their text; UserError with the line that is wrong.

    Lines with the layout, comments (``#``) and empty lines are passed over.
    """
    cases: list[Case] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        words = line.split()
        if words[:1] == ["case"]:
            try:
                cases.append(_case(words, lines))
            except (ValueError, IndexError, KeyError) as wrong:
                raise UserError(f"line {number}: no case as it should be ({wrong})") from None
    return cases


def _case(words: list[str], lines: Iterable[tuple[int, str]]) -> Case:
    _, number, mode, group = words
    if mode not in MODES:
        raise ValueError(f"{mode} is none of {' '.join(MODES)}")
    steps: list[Step] = []
    registers: dict[str, int] = {}
    planted: dict[int, int] = {}
    for _, line in lines:
        kind, *rest = line.split() or ["#"]
        if kind == "end":
            return Case(int(number), mode, int(group), tuple(steps))
        if kind == "set":
            registers.update((name, int(value, 0)) for name, value in (w.split("=") for w in rest))
        elif kind == "word":
            planted[int(rest[0], 0)] = int(rest[1], 0)
        elif kind == "do":
            arguments = tuple(int(word) for word in rest[2:])
            step = Step(rest[1], arguments, True, registers, planted)
            if step.code.hex() != rest[0]:
                step = Step(rest[1], arguments, False, registers, planted)
            if step.code.hex() != rest[0]:
                raise ValueError(f"{rest[0]} is not {rest[1]}")
            steps.append(step)
            registers, planted = {}, {}
        elif not kind.startswith("#"):
            raise ValueError(f"{kind}: neither set, word, do nor end")
    raise ValueError("it has no end")
