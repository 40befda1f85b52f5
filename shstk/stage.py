"""Lines of a scenario, executed one by one on copies of a reference machine.

What a search tries is what a scenario file says: the same lines, the same expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

from counterexamples.expressions import Constant, Expression, Register, Term
from counterexamples.lines import MAPPINGS, Do, parse_line
from model.cpu.concrete import REGISTERS
from model.designs import Design
from model.reference.machine import Effect, Listener, Machine, NotNow
from model.reference.operations import OPERATIONS, settle
from model.reference.system import System, Thread
from model.reference.values import Range
from model.reference.vma import AddressSpace, Vma
from model.reference.world import SH_STK_EN
from model.state import NULL, Exit
from model.world import PAGE_SIZE
from properties.machine import Tasks, look

parse = lru_cache(maxsize=1 << 16)(parse_line)


@dataclass(eq=False)
class Stage:
    """A machine in the middle of a program, and the ranges that lines have named."""

    system: System
    names: Mapping[str, Range | int]

    def thread(self, name: str) -> Thread | None:
        """The live task of that name."""
        return next((t for t in self.system.threads.values() if t.name == name), None)

    @cached_property
    def tasks(self) -> Tasks:
        """All live tasks as a property sees them."""
        return look(self.system)

    @cached_property
    def life_cycle(self) -> tuple[Any, ...]:
        """What decides whether something goes on by itself: while it stays, nothing does."""
        return _life_cycle(self.system)

    def is_free(self, name: str) -> bool:
        """No task, alive or dead, has that name."""
        dead = any(death.name == name for death in self.system.dead.values())
        return not dead and self.thread(name) is None

    def symbol(self, address: int) -> str:
        """An address as a scenario writes it, by its distance from a named range."""
        known = [(name, there) for name, there in self.names.items() if isinstance(there, Range)]
        for name, there in known:
            if there.start <= address < there.end:
                return name + _from(there, address)
        for name, there in known:
            if address == there.end:
                return f"{name}.end"
        for name, there in known:
            if there.start - PAGE_SIZE <= address < there.start:
                return f"{name}-{there.start - address}"
        return f"{address:#x}"


def _from(there: Range, address: int) -> str:
    above, below = address - there.start, there.end - address
    if below <= above:
        return f".end-{_number(below)}"
    return f"+{_number(above)}" if above else ""


def _number(value: int) -> str:
    return str(value) if value < PAGE_SIZE else f"{value:#x}"


class Performed(NamedTuple):
    """A stage after a line, and what the line has shown."""

    stage: Stage
    effects: tuple[Effect, ...]


def boot(design: Design) -> Stage:
    """A machine with one task, P, in user mode, shadow stacks off."""
    return Stage(Machine.boot(design).system, {})


Listen = Callable[[Machine, Do, Mapping[str, Any]], Listener]


def perform(
    stage: Stage,
    text: str,
    listen: Listen | None = None,
    to_the_end: bool = False,
    design: Design | None = None,
) -> Performed | None:
    """The stage after a line, the one before untouched; None where it cannot be done now.

    ``listen`` gives who is told of the line's moves.  ``to_the_end``: also of how everybody
    dies, where no task runs any more.  ``design``: whose text it is, None: the stage's.
    """
    line = parse(text)
    machine = Machine(stage.system.copy(design))
    arguments = {
        name: value.value(partial(_look_up, stage, line.task))
        if isinstance(value, Expression)
        else value
        for name, value in line.arguments
    }
    if listen is not None:
        machine.listeners.append(listen(machine, line, arguments))
    try:
        value = OPERATIONS[line.operation].run(machine, machine.thread(line.task), **arguments)
        changed = _life_cycle(machine.system) != stage.life_cycle
        if changed and (to_the_end or not is_over(machine.system)):
            settle(machine)
    except NotNow:
        return None
    names = stage.names
    if line.bind:
        there = _made(stage.system, machine.system, line, value)
        names = {**names, line.bind: there} if there is not None else names
    return Performed(Stage(machine.system, names), tuple(machine.effects))


def is_over(system: System) -> bool:
    """Everybody is dying: no task will run user code any more."""
    for group in system.groups.values():
        if group.exit is Exit.NO:
            return False
    return True


def _life_cycle(system: System) -> tuple[Any, ...]:
    tasks = [
        (t.tid, t.ctl, t.group, t.mm, t.child, t.vfork_done, len(t.todo), len(t.plan))
        for t in system.threads.values()
    ]
    groups = [(n, g.exit, g.exec_task) for n, g in system.groups.items()]
    return tasks, groups


def _look_up(stage: Stage, task: str, term: Term) -> int:
    """What a term of an expression stands for (as in ``counterexamples.interpret``)."""
    if isinstance(term, Constant):
        return term.value
    if isinstance(term, Register):
        thread = stage.thread(term.task or task)
        assert thread is not None, "alphabets speak of live tasks"
        return _register(thread, term.name)
    there = stage.names[term.name]
    if isinstance(there, int):
        return there
    return {"": there.start, "end": there.end, "size": there.size}[term.part]


def _register(t: Thread, name: str) -> int:
    if name == "ssp":
        return t.ssp if t.regs.u_cet & SH_STK_EN else 0
    if name in ("base", "size"):
        return int(getattr(t, name))
    return int(getattr(t.frame or t.regs, name))


def _made(before: System, after: System, line: Do, value: int | None) -> Range | int | None:
    """What a line's name stands for: the number it gives, or the range, or its new stack."""
    mm = next(t.mm for t in before.threads.values() if t.name == line.task)
    assert isinstance(mm, int)
    if line.operation in MAPPINGS:
        area = after.mms[mm].find(value) if value is not None else None
        return Range(area.start, area.size) if area else None
    if value is not None:
        return value
    old = {area.start for area in before.mms[mm].areas if area.shadow}
    new = [a for a in after.mms[mm].areas if a.shadow and a.start not in old]
    return Range(new[0].start, new[0].size) if len(new) == 1 else None


