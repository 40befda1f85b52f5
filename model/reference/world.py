"""The concrete world: the kernel and design text executed on the reference machine.

Addresses are numbers, ranges have sizes, munmap takes what overlaps.  What the text
leaves open is decided by the machine: the arguments of the system call, the address
space (where there is room), or whoever drives it (``given``).  Every decision is kept
in ``picks``, so that it can be compared with what the finite world allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, cast

from model.designs import Design
from model.events import Event
from model.kernel import FAMILIES, Step
from model.kernel.errno import ENOMEM
from model.kernel.signal import fatal_signal_pending
from model.reference.system import Group as GroupState
from model.reference.system import System, Thread
from model.reference.tokens import SHSTK_TOKEN, restore_tokens
from model.reference.values import KNOWN, NOTHING, Range, Truth, Value, plain
from model.reference.vma import AddressSpace, Vma
from model.state import (
    LEFT,
    NULL,
    RECORD_OF,
    SHADOW_KINDS,
    Addr,
    Ctl,
    Exit,
    Field,
    Group,
    Kind,
    Mm,
    Off,
    Record,
    Sort,
    Special,
    Task,
)
from model.state import Mapping as MappingRecord
from model.world import PAGE_SIZE, Cond, Term, copied_kind, copied_owner

SH_STK_EN, WR_SHSTK_EN = 1, 2  # IA32_U_CET

Watch = Callable[["ConcreteWorld", Event], None]


class Disabled(Exception):
    """The step cannot happen here."""


_new = object.__new__
_TASK = Sort.TASK  # what is asked for most
_RECORDS: dict[str, type[Record]] = {sort.value: record for sort, record in RECORD_OF.items()}
FEW = 64
_FEW = tuple((Value(number),) for number in range(FEW))  # the indices of most objects


class Changes(Exception):
    """The step is about to change something, so it can happen: ends a trial run."""


class ConcreteWorld:
    """One execution of a text by a task.

    ``given``: decisions by name.  ``trial``: only find out whether the step can happen.
    ``watch`` is told of each event as it happens.  ``before`` is the system as it was.
    """

    def __init__(
        self,
        system: System,
        current: int,
        given: Mapping[str, object] | None = None,
        watch: Watch | None = None,
        before: System | None = None,
        trial: bool = False,
    ) -> None:
        self.system = system
        self.design: Design = system.design
        self.given = given or {}
        self.watch = watch
        self.system_before = before
        self.trial = trial
        self.changed = False
        self.picks: dict[str, object] = {}
        self._me = current

    # -- handles -----------------------------------------------------------------
    def handle(self, sort: Sort, number: object) -> Any:
        """The record of an object, or of NULL."""
        record: Any = _new(Task if sort is _TASK else _RECORDS[sort._value_])
        held = record.__dict__  # Record.__init__, which is asked for far more than all else
        held["world"] = self
        held["index"] = (
            _FEW[number] if type(number) is int and 0 <= number < FEW else (Value(number),)
        )
        return record

    @property
    def current(self) -> Task:
        """The task whose step this is."""
        return self.handle(Sort.TASK, self._me)  # type: ignore[no-any-return]

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""
        if self.system_before is None:
            raise ValueError("this world has not kept the state before the step")
        world: Any = ConcreteWorld(self.system_before, self._me)
        return type(record)(world, *record.index)

    # -- state -------------------------------------------------------------------
    def read(self, record: Record, field: Field[Any]) -> object:
        value, sort = self._read(record, field.name), field.sort
        return Value(value) if sort is None else self.handle(sort, value)

    def _read(self, record: Record, name: str) -> object:
        index: Any = record.index
        number = index[0].value
        if number is NULL or number is LEFT or number is NOTHING:
            return NOTHING
        if type(record) is Task:
            thread = self.system.threads.get(number)
            return _initial(Task, name) if thread is None else _TASK_FIELDS[name](thread)
        if type(record) is Group:
            return getattr(self.system.groups[number], name)
        range_ = index[1].value
        if range_ is NULL or range_ is LEFT or range_ is NOTHING:
            return NOTHING
        return _mapping_field(self.system.mms.get(number), range_, name)

    def write(self, record: Record, field: Field[Any], value: object) -> None:
        self._change()
        value = plain(value)
        number = plain(record)
        if isinstance(record, Task) and field.name == "off" and SHSTK_TOKEN in self.given:
            self.system.threads[number].ssp = cast(int, self.given[SHSTK_TOKEN]) + 8
        elif isinstance(record, Task):
            _set_task_field(self.system.threads[number], field.name, value)
        elif isinstance(record, Group):
            setattr(self.system.groups[number], field.name, value)
        elif field.name == "token":
            assert value is False, "the kernel's text only takes a token"
            token = cast(int, self.given[SHSTK_TOKEN])
            self.system.mms[number].store(token, 8, 0, shadow=True, user=True)
        else:
            range_ = cast(Range, plain(record.index[1]))
            _set_mapping_field(self.system.mms[number], range_, field.name, value)

    def _change(self) -> None:
        if self.trial:
            raise Changes
        self.changed = True

    # -- quantifiers -------------------------------------------------------------
    def exists_task(self, predicate: Callable[[Task], Cond]) -> Cond:
        for number in list(self.system.threads):
            if predicate(self.handle(_TASK, number)):
                return KNOWN[True]
        return KNOWN[False]

    def exists_addr(self, predicate: Callable[[Addr], Cond]) -> Cond:
        ranges = {
            area.start: Range(area.start, area.end - area.start)
            for space in self.system.mms.values()
            for area in space.areas
            if not area.image
        }
        return Truth(any(bool(predicate(self.handle(Sort.ADDR, r))) for r in ranges.values()))

    def exists_mm(self, predicate: Callable[[Mm], Cond]) -> Cond:
        return Truth(any(bool(predicate(self.handle(Sort.MM, n))) for n in self.system.mms))

    # -- decisions ---------------------------------------------------------------
    def require(self, condition: Cond | bool) -> None:
        if not condition:
            if self.changed:
                raise AssertionError("a step that has changed something must not give up")
            raise Disabled

    def choose(self, name: str, values: Sequence[object]) -> Term:
        if name in self.given:
            value = self.given[name]
        elif name == "RLIMIT_STACK":
            value = self.system.groups[plain(self.current.group)].rlimit_stack
        else:
            value = values[0]
        self.picks[name] = value
        return Value(value)

    def number(self, name: str, samples: Sequence[int]) -> Term:
        return self.choose(name, samples)

    def may(self, family: str, name: str = "") -> Cond:
        if family not in FAMILIES:
            raise ValueError(f"unknown event family {family!r} in the text")
        return Truth(bool(plain(self.choose(name or family, (False, True)))))

    def any_addr(self, name: str) -> Addr:
        value = self.given[name]
        self.picks[name] = value
        return cast(Addr, self.handle(Sort.ADDR, value))

    def some_task(self, predicate: Callable[[Task], Cond]) -> Task:
        fits = [n for n in self.system.threads if predicate(self.handle(Sort.TASK, n))]
        self.require(Truth(bool(fits)))
        chosen = self.given.get("other", fits[0])
        self.picks["other"] = chosen
        return cast(Task, self.handle(Sort.TASK, chosen))

    # -- fresh objects -------------------------------------------------------------
    def fresh_task(self, name: str) -> Task:
        self._change()
        tid = self.system.number("task")
        self.picks[name] = tid
        return cast(Task, self.handle(Sort.TASK, tid))

    def fresh_group(self) -> Group:
        self._change()
        number = self.system.number("group")
        self.picks["group"] = number
        known = self.system.groups[plain(self.current.group)]
        self.system.groups[number] = GroupState(
            rlimit_stack=known.rlimit_stack, handlers=dict(known.handlers)
        )
        return cast(Group, self.handle(Sort.GROUP, number))

    def fresh_mm(self, name: str) -> Mm:
        self._change()
        number = self.system.number("mm")
        self.picks[name] = number
        self.system.mms[number] = self.system.new_space()
        return cast(Mm, self.handle(Sort.MM, number))

    def fresh_addr(
        self,
        mm: Mm,
        name: str,
        size: Term | int = PAGE_SIZE,
        shadow: bool = False,
        low: Cond | bool = False,
    ) -> Addr:
        length = page_up(plain(size))
        start = self._place(mm, name, length, shadow, bool(low))
        if start < 0:
            raise Disabled  # whoever said where it goes was wrong: the text asks no_room() first
        range_ = Range(start, length)
        self.picks[name] = range_
        return cast(Addr, self.handle(Sort.ADDR, range_))

    def no_room(self, mm: Mm, size: Term | int, low: Cond | bool) -> Cond:
        forced = bool(self.given.get("ENOMEM", False))
        full = forced or self._place(mm, "addr", page_up(plain(size)), True, bool(low)) < 0
        self.picks["ENOMEM"] = full
        return Truth(full)

    def _place(self, mm: Mm, name: str, length: int, shadow: bool, low: bool) -> int:
        """Where a new area would lie: where it was asked for, else where Linux puts it."""
        if name in self.given:
            start = cast(Range, self.given[name]).start
            return start if self._is_free(mm, start, length) else -ENOMEM
        if self.system.place is not None:
            return self.system.place
        space = self.system.mms[plain(mm)]
        if not space.may_expand(length):
            return -ENOMEM
        above = shadow and self.design.map_above4g and not low
        return space.unmapped_area(length, shadow=shadow, above4g=above, below4g=low)

    def _is_free(self, mm: Mm, start: int, length: int) -> bool:
        return not self.system.mms[plain(mm)].overlapping(start, start + length)

    # -- bulk --------------------------------------------------------------------
    def copy_fields(self, src: Record, dst: Record) -> None:
        self._change()
        if not isinstance(src, Task):
            raise TypeError("only tasks are copied whole on the reference machine")
        thread = self.system.threads[plain(src)].copy()
        thread.tid = plain(dst)
        thread.name = str(self.given.get("name", f"T{thread.tid}"))
        thread.todo.clear()
        thread.contended = 0
        thread.result = None
        self.system.threads[thread.tid] = thread

    def reset(self, record: Record) -> None:
        self._change()
        if isinstance(record, Task):
            self.system.threads.pop(plain(record), None)
        elif isinstance(record, Group):
            self.system.groups.pop(plain(record), None)
        else:
            range_ = cast(Range, plain(record.index[1]))
            error = self.system.mms[plain(record)].munmap(range_.start, range_.size)
            assert error == 0, "the text asks for what makes munmap fail first"

    def copy_mappings(
        self,
        src: Mm,
        dst: Mm,
        own: Sequence[Addr],
        owner: Task,
        own_kind: dict[Any, Any],
        other_kind: dict[Any, Any],
    ) -> None:
        self._change()
        space = self.system.mms[plain(src)].fork()
        self.system.mms[plain(dst)] = space
        mine = [r for r in (plain(a) for a in own) if isinstance(r, Range)]
        for area in space.areas:
            is_own = any(r.start <= area.start < max(r.end, r.start + 1) for r in mine)
            table, heir = (own_kind, plain(owner)) if is_own else (other_kind, LEFT)
            area.owner = copied_owner(table, heir, area.kind)
            area.kind = copied_kind(table, area.kind)

    def clear_mappings(self, mm: Mm) -> None:
        self._change()
        self.system.mms.pop(plain(mm), None)

    def replace_owner(self, mm: Mm, old: Task, new: Special) -> None:
        self._change()
        space = self.system.mms.get(plain(mm))
        for area in space.areas if space else ():
            # A task's number equals no other owner, but True == 1.
            if area.owner == plain(old) and not isinstance(area.owner, bool):
                area.owner = new

    def emit(self, event: Event) -> None:
        if self.watch:
            self.watch(self, event)

    # -- running -------------------------------------------------------------------
    def run(self, step: Step) -> None:
        """Execute a step; Disabled where it cannot happen, and then nothing has changed."""
        thread = self.system.threads.get(self._me)
        self.require(thread is not None and thread.ctl in step.at)
        step.run(cast(Any, self))


def can_happen(system: System, tid: int, step: Step, given: Mapping[str, object]) -> bool:
    """Whether a step of a task can happen now: its guards hold."""
    try:
        ConcreteWorld(system, tid, given, trial=True).run(step)
    except Disabled:
        return False
    except Changes:
        pass
    return True


@dataclass(frozen=True)
class _Group:
    """As much of a group as says whether its members die."""

    exit: Exit
    exec_task: int | Special


class _Member:
    """A task for text that asks for its group and nothing else: plain values, no world."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tid: int, group: _Group) -> None:
        self.tid = tid
        self.group = group

    def __eq__(self, other: object) -> bool:
        return other == self.tid


