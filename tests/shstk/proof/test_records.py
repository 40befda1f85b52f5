"""What is taken from a step's record is what its paths would say, and designs share no more."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import z3
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wrong_designs import ForgetsToZero

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel import STEPS
from model.world import World
from shstk.footprint import Observed
from shstk.proof.asserted import Guards
from shstk.proof.batch import Batch, batch
from shstk.proof.fingerprint import Fingerprints
from shstk.proof.hints import recorded
from shstk.proof.invariants import pool
from shstk.proof.path_solver import NOT_ASKED, UNKNOWN, Answer, PathSolver, conjunct
from shstk.proof.paths import step_paths
from shstk.proof.problem import Problems
from shstk.proof.proved import Proved
from shstk.proof.records import Open, PathRecord, Proven, written
from shstk.proof.solvers import solve
from shstk.proof.sorts import unbounded
from shstk.proof.step_proof import Shared, StepProof
from shstk.proof.worker import Worker
from shstk.proof.world import SymbolicWorld

POOL = pool()
NAMES = frozenset(i.name for i in POOL)
MERGED = DESIGNS["linux-6.12"]
Kept = frozenset[str]
Part = tuple[int, int, int]

# -- a path, asked anew each time -----------------------------------------------------


class Fresh(StepProof):
    """A step whose solvers have been asked nothing yet; what is costly is made once."""

    def __init__(self, of: StepProof, record: PathRecord) -> None:
        vars(self).update(vars(of))
        self._solvers = {name: unasked(of.solver(name)) for name in of.paths}
        self._records = {name: record for name in of.paths}


def unasked(solver: PathSolver) -> PathSolver:
    """The same path, with no answers."""
    assert solver.all is not None
    new = copy(solver)
    new.failing, new.used, new.ever = {}, [], {}
    return new


@dataclass(frozen=True)
class Sample:
    """A path of a step, and the lemmas that matter to it."""

    design: str
    step: str
    path: int
    hints: bool = True

    @cache  # noqa: B019 - samples live as long as the tests
    def proof(self) -> StepProof:
        """The step; nobody asks it itself."""
        observed = Observed(DESIGNS[self.design])
        problems = Problems(unbounded(), observed.design, POOL)
        (step,) = (s for s in STEPS if s.name == self.step)
        only = recorded().get(step.name, {}) if self.hints else {}
        made = StepProof(observed, problems, step, frozenset(), only, Guards())
        # Only this path, so that nothing else has to be made.
        one = (made.paths[self.path],)
        made._record = replace(made.record, paths=one)
        return made

    @property
    def name(self) -> str:
        """The path."""
        return self.proof().paths[0]

    def fresh(self, record: PathRecord | None = None) -> Fresh:
        """The step, as another design has it that knows a path's record (None: nothing)."""
        return Fresh(self.proof(), PathRecord() if record is None else record)

    @cache  # noqa: B019
    def matter(self) -> tuple[str, ...]:
        """Lemmas whose absence may change an answer: those that proofs on the path use."""
        solver = self.fresh().solver(self.name)
        claims = solver.pending(NAMES, events=False)
        solver.check(NAMES, claims)
        solver.events(NAMES, [n for n in solver.pending(NAMES) if n not in claims], set())
        return tuple(sorted({name for name, _ in solver.ever.values() if name}))

    def events(self) -> tuple[str, ...]:
        """The conjuncts about events that are asked for there."""
        return tuple(sorted(set(self.proof().record.events[self.name])))


# On those of v1 claims of all kinds fail where some of the pool is not assumed.
SAMPLES = (
    Sample("linux-6.12", "munmap", 0),
    Sample("linux-6.12", "exit_mm_drop", 0),
    Sample("linux-6.12", "shstk_disable", 0),
    Sample("v1", "exit_mm_release", 1),
    Sample("v1", "exit_mm_release", 6),
    Sample("linux-6.12", "shstk_disable", 0, hints=False),
)
EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: f"{s.step}-{s.path}-{s.hints}")
LAW = settings(max_examples=20, deadline=None)


