"""Steps and event families: how a kernel path becomes part of the state machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from model.state import Ctl
from model.world import World


class Environment(Enum):
    """Who causes an event: any program, one that moves between stacks, an attacker."""

    ORDINARY = "ordinary"
    PIVOT = "pivot"
    HOSTILE = "hostile"


@dataclass(frozen=True)
class Family:
    """A set of events that ``--without NAME`` switches off."""

    name: str
    environment: Environment
    meaning: str


@dataclass(frozen=True)
class Step:
    """One transition of one task: enabled in the control states ``at``.

    ``source`` is the file and version the path was read from; empty: the design's own file.
    ``fair``: the kernel
    takes the step by itself, so a task does not stay in ``at`` for ever while it can.
    """

    name: str
    at: tuple[Ctl, ...]
    family: str
    function: str
    source: str
    run: Callable[[World], None]
    fair: bool

    @property
    def meaning(self) -> str:
        """The first line of the step's docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0].rstrip(".")


STEPS: list[Step] = []

_ORDINARY = [
    ("kernel", "the kernel carries on with what a task is in"),
    ("thread", "clone(CLONE_VM|CLONE_THREAD): pthread_create"),
    ("fork", "fork"),
    ("vfork", "vfork, posix_spawn: CLONE_VM|CLONE_VFORK"),
    ("vfork-copy", "CLONE_VFORK without CLONE_VM"),
    ("vfork-thread", "CLONE_VM|CLONE_VFORK|CLONE_THREAD"),
    ("vm", "CLONE_VM without CLONE_THREAD: another process in the same mm"),
    ("worker", "the kernel makes a worker for a task (io_uring)"),
    ("compat", "clone and arch_prctl through the 32-bit system call entry"),
    ("early-clone-failure", "clone fails before it has copied the mm (RLIMIT_NPROC)"),
    ("late-clone-failure", "clone fails after copy_thread"),
    ("tls-failure", "clone with CLONE_SETTLS and a bad TLS address"),
    ("alloc-failure", "mapping a shadow stack fails with -ENOMEM"),
    ("exec", "execve"),
    ("exec-failure", "execve fails past its point of no return"),
    ("exit", "a thread exits by itself"),
    ("exit-group", "exit_group"),
    ("sigkill", "SIGKILL from outside the group"),
    ("vfork-abandon", "a fatal signal ends a vfork wait"),
    ("fault", "an exception of user code, RET on an empty shadow stack among them: SIGSEGV"),
    ("munmap-eintr", "munmap of a dying task meets a contended mmap_lock"),
    ("enable", "arch_prctl(ARCH_SHSTK_ENABLE, SHSTK)"),
    ("disable", "arch_prctl(ARCH_SHSTK_DISABLE, SHSTK)"),
    ("lock", "arch_prctl(ARCH_SHSTK_LOCK)"),
    ("wrss", "arch_prctl of ARCH_SHSTK_WRSS"),
    ("run", "user code runs: CALL, RET, signals"),
    ("mmap", "user code maps ordinary memory, and unmaps it"),
]
_PIVOT = [
    ("map-shadow-stack", "map_shadow_stack(2)"),
    ("pivot", "RSTORSSP, SAVEPREVSSP: moving to another shadow stack"),
    ("clone3-token", "clone3 with shstk_token: the child starts on a stack with a token"),
]
_HOSTILE = [
    ("mseal", "mseal(2) of a shadow stack"),
    ("munmap-shstk", "munmap(2) of a shadow stack by user code"),
    ("mremap-shstk", "mremap(2) of a shadow stack by user code"),
    ("unfair-lock", "the mmap_lock may stay contended for ever"),
]

FAMILIES: dict[str, Family] = {
    name: Family(name, environment, meaning)
    for environment, rows in (
        (Environment.ORDINARY, _ORDINARY),
        (Environment.PIVOT, _PIVOT),
        (Environment.HOSTILE, _HOSTILE),
    )
    for name, meaning in rows
}


def step(
    *at: Ctl, family: str = "kernel", function: str = "", source: str, fair: bool | None = None
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Register a function as a step; ``function`` is the kernel's name where it differs.

    Steps of a task in user mode are not fair unless told so: no program must make
    the next system call.
    """

    def register(run: Callable[[World], None]) -> Callable[[World], None]:
        is_fair = Ctl.USER not in at and Ctl.WORKER not in at if fair is None else fair
        STEPS.append(Step(run.__name__, at, family, function or run.__name__, source, run, is_fair))
        return run

    return register
