"""Chains of vfork children on one stack: what is proved of them, and by which order."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from typing import Any

import pytest
import z3
from agreement import following

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel import STEPS
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.state import RECORD_OF, Ctl, Sort, Task
from model.world import World
from properties.lemmas import CHAIN_LEMMAS, LEMMAS
from shstk.build import ORDINARY
from shstk.finite import Run
from shstk.finite_terms import FiniteCond
from shstk.proof.forking import Fork
from shstk.proof.heap import Heap
from shstk.proof.induction import enabled_steps, induction
from shstk.proof.invariants import Invariant, of_chains, pool
from shstk.proof.paths import step_paths
from shstk.proof.problem import Problems
from shstk.proof.proofs import DesignProof, prove
from shstk.proof.sorts import bounded, functions, unbounded
from shstk.proof.world import SymbolicWorld
from shstk.running import runs_step
from shstk.space import Bound, Space
from shstk.verdicts import PROVED

MERGED = DESIGNS["linux-6.12"]
ABANDON = frozenset({"vfork-abandon"})
SHARED = ("separate-stacks", "not-in-use", "no-dangling-ssp")
NOT_IN_USE = "not-in-use/nobody-else-on-it"
POOL = (*pool(), *of_chains())


# -- what is proved ------------------------------------------------------------------
@pytest.fixture(scope="module")
def proof() -> DesignProof:
    """The proof of the merged design where no vfork waiter dies."""
    return prove(MERGED, without=ABANDON)


@pytest.mark.parametrize("name", SHARED)
def test_proved_unless_a_waiter_dies(proof: DesignProof, name: str) -> None:
    """Vfork children may vfork again, and no stack goes under who can still run on it."""
    of = proof.of(name)
    assert of is not None and of.status == PROVED and not of.idle
    assert proof.assumption == "a fatal signal ends a vfork wait"


def test_every_chain_lemma_is_inductive(proof: DesignProof) -> None:
    """Where no waiter dies, the steps of the merged design preserve all that is said of births."""
    assert {*CHAIN_LEMMAS} <= {*proof.kept}


def unproved(design: Design, *names: str) -> set[str]:
    """The claims about events that some steps leave open, where no waiter dies."""
    steps = [s for s in enabled_steps(ORDINARY - ABANDON) if s.name in names]
    made = induction(design, steps, ABANDON, POOL)
    return {name.rsplit(" ", 1)[0] for p in made.proved for name in p.failing}


class ChildKeepsBase(Linux612):
    """A vfork child takes over its parent's record, and unmaps that stack when it exits."""

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0
        return super().shstk_alloc_thread_stack(k, tsk, args)


def test_a_child_that_keeps_base_is_not_proved() -> None:
    """Where a vfork child frees its parent's stack, that is not proved to be out of use."""
    steps = ("enable", "vfork", "clone_commit", "exit_mm_release")
    assert NOT_IN_USE in unproved(ChildKeepsBase(), *steps)


def test_births_do_not_prove_what_version_1_violates() -> None:
    """In v1 a vfork that fails late frees the caller's stack, and births do not hide it."""
    steps = ("enable", "vfork", "clone_commit", "late_clone_failure")
    assert NOT_IN_USE in unproved(DESIGNS["v1"], *steps)


# -- what births are -------------------------------------------------------------------
def test_a_newborn_is_the_youngest() -> None:
    """After a clone its child is younger than any other task, and nobody else's age changes."""
    (vfork,) = (s for s in STEPS if s.name == "vfork")
    universe = unbounded()
    other = z3.Const("other", universe.sorts[Sort.TASK])
    for path in step_paths(universe, MERGED, vfork):
        if path.status != "done":
            continue
        ((child, _),) = path.world.heap.newborn
        born, before = path.world.heap.born, path.world.old.born
        solver = z3.Solver()
        solver.add(universe.is_object(Sort.TASK, other), other != child)
        solver.add(*(c.term for c in path.world.granted))
        assert solver.check() == z3.sat
        kept = z3.And(born(other) == before(other), born(other) < born(child))
        assert solver.check(z3.Not(kept)) == z3.unsat


@pytest.mark.parametrize("step", ["vfork", "fork"])
def test_births_leave_every_path_possible(step: str) -> None:
    """A path that can be taken without births and their lemmas can be taken with them."""
    (taken,) = (s for s in STEPS if s.name == step)
    paths = [p for p in step_paths(unbounded(), MERGED, taken, ABANDON) if p.status == "done"]
    without, births = (Problems(unbounded(), MERGED, p) for p in (pool(), POOL))
    kept = {i.name for i in POOL} - {"no-features", "no-size-no-base"}
    answers = []
    for path in paths:
        found = []
        for problems in (without, births):
            solver = z3.SimpleSolver()
            premises = problems.problem(path).premises
            solver.add(*(made.formula for name, made in premises if not name or name in kept))
            found.append(solver.check())
        assert found[0] == found[1], path.name
        answers.append(found[1])
    assert answers.count(z3.sat) >= 2


def test_text_must_not_ask_who_is_older() -> None:
    """A step whose text asks for births is refused, and so is a lemma over a bound."""
    universe = unbounded()
    task = z3.Const("task", universe.sorts[Sort.TASK])
    heap = Heap(functions(universe))
    step = SymbolicWorld(universe, MERGED, Fork(), heap, task)
    with pytest.raises(TypeError, match="only a lemma"):
        step.older(step.current, step.current)
    lemma = SymbolicWorld(universe, MERGED, Fork(), heap)
    lemma.older(step.current, step.current)
    small = bounded(Bound(2, 1, 1))
    over = SymbolicWorld(small, MERGED, Fork(), Heap(functions(small)))
    with pytest.raises(TypeError, match="only a lemma"):
        over.older(step.current, step.current)


