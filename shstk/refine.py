"""The reference machine against the finite model: every move is one of the model's steps.

The *abstraction* of a machine gives each of its objects a number within a bound and reads
off the finite state.  After a move, that has to be among the states that the move's steps
lead to, from the abstraction before it, with the machine's own choices.  And what the
step violates there it violates on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from counterexamples.trace import Fields, StateView
from model.designs import Design
from model.events import Event
from model.kernel import STEPS
from model.reference.machine import Faulted, Machine, Move
from model.reference.system import System, Thread
from model.reference.tokens import restore_tokens
from model.reference.values import Range
from model.reference.vma import AddressSpace, PageFault, Vma
from model.reference.world import (
    SH_STK_EN,
    WR_SHSTK_EN,
    ConcreteWorld,
    page_up,
    task_field,
)
from model.state import LEFT, NULL, Group, Record, Sort, Task, fields
from model.state import Mapping as MappingRecord
from properties import PROPERTIES, StateConjunct, TaskConjunct
from shstk.replay import step_outcomes, violated_by
from shstk.space import Bound, Space, Valuation
from shstk.views import valuation

BY_NAME = {step.name: step for step in STEPS}
BOUND = Bound(6, 6, 8)


class Outside(Exception):
    """The machine is in a state that the life-cycle model leaves out."""


class Disagreement(Exception):
    """The machine did what the model does not allow: one of the two is wrong."""


# -- abstraction -------------------------------------------------------------------


@dataclass
class Correspondence:
    """Which number of the finite model stands for which object of the machine."""

    space: Space
    numbers: dict[Sort, dict[Any, int]] = field(default_factory=lambda: {sort: {} for sort in Sort})

    def number(self, sort: Sort, thing: Any) -> int:
        """The number of an object, a free one where it has none yet; Outside: none is free."""
        known = self.numbers[sort]
        if thing not in known:
            taken = set(known.values())
            free = [n for n in range(self.space.bound.size(sort)) if n not in taken]
            if not free:
                raise Outside(f"there are more than {len(taken)} {sort.value}s")
            known[thing] = free[0]
        return known[thing]

    def forget(self, system: System) -> None:
        """Objects that are gone give their numbers back."""
        live: dict[Sort, set[Any]] = {
            Sort.TASK: set(system.threads),
            Sort.GROUP: set(system.groups),
            Sort.MM: set(system.mms),
            Sort.ADDR: {range_.start for range_ in _ranges(system)},
        }
        for sort, known in self.numbers.items():
            for thing in [t for t in known if t not in live[sort]]:
                del known[thing]

    def pick(self, name: str, value: object) -> object:
        """A choice of the machine's as the finite model has it."""
        if isinstance(value, Range):
            return self.number(Sort.ADDR, value.start)
        tasks = dict.fromkeys(("child", "other"), Sort.TASK)
        sort = {**tasks, "group": Sort.GROUP, "mm": Sort.MM}.get(name)
        return value if sort is None else self.number(sort, value)

    # -- the whole state -----------------------------------------------------------
    def view(self, system: System) -> StateView:
        """The finite state that a machine is in; Outside where there is none.

        Ranges are told apart by where they start; ``check_ranges`` says when that will do.
        """
        tasks = {self.number(Sort.TASK, n): self._task(t) for n, t in system.threads.items()}
        groups = {
            self.number(Sort.GROUP, n): {"exit": g.exit, "exec_task": self._task_ref(g.exec_task)}
            for n, g in system.groups.items()
        }
        mms = {self.number(Sort.MM, n): self._mm(s) for n, s in system.mms.items()}
        bound = self.space.bound
        nothing = {a: _initial(MappingRecord) for a in range(bound.stacks)}
        return {
            "tasks": tuple(tasks.get(n, _initial(Task)) for n in range(bound.tasks)),
            "groups": tuple(groups.get(n, _initial(Group)) for n in range(bound.tasks)),
            "mms": tuple(tuple(mms.get(n, nothing).values()) for n in range(bound.mms)),
        }

    def valuation(self, system: System) -> Valuation:
        """The same, as the finite world keeps it."""
        return valuation(self.space, self.view(system))

    def _task_ref(self, tid: Any) -> Any:
        return tid if tid in (NULL, LEFT) else self.number(Sort.TASK, tid)

    def _task(self, thread: Thread) -> Fields:
        record: dict[str, Any] = {}
        for each in fields(Task):
            value: Any = task_field(thread, each.name)
            if isinstance(value, Range):
                value = self.number(Sort.ADDR, value.start)
            elif each.sort is Sort.TASK:
                value = self._task_ref(value)
            elif each.sort is not None and value is not NULL:
                value = self.number(each.sort, value)
            record[each.name] = value
        return record

    def _mm(self, space: AddressSpace) -> dict[int, Fields]:
        out: dict[int, Fields] = {
            a: _initial(MappingRecord) for a in range(self.space.bound.stacks)
        }
        for area in _areas(space):
            tokens = restore_tokens(space, area) if area.shadow else []
            if len(tokens) > 1:
                raise Outside("two tokens lie on one stack")
            out[self.number(Sort.ADDR, area.start)] = {
                "kind": area.kind,
                "owner": self._task_ref(area.owner),
                "sealed": area.sealed,
                "token": bool(tokens),
            }
        return out


