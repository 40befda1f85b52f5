"""Two states that differ in nothing that anybody reads, and so are alike.

They have the same tasks, mms and SSPs, and shadow stacks at the same addresses.  What they need
not agree on is what only claims ask for, which shadow stack is of which kind, and bookkeeping
that is ``unread``.  That nobody reads it is no assumption: of two designs that start alike it is
proved that they stay alike, step by step, and then they do the same for whoever looks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, cast

import z3

from model.designs import Design
from model.state import SHADOW_KINDS, Field, Mapping, Sort, fields
from properties.unread import UNREAD, Unread
from shstk.proof.differences import somewhere
from shstk.proof.heap import Heap
from shstk.proof.invariants import Invariant
from shstk.proof.sorts import INDEX, Universe, enumeration, functions
from shstk.proof.terms import Tree

KIND = cast(Any, vars(Mapping)["kind"])


FOR_CLAIMS = "whose or of which kind a shadow stack is said to be, for claims alone"
NUMBERS = "how large a recorded size is, of which this model asks only whether it is 0"


def excusable(fields_: Collection[Field[Any]]) -> tuple[list[Unread], tuple[str, ...]] | None:
    """The rules for a difference in these variables, and what it is in words; None: it is seen."""
    rules = [r for r in UNREAD if r.field in fields_]
    claims = [f for f in fields_ if f.ghost or f is KIND]
    if any(f not in claims and all(r.field is not f for r in rules) for f in fields_):
        return None
    return rules, (*(r.sentence for r in rules), *([FOR_CLAIMS] if claims else ()))


class Alike:
    """The relation between a state of one design and one of another, given what is unread.

    ``numbers``: of a number that is noted it counts only whether it is 0.
    """

    def __init__(
        self, universe: Universe, design: Design, rules: Sequence[Unread], numbers: bool = False
    ) -> None:
        self.universe = universe
        self.design = design
        self.rules = tuple(rules)
        self.numbers = numbers
        self.base = functions(universe)

    @cached_property
    def _theirs(self) -> dict[Field[Any], Any]:
        """What the variables hold in the other state, where that may be anything."""
        return functions(self.universe, ".other")

    def other(self, heap: Heap) -> Heap:
        """Any state that is alike."""
        out = heap.copy()
        for record in INDEX:
            for f in fields(record):
                if self._excuses(f):
                    theirs = self._theirs[f]

                    def may(*at: Any, f: Field[Any] = f, theirs: Any = theirs) -> Any:
                        return self._excused(f, heap, at, heap.read(f, at), theirs(*at))

                    out.update(f, may, lambda *at, theirs=theirs: theirs(*at))
        return out

    def differences(self, one: Heap, two: Heap) -> list[Any]:
        """Where two states are not alike, at objects of which nothing is known."""
        out = []
        for record in INDEX:
            at = somewhere(self.universe, record)
            for f in fields(record):
                here, there = one.read(f, at), two.read(f, at)
                if not here.eq(there):
                    excused = self._excused(f, one, at, here, there)
                    out.append(z3.simplify(z3.Not(z3.Or(here == there, excused))))
        return [t for t in out if not z3.is_false(t)]

    def _excuses(self, field: Field[Any]) -> bool:
        """There are values of this variable that need not be the same."""
        by_rule = any(r.field is field for r in self.rules)
        return field.ghost or field is KIND or by_rule or self._is_number(field)

    def _excused(self, field: Field[Any], heap: Heap, at: Any, here: Any, there: Any) -> Any:
        """Two values of a variable need not be the same; ``heap`` is of the first design."""
        if field.ghost:
            return z3.BoolVal(True)
        allowed = [self._when(r, heap, at) for r in self.rules if r.field is field]
        if field is KIND:
            allowed.append(z3.And(self._shadow(here), self._shadow(there)))
        if self._is_number(field):
            allowed.append((here == 0) == (there == 0))
        return z3.simplify(z3.Or(*allowed))

    def _is_number(self, field: Field[Any]) -> bool:
        return self.numbers and field.store is not None

    def _when(self, rule: Unread, heap: Heap, at: tuple[Any, ...]) -> Any:
        claim = Invariant("", rule.sentence, "", (Sort.TASK,), rule.when)
        said = claim.at(self.universe, self.design, heap, at)
        if isinstance(said, Tree):
            raise TypeError(f"what is unread is said of one task alone: {rule.sentence}")
        return said.term

    def _shadow(self, kind: Any) -> Any:
        members = enumeration(type(SHADOW_KINDS[0]))[1]
        return z3.Or(*(kind == members[k] for k in SHADOW_KINDS))
