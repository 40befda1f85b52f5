"""What the machine does in fewer steps than what it models comes to the same."""

from __future__ import annotations

import random
from dataclasses import fields
from itertools import product

import pytest

from model.designs import DESIGNS
from model.kernel.signal import fatal_signal_pending
from model.reference.machine import BY_ITSELF, Machine, NotNow
from model.reference.operations import do
from model.reference.protocols import WALK_MAX, _token_below
from model.reference.system import Thread
from model.reference.tokens import is_restore_token
from model.reference.vma import PAGE_SIZE, AddressSpace, PageFault, Vma
from model.reference.world import ConcreteWorld, can_happen, is_dying
from model.state import NULL, Ctl, Exit

DESIGN = DESIGNS["linux-6.12"]


@pytest.fixture
def two() -> Machine:
    """A machine with two threads of a group."""
    machine = Machine.boot(DESIGN)
    do(machine, "P", "arch_prctl", option="ENABLE")
    do(machine, "P", "clone", child="T", flags="VM|THREAD|SIGHAND")
    return machine


@pytest.mark.parametrize(("exit_", "exec_task"), [*product(Exit, (NULL, 0, 1, 7))])
def test_who_is_dying_is_for_the_text_to_say(two: Machine, exit_: Exit, exec_task: int) -> None:
    """Asked with plain values, the text says what it does in a world."""
    system = two.system
    group = next(iter(system.groups.values()))
    group.exit, group.exec_task = exit_, exec_task
    for tid, thread in system.threads.items():
        said = bool(fatal_signal_pending(ConcreteWorld(system, tid).current))
        assert is_dying(system, thread) is said


@pytest.mark.parametrize(("exit_", "exec_task"), [*product(Exit, (NULL, 0, 1))])
def test_who_can_run_does_nothing_by_itself(two: Machine, exit_: Exit, exec_task: int) -> None:
    """No step that the kernel takes by itself can happen to a task that can run."""
    group = next(iter(two.system.groups.values()))
    group.exit, group.exec_task = exit_, exec_task
    for thread in two.system.threads.values():
        there = [s for s in BY_ITSELF[Ctl.USER] if can_happen(two.system, thread.tid, s, {})]
        assert bool(there) is not two.can_run(thread)


def test_a_copy_has_everything_and_shares_nothing(two: Machine) -> None:
    """Every field of a thread and its registers is copied, and what can be changed is its own."""
    do(two, "T", "setjmp", name="here")
    thread = two.thread("T")
    other = thread.copy()
    for field in fields(Thread):
        one, same = getattr(thread, field.name), getattr(other, field.name)
        assert field.name == "regs" or one == same
        assert not isinstance(one, (list, dict)) or one is not same
    assert other.regs is not thread.regs and other.todo is not thread.todo
    assert other.regs == thread.regs and other.regs.memory is thread.regs.memory


def test_a_copy_of_a_system_is_whole(two: Machine) -> None:
    """Nothing of a system, its address spaces and their areas is left out."""
    system, other = two.system, two.system.copy()
    assert vars(other).keys() == vars(system).keys()
    space, same = system.mms[0], other.mms[0]
    assert vars(same).keys() == vars(space).keys()
    area = space.areas[0]
    for number, field in enumerate(fields(Vma)):
        setattr(area, field.name, number)
    moved = area.at(100, 200)
    assert [getattr(moved, field.name) for field in fields(Vma)] == [100, 200, *range(2, 11)]


@pytest.mark.parametrize(
    "name", ["exit", "clone_thread", "fault", "shstk_disable", "de_thread_killed"]
)
def test_a_step_that_is_impossible_does_nothing(two: Machine, name: str) -> None:
    """Where a task is dying, or elsewhere, it is refused, and the machine stays as it was."""
    thread = two.thread("T")
    two.system.groups[0].exit = Exit.KILLED
    before, shown = thread.copy(), [*two.effects]
    with pytest.raises(NotNow, match=f"T cannot do {name} now"):
        two.step(thread, name)
    for field in fields(Thread):
        assert getattr(thread, field.name) == getattr(before, field.name)
    assert two.effects == shown


def word_by_word(space: AddressSpace, target: int, ssp: int) -> int | str | None:
    """Where longjmp() finds a token, as it is written in C."""
    at = target
    while at != ssp:
        if target - at > 8 * WALK_MAX:
            return "too long"
        at -= 8
        try:
            word = space.load(at, 8, False, True)
        except PageFault:
            return None
        if is_restore_token(at, word):
            return at
    return None


@pytest.mark.parametrize("seed", range(60))
def test_longjmp_walks_over_zeros(two: Machine, seed: int) -> None:
    """The same token is found, or none, or it takes too long, and the same pages were read."""
    rng = random.Random(seed)
    thread, space = two.thread("P"), two.system.space(two.thread("P"))
    size = rng.choice([2, 3, 8, 130]) * PAGE_SIZE
    start = space.mmap(0, size, 1, shadow=True)
    ends = [start, start + size, *(start + PAGE_SIZE * n for n in range(3))]
    for _ in range(rng.randrange(6)):
        at = rng.choice([start + 8 * rng.randrange(size // 8), rng.choice(ends[:1] + ends[2:])])
        at = min(at, start + size - 8)
        space.store(at, 8, rng.choice([0, 1, 0x402000, (at + 8) | 1]), True, True)
    places = [*ends, start + 8 * rng.randrange(size // 8), start + 4 * rng.randrange(size // 4)]
    target, thread.ssp = rng.choice(places), rng.choice([*places, thread.ssp])
    expected_space = space.copy()
    expected = word_by_word(expected_space, target, thread.ssp)
    found: int | str | None
    try:
        found = _token_below(two, thread, target)
    except Exception as error:  # noqa: BLE001 - NotNow and nothing else
        assert "takes too long" in str(error)
        found = "too long"
    assert found == expected
    assert space.pages.present.keys() == expected_space.pages.present.keys()
