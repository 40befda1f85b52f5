"""A step of a design: what its paths have shown already, or show now."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import z3

from model.kernel import Step
from shstk.cache import put_shared, shared_by
from shstk.footprint import Observed
from shstk.proof.asserted import Guards
from shstk.proof.batch import batch
from shstk.proof.forking import covered
from shstk.proof.instances import Only
from shstk.proof.path_solver import Found, PathSolver, lemmas
from shstk.proof.paths import Path, step_paths
from shstk.proof.problem import Problems
from shstk.proof.proved import Proved
from shstk.proof.records import Checked, Ended, Record, Witnessed

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """Under what records are kept for all designs: ``text`` is all that they depend on else."""

    text: str


class StepProof:
    """A step's paths, each with a record of what it has shown and, once needed, a solver.

    ``observed``: the design, which notes what the step's text asks of it.
    """

    def __init__(
        self,
        observed: Observed,
        problems: Problems,
        step: Step,
        switched_off: frozenset[str],
        only: Only,
        guards: Guards,
    ) -> None:
        self.name = step.name
        self._observed = observed
        # Of the pool's claims, which are the same for all steps.
        self._asked = frozenset(observed.asked)
        self._problems = problems
        self._step = step
        self._switched_off = switched_off
        self._only = only
        self._guards = guards
        self._solvers: dict[str, PathSolver] = {}
        self._record: Record | None = None
        self._changed = False

    # -- records -----------------------------------------------------------------------
    def look_up(self, shared: Shared | None) -> None:
        """Go on with what is known of the step."""
        if shared is not None:
            known = shared_by(f"{shared.text} {self.name}", "step", self._observed.whole)
            if isinstance(known, tuple):
                names, self._record = known
                self._asked |= names

    def keep(self, shared: Shared | None) -> None:
        """Keep what is new for all designs that give the step the same."""
        if shared is not None and self._changed:
            what = f"{shared.text} {self.name}"
            put_shared(what, "step", self._observed.whole, self._asked, (self._asked, self.record))
            self._changed = False

    @property
    def record(self) -> Record:
        """What is known of the step."""
        if self._record is None:
            done = [p for p in self._live.values() if p.status == "done"]
            conditions = [p.condition for p in self._live.values()]
            self._record = Record(
                tuple(p.name for p in done),
                batch(f"{self.name} paths", [], {"covered": covered(conditions)}),
                {p.name: tuple(e.name for e in p.events) for p in done},
            )
            self._changed = True
        return self._record

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the paths that end."""
        return self.record.paths

    # -- the text ----------------------------------------------------------------------
    @cached_property
    def _live(self) -> dict[str, Path]:
        universe, design = self._problems.universe, self._observed.design
        found = self._noting(lambda: step_paths(universe, design, self._step, self._switched_off))
        return {p.name: p for p in found}

    def solver(self, path: str) -> PathSolver:
        """The path itself, to be asked."""
        if path not in self._solvers:
            problem = self._noting(lambda: self._problems.problem(self._live[path]))
            self._solvers[path] = PathSolver(problem, self._only, self._guards)
        return self._solvers[path]

    def _noting(self, make: Callable[[], T]) -> T:
        """Make something of the design's text, and note what that asks of it."""
        before = set(self._observed.asked)
        self._observed.asked.clear()
        try:
            return make()
        finally:
            self._asked |= self._observed.asked
            self._observed.asked.update(before)

    # -- asking ------------------------------------------------------------------------
    def check(self, path: str, kept: frozenset[str]) -> Found:
        """Which of the claims that others may rest on fail on a path."""
        known = self.record.check(path, kept)
        if known is None:
            solver = self.solver(path)
            known = self._noting(lambda: solver.check(kept))
            new = Checked(kept, solver.claims, known)
            self.record.checked.setdefault(path, []).append(new)
            self._changed = True
        return known

    def end(self, path: str, kept: frozenset[str], failed: set[str], explain: bool) -> Proved:
        """A path's obligations; ``failed`` are the conjuncts about events that do so far."""
        known = None if explain else self.record.end(path, kept, failed)
        if known is not None:
            return known
        solver = self.solver(path)
        late = self._noting(lambda: solver.events(kept, failed))
        proved = _obligations(solver, kept, explain)
        proved.late = late
        open_ = {solver.problem.claims[n].name: why for n, why in solver.failing.items()}
        open_ = {goal: why for goal, why in open_.items() if goal in proved.failing}
        new = Ended(kept, solver.claims, lemmas(solver.used), open_, proved)
        self.record.ended.setdefault(path, []).append(new)
        self._changed = True
        return proved

    def witness(self, path: str, kept: frozenset[str], seen: Collection[str]) -> frozenset[str]:
        """Claims about events, but for those seen, whose premise may be true on a path."""
        events = frozenset(self.record.events[path]).difference(seen)
        if not events:
            return frozenset()
        known = self.record.witness(path, kept, events)
        if known is None:
            solver = self.solver(path)
            known, needed = self._noting(lambda: solver.witnessed(kept, events))
            new = Witnessed(kept, {e: e in known for e in events}, lemmas(needed))
            self.record.witnessed.setdefault(path, []).append(new)
            self._changed = True
        return known


def _obligations(s: PathSolver, kept: Collection[str], explain: bool) -> Proved:
    claims = s.problem.claims
    wanted = s.pending(kept)
    premises = [made.formula for _, made in s.used]
    goals = {claims[n].name: z3.Not(claims[n].negated) for n in wanted}
    path = s.problem.path
    out = Proved(path.step.name, path.name, batch(path.name, premises, goals))
    failing = [claims[n] for n in s.failing]
    out.failing = tuple(c.name for c in failing if c.kind == "event")
    out.unsafe = any(c.kind == "need" for c in failing)
    out.unknown = tuple(claims[n].name for n, why in s.failing.items() if why == "unknown")
    if explain:
        # Of properties, claim by claim; of lemmas, as the path's proof has it.
        for n in wanted:
            if claims[n].kind == "invariant":
                out.needed[claims[n].name] = tuple(sorted(lemmas(s.used)))
            elif (proof := s.proof(kept, [n])) is not None:
                out.needed[claims[n].name] = tuple(sorted(lemmas(proof)))
    return out
