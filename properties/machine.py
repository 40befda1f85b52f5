"""Claims about runs of the reference machine: what they can ask.

A claim here speaks of a *run*: the move that has just happened, the tasks before and after
it, and what the property remembers of all moves before.  It says in words what is wrong.
These claims are not among ``PROPERTIES``, which the life-cycle worlds evaluate.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from model.reference.machine import Effect, Signalled
from model.reference.memory import IN_PAGE, PAGE_SHIFT
from model.reference.system import System, Thread
from model.reference.values import Range
from model.reference.vma import AddressSpace
from model.reference.world import SH_STK_EN, is_dying
from model.state import NULL, Ctl, Special

WORD = 8  # bytes
BRANCHES = ("call", "ret", "incsspq", "incsspd", "longjmp")  # what moves SSP along a stack


class TaskAt(NamedTuple):
    """A task at an instant.  ``ssp``: None where shadow stacks are off for the CPU.

    ``stack``: the range that SSP belongs to, mapped or not any more.  ``awaited``: the
    parent waits in vfork().
    """

    tid: int
    name: str
    mm: int | Special
    ctl: Ctl
    ssp: int | None
    rsp: int
    stack: Range | None
    awaited: bool


Tasks = Mapping[int, TaskAt]


def look(system: System) -> Tasks:
    """All live tasks as they are now, by number."""
    return {thread.tid: _task(thread) for thread in system.threads.values()}


def _task(t: Thread) -> TaskAt:
    on = t.regs.u_cet & SH_STK_EN
    rsp = t.frame.rsp if t.frame else t.regs.rsp
    stack = t.stack if isinstance(t.stack, Range) else None
    awaited = t.vfork_done is not NULL
    return TaskAt(t.tid, t.name, t.mm, t.ctl, t.ssp if on else None, rsp, stack, awaited)


@dataclass(frozen=True)
class Run:
    """A run up to now.  ``tid`` has made the last move, the ``index``-th one of an operation.

    ``operation`` and ``arguments`` are those of task ``doer``; other tasks may move before
    it ends.  ``steps``: the steps of the life cycle that the move is.
    """

    system: System
    tid: int
    doer: str
    operation: str
    arguments: Mapping[str, object]
    index: int
    before: Tasks
    after: Tasks
    effects: tuple[Effect, ...]
    steps: tuple[str, ...]
    memory: Any

    @property
    def own(self) -> str:
        """The operation, if the move is its task's; '' for what another task does meanwhile."""
        there = self.before.get(self.tid)
        return self.operation if there is not None and there.name == self.doer else ""

    @property
    def instruction(self) -> str:
        """The same, if it is also the operation's first move."""
        return self.own if self.index == 0 else ""

    @property
    def ssp(self) -> tuple[int, int] | None:
        """SSP of who has moved, before and after; None where it is gone, or off."""
        was, now = self.before.get(self.tid), self.after.get(self.tid)
        if was is None or now is None or was.ssp is None or now.ssp is None:
            return None
        return was.ssp, now.ssp

    @property
    def pivots(self) -> bool:
        """The move is an RSTORSSP that succeeds."""
        return "rstorssp" in self.steps

    def signalled(self) -> bool:
        """Who has moved is in a signal handler now."""
        name = self.after[self.tid].name if self.tid in self.after else ""
        return any(isinstance(e, Signalled) and e.task == name for e in self.effects)

    def can_run(self, tid: int) -> bool:
        """In user mode, no fatal signal pending."""
        if self.after[tid].ctl is not Ctl.USER:
            return False
        return not is_dying(self.system, self.system.threads[tid])

    def space(self, mm: int | Special) -> AddressSpace | None:
        """An address space as it is now."""
        return self.system.mms.get(mm) if isinstance(mm, int) else None


def word(space: AddressSpace, address: int) -> int:
    """The 8 bytes at an aligned address; 0 where nothing was written, or is mapped."""
    page = space.pages.present.get(address >> PAGE_SHIFT)
    return page.words.get(address & IN_PAGE, 0) if page else 0


Words = tuple[tuple[int, int], ...]  # address and value of what is not 0


def words(space: AddressSpace | None, start: int, end: int) -> Words | None:
    """What lies in [start, end) of a shadow stack; None where that is not mapped."""
    area = space.find(start) if space is not None and start < end else None
    if space is None or (start < end and (area is None or not area.shadow or area.end < end)):
        return None
    there = [(a, word(space, a)) for a in range(start, end, WORD)] if area else []
    return tuple((a, value) for a, value in there if value)


Claim = Callable[[Run], str]


@dataclass(frozen=True)
class MachineConjunct:
    """One part of a property: ``wrong`` says what is wrong with a run's last move, '' if nothing.

    It is asked only where ``premise`` is true, which some run has to reach.
    """

    name: str
    wrong: Claim
    premise: Callable[[Run], bool]

    def holds(self, run: Run) -> bool:
        """Nothing is wrong with the last move."""
        return not self.premise(run) or not self.wrong(run)

    @property
    def where(self) -> str:
        """File and line the claim is written at, relative to the project."""
        path = Path(inspect.getsourcefile(self.wrong) or "?")
        return f"{path.parent.name}/{path.name}:{self.wrong.__code__.co_firstlineno}"


def nothing(_run: Run) -> Hashable:
    """What a property remembers that asks for the last move only."""
    return frozenset()


@dataclass
class MachineProperty:
    """A claim about every run of the machine.

    ``remember``: what is to be known of a run, last move included, when the next one comes;
    it starts as ``frozenset()``, and two runs are alike if system and memory are.
    """

    id: str
    claim: str
    source: str
    conjuncts: list[MachineConjunct] = field(default_factory=list)
    remember: Callable[[Run], Hashable] = nothing

    def remembers(self, remember: Callable[[Run], Hashable]) -> Callable[[Run], Hashable]:
        """Say what the property remembers."""
        self.remember = remember
        return remember

    def whenever(self, name: str, premise: Callable[[Run], bool]) -> Callable[[Claim], Claim]:
        """Add a conjunct about every move that makes the premise true."""

        def add(wrong: Claim) -> Claim:
            self.conjuncts.append(MachineConjunct(name, wrong, premise))
            return wrong

        return add


MACHINE_PROPERTIES: dict[str, MachineProperty] = {}


def declare(id: str, claim: str, source: str) -> MachineProperty:
    """A new property, in the registry."""
    MACHINE_PROPERTIES[id] = MachineProperty(id, claim, source)
    return MACHINE_PROPERTIES[id]
