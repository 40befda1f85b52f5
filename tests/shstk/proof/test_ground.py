"""What ground instances prove is true: of random texts and claims, and of the model's steps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import pytest
import z3
from agreement import (
    SORT_OF,
    Interpretation,
    any_state,
    cases,
    claim_in,
    compiled,
    following,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_worlds_agree import StepRun

from model.designs import DESIGNS, Design
from model.kernel import STEPS, Step
from model.state import LEFT, NO, NULL, YES, Ctl, Kind, Sort, Task, fields
from model.world import Cond
from shstk.proof.forking import Fork, endings
from shstk.proof.heap import Heap
from shstk.proof.invariants import Invariant, pool
from shstk.proof.paths import step_paths, task_at
from shstk.proof.problem import Problems
from shstk.proof.sorts import INDEX, Universe, bounded, enumeration, functions, unbounded
from shstk.proof.world import SymbolicWorld
from shstk.space import Bound, Space, Valuation

BOUND = Bound(2, 2, 1)
ANY = DESIGNS["v1"]  # random texts do not ask the design
Objects = dict[Sort, list[Any]]
Claim = Callable[[Any, Objects], Cond]

# -- random claims -----------------------------------------------------------------


def claim(chance: random.Random, sorts: Sequence[Sort], depth: int = 3) -> Claim:
    """A random claim about objects of these sorts, made of ``& | ~`` and ``exists``."""
    kind = chance.choice(("atom", "not", "and", "or", "exists", "exists")) if depth else "atom"
    if kind == "exists":
        sort = chance.choice((Sort.TASK, Sort.TASK, Sort.ADDR, Sort.MM))
        inner = claim(chance, (*sorts, sort), depth - 1)
        return lambda k, o: _exists(k, sort)(lambda x: inner(k, {**o, sort: [*o[sort], x]}))
    if kind == "not":
        turned = claim(chance, sorts, depth - 1)
        return lambda k, o: ~turned(k, o)
    if kind == "atom":
        return atom(chance, sorts)
    left, right = (claim(chance, sorts, depth - 1) for _ in range(2))
    if kind == "and":
        return lambda k, o: left(k, o) & right(k, o)
    return lambda k, o: left(k, o) | right(k, o)


def _exists(k: Any, sort: Sort) -> Callable[..., Cond]:
    found = {Sort.TASK: k.exists_task, Sort.ADDR: k.exists_addr, Sort.MM: k.exists_mm}[sort]
    return found  # type: ignore[no-any-return]


def atom(chance: random.Random, sorts: Sequence[Sort]) -> Claim:
    """A claim without a part that is one; the later an object was named, the likelier it is."""

    def some(sort: Sort) -> Callable[[Objects], Any] | None:
        count = sorts.count(sort)
        at = max(chance.randrange(count), chance.randrange(count)) if count else 0
        return (lambda o: o[sort][at]) if count else None

    t, u, m, a = some(Sort.TASK), some(Sort.TASK), some(Sort.MM), some(Sort.ADDR)
    forms: list[Claim] = []
    if t and u:
        forms += [
            lambda k, o: t(o).ctl == Ctl.USER,
            lambda k, o: t(o).worker == YES,
            lambda k, o: t(o).child == NULL,
            lambda k, o: (t(o).child != u(o)) & (t(o) != u(o)),
            lambda k, o: t(o).child == u(o),
            lambda k, o: t(o).mm == u(o).mm,
        ]
    if t and a:
        forms += [
            lambda k, o: t(o).ssp == a(o),
            lambda k, o: t(o).mm.at(a(o)).kind == Kind.FREE,
            lambda k, o: t(o).mm.at(a(o)).owner == t(o),
        ]
    if m and a:
        forms += [
            lambda k, o: m(o).at(a(o)).kind == Kind.FREE,
            lambda k, o: m(o).at(a(o)).owner == NULL,
        ]
    if t and m:
        forms += [lambda k, o: t(o).mm == m(o)]
    return chance.choice(forms) if forms else lambda k, o: k.exists_task(lambda x: x.worker == YES)


SORTS = ((Sort.TASK,), (Sort.TASK,), (Sort.TASK, Sort.TASK), (Sort.MM, Sort.ADDR), ())


def invariant(chance: random.Random, name: str) -> Invariant:
    """A random claim about all objects of some sorts."""
    sorts = chance.choice(SORTS)
    made = claim(chance, sorts)

    def holds(k: Any, *objects: Any) -> Cond:
        every: Objects = {s: [] for s in Sort}
        for sort, each in zip(sorts, objects, strict=True):
            every[sort].append(each)
        return made(k, every)

    return Invariant(name, "", "", sorts, holds)


# -- random texts --------------------------------------------------------------------


def text(chance: random.Random) -> Step:
    """A random step: conditions about everything, with a write or two between and after them."""
    asked = [claim(chance, (Sort.TASK,)) for _ in range(2)]
    writes = [chance.choice(WRITES) for _ in range(2)]
    demand = chance.random() < 0.5

    def run(k: Any) -> None:
        o: Objects = {**{s: [] for s in Sort}, Sort.TASK: [k.current]}
        before = asked[0](k, o)
        writes[0](k)
        if demand:
            k.require(before)
        if asked[1](k, o):
            writes[1](k)

    return Step("random", (Ctl.USER,), "kernel", "", "", run, False)


def _give(k: Any) -> None:
    k.current.mm.at(k.any_addr("addr")).owner = k.current


def _map(k: Any) -> None:
    k.current.mm.at(k.any_addr("addr")).kind = Kind.ORDINARY


def _bear(k: Any) -> None:
    k.current.child = k.current


def _part(k: Any) -> None:
    k.current.child = NULL


def _work(k: Any) -> None:
    k.current.worker = True


def _off(k: Any) -> None:
    k.current.ssp = NULL


def _unmap(k: Any) -> None:
    k.clear_mappings(k.current.mm)


def _leave(k: Any) -> None:
    k.replace_owner(k.current.mm, k.current, LEFT)


def _die(k: Any) -> None:
    k.reset(k.current)


WRITES = (_give, _map, _bear, _part, _work, _off, _unmap, _leave, _die)


# -- what is proved --------------------------------------------------------------------


def proved(claims: Sequence[Invariant], step: Step) -> set[str]:
    """The claims that a step preserves, if all of them are true before: by ground instances."""
    problems = Problems(unbounded(), ANY, claims)
    left = {i.name for i in claims}
    for path in step_paths(unbounded(), ANY, step):
        if path.status != "done":
            continue
        problem = problems.problem(path)
        solver = z3.Solver()
        solver.set("rlimit", 3_000_000)
        solver.add(*(made.formula for _, made in problem.premises))
        asked = [c for c in problem.claims if c.kind == "invariant" and c.name in left]
        left -= {c.name for c in asked if solver.check(c.negated) != z3.unsat}
    return left


def wrongly_proved(
    claims: Sequence[Invariant], step: Step, bound: Bound = BOUND
) -> tuple[set[str], list[str]]:
    """What is proved, and what of it is false over a bound, where nothing has a quantifier.

    Nothing is asked where the claims cannot all be true.
    """
    universe = bounded(bound)
    before = Heap(functions(universe))
    possible = []
    for path in step_paths(universe, ANY, step):
        solver = z3.Solver()
        solver.set("rlimit", 3_000_000)
        solver.add(path.condition, *(i.formula(universe, ANY, before) for i in claims))
        if path.status == "done" and solver.check() == z3.sat:
            possible.append((path, solver))
    if not possible:
        return set(), []
    found = proved(claims, step)
    wrong = []
    for path, solver in possible:
        for i in claims:
            if i.name in found:
                after = i.formula(universe, ANY, path.world.heap)
                if solver.check(z3.Not(after)) == z3.sat:
                    wrong.append(f"{i.name} is proved, and {path.name} makes it false")
    return found, wrong


def random_problem(seed: int) -> tuple[list[Invariant], Step]:
    """Two random claims and a random step."""
    chance = random.Random(seed)
    return [invariant(chance, f"claim {n}") for n in range(2)], text(chance)


# -- traps -------------------------------------------------------------------------


def every_task(name: str, holds: Callable[[Any, Any], Any]) -> Invariant:
    """A claim about every task."""
    return Invariant(name, "", "", (Sort.TASK,), holds)


IDLE = every_task("idle", lambda k, t: t.worker == NO)
BASELESS = every_task("baseless", lambda k, t: t.base == NULL)
CHILDLESS = every_task("childless", lambda k, t: t.child == NULL)


def before_the_write(k: Any) -> None:
    """What was asked before a write is about what was so before it."""
    found = k.exists_task(lambda t: t.worker == YES)
    k.current.worker = True
    k.require(~found)


def before_in_a_branch(k: Any) -> None:
    """The same of a condition that is asked for again later."""
    found = k.exists_task(lambda t: t.worker == YES)
    k.require(~found)
    k.current.worker = True
    if found:
        return
    k.current.child = k.current


def two_witnesses(k: Any) -> None:
    """One task is a witness of this and another of that."""
    k.require(k.exists_task(lambda t: t.worker == YES))
    k.require(k.exists_task(lambda t: t.worker == NO))
    k.current.child = k.current


def nobody_works(k: Any) -> None:
    """That no task works says nothing of other things."""
    k.require(~k.exists_task(lambda t: t.worker == YES))
    k.current.child = k.current


def some_work_here(k: Any) -> None:
    """Some task works, but not this one."""
    k.require(k.current.worker == NO)
    k.current.child = k.current


def work(k: Any) -> None:
    """The task works."""
    k.current.worker = True


def work_of_a_parent(k: Any) -> None:
    """Two tasks are each somebody's child, and not of the same."""
    k.require(k.current.child != NULL)
    k.require((k.current.child != LEFT) & (k.current.child != k.current))
    k.require(k.current.child.base == NULL)
    k.current.worker = True


