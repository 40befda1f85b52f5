"""Random scenarios: what could happen next on a machine, weighted so that rare things do.

Whoever calls says how to choose, so that a fuzzer can shrink the choices and a seed can
repeat them.  What is proposed may still be refused (an errno, or NotNow).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from model.kernel.signal import CAN_BE_KILLED
from model.reference import image
from model.reference.calls import LATE
from model.reference.machine import LETTERS, Machine
from model.reference.system import Thread
from model.reference.tokens import all_tokens
from model.reference.values import Range
from model.reference.vma import Vma
from model.state import Ctl

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

TASKS = 5  # live tasks, at most
AREAS = 5  # mappings of an address space, at most
SIZES = (0, 0, 0, 8 << 20, 8 << 20, 5000, 8, 1 << 20, 4 << 30, (4 << 30) + 4096, 8 << 30)
RLIMITS = (8 << 20, 8 << 20, 0, 100000, 6 << 30, (1 << 64) - 1)
FLAGS = (
    "VM|THREAD|SIGHAND",
    "VM|THREAD|SIGHAND|SETTLS",
    "VM",
    "VM|VFORK",
    "VFORK",
    "VM|VFORK|THREAD|SIGHAND",
    "VM|SIGHAND",
    "0",
    "THREAD",
)


@dataclass(frozen=True)
class Planned:
    """An operation to be done: as a line of a scenario file, and to ``operations.do``."""

    task: str
    operation: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """As a scenario file says it."""
        words = [self.task, self.operation]
        for name, value in self.arguments.items():
            if value is True:
                words.append(name)
            elif value is not False and value is not None:
                shown = f"{value:#x}" if type(value) is int and value > 0xFFFF else str(value)
                words.append(f"{name}={shown}" if shown else f'{name}=""')
        return " ".join(words)


def propose(machine: Machine, choose: Choose[object], pivots: bool = True) -> Planned:
    """Something that one of the machine's tasks could do next."""
    threads = sorted(machine.system.threads.values(), key=lambda t: t.tid)
    ready = [t for t in threads if machine.can_run(t) or machine.next_step(t) is not None]
    thread = _chosen(choose, (*ready, *ready, *ready, *threads))
    if not machine.can_run(thread):
        return _kernel(machine, thread, choose)
    families = ["run"] * 6 + ["clone"] * 5 + ["life"] + ["prctl"] * 3 + ["memory"] * 2
    families += ["signal"] * 2 + ["libc"] * 2 + (["pivot"] * 2 if pivots else [])
    if len(threads) > 1:  # else the scenario would soon be over
        families += ["kill", "die"]
    if not thread.regs.u_cet & 1:
        families += ["enable"] * 8
    return _FAMILIES[_chosen(choose, families)](machine, thread, choose)


def _chosen(choose: Choose[object], things: Sequence[T]) -> T:
    return choose(things)  # type: ignore[return-value]


