"""From a scenario to what a guest is asked, and what the machine says it will answer.

Addresses are written by what they are for the guest: ranges that earlier steps made, SSP, RSP,
code places.  The scenario runs on the machine line by line, in settled mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from counterexamples.expressions import Wrong
from counterexamples.interpret import Run, Step
from counterexamples.lines import Do, Line, Picture, make
from counterexamples.scenario import FIRST, Scenario
from model.cpu.concrete import CpuFault
from model.designs import Design
from model.reference import image
from model.reference.machine import Faulted, Machine, NotNow
from model.reference.operations import OPERATIONS
from model.reference.system import DEFAULT_RLIMIT, Thread
from model.reference.values import Range
from model.reference.vma import PageFault, page_align
from model.reference.world import SH_STK_EN
from model.state import Ctl
from shstk.conform.causable import (
    NotCausable,
    Predictable,
    Unpredicted,
    check_operation,
    check_scenario,
)
from shstk.conform.predict import Groups, Handlers, predict
from shstk.conform.seen import Seen
from shstk.conform.side import Side
from shstk.conform.symbols import Symbols
from shstk.conform.words import Codes, Words

STEPS, SLOTS = 511, 128  # how many the guest has
CLONES = ("fork", "vfork", "clone", "clone3", "io_uring_worker")
RANGES = ("mmap", "mremap", "map_shadow_stack")
READS = ("load", "pop", "rdsspq")
STATUS = ("execve", "exit", "exit_group", "arch_prctl", "setrlimit", "munmap", "mprotect")
STATUS_TOO = ("mseal", "sigaction", "sigaltstack")


@dataclass(frozen=True)
class Asked:
    """A step of a campaign.  ``line``: the scenario's.

    ``kind`` of its result: range, task, value, status, none; ``size``: bytes of the range.
    ``name``: of what it makes.  ``mm``: the acting task's before it; ``mms``: of live tasks
    after it, by slot; ``copied``: a new mm and the one it is a copy of.
    ``rows``: what is predicted, in words.
    """

    number: int
    slot: int
    text: str
    line: Do
    kind: str
    name: str
    size: int
    mm: int
    mms: Mapping[int, int]
    names: Mapping[int, str]
    copied: tuple[int, int] | None
    seen: Seen
    rows: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A scenario compiled: ``number`` is its name in a campaign.

    ``start``: the mm that the first task is in.
    """

    number: int
    scenario: Scenario
    asked: tuple[Asked, ...]
    start: int = 0

    @property
    def text(self) -> str:
        """Its part of a campaign file."""
        return "\n".join([f"scenario {self.number}", *(a.text for a in self.asked), "end", ""])


class Stepper(Run):
    """A run whose lines come one by one."""

    def take(self, number: int, line: Line) -> Step:
        """Execute a line; Wrong, NotNow or CpuFault where it cannot be."""
        return self._step(number, line)

    def bound(self, name: str) -> Range | None:
        """The range that a line has bound, None: none."""
        value = self._bound.get(name)
        return value if isinstance(value, Range) else None

    def thread(self, name: str) -> Thread:
        """A live task; Wrong where there is none of that name."""
        return self._thread(name)

    def arguments(self, line: Do) -> dict[str, str | bool | int]:
        """What a line's arguments come to now; Wrong."""
        return {name: self._argument(line.task, each) for name, each in line.arguments}


