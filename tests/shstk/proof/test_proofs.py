"""What is proved of the designs, by whom it is confirmed, and what makes it fail."""

from __future__ import annotations

from functools import cache

import pytest
from wrong_designs import ForgetsToZero

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.state import Ctl, Sort
from properties import PROPERTIES
from shstk.build import ORDINARY
from shstk.pool import Meter
from shstk.proof import proof_cache, proofs
from shstk.proof.batch import Batch
from shstk.proof.hints import recorded
from shstk.proof.induction import Induction, enabled_steps, induction
from shstk.proof.invariants import Invariant, pool
from shstk.proof.judge import Explored, contradiction, judge
from shstk.proof.proofs import DesignProof, prove
from shstk.proof.solvers import solve
from shstk.proof.worker import Worker
from shstk.search import InternalError
from shstk.space import Bound
from shstk.verdicts import NOT_INDUCTIVE, PROVED, UNKNOWN

HOLDING = {
    "v1": {
        *("ssp-at-top", "worker-holds-none", "inherited", "off-is-noop", "exec-resets"),
        *("no-false-alarm", "size-default", "size-compat"),
        *("switch-takes-effect", "child-goes-on"),
    },
    "linux-6.12": {
        *("alloc-failure-fails-clone", "ssp-at-top", "inherited", "off-is-noop", "exec-resets"),
        *("freed-at-most-once", "own-mm", "worker-frees-nothing", "size-default"),
        *("switch-takes-effect", "child-goes-on"),
    },
    "proposed": PROPERTIES.keys()
    - {"separate-stacks", "no-orphan-copies", "vfork-resumes", "unmap-terminates"},
}


@cache
def proof_of(design: str, *without: str) -> DesignProof:
    """The proof of a design, by both solvers, kept between tests and runs."""
    return prove(DESIGNS[design], without=frozenset(without), solvers=("z3", "cvc5"))


FEW = ("enable", "exit_mm_release", "exec_mm_release", "exec_mmap", "exec_mmap_killed")


def few(design: Design) -> Induction:
    """The obligations of a few of a design's steps."""
    steps = [s for s in enabled_steps(ORDINARY) if s.name in FEW]
    return induction(design, steps, frozenset(), pool())


@pytest.mark.parametrize("design", HOLDING)
def test_every_property_is_proved_or_violated(design: str) -> None:
    """Nothing about states and events is left open, and nothing proved is violated."""
    judgement = judge(proof_of(design), DESIGNS[design], frozenset(), None, Meter())
    found = {v.property: v.status for v in judgement.verdicts}
    assert {p for p, status in found.items() if status == PROVED} == HOLDING[design]
    bounded = {"vfork-resumes", "unmap-terminates"}
    rest = {p: s for p, s in found.items() if p not in HOLDING[design] | bounded}
    assert set(rest.values()) == {"violated"}
    assert found.keys() == PROPERTIES.keys()


def test_an_assumption_proves_what_is_violated_without_it() -> None:
    """Where nobody calls vfork, no two threads of the merged design run on one stack."""
    proof = proof_of("linux-6.12", "vfork", "vfork-thread")
    for name in ("separate-stacks", "not-in-use", "no-dangling-ssp"):
        of = proof.of(name)
        assert of is not None and of.status == PROVED, name
    assert "CLONE_VFORK" in proof.assumption
    whole = proof_of("linux-6.12").of("separate-stacks")
    assert whole is not None and whole.status == NOT_INDUCTIVE


@pytest.mark.parametrize("design", ("v1", "linux-6.12"))
def test_a_second_solver_confirms_every_obligation(design: str) -> None:
    """cvc5 says unsat wherever z3 does, or nothing would be proved by both."""
    proof = proof_of(design)
    assert proof.solvers == ("z3", "cvc5")
    assert proof.obligations > 5000
    assert {p.property for p in proof.properties if p.status == PROVED} == HOLDING[design]