# -- when two machines are the same ----------------------------------------------------

# What nothing that can still happen depends on: names, and results already given.
_SKIPPED = ("name", "regs", "result", "cause", "plan", "contexts", "todo", "pending", "stack")
# By value or apart, because the hash of a member of an enumeration is Python code.
_APART = ("ctl", "vfork_done", "child")
# SSP is where the mode says; the other place is written before it is read.
_registers = attrgetter(*(name for name in REGISTERS if name not in ("ssp", "pl3_ssp")))
_fields = attrgetter(
    "ctl._value_", *(f.name for f in fields(Thread) if f.name not in (*_SKIPPED, *_APART))
)


def canonical(system: System) -> tuple[Any, ...]:
    """Equal for two systems that differ in nothing that user code or the kernel can tell.

    But for one thing: whether a page without contents was accessed before, which shows in
    bit P of a page fault's error code.
    """
    return () if is_over(system) else tuple(canonical_parts(system))


def canonical_parts(system: System) -> list[tuple[Any, ...]]:
    """The same in parts, each of which many systems have in common; of one that is not over."""
    groups = [
        (n, g.exit._value_, g.exec_task, g.rlimit_stack, *g.handlers.items())
        for n, g in system.groups.items()
    ]
    parts = [(len(system.threads), system.made["task"]), tuple(groups)]
    parts += [_thread(t) for t in system.threads.values()]
    for number, space in system.mms.items():
        parts += [(number, *_areas(space)), space.pages.contents()]
    return parts


def uncanonical(stage: Stage) -> tuple[Any, ...]:
    """What ``canonical`` leaves out: with it, equal where everything is.

    But for whose design it is, for a machine that is over, and for what the dead have died of,
    which is only told when they do.
    """
    system = stage.system
    return (
        tuple([_thread_rest(t) for t in system.threads.values()]),
        tuple([_space_rest(space) for space in system.mms.values()]),
        tuple([(tid, death.name) for tid, death in system.dead.items()]),
        (system.limit_bytes, system.place, *system.made.values()),
        tuple([(name, there, _size(there)) for name, there in stage.names.items()]),
    )


def _size(there: object) -> int:
    """What a range does not compare."""
    return there.size if isinstance(there, Range) else 0


def _thread_rest(t: Thread) -> tuple[Any, ...]:
    regs, sizes = t.regs, [_size(t.stack), _size(t.altstack)]
    if t.todo or t.plan:
        given = [v for _, args, named in t.todo for v in (*args, *named.values())]
        given += [v for _, named in t.plan.values() for v in named.values()]
        sizes += [_size(v) for v in given]
    return t.name, regs.ssp, regs.pl3_ssp, t.result, t.cause, t.stack, *sizes


def _space_rest(space: AddressSpace) -> tuple[Any, ...]:
    return (
        (space.gaps, space.mmap_base, space.huge_pages, space.limit_bytes),
        tuple([(a.anon, a.label, *_image(a)) for a in space.areas]),
        frozenset(space.pages.shadow),
    )


def _image(a: Vma) -> tuple[Any, ...]:
    """What ``canonical`` has of other areas."""
    return _area(a) if a.image else ()


def _thread(t: Thread) -> tuple[Any, ...]:
    regs = t.regs
    ssp = t.ssp if regs.u_cet & SH_STK_EN else None
    stack = t.stack.start if isinstance(t.stack, Range) else None
    todo = tuple([(name, args, tuple(named.items())) for name, args, named in t.todo])
    plan = tuple([(ctl, name, tuple(given.items())) for ctl, (name, given) in t.plan.items()])
    return (
        *_fields(t),
        *_registers(regs),
        None if t.vfork_done is NULL else t.vfork_done,
        None if t.child is NULL else t.child,
        ssp,
        stack,
        tuple(t.contexts.items()),
        todo,
        plan,
    )


def _areas(space: AddressSpace) -> list[tuple[Any, ...]]:
    return [_area(a) for a in space.areas if not a.image]


def _area(a: Vma) -> tuple[Any, ...]:
    owner = None if a.owner is NULL else a.owner
    return a.start, a.end, a.read, a.write, a.shadow, a.sealed, a.kind._value_, owner