# -- lemmas on runs of the finite world --------------------------------------------------
CHAINS = ("enable", "vfork", "clone_commit", "vfork_completed", "disable", "shstk_disable")
CHAINS += ("exit", "exit_mm_release", "exit_mm_drop", "execve", "exec_mm_release", "exec_mmap")
CHAINS += ("start_thread", "late_clone_failure", "clone_thread", "fork", "sigkill", "fault")
DEEPER = ("enable", "vfork", "clone_commit")
RARE = ("exit", "execve", "sigkill", "fault", "disable", "late_clone_failure", "fork")


class Dated(Run):
    """A state of the finite world, and when each of its tasks was made."""

    births: tuple[int, ...] = ()

    def older(self, t: Task, u: Task) -> FiniteCond:
        """``t`` was made before ``u``; NULL is neither older nor younger."""

        def born(task: Task) -> list[int]:
            return [n for n, other in enumerate(self._objects[Sort.TASK]) if task == other]

        def answer() -> bool:
            each = [self.births[n] for task in (t, u) for n in born(task)]
            return len(each) == 2 and each[0] < each[1]

        return FiniteCond(self, answer)


def chains(space: Space, chance: random.Random, length: int) -> Iterator[Dated]:
    """The states of a run in which many tasks vfork, with the births of their tasks."""
    state, births, now = space.initial, [0] * space.bound.tasks, 0
    steps = [s for s in STEPS if s.name in CHAINS]
    for _ in range(length):
        task = chance.randrange(space.bound.tasks)
        able = [s for s in steps if space.value(state, Task, task, "ctl") in s.at]
        able = [s for s in able if s.name not in RARE or chance.random() < 0.05]
        deeper = [s for s in able if s.name in DEEPER]
        if not able:
            continue
        able = deeper if deeper and chance.random() < 0.5 else able
        taken = runs_step(space, MERGED, task, chance.choice(able), state, switched_off=ABANDON)
        after = [following(state, o) for o in taken if o.status == "done"]
        if not after:
            continue
        before, state = state, chance.choice(after)
        for t in range(space.bound.tasks):
            was, is_ = (space.value(at, Task, t, "ctl") for at in (before, state))
            if was == Ctl.DEAD != is_:
                now += 1
                births[t] = now
        run = Dated(space, MERGED, 0, (), state)
        run.births = tuple(births)
        yield run


def true_of(run: Dated, invariant: Invariant, objects: tuple[Any, ...] = ()) -> bool:
    """Whether a claim is true of all objects of a state."""
    if len(objects) == len(invariant.sorts):
        return bool(invariant.claim(run, *objects))
    sort = invariant.sorts[len(objects)]
    every = (RECORD_OF[sort](run, run.const(n)) for n in range(run.space.bound.size(sort)))  # type: ignore[arg-type]
    return all(true_of(run, invariant, (*objects, each)) for each in every)


def depth(run: Dated) -> int:
    """How many tasks wait for a vfork child that is on their stack."""
    value, out = run.space.value, 0
    for t in range(run.space.bound.tasks):
        child = value(run.state, Task, t, "child")
        waits = value(run.state, Task, t, "ctl") == Ctl.VFORK_WAIT and isinstance(child, int)
        ssp = value(run.state, Task, t, "ssp")
        out += waits and isinstance(ssp, int) and value(run.state, Task, child, "ssp") == ssp
    return out


def test_the_lemmas_are_true_of_runs() -> None:
    """With births as they come, every lemma about nesting is true, with three on a stack too."""
    space, deepest = Space(Bound(4, 2, 2)), 0
    ours = [i for i in POOL if "nesting.py" in i.where]
    assert len(ours) == 6
    for seed in range(12):
        for run in chains(space, random.Random(seed), 80):
            deepest = max(deepest, depth(run))
            assert [i.name for i in ours if not true_of(run, i)] == []
    assert deepest >= 2


def test_the_lemmas_need_the_order_as_it_is() -> None:
    """With births in an arbitrary order, every lemma that asks for it is false in some run."""
    space, any_order = Space(Bound(4, 2, 2)), random.Random(0)
    asking = {n for n, m in CHAIN_LEMMAS.items() if "older" in m.holds.__code__.co_names}
    assert len(asking) == 4
    false: set[str] = set()
    for seed in range(12):
        for run in chains(space, random.Random(seed), 60):
            run.births = tuple(any_order.sample(run.births, len(run.births)))
            false |= {i.name for i in of_chains() if not true_of(run, i)}
    assert false == asking


# -- the pool --------------------------------------------------------------------------
def test_the_whole_pool_has_no_name_or_sentence_twice() -> None:
    """A lemma about chains takes no other claim's name, nor its sentence."""
    names = [i.name for i in POOL]
    assert len(names) == len({*names})
    sentences = [m.sentence for m in (*LEMMAS.values(), *CHAIN_LEMMAS.values())]
    assert len(sentences) == len({*sentences})


def test_chain_lemmas_are_about_as_many_objects_as_they_say() -> None:
    """And about two of a sort at most, as every claim."""
    for m in CHAIN_LEMMAS.values():
        assert len(inspect.signature(m.holds).parameters) == 1 + len(m.sorts), m.name
        assert all(m.sorts.count(sort) <= 2 for sort in m.sorts), m.name
