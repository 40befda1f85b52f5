"""The reference machine: instructions and system calls per second, bytes per task.

The peers, in the same run: the CPU text on a dictionary of words instead of an address
space, and the finite world executing the same steps of the kernel's text on a given state.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import model.reference.protocols  # noqa: F401 - registers the operations
from model.cpu import branch
from model.cpu.concrete import ConcreteCpu, Registers
from model.designs import DESIGNS, Design
from model.kernel import STEPS
from model.reference.machine import Machine
from model.reference.operations import OPERATIONS, do
from shstk.refine import Follower
from shstk.replay import step_outcomes
from shstk.space import Bound, Space

PAIRS = 20_000
CALLS = 300
BY_NAME = {step.name: step for step in STEPS}


class Words:
    """The least memory that CALL and RET can run on."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def load(self, address: int, width: int, shadow: bool, user: bool, /) -> int:
        """The word at an address."""
        return self.words.get(address, 0)

    def store(self, address: int, width: int, value: int, shadow: bool, user: bool, /) -> None:
        """Write a word."""
        self.words[address] = value

    def probe_store(self, address: int, width: int, shadow: bool, user: bool, /) -> None:
        """Every store is allowed."""


def rate(count: int, work: Callable[[], object]) -> float:
    """How often per second, ``work`` being ``count`` times."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def call_and_ret(cpu: ConcreteCpu) -> None:
    """CALL, RET, and again."""
    for _ in range(PAIRS):
        branch.call_rel(cpu, 0x100)
        branch.ret(cpu)


def booted(design: Design) -> Machine:
    """A machine whose task has shadow stacks on."""
    machine = Machine.boot(design)
    do(machine, "P", "arch_prctl", "ENABLE")
    return machine


def by_operations(machine: Machine) -> None:
    """The same two instructions as operations of a task, with moves and exceptions."""
    call, ret = OPERATIONS["call"].run, OPERATIONS["ret"].run
    thread = machine.thread("P")
    for _ in range(PAIRS // 10):
        call(machine, thread)
        ret(machine, thread)


def clones(machine: Machine) -> None:
    """clone3 of a thread, its exit, and all that follows."""
    for number in range(CALLS):
        do(machine, "P", "clone3", f"T{number}", "VM|THREAD|SIGHAND", 1 << 20)
        do(machine, f"T{number}", "exit")


def mappings(machine: Machine) -> None:
    """mmap and munmap."""
    for _ in range(CALLS):
        start = do(machine, "P", "mmap", 1 << 20).value
        do(machine, "P", "munmap", start, 1 << 20)


def finite(design: Design) -> None:
    """The same clone in the finite world, on given states: one outcome per choice."""
    space = Space(Bound(2, 1, 2))
    at = step_outcomes(space, design, space.initial, 0, BY_NAME["enable"], fixed=USUAL)[0].after
    for _ in range(CALLS):
        state = at
        for task, name in LIFE:
            state = step_outcomes(space, design, state, task, BY_NAME[name], fixed=USUAL)[0].after


LIFE = (
    (0, "clone_thread"),
    (0, "clone_commit"),
    (1, "exit"),
    (1, "exit_mm_release"),
    (1, "exit_mm_drop"),
)
USUAL = {
    "stack_size": 0,
    "RLIMIT_STACK": 8 << 20,
    "ENOMEM": False,
    "compat": False,
    "bad TLS": False,
    "mmap_lock contended": False,
}


def bytes_per_task(design: Design, count: int = 200) -> float:
    """What a thread with its stack costs."""
    machine = booted(design)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        do(machine, "P", "clone3", f"T{number}", "VM|THREAD|SIGHAND", 1 << 20)
    machine.effects.clear()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def main() -> None:
    """Print the table."""
    design = DESIGNS["linux-6.12"]
    machine = booted(design)
    text = rate(2 * PAIRS, lambda: call_and_ret(machine.cpu(machine.thread("P"))))
    bare = ConcreteCpu(Registers(rip=0x401000, rsp=0x8000, ssp=0x4000, u_cet=1), Words())
    peer = rate(2 * PAIRS, lambda: call_and_ret(bare))
    operations = rate(PAIRS // 5, lambda: by_operations(machine))
    print("the reference machine, linux-6.12")
    print(f"  CALL and RET, CPU text on an address space {text:>12,.0f} /s")
    print(f"    against the same text on a dictionary    {text / peer:>12.2f} x")
    print(f"  CALL and RET as operations                 {operations:>12,.0f} /s")
    print(f"    against the CPU text alone               {operations / text:>12.2f} x")
    pairs = rate(2 * CALLS, lambda: mappings(machine))
    print(f"  mmap, munmap                               {pairs:>12,.0f} /s")
    lives = rate(CALLS, lambda: clones(booted(design)))
    abstract = rate(CALLS, lambda: finite(design))
    print(f"  lives of a thread (clone3 to gone)         {lives:>12,.0f} /s")
    print(f"    against the finite world, 2x1x2          {lives / abstract:>12.2f} x")
    followed = booted_and_followed(design)
    slow = rate(CALLS // 10, lambda: [clone_once(followed, n) for n in range(CALLS // 10)])
    print(f"    with every move compared (6x6x8)         {slow / lives:>12.3f} x")
    print(f"  bytes per task, its areas with it          {bytes_per_task(design):>12,.0f}")


def booted_and_followed(design: Design) -> Machine:
    """A machine whose every move is compared with the model."""
    machine = Machine.boot(design)
    Follower.of(machine)
    do(machine, "P", "arch_prctl", "ENABLE")
    return machine


def clone_once(machine: Machine, number: int) -> None:
    """One life of a thread."""
    do(machine, "P", "clone3", f"T{number}", "VM|THREAD|SIGHAND", 1 << 20)
    do(machine, f"T{number}", "exit")


if __name__ == "__main__":
    main()
