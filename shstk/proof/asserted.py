"""Premises and a problem's claims in a solver, asserted once and switched on by assumptions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from shstk.proof import lowlevel
from shstk.proof.ground import Instance
from shstk.proof.problem import Premises, Problem
from shstk.proof.terms import Tree

RLIMIT = 20_000_000  # z3 resource units for one question of the search for an invariant
TOGETHER = 64  # instances that are looked at as one


@dataclass(frozen=True)
class _Guard:
    """A premise behind a switch: the switch's id, and pointers to it and to what is asserted."""

    id: int
    mark: Any
    guarded: Any
    kept: tuple[Any, Any]


class Guards:
    """Premises behind switches, made once for all the paths that share them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Guard] = {}
        self._flags: dict[str, list[Any]] = {}

    def flags(self, name: str, count: int) -> list[Any]:
        """As many switches of that name: solvers do not see each other's."""
        known = self._flags.setdefault(name, [])
        known += [lowlevel.boolean(f"{name} {n}") for n in range(len(known), count)]
        return known[:count]

    def of(self, name: str, instance: Instance) -> _Guard:
        """A lemma's instance: its switch, and what is asserted."""
        key = (name, instance.id)
        known = self._known.get(key)
        if known is None:
            mark = lowlevel.boolean(f"premise {len(self._known)}")
            # The formula is kept with it: its id must not be used again.
            guarded = lowlevel.implies(mark, instance.formula)
            known = _Guard(mark.get_id(), mark.as_ast(), guarded.as_ast(), (mark, guarded))
            self._known[key] = known
        return known


class Asserted:
    """Some premises and a problem's claims, asserted once, switched on by assumptions."""

    def __init__(self, problem: Problem, premises: Premises, guards: Guards) -> None:
        self.problem = problem
        self.premises: Premises = []
        self.guards = guards  # keeps what there are only pointers to
        self.solver = z3.SimpleSolver()
        self.solver.set("rlimit", RLIMIT)
        self.solver.set("dt_lazy_splits", 2)  # on enumerations last: most are settled by then
        self.marks: list[tuple[str, Any]] = []  # the lemma, its instance's switch (a pointer)
        self.place: dict[int, int] = {}  # of a switch, by its id
        self._known: dict[frozenset[str], list[Any]] = {}
        self._add(premises)
        context, solver = self.solver.ctx.ref(), self.solver.solver
        self.claims = guards.flags("claim", len(problem.claims))
        for flag, claimed in zip(self.claims, problem.claims, strict=True):
            z3.Z3_solver_assert(context, solver, lowlevel.implies(flag, claimed.negated).as_ast())
        self.events = guards.flags("event", len(problem.path.events))
        for flag, event in zip(self.events, problem.path.events, strict=True):
            if not isinstance(event.premise, Tree):
                asserted = lowlevel.implies(flag, event.premise.term)
                z3.Z3_solver_assert(context, solver, asserted.as_ast())

    def _add(self, premises: Iterable[tuple[str, Instance]]) -> None:
        """Assert premises, each behind its switch."""
        context, solver = self.solver.ctx.ref(), self.solver.solver
        for name, instance in premises:
            guard = self.guards.of(name, instance)
            # There are hundreds of thousands of them, and add() is slow.
            z3.Z3_solver_assert(context, solver, guard.guarded)
            self.place[guard.id] = len(self.premises)
            self.premises.append((name, instance))
            self.marks.append((name, guard.mark))
        self._known.clear()

    def _on(self, kept: Collection[str]) -> list[Any]:
        """The switches of what is assumed, as pointers; the guards keep the terms."""
        now = frozenset(kept)
        if now not in self._known:
            self._known[now] = [mark for name, mark in self.marks if not name or name in now]
        return self._known[now]

    def _check(self, kept: Collection[str], extra: Sequence[Any]) -> z3.CheckSatResult:
        """Can all that is assumed be true, and what else is?"""
        return lowlevel.check(self.solver, [*self._on(kept), *extra])

    def ask(self, kept: Collection[str], wanted: Sequence[int]) -> z3.CheckSatResult:
        """Is one of these claims false, if the kept lemmas held before?"""
        some = lowlevel.disjunction(*(self.claims[n] for n in wanted))
        return self._check(kept, [some.as_ast()])

    def false(self, wanted: Sequence[int]) -> list[int]:
        """The claims that are false in the model of the last answer."""
        model = self.solver.model()
        return [n for n in wanted if z3.is_true(model.eval(self.claims[n]))]

    def core(self) -> Premises:
        """The premises that the last proof has used, in their order."""
        ids = lowlevel.core_ids(self.solver)
        return [self.premises[n] for n in sorted(self.place[i] for i in ids if i in self.place)]

    def possible(self, kept: Collection[str], event: int | None = None) -> z3.CheckSatResult:
        """Can the path be taken (and an event's premise be true), as far as is known?"""
        return self._check(kept, [] if event is None else [self.events[event].as_ast()])

    def witnessed(
        self, kept: Collection[str], events: Collection[int]
    ) -> tuple[list[int], Premises]:
        """Of these events' claims those whose premise does not contradict what is known here.

        Quantifiers in a premise are not looked into: too much may count as possible, never
        too little.  Also the premises that contradict the others.
        """
        answer = self.possible(kept) if events else z3.unknown
        if answer != z3.sat:
            return (list(events), []) if answer == z3.unknown else ([], self.core())
        model = self.solver.model()
        out, used = [], []
        for n in events:
            premise = self.problem.path.events[n].premise
            if isinstance(premise, Tree) or z3.is_true(model.eval(premise.term, True)):
                out.append(n)
            elif self.possible(kept, n) != z3.unsat:
                out.append(n)
            else:
                used += self.core()
        return out, used