def _kernel(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    """A task that is in the kernel, or dying: let it go on, or do something to it."""
    if thread.ctl is Ctl.WORKER and not machine.dying(thread):
        return Planned(thread.name, _chosen(choose, ("exit", "exit", "sigkill")))
    kinds = ["kernel"] * 8 if machine.next_step(thread) is not None else []
    if thread.ctl in CAN_BE_KILLED:
        kinds.append("sigkill")
    if machine.dying(thread):
        kinds.append("contend")
    if not kinds:
        return Planned(thread.name, "kernel")
    return Planned(thread.name, _chosen(choose, kinds))


# -- families ----------------------------------------------------------------------


def _fresh(machine: Machine) -> str:
    used = machine.names()
    made = machine.system.made["task"]
    name = LETTERS[made] if made < len(LETTERS) else f"T{made}"
    return name if name not in used else f"T{made}"


def _run(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    kind = _chosen(choose, ("call", "call", "call", "ret", "ret", "incsspq", "other"))
    if thread.regs.u_cet & 1 and isinstance(thread.stack, Range) and kind in ("ret", "incsspq"):
        if thread.ssp == thread.stack.end and _chosen(choose, (True,) * 5 + (False,)):
            kind = "call"  # nothing is on its stack
    if kind in ("call", "ret"):
        return Planned(thread.name, kind)
    if kind == "incsspq" and thread.regs.u_cet & 1:
        return Planned(thread.name, kind, {"count": _chosen(choose, (0, 1, 1, 2, 255))})
    others = ["rdsspq", "endbr64", "call", "store", "load", "push", "pop", "jmp", "mov_rsp"]
    others += ["call_far", "ret_far", "iret", "jmp_far", "sigaltstack"]
    others += ["wrssq", "wrssd"] * thread.wrss + ["incsspd"] * (thread.regs.u_cet & 1)
    name = _chosen(choose, others)
    arguments: dict[str, dict[str, object]] = {
        "call": {"next": True},
        "wrssq": {"addr": max(0, thread.ssp - 8) & ~7, "value": 4660},
        "store": {"addr": thread.regs.rsp - 64, "value": 1},
        "wrssd": {"addr": max(0, thread.ssp - 4) & ~3, "value": 4660},
        "incsspd": {"count": 2},
        "load": {"addr": max(0, thread.ssp - 8) & ~7},
        "push": {"value": image.ENTRY},
        "jmp": {"target": image.ENTRY},
        "mov_rsp": {"value": thread.regs.rsp - 16},
        "jmp_far": {"segment": "64"},
        "sigaltstack": {"addr": image.ARENA, "size": 1 << 16},
    }
    return Planned(thread.name, name, arguments.get(name, {}))


def _clone(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    if len(machine.system.threads) >= TASKS:
        return Planned(thread.name, _chosen(choose, ("exit", "call", "execve")))
    child = _fresh(machine)
    fails = _chosen(choose, (None,) * 18 + tuple(LATE))
    kind = _chosen(choose, ("thread", "thread", "vfork", "vfork", "fork", "clone", "worker"))
    if kind == "worker":
        return Planned(thread.name, "io_uring_worker", {"worker": child, "fails": fails})
    if kind in ("vfork", "fork"):
        return Planned(thread.name, kind, {"child": child, "fails": fails})
    flags = FLAGS[1] if kind == "thread" else _chosen(choose, FLAGS)
    arguments: dict[str, object] = {"child": child, "flags": flags, "fails": fails}
    if "SETTLS" in flags:
        arguments["tls"] = _chosen(choose, ("good", "good", "good", "bad"))
    if _chosen(choose, (False, True)):
        arguments["stack_size"] = _chosen(choose, SIZES)
        return Planned(thread.name, "clone3", arguments)
    arguments["compat"] = _chosen(choose, (False, False, False, True))
    return Planned(thread.name, "clone", arguments)


def _life(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    kind = _chosen(choose, ("execve", "execve", "setrlimit"))
    if kind == "setrlimit":
        return Planned(thread.name, kind, {"stack": _chosen(choose, RLIMITS)})
    if kind == "execve":
        why = (None, None, "early", "before-release", "killed", "after-switch")
        return Planned(thread.name, kind, {"fails": _chosen(choose, why)})
    return Planned(thread.name, kind)


def _die(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    kind = _chosen(choose, ("exit", "exit", "exit_group", "ret", "store", "privileged"))
    if kind == "store":
        return Planned(thread.name, kind, {"addr": 0, "value": 1})
    if kind == "privileged":
        return Planned(thread.name, kind, {"instruction": "SETSSBSY"})
    return Planned(thread.name, kind)


def _prctl(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    option = _chosen(choose, ("ENABLE", "DISABLE", "DISABLE", "LOCK", "STATUS", "UNLOCK"))
    words = ("SHSTK", "SHSTK", "WRSS", "WRSS", "SHSTK|WRSS", "other", "none")
    arguments: dict[str, object] = {"option": option, "feature": _chosen(choose, words)}
    arguments["compat"] = _chosen(choose, (False, False, False, False, True))
    return Planned(thread.name, "arch_prctl", arguments)


def _enable(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    return Planned(thread.name, "arch_prctl", {"option": "ENABLE", "feature": "SHSTK"})


def _memory(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    areas = [a for a in machine.system.space(thread).areas if not a.image]
    if not areas or (len(areas) < AREAS and _chosen(choose, (True, False))):
        return Planned(thread.name, "mmap", {"size": _chosen(choose, (8 << 20, 8 << 20, 4096))})
    area = _chosen(choose, areas)
    kinds = ("munmap", "munmap", "mseal", "mremap", "part", "mprotect", "over")
    kind = _chosen(choose, kinds)
    return Planned(thread.name, *_on_area(kind, area))


def _on_area(kind: str, area: Vma) -> tuple[str, dict[str, object]]:
    where: dict[str, object] = {"addr": area.start, "size": area.size}
    if kind == "part":
        return "munmap", {"addr": area.start, "size": 4096}
    if kind == "mprotect":
        return "mprotect", {**where, "prot": "r"}
    if kind == "mremap":
        return "mremap", {**where, "to": area.start - (1 << 36)}
    if kind == "over":
        return "mmap", {"size": area.size, "addr": area.start, "fixed": True}
    return kind, where


def _signal(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    handled = machine.system.groups[thread.group].handlers  # type: ignore[index]
    if not handled:
        return Planned(thread.name, "sigaction", {"signal": "SIGUSR1"})
    inside = image.HANDLERS <= thread.regs.rip < image.RESTORER
    leave = ("handler_return",) * 4 * inside
    kind = _chosen(choose, ("sigaction", "kill", "kill", "kill", "rt_sigreturn", *leave))
    if kind in ("sigaction", "kill"):
        names = ("SIGUSR1", "SIGUSR1") + ("SIGSEGV",) * (kind == "sigaction")
        return Planned(thread.name, kind, {"signal": _chosen(choose, names)})
    return Planned(thread.name, kind)


def _libc(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    kind = _chosen(choose, ("libc_vfork", "pthread_create", "setjmp", "longjmp", "swapcontext"))
    if kind in ("libc_vfork", "pthread_create"):
        if len(machine.system.threads) >= TASKS:
            return Planned(thread.name, "setjmp", {"name": "J"})
        arguments: dict[str, object] = {"child": _fresh(machine)}
        if kind == "libc_vfork":
            arguments["generation"] = _chosen(choose, ("2.36", "2019"))
        return Planned(thread.name, kind, arguments)
    if kind == "swapcontext":
        if "U" not in thread.contexts:
            return Planned(thread.name, "makecontext", {"name": "U"})
        here, there = _chosen(choose, (("U", "J"), ("J", "U")))
        return Planned(thread.name, "swapcontext", {"to": there, "save": here})
    if kind == "longjmp" and "J" not in thread.contexts:
        kind = "setjmp"
    return Planned(thread.name, kind, {"name": "J"})


def _pivot(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    space = machine.system.space(thread)
    tokens = all_tokens(space)
    if not tokens or _chosen(choose, (True, False)):
        if len([a for a in space.areas if not a.image]) < AREAS:
            arguments = {"size": 8 << 20, "token": _chosen(choose, (True, True, False))}
            return Planned(thread.name, "map_shadow_stack", arguments)
        return Planned(thread.name, "saveprevssp")
    where = _chosen(choose, (*tokens, *tokens, thread.ssp & ~7))
    kind = _chosen(choose, ("pivot", "pivot", "rstorssp"))
    return Planned(thread.name, kind, {"addr": where})


def _kill(machine: Machine, thread: Thread, choose: Choose[object]) -> Planned:
    names = [t.name for t in machine.system.threads.values() if t.ctl in CAN_BE_KILLED]
    return Planned(_chosen(choose, sorted(names)), "sigkill")


_FAMILIES: dict[str, Callable[[Machine, Thread, Choose[object]], Planned]] = {
    "run": _run,
    "clone": _clone,
    "life": _life,
    "die": _die,
    "prctl": _prctl,
    "enable": _enable,
    "memory": _memory,
    "signal": _signal,
    "libc": _libc,
    "pivot": _pivot,
    "kill": _kill,
}
