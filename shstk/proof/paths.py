"""The paths of a design's steps: under which condition, and what is so afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import z3

from model.designs import Design
from model.events import Event
from model.kernel import Step
from model.state import Sort
from properties import EventConjunct
from shstk.build import CLAIMS, Part
from shstk.proof.forking import Fork, endings
from shstk.proof.heap import Heap
from shstk.proof.sorts import Universe, functions
from shstk.proof.terms import SymbolicCond
from shstk.proof.world import SymbolicWorld


@dataclass
class EventClaim:
    """What a property says of an event that has happened on a path, and when it says something."""

    part: Part
    event: Event
    holds: SymbolicCond
    premise: SymbolicCond

    @property
    def name(self) -> str:
        """For example ``own-mm/nothing-else-hit``."""
        return self.part.name


@dataclass
class Path:
    """One way through a step; ``world`` is the world as it was at the end of it.

    ``needs``: what must be true for the path to make sense (nothing is written through NULL).
    """

    step: Step
    number: int
    condition: z3.BoolRef
    status: str
    world: SymbolicWorld
    events: list[EventClaim] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For example ``exit_mm_release 3``."""
        return f"{self.step.name} {self.number}"

    @property
    def needs(self) -> list[tuple[str, z3.BoolRef]]:
        """Conditions on the state before, by what needs them."""
        return self.world.dereferenced


def task_at(universe: Universe, tag: str = "") -> Any:
    """The constant for the task whose step it is."""
    return z3.Const(f"current{tag}", universe.sorts[Sort.TASK])


def step_paths(
    universe: Universe,
    design: Design,
    step: Step,
    switched_off: frozenset[str] = frozenset(),
    tag: str = "",
    world: type[SymbolicWorld] = SymbolicWorld,
) -> list[Path]:
    """Every path of a step of a task, the disabled ones too."""
    base = Heap(functions(universe, tag))
    current = task_at(universe, tag)
    seen: list[tuple[SymbolicWorld, list[EventClaim]]] = []

    def text(fork: Fork) -> SymbolicWorld:
        k = world(universe, design, fork, base, current, switched_off, tag)
        claims: list[EventClaim] = []
        k.watch = _watching(claims)
        seen.append((k, claims))
        k.require(k.cond(universe.is_object(Sort.TASK, current)))
        k.require(k.current.ctl.isin(step.at))
        # A live task has a group and an mm: an obligation, like every dereference.
        for what, reference in (("group", k.current.group), ("mm", k.current.mm)):
            sort = reference.sort
            there = universe.is_object(sort, k.index(reference)[0])
            k.dereferenced.append((f"current.{what}", there))
        step.run(cast(Any, k))
        return k

    out: list[Path] = []
    for ending in endings(text):
        k, claims = seen.pop()
        status = ending.stop.status if ending.stop else "done"
        out.append(Path(step, len(out), ending.fork.condition, status, k, claims))
    return out


def _watching(claims: list[EventClaim]) -> Callable[[SymbolicWorld, Event], None]:
    """Ask of every event what the properties say of it, with the values things have there."""

    def watch(k: SymbolicWorld, event: Event) -> None:
        world = cast(Any, k)
        for part in CLAIMS:
            c = part.conjunct
            if isinstance(c, EventConjunct) and isinstance(event, c.event):
                holds = k.formula(partial(c.holds, world, event))
                premise = k.formula(partial(c.premise, world, event))
                claims.append(EventClaim(part, event, holds, premise))

    return watch
