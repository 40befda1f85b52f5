"""Alike: what two designs may note differently, proved to be read by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import z3

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel import STEPS
from model.state import NULL, SHADOW_KINDS, Ctl, Kind, Mapping, Sort, Task
from model.world import World
from properties.unread import UNREAD, Unread
from shstk.mutants import Mutant, directory, hooks_reaching, mutants, mutated
from shstk.mutations import ALWAYS, DROPPED, SWAPPED
from shstk.plan import families_in
from shstk.proof.alike import FOR_CLAIMS, KIND, NUMBERS, Alike, excusable
from shstk.proof.differences import Difference, of_what_is_seen
from shstk.proof.equivalence import Comparison, Equivalence
from shstk.proof.forking import Fork
from shstk.proof.heap import Heap
from shstk.proof.induction import enabled_steps
from shstk.proof.invariants import named
from shstk.proof.sorts import enumeration, functions, unbounded
from shstk.proof.world import SymbolicWorld

LINUX = DESIGNS["linux-6.12"]
# Part of the invariant that is proved of the merged design, and enough here.
KNOWN = ("child-is-enabled-like-parent", "live-has-mm")
# Of proposed: a task with shadow stacks on has noted a stack, and its size.
SIZED = (
    *("clone-has-child", "worker-stays-one", "no-base-no-size", "no-size-no-base"),
    *("off-has-no-size", "on-is-recorded", "enabled-is-on", "references-are-tasks"),
)
SIZE, BASE, OFF, SSP = (cast(Any, vars(Task)[n]) for n in ("size", "base", "off", "ssp"))
OWNER = cast(Any, vars(Mapping)["owner"])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the mutants of these tests are."""
    with directory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def equivalence() -> Equivalence:
    """Compares with the merged design."""
    return Equivalence(LINUX, named(KNOWN))


def mutant(kind: str, method: str, part: str) -> Mutant:
    """A mutant of the merged design, by what changes."""
    return next(
        m
        for m in mutants(LINUX)
        if (m.kind, m.method) == (kind, method) and part in " ".join(m.original)
    )


def alike(equivalence: Equivalence, folder: Path, changed: Mutant) -> Comparison:
    """Can nobody tell a mutant from the merged design?"""
    hooks = hooks_reaching(LINUX, changed.owner, changed.method)
    return equivalence.compare_alike(mutated(LINUX, changed, folder), hooks)


# -- mutants ---------------------------------------------------------------------------
def test_a_size_beside_no_base_is_read_by_nobody(equivalence: Equivalence, folder: Path) -> None:
    """A vfork child has no base, so what it has for a size never matters, in any later step."""
    changed = mutant(DROPPED, "shstk_alloc_thread_stack", "tsk.size = 0")
    hooks = hooks_reaching(LINUX, changed.owner, changed.method)
    assert not equivalence.compare(mutated(LINUX, changed, folder), hooks)
    found = alike(equivalence, folder, changed)
    assert found and found.unread == tuple(r.sentence for r in UNREAD if r.field is SIZE)
    assert set(found.steps) == {s.name for s in enabled_steps(families_in("ordinary"))}


@pytest.mark.parametrize(
    ("kind", "method", "part"),
    [
        (DROPPED, "shstk_alloc_thread_stack", "tsk.base = NULL"),  # the child frees the parent's
        (DROPPED, "shstk_free", "tsk.size = 0"),  # it is freed once more
        (SWAPPED, "shstk_alloc_thread_stack", "CLONE_VM == 0"),  # a copy is freed
    ],
)
def test_bookkeeping_that_somebody_reads(
    equivalence: Equivalence, folder: Path, kind: str, method: str, part: str
) -> None:
    """What a later free looks at is no detail."""
    assert not alike(equivalence, folder, mutant(kind, method, part))


def test_what_the_cpu_has_is_no_bookkeeping(equivalence: Equivalence, folder: Path) -> None:
    """SSP itself is seen by everybody: no rule excuses it."""
    found = alike(equivalence, folder, mutant(DROPPED, "shstk_setup", "current.ssp = addr"))
    assert found.differs == "the state after it differs in what is read"


def test_whose_a_stack_is_said_to_be_is_for_claims_alone(folder: Path) -> None:
    """Which of its holders a counted stack is noted to belong to makes no difference."""
    proposed = DESIGNS["proposed"]
    changed = next(
        m
        for m in mutants(proposed)
        if m.kind == ALWAYS and "if mapping.owner == tsk" in m.original[0]
    )
    hooks = hooks_reaching(proposed, changed.owner, changed.method)
    equivalence = Equivalence(proposed, ())
    strict = equivalence.compare(mutated(proposed, changed, folder), hooks)
    assert strict.differs == "exit_mm_release: the state after it differs"
    found = equivalence.compare_alike(mutated(proposed, changed, folder), hooks)
    assert found and found.unread == (FOR_CLAIMS,)


class HandsOver(Linux612):
    """A stack is noted to belong to some other task of the mm, if there is one."""

    def shstk_free(self, k: World, tsk: Task) -> int:
        if (tsk.base != NULL) & k.exists_task(lambda t: (t != tsk) & (t.mm == tsk.mm)):
            tsk.mm.at(tsk.base).owner = k.some_task(lambda t: (t != tsk) & (t.mm == tsk.mm))
        return super().shstk_free(k, tsk)


