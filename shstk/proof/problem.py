"""A path of a step as a problem for a solver: premises, and every claim to be proved there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import z3

from model.designs import Design
from model.state import Field, Sort
from shstk.proof import lowlevel
from shstk.proof.fingerprint import Fingerprints
from shstk.proof.ground import Grounder, Instance, Naming, Place, Universal
from shstk.proof.heap import Heap
from shstk.proof.instances import Only, instantiate
from shstk.proof.invariants import Invariant
from shstk.proof.paths import Path
from shstk.proof.sorts import INDEX, Universe, births, functions


@dataclass(frozen=True)
class Claimed:
    """A claim at a path: an invariant afterwards, an event's claim, or a dereference."""

    name: str
    kind: str  # "invariant", "event", "need"
    negated: Any


Premises = list[tuple[str, Instance]]  # by the lemma's name; '' for what is always assumed


@dataclass
class Problem:
    """The claims' negations, and ground premises: the path's own, and instances of universals."""

    path: Path
    grounder: Grounder
    lemmas: frozenset[str]
    universals: list[Universal]
    tag: str  # what the names of the path's own constants have, and no others'
    given: list[Instance] = field(default_factory=list)
    claims: list[Claimed] = field(default_factory=list)
    places: dict[tuple[int, ...], Place] = field(default_factory=dict)

    @cached_property
    def premises(self) -> Premises:
        """With the universals at all terms that are near."""
        return self.premises_at(None)

    def premises_at(self, only: Only | None) -> Premises:
        """With the lemmas there only (None: everywhere)."""
        out = [("", made) for made in self.given]
        places = self.places.values()
        for name, made in instantiate(self.grounder, self.universals, places, only, self.tag):
            out.append((name if name in self.lemmas else "", made))
        return out

    def look(self, where: Iterable[Place]) -> None:
        """Universals are to be instantiated there."""
        self.places.update((tuple(t.get_id() for t in p), p) for p in where)


