"""From claims with quantifiers to ground formulas, by instances at the terms that are there.

A claim that is assumed is weakened, one that is to be proved is kept as it is: whatever
follows from the ground formulas follows from the claims.  An existential that is assumed
gets a constant of its own (its witness); a universal is instantiated, for each variable, at
the terms that the formulas apply a state variable to.  Solvers see no quantifier.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import z3

from model.state import Sort
from shstk.proof import lowlevel
from shstk.proof.sorts import NAMES, Universe
from shstk.proof.terms import SymbolicCond, Tree

Place = tuple[Any, ...]  # the terms of an index: (task,), (group,), (mm, address)


@dataclass(frozen=True)
class Schema:
    """A ground formula with variables, and where it looks."""

    variables: tuple[Any, ...]
    sorts: tuple[Sort, ...]
    formula: Any
    places: tuple[Place, ...]

    @cached_property
    def pointers(self) -> Any:
        """The variables, for many substitutions."""
        return lowlevel.pointers([v.as_ast() for v in self.variables])


@dataclass(frozen=True)
class Universal:
    """For all objects of ``sorts``, ``body`` (or its negation), where ``guard`` is true."""

    name: str
    guard: Any  # None: always
    sorts: tuple[Sort, ...]
    body: Callable[..., SymbolicCond]
    positive: bool = True
    schema: Schema | None = None

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """What tells it from others: its name and its guard's address."""
        return self.name, lowlevel.address(self.guard) if self.guard is not None else None


@dataclass
class Instance:
    """A ground formula, where it looks (a schema's instance does not say), what it brings.

    ``objects``: of a lemma's, at which terms.
    """

    formula: Any
    places: tuple[Place, ...] = ()
    universals: list[Universal] = field(default_factory=list)
    id: int = -1  # the formula's, where it is kept
    objects: Place | None = None


class Naming:
    """Names for the constants that formulas bring: the same whenever the same are made."""

    def __init__(self, of: str) -> None:
        self.of = of
        self._count = itertools.count()
        self.used = False

    def new(self, what: str) -> str:
        """For example ``witness.fork.3.0``, the first that path ``fork 3`` brings."""
        self.used = True
        return f"{what}.{self.of}.{next(self._count)}"