def _initial(record: type[Record]) -> Fields:
    return {f.name: f.values[0] for f in fields(record)}  # type: ignore[misc]


def _areas(space: AddressSpace) -> list[Vma]:
    return [area for area in space.areas if not area.image]


def _ranges(system: System) -> list[Range]:
    """Every range that something is mapped in or that a task remembers."""
    out = [Range(a.start, a.size) for space in system.mms.values() for a in _areas(space)]
    for thread in system.threads.values():
        if thread.base:
            out.append(Range(thread.base, thread.size))
        if isinstance(thread.stack, Range):
            out.append(thread.stack)
    return out


def check_ranges(system: System) -> None:
    """Ranges are identities: two of them are the same one or do not meet; else Outside."""
    ranges = sorted({(r.start, r.size) for r in _ranges(system) if r.size})
    for (start, size), (other, _) in zip(ranges, ranges[1:], strict=False):
        if start != other and other < start + size:
            raise Outside("two ranges overlap in part")
    for space in system.mms.values():
        areas = {area.start: area.size for area in _areas(space)}
        for start, size in ranges:
            if areas.get(start, size) > size:
                raise Outside("a range is smaller than what is mapped there")


def check_numbers(system: System) -> None:
    """What the finite state does not see of the numbers behind it; Disagreement."""
    for thread in system.threads.values():
        if thread.mm is NULL or thread.worker:
            continue
        stack = thread.stack
        if thread.regs.u_cet & SH_STK_EN:
            if not isinstance(stack, Range) or not stack.start <= thread.ssp <= stack.end:
                raise Disagreement(f"SSP of {thread.name}, {thread.ssp:#x}, is not in {stack}")
            if bool(thread.regs.u_cet & WR_SHSTK_EN) != thread.wrss:
                raise Disagreement(f"WRSS of {thread.name} is another for the CPU")
        for area in system.space(thread).areas:
            if area.owner == thread.tid and area.start == thread.base and thread.size:
                if area.size != page_up(thread.size):
                    raise Disagreement(f"{thread.name}'s stack has {area.size:#x} bytes")


def _check_last_fault(machine: Machine, move: Move) -> None:
    """An exception that was just raised has a reason; Disagreement."""
    fault = machine.effects[-1] if machine.effects and not move.steps else None
    if not isinstance(fault, Faulted) or fault.task not in machine.names():
        return
    thread = machine.thread(fault.task)
    space = machine.system.space(thread)
    if fault.vector == 14 and fault.error_code & 0x40 and fault.address is not None:
        area = space.find(fault.address)
        if area is not None and area.shadow and area.write:
            raise Disagreement(f"{fault.instruction} faults on a shadow stack that is there")
    if fault.vector == 21 and fault.instruction == "RET":
        # Where one of the stacks cannot be read, it had to be a page fault.
        if ret_matches(machine, thread) is not False:
            raise Disagreement("RET raises #CP, and no two addresses differ")


def ret_matches(machine: Machine, thread: Thread) -> bool | None:
    """RET would find the same address on both stacks; None: one of them cannot be read."""
    space = machine.system.space(thread)
    try:
        space.probe_load(thread.ssp, 8, True, True)
        shadow = space.load(thread.ssp, 8, False, True)
        return shadow == space.load(thread.regs.rsp, 8, False, True)
    except PageFault:
        return None


# -- judging -----------------------------------------------------------------------


def violated_in(system: System) -> frozenset[str]:
    """The claims about states that are false of a machine now."""
    out = set()
    for prop in PROPERTIES.values():
        for conjunct in prop.conjuncts:
            if isinstance(conjunct, TaskConjunct):
                holds: Callable[[Any], bool] = _for_every_task(conjunct)
            elif isinstance(conjunct, StateConjunct):
                holds = conjunct.holds  # type: ignore[assignment]
            else:
                continue
            if system.threads and not holds(ConcreteWorld(system, next(iter(system.threads)))):
                out.add(f"{prop.id}/{conjunct.name}")
    return frozenset(out)