def nothing(k: Any) -> None:
    """Nothing happens."""


SOMEBODY = every_task("somebody", lambda k, t: k.exists_task(lambda u: u.worker == YES))
OWN = every_task(
    "own",
    lambda k, t: (
        k.exists_task(lambda u: (u.child == t) & (u.ssp != NULL))
        | ~k.exists_task(lambda u: (u != t) & (u.worker == YES))
    ),
)
PAIRS = Invariant(
    "pairs",
    "",
    "",
    (Sort.TASK, Sort.TASK),
    lambda k, t, u: (
        k.exists_task(lambda v: (v.child == t) & (v.child == u))
        | ~k.exists_task(lambda v: (v != t) & (v != u) & (v.worker == YES))
    ),
)
CHILD = every_task("child", lambda k, t: k.exists_task(lambda u: u.child == t))
# Texts, what is assumed and asked, and what of it is true afterwards.
TRAPS: dict[str, tuple[Callable[[Any], None], list[Invariant], set[str]]] = {
    "moment": (before_the_write, [IDLE, CHILDLESS], {"childless"}),
    "branch": (before_in_a_branch, [IDLE, CHILDLESS, BASELESS], {"baseless"}),
    "witnesses": (two_witnesses, [CHILDLESS, SOMEBODY], {"somebody"}),
    "nobody": (nobody_works, [CHILDLESS, IDLE], {"idle"}),
    "some": (some_work_here, [SOMEBODY, CHILDLESS], {"somebody"}),
    "objects": (work, [OWN, SOMEBODY], {"somebody"}),
    "more objects": (work, [PAIRS, CHILDLESS], {"childless"}),
    "parents": (work_of_a_parent, [CHILD, IDLE], {"child"}),
    "nothing": (nothing, [OWN, SOMEBODY], {"own", "somebody"}),
    "nothing of two": (nothing, [PAIRS, IDLE], {"pairs", "idle"}),
}


