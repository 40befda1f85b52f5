"""Runs of a text over a bound: when values are read, and when a run is over."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any

import pytest

from model.designs import DESIGNS
from model.events import ExecStarted
from model.kernel import STEPS, Step
from model.state import Ctl
from shstk.build import _watch
from shstk.collecting import seldom_collected
from shstk.finite import Outcome, Run
from shstk.replay import step_outcomes
from shstk.running import execute, runs, runs_step, take
from shstk.space import Bound, Space

SPACE = Space(Bound(3, 1, 1))
DESIGN = DESIGNS["linux-6.12"]


def test_what_is_read_is_what_was_there_then() -> None:
    """A value read through a reference that is found out later is not what is written since."""
    answers = []

    def text(k: Any) -> None:
        waited_for = k.current.child
        k.require(k.exists_task(lambda t: t == waited_for))
        before = waited_for.ctl
        for task in k._objects[type(k.current).sort]:
            task.ctl = Ctl.DEAD
        after = waited_for.ctl
        answers.append((bool(before == Ctl.USER), bool(after == Ctl.DEAD)))

    outcomes = list(runs(SPACE, DESIGN, 0, text))
    assert {o.status for o in outcomes} == {"done", "disabled"}
    assert set(answers) == {(True, True), (False, True)}


def test_a_reference_before_the_step_does_not_disturb_what_is_read_in_it() -> None:
    """Looking at the state before the step between a read and a write changes neither."""
    answers = []

    def text(k: Any) -> None:
        k.require(k.exists_task(lambda t: t == k.current.child))
        k.current.child.ctl  # noqa: B018 - a read that is never needed
        now = k.current.child.ctl
        was = k.before(k.current).child.ctl
        k.current.ctl = Ctl.DEAD
        answers.append(bool(now == Ctl.USER) == bool(was == Ctl.USER))

    assert list(runs(SPACE, DESIGN, 0, text))
    assert all(answers)


def test_runs_are_freed_without_a_search_for_garbage() -> None:
    """Nothing of a step's runs is left when they are over, however seldom garbage is collected."""
    step = next(s for s in STEPS if s.name == "clone_thread")
    gc.collect()
    gc.disable()
    try:
        made: list[weakref.ref[Run]] = []

        def text(k: Any) -> None:
            made.append(weakref.ref(k))
            step.run(k)

        deque(runs(SPACE, DESIGN, 0, text), maxlen=0)
        assert len(made) > 10
        assert not any(ref() for ref in made)
    finally:
        gc.enable()


def test_the_state_of_a_run_that_is_over_cannot_be_read() -> None:
    """It is an error, and not the state before the step."""
    kept: list[Any] = []
    deque(runs(SPACE, DESIGN, 0, lambda k: kept.append(k.current)), maxlen=0)
    with pytest.raises(AssertionError, match="the run has ended"):
        kept[0].ctl  # noqa: B018 - reading it is the error


def test_garbage_is_collected_as_before_afterwards() -> None:
    """Seldom is for as long as the work takes, whatever ends it."""
    before = gc.get_threshold()
    with pytest.raises(KeyboardInterrupt), seldom_collected(), seldom_collected():
        assert gc.get_threshold()[0] > before[0]
        raise KeyboardInterrupt
    assert gc.get_threshold() == before


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_run_that_begins_as_another_is_what_it_is_from_the_beginning(step: Step) -> None:
    """It decides, asks and writes what a run does that is led there by its decisions alone."""

    def said(outcome: Outcome) -> object:
        answers = [(f.question, f.answers) for f in outcome.findings]
        kinds = [type(event) for event in outcome.events]
        return outcome.status, outcome.decisions, outcome.updates, outcome.inputs, answers, kinds

    space = Space(Bound(2, 2, 1))
    watch = _watch([set() for _ in range(100)])
    for outcome in list(runs_step(space, DESIGN, 0, step, watch=watch)):
        prefix = [answer for _, _, answer in outcome.decisions]
        alone = Run(space, DESIGN, 0, prefix, watch=watch)
        assert said(outcome) == said(execute(alone, lambda k: take(step, k)))


def test_what_was_done_before_runs_part_is_not_done_again() -> None:
    """The text is told once more what it was told, and nobody is asked."""
    asked: list[int] = []

    def text(k: Any) -> None:
        def new(task: Any) -> Any:
            asked.append(1)
            return task.ctl == Ctl.NEW

        there = k.exists_task(new)
        for name in ("one", "two", "three"):
            bool(k.choose(name, (False, True)) == True)  # noqa: E712 - a term
        k.require(there)

    assert len(list(runs(SPACE, DESIGN, 0, text))) == 8 * 4
    assert len(asked) == SPACE.bound.tasks


def test_of_events_that_are_alike_one_is_asked() -> None:
    """A watch is asked again where the answer can be another one, and nowhere else."""
    met: list[Any] = []

    def watch(run: Run, event: Any) -> list[tuple[object, Any]]:
        met.append(event)
        return [("user", lambda: bool(event.task.ctl == Ctl.USER))]

    def text(k: Any) -> None:
        for name in ("one", "two"):
            bool(k.choose(name, (False, True)) == True)  # noqa: E712 - a term
        bool(k.current.ctl == Ctl.NEW)
        k.emit(ExecStarted(k.current))

    outcomes = list(runs(SPACE, DESIGN, 0, text, watch=watch))
    assert (len(outcomes), len(met)) == (8, 2)
    assert {len(o.findings[0].answers) for o in outcomes} == {1, 2}


def test_choices_that_are_not_wanted_are_not_tried() -> None:
    """With wanted choices there is what there was without, as far as it has these."""
    space = Space(Bound(2, 2, 1))
    step = next(s for s in STEPS if s.name == "fork")
    every = step_outcomes(space, DESIGN, space.initial, 0, step)
    for picks in [s.picks for s in every]:
        fitting = [s for s in every if s.picks == picks]
        found = step_outcomes(space, DESIGN, space.initial, 0, step, wanted=picks)
        assert [(s.after, s.picks, s.notes, s.violations) for s in found] == [
            (s.after, s.picks, s.notes, s.violations) for s in fitting
        ]