def _for_every_task(conjunct: TaskConjunct) -> Callable[[ConcreteWorld], bool]:
    return lambda k: all(
        conjunct.holds(k, k.handle(Sort.TASK, tid)) for tid in list(k.system.threads)
    )


# -- following a machine -----------------------------------------------------------


@dataclass
class Follower:
    """Follows a machine move by move in the finite model.

    ``outside``: why it has stopped following, '' while it does.  ``violations``: what the
    last move violates for the first time.  ``moves`` counts those compared, by step.
    """

    machine: Machine
    correspondence: Correspondence
    at: Valuation
    outside: str = ""
    violations: tuple[str, ...] = ()
    moves: dict[str, int] = field(default_factory=dict)
    _events: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, machine: Machine, bound: Bound = BOUND) -> Follower:
        """Start following a machine that has just booted."""
        correspondence = Correspondence(Space(bound))
        follower = cls(machine, correspondence, correspondence.valuation(machine.system))
        machine.listeners.append(follower.saw)
        machine.watch = follower._event
        return follower

    def _event(self, world: ConcreteWorld, event: Event) -> None:
        self._events += violated_by(world, event)

    def saw(self, _machine: Machine, move: Move) -> None:
        """A move has been made; Disagreement where the model does not know it."""
        said, self._events = self._events, []
        if self.outside:
            return
        try:
            self._compare(move, said)
        except Outside as reason:
            self.outside = str(reason)
        self.correspondence.forget(self.machine.system)

    def _compare(self, move: Move, said: list[str]) -> None:
        _check_last_fault(self.machine, move)
        if move.outside:
            raise Outside(move.outside)
        system, design = self.machine.system, self.machine.design
        task = self.correspondence.number(Sort.TASK, move.tid)
        before = self.at
        reached: dict[Valuation, set[str]] = {before: set()}
        for name, choices in move.steps:
            picks = {n: self.correspondence.pick(n, v) for n, v in choices.items()}
            reached = self._successors(reached, design, task, name, picks)
        check_ranges(system)
        check_numbers(system)
        now = self.correspondence.valuation(system)
        label = ", ".join(f"{n} {dict(c)}" for n, c in move.steps) or "nothing"
        if now not in reached:
            raise Disagreement(
                f"{label} by task {task}: {self._difference(reached, now) or 'it cannot happen'}"
            )
        for name, _ in move.steps:
            self.moves[name] = self.moves.get(name, 0) + 1
        self.at = now
        self._judge(label, reached[now], said)

    def _successors(
        self,
        froms: Mapping[Valuation, set[str]],
        design: Design,
        task: int,
        name: str,
        picks: Mapping[str, object],
    ) -> dict[Valuation, set[str]]:
        out: dict[Valuation, set[str]] = {}
        for state, violated in froms.items():
            for s in step_outcomes(
                self.correspondence.space, design, state, task, BY_NAME[name], fixed=picks
            ):
                out[s.after] = violated | set(s.violations)
        return out

    def _judge(self, label: str, expected: set[str], said: list[str]) -> None:
        """What the model says the move violates, the machine shows, and the other way round."""
        failing = violated_in(self.machine.system)
        new = {claim for claim in failing if claim not in self._failing}
        self._failing = failing
        found = new | set(said)
        if found != expected:
            raise Disagreement(
                f"{label}: the model finds {sorted(expected) or 'nothing'} violated, "
                f"the machine {sorted(found) or 'nothing'}"
            )
        self.violations = tuple(sorted(found))

    _failing: frozenset[str] = frozenset()

    def _difference(self, reached: Mapping[Valuation, object], now: Valuation) -> str:
        """The cells in which the nearest of the model's states differs."""
        best: list[str] = []
        for state in reached:
            cells = self.correspondence.space.cells
            differs = [
                f"{c.name} is {word(c.domain[n])}, not {word(c.domain[s])}"
                for c, n, s in zip(cells, now, state, strict=True)
                if n != s
            ]
            if not best or len(differs) < len(best):
                best = differs
        return "; ".join(best[:4])


def word(value: object) -> str:
    """A value of the state in words."""
    return str(getattr(value, "value", value))


__all__ = ["Correspondence", "Disagreement", "Follower", "Outside"]
