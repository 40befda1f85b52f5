"""Executing a scenario on the reference machine, and comparing with what it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from counterexamples.expected import ERRNO_NAMES, VECTORS, Outcome, Statement, same_cause
from counterexamples.expressions import Expression, Named, Register, Term, Wrong
from counterexamples.lines import MAPPINGS, Argument, Do, Line, Picture
from counterexamples.names import Names
from counterexamples.scenario import FIRST, Expect, Scenario, ScenarioError
from counterexamples.views import View, look
from model.cpu.concrete import CpuFault
from model.designs import Design
from model.reference import image
from model.reference.machine import (
    Died,
    Faulted,
    Machine,
    Move,
    NotNow,
    Returned,
    Signalled,
    Warning_,
)
from model.reference.operations import OPERATIONS, Done, NewTask, do
from model.reference.system import Thread
from model.reference.values import Range
from model.reference.world import SH_STK_EN
from model.state import Ctl

# A scenario is for people to read; beyond this it is something else.
TASKS_MAX, AREAS_MAX, MOVES_MAX = 64, 500, 100_000
IMAGE_BYTES = image.TEXT_SIZE + image.ARENA_SIZE + image.STACK_SIZE
VECTOR_NAMES = {number: name for name, number in VECTORS.items()}


@dataclass(frozen=True)
class Verdict:
    """Something expected, and what was found.  ``step`` 0: it is about the end."""

    line: int
    step: int
    expected: str
    found: str
    met: bool


@dataclass(frozen=True)
class Step:
    """A line that has been executed; ``done`` is None for a picture.

    ``arguments`` as the operation got them.
    """

    number: int
    line: Line
    done: Done | None
    before: View
    after: View
    verdicts: tuple[Verdict, ...] = ()
    arguments: Mapping[str, str | bool | int] = field(default_factory=dict)


class Run:
    """One execution of a scenario by a design, line by line."""

    def __init__(self, scenario: Scenario, design: Design) -> None:
        self.scenario = scenario
        self.design = design
        limit = None if scenario.limit is None else scenario.limit + IMAGE_BYTES
        self.machine = Machine.boot(design, scenario.rlimit, limit, not scenario.stepwise)
        self.machine.listeners.append(self._count)
        self.names = Names(scenario.names)
        self.view = look(self.machine)
        self._moves = 0
        self._bound: dict[str, Range | int | None] = {}  # None: the line gave nothing
        self._bound_in: dict[str, int] = {}  # the mm that a range was bound in
        self._mm_of = {FIRST: self.view.tasks[FIRST].mm}  # of the dead too

    def _count(self, machine: Machine, move: Move) -> None:
        self._moves += 1
        if self._moves > MOVES_MAX:
            raise Wrong(f"more than {MOVES_MAX} steps of kernel and user code; do less")

    # -- executing -----------------------------------------------------------------
    def steps(self) -> Iterator[Step]:
        """Execute one line after the other; ScenarioError where one cannot be."""
        for number, line in enumerate(self.scenario.lines, 1):
            try:
                yield self._step(number, line)
            except Wrong as wrong:
                raise ScenarioError(self.scenario.path, line.line, str(wrong)) from None
            except NotNow as error:
                why = f"{error} (on {self.design.name})"
                raise ScenarioError(self.scenario.path, line.line, why) from None
            except CpuFault as fault:
                why = f"the kernel's way back to user mode raises {fault}, which is left out here"
                raise ScenarioError(self.scenario.path, line.line, why) from None

    def _step(self, number: int, line: Line) -> Step:
        before = self.view
        if isinstance(line, Picture):
            return Step(number, line, None, before, before)
        self._thread(line.task)
        arguments = {name: self._argument(line.task, arg) for name, arg in line.arguments}
        self._check_new(line)
        done = do(self.machine, line.task, line.operation, **arguments)
        self.view = after = look(self.machine)
        self._check_amount()
        self._mm_of.update((name, task.mm) for name, task in after.tasks.items())
        if line.bind:
            self._bind(line, done, before)
        self.names.observe(before, after)
        verdicts = tuple(
            self._verdict(number, line, outcome, done)
            for outcome in line.expected
            if outcome.design in ("", self.design.name)
        )
        return Step(number, line, done, before, after, verdicts, arguments)

    def _check_new(self, line: Do) -> None:
        kinds = {p.name: p.kind for p in OPERATIONS[line.operation].parameters}
        for name, value in line.arguments:
            dead = self.machine.system.dead.values() if kinds[name] is NewTask else ()
            if any(death.name == value for death in dead):
                raise Wrong(f"there was a task {value}; give the new one another name")

    def _check_amount(self) -> None:
        areas = sum(len(mapped) for mapped in self.view.mms.values())
        if len(self.view.tasks) > TASKS_MAX or areas > AREAS_MAX:
            raise Wrong(f"more than {TASKS_MAX} tasks or {AREAS_MAX} mappings; do less")

    # -- names -----------------------------------------------------------------------
    def _bind(self, line: Do, done: Done, before: View) -> None:
        mm = before.tasks[line.task].mm
        value: Range | int | None = done.value
        if value is not None and line.operation in MAPPINGS:
            area = self.view.area(mm, done.value or 0)
            value = Range(area.start, area.size) if area else None
        elif value is None and not OPERATIONS[line.operation].gives:
            value = self._made(mm, before)
        elif value is None and line.operation == "arch_prctl":
            value = self._made(mm, before)
        self._bound[line.bind] = value
        if isinstance(value, Range):
            self._bound_in[line.bind] = mm
            self.names.call(mm, line.bind, value.start, value.end)

    def _made(self, mm: int, before: View) -> Range | None:
        """The one shadow stack that is new in an mm."""
        there = {area.start for area in before.mms.get(mm, ()) if area.shadow}
        now = self.view.mms.get(mm, ())
        new = [area for area in now if area.shadow and area.start not in there]
        return Range(new[0].start, new[0].size) if len(new) == 1 else None

    def _thread(self, name: str) -> Thread:
        thread = self.machine.names().get(name)
        if thread is not None:
            return thread
        alive = ", ".join(self.machine.names()) or "none"
        for death in self.machine.system.dead.values():
            if death.name == name:
                raise Wrong(f"{name} is gone ({death.cause}); alive are: {alive}")
        raise Wrong(f"{name} was not made (on {self.design.name}); alive are: {alive}")

    def _argument(self, task: str, argument: Argument) -> str | bool | int:
        return self.value(argument, task) if isinstance(argument, Expression) else argument

    def value(self, expression: Expression, task: str = FIRST) -> int:
        """What an expression comes to now, for a task; Wrong where it has no meaning."""
        return expression.value(lambda term: self._look_up(term, task))

    def _look_up(self, term: Term, task: str) -> int:
        if isinstance(term, Register):
            return self._register(term.task or task, term.name)
        assert isinstance(term, Named)
        if term.name not in self._bound:
            return self._register(term.name, term.part)  # T.size, of a task
        value = self._bound[term.name]
        if value is None:
            raise Wrong(f"{term.name} names nothing: its line gave nothing (on {self.design.name})")
        if isinstance(value, int):
            if term.part:
                raise Wrong(f"{term.name} is a number and has no {term.part}; write {term.name}")
            return value
        return {"": value.start, "end": value.end, "size": value.size}[term.part]

    def _register(self, task: str, name: str) -> int:
        thread = self._thread(task)
        frame = thread.frame
        if name == "ssp":
            return thread.ssp if thread.regs.u_cet & SH_STK_EN else 0
        if name == "base":
            return thread.base
        if name == "size":
            return thread.size
        if name == "rip":
            return frame.rip if frame else thread.regs.rip
        assert name == "rsp", "the grammar has no other"
        return frame.rsp if frame else thread.regs.rsp

    # -- what a line did ---------------------------------------------------------------
    def _verdict(self, number: int, line: Do, outcome: Outcome, done: Done) -> Verdict:
        met = self._met(line.task, outcome, done)
        found = self._found(line.task, done)
        return Verdict(line.line, number, outcome.text, found, met)

    def _met(self, task: str, outcome: Outcome, done: Done) -> bool:
        own = [e for e in done.effects if e.task == task]
        if outcome.kind == "gives" and outcome.gives is not None:
            if done.value is not None:
                return done.value == self.value(outcome.gives, task)
            return outcome.text == "0" and not _bad(done)
        if outcome.kind == "ok":
            return not _bad(done)
        if outcome.kind == "errno":
            results = [e.value for e in own if isinstance(e, Returned)]
            return results[-1:] == [-outcome.number]
        if outcome.kind == "fault":
            faults = [e for e in own if isinstance(e, Faulted) and e.vector == outcome.number]
            return any(outcome.code in (None, e.error_code) for e in faults)
        if outcome.kind == "dies":
            return any(isinstance(e, Died) for e in own)
        if outcome.kind == "WARN":
            return any(isinstance(e, Warning_) and outcome.warning in e.text for e in done.effects)
        if outcome.kind == "handler":
            return any(isinstance(e, Signalled) for e in own)
        return self._blocks(task)

    def _blocks(self, task: str) -> bool:
        view = self.view.tasks.get(task)
        return view is not None and view.ctl not in (Ctl.USER, Ctl.WORKER)

    def _found(self, task: str, done: Done) -> str:
        """What a line did, in the words in which it could have been expected."""
        words = [word for word in _bad(done) if not word.startswith(f"{task} dies")]
        words += ["dies" for e in done.effects if isinstance(e, Died) and e.task == task]
        words += ["handler" for e in done.effects if isinstance(e, Signalled) and e.task == task]
        words += ["blocks"] * self._blocks(task)
        words += [f"{done.value:#x}"] if done.value is not None else []
        return ", ".join(words) or "ok"

    # -- the end -----------------------------------------------------------------------
    def verdicts(self) -> list[Verdict]:
        """What is expected of the end, and what it is; ScenarioError."""
        found = []
        for expect in self.scenario.expects:
            if expect.design in ("", self.design.name):
                try:
                    found.append(self._end(expect))
                except Wrong as wrong:
                    path = self.scenario.path
                    raise ScenarioError(path, expect.line, str(wrong)) from None
        return found

    def _end(self, expect: Expect) -> Verdict:
        found, met = self._statement(expect.statement)
        return Verdict(expect.line, 0, expect.statement.text, found, met)

    def _statement(self, said: Statement) -> tuple[str, bool]:
        """What is so instead, or as expected; and whether it is as expected."""
        task = said.task
        if said.kind in ("dies", "alive"):
            return self._death(said)
        if said.kind in ("warn", "no warn"):
            texts = [e.text for e in self.machine.effects if isinstance(e, Warning_)]
            matching = [text for text in texts if said.words in text]
            found = "; ".join(f"WARN {text}" for text in dict.fromkeys(texts)) or "no WARN"
            return found, bool(matching) == (said.kind == "warn")
        if said.kind == "left":
            areas = self.view.mms.get(self._mm_of.get(task, -1), ())
            count = sum(area.shadow for area in areas)
            return f"{count} in {task}'s mm", count == said.count
        if said.kind == "owns":
            areas = tuple(area for mapped in self.view.mms.values() for area in mapped)
            count = sum(area.shadow and area.owner == task for area in areas)
            return f"{task} owns {count}", count == said.count
        if said.kind in ("mapped", "not mapped"):
            return self._mapped(said)
        if task not in self.view.tasks:
            return self._death(said)[0], False
        if said.kind == "register":
            assert said.address is not None
            value = self._register(task, said.register)
            symbol = self.names.symbol(self._mm_of[task], value)
            return f"{symbol} ({value:#x})", value == self.value(said.address, task)
        view = self.view.tasks[task]
        features = view.features if said.kind == "features" else view.locked
        wanted = set(said.words.replace("none", "").split())
        return " ".join(features) or "none", set(features) == wanted

    def _death(self, said: Statement) -> tuple[str, bool]:
        causes = [d.cause for d in self.machine.system.dead.values() if d.name == said.task]
        if causes:
            met = said.kind == "dies" and same_cause(said.words, causes[0])
            return f"{said.task} dies of {causes[0]}", met
        alive = said.task in self.view.tasks
        found = f"{said.task} {'is alive' if alive else 'was not made'}"
        return found, alive and said.kind == "alive"

    def _mapped(self, said: Statement) -> tuple[str, bool]:
        assert said.address is not None
        start = self.value(said.address)
        size = 1
        mm = self._mm_of[FIRST]
        for name in said.address.tasks:
            mm = self._mm_of[name]
        for term in said.address.named:
            mm = self._bound_in.get(term.name, mm)
            value = self._bound.get(term.name)
            if isinstance(value, Range) and said.address.text == term.name:
                size = value.size
        if said.task:
            mm = self._mm_of.get(said.task, -1)
        space = self.machine.system.mms.get(mm)
        areas = space.overlapping(start, start + size) if space else []
        covered = sum(area.covered(start, start + size) for area in areas)
        words = {0: "not mapped", size: "mapped"}
        return words.get(covered, "mapped in part"), words.get(covered) == said.kind


def _bad(done: Done) -> list[str]:
    """Exceptions, errors, warnings, and deaths of a signal."""
    words = []
    for effect in done.effects:
        match effect:
            case Returned() if effect.value < 0:
                words.append(ERRNO_NAMES.get(-effect.value, str(effect.value)))
            case Faulted():
                name = VECTOR_NAMES.get(effect.vector, f"vector {effect.vector}")
                code = f" {effect.error_code:#x}" if name != "#UD" else ""
                words.append(f"{name}{code}")
            case Warning_():
                words.append(f"WARN {effect.text}")
            case Died() if effect.cause.startswith("SIG"):
                words.append(f"{effect.task} dies of {effect.cause.partition(' ')[0]}")
    return words