class Every(Asserted):
    """All premises of a problem, of which few are asserted: what others' models contradict.

    A model that contradicts no premise is one of all.  What follows from some follows from all.
    """

    def __init__(self, few: Asserted) -> None:
        # The same solver: what is added here is behind switches that the others do not turn.
        vars(self).update(vars(few))
        self.premises, self.marks = [*few.premises], [*few.marks]
        self.place, self._known = {**few.place}, {}
        self._groups = [_Together(name, made) for name, made in _grouped(self.problem.premises)]

    def _check(self, kept: Collection[str], extra: Sequence[Any]) -> z3.CheckSatResult:
        while True:
            answer = super()._check(kept, extra)
            new = self._contradicted(kept) if answer == z3.sat else []
            if not new:
                return answer
            self._add(new)

    def _contradicted(self, kept: Collection[str]) -> Premises:
        """The premises that the last model does not make true."""
        model = self.solver.model()
        context, out = self.solver.ctx.ref(), (z3.Ast * 1)()

        def true(formula: Any) -> bool:
            known = z3.Z3_model_eval(context, model.model, formula.as_ast(), True, out)
            return bool(known) and z3.Z3_get_bool_value(context, out[0]) == 1

        return [
            (group.name, made)
            for group in self._groups
            if (not group.name or group.name in kept) and not true(group.all)
            for made in group.instances
            if self.guards.of(group.name, made).id not in self.place and not true(made.formula)
        ]


class _Together:
    """Instances of a lemma, and all of them as one formula."""

    def __init__(self, name: str, instances: Sequence[Instance]) -> None:
        self.name = name
        self.instances = instances
        self.all = lowlevel.conjunction(*(made.formula for made in instances))


def _grouped(premises: Premises) -> Iterable[tuple[str, list[Instance]]]:
    """Premises of the same lemma, not too many at once."""
    by_name: dict[str, list[Instance]] = {}
    for name, made in premises:
        by_name.setdefault(name, []).append(made)
    for name, every in by_name.items():
        yield from ((name, every[n : n + TOGETHER]) for n in range(0, len(every), TOGETHER))
