"""Two designs in lockstep: where they first differ, and that they really do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from counterexamples.trace import TraceStep
from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.designs.v1 import V1
from model.events import Warned, Warning
from model.kernel import FAMILIES
from model.kernel.errno import ENOMEM, EOPNOTSUPP
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.kernel.mmap import (
    mmap_shadow_stack,
    page_align,
    rlimit_stack,
    rlimit_stack_max_4g,
)
from model.state import NO, NULL, Kind, Task
from model.world import World
from shstk.behaviour import Comparison, Lockstep, explore
from shstk.build import Request, program
from shstk.engine import Engine
from shstk.parting import happened
from shstk.plan import families_in
from shstk.product import common, looks
from shstk.replay import BY_NAME, Successor, explicit_successors, step_outcomes
from shstk.space import Bound, Space, Valuation
from shstk.table_cache import tables
from shstk.views import valuation

MERGED = DESIGNS["linux-6.12"]
ON = {"kernel", "enable", "disable", "vfork", "thread", "exit", "sigkill", "late-clone-failure"}
ON |= {"alloc-failure", "compat", "tls-failure", "munmap-eintr", "vfork-abandon"}
WITHOUT = frozenset(f for f in FAMILIES if f not in ON)
ALONE, SMALL = Bound(1, 1, 1), Bound(2, 1, 1)


def lockstep(one: Design, other: Design, bound: Bound = ALONE) -> Lockstep:
    """Explored with few event families."""
    return explore(Comparison((one, other), "ordinary", bound, WITHOUT))


class Noted(Linux612):
    """Forgets the range when it is gone; nobody can tell."""

    def shstk_free(self, k: World, tsk: Task) -> int:
        if k.current.shstk == NO:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm) | (tsk.base == NULL):
            return 0
        if tsk.size == 0:
            k.emit(Warned(tsk, Warning.DOUBLE_FREE))
            return 0
        self.unmap_shadow_stack(k, tsk)
        tsk.size = 0
        return 0

    def start_thread(self, k: World, tsk: Task) -> None:
        super().start_thread(k, tsk)
        tsk.size = 0


class OtherErrno(Linux612):
    """Says ENOMEM where the merged design says EOPNOTSUPP."""

    def shstk_setup(self, k: World) -> int:
        err = super().shstk_setup(k)
        return ENOMEM if err != 0 else 0


class Larger(Linux612):
    """Maps a page more than RLIMIT_STACK."""

    def shstk_setup(self, k: World) -> int:
        rlimit = rlimit_stack(k)
        size = page_align(rlimit_stack_max_4g(k, rlimit)) + 4096
        if k.may("compat", "compat"):
            return EOPNOTSUPP
        addr, err = mmap_shadow_stack(k, k.current, size, Kind.SETUP, 0, rlimit, False)
        if err != 0:
            return err
        k.current.ssp = k.current.base = addr
        k.current.size = size
        k.current.shstk = True
        return 0


class Coin(Linux612):
    """Warns, or does not, when a vfork child would free its stack."""

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if k.choose("coin", (True, False)) == True:
            k.emit(Warned(tsk, Warning.MUNMAP_FAILED, "EPERM"))
        return super().deactivate_mm(k, tsk)


class Idle(Linux612):
    """Asks for a choice that changes nothing, and for another's by another name."""

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if k.choose("coin", (True, False)) == True:
            return super().deactivate_mm(k, tsk)
        return super().deactivate_mm(k, tsk)


class Unsealed(Linux612):
    """The merged design, on a kernel without mseal(2)."""

    has_mseal = False


class Keeps(Linux612):
    """A vfork child keeps its parent's bookkeeping."""

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0
        return super().shstk_alloc_thread_stack(k, tsk, args)


@pytest.fixture(scope="module")
def keeps() -> Lockstep:
    """The merged design beside one whose vfork child keeps the bookkeeping."""
    return lockstep(MERGED, Keeps(), SMALL)


def test_a_design_and_itself_never_differ() -> None:
    """In lockstep with itself a design has the states that it has alone, and no difference."""
    found = lockstep(V1(), V1(), SMALL)
    alone = Engine(
        program(tables(V1(), SMALL), Request(families_in("ordinary", WITHOUT), 0))
    ).explore(symmetry=True)
    assert (found.partings, found.complete) == ([], True)
    assert (found.states, found.depth) == (alone.states, len(alone.levels) - 1)


def test_bookkeeping_is_no_behaviour() -> None:
    """What a design writes where nobody looks is no difference."""
    assert lockstep(MERGED, Noted()).partings == []