def trap(name: str) -> tuple[list[Invariant], Step]:
    """The claims and the step of a trap."""
    run, claims, _ = TRAPS[name]
    return claims, Step(name, (Ctl.USER,), "kernel", "", "", run, False)


def trapped() -> Iterator[str]:
    """What is proved though it is false, of the traps and of random texts."""
    for name in TRAPS:
        yield from wrongly_proved(*trap(name), Bound(3, 1, 1))[1]
    for seed in range(60):
        yield from wrongly_proved(*random_problem(seed))[1]


# -- steps of the model -----------------------------------------------------------------


def holds_in(space: Space, design: Design, state: Valuation, claim: Invariant) -> bool | None:
    """A claim about all objects in a state; None: it looks through NULL."""
    ranges = [range(space.bound.size(s)) for s in claim.sorts]
    answers = {claim_in(space, design, state, claim, o) for o in itertools.product(*ranges)}
    return None if None in answers else all(answers)


def problem_disagreements(
    run: StepRun,
    space: Space,
    state: Valuation,
    task: int,
    pool: Sequence[Invariant],
    chance: random.Random,
    most: int = 4,
) -> Iterator[str]:
    """What a problem takes for impossible, though the finite world does it.

    Of the pool only what is true before is assumed.  ``most``: so many outcomes.
    """
    at = Interpretation.of(space, state, chance)
    known = [i for i in pool if holds_in(space, run.design, state, i)]
    problems = Problems(run.universe, run.design, known)
    for case in itertools.islice(cases(space, run.design, state, task, run.step), most):
        if case.status != "done" or case.outcome is None:
            continue
        chosen = next(case.samples(chance))
        constants = run.constants(space, task, chosen, chance)
        (path,) = run.taken(at, constants)
        after = following(state, case.outcome)
        broken = [i.name for i in known if holds_in(space, run.design, after, i) is False]
        broken += [
            f"{e.name} {n}"
            for n, e in enumerate(path.events)
            if not compiled(e.holds.term)(at, constants)
        ]
        if not broken:
            continue
        if not broken:
            continue
        problem = problems.problem(path)
        solver = z3.Solver()
        solver.add(*(made.formula for _, made in problem.premises))
        told = [(n, made.formula) for n, made in problem.premises]
        told += [(c.name, c.negated) for c in problem.claims]
        solver.add(*diagram(run.universe, at, constants, [f for _, f in told]))
        if solver.check() == z3.unsat:
            yield f"{path.name}: its premises are false, and it is taken"
            continue
        claims = {c.name: c.negated for c in problem.claims}
        for name in broken:
            if name not in claims:
                yield f"{path.name}: nothing is to be proved of {name}, which becomes false"
            elif solver.check(claims[name]) == z3.unsat:
                yield f"{path.name}: {name} is proved, and becomes false"


