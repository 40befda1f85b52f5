"""What the machine says can be seen after a step."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from counterexamples.interpret import Step
from counterexamples.views import AreaView, TaskView, View
from model.reference import image
from model.reference.machine import (
    Died,
    Effect,
    Faulted,
    Machine,
    Returned,
    Signalled,
    Warning_,
)
from model.reference.signals import signal_of
from model.reference.system import Thread
from model.state import Ctl
from shstk.conform.seen import (
    BAD_FRAME,
    BLOCKED,
    DEAD,
    PAGE_FAULT,
    USER,
    WORKER,
    Area,
    Fault,
    Seen,
    Task,
    Warned,
    joined,
)

NO_FRAME = "bad frame in sigreturn"  # the machine's words
SEGV_MAPERR, SEGV_ACCERR, SEGV_CPERR, ILL_ILLOPN, SI_KERNEL = 1, 2, 10, 2, 0x80
SI_CODES = {6: ILL_ILLOPN, 12: SI_KERNEL, 13: SI_KERNEL, 21: SEGV_CPERR}  # by vector (traps.c)
RETURNS = ("handler_return", "rt_sigreturn")
BITS = {"SHSTK": 1, "WRSS": 2}
ACCESS = {"rw": ("rd", "wr"), "r": ("rd",), "none": ()}
_CAUSE = re.compile(r"(?P<word>exit|exit_group|SIG[A-Z0-9]+)(?:\((?P<code>\d+)\))?(?: .*)?")


class Groups:
    """The wait status of thread groups.

    The machine knows what each task died of.  What wait(2) says of a group is what its first
    exit_group() or fatal signal said, else its last exit() (synchronize_group_exit(),
    kernel/exit.c, 6.12).  It is told of the leader, which is whoever de_thread() has left.
    """

    def __init__(self) -> None:
        self.leader: dict[int, int] = {}
        self.causes: dict[int, list[str]] = {}
        self.exits: dict[int, str] = {}  # by slot

    def look(self, view: View, slots: Mapping[str, int]) -> None:
        """Learn who leads the groups that are new."""
        for name, task in view.tasks.items():
            self.leader.setdefault(task.group, slots[name])

    def saw(self, step: Step, slots: Mapping[str, int]) -> None:
        """Follow a step: deaths, and who leads."""
        assert step.done is not None
        groups = {n: t.group for n, t in (*step.before.tasks.items(), *step.after.tasks.items())}
        died: dict[int, list[int]] = {}
        line = step.line
        if getattr(line, "operation", "") == "execve" and not _refused(step):
            acting = step.before.tasks[line.task]  # type: ignore[union-attr]
            self.leader[acting.group] = slots[line.task]  # type: ignore[union-attr]
        for effect in step.done.effects:
            group = groups.get(effect.task)
            if group is None:
                continue
            if isinstance(effect, Died):
                self.causes.setdefault(group, []).append(effect.cause)
                died.setdefault(group, []).append(slots[effect.task])
        alive = {task.group for task in step.after.tasks.values()}
        for group in died.keys() - alive:
            status = wait_status(self.causes[group])
            for slot in (self.leader[group], *died[group]):
                self.exits[slot] = status


@dataclass(frozen=True)
class Told:
    """What user code can tell after a step: which handlers began, what a call returned.

    ``si_code``: what the handler of an exception finds in its siginfo.
    """

    handled: tuple[int, ...] = ()
    returned: int | None = None
    si_code: int | None = None


class Handlers:
    """Which signal handlers begin to run in a step, and what calls are seen to return.

    Signals that come together push a frame each; the last one's handler runs, and an earlier
    one's begins when rt_sigreturn goes to its first instruction.  What the interrupted call
    has returned is in the first one's frame, where nobody looks.  Who dies tells nothing.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._entered: dict[str, list[int]] = {}

    def told(self, step: Step) -> dict[str, Told]:
        """By task."""
        assert step.done is not None
        out: dict[str, Told] = {}
        for name, thread in self.machine.names().items():
            own = [effect for effect in step.done.effects if effect.task == name]
            signals = [effect.signal for effect in own if isinstance(effect, Signalled)]
            returned = [effect.value for effect in own if isinstance(effect, Returned)]
            value = returned[-1] if returned else None
            waiting = self._entered.setdefault(name, [])
            faults = [effect for effect in own if isinstance(effect, Faulted)]
            code = self._si_code(thread, faults[-1]) if faults else None
            if signals:
                waiting += signals[:-1]
                out[name] = Told((signals[-1],), value if len(signals) == 1 else None, code)
            elif waiting and self._begins(step, thread, waiting[-1]):
                out[name] = Told((waiting.pop(),))
            else:
                out[name] = Told((), value)
        return out

    def _si_code(self, thread: Thread, fault: Faulted) -> int:
        """Whether an area is there decides it for a page fault (arch/x86/mm/fault.c, 6.12)."""
        if fault.vector != PAGE_FAULT:
            return SI_CODES[fault.vector]
        assert fault.address is not None
        area = self.machine.system.space(thread).find(fault.address)
        return SEGV_MAPERR if area is None else SEGV_ACCERR

    def _begins(self, step: Step, thread: Thread, signal: int) -> bool:
        """rt_sigreturn has gone to where a handler starts."""
        returns = getattr(step.line, "operation", "") in RETURNS
        return returns and thread.regs.rip == image.HANDLERS + 16 * signal