class Compiler:
    """Compiles a scenario line by line."""

    def __init__(self, scenario: Scenario, design: Design, number: int = 0) -> None:
        check_scenario(scenario)
        self.scenario, self.number = scenario, number
        self.run = Stepper(scenario, design)
        self.machine: Machine = self.run.machine
        self.codes = Codes()
        self.slots = {thread.name: thread.tid for thread in self.machine.system.threads.values()}
        self.asked: list[Asked] = []
        self.predictable = Predictable(self.machine)
        self.groups = Groups()
        self.handlers = Handlers(self.machine)
        self.symbols = Symbols(self.codes.name)
        self.side = Side(self.symbols)
        self.words = Words(self.machine, self.symbols, self.codes)
        self.start = self.run.view.tasks[FIRST].mm
        self.groups.look(self.run.view, self.slots)

    @property
    def case(self) -> Case:
        """What has been compiled so far."""
        return Case(self.number, self.scenario, tuple(self.asked), self.start)

    # -- a line ------------------------------------------------------------------------
    def take(self, line: Do) -> Asked:
        """Compile a line and execute it.

        NotCausable where user space cannot cause it, and NotNow and Wrong from the machine:
        nothing has been done.  Unpredicted, CpuFault: there is no going on.
        """
        number = len(self.asked) + 1
        if number > STEPS or self.machine.system.made["task"] >= SLOTS:
            raise NotCausable(f"a guest has room for {STEPS} steps and {SLOTS} tasks")
        thread = self.run.thread(line.task)
        arguments = self.run.arguments(line)
        check_operation(line, arguments)
        self._check_code(thread, line, arguments)
        self.predictable.check(thread, line, arguments)
        words = " ".join([str(number), str(thread.tid), *self.words.of(thread, line, arguments)])
        kind, size = _kind(line, arguments)
        self.predictable.look()
        handlers = {
            name: frozenset(self.machine.system.groups[each.group].handlers)  # type: ignore[index]
            for name, each in self.machine.names().items()
        }
        step = self.run.take(number, line)
        self.predictable.saw(step)
        self._settled()
        return self._keep(step, words, kind, size, handlers)

    def _keep(
        self, step: Step, words: str, kind: str, size: int, handlers: Mapping[str, frozenset[int]]
    ) -> Asked:
        line = step.line
        assert isinstance(line, Do)
        number = len(self.asked) + 1
        acting = step.before.tasks[line.task]
        copied = None
        for name in step.after.tasks.keys() - step.before.tasks.keys():
            made = self.machine.thread(name)
            self.slots[name] = made.tid
            if step.after.tasks[name].mm != acting.mm:
                copied = (step.after.tasks[name].mm, acting.mm)
            self.predictable.made(self.machine.thread(line.task), made)
        asked = Asked(
            number=number,
            slot=self.slots[line.task],
            text=words,
            line=line,
            kind=kind,
            name=line.bind or f"r{number}",
            size=size,
            mm=acting.mm,
            mms={self.slots[n]: t.mm for n, t in step.after.tasks.items() if not t.worker},
            names={slot: name for name, slot in self.slots.items()},
            copied=copied,
            seen=predict(step, self.slots, kind, self.groups, handlers, self.handlers.told(step)),
        )
        self.words.ranges[asked.name] = number
        asked = replace(asked, rows=self.side.rows(asked, asked.seen))
        self.asked.append(asked)
        return asked

    def _settled(self) -> None:
        """NotCausable where the machine has left what a kernel would go on with."""
        for thread in self.machine.system.threads.values():
            if thread.ctl is Ctl.USER and not thread.regs.long_mode:
                raise Unpredicted("32-bit code is left out")

    # -- code ----------------------------------------------------------------------------
    def _check_code(self, thread: Thread, line: Do, arguments: Mapping[str, object]) -> None:
        """NotCausable where execution would go on where the guest has no code."""
        name, target = line.operation, None
        if name == "saveprevssp" and self._on_code(thread):
            raise NotCausable("saveprevssp: it reads a code address, whose bits are the guest's")
        if name == "saveprevssp" and thread.regs.cf:
            raise NotCausable("saveprevssp: CF is clear in the guest; RSTORSSP has set it here")
        if name == "jmp":
            target = arguments["target"]
        elif name == "call" and arguments.get("target") is not None:
            raise NotCausable("call: to a function of the guest's own only")
        elif name in ("ret", "handler_return") and self.machine.can_run(thread):
            target = self._return_to(thread)
            if target is not None and (thread.mm, thread.regs.rsp) in self.predictable.nexts:
                raise NotCausable(f"{name}: to what a CALL to the next instruction has pushed")
            if name == "ret" and target == image.RESTORER:
                raise NotCausable("ret: the restorer goes on with rt_sigreturn: `handler_return`")
        if isinstance(target, int) and not self.codes.name(target):
            raise NotCausable(f"{name}: there is no code at {target:#x}")

    def _on_code(self, thread: Thread) -> bool:
        """What SSP points to is a code address."""
        space = self.machine.system.space(thread)
        if not thread.regs.u_cet & SH_STK_EN or not space.populated(thread.ssp):
            return False
        try:
            word = space.load(thread.ssp & -8, 8, False, True)
        except PageFault:
            return False
        return bool(self.codes.name(word))

    def _return_to(self, thread: Thread) -> int | None:
        """Where a RET that does not fault goes."""
        copy = Machine(self.machine.system.copy(), settled=False)
        twin = copy.system.threads[thread.tid]
        OPERATIONS["ret"].run(copy, twin)
        faulted = any(isinstance(effect, Faulted) for effect in copy.effects)
        return None if faulted else twin.regs.rip


def _kind(line: Do, arguments: Mapping[str, object]) -> tuple[str, int]:
    """What the result of an operation is, and the bytes of the range that it makes."""
    name = line.operation
    if name in RANGES:
        size = arguments.get("new_size") or arguments["size"]
        assert isinstance(size, int)
        return "range", page_align(size)
    if name in CLONES:
        return "task", 0
    if name in READS or arguments.get("option") == "STATUS":
        return "value", 0
    return ("status" if name in (*STATUS, *STATUS_TOO) else "none"), 0


def compile_scenario(scenario: Scenario, design: Design, number: int = 0) -> Case:
    """The whole scenario; NotCausable says which line is not causable and why."""
    scenario = plain(scenario)
    compiler = Compiler(scenario, design, number)
    for line in scenario.lines:
        if isinstance(line, Picture):
            continue
        try:
            compiler.take(line)
        except (NotCausable, NotNow, Wrong, CpuFault) as error:
            raise NotCausable(f"line {line.line}: {error}") from None
    return compiler.case


def executable(
    scenario: Scenario, design: Design, lines: Sequence[Line], number: int = 0
) -> tuple[Case, tuple[Line, ...]]:
    """As many of the lines as can be executed one after the other, and their case.

    A line that cannot happen is left out; one that leads to what is not predicted ends it.
    """
    kept: list[Line] = []
    compiler = Compiler(_with(scenario, lines), design, number)
    for line in lines:
        if isinstance(line, Picture):
            continue
        try:
            compiler.take(line)
        except (Unpredicted, CpuFault):
            break
        except (NotCausable, NotNow, Wrong):
            continue
        kept.append(line)
    case = compiler.case
    return Case(number, _with(scenario, kept), case.asked, case.start), tuple(kept)


def _with(scenario: Scenario, lines: Sequence[Line]) -> Scenario:
    return replace(scenario, lines=tuple(lines), expects=())


def plain(scenario: Scenario) -> Scenario:
    """The same scenario without the header `rlimit:`, which becomes a line."""
    if scenario.rlimit == DEFAULT_RLIMIT:
        return scenario
    first = make(FIRST, "setrlimit", {"stack": scenario.rlimit})
    return replace(scenario, rlimit=DEFAULT_RLIMIT, lines=(first, *scenario.lines))