def diagram(
    universe: Universe, at: Interpretation, constants: Mapping[str, Any], told: Sequence[Any]
) -> Iterator[Any]:
    """What makes a solver's model the interpretation; other constants are some object of it."""
    named: dict[str, dict[object, Any]] = {}
    for name, objects in at.carrier.items():
        sort = SORT_OF[name]
        named[name] = {o: z3.Const(f"{name}.{o}", universe.sorts[sort]) for o in objects}
        named[name][NULL] = universe.null[sort]
        yield z3.Distinct(*named[name].values())
    named["Task"][LEFT] = universe.left
    yield z3.Distinct(*named["Task"].values())

    def term(sort: Any, value: Any) -> Any:
        if sort.name() in named:
            return named[sort.name()][value]
        if sort == z3.BoolSort():
            return z3.BoolVal(value)
        return z3.BitVecVal(value, sort.size()) if z3.is_bv_sort(sort) else _enumerated(value)

    for function in functions(universe).values():
        table = at.tables[function.name()]
        for index, value in table.items():
            parts = index if isinstance(index, tuple) else (index,)
            read = [term(function.domain(n), o) for n, o in enumerate(parts)]
            yield function(*read) == term(function.range(), value)
    for constant in _constants(told):
        sort, name = constant.sort(), constant.decl().name()
        if name in constants:
            yield constant == term(sort, constants[name])
        elif sort.name() in named:
            yield z3.Or(*(constant == o for o in named[sort.name()].values()))


def _enumerated(value: Enum) -> Any:
    return enumeration(type(value))[1][value]


def _constants(told: Sequence[Any]) -> list[Any]:
    found, seen, stack = [], set(), list(told)
    while stack:
        t = stack.pop()
        if t.get_id() not in seen:
            seen.add(t.get_id())
            stack += t.children()
            if z3.is_const(t) and t.decl().kind() == z3.Z3_OP_UNINTERPRETED:
                found.append(t)
    return found


# -- tests -----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_what_is_proved_of_random_texts_is_true(seed: int) -> None:
    """Claims that ground instances prove of a random step are true over a bound."""
    assert wrongly_proved(*random_problem(seed))[1] == []


def test_something_is_proved_of_random_texts() -> None:
    """The test above is not empty: of random claims some are proved, and some are not."""
    counts = [len(wrongly_proved(*random_problem(seed))[0]) for seed in range(30)]
    assert counts.count(1) > 3 and counts.count(2) > 2


@pytest.mark.parametrize("name", sorted(TRAPS))
def test_traps(name: str) -> None:
    """Where a careless proof goes wrong, what is true is proved and nothing else."""
    found, wrong = wrongly_proved(*trap(name), Bound(3, 1, 1))
    assert wrong == []
    assert found == TRAPS[name][2]


