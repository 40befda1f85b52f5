"""From a counterexample trace to a scenario that a real kernel can run.

A trace's steps of user code become lines; what the kernel does by itself follows by itself
there.  Where the trace lets others run between a system call and what the kernel goes on to
do in it, the line stands where the kernel goes on.  At the end come probes: a CALL by whoever's
stack is gone, CALLs and a RET by those who share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from counterexamples.lines import Do, make
from counterexamples.named import ADDR_LETTERS, TASK_LETTERS
from counterexamples.scenario import Scenario
from counterexamples.trace import Trace, TraceStep
from model.designs import Design
from model.kernel import STEPS
from model.reference.calls import LATE
from model.reference.machine import NotNow
from model.reference.system import DEFAULT_RLIMIT, Thread
from model.reference.world import SH_STK_EN, stack_is_mapped
from model.state import Ctl
from shstk.conform.causable import NotCausable
from shstk.conform.compile import Case, Compiler
from shstk.refine import violated_in
from shstk.replay import violated_by

BY_NAME = {step.name: step for step in STEPS}
SIZE = 8 << 20  # bytes of what user code maps
APART = 0x4000  # bytes between two data stacks that were one
# Steps of the kernel's that the system call before them has to ask for, and how.
EXEC_FAILS = {
    "exec_fails_before_release": "before-release",
    "exec_mmap_killed": "killed",
    "exec_fails_after_switch": "after-switch",
}
FLAGS = {
    "clone_thread": "VM|THREAD|SIGHAND",
    "clone_vm": "VM",
    "clone_vfork_copy": "VFORK",
    "clone_vfork_thread": "VM|VFORK|THREAD|SIGHAND",
    "vfork": "VM|VFORK",
    "fork": "0",
}
WORDS = {error: word for word, error in LATE.items()}


@dataclass
class _Teller:
    """Turns a trace into lines; the names are those of its counterexample."""

    trace: Trace
    tasks: dict[int, str] = field(default_factory=lambda: {0: TASK_LETTERS[0]})
    ranges: dict[int, str] = field(default_factory=dict)
    given: int = 1  # names of tasks given so far
    named: int = 0  # names of ranges
    rlimit: int = DEFAULT_RLIMIT

    def lines(self) -> Iterator[Do]:
        """NotCausable where user space has no way to a step."""
        waiting: dict[int, tuple[int, TraceStep]] = {}
        for number, step in enumerate(self.trace.steps):
            for name, value in step.picks.items():
                if name == "mmap_lock contended" and value:
                    raise NotCausable(
                        f"{step.step}: user space cannot make the kernel's own munmap find "
                        "mmap_lock contended"
                    )
                if name == "ENOMEM" and value:
                    raise NotCausable(f"{step.step}: user space cannot make the allocation fail")
            held = waiting.pop(step.task, None)
            if held is not None:
                yield from self._line(*held)
            if step.step == "execve" and not self._is_killed(number, step.task):
                waiting[step.task] = (number, step)
            else:
                yield from self._line(number, step)
        for held in waiting.values():
            yield from self._line(*held)

    def _is_killed(self, number: int, task: int) -> bool:
        """execve waits for a lock when SIGKILL comes: nothing can be put off until then."""
        return self._later(number, task, ("exec_mmap_killed",)) is not None

    def _later(self, number: int, task: int, names: tuple[str, ...]) -> TraceStep | None:
        later = self.trace.steps[number + 1 :]
        return next((s for s in later if s.task == task and s.step in names), None)

    def _line(self, number: int, step: TraceStep) -> Iterator[Do]:
        convert = CONVERT.get(step.step)
        if convert is not None:
            limit = step.picks.get("RLIMIT_STACK")
            if type(limit) is int and limit != self.rlimit:
                self.rlimit = limit
                yield make(self.tasks[step.task], "setrlimit", {"stack": limit})
            yield convert(self, number, step)
        elif step.step in FLAGS or step.step == "create_io_thread":
            yield self._clone(number, step)
        elif step.step in (*EXEC_FAILS, "late_clone_failure", "elf_load"):
            return
        elif not BY_NAME[step.step].fair:
            raise NotCausable(f"{step.step}: user space has no way to make the kernel do that")

    # -- names ---------------------------------------------------------------------------
    def task(self, step: TraceStep) -> str:
        """The task whose step it is."""
        return self.tasks[step.task]

    def child(self, step: TraceStep) -> str:
        """The name of a task that a step makes."""
        self.given += 1
        name = TASK_LETTERS[self.given - 1]
        self.tasks[int(step.picks["child"])] = name
        return name

    def bind(self, step: TraceStep, line: Do) -> Do:
        """The line names the range that the step makes."""
        if "addr" not in step.picks:
            return line
        name = ADDR_LETTERS[self.named]
        self.named += 1
        self.ranges[int(step.picks["addr"])] = name
        return Do(line.task, line.operation, line.arguments, name)

    def range(self, step: TraceStep, pick: str = "addr") -> str:
        """The name of a range that the trace speaks of."""
        name = self.ranges.get(int(step.picks[pick]))
        if name is None:
            raise NotCausable(f"{step.step}: nothing has been mapped at that address before")
        return name

    # -- clone -----------------------------------------------------------------------------
    def _clone(self, number: int, step: TraceStep) -> Do:
        task, child, picks = self.task(step), self.child(step), step.picks
        late = self._later(number, step.task, ("late_clone_failure",))
        fails = WORDS[str(late.picks["error"])] if late else None
        if step.step == "create_io_thread":
            line = make(task, "io_uring_worker", {"worker": child, "fails": fails})
            return self.bind(step, line)
        arguments: dict[str, object] = {"child": child, "fails": fails}
        bad, compat = bool(picks.get("bad TLS")), bool(picks.get("compat"))
        size = picks.get("stack_size")
        if step.step in ("fork", "vfork") and not (bad or compat or size):
            return self.bind(step, make(task, step.step, arguments))
        arguments["flags"] = FLAGS[step.step] + "|SETTLS" * bad
        if bad:
            arguments["tls"] = "bad"
        if compat:
            arguments["compat"] = True
        if size:
            arguments["stack_size"] = size
        return self.bind(step, make(task, "clone3" if size else "clone", arguments))


def _call(name: str, **arguments: object) -> Callable[[_Teller, int, TraceStep], Do]:
    """An operation with the same arguments always."""
    return lambda told, number, step: make(told.task(step), name, arguments)


def _enable(told: _Teller, number: int, step: TraceStep) -> Do:
    compat = bool(step.picks.get("compat"))
    arguments = {"option": "ENABLE", "feature": "SHSTK", "compat": compat}
    return told.bind(step, make(told.task(step), "arch_prctl", arguments))


def _lock(told: _Teller, number: int, step: TraceStep) -> Do:
    feature = step.picks.get("feature", "SHSTK")
    return make(told.task(step), "arch_prctl", {"option": "LOCK", "feature": feature})


def _wrss(told: _Teller, number: int, step: TraceStep) -> Do:
    on = bool(step.state["tasks"][step.task]["wrss"])
    option = "ENABLE" if on else "DISABLE"
    return make(told.task(step), "arch_prctl", {"option": option, "feature": "WRSS"})


def _execve(told: _Teller, number: int, step: TraceStep) -> Do:
    later = told._later(number, step.task, tuple(EXEC_FAILS))
    fails = EXEC_FAILS[later.step] if later else None
    return make(told.task(step), "execve", {"fails": fails})


def _mmap(told: _Teller, number: int, step: TraceStep) -> Do:
    known = told.ranges.get(int(step.picks["addr"]))
    arguments: dict[str, object] = {"size": SIZE}
    if known:
        arguments |= {"addr": known, "noreplace": True}
    return told.bind(step, make(told.task(step), "mmap", arguments))


def _of_range(name: str) -> Callable[[_Teller, int, TraceStep], Do]:
    def convert(told: _Teller, number: int, step: TraceStep) -> Do:
        known = told.range(step)
        return make(told.task(step), name, {"addr": known, "size": f"{known}.size"})

    return convert


def _mremap(told: _Teller, number: int, step: TraceStep) -> Do:
    known, to = told.range(step), told.ranges.get(int(step.picks["to"]))
    where = {"to": to} if to else {"to": f"{known}-{1 << 36}"}
    line = make(told.task(step), "mremap", {"addr": known, "size": f"{known}.size", **where})
    name = ADDR_LETTERS[told.named]
    told.named += 1
    told.ranges[int(step.picks["to"])] = name
    return Do(line.task, line.operation, line.arguments, name)


def _map_shadow_stack(told: _Teller, number: int, step: TraceStep) -> Do:
    token = bool(step.picks.get("SHADOW_STACK_SET_TOKEN"))
    return told.bind(
        step, make(told.task(step), "map_shadow_stack", {"size": SIZE, "token": token})
    )


def _rstorssp(told: _Teller, number: int, step: TraceStep) -> Do:
    name = "pivot" if step.picks.get("SAVEPREVSSP") else "rstorssp"
    return make(told.task(step), name, {"addr": f"{told.range(step, 'to')}.end-8"})


CONVERT: Mapping[str, Callable[[_Teller, int, TraceStep], Do]] = {
    "enable": _enable,
    "disable": _call("arch_prctl", option="DISABLE", feature="SHSTK"),
    "lock": _lock,
    "wrss_control": _wrss,
    "execve": _execve,
    "exit": _call("exit"),
    "exit_group": _call("exit_group"),
    "sigkill": _call("sigkill"),
    "call": _call("call"),
    "ret": _call("ret"),
    "fault": _call("store", addr=0, value=0),
    "mmap": _mmap,
    "munmap": _of_range("munmap"),
    "munmap_shadow_stack": _of_range("munmap"),
    "mseal": _of_range("mseal"),
    "mremap_shadow_stack": _mremap,
    "map_shadow_stack": _map_shadow_stack,
    "rstorssp": _rstorssp,
}


# -- the whole -----------------------------------------------------------------------------
def lines_of(trace: Trace) -> tuple[Do, ...]:
    """A trace as lines of a scenario; NotCausable with the reason."""
    return tuple(_Teller(trace).lines())


@dataclass(frozen=True)
class Told:
    """A trace's scenario.  ``probes``: how many of its lines, at the end, are not the trace's.

    ``violated``: the machine violates in it what the trace violates.
    """

    case: Case
    probes: int
    violated: bool


def case_of(trace: Trace, design: Design, number: int) -> Told:
    """A trace's scenario, executed on the machine; NotCausable."""
    lines = lines_of(trace)
    scenario = Scenario((design.name,), (), path=f"{trace.design}, {trace.claim}")
    compiler = Compiler(scenario, design, number)
    machine = compiler.machine
    said: list[str] = []
    machine.watch = lambda world, event: said.extend(violated_by(world, event))
    done: list[Do] = []
    for line in lines:
        compiler.take(_taken(compiler, line))
        done.append(line)
        said += violated_in(machine.system)
    for line in _probes(compiler):
        try:
            compiler.take(line)
        except (NotNow, NotCausable):
            break
        done.append(line)
    case = compiler.case
    whole = Scenario((design.name,), tuple(done), path=scenario.path)
    violated = trace.claim in said
    return Told(replace(case, scenario=whole), len(done) - len(lines), violated)


