"""Executing traces again, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from counterexamples.trace import Pick, StateView, Trace, TraceStep
from model.designs import DESIGNS
from model.kernel import FAMILIES
from model.state import NULL, Ctl
from shstk.replay import (
    Successor,
    Taken,
    drive,
    explicit_successors,
    replay,
    shortest,
    step_outcomes,
    violation,
)
from shstk.space import Bound, Space
from shstk.views import valuation, view

SPACE = Space(Bound(2, 2, 2))
V1, MERGED = DESIGNS["v1"], DESIGNS["linux-6.12"]
CLAIM = "not-in-use/nobody-else-on-it"


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A failing vfork unmaps its caller's stack, in v1."""
    families = {"kernel", "enable", "vfork", "late-clone-failure"}
    return violation(SPACE, V1, CLAIM, shortest(SPACE, V1, CLAIM, families))


def changed(trace: Trace, number: int, **changes: object) -> Trace:
    """The trace with one step altered."""
    steps = list(trace.steps)
    steps[number] = replace(steps[number], **changes)  # type: ignore[arg-type]
    return replace(trace, steps=tuple(steps))


def moved(state: StateView, task: int, **values: object) -> StateView:
    """The state with fields of one task altered."""
    tasks = list(state["tasks"])
    tasks[task] = {**tasks[task], **values}  # type: ignore[dict-item]
    return {**state, "tasks": tuple(tasks)}


def test_the_shortest_run_violates_in_its_last_step_only(trace: Trace) -> None:
    """Earlier steps of a shortest run do not violate the claim."""
    assert CLAIM in trace.steps[-1].violations
    assert not any(CLAIM in step.violations for step in trace.steps[:-1])


