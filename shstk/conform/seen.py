"""What can be seen of a system after a step: as the machine predicts it, as a kernel shows it.

Plain numbers; what they are called is in ``symbols``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

USER, BLOCKED, DEAD, WORKER = "user", "blocked", "dead", "worker"
PAGE_FAULT = 14
FLAGS = ("rd", "wr", "ss", "sl")  # of VmFlags in smaps: what is compared
BAD_FRAME = "bad frame in rt_sigreturn"  # signal_fault() (arch/x86/kernel/signal.c, 6.12)


class Area(NamedTuple):
    """A shadow-stack area: its bytes, and those of ``FLAGS`` that are set."""

    start: int
    end: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """An exception of user code.

    ``address`` is None but for a page fault; ``si_code`` is what siginfo says, if that is known;
    ``instruction`` what raised it, '' where a kernel tells.
    """

    trapno: int
    error: int
    address: int | None = None
    si_code: int | None = None
    instruction: str = ""


@dataclass(frozen=True)
class Task:
    """A task.  ``ssp``: 0 where shadow stacks are off, None where nobody can know.

    ``features`` and ``locked``: bits 1 SHSTK, 2 WRSS.  ``exit``: the wait status of its thread
    group, as ``exit 3`` or ``signal 11``, '' where the kernel keeps none for it.  ``returned``:
    what a call returned in this step that began in an earlier one.  ``handled``: the signals
    whose handler was entered in this step.
    """

    state: str
    ssp: int | None = None
    features: int | None = None
    locked: int | None = None
    exit: str = ""
    fault: Fault | None = None
    returned: int | None = None
    handled: tuple[int, ...] = ()


@dataclass(frozen=True)
class Warned:
    """A WARN: the function that says it, and where it is (FILE:LINE, or what it means)."""

    function: str
    at: str


@dataclass(frozen=True)
class Seen:
    """A system after a step.

    ``result``: what the acting task's call returned or its instruction read, None for nothing.
    ``tasks`` by slot.  ``sharing``: sets of slots that use one mm, live tasks without workers;
    ``areas``: the shadow-stack areas of such a set, upwards.  ``other``: lines of the kernel's
    log that are no WARN of the tasks'.
    """

    result: int | None = None
    tasks: Mapping[int, Task] = field(default_factory=dict)
    areas: Mapping[frozenset[int], tuple[Area, ...]] = field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()
    other: tuple[str, ...] = ()

    def areas_of(self, slot: int) -> tuple[Area, ...]:
        """The shadow-stack areas of the mm that a task uses; none where it has gone."""
        return next((areas for users, areas in self.areas.items() if slot in users), ())


def joined(areas: Iterable[Area]) -> tuple[Area, ...]:
    """Neighbours with the same flags as one area, upwards.

    Whether Linux merges them depends on how their pages came to be (anon_vma), and the machine
    never does.

    >>> joined([Area(2, 3, ("rd",)), Area(1, 2, ("rd",)), Area(3, 4, ())])
    (Area(start=1, end=3, flags=('rd',)), Area(start=3, end=4, flags=()))
    """
    out: list[Area] = []
    for area in sorted(areas):
        if out and out[-1].end == area.start and out[-1].flags == area.flags:
            out[-1] = out[-1]._replace(end=area.end)
        else:
            out.append(area)
    return tuple(out)