def test_a_path_is_not_proved_because_it_cannot_be_taken() -> None:
    """Each step has a path whose premises do not contradict each other (no empty proof)."""
    kept = set(proof_of("linux-6.12").kept)
    names = ("exit_mm_release", "clone_commit", "exec_mmap", "shstk_disable", "vfork_abandoned")
    steps = [s for s in enabled_steps(ORDINARY) if s.name in names]
    worker = Worker(DESIGNS["linux-6.12"], steps, frozenset(), pool(), recorded())
    possible = {
        s.problem.path.step.name for s in worker.solvers.values() if str(s.possible(kept)) == "sat"
    }
    assert possible == set(names)


def test_a_wrong_design_is_not_proved() -> None:
    """Without size = 0 after a free, nobody proves that a stack is freed only once."""
    wrong = ForgetsToZero()
    made = few(wrong)
    failing = {name.rsplit(" ", 1)[0] for p in made.proved for name in p.failing}
    assert "freed-at-most-once/owned" in failing
    right = {name.rsplit(" ", 1)[0] for p in few(Linux612()).proved for name in p.failing}
    assert "freed-at-most-once/owned" not in right


def test_what_is_false_at_first_is_no_part_of_the_invariant() -> None:
    """A claim that the steps preserve but the initial state does not satisfy is dropped."""
    nobody = Invariant("nobody", "", "", (Sort.TASK,), lambda k, t: t.ctl == Ctl.EXIT_RELEASED)
    steps = [s for s in enabled_steps(ORDINARY) if s.name == "vfork_completed"]
    made = induction(DESIGNS["v1"], steps, frozenset(), (*pool(), nobody))
    assert [(d.name, d.round) for d in made.dropped if d.name == "nobody"] == [("nobody", 0)]
    assert "nobody" not in made.kept
    assert "nobody" not in {g.name for g in made.initial.goals}


def test_one_answer_that_is_not_unsat_spoils_what_rests_on_it() -> None:
    """A lemma that a solver does not confirm takes every proof with it; an event, its own."""
    proof = proof_of("linux-6.12")
    lemma = proofs._spoiled(proof, {("exit 0", proof.kept[0])})
    assert {p.status for p in lemma.properties} <= {UNKNOWN, NOT_INDUCTIVE}
    event = proofs._spoiled(proof, {("exit_mm_release 3", "own-mm/nothing-else-hit 2")})
    assert {p.property for p in event.properties if p.status == UNKNOWN} == {"own-mm"}
    # A property's claim about states is part of what the others rest on.
    state = proofs._spoiled(proof, {("exit 0", "inherited/wrss-implies-on")})
    assert {p.status for p in state.properties} <= {UNKNOWN, NOT_INDUCTIVE}


def test_a_proof_is_made_again_when_an_answer_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache fails closed: a plan without all its answers is no proof."""
    proof_of("v1")
    assert prove(DESIGNS["v1"], solvers=("z3", "cvc5")).cached
    monkeypatch.setattr(proof_cache, "verdicts", lambda _key, _identity: None)

    def asked(*_: object, **__: object) -> Induction:
        raise KeyError("asked again")

    monkeypatch.setattr(proofs, "obligations", asked)
    with pytest.raises(KeyError, match="asked again"):
        prove(DESIGNS["v1"])


def test_a_wrong_obligation_is_answered_sat() -> None:
    """A premise that is left out shows: the goal is not unsat any more."""
    made = few(DESIGNS["v1"]).proved
    batch = next(
        b
        for p in made
        for b in p.batches
        if b.goals and "assert" in b.prelude and "exec_mmap" in p.path
    )
    bare = "".join(
        line + "\n" for line in batch.prelude.splitlines() if not line.startswith("(assert")
    )
    answers, _ = solve([Batch(batch.name, bare, batch.goals)], cache=False)
    assert "sat" in {a.status for a in answers}


def test_a_proof_and_a_trace_of_one_claim_are_an_error() -> None:
    """Exploration and proof must not contradict each other."""
    proof = proof_of("linux-6.12")
    lie = Explored("own-mm", "violated", (Bound(2, 1, 1),), None, frozenset({"mm-of-the-record"}))
    with pytest.raises(InternalError, match="own-mm/mm-of-the-record"):
        contradiction(proof, [lie])