def kept_sets(sample: Sample, data: st.DataObject) -> st.SearchStrategy[Kept]:
    """Half of the pool, some more, and some less: of one what follows of the other may not."""
    half = random.Random(data.draw(st.integers(0, 9))).sample(sorted(NAMES), len(NAMES) // 2)
    base = data.draw(st.sampled_from((frozenset(half), frozenset(half), NAMES)))
    some = st.sets(st.sampled_from(sample.matter()), min_size=1, max_size=12)
    # Of what the path does not change, more can be assumed and no more has to be proved.
    solver = sample.fresh().solver(sample.name)
    rest = sorted(NAMES.difference(solver.names) - base) or sorted(NAMES)
    more = st.sets(st.sampled_from(rest), min_size=1)
    failing = sorted(base.intersection(sample.fresh().check(sample.name, base).failing)) or rest
    less = st.sets(st.sampled_from(failing), min_size=1)
    return st.one_of(
        st.sampled_from((base, base, NAMES)),
        *(some.map(base.union), some.map(base.difference)),
        *(more.map(base.union), st.just(base.union(rest)), less.map(base.difference)),
    )


def rounds(proof: StepProof, path: str, kept: Kept) -> Kept:
    """What is left of a set when what fails is dropped, round by round."""
    while True:
        failing = kept.intersection(proof.check(path, kept).failing)
        if not failing:
            return kept
        kept -= failing


def said(proved: Proved) -> tuple[set[str], set[str]]:
    """The goals that are to be proved, and the claims about events that are not."""
    return set(goals_of(proved)), set(proved.failing)


def texts_hold(proved: Proved) -> bool:
    """Whether every goal follows from the premises that the obligations are written with."""
    for part in proved.batches:
        for goal in part.goals:
            each = z3.Solver()
            each.from_string(f"{part.prelude}(assert {goal.negated})")
            if each.check() != z3.unsat:
                return False
    return True


# -- the law of each question ----------------------------------------------------------


@EACH
@LAW
@given(data=st.data())
def test_what_is_known_of_a_check_is_what_the_path_says(
    sample: Sample, data: st.DataObject
) -> None:
    """After the rounds of some designs, an answer for any other set is the path's own."""
    sets = kept_sets(sample, data)
    record = PathRecord()
    for start in data.draw(st.lists(sets, min_size=1, max_size=4)):
        rounds(sample.fresh(record), sample.name, start)
    for kept in data.draw(st.lists(sets, min_size=1, max_size=6)):
        known = record.check(sample.name, kept)
        if known is None:
            continue
        one = sample.fresh()
        true, solver = one.check(sample.name, kept), one.solver(sample.name)
        assert set(known.failing) & NAMES == set(true.failing) & NAMES
        assert known.unknown == ()
        # What the answer says the proof needs is there, and is enough for all the others.
        assert known.needed <= kept
        rest = [n for n in solver.pending(kept, events=False)]
        assert solver.all.ask(known.needed, rest) == z3.unsat if rest else True


@EACH
@LAW
@given(data=st.data())
def test_what_is_known_of_obligations_is_what_the_path_says(
    sample: Sample, data: st.DataObject
) -> None:
    """Goals that fail do; others are proved by the premises that are there, and all are there."""
    sets = kept_sets(sample, data)
    events = st.sets(st.sampled_from(sample.events())) if sample.events() else st.just(set[str]())
    record = PathRecord()
    for start in data.draw(st.lists(sets, min_size=1, max_size=4)):
        one = sample.fresh(record)
        kept = rounds(one, sample.name, start)
        one.end(sample.name, kept, set(data.draw(events)), explain=False)
    for start in data.draw(st.lists(sets, min_size=1, max_size=4)):
        # What is kept at last: on this path nothing of it fails.
        kept = rounds(sample.fresh(), sample.name, start)
        before: set[str] = set(data.draw(events))
        failed = set(before)
        known = record.end(sample.step, sample.name, kept, failed)
        if known is None:
            assert failed == before, "who does not answer says nothing"
            continue
        goals, open_ = said(known)
        wanted, true, unsafe = truth(sample, kept)
        assert goals | open_ >= wanted - unsafe and goals.isdisjoint(open_ | true | unsafe)
        assert true <= open_ <= wanted
        assert goals == wanted - open_ - unsafe
        assert known.unsafe == bool(unsafe) and known.unknown == ()
        # What holds and is not asked is of a conjunct that fails elsewhere, or here.
        conjuncts = {conjunct(g) for g in true}
        assert {conjunct(g) for g in open_ - true} <= before | conjuncts
        assert failed == before | {conjunct(g) for g in open_}
        assert known.late <= goals
        assert texts_hold(known)


def truth(sample: Sample, kept: Kept) -> tuple[set[str], set[str], set[str]]:
    """The path's goals, the events' that do not follow, and the needs that do not."""
    solver = sample.fresh().solver(sample.name)
    claims, wanted = solver.problem.claims, solver.pending(kept)
    false = [n for n in wanted if solver.all.ask(kept, [n]) != z3.unsat]
    events, needs = (
        {claims[n].name for n in false if claims[n].kind == kind} for kind in ("event", "need")
    )
    assert not any(claims[n].kind == "invariant" for n in false)
    return {claims[n].name for n in wanted}, events, needs


@EACH
@LAW
@given(data=st.data())
def test_what_is_known_of_premises_is_what_the_path_says(
    sample: Sample, data: st.DataObject
) -> None:
    """Whether the premises of claims about events may be true, for whatever set."""
    sets, every = kept_sets(sample, data), sample.events()
    if not every:
        return
    record = PathRecord()
    for kept in data.draw(st.lists(sets, min_size=1, max_size=4)):
        seen = data.draw(st.sets(st.sampled_from(every), max_size=2))
        sample.fresh(record).witness(sample.name, kept, seen)
    for kept in data.draw(st.lists(sets, min_size=1, max_size=6)):
        asked = data.draw(st.sets(st.sampled_from(every), min_size=1))
        known = record.witness(kept, asked)
        assert known.keys() <= asked
        if known:
            true = sample.fresh().solver(sample.name).witnessed(kept, asked)[0]
            assert known == {event: event in true for event in known}


@EACH
def test_records_answer_what_they_can(sample: Sample) -> None:
    """The same set, and one without a lemma that no proof has used, are known; nothing else is."""
    one = sample.fresh()
    kept = rounds(one, sample.name, NAMES)
    end = one.end(sample.name, kept, set(), explain=False)
    seen = one.witness(sample.name, kept, ())
    record = one.known(sample.name)
    assert record.check(sample.name, kept) is not None
    assert record.end(sample.step, sample.name, kept, set()) == end
    said = record.witness(kept, sample.events())
    assert said == {event: event in seen for event in sample.events()}
    goals = goals_of(end)
    used = {n for p, _ in record.proved(goals, kept) for n in p.needed}
    for name in sorted(kept - used)[:3]:
        assert record.check(sample.name, kept - {name}) is not None
        assert record.end(sample.step, sample.name, kept - {name}, set()) is not None
    for proof, those in record.proved(goals, kept, written):
        for name in sorted(proof.needed)[:3]:
            without = record.proved(those, kept - {name}, written)
            assert all(name not in p.needed for p, _ in without)
    elsewhere = record.check("vfork 99", kept), record.end("vfork", "vfork 99", kept, set())
    assert {f.path for f in elsewhere if f is not None} == {"vfork 99"}
    assert elsewhere[1] is not None
    assert {b.name.partition(",")[0] for b in elsewhere[1].batches} <= {"vfork 99"}


def test_what_fails_or_is_given_up_is_no_answer_where_more_is_assumed() -> None:
    """A failure is one where less is assumed, too; what was given up is known of the same only."""
    little, some, much = frozenset[str](), frozenset("a"), frozenset("ab")
    for why in ("sat", UNKNOWN):
        record = PathRecord({"c 0": "need"}, open=[Open(some, {"c 0": why})])
        answers: tuple[Callable[[Kept], object], ...] = (
            lambda k, r=record: r.check("s 0", k),  # type: ignore[misc]
            lambda k, r=record: r.end("s", "s 0", k, set()),  # type: ignore[misc]
        )
        for answer in answers:
            assert answer(some) is not None and answer(much) is None
            assert (answer(little) is None) == (why == UNKNOWN)


def test_what_was_not_asked_is_no_answer_until_its_conjunct_fails_elsewhere() -> None:
    """And where it was asked later, that is the answer."""
    kept, goal = frozenset("a"), "p/c 0"
    record = PathRecord({goal: "event"}, open=[Open(kept, {goal: NOT_ASKED})])
    assert record.end("s", "s 0", kept, set()) is None
    known = record.end("s", "s 0", kept, {"p/c"})
    assert known is not None and known.failing == (goal,)
    record.open.append(Open(kept, {goal: "sat"}))
    failed = set[str]()
    known = record.end("s", "s 0", kept, failed)
    assert known is not None and known.failing == (goal,) and failed == {"p/c"}


def test_what_only_all_instances_prove_is_so_again_where_no_more_is_assumed() -> None:
    """With more lemmas the hinted instances may be enough, and it is not to be given up."""
    proof = Proven(("p/c 0",), frozenset("a"), late=frozenset("ab"))
    assert proof.follows(frozenset("a")) and proof.follows(frozenset("ab"))
    assert not proof.follows(frozenset("abc")) and not proof.follows(frozenset("b"))
    assert replace(proof, late=None).follows(frozenset("abc"))


# -- sharing -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def worker(design: Design, *names: str, shared: bool = True) -> Worker:
    """A worker for some steps."""
    steps = [s for s in STEPS if s.name in names]
    text = Shared("x") if shared else None
    return Worker(design, steps, frozenset(), POOL, recorded(), text)


def largest(of: Worker) -> Kept:
    """What these steps preserve of the pool."""
    kept = NAMES
    while True:
        failing = kept.intersection(n for f in of.check(kept, None) for n in f.failing)
        if not failing:
            return kept
        kept -= failing


def verdict(of: Worker) -> tuple[Kept, list[Proved]]:
    """What is kept, and every obligation."""
    kept = largest(of)
    return kept, of.obligations(kept, explain=False)


def summary(found: tuple[Kept, list[Proved]]) -> tuple[Kept, list[object]]:
    """A verdict without the premises that each proof happens to use, of which there are many."""
    kept, proved = found
    said: list[object] = [
        (p.path, goals_of(p), p.failing, p.unsafe, p.unknown, p.witnessed) for p in proved
    ]
    return kept, said


def goals_of(proved: Proved) -> list[str]:
    """The names of the goals that are to be proved."""
    return [g.name for part in proved.batches for g in part.goals]


def solvers_of(of: Worker) -> set[str]:
    """The paths that were asked themselves."""
    return {path for step in of.steps for path in step._solvers}


@pytest.mark.usefixtures("home")
def test_another_design_with_the_same_step_needs_no_solver() -> None:
    """linux-6.6 is as linux-6.12 where the last user of an mm drops it."""
    first, second = (worker(DESIGNS[d], "exit_mm_drop") for d in ("linux-6.12", "linux-6.6"))
    assert not known(second)
    found = verdict(first)
    assert solvers_of(first)
    again = worker(DESIGNS["linux-6.6"], "exit_mm_drop")
    assert verdict(again) == found
    assert not solvers_of(again) and "_live" not in vars(again.steps[0])
    assert again.coverage() == first.coverage()
    alone = verdict(worker(DESIGNS["linux-6.6"], "exit_mm_drop", shared=False))
    assert summary(alone) == summary(found)


@pytest.mark.usefixtures("home")
def test_a_changed_hook_is_another_step() -> None:
    """A design that overrides what a step asks for is not given the record of the other."""
    names = ("exit_mm_drop", "exit_mm_release")
    verdict(worker(MERGED, *names))
    changed = worker(ForgetsToZero(), *names)
    paths = {s.name: s for s in changed.steps}
    assert "exit_mm_release" not in known(changed)
    own = worker(ForgetsToZero(), *names, shared=False)
    wrong = summary(verdict(own))
    assert summary(verdict(changed)) == wrong
    assert paths["exit_mm_release"]._solvers
    # And the other is not given its.
    again, bare = worker(MERGED, *names), worker(MERGED, *names, shared=False)
    right = summary(verdict(bare))
    assert summary(verdict(again)) == right != wrong


def known(of: Worker) -> set[str]:
    """The steps of which something is known already."""
    return {s.name for s in of.steps if s._record is not None}


@pytest.mark.usefixtures("home")
def test_a_hook_that_is_not_asked_for_does_not_matter() -> None:
    """A step that does not run it shares its record; one with other words for records does not."""

    class Other(Linux612):
        """Another shstk_setup()."""

        def shstk_setup(self, k: World) -> int:
            return 0

    verdict(worker(MERGED, "exit_mm_drop", "enable"))
    assert known(worker(Other(), "exit_mm_drop", "enable")) == {"exit_mm_drop"}
    steps = [s for s in STEPS if s.name == "exit_mm_drop"]
    assert not known(Worker(MERGED, steps, frozenset(), POOL, {}, Shared("y")))


def test_nothing_is_kept_where_nothing_is_shared(home: Path) -> None:
    """Without ``shared`` a proof leaves no record."""
    verdict(worker(MERGED, "munmap", shared=False))
    assert not files(home)
    verdict(worker(MERGED, "munmap"))
    assert {f.suffix for f in files(home)} == {".step", ".path"}


def files(home: Path) -> list[Path]:
    """The records that are kept."""
    return [*home.rglob("*.step"), *home.rglob("*.path")]


def test_a_damaged_record_is_none(home: Path) -> None:
    """Whatever a file of records holds, the answers are the same."""
    found = verdict(worker(MERGED, "munmap"))
    for path in files(home):
        path.write_bytes(path.read_bytes()[:-7] + b"garbage")
    again = worker(MERGED, "munmap")
    assert not known(again)
    assert summary(verdict(again)) == summary(found)


PATHS = ("fix-vfork-clone-failure", "linux-6.12", "vfork")  # who fails is told otherwise


@pytest.mark.usefixtures("home")
def test_designs_share_a_path_whatever_its_number() -> None:
    """Of a step that differs, the paths that are the same are known, and no others."""
    first, second, name = PATHS
    verdict(worker(DESIGNS[first], name))
    again, alone = worker(DESIGNS[second], name), worker(DESIGNS[second], name, shared=False)
    (step,) = again.steps
    assert step.name not in known(again)
    shared = {p for p in step.paths if step.known(p).proofs}
    assert shared and shared < set(step.paths)
    before = prints(worker(DESIGNS[first], name))
    assert shared == {p for p, print_ in prints(again).items() if print_ in before.values()}
    assert any(before.get(p) != prints(again)[p] for p in shared), "another number"
    found = verdict(again)
    assert summary(found) == summary(verdict(alone))
    assert solvers_of(again).isdisjoint(shared)
    assert all(texts_hold(p) for p in found[1])


def prints(of: Worker) -> dict[str, str]:
    """The fingerprints of the paths of a worker's only step."""
    return of.steps[0].record.prints


@pytest.mark.usefixtures("home")
def test_a_path_whose_claims_ask_something_new_is_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a design is asked for later than the path was made is not in the fingerprint."""
    curious = worker(MERGED, "munmap")
    check = PathSolver.check

    def asks(self: PathSolver, kept: Kept, wanted: Sequence[int]) -> Answer:
        _ = curious.steps[0]._observed.design.title
        return check(self, kept, wanted)

    monkeypatch.setattr(PathSolver, "check", asks)
    verdict(curious)
    again = worker(MERGED, "munmap")
    assert known(again) == {"munmap"}
    assert not any(again.steps[0].known(p).proofs for p in again.steps[0].paths)


# -- fingerprints ------------------------------------------------------------------------
FINGERPRINTS = """
from model.designs import DESIGNS
from model.kernel import STEPS
from shstk.proof.invariants import pool
from shstk.proof.paths import step_paths
from shstk.proof.problem import Problems
from shstk.proof.sorts import unbounded

def of(design, name):
    problems = Problems(unbounded(), DESIGNS[design], pool()[:3])
    (step,) = (s for s in STEPS if s.name == name)
    paths = step_paths(unbounded(), DESIGNS[design], step)
    return [problems.fingerprint(p) for p in paths if p.status == "done"]
"""


def in_a_process(*asked: tuple[str, str]) -> list[list[str]]:
    """The fingerprints of some designs' steps, made one after the other."""
    text = f"{FINGERPRINTS}\nfor each in {asked!r}:\n    print(*of(*each))\n"
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return [line.split() for line in done.stdout.splitlines()]


def test_a_fingerprint_does_not_depend_on_what_was_made_before() -> None:
    """Two processes that make other terms before a step's agree on its paths."""
    first, second = ("v1", "clone_thread"), ("linux-6.12", "vfork")
    one, two = in_a_process(first, second), in_a_process(second, first)
    assert one == two[::-1]
    assert all(len(set(prints)) == len(prints) > 2 for prints in one)


def test_a_fingerprint_changes_with_anything_that_is_to_be_proved() -> None:
    """With a condition, a change, a claim about an event, or something written through."""
    problems = Problems(unbounded(), MERGED, POOL[:3])
    (step,) = (s for s in STEPS if s.name == "exit_mm_release")
    paths = [p for p in step_paths(unbounded(), MERGED, step) if p.status == "done"]
    path = max(paths, key=lambda p: len(p.events))
    fingerprint, changes = problems.fingerprints.path, problems.changes(path)
    whole = fingerprint(path, changes)
    assert whole == problems.fingerprint(path)
    seen = {whole, fingerprint(path, changes[1:])}
    world = path.world
    for events in ([], path.events[1:], [*path.events, path.events[0]]):
        seen.add(fingerprint(replace(path, events=events), changes))
    for needs in ([], world.dereferenced[1:]):
        seen.add(fingerprint(replace(path, world=changed(world, dereferenced=needs)), changes))
    turned = replace(world.fork.decisions[-1], outcome=not world.fork.decisions[-1].outcome)
    fork = replace(world.fork, decisions=[*world.fork.decisions[:-1], turned])
    seen.add(fingerprint(replace(path, world=changed(world, fork=fork)), changes))
    claims = [replace(path.events[0], holds=path.events[0].premise), *path.events[1:]]
    seen.add(fingerprint(replace(path, events=claims), changes))
    assert len(seen) == 9


def changed(world: SymbolicWorld, **parts: object) -> SymbolicWorld:
    """A world that is another in some of its parts."""
    new = copy(world)
    vars(new).update(parts)
    return new


@settings(deadline=None)
@given(plan=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9))))
def test_equal_fingerprints_are_of_equal_formulas(plan: list[Part]) -> None:
    """Formulas whose digests are the same are equivalent; those of the same text have the same."""
    formulas, digests = grown(plan), Fingerprints(unbounded())
    by_digest: dict[str, z3.BoolRef] = {}
    for formula in formulas:
        first = by_digest.setdefault(digests.term(formula), formula)
        solver = z3.Solver()
        solver.add(first != formula)
        assert first.eq(formula) or solver.check() == z3.unsat
    again = Fingerprints(unbounded())
    assert [again.term(f) for f in reversed(formulas)] == [
        digests.term(f) for f in reversed(formulas)
    ]