@cache
def _is_dying(tid: int, exit_: str, exec_task: int | str) -> bool:
    task: int | Special = exec_task if isinstance(exec_task, int) else Special(exec_task)
    return bool(fatal_signal_pending(cast(Any, _Member(tid, _Group(Exit(exit_), task)))))


def is_dying(system: System, thread: Thread) -> bool:
    """A fatal signal is pending for a task, as the text says; asked for far more than all else."""
    group = system.groups[thread.group]  # type: ignore[index]
    task = group.exec_task
    # By value, because the hash of a member of an enumeration is Python code.
    return _is_dying(
        thread.tid, group.exit._value_, task if isinstance(task, int) else task._value_
    )


def page_up(size: int) -> int:
    """Bytes rounded up to whole pages."""
    return -(-size // PAGE_SIZE) * PAGE_SIZE


# -- fields ------------------------------------------------------------------------


def _initial(record: type[Record], name: str) -> object:
    """What a field of a dead task holds."""
    return getattr(record, name).values[0]


def task_field(thread: Thread, name: str) -> object:
    return _TASK_FIELDS[name](thread)


def _base(thread: Thread) -> Range | Special:
    return Range(thread.base, thread.size) if thread.base else NULL


def _ssp(thread: Thread) -> Range | Special:
    return thread.stack if thread.regs.u_cet & SH_STK_EN else NULL


def offset(thread: Thread) -> Off:
    """The offset half of SSP: at the top of its stack, or not."""
    stack = thread.stack
    on = thread.regs.u_cet & SH_STK_EN
    return Off.INSIDE if on and isinstance(stack, Range) and thread.ssp != stack.end else Off.TOP


_TASK_FIELDS: dict[str, Callable[[Thread], object]] = {
    **{name: attrgetter(name) for name, held in vars(Task).items() if isinstance(held, Field)},
    **{"base": _base, "ssp": _ssp, "off": offset},
}


def stack_is_mapped(space: AddressSpace, thread: Thread) -> bool:
    """The range that SSP belongs to is still a shadow stack."""
    stack = thread.stack
    return isinstance(stack, Range) and any(a.shadow for a in areas_in(space, stack))


def _set_task_field(thread: Thread, name: str, value: Any) -> None:
    if name == "base":
        thread.base = 0 if value is NULL else value.start
    elif name == "ssp":
        _set_ssp(thread, value)
    elif name == "off":
        assert value is Off.TOP, "the kernel installs SSP at the top of a stack"
    elif name == "wrss":
        thread.wrss = value
        flag = WR_SHSTK_EN if value else 0
        thread.regs.u_cet = thread.regs.u_cet & ~WR_SHSTK_EN | flag
    else:
        setattr(thread, name, value)


def _set_ssp(thread: Thread, stack: Range | Special) -> None:
    """The kernel writes MSR_IA32_PL3_SSP and MSR_IA32_U_CET of a task."""
    if isinstance(stack, Range):
        thread.stack = stack
        thread.ssp = stack.end
        thread.regs.u_cet |= SH_STK_EN
    else:
        thread.stack = NULL
        thread.ssp = 0
        thread.regs.u_cet = 0


def areas_in(space: AddressSpace, range_: Range) -> list[Vma]:
    """What is mapped in a range, the program image left out."""
    end = max(range_.end, range_.start + 1)
    return [a for a in space.overlapping(range_.start, end) if not a.image]


def _mapping_field(space: AddressSpace | None, range_: Range, name: str) -> object:
    areas = areas_in(space, range_) if space else []
    if not areas:
        return _initial(MappingRecord, name)
    if name == "sealed":
        return any(a.sealed for a in areas)
    if name == "token":
        assert space is not None
        return any(a.shadow and restore_tokens(space, a) for a in areas)
    return getattr(areas[0], name)


def _set_mapping_field(space: AddressSpace, range_: Range, name: str, value: Any) -> None:
    areas = areas_in(space, range_)
    if name == "kind" and not areas:
        shadow = value in SHADOW_KINDS
        space.map(
            range_.start,
            range_.size,
            shadow=shadow,
            read=True,
            write=True,
            kind=value,
            label="shadow stack" if shadow else "memory",
        )
        return
    if name in ("kind", "owner"):
        for area in areas:
            setattr(area, name, value)
        return
    raise AssertionError(f"the kernel does not write a mapping's {name}")


__all__ = [
    "Changes",
    "ConcreteWorld",
    "Ctl",
    "Disabled",
    "Kind",
    "areas_in",
    "can_happen",
    "is_dying",
]
