"""Mistakes that would make proofs worthless, one by one: a check of the other tests finds each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import oracle
import pytest
import z3
from agreement import Case, witness
from test_forking import gaps, text_disagreements
from test_ground import dropped, transition_disagreements, trapped
from test_worlds_agree import FAMILIES_OF_CLONES, SMALL, TWO, StepRun, step_disagreements

from model.designs import DESIGNS, Design
from model.kernel import STEPS, Step
from model.state import NULL, Ctl, Kind, Mapping, Sort, Task, fields
from shstk.build import CLAIMS
from shstk.proof import forking, paths
from shstk.proof import world as worlds
from shstk.proof.forking import Decision, Fork
from shstk.proof.ground import Grounder, Instance, Naming, Schema, Universal
from shstk.proof.heap import Heap
from shstk.proof.invariants import Invariant
from shstk.proof.paths import step_paths
from shstk.proof.problem import Problems
from shstk.proof.sorts import Universe, bounded, functions, unbounded
from shstk.proof.terms import SymbolicCond, Tree, Value
from shstk.proof.world import SymbolicWorld
from shstk.space import Space, Valuation

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
Check = Callable[[], Iterator[str]]

# -- checks ------------------------------------------------------------------------


@cache
def states(design: Design, step: Step) -> tuple[tuple[Valuation, int], ...]:
    """States in which a task can take a step: one for each of its paths."""
    out, chance, space = [], random.Random(0), space_of(TWO)
    for path in step_paths(bounded(TWO), design, step):
        found = witness(space, path, chance)
        out += [found] if found else []
    return tuple(out)


def agree(*names: str) -> Iterator[str]:
    """How the paths of these steps differ from the finite world."""
    for step, design in itertools.product(STEPS, BOTH):
        if step.name not in names:
            continue
        run, chance = StepRun(unbounded(), design, step), random.Random(0)
        for state, task in states(design, step):
            yield from step_disagreements(
                run, space_of(TWO), state, task, chance, choices=partial(one, chance)
            )


def one(chance: random.Random, case: Case) -> Iterator[dict[str, object]]:
    """A choice of the inputs, no more."""
    return itertools.islice(case.samples(chance), 1)


def failing() -> Iterator[str]:
    """Agreement of clones that fail, in every state of a small model."""
    steps = [s for s in STEPS if s.name == "late_clone_failure"]
    for step, design in itertools.product(steps, BOTH):
        run, chance = StepRun(unbounded(), design, step), random.Random(0)
        for state in small(design):
            for task in range(SMALL.tasks):
                if space_of(SMALL).value(state, Task, task, "ctl") in step.at:
                    yield from step_disagreements(run, space_of(SMALL), state, task, chance)


@cache
def small(design: Design) -> tuple[Valuation, ...]:
    """Every state of a small model."""
    return tuple(oracle.explore(space_of(SMALL), design, FAMILIES_OF_CLONES).depth)


space_of = cache(Space)


BOTH = tuple(DESIGNS[name] for name in ("v1", "linux-6.12"))
CLONE_STEPS = ("clone_thread",)
FORK_STEPS = ("fork", "clone_commit")
EXIT_STEPS = ("exit_mm_release", "exit_mm_drop", "exec_mmap", "start_thread")
USER_STEPS = ("enable", "lock", "munmap", "munmap_shadow_stack", "mremap_shadow_stack", "call")


def clones() -> Iterator[str]:
    """Agreement of a thread's creation."""
    return agree(*CLONE_STEPS)


def forks() -> Iterator[str]:
    """Agreement of a fork, and of how clones end."""
    return agree(*FORK_STEPS)


def bereft() -> Iterator[str]:
    """Agreement on the end of a clone whose child is not there."""
    (step,) = (s for s in STEPS if s.name == "clone_commit")
    for design in BOTH:
        run, chance = StepRun(unbounded(), design, step), random.Random(0)
        for known, task in states(design, step):
            state = list(known)
            state[space_of(TWO).number(Task, (task,), "child")] = 0  # NULL
            yield from step_disagreements(run, space_of(TWO), tuple(state), task, chance)