# -- the text of obligations -------------------------------------------------------------


def obligations(of: Worker) -> list[Batch]:
    """All batches of some steps."""
    return [*of.coverage(), *(b for p in verdict(of)[1] for b in p.batches)]


def grown(plan: list[Part]) -> list[z3.BoolRef]:
    """Formulas, each made of earlier ones: shared parts, which the printer gives names."""
    sort = z3.DeclareSort("T")
    f, p = z3.Function("f", sort, sort), z3.Function("p", sort, z3.BoolSort())
    g = z3.Function("g", sort, sort, z3.BoolSort())
    objects, out = [z3.Const("a", sort), z3.Const("b", sort)], [p(z3.Const("a", sort))]
    for kind, i, j in plan:
        one, other = objects[i % len(objects)], objects[j % len(objects)]
        left, right = out[i % len(out)], out[j % len(out)]
        if kind == 0:
            objects.append(f(one))
        elif kind == 1:
            out.append(g(one, other))
        elif kind == 2:
            out.append(z3.And(left, right, p(one)))
        elif kind == 3:
            out.append(z3.Or(z3.Not(left), right))
        else:
            x = z3.Const("x", sort)
            out.append(z3.Exists([x], z3.And(g(x, one), left)))
    return out


def texts(plan: list[Part], before: list[list[Part]]) -> Batch:
    """The batch of some formulas where nothing but others has been made before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(z3.z3, "_main_ctx", None)
        held = [grown(other) for other in before]
        formulas = grown(plan)
        half = len(formulas) // 2
        made = batch("b", formulas[:half], {str(n): f for n, f in enumerate(formulas[half:])})
        del held, formulas
    return made


plans = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)), max_size=14)


@settings(deadline=None)
@given(plan=plans, other=plans, data=st.data())
@example(plan=[(3, 1, 0), (1, 0, 0), (3, 1, 2)], other=[], data=None)  # z3 names p(a) or not
def test_a_text_does_not_depend_on_other_terms(
    plan: list[Part], other: list[Part], data: st.DataObject | None
) -> None:
    """The same formulas have the same text, in whatever order their parts were made."""
    mixed = data.draw(st.permutations(plan)) if data is not None else plan
    before = [other, mixed, plan[::-1]]
    assert texts(plan, before) == texts(plan, [])


@settings(deadline=None, max_examples=30)
@given(plan=plans)
def test_a_text_says_what_the_formulas_say(plan: list[Part]) -> None:
    """Read back, each goal with its premises is as satisfiable as the terms are."""
    formulas = grown(plan)
    half = len(formulas) // 2
    made = texts(plan, [])
    for goal, formula in zip(made.goals, formulas[half:], strict=True):
        terms, text = z3.Solver(), z3.Solver()
        terms.add(*formulas[:half], z3.Not(formula))
        text.from_string(f"{made.prelude}(assert {goal.negated})")
        assert terms.check() == text.check()


def test_what_has_an_index_is_written_where_it_is_used() -> None:
    """The same bits of two words: what takes them is no term that could have a name."""
    x, y = z3.BitVecs("x y", 64)
    low = [z3.Extract(7, 0, w) for w in (x, y, x + y)]
    made = batch("b", [low[0] + low[1] == low[2]], {"g": low[0] + low[1] == low[2]})
    solver = z3.Solver()
    solver.from_string(f"{made.prelude}(assert {made.goals[0].negated})")
    assert solver.check() == z3.unsat
    assert made.prelude.count("(_ extract 7 0)") == 3


# z3's printer puts no bars round some names with an apostrophe, or that begin with a digit: every
# solver refuses them.
letters = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="|\\'")


@settings(deadline=None, max_examples=60)
@given(st.text(letters).map("v{}".format))
def test_names_are_printed_so_that_they_can_be_read(name: str) -> None:
    """A constant of whatever name is declared and read back, and is no other."""
    claims = {"same": z3.Bool(name), "other": z3.Bool(f"{name}, but other")}
    made = batch("b", [z3.Bool(name)], claims)
    for goal, answer in zip(made.goals, (z3.unsat, z3.sat), strict=True):
        solver = z3.Solver()
        solver.from_string(f"{made.prelude}(assert {goal.negated})")
        assert solver.check() == answer


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("solver", ("z3", "cvc5"))
def test_one_process_for_many_batches_says_what_each_alone_hears(
    solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of a batch when the next is asked; wrong ones are among them."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    of = worker(MERGED, "munmap", "vfork_completed", shared=False)
    batches = list(_some_wrong([*of.coverage(), *(b for p in verdict(of)[1] for b in p.batches)]))
    together, _ = solve(batches, solver, cache=False)
    alone = [r for b in batches for r in solve([b], solver, cache=False)[0]]
    assert [(r.batch, r.goal, r.status, r.rlimit_used) for r in together] == [
        (r.batch, r.goal, r.status, r.rlimit_used) for r in alone
    ]
    assert {r.status for r in together} >= {"unsat", "sat"}


def _some_wrong(batches: Collection[Batch]) -> Iterator[Batch]:
    """Batches, and each again without its premises."""
    for b in batches:
        yield b
        lines = [line for line in b.prelude.splitlines(keepends=True) if "(assert" not in line]
        yield Batch(f"{b.name}, bare", "".join(lines), b.goals[:4])