def test_an_existential_is_of_the_moment_when_it_is_asked() -> None:
    """A later write changes neither a condition's term nor what its body says of a witness."""
    universe = unbounded()
    heap = Heap(functions(universe))
    current = z3.Const("current", universe.sorts[Sort.TASK])
    world: Any = SymbolicWorld(universe, ANY, Fork(), heap, current)
    found = world.exists_task(lambda t: (t.mm == world.current.mm) & (t.worker == YES))
    witness = z3.Const("witness", universe.sorts[Sort.TASK])
    then, term = found.body(witness).term, found.term
    world.current.worker = True
    world.current.mm = NULL
    assert found.body(witness).term.eq(then) and found.term.eq(term)
    again = world.exists_task(lambda t: (t.mm == world.current.mm) & (t.worker == YES))
    assert not again.body(witness).term.eq(then)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_what_happens_is_possible_in_problems(design: Design, seed: int) -> None:
    """What the finite world does, and makes false, a step's problem does not exclude."""
    assert [*transition_disagreements(design, seed)] == []


def transition_disagreements(design: Design, seed: int, names: Sequence[str] = ()) -> Iterator[str]:
    """How problems of a step, an arbitrary one of those named, differ from what it does."""
    chance, space = random.Random(seed), Space(BOUND)
    state = any_state(space, design, chance)
    task = chance.randrange(BOUND.tasks)
    able = [s for s in STEPS if space.value(state, Task, task, "ctl") in s.at]
    able = [s for s in able if not names or s.name in names]
    if able:
        run = StepRun(unbounded(), design, chance.choice(able))
        yield from problem_disagreements(run, space, state, task, pool(), chance)


def test_the_pool_has_no_name_twice() -> None:
    """What is known by its name in a problem is one claim."""
    names = [i.name for i in pool()]
    assert len(names) == len({*names})


def test_claims_are_about_two_objects_of_a_sort_at_most() -> None:
    """Objects a claim is refuted of are numbered 0 and 1; its witnesses begin at 2."""
    for i in pool():
        assert all(i.sorts.count(sort) <= 2 for sort in i.sorts), i.name


def test_every_claim_is_asked_of_every_path(design: Design) -> None:
    """Of a path each event's claim is to be proved, each need, and what reads what it touches."""
    assert [*dropped(design, STEPS)] == []


def dropped(design: Design, steps: Sequence[Step], most: int = 2) -> Iterator[str]:
    """What is to be proved of some of a step's paths, and their problems do not say."""
    claims = pool()
    reads = {i.name: _reads(design, i) for i in claims}
    problems = Problems(unbounded(), design, claims)
    for step in steps:
        done = [p for p in step_paths(unbounded(), design, step) if p.status == "done"]
        for path in done[:most]:
            problem = problems.problem(path)
            asked = {c.name for c in problem.claims}
            touched = {f"{names_of[f]}.{f.name}" for f in path.world.heap.touched}
            wanted = {i.name for i in claims if reads[i.name] & touched}
            wanted |= {f"{e.name} {n}" for n, e in enumerate(path.events)}
            wanted |= {f"{what} exists {n}" for n, (what, _) in enumerate(path.needs)}
            yield from (f"{path.name}: {name}" for name in sorted(wanted - asked))


names_of = {f: record.__name__.lower() for record in INDEX for f in fields(record)}


def _reads(design: Design, claim: Invariant) -> set[str]:
    """The variables that a claim speaks about, by their functions' names."""
    universe = unbounded()
    objects = [z3.Const("x", universe.sorts[s]) for s in claim.sorts]
    stack = [claim.at(universe, design, Heap(functions(universe)), objects).term]
    found = set()
    while stack:
        term = stack.pop()
        stack += term.children()
        if z3.is_app(term) and term.num_args():
            found.add(term.decl().name())
    return found


@pytest.mark.parametrize(
    "predicate",
    [
        lambda k: lambda t: (t.mm == k.current.mm) and (t.base == NULL),
        lambda k: lambda t: k.may("fault"),
        lambda k: lambda t: setattr(t, "size", 0) or (t.base == NULL),
    ],
    ids=["decides", "chooses", "writes"],
)
def test_a_predicate_only_asks(predicate: Any) -> None:
    """What a predicate of an exists did beside asking would be done for every object, and later."""

    me = task_at(unbounded())

    def text(fork: Fork) -> None:
        world = SymbolicWorld(unbounded(), DESIGNS["v1"], fork, Heap(functions(unbounded())), me)
        world.exists_task(predicate(world))

    with pytest.raises(TypeError, match="in a predicate of exists"):
        list(endings(text))
