"""What can be part of an inductive invariant: lemmas, and the properties' claims about states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import z3

from model.designs import Design
from model.state import Sort
from properties import PROPERTIES, StateConjunct, TaskConjunct
from properties.lemmas import CHAIN_LEMMAS, LEMMAS, Lemma
from properties.vocabulary import Claim
from shstk.proof.forking import Fork
from shstk.proof.heap import Heap
from shstk.proof.sorts import Universe
from shstk.proof.terms import SymbolicCond
from shstk.proof.world import SymbolicWorld


@dataclass(frozen=True)
class Invariant:
    """A claim about all objects of ``sorts`` in a state; ``property`` is '' for a lemma."""

    name: str
    sentence: str
    where: str
    sorts: tuple[Sort, ...]
    claim: Claim
    property: str = ""

    def at(
        self, universe: Universe, design: Design, heap: Heap, objects: Sequence[Any]
    ) -> SymbolicCond:
        """The claim about these objects in a state."""
        world = SymbolicWorld(universe, design, Fork(prune=False), heap)
        handles = [world.handle(s, t) for s, t in zip(self.sorts, objects, strict=True)]
        return world.formula(lambda: self.claim(cast(Any, world), *handles))

    def formula(self, universe: Universe, design: Design, heap: Heap) -> z3.BoolRef:
        """The claim about all objects in a state."""
        if not self.sorts:
            return self.at(universe, design, heap, ()).term
        return universe.forall(self.sorts, lambda *t: self.at(universe, design, heap, t).term)


def pool() -> tuple[Invariant, ...]:
    """Every lemma, then every claim about states of a property."""
    out = [_lemma(m) for m in LEMMAS.values()]
    for prop in PROPERTIES.values():
        for c in prop.conjuncts:
            if isinstance(c, StateConjunct):
                sorts = (Sort.TASK,) if isinstance(c, TaskConjunct) else ()
                name = f"{prop.id}/{c.name}"
                out.append(Invariant(name, prop.claim, c.where, sorts, c.holds, prop.id))
    return tuple(out)


def of_chains() -> tuple[Invariant, ...]:
    """The lemmas about chains of vfork children; no state of the finite world decides them all."""
    return tuple(_lemma(m) for m in CHAIN_LEMMAS.values())


def _lemma(m: Lemma) -> Invariant:
    return Invariant(m.name, m.sentence, m.where, m.sorts, m.holds)


def named(names: Sequence[str]) -> tuple[Invariant, ...]:
    """Those of the pool with these names, in the pool's order."""
    return tuple(i for i in pool() if i.name in names)