def _refused(step: Step) -> bool:
    """A system call returns an error: execve has not come to de_thread()."""
    assert step.done is not None
    return any(isinstance(e, Returned) and e.value < 0 for e in step.done.effects)


def wait_status(causes: Sequence[str]) -> str:
    """``exit N`` or ``signal N`` of a group whose members died of ``causes``, in that order.

    Of a fault, who has raised it knows more than the others.

    >>> wait_status(["exit(3)", "exit(4)"]), wait_status(["exit(3)", "SIGSEGV (#GP error 0x0)"])
    ('exit 4', 'signal 11')
    """
    status = ""
    for cause in sorted(causes, key=lambda cause: " (" not in cause):
        match = _CAUSE.fullmatch(cause)
        if match is None:
            continue  # de_thread: the group goes on
        word, code = match["word"], int(match["code"] or 0) & 0xFF
        if word == "exit":
            status = f"exit {code}"
            continue
        return f"exit {code}" if word == "exit_group" else f"signal {signal.Signals[word].value}"
    return status


def predict(
    step: Step,
    slots: Mapping[str, int],
    kind: str,
    groups: Groups,
    handlers: Mapping[str, frozenset[int]],
    told: Mapping[str, Told],
) -> Seen:
    """What is to be seen after a step; ``kind`` is that of its result.

    ``handlers``: the signals that a task had handlers for, before it; ``told``: what
    ``Handlers`` says.  Who has died cannot
    tell what its last call returned, and the kernel's log is silent about an exception for
    which there is a handler, also where that cannot be entered.
    """
    assert step.done is not None
    acting = getattr(step.line, "task", "")
    effects = step.done.effects
    groups.saw(step, slots)
    groups.look(step.after, slots)
    tasks = {}
    for name, slot in slots.items():
        own = [effect for effect in effects if effect.task == name]
        view = step.after.tasks.get(name)
        if view is None:
            silent = handlers.get(name, frozenset())
            own = [
                e for e in own if not isinstance(e, Faulted) or signal_of(e.vector) not in silent
            ]
        task = _task(view, own, groups.exits.get(slot, ""))
        says = told.get(name, Told())
        # The acting task's own call is the step's result; a new task is in its first call.
        old = name in step.before.tasks and (name != acting or kind == "none")
        fault = task.fault and replace(task.fault, si_code=says.si_code)
        returned = says.returned if old else None
        tasks[slot] = replace(task, handled=says.handled, returned=returned, fault=fault)
    return Seen(
        result=_result(step, acting, kind),
        tasks=tasks,
        areas=_areas(step.after, slots),
        warnings=tuple(_warned(e) for e in effects if isinstance(e, Warning_)),
        other=tuple(BAD_FRAME for e in effects if isinstance(e, Died) and NO_FRAME in e.cause),
    )


def _result(step: Step, acting: str, kind: str) -> int | None:
    assert step.done is not None
    if kind == "none" or acting not in step.after.tasks:
        return None
    results = [e.value for e in step.done.effects if isinstance(e, Returned) and e.task == acting]
    if kind == "value" and step.done.value is not None:
        return step.done.value
    return results[-1] if results else None


def _task(view: TaskView | None, effects: Sequence[Effect], status: str) -> Task:
    faults = [e for e in effects if isinstance(e, Faulted)]
    fault = None
    if faults:
        last = faults[-1]
        address = last.address if last.vector == PAGE_FAULT else None
        fault = Fault(last.vector, last.error_code, address, instruction=last.instruction)
    if view is None:
        return Task(DEAD, exit=status, fault=fault)
    if view.worker:
        return Task(WORKER)
    return Task(
        USER if view.ctl is Ctl.USER else BLOCKED,
        view.ssp or 0,
        sum(BITS[name] for name in view.features),
        sum(BITS[name] for name in view.locked),
        "",
        fault,
    )


def _areas(view: View, slots: Mapping[str, int]) -> dict[frozenset[int], tuple[Area, ...]]:
    out = {}
    for mm, areas in view.mms.items():
        users = frozenset(slots[name] for name in view.users(mm) if not view.tasks[name].worker)
        if users:
            out[users] = joined(_area(area) for area in areas if area.shadow)
    return out


def _area(area: AreaView) -> Area:
    return Area(
        area.start, area.end, (*ACCESS[area.access], "ss", *(("sl",) if area.sealed else ()))
    )


def _warned(effect: Warning_) -> Warned:
    function, _, meaning = effect.text.partition(": ")
    return Warned(function, "double free" if "double free" in meaning else "munmap failed")
