"""All runs of a text: one for each sequence of decisions, each of which begins as another one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from model.designs import Design
from model.kernel import Step
from model.state import NULL
from shstk.finite import Branch, Disabled, Impossible, Outcome, Run, Saturated, Watch
from shstk.space import Space, Valuation


def runs(
    space: Space,
    design: Design,
    current: int,
    text: Callable[[Any], Any],
    state: Valuation | None = None,
    switched_off: frozenset[str] = frozenset(),
    watch: Watch | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Iterator[Outcome]:
    """Every run of ``text`` by task ``current``: one per sequence of decisions.

    ``watch`` may ask questions about each event as it happens; their answers are in the
    outcome and do not split the run.  ``fixed`` inputs have the value they are given.
    """
    run = Run(space, design, current, (), state, switched_off, watch, fixed)
    run.collect()
    stack: list[Branch] = []
    try:
        while True:
            outcome = execute(run, text)
            assert not run.script, "the text is not deterministic"
            stack += reversed(run.branches or ())
            run.branches = None  # what is asked from now on is no part of the run
            yield outcome
            if not stack:
                return
            run.follow(stack.pop())
    finally:
        run.end()


def execute(run: Run, text: Callable[[Any], Any]) -> Outcome:
    """Run a text, to whatever ends it."""
    try:
        text(run)
        updates = run.updates()
    except Disabled:
        return Outcome(run.decisions, "disabled")
    except Impossible:
        return Outcome(run.decisions, "impossible")
    except Saturated as full:
        return Outcome(run.decisions, "saturated", saturated=full.sort, findings=run.findings)
    return Outcome(run.decisions, "done", updates, run.events, run.chosen(), findings=run.findings)


def runs_step(
    space: Space,
    design: Design,
    current: int,
    step: Step,
    state: Valuation | None = None,
    switched_off: frozenset[str] = frozenset(),
    watch: Watch | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Iterator[Outcome]:
    """Every run of a step: its control-state guard, then its text."""
    text = functools.partial(take, step)
    return runs(space, design, current, text, state, switched_off, watch, fixed)


def take(step: Step, k: Run) -> None:
    """The step as a text.  Raises what ends a run."""
    k.require(k.current.ctl.isin(step.at))
    # Typing: a live task has a group and an mm.
    if k.current.group == NULL:
        raise Impossible("a live task without a group")
    if k.current.mm == NULL:
        raise Impossible("a task without an mm")
    step.run(cast(Any, k))
