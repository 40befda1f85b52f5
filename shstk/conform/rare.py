"""What campaigns are for, and random choice would seldom do.

A killed vfork waiter, late clone failures, a failing execve, sealed stacks, groups that die
while members wait, workers, tokens used twice, sizes of every kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.reference import image
from model.reference.calls import LATE
from model.reference.machine import LETTERS, Machine
from model.reference.system import Thread
from model.reference.tokens import all_tokens
from model.reference.vma import Vma
from model.reference.world import SH_STK_EN
from model.state import Ctl
from shstk.generate import TASKS, Planned

PAGE = 4096
# Bytes: of clone3 and map_shadow_stack, of RLIMIT_STACK.
SIZES: tuple[int, ...] = (
    0,
    1,
    8,
    4095,
    4096,
    4097,
    5000,
    16384,
    1 << 20,
    (2 << 20) - 1,
    2 << 20,
    8 << 20,
)
SIZES += ((4 << 30) - 1, 4 << 30, (4 << 30) + 4096, 8 << 30, 1 << 45, (1 << 47) - 1, 1 << 63)
RLIMITS = (8 << 20, 1 << 20, 64 << 10, 100000, 4096, 1, 0, 1 << 30, 4 << 30, 6 << 30, (1 << 64) - 1)
CLONES: tuple[str, ...] = (
    "VM|THREAD|SIGHAND",
    "VM|THREAD|SIGHAND|SETTLS",
    "VM",
    "VM|SETTLS",
    "VM|VFORK",
)
CLONES += ("VM|VFORK|SETTLS", "VFORK", "VM|VFORK|THREAD|SIGHAND", "0", "SETTLS", "PIDFD|VM")


@dataclass
class Dice:
    """Choices that a seed repeats."""

    random: random.Random

    def choose(self, things: Sequence[Any]) -> Any:
        """One of them."""
        return self.random.choice(things)

    def chance(self, part: float) -> bool:
        """True in that part of the cases."""
        return self.random.random() < part


Family = Callable[[Machine, Thread, Dice], Planned | None]


def _fresh(machine: Machine) -> str:
    """A name for a task that no task has or had."""
    taken = set(machine.names()) | {death.name for death in machine.system.dead.values()}
    names = (*LETTERS, *(f"T{n}" for n in range(100)))
    return str(next(name for name in names if name not in taken))


def _full(machine: Machine) -> bool:
    return len(machine.system.threads) >= TASKS


def _waiters(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """Something happens to a vfork parent that waits: a signal, or a sibling ends its group."""
    waiting = [t for t in machine.system.threads.values() if t.ctl is Ctl.VFORK_WAIT]
    if not waiting:
        if _full(machine):
            return None
        return Planned(thread.name, "vfork", {"child": _fresh(machine)})
    waiter = dice.choose(waiting)
    mates = [
        t for t in machine.system.threads.values() if t.group == waiter.group and machine.can_run(t)
    ]
    if mates and dice.chance(0.6):
        how = dice.choose(("exit_group", "execve", "exit"))
        return Planned(dice.choose(mates).name, how)
    signal = dice.choose(("SIGKILL", "SIGKILL", "SIGTERM", "SIGUSR1", "SIGSEGV"))
    return Planned(waiter.name, "kill", {"signal": signal})


def _clone(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """Clones in all flavours, with sizes of every kind and with what makes them fail late."""
    if _full(machine):
        return None
    child = _fresh(machine)
    fails = dice.choose((None,) * 4 + tuple(LATE)) if dice.chance(0.5) else None
    kind = dice.choose(("clone", "clone3", "clone3", "fork", "vfork"))
    arguments: dict[str, object] = {"child": child}
    if kind in ("clone", "clone3"):
        arguments["flags"] = flags = dice.choose(CLONES)
        if "SETTLS" in flags:
            arguments["tls"] = dice.choose(("good", "bad"))
    if kind == "clone3" and dice.chance(0.7):
        arguments["stack_size"] = dice.choose(SIZES)
    if kind in ("clone", "clone3") and dice.chance(0.2):
        arguments["compat"] = True
    if kind == "clone3" and thread.ssp and dice.chance(0.05):
        arguments["shstk_token"] = thread.ssp - 8 & ~7
    return Planned(thread.name, kind, {**arguments, "fails": fails})


def _exec(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """execve, mostly one that fails."""
    fails = dice.choose(("after-switch", "after-switch", "before-release", "early", None))
    return Planned(thread.name, "execve", {"fails": fails})


def _end(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """A task ends, or its group, with a status."""
    if len(machine.system.threads) < 2:
        return None
    how = dice.choose(("exit", "exit", "exit_group"))
    return Planned(thread.name, how, {"code": dice.choose((0, 1, 7, 255))})


def _limits(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    return Planned(thread.name, "setrlimit", {"stack": dice.choose(RLIMITS)})


def _prctl(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """Features on and off, in children too."""
    option = dice.choose(("DISABLE", "ENABLE", "ENABLE", "LOCK", "STATUS"))
    feature = dice.choose(("SHSTK", "SHSTK", "WRSS", "WRSS", "SHSTK|WRSS"))
    return Planned(thread.name, "arch_prctl", {"option": option, "feature": feature})


def _map(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """map_shadow_stack with sizes, tokens and flags of every kind."""
    arguments: dict[str, object] = {"size": dice.choose(SIZES), "token": dice.chance(0.6)}
    if dice.chance(0.1):
        arguments["flags"] = dice.choose((2, 4, 1 << 20))
    if dice.chance(0.2):
        arguments["compat"] = True
    shadow = _shadow(machine, thread)
    if shadow and dice.chance(0.3):
        area = dice.choose(shadow)
        arguments["addr"] = dice.choose(
            (
                area.start,
                area.start - PAGE,
                area.end,
                area.end + PAGE,
                area.start + 8,
                PAGE,
                1 << 31,
            )
        )
    return Planned(thread.name, "map_shadow_stack", arguments)


def _shadow(machine: Machine, thread: Thread) -> list[Vma]:
    return [area for area in machine.system.space(thread).areas if area.shadow]


def _area(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """System calls on a shadow stack: whole, in part, across its border; sealed, moved, resized."""
    shadow = _shadow(machine, thread)
    if not shadow:
        return None
    area = dice.choose(shadow)
    pages = max(1, area.size // PAGE)
    first = dice.choose((0, 0, 0, 1, pages // 2, pages - 1))
    count = dice.choose((pages - first, pages - first, 1, pages - first + 1))
    where: dict[str, object] = {"addr": area.start + PAGE * first, "size": PAGE * count}
    kind = dice.choose(("munmap", "mprotect", "mprotect", "mremap", "mremap", "mseal", "mmap"))
    if kind == "mprotect":
        where["prot"] = dice.choose(("none", "r", "rw"))
    if kind == "mmap":
        how = dice.choose(("fixed", "noreplace"))
        where = {"size": PAGE * count, "addr": where["addr"], how: True}
    if kind == "mremap":
        where |= dice.choose(_moves(area, count))
    return Planned(thread.name, kind, where)


def _moves(area: Vma, count: int) -> tuple[Mapping[str, object], ...]:
    return (
        {"to": area.start - (1 << 36)},
        {"to": area.end, "new_size": PAGE * count},
        {"new_size": PAGE * (count + 1), "maymove": True},
        {"new_size": PAGE * (count + 1)},
        {"new_size": PAGE * max(1, count - 1)},
        {"new_size": 0},
    )


def _own_end(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """What the kernel meets when it frees a task's stack: sealed, gone, replaced, split."""
    area = machine.system.space(thread).find(thread.base) if thread.base else None
    if area is None:
        return None
    kind = dice.choose(("mseal", "mseal", "munmap", "mmap", "part"))
    where: dict[str, object] = {"addr": area.start, "size": area.size}
    if kind == "part":
        return Planned(thread.name, "mseal", {"addr": area.start, "size": PAGE})
    if kind == "mmap":
        return Planned(thread.name, kind, {"size": area.size, "addr": area.start, "fixed": True})
    return Planned(thread.name, kind, where)