def test_what_was_executed_is_known(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that another trace has taken is not executed again; one that differs is."""
    known: Taken = {}
    whole = replay(trace, V1, SPACE, known)
    executed: list[str] = []

    def listed(*arguments: Any, **named: Any) -> list[Successor]:
        executed.append(arguments[4].name)
        return step_outcomes(*arguments, **named)

    monkeypatch.setattr("shstk.replay.step_outcomes", listed)
    assert replay(trace, V1, SPACE, known) == whole and not executed
    wrong = changed(trace, 1, state=trace.steps[0].state)
    assert not replay(wrong, V1, SPACE, known) and executed == [trace.steps[1].step]


def test_a_trace_replays(trace: Trace) -> None:
    """Executing a trace again gives the trace."""
    result = replay(trace, V1, SPACE)
    assert result.reason == ""
    assert result
    assert result.steps == trace.steps


def test_replay_is_bound_to_the_design(trace: Trace) -> None:
    """The merged design's own path does not have v1's states."""
    result = replay(trace, MERGED, SPACE)
    assert not result
    assert result.reason.startswith("step 1 ")


def test_a_wrong_state_is_refused(trace: Trace) -> None:
    """The reason names the step and the variable."""
    state = moved(trace.steps[0].state, 0, base=NULL)
    result = replay(changed(trace, 0, state=state), V1, SPACE)
    assert result.reason == (
        "step 1 (enable by task 0): the step leads elsewhere: task0.base is 0, not NULL"
    )
    assert result.steps == ()


def test_wrong_choices_are_refused(trace: Trace) -> None:
    """A step goes as its choices say, or not at all."""
    result = replay(changed(trace, 0, picks={"ENOMEM": "perhaps"}), V1, SPACE)
    assert "cannot happen there with the choices ENOMEM=perhaps" in result.reason


@pytest.mark.parametrize("step", ["exit_mm_drop", "no_such_step"])
def test_impossible_steps_are_refused(trace: Trace, step: str) -> None:
    """A step that cannot happen, or does not exist, is named."""
    result = replay(changed(trace, 1, step=step), V1, SPACE)
    assert result.reason.startswith(f"step 2 ({step} by task 0): ")


def test_a_run_without_the_violation_is_refused(trace: Trace) -> None:
    """A run of the design that does not violate the claim is no counterexample."""
    result = replay(replace(trace, steps=trace.steps[:-1]), V1, SPACE)
    assert result.reason.endswith(f"{CLAIM} is not violated there")


def test_a_run_from_elsewhere_is_refused(trace: Trace) -> None:
    """A trace starts in the initial state."""
    elsewhere = replace(trace, initial=moved(trace.initial, 0, ctl=Ctl.EXITING))
    assert replay(elsewhere, V1, SPACE).reason.startswith("the trace starts elsewhere: ")


def test_another_bound_is_refused(trace: Trace) -> None:
    """The space must be of the trace's bound."""
    assert "3 tasks" in replay(trace, V1, Space(Bound(3, 2, 2))).reason


def test_an_unknown_claim_is_refused(trace: Trace) -> None:
    """So that old traces of renamed properties say why they fail."""
    assert "no conjunct" in replay(replace(trace, conjunct="nonsense"), V1, SPACE).reason
    assert "no property" in replay(replace(trace, property="nonsense"), V1, SPACE).reason


def test_a_state_claim_is_judged_after_the_last_step() -> None:
    """A violated state claim is false in the last state of the trace."""
    claim = "no-dangling-ssp/ssp-mapped"
    families = {"kernel", "enable", "vfork", "late-clone-failure"}
    steps = shortest(SPACE, V1, claim, families)
    assert replay(violation(SPACE, V1, claim, steps), V1, SPACE)


CONTENDED: Mapping[str, Pick] = {"mmap_lock contended": True}
RETRIES = "unmap-terminates/gets-past"


def retrying() -> tuple[TraceStep, ...]:
    """v1: a killed task retries munmap while the lock is contended."""
    path = [("enable", 0), ("disable", 0), ("sigkill", 0)]
    return drive(SPACE, V1, [*path, ("shstk_disable", 0, CONTENDED)])


def test_a_lasso_replays() -> None:
    """A loop that closes and leaves the claim false is a counterexample to liveness."""
    assert replay(violation(SPACE, V1, RETRIES, retrying(), loop=3), V1, SPACE).reason == ""


def test_a_lasso_must_close() -> None:
    """The last step leads back to the state the loop starts with."""
    result = replay(violation(SPACE, V1, RETRIES, retrying(), loop=1), V1, SPACE)
    assert result.reason.startswith("the loop does not close at state 1: ")


def test_a_liveness_claim_needs_a_lasso() -> None:
    """A finite run says nothing about what happens in the end."""
    result = replay(violation(SPACE, V1, RETRIES, retrying()), V1, SPACE)
    assert "no loop" in result.reason


def test_a_lasso_must_be_fair() -> None:
    """A loop in which another task never does what the kernel always could is no run."""
    path = [("enable", 0), ("clone_thread", 0), ("clone_commit", 0), ("disable", 0)]
    steps = drive(SPACE, V1, [*path, ("sigkill", 0), ("shstk_disable", 0, CONTENDED)])
    result = replay(violation(SPACE, V1, RETRIES, steps, loop=5), V1, SPACE)
    assert result.reason.startswith("the loop is not fair: exit_mm_release by task 1 ")


def test_a_lasso_must_violate() -> None:
    """A task that calls functions for ever gives up nothing."""
    steps = drive(SPACE, V1, [("enable", 0), ("call", 0), ("call", 0)])
    result = replay(violation(SPACE, V1, RETRIES, steps, loop=2), V1, SPACE)
    assert "does not stay false" in result.reason


def test_views_are_inverse(trace: Trace) -> None:
    """A state of a trace stands for the valuation it was made from."""
    assert view(SPACE, SPACE.initial) == trace.initial
    for state in trace.states:
        assert view(SPACE, valuation(SPACE, state)) == state


def test_successors_come_in_a_fixed_order() -> None:
    """The same state has the same successors in the same order."""
    first = list(explicit_successors(SPACE, V1, SPACE.initial, FAMILIES))
    again = list(explicit_successors(SPACE, V1, SPACE.initial, FAMILIES))
    assert [s[:3] for s in first] == [s[:3] for s in again]
    assert [s[0] for s in first] == sorted(s[0] for s in first)


def test_judging_adds_no_successors() -> None:
    """Outcomes that are judged lead to the same states as those that are not."""
    plain = list(explicit_successors(SPACE, V1, SPACE.initial, FAMILIES))
    for step in {s[1].name: s[1] for s in plain}.values():
        after = {s[2] for s in plain if s[:2] == (0, step)}
        assert {s.after for s in step_outcomes(SPACE, V1, SPACE.initial, 0, step)} == after


def test_drive_keeps_to_its_choices() -> None:
    """Choices that are asked for are taken, and shown in the notes."""
    steps = drive(SPACE, MERGED, [("enable", 0), ("clone_thread", 0, {"stack_size": 8 << 30})])
    assert steps[-1].picks["stack_size"] == 8 << 30
    assert any("8 GiB (stack_size 8 GiB)" in note for note in steps[-1].notes)


def test_drive_says_which_step_cannot_go() -> None:
    """The first impossible step is named."""
    with pytest.raises(ValueError, match=r"step 2: vfork by task 1 cannot go as wanted"):
        drive(SPACE, V1, [("enable", 0), ("vfork", 1)])
