"""One worker of a proof: some of a design's steps, their paths, and a solver for each path.

Workers keep their solvers from round to round; what goes between them and the master is
plain data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3

from model.designs import Design
from model.kernel import Step
from shstk.proof import lowlevel
from shstk.proof.batch import Batch, batch
from shstk.proof.forking import covered
from shstk.proof.ground import Instance
from shstk.proof.invariants import Invariant
from shstk.proof.paths import Path, step_paths
from shstk.proof.problem import Problem, Problems
from shstk.proof.sorts import unbounded
from shstk.proof.terms import Tree

RLIMIT = 20_000_000  # z3 resource units for one question of the search for an invariant


@dataclass(frozen=True)
class Found:
    """What a path has shown: claims that fail on it, and the lemmas that the others need.

    ``unknown`` are those of the failing that the solver gave up on.
    """

    path: str
    failing: tuple[str, ...]
    unknown: tuple[str, ...]
    needed: frozenset[str]


@dataclass
class Proved:
    """The obligations of a path, after the last round, and the lemmas that each claim needs."""

    step: str
    path: str
    batch: Batch
    needed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failing: tuple[str, ...] = ()  # of the claims about events
    unsafe: bool = False  # something may be written through NULL
    unknown: tuple[str, ...] = ()  # of the failing, those that the solver gave up on
    witnessed: frozenset[str] = frozenset()  # conjuncts whose premise the path can make true


@dataclass(frozen=True)
class _Guard:
    """A premise behind a switch: the switch's id, and pointers to it and to what is asserted."""

    id: int
    mark: Any
    guarded: Any
    kept: tuple[Any, Any]


class _Guards:
    """Premises behind switches, made once for all the paths that share them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Guard] = {}

    def of(self, name: str, instance: Instance) -> _Guard:
        """A lemma's instance: its switch, and what is asserted."""
        key = (name, instance.id)
        known = self._known.get(key)
        if known is None:
            mark = z3.Bool(f"premise {len(self._known)}")
            # The formula is kept with it: its id must not be used again.
            guarded = lowlevel.implies(mark, instance.formula)
            known = _Guard(mark.get_id(), mark.as_ast(), guarded.as_ast(), (mark, guarded))
            self._known[key] = known
        return known


class _Solver:
    """A problem's premises and claims, asserted once, switched on by assumptions."""

    def __init__(self, problem: Problem, guards: _Guards) -> None:
        self.problem = problem
        self.guards = guards  # keeps what there are only pointers to
        self.solver = z3.SimpleSolver()
        self.solver.set("rlimit", RLIMIT)
        self.failing: dict[int, str] = {}
        self.marks: list[tuple[str, Any]] = []  # the lemma, its instance's switch (a pointer)
        self.place: dict[int, int] = {}  # of a switch, by its id
        context, solver = self.solver.ctx.ref(), self.solver.solver
        for n, (name, instance) in enumerate(problem.premises):
            guard = guards.of(name, instance)
            # There are hundreds of thousands of them, and add() is slow.
            z3.Z3_solver_assert(context, solver, guard.guarded)
            self.marks.append((name, guard.mark))
            self.place[guard.id] = n
        self.claims = [z3.Bool(f"claim {n}") for n in range(len(problem.claims))]
        for flag, claimed in zip(self.claims, problem.claims, strict=True):
            z3.Z3_solver_assert(context, solver, lowlevel.implies(flag, claimed.negated).as_ast())
        self._kept: tuple[frozenset[str] | None, list[Any]] = (None, [])
        self.used: list[int] = []  # the premises of the last proof of all claims

    def _on(self, kept: Collection[str]) -> list[Any]:
        """The switches of what is assumed, as pointers; the guards keep the terms."""
        now = frozenset(kept)
        if self._kept[0] != now:
            self._kept = now, [mark for name, mark in self.marks if not name or name in now]
        return self._kept[1]

    def pending(self, kept: Collection[str]) -> list[int]:
        """The claims that are still to be proved."""
        return [
            n
            for n, c in enumerate(self.problem.claims)
            if n not in self.failing and (c.kind != "invariant" or c.name in kept)
        ]

    def ask(self, kept: Collection[str], wanted: Sequence[int]) -> Any:
        """Is one of these claims false, if the kept lemmas held before?"""
        some = z3.Or(*(self.claims[n] for n in wanted))
        return lowlevel.check(self.solver, [*self._on(kept), some.as_ast()])

    def core(self) -> list[int]:
        """The premises that the last proof has used."""
        ids = lowlevel.core_ids(self.solver)
        return sorted(self.place[i] for i in ids if i in self.place)

    def lemmas(self, premises: Sequence[int]) -> frozenset[str]:
        """Of which lemmas these premises are instances."""
        return frozenset(self.problem.premises[n][0] for n in premises) - {""}

    def possible(self, kept: Collection[str]) -> Any:
        """Can the path be taken, as far as is known?"""
        return lowlevel.check(self.solver, self._on(kept))

    def witnessed(self, kept: Collection[str], known: Collection[str]) -> frozenset[str]:
        """The conjuncts about events whose premise does not contradict what is known here.

        Those that are ``known`` to have a witness elsewhere are not asked about.
        Quantifiers in a premise are not looked into: too much may count as possible, never
        too little.
        """
        events = [e for e in self.problem.path.events if e.name not in known]
        on = self._on(kept)
        possible = self.possible(kept) if events else z3.unsat
        if possible != z3.sat:
            return frozenset(e.name for e in events if possible == z3.unknown)
        model = self.solver.model()
        out = {e.name for e in events if isinstance(e.premise, Tree)}
        out |= {e.name for e in events if z3.is_true(model.eval(e.premise.term, True))}
        for event in events:
            if event.name not in out:
                self.solver.push()
                self.solver.add(event.premise.term)
                if lowlevel.check(self.solver, on) != z3.unsat:
                    out.add(event.name)
                self.solver.pop()
        return frozenset(out)

    def missing(self, kept: Collection[str], lemma: str) -> list[str]:
        """Claims of the path that do not follow without a lemma; there may be others."""
        rest = set(kept) - {lemma}
        wanted = [n for n in self.pending(kept) if self.problem.claims[n].name != lemma]
        if not wanted or self.ask(rest, wanted) != z3.sat:
            return []
        model = self.solver.model()
        bad = [n for n in wanted if z3.is_true(model.eval(self.claims[n]))]
        return [self.problem.claims[n].name for n in bad]

    def check(self, kept: Collection[str]) -> Found:
        """Every claim of the path; those that fail once are not asked again."""
        new: list[int] = []
        self.used = []
        while wanted := self.pending(kept):
            answer = self.ask(kept, wanted)
            if answer == z3.unsat:
                self.used = self.core()
                break
            if answer == z3.unknown:
                # One by one, so that only what is hard is given up.
                bad = [n for n in wanted if self.ask(kept, [n]) != z3.unsat] or wanted[:1]
            else:
                model = self.solver.model()
                bad = [n for n in wanted if z3.is_true(model.eval(self.claims[n]))]
            for n in bad:
                self.failing[n] = "sat" if answer == z3.sat else "unknown"
            new += bad
        names = [self.problem.claims[n].name for n in new]
        unknown = [self.problem.claims[n].name for n in new if self.failing[n] == "unknown"]
        needed = self.lemmas(self.used)
        return Found(self.problem.path.name, tuple(names), tuple(unknown), needed)