class Grounder:
    """Makes ground formulas of conditions, and keeps those that paths share."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self._count = itertools.count()
        self.nodes = lowlevel.Nodes(universe.left.ctx)
        self._places: dict[int, tuple[Place, ...]] = {}
        self._patterns: dict[tuple[Any, ...], Schema | None] = {}
        self._texts: dict[int, tuple[Any, str]] = {}
        self._instances: dict[tuple[Any, ...], Instance] = {}
        self._kept: list[Any] = []  # terms whose addresses are keys must not be freed

    # -- conditions ------------------------------------------------------------------
    def assumed(
        self,
        name: str,
        condition: SymbolicCond,
        positive: bool = True,
        naming: Naming | None = None,
    ) -> Instance:
        """A condition that is assumed, or (``positive`` false) whose negation is.

        ``naming``: of the constants it brings; None: names that nothing else has.
        """
        naming = naming or Naming(str(next(self._count)))
        universals: list[Universal] = []

        def fresh(sort: Sort) -> Any:
            return z3.Const(naming.new("witness"), self.universe.sorts[sort])

        formula = self._ground(name, condition, positive, universals, fresh, naming)
        return Instance(formula, self.places(formula), universals)

    def refuted(
        self, name: str, condition: SymbolicCond, first: int = 0, naming: Naming | None = None
    ) -> Instance:
        """The negation of a claim to be proved, its witnesses shared with other claims'.

        ``first``: as many objects of a sort the claim is about already.
        """
        naming = naming or Naming(str(next(self._count)))
        counts = {s: itertools.count(first) for s in Sort}
        universals: list[Universal] = []

        def fresh(sort: Sort) -> Any:
            return self.skolem(sort, next(counts[sort]))

        formula = self._ground(name, condition, False, universals, fresh, naming)
        return Instance(formula, self.places(formula), universals)

    def skolem(self, sort: Sort, number: int) -> Any:
        """The ``number``-th object of which a claim to be proved is false."""
        return z3.Const(f"{NAMES[sort].lower()}.{number}", self.universe.sorts[sort])

    def _ground(
        self,
        name: str,
        c: SymbolicCond,
        positive: bool,
        universals: list[Universal],
        fresh: Callable[[Sort], Any],
        naming: Naming,
    ) -> Any:
        if not isinstance(c, Tree):
            return c.term if positive else z3.Not(c.term)
        if c.op == "not":
            return self._ground(name, c.parts[0], not positive, universals, fresh, naming)
        if c.op in ("and", "or"):
            parts = [self._ground(name, p, positive, universals, fresh, naming) for p in c.parts]
            return z3.And(*parts) if (c.op == "and") == positive else z3.Or(*parts)
        assert c.op == "exists" and c.body is not None
        sorts = tuple(c.sorts)
        if not positive:
            guard = z3.Bool(naming.new("all"))
            universals.append(Universal(name, guard, sorts, c.body, False))
            return guard
        witnesses = [fresh(s) for s in sorts]
        real = [self.universe.is_object(s, w) for s, w in zip(sorts, witnesses, strict=True)]
        body = self._ground(name, c.body(*witnesses), True, universals, fresh, naming)
        return z3.And(*real, body)

    # -- instances -------------------------------------------------------------------
    def instance(
        self, universal: Universal, objects: Sequence[Any], key: tuple[Any, ...] | None = None
    ) -> Instance:
        """A universal at some terms; kept, because paths share most of them.

        ``key``: the universal's, then the terms' addresses, if they are known already.
        """
        if key is None:
            key = (*universal.key, *lowlevel.addresses(objects))
        known = self._instances.get(key)
        if known is None:
            known = self._instance(universal, objects)
            known.id = known.formula.get_id()
            self._instances[key] = known
            self._kept += [*objects, universal.guard]
        return known

    def _instance(self, universal: Universal, objects: Sequence[Any]) -> Instance:
        if universal.schema is not None:
            # No quantifier inside: made once, and then only its variables are replaced.
            schema = universal.schema
            made = lowlevel.substitute(schema.formula, schema.pointers, objects)
            return Instance(made, objects=tuple(objects))
        if universal.guard is not None:
            pattern = self._pattern(universal)
            if pattern is not None:
                return Instance(lowlevel.substitute(pattern.formula, pattern.pointers, objects))
        return self._written_out(universal, objects)

    def _pattern(self, universal: Universal) -> Schema | None:
        """A path's universal with variables; None where it brings constants or universals."""
        key = universal.key
        if key not in self._patterns:
            variables = self._variables(universal.sorts, 0)
            brought = Naming("")
            made = self.assumed(
                universal.name, universal.body(*variables), universal.positive, brought
            )
            known = None
            if not made.universals and not brought.used:
                formula = self._guarded(universal, variables, made.formula)
                known = Schema(tuple(variables), universal.sorts, formula, ())
            self._patterns[key] = known
            self._kept.append(universal.guard)
        return self._patterns[key]

    def _guarded(self, universal: Universal, objects: Sequence[Any], formula: Any) -> Any:
        """What a universal says of some terms, where its guard is true and they are objects."""
        real = [
            self.universe.is_object(s, o) for s, o in zip(universal.sorts, objects, strict=True)
        ]
        given = real if universal.guard is None else [universal.guard, *real]
        return z3.Implies(z3.And(*given), formula) if given else formula

    def _written_out(self, universal: Universal, objects: Sequence[Any]) -> Instance:
        """An instance with constants and universals of its own."""
        of = universal.name if universal.guard is None else self.text(universal.guard)
        naming = Naming(f"{of}({', '.join(map(self.text, objects))})")
        made = self.assumed(universal.name, universal.body(*objects), universal.positive, naming)
        formula = self._guarded(universal, objects, made.formula)
        of_a_lemma = tuple(objects) if universal.guard is None else None
        return Instance(formula, made.places, made.universals, objects=of_a_lemma)

    def instance_places(self, universal: Universal, objects: Sequence[Any]) -> tuple[Place, ...]:
        """Where a universal looks at some terms."""
        if universal.schema is None:
            return self.instance(universal, objects).places
        renaming = list(zip(universal.schema.variables, objects, strict=True))
        return tuple(tuple(z3.substitute(t, *renaming) for t in p) for p in universal.schema.places)

    def schema(self, sorts: Sequence[Sort], body: Callable[..., SymbolicCond]) -> Schema | None:
        """A claim with variables, universals pulled out; None if there is an existential."""
        variables = self._variables(sorts, 0)
        condition = body(*variables)
        inner: list[Any] = []
        if not self._prenex(condition, True, inner, len(variables)):
            return None
        formula = self._plain(condition, iter(inner))
        every = (*variables, *inner)
        real = [self.universe.is_object(self._sort(v), v) for v in every]
        formula = z3.simplify(z3.Implies(z3.And(*real), formula))
        return Schema(every, tuple(self._sort(v) for v in every), formula, self.places(formula))

    def _variables(self, sorts: Sequence[Sort], first: int) -> list[Any]:
        return [
            z3.Const(f"any.{n}.{NAMES[s]}", self.universe.sorts[s])
            for n, s in enumerate(sorts, first)
        ]

    def _sort(self, term: Any) -> Sort:
        return next(s for s, name in NAMES.items() if name == str(term.sort()))

    def _prenex(self, c: SymbolicCond, positive: bool, inner: list[Any], first: int) -> bool:
        """Collect variables for the universals of a condition; False if there is an existential."""
        if not isinstance(c, Tree):
            return True
        if c.op == "exists":
            if positive or c.body is None:
                return False
            variables = self._variables(c.sorts, first + len(inner))
            inner += variables
            return self._prenex(c.body(*variables), False, inner, first)
        turned = positive if c.op != "not" else not positive
        return all(self._prenex(p, turned, inner, first) for p in c.parts)

    def _plain(self, c: SymbolicCond, inner: Iterator[Any]) -> Any:
        """The condition with the universals' variables in place, in the order of ``_prenex``."""
        if not isinstance(c, Tree):
            return c.term
        if c.op == "exists":
            assert c.body is not None
            return self._plain(c.body(*(next(inner) for _ in c.sorts)), inner)
        parts = [self._plain(p, inner) for p in c.parts]
        if c.op == "not":
            return z3.Not(parts[0])
        return z3.And(*parts) if c.op == "and" else z3.Or(*parts)

    def text(self, term: Any) -> str:
        """A term as text, without the bars around its names."""
        at = lowlevel.address(term)
        known = self._texts.get(at)
        if known is None:
            known = term, " ".join(term.sexpr().split()).replace("|", "")
            self._texts[at] = known
        return known[1]

    # -- where formulas look ------------------------------------------------------------
    def places(self, term: Any) -> tuple[Place, ...]:
        """The indices at which a formula reads a state variable."""
        nodes = self.nodes
        whole = nodes.at(term)
        known = self._places.get(whole)
        if known is None:
            read = self._read_at(whole)
            known = self._places[whole] = tuple(tuple(nodes.term(a) for a in at) for at in read)
        return known

    def _read_at(self, whole: int) -> Iterable[tuple[int, ...]]:
        nodes = self.nodes
        found: dict[tuple[int, ...], None] = {}
        for node, at in nodes.below(whole):
            if 0 < len(at) <= 2 and at not in found:
                if nodes.operator(node) == z3.Z3_OP_UNINTERPRETED:
                    if not any(nodes.is_variable(a) for a in at):
                        found[at] = None
        return found

    def named(self, term: Any, places: Sequence[Place]) -> tuple[Place, ...]:
        """The tasks that a formula speaks about by what a variable of a place holds."""
        at = {lowlevel.addresses(p) for p in places}
        task = lowlevel.address(self.universe.sorts[Sort.TASK])
        nodes = self.nodes
        return tuple(
            (nodes.term(node),)
            for node, parts in nodes.below(nodes.at(term))
            if parts in at and nodes.sort(node) == task
        )