def test_an_error_number_is_a_difference() -> None:
    """Two designs that return other errors differ in the step that returns it."""
    found = lockstep(MERGED, OtherErrno())
    assert [(p.length, p.step) for p in found.partings] == [(1, "enable")]
    one, other = found.partings[0].answers
    assert one and other and one.state == other.state
    assert (one.notes, other.notes) == (("-EOPNOTSUPP for task0",), ("-ENOMEM for task0",))


def test_the_size_of_a_stack_is_a_difference() -> None:
    """A stack of another size is one, though the state says only that it is not 0."""
    first = lockstep(MERGED, Larger()).partings[0]
    one, other = first.answers
    assert (first.length, first.step) == (1, "enable")
    assert one and other and one.picks == other.picks
    assert [n for n in one.notes if "8 MiB (RLIMIT" in n]
    assert [n for n in other.notes if "8 MiB + 4 KiB (RLIMIT" in n]


def test_a_choice_that_changes_nothing_is_no_difference() -> None:
    """What one design alone chooses is its own, as long as it can answer alike."""
    assert lockstep(MERGED, Idle()).partings == []


@pytest.mark.parametrize("swapped", [False, True])
def test_a_choice_that_can_be_heard_is_a_difference(swapped: bool) -> None:
    """A design that may warn differs from one that never does, whichever comes first."""
    designs = (Coin(), MERGED) if swapped else (MERGED, Coin())
    found = lockstep(*designs)
    assert [(p.length, p.step) for p in found.partings] == [(2, "exit_mm_release")]
    answers = found.partings[0].answers
    warned = [bool(a and any("WARN" in note for note in a.notes)) for a in answers]
    assert warned == ([True, False] if swapped else [False, True])


def test_a_step_that_only_one_design_can_take_is_a_difference() -> None:
    """Without mseal(2) a step cannot happen, whichever design comes first."""
    for designs in ((MERGED, Unsealed()), (Unsealed(), MERGED)):
        asked = Comparison(designs, "ordinary+hostile", ALONE, WITHOUT - {"mseal"})
        first = explore(asked).partings[0]
        assert (first.length, first.step) == (2, "mseal")
        assert [a is None for a in first.answers] == [d is not MERGED for d in designs]


def test_the_order_of_the_designs_does_not_matter(keeps: Lockstep) -> None:
    """Both orders have the same differences after as many steps."""
    swapped = lockstep(Keeps(), MERGED, SMALL)
    assert {(p.step, p.length) for p in swapped.partings} == {
        (p.step, p.length) for p in keeps.partings
    }
    assert keeps.partings


def test_a_difference_is_one_when_the_text_is_executed(keeps: Lockstep) -> None:
    """Every run replays on both designs, and the answers after it are not the same."""
    space = Space(SMALL)
    designs = MERGED, Keeps()
    for parting in keeps.partings:
        ends = []
        for design, run, answer in zip(designs, parting.runs, parting.answers, strict=True):
            at = space.initial
            for step in run:
                at = taken(space, design, at, step).after
            ends.append(answer and visible(space, taken(space, design, at, answer)))
        states = [[seen(space, valuation(space, s.state)) for s in r] for r in parting.runs]
        assert states[0] == states[1]
        assert ends[0] != ends[1]


def test_the_first_difference_is_the_shortest(keeps: Lockstep) -> None:
    """Executing both texts breadth first, without tables, finds none earlier."""
    found = next(depth for depth in differences(MERGED, Keeps(), SMALL, 4))
    assert found == keeps.partings[0].length == 3


def taken(space: Space, design: Design, at: Valuation, step: TraceStep) -> Successor:
    """A recorded step, taken again."""
    found = step_outcomes(space, design, at, step.task, BY_NAME[step.step], WITHOUT, step.picks)
    return next(s for s in found if s.after == valuation(space, step.state))


def visible(space: Space, successor: Successor) -> object:
    """What others see of a step."""
    return seen(space, successor.after), repr(happened(successor))


def seen(space: Space, state: Valuation) -> tuple[object, ...]:
    """What others see of a state."""
    return tuple(
        looks(cell.field, cell.domain[value])
        for cell, value in zip(space.cells, state, strict=True)
        if common(cell.field)
    )


def differences(one: Design, other: Design, bound: Bound, depth: int) -> Iterator[int]:
    """After how many steps two designs have other sets of answers."""
    space = Space(bound)
    frontier = {(space.initial, space.initial)}
    for length in range(1, depth + 1):
        reached = set()
        for states in frontier:
            answers = []
            for design, at in zip((one, other), states, strict=True):
                found: dict[object, Valuation] = {}
                for task, step, after, _ in explicit_successors(space, design, at, ON, WITHOUT):
                    found[task, step.name, seen(space, after)] = after
                answers.append(found)
            if answers[0].keys() != answers[1].keys():
                yield length
            reached |= {(answers[0][k], answers[1][k]) for k in answers[0].keys() & answers[1]}
        frontier = reached