class Insists(Linux612):
    """The same, but there has to be one."""

    def shstk_free(self, k: World, tsk: Task) -> int:
        if tsk.base != NULL:
            tsk.mm.at(tsk.base).owner = k.some_task(lambda t: (t != tsk) & (t.mm == tsk.mm))
        return super().shstk_free(k, tsk)


def test_a_choice_can_be_made_where_there_is_one() -> None:
    """Each chooses a task as it likes, if there is one; where there may be none it is stuck."""
    steps = [s for s in STEPS if s.name == "exit_mm_release"]
    equivalence = Equivalence(LINUX, named(KNOWN))
    relation = Alike(equivalence.universe, LINUX, ())
    assert equivalence._steps(HandsOver(), steps, relation)
    stuck = equivalence._steps(Insists(), steps, relation)
    assert stuck.differs == "exit_mm_release: only the original can take it"


def test_a_number_that_the_model_does_not_look_at(folder: Path) -> None:
    """A size that is not noted stays the parent's: the wrong length is unmapped, and none tells."""
    proposed = DESIGNS["proposed"]
    changed = next(
        m
        for m in mutants(proposed)
        if (m.kind, m.original) == (DROPPED, ("    tsk.size = size",)) and m.owner is type(proposed)
    )
    hooks = hooks_reaching(proposed, changed.owner, changed.method)
    equivalence = Equivalence(proposed, named(SIZED))
    found = equivalence.compare_alike(mutated(proposed, changed, folder), hooks)
    assert found and found.blind and found.unread == (NUMBERS,)
    # Whether it is 0 is looked at: without the invariant it might be.
    assert not Equivalence(proposed, ()).compare_alike(mutated(proposed, changed, folder), hooks)


# -- rules -----------------------------------------------------------------------------
def kept_by(design: Design, rule: Unread, *names: str) -> Comparison:
    """Does a design with other values where the rule says so go the same way, in these steps?"""
    equivalence = Equivalence(design, named(KNOWN))
    steps = [s for s in STEPS if s.name in names]
    return equivalence._steps(design, steps, Alike(equivalence.universe, design, [rule]))


def test_a_rule_that_is_wrong_is_refuted() -> None:
    """A design is not even like itself if what it reads is said to be unread."""
    wrong = Unread(SIZE, "every size", lambda _k, t: t.base != t.ssp)
    found = kept_by(LINUX, wrong, "exit_mm_release")
    assert found.differs.startswith("exit_mm_release")
    right = next(r for r in UNREAD if r.field is SIZE)
    assert kept_by(LINUX, right, "exit_mm_release")


def test_a_variable_may_not_stay_different_where_it_is_read_again() -> None:
    """That a step does not read it is not enough: afterwards it must be unread, too."""
    waiting = Unread(OFF, "a vfork parent's offset", lambda _k, t: t.ctl == Ctl.VFORK_WAIT)
    found = kept_by(LINUX, waiting, "vfork_completed")
    assert found.differs == "vfork_completed: the state after it differs"
    assert kept_by(LINUX, Unread(OFF, "nobody's", lambda _k, t: t.ctl != t.ctl), "vfork_completed")


def test_arm64_reads_a_pointer_that_is_off() -> None:
    """Enabling fails where GCSPR_EL0 was left other than 0: there the offset is read."""
    rule = next(r for r in UNREAD if r.field is OFF)
    assert kept_by(LINUX, rule, "enable")
    assert kept_by(DESIGNS["arm64"], rule, "enable").differs.startswith("enable")


def test_what_excuses_a_difference() -> None:
    """Bookkeeping by its rules, ghosts and kinds by what they are for, and nothing else."""
    assert excusable({SSP}) is None
    assert excusable({SIZE, SSP}) is None
    assert excusable(set()) == ([], ())
    assert excusable({OWNER}) == ([], (FOR_CLAIMS,))
    rules, words = excusable({SIZE, KIND}) or ([], ())
    assert {r.field for r in rules} == {SIZE}
    assert words[-1] == FOR_CLAIMS


# -- the relation ----------------------------------------------------------------------
def test_shadow_stacks_are_alike_and_nothing_else_is() -> None:
    """Of which kind a shadow stack is may differ, that it is one may not."""
    universe = unbounded()
    relation = Alike(universe, LINUX, ())
    heap = Heap(functions(universe))
    other = relation.other(heap)
    members = enumeration(Kind)[1]
    at = (z3.Const("m", universe.sorts[Sort.MM]), z3.Const("a", universe.sorts[Sort.ADDR]))
    solver = z3.Solver()
    solver.add(heap.read(KIND, at) == members[Kind.CLONE])
    for kind, member in members.items():
        possible = solver.check(other.read(KIND, at) == member) == z3.sat
        assert possible is (kind in SHADOW_KINDS)
    assert relation.differences(heap, heap) == []


def test_what_is_seen_is_told_by_type_and_value() -> None:
    """Two runs in which another thing happens, or the same to another, are told apart."""
    universe = unbounded()
    k = SymbolicWorld(universe, LINUX, Fork(prune=False), Heap(functions(universe)))

    def seen(one: list[dict[str, object]], two: list[dict[str, object]]) -> Difference:
        return of_what_is_seen(k, one, two)

    assert not seen([{"event": Task, "errno": 1}], [{"event": Task, "errno": 1}])
    assert seen([{"event": Task, "errno": 1}], [{"event": Task, "errno": 2}])
    assert seen([{"event": Task}], [{"event": Mapping}])
    assert seen([{"event": Task}], [])