def _taken(compiler: Compiler, line: Do) -> Do:
    if line.task not in compiler.machine.names():
        raise NotCausable(
            f"{line.text}: {line.task} is gone by then, because the kernel goes on by itself"
        )
    return line


def _probes(compiler: Compiler) -> list[Do]:
    """What shows that a stack is gone, or that two tasks are on one."""
    machine = compiler.machine
    threads = [t for t in machine.system.threads.values() if _runs_on_one(machine.can_run(t), t)]
    gone = [t for t in threads if not stack_is_mapped(machine.system.space(t), t)]
    if gone:
        return [make(thread.name, "call", {}) for thread in gone]
    for number, one in enumerate(threads):
        for other in threads[number + 1 :]:
            if (one.mm, one.stack) == (other.mm, other.stack):
                return _collision(one, other)
    return []


def _runs_on_one(can_run: bool, thread: Thread) -> bool:
    return can_run and thread.ctl is Ctl.USER and bool(thread.regs.u_cet & SH_STK_EN)


def _collision(one: Thread, other: Thread) -> list[Do]:
    """One calls, the other calls from elsewhere, the first returns; data stacks apart."""
    lines = [make(one.name, "call", {}), make(other.name, "endbr64", {})]
    if abs(one.regs.rsp - other.regs.rsp) < APART:
        lines.append(make(other.name, "mov_rsp", {"value": f"rsp-{APART}"}))
    return [*lines, make(other.name, "call", {}), make(one.name, "ret", {})]
