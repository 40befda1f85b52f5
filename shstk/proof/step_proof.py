"""A step of a design: what its paths have shown already, or show now."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from model.kernel import Step
from shstk.cache import digest, found, keep, put_shared, shared_by
from shstk.footprint import Observed, footprint
from shstk.proof import lowlevel
from shstk.proof.asserted import Guards
from shstk.proof.batch import batch
from shstk.proof.forking import covered
from shstk.proof.instances import Only
from shstk.proof.path_solver import Found, PathSolver, lemmas
from shstk.proof.paths import Path, step_paths
from shstk.proof.problem import Problems
from shstk.proof.proved import Proved
from shstk.proof.records import Checked, Ended, PathRecord, Record, Witnessed

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """Under what records are kept for all designs: ``text`` is all that they depend on else."""

    text: str


class StepProof:
    """A step's paths, each with a record of what it has shown and, once needed, a solver.

    ``observed``: the design, which notes what the step's text asks of it; until now, what the
    claims ask of it, which are the same for all steps.
    """

    def __init__(
        self,
        observed: Observed,
        problems: Problems,
        step: Step,
        switched_off: frozenset[str],
        only: Only,
        guards: Guards,
        shared: Shared | None = None,
    ) -> None:
        self.name = step.name
        self._observed = observed
        self._of_claims = frozenset(observed.asked)
        self._asked = self._of_claims
        self._problems = problems
        self._step = step
        self._switched_off = switched_off
        self._only = only
        self._guards = guards
        self._shared = shared
        self._solvers: dict[str, PathSolver] = {}
        self._record: Record | None = None
        self._records: dict[str, PathRecord] = {}
        self._new = False
        self._changed: set[str] = set()
        self._beyond: set[str] = set()
        if shared is not None:
            known = shared_by(f"{shared.text} {self.name}", "step", observed.whole)
            if isinstance(known, tuple):
                names, self._record = known
                self._asked |= names

    # -- records -----------------------------------------------------------------------
    def keep(self) -> None:
        """Keep what is new for all designs that give the step, or a path, the same."""
        if self._shared is None:
            return
        if self._new:
            what, content = f"{self._shared.text} {self.name}", (self._asked, self.record)
            put_shared(what, "step", self._observed.whole, self._asked, content)
            self._new = False
        for path in () if self._beyond else self._changed:
            keep(self._key(path), "path", self._records[path])
        self._changed.clear()

    def known(self, path: str) -> PathRecord:
        """What is known of a path."""
        if path not in self._records:
            kept = found(self._key(path), "path") if self._shared is not None else None
            self._records[path] = kept if isinstance(kept, PathRecord) else PathRecord()
        return self._records[path]

    def _key(self, path: str) -> str:
        """Of all that a path's record depends on."""
        assert self._shared is not None
        what = f"{self._shared.text} {self._claims_ask} {self.record.prints[path]}"
        return digest(what, [], None)

    @cached_property
    def _claims_ask(self) -> str:
        return footprint(self._observed.whole, self._of_claims)

    @property
    def record(self) -> Record:
        """What is known of the step."""
        if self._record is None:
            done = [p for p in self._live.values() if p.status == "done"]
            conditions = [p.condition for p in self._live.values()]
            prints, asked = self._noting(lambda: [self._problems.fingerprint(p) for p in done])
            assert len(set(prints)) == len(done), "the same path twice"
            self._asked |= asked
            self._record = Record(
                tuple(p.name for p in done),
                batch(f"{self.name} paths", [], {"covered": covered(conditions)}),
                {p.name: tuple(e.name for e in p.events) for p in done},
                dict(zip((p.name for p in done), prints, strict=True)),
            )
            self._new = True
        return self._record

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the paths that end."""
        return self.record.paths

    # -- the text ----------------------------------------------------------------------
    @cached_property
    def _live(self) -> dict[str, Path]:
        universe, design = self._problems.universe, self._observed.design
        make = partial(step_paths, universe, design, self._step, self._switched_off)
        paths, asked = self._noting(make)
        self._asked |= asked
        return {p.name: p for p in paths}

    def solver(self, path: str) -> PathSolver:
        """The path itself, to be asked."""
        if path not in self._solvers:
            live = self._live[path]
            problem = self._asking(lambda: self._problems.problem(live))
            self._solvers[path] = PathSolver(problem, self._only, self._guards)
        return self._solvers[path]

    def _asking(self, make: Callable[[], T]) -> T:
        """Ask something of a path.  What has not been asked before is not in its fingerprint."""
        made, asked = self._noting(make)
        self._beyond |= asked - self._asked
        return made

    def _noting(self, make: Callable[[], T]) -> tuple[T, frozenset[str]]:
        """Make something of the design's text, and note what that asks of it."""
        before = set(self._observed.asked)
        self._observed.asked.clear()
        try:
            made = make()
            return made, frozenset(self._observed.asked)
        finally:
            self._observed.asked.update(before)

    # -- asking ------------------------------------------------------------------------
    def check(self, path: str, kept: frozenset[str]) -> Found:
        """Which of the claims that others may rest on fail on a path."""
        record = self.known(path)
        known = record.check(path, kept)
        if known is None:
            solver = self.solver(path)
            known = self._asking(lambda: solver.check(kept))
            record.checked.append(Checked(kept, solver.claims, known))
            self._changed.add(path)
        return known

    def end(self, path: str, kept: frozenset[str], failed: set[str], explain: bool) -> Proved:
        """A path's obligations; ``failed`` are the conjuncts about events that do so far."""
        record = self.known(path)
        known = None if explain else record.end(path, kept, failed)
        if known is not None:
            return known
        solver = self.solver(path)
        late = self._asking(lambda: solver.events(kept, failed))
        proved = _obligations(solver, kept, explain)
        proved.late = late
        open_ = {solver.problem.claims[n].name: why for n, why in solver.failing.items()}
        open_ = {goal: why for goal, why in open_.items() if goal in proved.failing}
        record.ended.append(Ended(kept, solver.claims, lemmas(solver.used), open_, proved))
        self._changed.add(path)
        return proved

    def witness(self, path: str, kept: frozenset[str], seen: Collection[str]) -> frozenset[str]:
        """Claims about events, but for those seen, whose premise may be true on a path."""
        events = frozenset(self.record.events[path]).difference(seen)
        if not events:
            return frozenset()
        record = self.known(path)
        known = record.witness(kept, events)
        if known is None:
            solver = self.solver(path)
            known, needed = self._asking(lambda: solver.witnessed(kept, events))
            said = {e: e in known for e in events}
            record.witnessed.append(Witnessed(kept, said, lemmas(needed)))
            self._changed.add(path)
        return known


def _obligations(s: PathSolver, kept: Collection[str], explain: bool) -> Proved:
    claims = s.problem.claims
    wanted = s.pending(kept)
    premises = [made.formula for _, made in s.used]
    goals = {claims[n].name: lowlevel.negation(claims[n].negated) for n in wanted}
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
