"""What an operation did, in words and as JSON: its effects, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from counterexamples.expected import ERRNO_NAMES, VECTORS
from counterexamples.named import size_text
from counterexamples.names import Names
from counterexamples.views import AreaView, TaskView, View
from model.cpu.world import ControlProtection
from model.reference.machine import (
    Died,
    Effect,
    Faulted,
    KernelUnmaps,
    Machine,
    Read,
    Returned,
    Signalled,
    Started,
    Warning_,
)
from model.reference.signals import NAMES as SIGNAL_NAMES
from model.state import Ctl, Kind
from model.world import PAGE_SIZE

VECTOR_NAMES = {number: name for name, number in VECTORS.items()}
# The bits of a page fault's error code, and what their absence means.
PF_BITS = (
    (0x2, "write", "read"),
    (0x4, "user", "kernel"),
    (0x10, "instruction fetch", ""),
    (0x40, "shadow stack", ""),
)

Row = tuple[str, str]  # whose, what


@dataclass(frozen=True)
class Teller:
    """Who knows what things are called, before and after an operation."""

    machine: Machine
    names: Names
    before: View
    after: View

    # -- effects -------------------------------------------------------------------
    def effect(self, effect: Effect) -> Row:
        """An effect: whose it is, and what happened."""
        return effect.task, self._words(effect)

    def _words(self, effect: Effect) -> str:
        match effect:
            case Returned():
                return f"{effect.call} returns {self._result(effect)}"
            case Faulted():
                return f"{effect.instruction} raises {self._exception(effect)}"
            case Signalled():
                return f"the handler of {SIGNAL_NAMES.get(effect.signal, effect.signal)} is entered"
            case Died():
                return f"is gone: {effect.cause}"
            case Warning_():
                return f"WARN {effect.text}"
            case Started():
                if effect.what == "execve":
                    return "a new image starts"
                worker = effect.what == "worker"
                return "a kernel worker is made" if worker else f"is made by {effect.what}"
            case KernelUnmaps():
                return self._unmaps(effect)
            case Read():
                return f"{effect.what} is {effect.value:#x}{self._also(effect.task, effect.value)}"
        return type(effect).__name__

    def _unmaps(self, effect: KernelUnmaps) -> str:
        symbol = self.names.symbol(self._mm(effect.task), effect.start)
        there = [f"{kind} of {owner}" if owner else kind for _, _, kind, owner in effect.there]
        what = " and ".join(there) or "nothing is mapped there"
        return f"the kernel unmaps {symbol} ({size_text(effect.size)}) on its behalf: {what}"

    def _result(self, effect: Returned) -> str:
        value = effect.value
        if value < 0:
            return f"-{ERRNO_NAMES.get(-value, -value)}"
        if value >= PAGE_SIZE:
            return f"{value:#x}{self._also(effect.task, value)}"
        if effect.call in ("fork", "vfork", "clone", "clone3", "io_uring_enter") and value:
            return f"{value}, the number of {self._task(value)}"
        return str(value)

    def _task(self, tid: int) -> str:
        thread = self.machine.system.threads.get(tid) or self.machine.system.dead.get(tid)
        return thread.name if thread else "a task"

    def _also(self, task: str, value: int) -> str:
        mm = self._mm(task)
        area = self.after.area(mm, value)
        if area is not None and not self.names.of(mm, area):
            return ""  # it is in something without a name, not at the end of what is below
        symbol = self.names.symbol(mm, value)
        return "" if symbol.startswith("0x") else f" ({symbol})"

    def _exception(self, fault: Faulted) -> str:
        name = VECTOR_NAMES.get(fault.vector, f"vector {fault.vector}")
        if name == "#UD":
            return name
        text = f"{name} error {fault.error_code:#x}"
        if name == "#CP":
            return f"{text} ({ControlProtection(fault.error_code).name.replace('_', '-')})"
        if name != "#PF" or fault.address is None:
            return text
        bits = [yes if fault.error_code & bit else no for bit, yes, no in PF_BITS]
        present = "present" if fault.error_code & 1 else "not present"
        where = self.names.place(self._mm(fault.task), fault.address, self.before)
        text += f" ({', '.join(filter(None, bits))}; {present}) at {fault.address:#x}"
        return f"{text}, {where}" if where else text

    def _mm(self, task: str) -> int:
        view = self.before.tasks.get(task) or self.after.tasks.get(task)
        return view.mm if view else -1

    # -- what changed ----------------------------------------------------------------
    def changes(self) -> list[Row]:
        """Only what is different now, tasks first."""
        rows: list[Row] = []
        for name, new in self.after.tasks.items():
            old = self.before.tasks.get(name)
            parts = list(self._task_changes(old, new)) if old else [self._created(new)]
            if parts:
                rows.append((name, ", ".join(parts)))
        for mm in sorted({*self.before.mms, *self.after.mms}):
            rows += self._mm_changes(mm)
        return rows

    def _created(self, task: TaskView) -> str:
        mates = [
            name
            for name, other in self.after.tasks.items()
            if other.group == task.group and other is not task
        ]
        parts = [
            f"mm{task.mm}",
            f"base {self._base(task)}",
            f"size {size_text(task.size) if task.size else 0}",
            f"SSP {self._ssp(task)}",
        ]
        parts += [f"features {' '.join(task.features)}"] * bool(task.features)
        parts += [f"features_locked {' '.join(task.locked)}"] * bool(task.locked)
        parts += [f"in the thread group of {' and '.join(mates)}"] * bool(mates)
        return ", ".join(parts)

    def _task_changes(self, old: TaskView, new: TaskView) -> Iterator[str]:
        if old.mm != new.mm:
            yield f"mm{old.mm} → mm{new.mm}"
        if old.base != new.base:
            yield f"base {self._base(old)} → {self._base(new)}"
        if old.size != new.size:
            sizes = [size_text(s) if s else "0" for s in (old.size, new.size)]
            yield f"size {sizes[0]} → {sizes[1]}"
        if (old.ssp, old.stack) != (new.ssp, new.stack):
            yield f"SSP {self._ssp(old)} → {self._ssp(new)}"
        for what, was, now in (
            ("features", old.features, new.features),
            ("features_locked", old.locked, new.locked),
        ):
            signs = [f"+{f}" for f in now if f not in was] + [f"-{f}" for f in was if f not in now]
            if signs:
                yield f"{what} {' '.join(signs)}"
        if new.dying and not old.dying:
            yield "a fatal signal is pending"
        if old.ctl is not new.ctl:
            back = "back " if new.ctl is Ctl.USER and old.ctl is not Ctl.NEW else ""
            yield f"{back}in {new.ctl.value}"

    def _base(self, task: TaskView) -> str:
        return self.names.symbol(task.mm, task.base) if task.base else "NULL"

    def _ssp(self, task: TaskView) -> str:
        return "off" if task.ssp is None else self.names.symbol(task.mm, task.ssp, task.stack)

    def _mm_changes(self, mm: int) -> Iterator[Row]:
        if mm not in self.after.mms:
            yield "-", f"mm{mm} is gone, with all that was mapped in it"
            return
        was = {(a.start, a.kind): a for a in self.before.mms.get(mm, ())}
        now = {(a.start, a.kind): a for a in self.after.mms[mm]}
        for key, area in was.items():
            if key not in now:
                yield "-", self.area(mm, area)
        if mm not in self.before.mms:
            yield "+", f"mm{mm} is new" + ("" if now else ": a fresh program image")
        for key, area in now.items():
            if key not in was:
                yield "+", self.area(mm, area)
            elif parts := list(_area_changes(was[key], area)):
                yield "~", f"{self.area_name(mm, area)} in mm{mm}: {', '.join(parts)}"

    def area(self, mm: int, area: AreaView) -> str:
        """A mapping in a line."""
        name = self.names.of(mm, area)
        where = f"{area.start:#x}-{area.end:#x}  {size_text(area.size)} {kind_words(area)}"
        return f"{name + '  ' if name else ''}{where}, in mm{mm}"

    def area_name(self, mm: int, area: AreaView) -> str:
        """The name of a mapping, or where it begins."""
        return self.names.of(mm, area) or f"{area.start:#x}"


def kind_words(area: AreaView, kinds: Mapping[Kind, str] | None = None) -> str:
    """What is mapped, and whose it is; ``kinds``: shorter words for some kinds."""
    words = (kinds or {}).get(area.kind, area.kind.value)
    if area.access != "rw":
        words += f" ({area.access})"
    if area.owner:
        words += f" of {area.owner}"
    if area.left and area.kind is not Kind.ORPHAN:
        words += ", owner left"
    return words + ", sealed" * area.sealed


def _area_changes(old: AreaView, new: AreaView) -> Iterator[str]:
    if old.end != new.end:
        yield f"ends at {new.end:#x}, not {old.end:#x}"
    if (old.owner, old.left) != (new.owner, new.left):
        whose = new.owner or ("nobody (it has left)" if new.left else "nobody")
        yield f"owner {old.owner or 'nobody'} → {whose}"
    if old.access != new.access:
        yield f"{old.access} → {new.access}"
    if old.sealed != new.sealed:
        yield "is sealed"


# -- JSON --------------------------------------------------------------------------


def effect_json(effect: Effect) -> dict[str, object]:
    """An effect as plain data; ``effect`` says which."""
    name = type(effect).__name__.rstrip("_").lower()
    return {"effect": name, **asdict(effect)}


def task_json(task: TaskView) -> dict[str, object]:
    """A task as plain data; SSP is null where shadow stacks are off for the CPU."""
    return {
        "ctl": task.ctl.value,
        "mm": task.mm,
        "ssp": task.ssp,
        "base": task.base,
        "size": task.size,
        "features": list(task.features),
        "features_locked": list(task.locked),
        "dying": task.dying,
    }


def area_json(area: AreaView, name: str) -> dict[str, object]:
    """A mapping as plain data; ``owner`` is null where it has none, or it has left."""
    return {
        "name": name or None,
        "start": area.start,
        "end": area.end,
        "kind": area.kind.value,
        "shadow_stack": area.shadow,
        "owner": area.owner or None,
        "owner_left": area.left,
        "sealed": area.sealed,
        "access": area.access,
    }
