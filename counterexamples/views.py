"""What can be seen of the reference machine at a moment, and what differs between two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from model.reference.machine import Machine
from model.reference.system import System, Thread
from model.reference.values import Range
from model.reference.vma import AddressSpace, Vma
from model.reference.world import SH_STK_EN, ConcreteWorld
from model.state import LEFT, Ctl, Kind, Sort


@dataclass(frozen=True)
class TaskView:
    """A live task.  ``group`` and ``mm`` are numbers; ``ssp`` None: off for the CPU.

    ``stack``: the range that SSP belongs to, mapped or not any more.
    """

    ctl: Ctl
    group: int
    mm: int
    base: int
    size: int
    ssp: int | None
    stack: Range | None
    features: tuple[str, ...]
    locked: tuple[str, ...]
    dying: bool
    worker: bool


@dataclass(frozen=True)
class AreaView:
    """A mapping.  ``owner``: a task's name, or ''; ``left``: its owner has left the mm."""

    start: int
    end: int
    kind: Kind
    shadow: bool
    owner: str
    left: bool
    sealed: bool
    access: str  # "rw", "r" or "none"

    @property
    def size(self) -> int:
        """Bytes from start to end."""
        return self.end - self.start


@dataclass(frozen=True)
class View:
    """All tasks by name, and what is mapped in each mm beside the program image, upwards."""

    tasks: Mapping[str, TaskView]
    mms: Mapping[int, tuple[AreaView, ...]]

    def users(self, mm: int) -> list[str]:
        """The tasks that use an mm."""
        return [name for name, task in self.tasks.items() if task.mm == mm]

    def area(self, mm: int, address: int) -> AreaView | None:
        """What is mapped at an address, the image left out."""
        for area in self.mms.get(mm, ()):
            if area.start <= address < area.end:
                return area
        return None


def look(machine: Machine) -> View:
    """The machine now."""
    system = machine.system
    tasks = {thread.name: _task(machine, thread) for thread in system.threads.values()}
    return View(tasks, {mm: _areas(system, space) for mm, space in system.mms.items()})


def _task(machine: Machine, thread: Thread) -> TaskView:
    on = thread.regs.u_cet & SH_STK_EN != 0
    handle = ConcreteWorld(machine.system, thread.tid).handle(Sort.TASK, thread.tid)
    features = {"SHSTK": bool(machine.design.enabled(handle)), "WRSS": thread.wrss}
    locked = {"SHSTK": thread.locked_shstk, "WRSS": thread.locked_wrss}
    return TaskView(
        thread.ctl,
        thread.group if isinstance(thread.group, int) else -1,
        thread.mm if isinstance(thread.mm, int) else -1,
        thread.base,
        thread.size,
        thread.ssp if on else None,
        thread.stack if on and isinstance(thread.stack, Range) else None,
        tuple(name for name, is_on in features.items() if is_on),
        tuple(name for name, is_on in locked.items() if is_on),
        machine.dying(thread),
        thread.worker,
    )


def _areas(system: System, space: AddressSpace) -> tuple[AreaView, ...]:
    return tuple(_area(system, area) for area in space.areas if not area.image)


def _area(system: System, area: Vma) -> AreaView:
    owner = system.threads.get(area.owner) if isinstance(area.owner, int) else None
    return AreaView(
        area.start,
        area.end,
        area.kind,
        area.shadow,
        owner.name if owner else "",
        area.owner is LEFT,
        area.sealed,
        "rw" if area.write else "r" if area.read else "none",
    )


def changed(before: TaskView, after: TaskView) -> list[str]:
    """The fields that differ."""
    return [f.name for f in fields(before) if getattr(before, f.name) != getattr(after, f.name)]