def _pivot(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """Tokens used, used twice, by others, and where there are none."""
    tokens = all_tokens(machine.system.space(thread))
    if not tokens:
        return None
    kind = dice.choose(("pivot", "pivot", "rstorssp", "saveprevssp"))
    if kind == "saveprevssp":
        return Planned(thread.name, kind)
    return Planned(thread.name, kind, {"addr": dice.choose((*tokens, thread.ssp & ~7))})


def _writes(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """WRSS: over return addresses, over tokens, tokens made by hand; to what is no stack."""
    if not thread.regs.u_cet & SH_STK_EN:
        return None
    if not thread.wrss and dice.chance(0.8):
        return Planned(thread.name, "arch_prctl", {"option": "ENABLE", "feature": "WRSS"})
    at = (thread.ssp - 8 * dice.choose((1, 2, 3))) & ~7
    value = dice.choose((4660, 0, (at + 8) | 1, at | 1))
    return Planned(thread.name, "wrssq", {"addr": at, "value": value})


def _signals(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """Handlers, for faults too, and signals without one."""
    if dice.chance(0.1):
        where = {"addr": image.ARENA, "size": dice.choose((1 << 16, 1 << 16, 8192, 2047))}
        return Planned(thread.name, "sigaltstack", where)
    signal = dice.choose(("SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGTERM", "SIGBUS", "SIGILL"))
    handled = machine.system.groups[thread.group].handlers  # type: ignore[index]
    if not handled or dice.chance(0.4):
        default = dice.chance(0.2)
        return Planned(thread.name, "sigaction", {"signal": signal, "default": default})
    if dice.chance(0.5):
        return Planned(thread.name, "handler_return")
    return Planned(thread.name, "kill", {"signal": signal})


def _code(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """CALL and RET, and what makes them disagree."""
    kinds = (
        "call",
        "call",
        "call",
        "ret",
        "ret",
        "ret",
        "load",
        "pop",
        "pop",
        "push",
        "privileged",
    )
    kind = dice.choose(kinds)
    if kind == "load":
        return Planned(thread.name, kind, {"addr": (thread.ssp + 8 * dice.choose((0, -1))) & ~7})
    if kind == "push":
        return Planned(thread.name, kind, {"value": 4660})
    if kind == "privileged":
        name = dice.choose(("SETSSBSY", "CLRSSBSY", "WRUSSQ", "WRUSSD"))
        return Planned(thread.name, kind, {"instruction": name}) if dice.chance(0.2) else None
    return Planned(thread.name, kind)


def _worker(machine: Machine, thread: Thread, dice: Dice) -> Planned | None:
    """A kernel worker's life: it ends, is killed, its stack is unmapped, its maker goes."""
    workers = [t for t in machine.system.threads.values() if t.worker and t.group == thread.group]
    if not workers:
        fails = dice.choose((None, None, None, "pids", "cgroup"))
        made = {"worker": _fresh(machine), "fails": fails}
        return None if _full(machine) else Planned(thread.name, "io_uring_worker", made)
    worker = dice.choose(workers)
    kind = dice.choose(("exit", "exit", "sigkill", "munmap", "execve"))
    area = machine.system.space(thread).find(worker.base) if worker.base else None
    if kind == "munmap" and area is not None:
        return Planned(thread.name, kind, {"addr": area.start, "size": area.size})
    if kind == "execve":
        return Planned(thread.name, kind)
    return Planned(worker.name, "exit" if kind == "munmap" else kind)


FAMILIES: tuple[Family, ...] = (
    *(_worker,) * 2,
    *(_waiters,) * 4,
    *(_clone,) * 5,
    *(_exec,) * 2,
    *(_end,) * 2,
    _limits,
    *(_prctl,) * 2,
    *(_map,) * 2,
    *(_area,) * 3,
    *(_own_end,) * 2,
    *(_pivot,) * 2,
    *(_writes,) * 2,
    *(_signals,) * 3,
    *(_code,) * 3,
)