class Worker:
    """Paths and solvers of some steps of a design."""

    def __init__(
        self,
        design: Design,
        steps: Sequence[Step],
        switched_off: frozenset[str],
        pool: Sequence[Invariant],
    ) -> None:
        self.universe = unbounded()
        self.problems = Problems(self.universe, design, pool)
        self.paths: dict[str, list[Path]] = {
            s.name: step_paths(self.universe, design, s, switched_off) for s in steps
        }
        guards = _Guards()
        self.solvers = {
            p.name: _Solver(self.problems.problem(p), guards)
            for paths in self.paths.values()
            for p in paths
            if p.status == "done"
        }

    def check(self, kept: Collection[str], paths: Collection[str] | None) -> list[Found]:
        """Ask of every path, or of some, what fails if the kept lemmas held before.

        What fails on one path is not assumed, nor asked again, on the next.
        """
        now = frozenset(kept)
        out = []
        for name, solver in self.solvers.items():
            if paths is None or name in paths:
                found = solver.check(now)
                out.append(found)
                if not now.isdisjoint(found.failing):
                    now = now.difference(found.failing)
        return out

    def missing(self, kept: Collection[str], lemma: str) -> list[tuple[str, str]]:
        """What is not proved any more if a lemma is left out: claims, and on which paths."""
        out = []
        for name, s in self.solvers.items():
            if lemma in s.lemmas(s.used):
                out += [(claim, name) for claim in s.missing(kept, lemma)]
        return out

    def obligations(self, kept: Collection[str], explain: bool) -> list[Proved]:
        """The paths' obligations as text, each with no more premises than the proof has used."""
        seen: set[str] = set()
        return [self._obligation(s, kept, explain, seen) for s in self.solvers.values()]

    def _obligation(
        self, s: _Solver, kept: Collection[str], explain: bool, seen: set[str]
    ) -> Proved:
        problem = s.problem
        wanted = s.pending(kept)
        negated = {problem.claims[n].name: problem.claims[n].negated for n in wanted}
        premises = [problem.premises[n][1].formula for n in s.used]
        texts = batch(problem.path.name, premises, {n: z3.Not(f) for n, f in negated.items()})
        out = Proved(problem.path.step.name, problem.path.name, texts)
        failing = [problem.claims[n] for n in s.failing]
        out.failing = tuple(c.name for c in failing if c.kind == "event")
        out.unsafe = any(c.kind == "need" for c in failing)
        out.unknown = tuple(
            problem.claims[n].name for n, why in s.failing.items() if why == "unknown"
        )
        out.witnessed = s.witnessed(kept, seen)
        seen |= out.witnessed
        if explain:
            # Of properties, claim by claim; of lemmas, as the path's proof has it.
            for n in wanted:
                if problem.claims[n].kind == "invariant":
                    out.needed[problem.claims[n].name] = tuple(sorted(s.lemmas(s.used)))
                elif s.ask(kept, [n]) == z3.unsat:
                    out.needed[problem.claims[n].name] = tuple(sorted(s.lemmas(s.core())))
        return out

    def coverage(self) -> list[Batch]:
        """For each step, that its paths are all there are."""
        return [
            batch(f"{name} paths", [], {"covered": covered([p.condition for p in paths])})
            for name, paths in self.paths.items()
        ]
