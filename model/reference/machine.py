"""The reference machine: a system that executes steps of the text and instructions.

Everything that happens is a *move*: one step of the kernel's text, one instruction, or
one system call on memory.  ``listeners`` are told of every move, with the abstract steps
that it should be an instance of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from model.cpu import transitions
from model.cpu.concrete import USER_CS, ConcreteCpu, CpuFault, Registers
from model.cpu.world import Frame
from model.designs import Design
from model.events import CloneStarted, Event, Failed, Unmapped, Warned
from model.kernel import STEPS, Step, errno
from model.reference import image
from model.reference.system import DEFAULT_RLIMIT, Death, Group, System, Thread
from model.reference.values import Range, plain
from model.reference.vma import mmap_base
from model.reference.world import (
    ConcreteWorld,
    Disabled,
    Watch,
    areas_in,
    can_happen,
    is_dying,
)
from model.state import NULL, Ctl, Exit

BY_NAME = {step.name: step for step in STEPS}
# What the kernel does by itself when a task is let run, by where the task is.
BY_ITSELF = {ctl: tuple(s for s in STEPS if s.fair and ctl in s.at) for ctl in Ctl}
LETTERS = "PCDEFGHIJKLMNO"
KERNEL_ENTRY, KERNEL_CS = 0xFFFF_FFFF_8100_0000, 0x10


# -- effects -----------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """Something an engineer would see; ``task`` is a name."""

    task: str


@dataclass(frozen=True)
class Returned(Effect):
    """A system call returns ``value``; negative: an errno."""

    call: str
    value: int


@dataclass(frozen=True)
class Faulted(Effect):
    """An instruction raises an exception; ``address`` for #PF."""

    instruction: str
    vector: int
    error_code: int
    address: int | None


@dataclass(frozen=True)
class Signalled(Effect):
    """A signal's handler is entered."""

    signal: int


@dataclass(frozen=True)
class Died(Effect):
    """The task is gone."""

    cause: str


@dataclass(frozen=True)
class Warning_(Effect):
    """WARN in the kernel log."""

    text: str


@dataclass(frozen=True)
class KernelUnmaps(Effect):
    """The kernel's munmap of a task's recorded range: bytes from ``start``, and what was there.

    ``there``: for each area its start, end, kind, and the owner's name ('' for none).
    """

    start: int
    size: int
    there: tuple[tuple[int, int, str, str], ...]


@dataclass(frozen=True)
class Started(Effect):
    """A new image starts (execve), or a new task."""

    what: str


@dataclass(frozen=True)
class Read(Effect):
    """What user code has read: a register or memory."""

    what: str
    value: int


# -- moves -------------------------------------------------------------------------


class Move(NamedTuple):
    """What has just happened, as abstract steps of ``tid`` with their choices, in order.

    None of them: nothing the life cycle sees.  ``outside``: why the life-cycle model has no
    such step; what follows cannot be compared with it.
    """

    tid: int
    steps: tuple[tuple[str, Mapping[str, object]], ...] = ()
    outside: str = ""


Listener = Callable[["Machine", Move], None]


class NotNow(Exception):
    """What was asked for cannot happen in this state; the message says why."""


