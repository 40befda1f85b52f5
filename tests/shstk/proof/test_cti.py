"""Counterexamples to induction: found, shown to the finite world, never called violations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from counterexamples.trace import StateView
from model.designs import DESIGNS
from model.state import Ctl
from shstk.proof.cti import Cti, Found, confirm, counterexample, holds
from shstk.proof.cti_text import render_cti
from shstk.proof.invariants import Invariant, named
from shstk.replay import BY_NAME
from shstk.space import Space
from shstk.views import valuation

V1, MERGED = DESIGNS["v1"], DESIGNS["linux-6.12"]
OWNED = "freed-at-most-once/owned"


def found(cti: Cti | None) -> Cti:
    """A counterexample that the finite world has confirmed."""
    assert cti is not None
    assert cti.confirmed
    return cti


@pytest.fixture(scope="module")
def exiting() -> Cti:
    """A task exits and owns nothing at the range it has recorded."""
    return found(counterexample(MERGED, "exit_mm_release 3", (), f"{OWNED} 0"))


def model_of(cti: Cti) -> tuple[Space, Found]:
    """What the solver must have found for a counterexample."""
    space = Space(cti.bound)
    before, after = valuation(space, cti.before), valuation(space, cti.after)
    return space, Found(before, cti.task, BY_NAME[cti.step], cti.picks, after)


def changed(
    space: Space, state: StateView, mm: int, addr: int, **values: object
) -> tuple[int, ...]:
    """The state with a mapping altered, as a valuation."""
    mms = [list(mappings) for mappings in state["mms"]]
    mms[mm][addr] = {**mms[mm][addr], **values}  # type: ignore[dict-item]
    return valuation(space, {**state, "mms": tuple(tuple(m) for m in mms)})


# -- found and confirmed -----------------------------------------------------------
def test_without_lemmas_nothing_is_owned_for_sure(exiting: Cti) -> None:
    """With no lemma in force, a task that exits can have recorded what it does not own."""
    task = exiting.before["tasks"][exiting.task]
    mapping = exiting.before["mms"][task["mm"]][task["base"]]  # type: ignore[index]
    assert task["ctl"] in (Ctl.EXITING, Ctl.USER, Ctl.WORKER)
    assert mapping["owner"] != exiting.task
    assert exiting.in_force == 0


def test_a_counterexample_is_plain(exiting: Cti) -> None:
    """Only what matters differs from an empty world: here, no other task is there."""
    live = [t for t in exiting.before["tasks"] if t["ctl"] is not Ctl.DEAD]
    assert len(live) == 1
    assert (exiting.bound.mms, exiting.bound.stacks) == (1, 1)


def test_lemmas_rule_it_out() -> None:
    """A lemma about what is recorded leaves no counterexample, at any bound looked at."""
    lemmas = named(("record-is-owned", "live-has-mm", "owner-uses-mm"))
    assert counterexample(MERGED, "exit_mm_release", lemmas, OWNED) is None


def test_an_invariant_holds_before_and_not_after() -> None:
    """Of a claim about states, the claim itself holds in the state that is assumed."""
    (claim,) = named(("separate-stacks/one-task-per-stack",))
    (lemma,) = named(("live-has-mm",))
    cti = found(counterexample(V1, "clone_commit", (lemma,), claim.name))
    space, model = model_of(cti)
    assert holds(space, V1, claim, model.before)
    assert holds(space, V1, lemma, model.before)
    assert not holds(space, V1, claim, model.after)
    assert cti.in_force == 1


def test_a_step_that_keeps_a_claim_has_none() -> None:
    """SIGKILL unmaps nothing, whatever state it meets."""
    assert counterexample(MERGED, "sigkill", (), OWNED) is None


def test_what_a_step_needs_is_a_claim() -> None:
    """That who runs has an mm follows from a lemma, and from nothing less."""
    assert found(counterexample(MERGED, "ret 2", (), "current.mm exists 1"))
    lemma = named(("live-has-mm",))
    assert counterexample(MERGED, "ret 2", lemma, "current.mm exists 1") is None


def test_larger_worlds_are_looked_at_when_small_ones_do_not_do() -> None:
    """A fork's copy needs a second mm, so the first bound with one mm has no counterexample."""
    cti = found(counterexample(MERGED, "fork", (), "no-orphan-copies/no-orphan"))
    assert cti.bound.mms == 2


def test_names_that_do_not_exist_are_refused() -> None:
    """A claim that there is not is an error, not an absence."""
    with pytest.raises(ValueError, match="no claim"):
        counterexample(MERGED, "ret", (), "owned-by-nobody")


# -- not confirmed -----------------------------------------------------------------
def test_what_was_found_is_confirmed(exiting: Cti) -> None:
    """The state, the step and its end, as the solver has them, are confirmed."""
    space, model = model_of(exiting)
    assert confirm(space, MERGED, model, (), OWNED).confirmed


def test_a_state_where_the_claim_comes_out_true_is_not_confirmed(exiting: Cti) -> None:
    """If the task owns what it unmaps, the finite world sees no broken claim."""
    space, model = model_of(exiting)
    task = exiting.before["tasks"][exiting.task]
    where = (task["mm"], task["base"])
    before = changed(space, exiting.before, *where, owner=exiting.task)  # type: ignore[arg-type]
    assert not confirm(space, MERGED, replace(model, before=before), (), OWNED).confirmed


def test_a_step_that_ends_elsewhere_is_not_confirmed(exiting: Cti) -> None:
    """A model whose state afterwards is not where the text leads is wrong."""
    space, model = model_of(exiting)
    assert not confirm(space, MERGED, replace(model, after=model.before), (), OWNED).confirmed


def test_a_step_that_cannot_go_is_not_confirmed(exiting: Cti) -> None:
    """In the initial state nobody is exiting by himself."""
    space, model = model_of(exiting)
    corrupted = replace(model, before=space.initial)
    assert not confirm(space, MERGED, corrupted, (), OWNED).confirmed


def test_a_state_that_breaks_a_claim_in_force_is_not_confirmed(exiting: Cti) -> None:
    """What is in force has to hold in the state, by the finite world's own evaluation."""
    space, model = model_of(exiting)
    never = Invariant("never", "no state is allowed", "here", (), lambda k: False)
    assert not confirm(space, MERGED, model, (never,), OWNED).confirmed


# -- showing -----------------------------------------------------------------------
def test_it_is_never_called_a_violation(exiting: Cti) -> None:
    """The text says what it is, that the state may be unreachable, and shows both."""
    text = render_cti(exiting, MERGED)
    assert "a counterexample to induction, no violation: the state may be unreachable" in text
    assert "VIOLATED" not in text
    assert "base A" in text
    assert "the kernel unmaps A in mm0 on behalf of P" in text
    assert text.endswith(f"NOT INDUCTIVE {OWNED} 0: it is false in the step\n")
    assert max(map(len, text.splitlines())) <= 100


def test_one_that_is_not_confirmed_says_so(exiting: Cti) -> None:
    """Where the finite world does not agree, the text says that nothing follows."""
    text = render_cti(replace(exiting, confirmed=False), MERGED)
    assert "confirmed  NO: the finite world does not agree" in text
