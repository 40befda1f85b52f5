"""A trace: a run of the model that ends in a violation, as plain data."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypedDict

Value = bool | int | Enum  # an object is its number from 0; NULL and LEFT are Enum members
Fields = Mapping[str, Value]  # of one object, by the name of the state variable
Pick = bool | int | str


class StateView(TypedDict):
    """A whole state: the fields of every object.  ``mms[m][a]`` is mm m's mapping at address a."""

    tasks: tuple[Fields, ...]
    groups: tuple[Fields, ...]
    mms: tuple[tuple[Fields, ...], ...]


class Extent(NamedTuple):
    """How many tasks, mms and addresses there are; there are as many groups as tasks."""

    tasks: int
    mms: int
    stacks: int


@dataclass(frozen=True)
class TraceStep:
    """One step of a run.

    ``picks`` are the arbitrary choices by name.  ``notes`` say what happened inside the
    step; they call objects ``task0``, ``mm0``, ``address0``.  ``violations`` are the
    conjuncts that fail here for the first time, as ``property/conjunct``.
    """

    task: int
    step: str
    picks: Mapping[str, Pick]
    state: StateView  # after the step
    notes: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A run from ``initial`` that violates a conjunct of a property in its last step.

    ``loop``: the number of the state (0 is ``initial``) that the last step leads back to,
    where the violation is that the run goes on like that for ever.  ``aftermath``: what
    comes of it on the reference machine, a line each.
    """

    design: str
    property: str
    conjunct: str
    where: str  # file and line the conjunct is written at
    environment: str
    bound: Extent
    initial: StateView
    steps: tuple[TraceStep, ...]
    loop: int | None = None
    aftermath: tuple[str, ...] = ()

    @builtins.property
    def claim(self) -> str:
        """The violated conjunct, for example ``own-mm/nothing-else-hit``."""
        return f"{self.property}/{self.conjunct}"

    @builtins.property
    def states(self) -> tuple[StateView, ...]:
        """Every state of the run, the initial one first."""
        return (self.initial, *(step.state for step in self.steps))