@dataclass
class Machine:
    """A running system.  ``settled``: after each operation the kernel carries on by itself.

    ``watch`` is told of events as they happen; with it each step keeps the state before.
    """

    system: System
    settled: bool = True
    watch: Watch | None = None
    listeners: list[Listener] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    moved: bool = False  # the last step of the kernel's has changed something

    @classmethod
    def boot(
        cls,
        design: Design,
        rlimit_stack: int = DEFAULT_RLIMIT,
        limit_bytes: int | None = None,
        settled: bool = True,
    ) -> Machine:
        """A machine with one task, P, in user mode, shadow stacks off."""
        system = System(design, limit_bytes)
        tid, group, mm = (system.number(what) for what in ("task", "group", "mm"))
        system.mms[mm] = system.new_space()
        system.groups[group] = Group(rlimit_stack=rlimit_stack)
        cpu = ConcreteCpu(Registers(), system.mms[mm])
        thread = Thread(tid, LETTERS[0], cpu, ctl=Ctl.USER, group=group, mm=mm)
        image.load(system.mms[mm])
        image.start(thread.regs)
        system.threads[tid] = thread
        return cls(system, settled)

    @property
    def design(self) -> Design:
        """The design whose text runs."""
        return self.system.design

    # -- tasks -------------------------------------------------------------------
    def thread(self, name: str) -> Thread:
        """The task of that name; KeyError where there is none that is alive."""
        for thread in self.system.threads.values():
            if thread.name == name:
                return thread
        raise KeyError(name)

    def names(self) -> dict[str, Thread]:
        """Live tasks by name."""
        return {thread.name: thread for thread in self.system.threads.values()}

    def dying(self, thread: Thread) -> bool:
        """A fatal signal is pending."""
        return is_dying(self.system, thread)

    def can_run(self, thread: Thread) -> bool:
        """In user mode, and nothing makes it die."""
        return thread.ctl is Ctl.USER and not is_dying(self.system, thread)

    def require_running(self, thread: Thread) -> None:
        """NotNow where a task cannot execute an instruction or make a system call."""
        if self.can_run(thread):
            return
        if thread.ctl is not Ctl.USER:
            raise NotNow(f"{thread.name} is not in user mode but in {thread.ctl.value}")
        raise NotNow(f"{thread.name} has a fatal signal pending")

    def _fresh_name(self) -> str:
        number = self.system.made["task"]
        return LETTERS[number] if number < len(LETTERS) else f"T{number}"

    # -- steps of the kernel -------------------------------------------------------
    def step(
        self,
        thread: Thread,
        name: str,
        given: Mapping[str, object] | None = None,
        told: str = "",
    ) -> None:
        """Execute a step of the text; NotNow where it cannot happen.

        ``told``: the step that it is for the listeners, where that is another.
        """
        step, choices = BY_NAME[name], self._choices(thread, given or {})
        if self.watch and not can_happen(self.system, thread.tid, step, choices):
            raise self._cannot(thread, name)  # and nothing is told of it
        self._take(thread, step, choices, told)

    def _cannot(self, thread: Thread, name: str) -> NotNow:
        where = "is dying" if self.dying(thread) else f"is in {thread.ctl.value}"
        return NotNow(f"{thread.name} cannot do {name} now: it {where}")

    def _choices(self, thread: Thread, given: Mapping[str, object]) -> dict[str, object]:
        """What is decided about a step of a task, where ``given`` does not say otherwise."""
        return {
            "name": self._fresh_name(),
            "mmap_lock contended": thread.contended > 0,
            "compat": thread.compat,
            **given,
        }

    def _take(
        self, thread: Thread, step: Step, choices: Mapping[str, object], told: str = ""
    ) -> None:
        """Execute a step; NotNow, and nothing has happened, where that is impossible."""
        if not self._done(thread, step, choices, told):
            raise self._cannot(thread, step.name)

    def _done(
        self, thread: Thread, step: Step, choices: Mapping[str, object], told: str = ""
    ) -> bool:
        """Execute a step that may be impossible; False, and nothing has happened, if it is."""
        before = self.system.copy() if self.watch else None
        shown, result, frame, regs = len(self.effects), thread.result, thread.frame, None
        if thread.regs.cpl == 3 and step.name != "sigkill":
            regs = thread.regs.copy()
            self.enter_kernel(thread)
        world = ConcreteWorld(self.system, thread.tid, choices, self._saw, before)
        ctl = thread.ctl
        try:
            world.run(step)
        except Disabled:
            if world.changed:
                raise AssertionError(f"{step.name} gives up after a change") from None
            del self.effects[shown:]
            thread.result, thread.frame = result, frame
            if regs is not None:
                thread.regs.assign(regs)
            return False
        self._taken(thread, step.name, ctl, world, told)
        return True

    def _taken(
        self, thread: Thread, name: str, ctl: Ctl, world: ConcreteWorld, told: str = ""
    ) -> None:
        """What comes of a step that a task has executed in ``ctl``."""
        if world.picks.get("mmap_lock contended"):
            thread.contended -= 1
        if thread.plan and thread.plan.get(ctl, ("",))[0] == name:
            del thread.plan[ctl]
        self.moved = world.changed or bool(world.picks.get("mmap_lock contended"))
        if "error" in world.picks:
            thread.result = -getattr(errno, str(world.picks["error"]).split(":")[0])
        self._after(thread, name)
        picks = {} if told else world.picks
        self.tell(Move(thread.tid, ((told or name, picks),)))

    def _saw(self, world: ConcreteWorld, event: Event) -> None:
        thread = self.system.threads.get(plain(world.current))
        if isinstance(event, Failed) and thread is not None:
            thread.result = -event.errno
        if isinstance(event, CloneStarted) and thread is not None:
            child = self.system.threads[plain(event.child)]
            thread.result = 0 if child.worker else child.tid
            child.result, child.call = 0, thread.call
            self.effects.append(Started(child.name, "worker" if child.worker else thread.call))
        if isinstance(event, Unmapped):
            self.effects.append(self._unmaps(event))
        if isinstance(event, Warned):
            cause = f": {event.cause}" if event.cause else ""
            name = self._name(plain(event.task))
            self.effects.append(Warning_(name, f"{event.what.value}{cause}"))
        if self.watch:
            self.watch(world, event)

    def _unmaps(self, event: Unmapped) -> KernelUnmaps:
        where: Range = plain(event.addr)
        space = self.system.mms[plain(event.mm)]
        there = tuple(
            (a.start, a.end, a.kind.value, self._name(a.owner) if type(a.owner) is int else "")
            for a in areas_in(space, where)
        )
        return KernelUnmaps(self._name(plain(event.task)), where.start, where.size, there)

    def _name(self, tid: int) -> str:
        thread = self.system.threads.get(tid)
        return thread.name if thread else self.system.dead[tid].name

    def _after(self, thread: Thread, name: str) -> None:
        """What a step means for the machine around the text: images, results, deaths."""
        system = self.system
        if name == "exit_mm_drop":
            system.dead[thread.tid] = Death(thread.name, thread.cause)
            self.effects.append(Died(thread.name, thread.cause))
        if name == "exec_mmap":
            space = system.space(thread)
            space.mmap_base = mmap_base(system.groups[thread.group].rlimit_stack)  # type: ignore[index]
            image.load(space)
        if name == "start_thread":
            thread.frame = Frame(image.ENTRY, USER_CS, image.STACK_TOP - 0x1000, 0)
            thread.call, thread.altstack = "", None
            pending = [each for each in thread.todo if each[0] == "kill"]
            thread.todo.clear()
            thread.todo.extend(pending)  # flush_signal_handlers() leaves what is pending
            thread.contexts.clear()
            thread.contended, thread.locked_others = 0, 0
            system.groups[thread.group].handlers.clear()  # type: ignore[index]
            self.effects.append(Started(thread.name, "execve"))
        self._note_causes()
        for each in system.threads.values():
            if each.ctl is Ctl.USER and each.regs.cpl == 0 and not self.dying(each):
                self._return_to_user(each)

    def _note_causes(self) -> None:
        """Remember what a task dies of while its group still says it."""
        for thread in self.system.threads.values():
            if thread.ctl is Ctl.EXITING:
                thread.cause = thread.cause or "exit"
            elif not thread.cause and thread.group is not NULL and self.dying(thread):
                group = self.system.groups[thread.group]  # type: ignore[index]
                by_exec = group.exit is Exit.NO
                thread.cause = "de_thread" if by_exec else group.exit.value

    # -- entering and leaving the kernel -------------------------------------------
    def cpu(self, thread: Thread) -> ConcreteCpu:
        """The processor that runs a task, on the task's memory."""
        thread.regs.memory = self.system.space(thread)
        return thread.regs

    def enter_kernel(self, thread: Thread) -> None:
        """SYSCALL by a task in user mode; INT 0x80 from 32-bit code, or where it is said."""
        regs = thread.regs
        if regs.long_mode and not thread.compat:
            cs = regs.cs
            rcx = transitions.syscall(regs, KERNEL_ENTRY, KERNEL_CS)
            thread.frame = Frame(rcx, cs, regs.rsp, regs.cf)
        else:
            thread.frame = transitions.interrupt(regs, KERNEL_ENTRY, KERNEL_CS, 0, length=2)

    def leave_kernel(self, thread: Thread) -> None:
        """SYSRET or IRET to where the task came from, or where it was sent since.

        IRET checks SSP, and its CpuFault leaves the task in the kernel.
        """
        frame = thread.frame
        assert frame is not None, "who is in the kernel has come from user mode"
        if frame.cs == USER_CS:
            transitions.sysret(thread.regs, frame.rip, frame.cf, frame.cs)
            thread.regs.rsp = frame.rsp
        else:
            transitions.iret_to_user(thread.regs, frame)
        thread.frame = None

    def _return_to_user(self, thread: Thread) -> None:
        try:
            self.leave_kernel(thread)
        except CpuFault as fault:  # IRET to 32-bit code with an SSP above 4 GiB
            assert thread.frame is not None
            thread.frame = replace(thread.frame, cs=USER_CS)
            self.leave_kernel(thread)
            self.effects.append(Faulted(thread.name, "IRET", int(fault.vector), 0, None))
            thread.cause = "SIGSEGV (#GP in IRET)"
            self.step(thread, "fault")
            return
        thread.compat = False
        if thread.call:
            call, thread.call = thread.call, ""
            self.effects.append(Returned(thread.name, call, thread.result or 0))
            thread.result = None

    def tell(self, move: Move) -> None:
        """Let the listeners know what has happened."""
        for listener in self.listeners:
            listener(self, move)

    # -- letting the kernel carry on ---------------------------------------------
    def next_step(self, thread: Thread) -> tuple[Step, Mapping[str, object]] | None:
        """What the kernel does next with a task by itself; None: it waits, or is in user mode."""
        if self.can_run(thread):
            return None  # what comes next is for user code to say
        planned = thread.plan and thread.plan.get(thread.ctl)
        if planned:
            name, given = planned
            if can_happen(self.system, thread.tid, BY_NAME[name], given):
                return BY_NAME[name], given
            return None
        for step in BY_ITSELF[thread.ctl]:
            if can_happen(self.system, thread.tid, step, {}):
                return step, {}
        return None

    def kernel(self, thread: Thread) -> None:
        """One step of what the kernel does by itself with a task; NotNow where it waits."""
        if not self._goes_on(thread):
            raise NotNow(f"the kernel has nothing to do for {thread.name}")

    def settle(self, limit: int = 10_000) -> None:
        """Let everything that goes on by itself go on, tasks in order of their numbers."""
        for _ in range(limit):
            if not any(self._carry_on(t) for t in list(self.system.threads.values())):
                return
        raise NotNow(f"the kernel does not come to rest within {limit} steps")

    def _carry_on(self, thread: Thread) -> bool:
        if thread.tid not in self.system.threads:
            return False
        if not self._goes_on(thread):
            return False
        if not self.moved:
            raise NotNow(f"{thread.name} repeats a step that changes nothing, for ever")
        return True

    def _goes_on(self, thread: Thread) -> bool:
        """Do what the kernel does next with a task by itself; False: there is nothing."""
        if self._needs_no_trial(thread):
            return any(
                self._done(thread, step, self._choices(thread, {}))
                for step in BY_ITSELF[thread.ctl]
            )
        following = self.next_step(thread)
        if following is None:
            return False
        step, given = following
        self._take(thread, step, self._choices(thread, given))
        return True

    def _needs_no_trial(self, thread: Thread) -> bool:
        """Nothing is decided about the steps of a task, so that a trial would go the same way."""
        if thread.regs.cpl == 3 or thread.contended or thread.compat or self.watch:
            return False
        return not thread.plan and not self.can_run(thread)
