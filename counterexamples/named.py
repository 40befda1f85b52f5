"""What the objects of a trace are called, and sizes in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from counterexamples.trace import StateView, TraceStep
from model.state import Ctl, Special

# No letter is both a task's and an address's.
TASK_LETTERS = "PCDEFGHIJKLMNO"
ADDR_LETTERS = "ABSTUVWXYZ"


def size_text(size: int) -> str:
    """A number of bytes as people say it.

    >>> size_text(8 << 20), size_text((4 << 30) + 4096), size_text(5000)
    ('8 MiB', '4 GiB + 4 KiB', '5000 bytes')
    """
    if size == (1 << 64) - 1:
        return "unlimited"
    if size == 0 or size % 1024:
        return f"{size} bytes"
    parts = []
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> shift:
            parts.append(f"{size >> shift} {unit}")
            size &= (1 << shift) - 1
    return " + ".join(parts)


@dataclass
class Names:
    """What the objects are called; a slot that is used again gets a new name."""

    tasks: dict[int, str] = field(default_factory=dict)
    mms: dict[int, str] = field(default_factory=dict)
    addrs: dict[int, str] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)  # of tasks, in order of appearance
    _mms: int = 0

    def take(self, before: StateView, step: TraceStep) -> None:
        """Name what is new after a step."""
        self.look(before, step.state)
        child = step.picks.get("child")
        if type(child) is int and child not in live(step.state):
            self.tasks[child] = "the child"  # created and gone within the step

    def look(self, before: StateView | None, after: StateView) -> None:
        """Name what is new in ``after``."""
        for slot in _appeared(before, after, live):
            letter = len(self.given)
            name = TASK_LETTERS[letter] if letter < len(TASK_LETTERS) else f"T{letter}"
            self.tasks[slot] = name
            self.given.append(name)
        for slot in _appeared(before, after, used_mms):
            self.mms[slot] = f"mm{self._mms}"
            self._mms += 1

    def task(self, slot: object) -> str:
        """A task's name, or NULL."""
        return self.tasks.get(slot, f"task{slot}") if type(slot) is int else _special(slot)

    def mm(self, slot: object) -> str:
        """An mm's name, or NULL."""
        return self.mms.get(slot, f"mm-slot{slot}") if type(slot) is int else _special(slot)

    def addr(self, slot: object) -> str:
        """An address's name, given when it is first asked for, or NULL."""
        if type(slot) is not int:
            return _special(slot)
        if slot not in self.addrs:
            used = len(self.addrs)
            known = used < len(ADDR_LETTERS)
            self.addrs[slot] = ADDR_LETTERS[used] if known else f"A{used}"
        return self.addrs[slot]

    def words(self, note: str) -> str:
        """A note with its numbered objects called by their names."""
        called: dict[str, Callable[[object], str]] = {
            "task": self.task,
            "mm": self.mm,
            "address": self.addr,
        }
        return re.sub(r"\b(task|mm|address)(\d{1,9})\b", lambda m: called[m[1]](int(m[2])), note)


def _special(value: object) -> str:
    return str(value.value) if isinstance(value, Special) else str(value)


def live(state: StateView) -> list[int]:
    """The slots of the tasks that are there."""
    return [i for i, task in enumerate(state["tasks"]) if task["ctl"] is not Ctl.DEAD]


def used_mms(state: StateView) -> list[int]:
    """The slots of the mms that a task uses."""
    used = {task["mm"] for task in state["tasks"]}
    return [m for m in range(len(state["mms"])) if m in used]


def _appeared(
    before: StateView | None, after: StateView, there: Callable[[StateView], list[int]]
) -> list[int]:
    known = there(before) if before else []
    return [i for i in there(after) if i not in known]