def exits() -> Iterator[str]:
    """Agreement of exit and exec."""
    return agree(*EXIT_STEPS)


def users() -> Iterator[str]:
    """Agreement of what user code does, and of arch_prctl."""
    return agree(*USER_STEPS)


def uncovered() -> Iterator[str]:
    """Steps whose paths leave something out."""
    steps = [s for s in STEPS if s.name in ("enable", "exit_mm_drop", "rstorssp")]
    for design in BOTH:
        yield from gaps(design, steps)


def texts() -> Iterator[str]:
    """How the endings of random texts differ from what they do."""
    for seed in range(25):
        yield from text_disagreements(seed)


def missing() -> Iterator[str]:
    """What is to be proved, and no problem says so."""
    steps = [s for s in STEPS if s.name in ("exit_mm_drop", "start_thread", "lock")]
    for design in BOTH:
        yield from dropped(design, steps, most=2)


def excluded() -> Iterator[str]:
    """What the finite world does, and problems say is impossible."""
    for design, seed in itertools.product(BOTH, range(24)):
        yield from transition_disagreements(design, seed)


CHECKS: tuple[Check, ...] = (
    *(clones, forks, failing, bereft, exits, users),
    *(uncovered, texts),
    *(trapped, missing, excluded),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_machinery_passes(check: Check) -> None:
    """The checks that find the mistakes below find none in the proof system as it is."""
    assert [*check()] == []


# -- mistakes ------------------------------------------------------------------------

MUTANTS: dict[str, tuple[Mutant, Check]] = {}


def mutant(check: Check) -> Callable[[Mutant], Mutant]:
    """Add a mistake, and the check that finds it."""

    def add(make: Mutant) -> Mutant:
        MUTANTS[make.__name__] = make, check
        return make

    return add


# -- the state: frames and writes --------------------------------------------------------


@mutant(forks)
def copy_forgets(patch: Patch) -> None:
    """A task is copied without its SSP."""

    def copy_fields(self: Any, src: Any, dst: Any) -> None:
        for f in fields(type(src)):
            if f.name != "ssp":
                self.write(dst, f, self.read(src, f))

    patch.setattr(SymbolicWorld, "copy_fields", copy_fields)


@mutant(users)
def reset_forgets(patch: Patch) -> None:
    """What is unmapped keeps its owner."""

    def reset(self: Any, record: Any) -> None:
        for f in fields(type(record)):
            if f.name != "owner":
                self.write(record, f, f.values[0])

    patch.setattr(SymbolicWorld, "reset", reset)


@mutant(exits)
def write_everywhere(patch: Patch) -> None:
    """A write changes the variable of all objects."""
    update = Heap.update
    patch.setattr(
        Heap, "update", lambda h, f, _where, v: update(h, f, lambda *_: z3.BoolVal(True), v)
    )


@mutant(users)
def write_nowhere(patch: Patch) -> None:
    """Writes to locks are lost."""
    update = Heap.update

    def lossy(heap: Any, f: Any, where: Any, value: Any) -> None:
        if not f.name.startswith("locked"):
            update(heap, f, where, value)

    patch.setattr(Heap, "update", lossy)


@mutant(users)
def write_by_other_index(patch: Patch) -> None:
    """A mapping is found by its address alone."""
    write = Heap.write

    def careless(heap: Any, f: Any, index: Any, value: Any) -> None:
        if len(index) == 1:
            write(heap, f, index, value)
        else:
            heap.update(f, lambda _m, a: a == index[1], lambda *_at: value)

    patch.setattr(Heap, "write", careless)


@mutant(forks)
def fork_forgets(patch: Patch) -> None:
    """A copied mm has no restore tokens."""
    copied = worlds._copied

    def careless(then: Any, f: Any, source: Any, mm: Any, addr: Any) -> Any:
        return z3.BoolVal(False) if f.name == "token" else copied(then, f, source, mm, addr)

    patch.setattr(worlds, "_copied", careless)


@mutant(exits)
def unmapping_forgets(patch: Patch) -> None:
    """An mm that is unmapped keeps its seals."""

    def clear(self: Any, mm: Any) -> None:
        (target,) = self.index(mm)
        for f in fields(Mapping):
            if f.name != "sealed":
                empty = self._coded(f, f.values[0])
                self.heap.update(f, lambda m, _a: m == target, lambda *_at, v=empty: v)

    patch.setattr(SymbolicWorld, "clear_mappings", clear)


@mutant(exits)
def owner_replaced_everywhere(patch: Patch) -> None:
    """A task that leaves an mm loses what it owns in all of them."""

    def replace_owner(self: Any, _mm: Any, old: Any, new: Any) -> None:
        (gone,), owner, then = self.index(old), Mapping.owner, self.heap.copy()
        heir = self.universe.encode(Sort.TASK, new)
        self.heap.update(owner, lambda *at: then.read(owner, at) == gone, lambda *_at: heir)

    patch.setattr(SymbolicWorld, "replace_owner", replace_owner)


@mutant(excluded)
def nothing_is_touched(patch: Patch) -> None:
    """The heap forgets which variables were written."""
    patch.setattr(Heap, "touched", property(lambda _h: set(), lambda _h, _v: None), raising=False)


@mutant(users)
def untold_writes(patch: Patch) -> None:
    """The same, as the agreement of the worlds sees it."""
    nothing_is_touched(patch)


@mutant(failing)
def before_is_now(patch: Patch) -> None:
    """What claims say of the state before a step is asked of the state now."""

    def read(self: Any, record: Any, f: Any) -> object:
        return self.world.read(record, f)

    patch.setattr(worlds._Before, "read", read)


# -- paths -------------------------------------------------------------------------------


def _all_but_last(text: Any, prune: bool = True) -> Iterator[Any]:
    ends = [*_endings(text, prune)]
    yield from ends[:-1] or ends


_endings = forking.endings


@mutant(uncovered)
def a_path_is_missing(patch: Patch) -> None:
    """The last alternative is never taken."""
    patch.setattr(paths, "endings", _all_but_last)


@mutant(users)
def a_path_is_missing_in_agreement(patch: Patch) -> None:
    """The same, as the agreement of the worlds sees it."""
    patch.setattr(paths, "endings", _all_but_last)


@mutant(texts)
def an_ending_is_missing(patch: Patch) -> None:
    """The same, as random texts see it."""
    patch.setattr(forking, "endings", _all_but_last)


@mutant(texts)
def unknown_is_impossible(patch: Patch) -> None:
    """A solver that gives up is taken at its word."""

    def new(self: Any, condition: Any) -> Decision:
        solver = z3.Solver()
        solver.set("rlimit", 1)
        solver.add(*(d.term for d in self.decisions))
        if solver.check(condition) != z3.sat:
            return Decision(condition, False, forced=True)
        return Decision(condition, True, forced=False)

    patch.setattr(Fork, "_new", new)


@mutant(uncovered)
def first_answer_is_the_only_one(patch: Patch) -> None:
    """What has not been decided is taken for true."""
    patch.setattr(Fork, "_new", lambda _s, c: Decision(c, True, forced=True))


@mutant(texts)
def known_is_true(patch: Patch) -> None:
    """A condition that was decided before is true the next time."""

    def known(self: Any, condition: Any) -> bool | None:
        return True if any(d.condition.eq(condition) for d in self.decisions) else None

    patch.setattr(Fork, "_known", known)


@mutant(clones)
def one_case_of_a_claim(patch: Patch) -> None:
    """Of a claim that is written with ``if`` only one case is asked."""
    patch.setattr(worlds, "endings", lambda text, prune: itertools.islice(_endings(text, prune), 1))


# -- guards ------------------------------------------------------------------------------


@mutant(users)
def fresh_addr_is_unowned(patch: Patch) -> None:
    """A free address is one that nobody owns, too."""
    fresh = SymbolicWorld.fresh_addr

    def fresh_addr(self: Any, mm: Any, *more: Any, **named: Any) -> Any:
        addr = fresh(self, mm, *more, **named)
        self.require(mm.at(addr).owner == NULL)
        return addr

    patch.setattr(SymbolicWorld, "fresh_addr", fresh_addr)


def _assume(self: Any, condition: Any) -> None:
    term = self.tree(condition).term
    self.fork.decisions.append(Decision(z3.simplify(term), True, forced=True))


@mutant(uncovered)
def require_is_assumed(patch: Patch) -> None:
    """What a step requires is assumed, and no path says what happens otherwise."""
    patch.setattr(SymbolicWorld, "require", _assume)


@mutant(users)
def require_is_assumed_in_agreement(patch: Patch) -> None:
    """The same, as the agreement of the worlds sees it."""
    patch.setattr(SymbolicWorld, "require", _assume)


@mutant(forks)
def fresh_mm_is_empty(patch: Patch) -> None:
    """A new mm is one in which nothing is mapped."""
    fresh = SymbolicWorld.fresh_mm

    def fresh_mm(self: Any, name: str) -> Any:
        mm = fresh(self, name)
        self.require(~self.exists_addr(lambda a: mm.at(a).kind != Kind.FREE))
        return mm

    patch.setattr(SymbolicWorld, "fresh_mm", fresh_mm)


@mutant(clones)
def fresh_task_has_no_child(patch: Patch) -> None:
    """A free task slot is one without a child."""
    fresh = SymbolicWorld.fresh_task

    def fresh_task(self: Any, name: str) -> Any:
        task = fresh(self, name)
        self.require(task.child == NULL)
        return task

    patch.setattr(SymbolicWorld, "fresh_task", fresh_task)


@mutant(clones)
def fresh_task_is_any(patch: Patch) -> None:
    """A task slot is taken that is in use."""
    patch.setattr(SymbolicWorld, "fresh_task", lambda self, name: self._any(Sort.TASK, name))


@mutant(users)
def any_addr_is_mapped(patch: Patch) -> None:
    """No address is chosen at which nothing is mapped."""
    chosen = SymbolicWorld._any

    def mapped(self: Any, sort: Sort, name: str) -> Any:
        found = chosen(self, sort, name)
        if sort is Sort.ADDR:
            self.require(self.current.mm.at(found).kind != Kind.FREE)
        return found

    patch.setattr(SymbolicWorld, "_any", mapped)


@mutant(users)
def a_choice_is_missing(patch: Patch) -> None:
    """The last of the values to choose from is never chosen."""
    choose = SymbolicWorld.choose

    def fewer(self: Any, name: str, values: Any) -> Any:
        chosen = choose(self, name, values)
        if len(values) > 1:
            self.require(chosen == values[0])
        return chosen

    patch.setattr(SymbolicWorld, "choose", fewer)


@mutant(clones)
def numbers_are_small(patch: Patch) -> None:
    """No number is above 4 GiB."""
    number = SymbolicWorld.number

    def small(self: Any, name: str, samples: Any) -> Any:
        found = number(self, name, samples)
        self.require(found < 1 << 32)
        return found

    patch.setattr(SymbolicWorld, "number", small)


@mutant(users)
def nothing_fails(patch: Patch) -> None:
    """There is always room for a stack."""
    patch.setattr(SymbolicWorld, "no_room", lambda self, *_a, **_n: self.cond(z3.BoolVal(False)))


@mutant(bereft)
def nothing_is_needed(patch: Patch) -> None:
    """Writing through NULL is no obligation."""
    patch.setattr(SymbolicWorld, "_object", lambda _self, _record, _field: None)


# -- quantifiers -----------------------------------------------------------------------------


@mutant(exits)
def somebody_else(patch: Patch) -> None:
    """Some task means some task other than the current one."""

    def exists_task(self: Any, predicate: Any) -> Any:
        return self._exists(Sort.TASK, lambda t: (t != self.current) & predicate(t))

    patch.setattr(SymbolicWorld, "exists_task", exists_task)


@mutant(exits)
def a_task_is_left_out(patch: Patch) -> None:
    """Some task means some task that the current one is not waiting for."""

    def exists_task(self: Any, predicate: Any) -> Any:
        return self._exists(Sort.TASK, lambda t: (t != self.current.child) & predicate(t))

    patch.setattr(SymbolicWorld, "exists_task", exists_task)


@mutant(exits)
def nobody_else(patch: Patch) -> None:
    """There is no other user of an mm, because only one task is known."""
    nobody = z3.BoolVal(False)
    patch.setattr(SymbolicWorld, "exists_task", lambda self, _predicate: self.cond(nobody))


@mutant(exits)
def null_is_somebody(patch: Patch) -> None:
    """Quantifiers range over NULL, too."""

    def exists(self: Any, sorts: Any, body: Any) -> Any:
        bound = [z3.FreshConst(self.sorts[s]) for s in sorts]
        return z3.Exists(bound, body(*bound))

    patch.setattr(Universe, "exists", exists)


@mutant(trapped)
def one_witness(patch: Patch) -> None:
    """All existentials that are assumed have the same witness."""
    new = Naming.new
    patch.setattr(Naming, "new", lambda self, what: "w" if what == "witness" else new(self, what))


@mutant(trapped)
def instances_share_a_witness(patch: Patch) -> None:
    """What a lemma says there is of one object is the same as of any other."""
    init = Naming.__init__
    patch.setattr(Naming, "__init__", lambda self, of: init(self, of.partition("(")[0]))


@mutant(trapped)
def a_witness_is_an_object(patch: Patch) -> None:
    """A refuted claim's witness is one of the objects that the claim is false of."""
    skolem = Grounder.skolem
    patch.setattr(Grounder, "skolem", lambda self, sort, n: skolem(self, sort, n % 2))


@mutant(trapped)
def exists_later(patch: Patch) -> None:
    """Who looks for a witness looks at the state as it is by then."""

    def _exists(self: Any, sort: Sort, predicate: Any) -> Any:
        def body(term: Any) -> SymbolicCond:
            made: SymbolicCond = self.tree(predicate(self.handle(sort, term)))
            return made

        def term() -> Any:
            return self.universe.exists([sort], lambda t: body(t).term)

        if self.universe.elements is not None:
            return self.cond(term())
        return Tree("exists", (), self.decide, (sort,), body, term)

    patch.setattr(SymbolicWorld, "_exists", _exists)


# -- ground formulas -----------------------------------------------------------------------


Ground = Callable[..., Any]
_ground: Ground = Grounder._ground


@mutant(trapped)
def a_universal_is_turned(patch: Patch) -> None:
    """That no object is so is taken for: all are."""

    def turned(self: Any, name: str, c: Any, positive: bool, universals: Any, *new: Any) -> Any:
        formula = _ground(self, name, c, positive, universals, *new)
        if isinstance(c, Tree) and c.op == "exists" and not positive:
            universals[-1] = replace(universals[-1], positive=True)
        return formula

    patch.setattr(Grounder, "_ground", turned)


@mutant(trapped)
def not_is_nothing(patch: Patch) -> None:
    """A negation does not turn what is in it."""

    def careless(self: Any, name: str, c: Any, positive: bool, *new: Any) -> Any:
        inner = c.parts[0] if isinstance(c, Tree) and c.op == "not" else c
        return _ground(self, name, inner, positive, *new)

    patch.setattr(Grounder, "_ground", careless)


@mutant(trapped)
def and_stays_and(patch: Patch) -> None:
    """The negation of a conjunction is a conjunction."""

    def careless(self: Any, name: str, c: Any, positive: bool, *new: Any) -> Any:
        if not isinstance(c, Tree) or c.op not in ("and", "or"):
            return _ground(self, name, c, positive, *new)
        parts = [self._ground(name, p, positive, *new) for p in c.parts]
        return z3.And(*parts) if c.op == "and" else z3.Or(*parts)

    patch.setattr(Grounder, "_ground", careless)


@mutant(trapped)
def a_guard_is_dropped(patch: Patch) -> None:
    """A universal that is one of two cases is assumed in both."""
    instance = Grounder._instance

    def careless(self: Any, universal: Universal, objects: Any) -> Instance:
        return instance(self, replace(universal, guard=None), objects)

    patch.setattr(Grounder, "_instance", careless)


@mutant(trapped)
def exists_is_all(patch: Patch) -> None:
    """An existential in a claim becomes one more object that the claim is about."""

    def prenex(self: Any, c: Any, positive: bool, inner: list[Any], first: int) -> bool:
        if not isinstance(c, Tree):
            return True
        if c.body is not None:
            inner += self._variables(c.sorts, first + len(inner))
            return bool(self._prenex(c.body(*inner[-len(c.sorts) :]), positive, inner, first))
        return all(self._prenex(p, positive, inner, first) for p in c.parts)

    patch.setattr(Grounder, "_prenex", prenex)


@mutant(excluded)
def claims_are_about_null(patch: Patch) -> None:
    """Claims about all objects are assumed of NULL and LEFT."""
    schema = Grounder.schema

    def careless(self: Any, sorts: Any, body: Any) -> Schema | None:
        made = schema(self, sorts, body)
        if made is None or len(made.sorts) != len(sorts):
            return made
        return replace(made, formula=body(*made.variables).term)

    patch.setattr(Grounder, "schema", careless)


# -- what is to be proved --------------------------------------------------------------------


def _some_claims(wanted: Callable[[Any], bool]) -> Any:
    claims = Problems._claims

    def fewer(self: Any, *about: Any) -> Iterator[Any]:
        return (c for c in claims(self, *about) if wanted(c[0]))

    return fewer


@mutant(missing)
def a_claim_is_dropped(patch: Patch) -> None:
    """One lemma is never to be proved."""
    patch.setattr(Problems, "_claims", _some_claims(lambda c: c.name != "dead-has-no-mm"))


@mutant(missing)
def events_are_dropped(patch: Patch) -> None:
    """Claims about events are not to be proved."""
    patch.setattr(Problems, "_claims", _some_claims(lambda c: c.kind != "event"))


@mutant(missing)
def needs_are_dropped(patch: Patch) -> None:
    """Nothing is to be proved of what a path writes through."""
    patch.setattr(Problems, "_claims", _some_claims(lambda c: c.kind != "need"))


@mutant(excluded)
def a_dropped_claim_becomes_false(patch: Patch) -> None:
    """The same, as what happens shows it."""
    patch.setattr(Problems, "_claims", _some_claims(lambda c: c.kind == "need"))


@mutant(excluded)
def changes_are_dropped(patch: Patch) -> None:
    """A claim about the state after a step is asked of the state before."""
    patch.setattr(Problems, "changes", lambda _self, _path: [])


@mutant(trapped)
def claims_are_about_before(patch: Patch) -> None:
    """The same of claims that have an existential."""
    at = Invariant.at

    def careless(self: Any, universe: Any, design: Any, heap: Any, objects: Any) -> Any:
        then = heap if universe.elements else Heap(functions(universe))
        return at(self, universe, design, then, objects)

    patch.setattr(Invariant, "at", careless)


@mutant(forks)
def an_event_is_not_asked(patch: Patch) -> None:
    """Of an event one claim about it is forgotten."""
    asked = [c for c in CLAIMS if "own-stack" not in c.name]
    patch.setattr("shstk.proof.paths.CLAIMS", asked)


@mutant(users)
def steps_begin_anywhere(patch: Patch) -> None:
    """A step can be taken in any control state but that of a free slot."""
    isin = Value.isin

    def loose(self: Any, values: Any) -> Any:
        if values and all(isinstance(v, Ctl) for v in values):
            return isin(self, [c for c in Ctl if c != Ctl.USER])
        return isin(self, values)

    patch.setattr(Value, "isin", loose)


# -- the test ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest_states() -> None:
    """States are found before anything is changed."""
    for design in BOTH:
        small(design)
        for step in STEPS:
            if step.name in (*CLONE_STEPS, *FORK_STEPS, *EXIT_STEPS, *USER_STEPS):
                states(design, step)


@pytest.mark.usefixtures("honest_states")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The check reports a disagreement, or a proof of what is false."""
    make, check = MUTANTS[name]
    make(monkeypatch)
    assert next(check(), None), f"{name}: {make.__doc__}"
