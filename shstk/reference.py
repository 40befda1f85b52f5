"""Replaying a trace on the reference machine: real addresses, instructions, page faults.

A step of the kernel's is the same text, executed in the concrete world.  A step of user
code is done by instructions and system calls: ``call`` stands for one CALL or more, ``ret``
for RET or INCSSP.  After each step the machine has to be in the trace's state, and at the
end it has to violate what the trace violates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import model.reference.protocols  # noqa: F401 - registers the operations
from counterexamples.trace import Pick, Trace, TraceStep
from model.designs import Design
from model.kernel import STEPS
from model.reference.machine import Effect, Machine, Move, NotNow
from model.reference.operations import OPERATIONS
from model.reference.system import Thread
from model.reference.tokens import choices, restore_tokens
from model.reference.values import Range
from model.reference.vma import MMAP_BASE, Vma
from model.reference.world import ConcreteWorld
from model.state import NULL, Off, Sort
from properties import LivenessConjunct
from shstk.aftermath import aftermath
from shstk.errors import UserError
from shstk.refine import Correspondence, Outside, ret_matches, violated_in, word
from shstk.replay import find_conjunct, violated_by
from shstk.space import Bound, Space
from shstk.views import valuation

BY_NAME = {step.name: step for step in STEPS}
SLOT = 1 << 40  # bytes between two addresses of a trace: more than any stack of one
SIZE = 8 << 20  # bytes of what user code maps
FRAMES = 6  # CALLs that stand for a step ``call``, so that RETs have somewhere to return to
OBJECTS = {"child": Sort.TASK, "group": Sort.GROUP, "mm": Sort.MM, "addr": Sort.ADDR}
OBJECTS["to"] = Sort.ADDR


class DoesNotReplay(Exception):
    """A step of the trace cannot be done on the machine, or leads elsewhere."""


@dataclass
class ReferenceReplay:
    """What became of a trace on the machine.  ``reason``: why it does not replay, '' if it does.

    ``effects``: what was seen in each step; ``aftermath``: what comes of the violation.
    """

    reason: str
    effects: list[tuple[Effect, ...]]
    aftermath: tuple[str, ...] = ()
    machine: Machine | None = None

    def __bool__(self) -> bool:
        return not self.reason


def has_machine(design: Design) -> bool:
    """There is a reference machine for the design's architecture."""
    return design.architecture == "x86"


def want_machine(design: Design) -> None:
    """UserError where the reference machine cannot run the design."""
    if not has_machine(design):
        raise UserError(
            f"{design.name} is a design for {design.architecture}: "
            "the reference machine is an x86 and runs designs for x86 only"
        )


def replay_on_reference(trace: Trace, design: Design) -> ReferenceReplay:
    """Execute a trace on the reference machine; UserError where there is none for the design."""
    want_machine(design)
    try:
        actor = Actor(trace, design)
    except DoesNotReplay as reason:
        return ReferenceReplay(str(reason), [])
    try:
        for number, step in enumerate(trace.steps, 1):
            actor.take(number, step)
        actor.judge()
    except DoesNotReplay as reason:
        return ReferenceReplay(str(reason), actor.effects, machine=actor.machine)
    seen = aftermath(actor.machine, trace.property, actor.effects)
    return ReferenceReplay("", actor.effects, tuple(seen), actor.machine)


