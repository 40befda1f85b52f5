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
        self.places.update([(lowlevel.addresses(p), p) for p in where])


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
        nodes = self.grounder.nodes
        self._functions = [
            frozenset(nodes.functions(nodes.at(before[0]))) if before else frozenset()
            for _, before in self.claims
        ]
        self._seen: dict[int, tuple[Path, list[tuple[Any, Any]], str]] = {}

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
        changes, fingerprint = self._changed(path)
        # Not by its number: another design has the path elsewhere.
        tag = f"{path.step.name}.{fingerprint[:12]}"
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
        written = self._written(changes)
        moved: set[tuple[int, ...]] = set()
        for claimed, where, more in self._claims(path, changes, naming):
            problem.claims.append(claimed)
            problem.look(where)
            for place in where:
                at = lowlevel.addresses(place)
                if at not in moved:
                    moved.add(at)
                    problem.look(self._moved(place, written))
            problem.universals += more
        return problem

    def fingerprint(self, path: Path) -> str:
        """What tells a path from all of which something else is to be proved."""
        return self._changed(path)[1]

    def _changed(self, path: Path) -> tuple[list[tuple[Any, Any]], str]:
        """What changes on a path, and its fingerprint: asked for more than once."""
        known = self._seen.get(id(path))
        if known is None:
            changes = self.changes(path)
            known = path, changes, self.fingerprints.path(path, changes)
            self._seen[id(path)] = known
        return known[1:]

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
        after = self._after(changes)
        for number, (invariant, before) in enumerate(self.claims):
            if before is None:
                yield self._about(invariant, path.world.heap, naming)
            elif number in after:  # otherwise no variable that it speaks about changes
                negated = lowlevel.negation(after[number])
                yield Claimed(invariant.name, "invariant", negated), before[1], []
        for number, event in enumerate(path.events):
            made = self.grounder.refuted(event.name, event.holds, naming=naming)
            claimed = Claimed(f"{event.name} {number}", "event", made.formula)
            where = (*made.places, *self.grounder.named(made.formula, made.places))
            yield claimed, where, made.universals
        for number, (what, real_) in enumerate(path.needs):
            claimed = Claimed(f"{what} exists {number}", "need", z3.Not(real_))
            yield claimed, self.grounder.places(real_), []

    def _after(self, changes: list[tuple[Any, Any]]) -> dict[int, Any]:
        """The claims without existentials that changes change, by number, as they are then."""
        changed = {lowlevel.address(function) for function, _ in changes}
        terms = {
            number: before[0]
            for number, (_, before) in enumerate(self.claims)
            if before and not changed.isdisjoint(self._functions[number])
        }
        now = lowlevel.after(list(terms.values()), changes) if terms else []
        return {n: new for n, new in zip(terms, now, strict=True) if new is not None}

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

    # -- what has been written ----------------------------------------------------------
    def _written(self, changes: list[tuple[Any, Any]]) -> dict[int, list[Any]]:
        """What each changed reference can be afterwards, as far as it is no longer a variable's.

        By the function's address.
        """
        nodes = self.grounder.nodes
        out = {}
        for function, body in changes:
            leaves: dict[int, Any] = {}
            stack = [nodes.at(body)]
            while stack:
                node = stack.pop()
                parts = nodes.parts(node)
                if len(parts) == 3 and nodes.operator(node) == z3.Z3_OP_ITE:
                    stack += [parts[2], parts[1]]
                elif not any(nodes.is_variable(n) for n, _ in nodes.below(node)):
                    leaves[node] = nodes.term(node)
            out[lowlevel.address(function)] = list(leaves.values())
        return out

    def _moved(self, place: Place, written: dict[int, list[Any]]) -> Iterable[Place]:
        """Where a claim looks after the step, if what leads there has been written."""
        nodes = self.grounder.nodes
        choices = []
        for term in place:
            at = nodes.at(term)
            more = written.get(nodes.function(at), []) if nodes.parts(at) else []
            choices.append([term, *more])
        return itertools.product(*choices)
