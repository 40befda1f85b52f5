"""Runs of a text over a bound: when values are read, and when a run is over."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any

import pytest

from model.designs import DESIGNS
from model.kernel import STEPS
from model.state import Ctl
from shstk.collecting import seldom_collected
from shstk.finite import Run, runs
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
