"""One side of a comparison: what was seen, in words that are the same on both.

What nobody can predict is renamed or put in order, and nothing else is:

* absolute addresses are told by the range that a step made (``symbols``), code by its place;
* numbers of tasks are told by name;
* neighbouring areas with equal flags are one (``seen.joined``);
* where in the source a WARN is, is told by what it means, which has to be the same for the same
  place in a whole campaign; a WARN_ON_ONCE counts once a scenario, or once a boot where it
  cannot be armed again (``compare``);
* of `bad frame in rt_sigreturn` in the log: without the registers (``observe``).

What user space cannot see is not predicted (``predict``): what a call returned to a task that
has died since, or below two signal frames; an exception in the log for which there is a handler
that cannot be entered; the wait status of a thread, unless it dies with its whole group.

What the kernel's side does not know is not compared: ``si_code`` without a handler, and where the
log cannot be read exceptions and WARNs.  On an emulated CPU, where nothing is placed at random,
the shadow stacks' addresses are compared as numbers, too (``compare``).  Not looked at: RSP, RIP
and what lies on stacks; where ordinary mappings are; which function a WARN is in, and of whom it
speaks; what is warned of while the guest ends a scenario by killing what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from counterexamples.expected import ERRNO_NAMES, VECTORS
from counterexamples.named import size_text
from model.world import U64
from shstk.conform.seen import PAGE_FAULT, Area, Fault, Seen, Task
from shstk.conform.symbols import Symbols

VECTOR_NAMES = {number: name for name, number in VECTORS.items()}
ERRNOS = 4095  # results of system calls from -4095 to -1 are errors
NOTHING = "nothing"


class Question(Protocol):
    """What was asked, as far as a side has to know it (``compile.Asked``)."""

    @property
    def slot(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def mm(self) -> int: ...
    @property
    def mms(self) -> Mapping[int, int]: ...
    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def copied(self) -> tuple[int, int] | None: ...


class Side:
    """Follows one side step by step."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self._areas: dict[int, tuple[Area, ...]] = {}  # by mm, after the last step

    def rows(self, asked: Question, seen: Seen) -> dict[str, str]:
        """What was seen after a step: what, and how it is."""
        self._learn(asked, seen)
        rows = {"result": self._result(asked, seen.result)}
        for slot, task in sorted(seen.tasks.items()):
            name = asked.names.get(slot, f"task {slot}")
            mm = asked.mms.get(slot, asked.mm)
            for what, how in self._task(asked, mm, task).items():
                rows[f"{name}: {what}"] = how
        rows["who shares memory"] = self._sharing(asked, seen)
        for mm, slot in {mm: slot for slot, mm in sorted(asked.mms.items(), reverse=True)}.items():
            name = asked.names.get(slot, f"task {slot}")
            rows[f"{name}: shadow stacks"] = self._listed(mm, seen.areas_of(slot))
        return rows

    # -- learning -----------------------------------------------------------------------
    def _learn(self, asked: Question, seen: Seen) -> None:
        if asked.copied is not None:
            to, mm = asked.copied
            self.symbols.copy(mm, to)
            self._areas[to] = self._areas.get(mm, ())
        if asked.kind == "range" and seen.result is not None and _error(seen.result) == 0:
            self.symbols.learn(asked.mm, asked.name, seen.result, seen.result + asked.size)
        now = {mm: seen.areas_of(slot) for slot, mm in asked.mms.items()}
        for mm, areas in sorted(now.items()):
            known = self._areas.get(mm, ())
            new = [a for a in areas if not any(a.start < k.end and k.start < a.end for k in known)]
            for number, area in enumerate(new, 1):
                name = asked.name + (f"_{number}" if number > 1 else "")
                made = self.symbols.known(mm, name)
                if made is None or made.start != area.start:
                    self.symbols.learn(mm, name, area.start, area.end)
        self._areas = now

    # -- words ----------------------------------------------------------------------------
    def _result(self, asked: Question, result: int | None) -> str:
        if result is None:
            return NOTHING
        if asked.kind == "value" and _error(result) == 0:
            return self.symbols.value(asked.mm, result % U64)
        if _error(result):
            return f"-{ERRNO_NAMES.get(_error(result), _error(result))}"
        if asked.kind == "range":
            return self.symbols.address(asked.mm, result)
        if asked.kind == "task" and result:
            return asked.names.get(result, f"task {result}")
        return str(result)

    def _task(self, asked: Question, mm: int, task: Task) -> dict[str, str]:
        rows = {"state": task.state}
        if task.ssp is not None and task.state not in ("dead", "worker"):
            rows["SSP"] = self.symbols.address(mm, task.ssp) if task.ssp else "off"
        for what, bits in (("features", task.features), ("locked features", task.locked)):
            if bits is not None and task.state not in ("dead", "worker"):
                rows[what] = (
                    " ".join(n for n, b in (("SHSTK", 1), ("WRSS", 2)) if bits & b) or "none"
                )
        rows["wait status"] = task.exit or NOTHING
        rows["exception"] = self._fault(mm, task.fault) if task.fault else NOTHING
        if task.fault and task.fault.si_code is not None:
            rows["si_code"] = str(task.fault.si_code)
        rows["handlers entered"] = " ".join(map(str, task.handled)) or NOTHING
        if task.returned is None:
            rows["call that returned"] = NOTHING
        elif _error(task.returned):
            rows["call that returned"] = f"-{ERRNO_NAMES.get(_error(task.returned))}"
        else:
            rows["call that returned"] = asked.names.get(task.returned, str(task.returned))
        return rows

    def _fault(self, mm: int, fault: Fault) -> str:
        name = VECTOR_NAMES.get(fault.trapno, f"vector {fault.trapno}")
        text = f"{name} error {fault.error:#x}"
        if fault.trapno == PAGE_FAULT and fault.address is not None:
            text += f" at {self.symbols.address(mm, fault.address)}"
        return text

    def _sharing(self, asked: Question, seen: Seen) -> str:
        groups = [
            " and ".join(asked.names.get(s, str(s)) for s in sorted(users)) for users in seen.areas
        ]
        return "; ".join(sorted(groups)) or NOTHING

    def _listed(self, mm: int, areas: tuple[Area, ...]) -> str:
        words = []
        for area in areas:
            start = self.symbols.address(mm, area.start)
            size = size_text(area.end - area.start)
            words.append(f"{start} ({size}, {' '.join(area.flags)})")
        return ", ".join(words) or NOTHING


def _error(result: int) -> int:
    """The errno in what a system call returned, 0 for success."""
    return -result if -ERRNOS <= result < 0 else 0
