"""Which event families a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from counterexamples.trace import TraceStep
from model.designs import Design
from model.world import Cond, World
from shstk import identities
from shstk.replay import BY_NAME
from shstk.running import runs_step
from shstk.space import Space, Valuation
from shstk.views import valuation

KERNEL = "kernel"  # cannot be switched off


def used(space: Space, design: Design, steps: Sequence[TraceStep]) -> frozenset[str]:
    """The families of a run's steps and of what the text was granted in them.

    A run from the initial state of ``space``; it can happen wherever these families are on.
    """
    out: set[str] = set()
    at = space.initial
    for step in steps:
        out.add(BY_NAME[step.step].family)
        if any(value is True for value in step.picks.values()):
            out |= _granted(space, design, at, step)
        at = valuation(space, step.state)
    return frozenset(out - {KERNEL})


class _Noting:
    """The world of a step; notes the families that ``may`` is asked about, by choice."""

    def __init__(self, world: Any, asked: dict[str, set[str]]) -> None:
        self._world = world
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def may(self, family: str, name: str = "") -> Cond:
        """An arbitrary yes or no, noted."""
        self._asked.setdefault(name or family, set()).add(family)
        return cast(Cond, self._world.may(family, name))

    def no_room(self, *args: Any, **named: Any) -> Cond:
        """The world's own, asking here."""
        return identities.Identities.no_room(cast(Any, self), *args, **named)


def _granted(space: Space, design: Design, at: Valuation, step: TraceStep) -> set[str]:
    """The families that say yes in a step, by its picks."""
    asked: dict[str, set[str]] = {}
    known = BY_NAME[step.step]

    def noting(k: World) -> None:
        known.run(cast(World, _Noting(k, asked)))

    # Picks that are words stand for members of enumerations: those are tried one by one.
    fixed = {name: value for name, value in step.picks.items() if isinstance(value, int)}
    for _ in runs_step(space, design, step.task, replace(known, run=noting), at, fixed=fixed):
        pass
    return {f for name, families in asked.items() if step.picks.get(name) is True for f in families}