@dataclass
class Actor:
    """Does what a trace says, on a machine that does nothing by itself."""

    trace: Trace
    design: Design
    effects: list[tuple[Effect, ...]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # claims about events that a step violated

    def __post_init__(self) -> None:
        self.space = Space(Bound(*self.trace.bound))
        self.machine = Machine.boot(self.design, settled=False)
        self.machine.system.groups[0].handlers[10] = 0x402000  # SIGUSR1
        self.machine.watch = self._event
        self.machine.listeners.append(self._moved)
        self.known = Correspondence(self.space)
        for sort in (Sort.TASK, Sort.GROUP, Sort.MM):
            self.known.number(sort, 0)
        if valuation(self.space, self.trace.initial) != self.space.initial:
            raise DoesNotReplay("the trace starts elsewhere")
        self.starts = {n: MMAP_BASE - (n + 1) * SLOT for n in range(self.space.bound.stacks)}
        self.picks: dict[str, object] = {}

    def _event(self, world: ConcreteWorld, event: Any) -> None:
        self.said += violated_by(world, event)

    def _moved(self, _machine: Machine, move: Move) -> None:
        for _, picks in move.steps:
            self.picks.update(picks)

    # -- one step ------------------------------------------------------------------
    def take(self, number: int, step: TraceStep) -> None:
        """Do a step; DoesNotReplay where it cannot be done or leads elsewhere."""
        machine = self.machine
        label = f"step {number} ({step.step} by task {step.task})"
        start = len(machine.effects)
        self.before = violated_in(machine.system)
        self.said.clear()
        self.picks.clear()
        try:
            thread = self._thread(step.task)
            if step.step in USER_CODE:
                USER_CODE[step.step](self, thread, step.picks)
            else:
                self._kernel(thread, step)
            self._bind(step.picks)
            self._adjust(step)
            now = self.known.valuation(machine.system)
        except (NotNow, Outside) as reason:
            raise DoesNotReplay(f"{label}: {reason}") from None
        finally:
            self.effects.append(tuple(machine.effects[start:]))
        wanted = valuation(self.space, step.state)
        for cell, here, there in zip(self.space.cells, now, wanted, strict=True):
            if here != there:
                words = [word(cell.domain[n]) for n in (here, there)]
                raise DoesNotReplay(f"{label}: {cell.name} is {words[0]}, not {words[1]}")
        self.known.forget(machine.system)

    def _thread(self, number: int) -> Thread:
        for tid, known in self.known.numbers[Sort.TASK].items():
            if known == number and tid in self.machine.system.threads:
                return self.machine.system.threads[tid]
        raise NotNow("there is no such task")

    def _kernel(self, thread: Thread, step: TraceStep) -> None:
        """The same text, with the trace's choices."""
        given: dict[str, object] = {
            name: value for name, value in step.picks.items() if name not in OBJECTS
        }
        for name in ("addr", "to"):
            if name in step.picks:
                given[name] = Range(self._start(step.picks[name]), 0)
        if BY_NAME[step.step].family == "clone3-token":
            given |= self._token(thread, step.picks)
        if "other" in step.picks:
            given["other"] = self._thread(int(step.picks["other"])).tid
        self.machine.step(thread, step.step, given)

    def _token(self, thread: Thread, picks: Mapping[str, Pick]) -> dict[str, object]:
        """The token that lies on a stack of the trace, or an address where there is none."""
        space = self.machine.system.space(thread)
        start = self._start(picks["addr"])
        area = space.find(start)
        lying = restore_tokens(space, area) if area and area.shadow else []
        return choices(space, lying[0] if lying else start)

    def _start(self, number: object) -> int:
        """The machine's address for one of the trace's."""
        for start, known in self.known.numbers[Sort.ADDR].items():
            if known == number:
                return int(start)
        return self.starts[int(number)]  # type: ignore[call-overload]

    def _bind(self, picks: Mapping[str, Pick]) -> None:
        """The objects that the step has made are the trace's."""
        for name, sort in OBJECTS.items():
            if name in picks and name in self.picks:
                made = self.picks[name]
                thing = made.start if isinstance(made, Range) else made
                self.known.numbers[sort][thing] = int(picks[name])

    def _adjust(self, step: TraceStep) -> None:
        """Where in its stack SSP is was a choice: CALL or INCSSP until it is there."""
        if "SSP after" not in step.picks:
            return
        for number, fields in enumerate(step.state["tasks"]):
            if fields["ssp"] is NULL or number != step.task:
                continue
            thread = self._thread(number)
            if not self.machine.can_run(thread) or not isinstance(thread.stack, Range):
                continue
            if fields["off"] is Off.INSIDE and thread.ssp == thread.stack.end:
                self.do(thread, "call")
            while fields["off"] is Off.TOP and thread.ssp < thread.stack.end:
                before = thread.ssp
                self.do(thread, "incsspq", min(255, (thread.stack.end - thread.ssp) // 8))
                if thread.ssp == before:
                    break

    # -- user code -----------------------------------------------------------------
    def do(self, thread: Thread, name: str, *args: Any, **arguments: Any) -> int | None:
        """An operation by a task."""
        return OPERATIONS[name].run(self.machine, thread, *args, **arguments)

    def area(self, thread: Thread, number: object) -> Vma:
        """What is mapped at an address of the trace."""
        area = self.machine.system.space(thread).find(self._start(number))
        if area is None:
            raise NotNow("nothing is mapped there")
        return area

    def call(self, thread: Thread, _picks: Mapping[str, Pick]) -> None:
        for _ in range(FRAMES):
            if self.machine.can_run(thread):
                self.do(thread, "call")

    def ret(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        if picks.get("fault") or not ret_matches(self.machine, thread):
            if picks.get("SSP after") and not picks.get("fault"):
                self.do(thread, "incsspq", 1)
                return
        self.do(thread, "ret")

    def fault(self, thread: Thread, _picks: Mapping[str, Pick]) -> None:
        self.do(thread, "store", 0, 0)

    def signal(self, thread: Thread, _picks: Mapping[str, Pick]) -> None:
        self.do(thread, "kill", "SIGUSR1")

    def mmap(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        self.do(thread, "mmap", SIZE, self._start(picks["addr"]), noreplace=True)

    def munmap(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        area = self.area(thread, picks["addr"])
        self.do(thread, "munmap", area.start, area.size)

    def map_shadow_stack(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        self.machine.system.place = self._start(picks["addr"])
        token = bool(picks.get("SHADOW_STACK_SET_TOKEN"))
        self.do(thread, "map_shadow_stack", SIZE, token=token)
        self.machine.system.place = None

    def rstorssp(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        tokens = restore_tokens(self.machine.system.space(thread), self.area(thread, picks["to"]))
        if not tokens:
            raise NotNow("no token lies there")
        self.do(thread, "pivot" if picks.get("SAVEPREVSSP") else "rstorssp", tokens[0])

    def mseal(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        area = self.area(thread, picks["addr"])
        self.do(thread, "mseal", area.start, area.size)

    def mremap(self, thread: Thread, picks: Mapping[str, Pick]) -> None:
        area = self.area(thread, picks["addr"])
        self.do(thread, "mremap", area.start, area.size, to=self._start(picks["to"]))

    # -- the end -------------------------------------------------------------------
    def judge(self) -> None:
        """DoesNotReplay unless the last step violates what the trace says."""
        claim = self.trace.claim
        if isinstance(find_conjunct(claim), LivenessConjunct):
            return  # every state was compared, so the loop closes here too
        failing = violated_in(self.machine.system)
        if claim not in failing and claim not in self.said:
            raise DoesNotReplay(f"after step {len(self.trace.steps)}: {claim} is not violated")


USER_CODE: dict[str, Callable[[Actor, Thread, Mapping[str, Pick]], None]] = {
    "call": Actor.call,
    "ret": Actor.ret,
    "fault": Actor.fault,
    "signal_with_token": Actor.signal,
    "mmap": Actor.mmap,
    "munmap": Actor.munmap,
    "map_shadow_stack": Actor.map_shadow_stack,
    "rstorssp": Actor.rstorssp,
    "mseal": Actor.mseal,
    "munmap_shadow_stack": Actor.munmap,
    "mremap_shadow_stack": Actor.mremap,
}