class Problems:
    """Makes the problems of a design; what paths share is made once."""

    def __init__(self, universe: Universe, design: Design, pool: Sequence[Invariant]) -> None:
        self.universe = universe
        self.design = design
        self.pool = pool
        self.grounder = Grounder(universe)
        self.fingerprints = Fingerprints(universe)
        self.base = functions(universe)
        self.old = Heap(self.base)
        self.names = frozenset(i.name for i in pool)
        self.universals = [self._universal(i) for i in pool]
        self.claims = [(i, self._refuted(u)) for i, u in zip(pool, self.universals, strict=True)]

    def _universal(self, invariant: Invariant) -> Universal:
        def body(*objects: Any) -> Any:
            return invariant.at(self.universe, self.design, self.old, objects)

        schema = self.grounder.schema(invariant.sorts, body)
        sorts = schema.sorts if schema else invariant.sorts
        return Universal(invariant.name, None, sorts, body, schema=schema)

    def _skolems(self, sorts: Iterable[Sort]) -> list[Any]:
        counts: dict[Sort, int] = {}
        out = []
        for s in sorts:
            out.append(self.grounder.skolem(s, counts.get(s, 0)))
            counts[s] = counts.get(s, 0) + 1
        return out

    def _refuted(self, universal: Universal) -> tuple[Any, tuple[Place, ...]] | None:
        """The claim of skolem constants, before the step; None if it has an existential."""
        if universal.schema is None:
            return None
        there = self._skolems(universal.sorts)
        made = self.grounder.instance(universal, there)
        return made.formula, self.grounder.instance_places(universal, there)

    def problem(self, path: Path) -> Problem:
        """What is to be proved of a path."""
        changes = self.changes(path)
        # Not by its number: another design has the path elsewhere.
        tag = f"{path.step.name}.{self.fingerprints.path(path, changes)[:12]}"
        problem = Problem(path, self.grounder, self.names, [*self.universals], tag)
        problem.given += [Instance(axiom, id=axiom.get_id()) for axiom in self.universe.axioms]
        naming = Naming(tag)
        problem.look([path.world.index(path.world.current)])
        for condition in (*path.world.path, *path.world.granted):
            made = self.grounder.assumed(path.name, condition, naming=naming)
            made.id = made.formula.get_id()
            problem.given.append(made)
            problem.look(made.places)
            problem.universals += made.universals
        for _, body in changes:
            problem.look(self.grounder.places(body))
        written = _written(changes)
        for claimed, where, more in self._claims(path, changes, naming):
            problem.claims.append(claimed)
            problem.look(where)
            problem.look(p for place in where for p in _moved(place, written))
            problem.universals += more
        return problem

    def fingerprint(self, path: Path) -> str:
        """What tells a path from all of which something else is to be proved."""
        return self.fingerprints.path(path, self.changes(path))

    def changes(self, path: Path) -> list[tuple[Any, Any]]:
        """For each changed variable its function, and what it is afterwards as a body for it."""
        out = []
        for record, sorts in INDEX.items():
            at = tuple(z3.Var(n, self.universe.sorts[s]) for n, s in enumerate(sorts))
            for f in vars(record).values():
                if isinstance(f, Field) and f in path.world.heap.touched:
                    out.append((self.base[f], path.world.heap.read(f, at)))
        if path.world.heap.newborn:
            task = z3.Var(0, self.universe.sorts[Sort.TASK])
            out.append((births(), path.world.heap.born(task)))
        return out

    def _claims(
        self, path: Path, changes: list[tuple[Any, Any]], naming: Naming
    ) -> Iterable[tuple[Claimed, tuple[Place, ...], list[Universal]]]:
        for invariant, before in self.claims:
            if before is None:
                yield self._about(invariant, path.world.heap, naming)
                continue
            term, where = before
            now = z3.substitute_funs(term, *changes) if changes else term
            if not now.eq(term):  # otherwise no variable that it speaks about changes
                yield Claimed(invariant.name, "invariant", lowlevel.negation(now)), where, []
        for number, event in enumerate(path.events):
            made = self.grounder.refuted(event.name, event.holds, naming=naming)
            claimed = Claimed(f"{event.name} {number}", "event", made.formula)
            where = (*made.places, *self.grounder.named(made.formula, made.places))
            yield claimed, where, made.universals
        for number, (what, real_) in enumerate(path.needs):
            claimed = Claimed(f"{what} exists {number}", "need", z3.Not(real_))
            yield claimed, self.grounder.places(real_), []

    def _about(
        self, invariant: Invariant, heap: Heap, naming: Naming | None = None
    ) -> tuple[Claimed, tuple[Place, ...], list[Universal]]:
        """A claim with an existential of its own, in a state."""
        there = self._skolems(invariant.sorts)
        real = [self.universe.is_object(s, t) for s, t in zip(invariant.sorts, there, strict=True)]
        made = self.grounder.refuted(
            invariant.name,
            invariant.at(self.universe, self.design, heap, there),
            len(invariant.sorts),
            naming,
        )
        negated = z3.And(*real, made.formula)
        where = (*made.places, *((t,) for t in there))
        return Claimed(invariant.name, "invariant", negated), where, made.universals

    def state_claims(self) -> Iterable[tuple[Claimed, tuple[Place, ...], list[Universal]]]:
        """Every claim of the pool about a state, which has the variables' own functions."""
        for invariant, before in self.claims:
            if before is None:
                yield self._about(invariant, self.old)
            else:
                yield (
                    Claimed(invariant.name, "invariant", lowlevel.negation(before[0])),
                    before[1],
                    [],
                )


def _written(changes: list[tuple[Any, Any]]) -> dict[str, list[Any]]:
    """What each changed reference can be afterwards, as far as it is no longer a variable's."""
    out = {}
    for function, body in changes:
        leaves: dict[int, Any] = {}
        stack = [body]
        while stack:
            t = stack.pop()
            if z3.is_app_of(t, z3.Z3_OP_ITE):
                stack += [t.arg(2), t.arg(1)]
            elif not _has_variable(t):
                leaves.setdefault(t.get_id(), t)
        out[str(function)] = list(leaves.values())
    return out


def _has_variable(term: Any) -> bool:
    return z3.is_var(term) or any(_has_variable(c) for c in term.children())


def _moved(place: Place, written: dict[str, list[Any]]) -> Iterable[Place]:
    """Where a claim looks after the step, if what leads there has been written."""
    choices = [[t, *written.get(str(t.decl()), [])] if t.num_args() else [t] for t in place]
    yield from (p for p in itertools.product(*choices))
