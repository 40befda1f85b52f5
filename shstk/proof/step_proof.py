"""A step of a design: what its paths have shown already, or show now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from model.kernel import Step
from shstk.cache import digest, found, keep, put_shared, shared_by
from shstk.footprint import Observed
from shstk.proof import lowlevel
from shstk.proof.asserted import Guards
from shstk.proof.batch import batch
from shstk.proof.forking import covered
from shstk.proof.instances import Only
from shstk.proof.path_solver import Answer, Found, PathSolver, distinct, lemmas
from shstk.proof.paths import Path, step_paths
from shstk.proof.problem import Premises, Problems
from shstk.proof.proved import Proved
from shstk.proof.records import Open, PathRecord, Proven, Record, Witnessed, settled, written

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """Under what records are kept for all designs: ``text`` is all that they depend on else.

    ``claims``: a path's record also depends on what the pool's claims say, in the design.
    """

    text: str
    claims: str = ""

    def of(self, problems: Problems) -> Shared:
        """The same, with the claims of a design."""
        digests = problems.fingerprints
        said = []
        for invariant in problems.pool:
            at = [problems.grounder.skolem(s, n) for n, s in enumerate(invariant.sorts)]
            claim = invariant.at(problems.universe, problems.design, problems.old, at)
            said.append(f"{invariant.name} {digests.condition(claim)}")
        return Shared(self.text, digest("\n".join(said), [], None))


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
        self._asked = frozenset(observed.asked)
        self._problems = problems
        self._step = step
        self._switched_off = switched_off
        self._only = only
        self._guards = guards
        self._shared = shared
        self._premises: dict[int, Premises] = {}  # by the id of what was proved here
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
        shared = self._shared
        return digest(f"{shared.text} {shared.claims} {self.record.prints[path]}", [], None)

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
            goals = self._goals(path, kept, events=False)
            proved = record.proved(goals, kept)
            self._ask(path, kept, self._left(path, kept, goals, proved, ()), ())
            known = record.check(path, kept)
            assert known is not None, path
        return known

    def end(self, path: str, kept: frozenset[str], failed: set[str], explain: bool) -> Proved:
        """A path's obligations; ``failed`` are the conjuncts about events that do so far."""
        record = self.known(path)
        known = record.end(self.name, path, kept, failed)
        if known is None:
            goals = self._goals(path, kept, events=True)
            proved = record.proved(goals, kept, self._can_write)
            self._ask(path, kept, self._left(path, kept, goals, proved, failed), failed)
            self._write(path, kept, goals)
            known = record.end(self.name, path, kept, failed)
            assert known is not None, path
        if explain:
            known.needed = self._needed(path, kept, known)
        return known

    def witness(self, path: str, kept: frozenset[str], seen: Collection[str]) -> frozenset[str]:
        """Claims about events, but for those seen, whose premise may be true on a path."""
        events = frozenset(self.record.events[path]).difference(seen)
        record = self.known(path)
        said = record.witness(kept, events)
        if left := events.difference(said):
            solver = self.solver(path)
            possible, used = self._asking(lambda: solver.witnessed(kept, left))
            new = Witnessed(kept, possible, left - possible, lemmas(used))
            record.witnessed.append(new)
            self._changed.add(path)
            said |= dict.fromkeys(possible, True)
        return frozenset(event for event in events if said.get(event))

    def _goals(self, path: str, kept: frozenset[str], events: bool) -> list[str]:
        """What is to be proved of a path: without what is claimed of events, or all."""
        record = self.known(path)
        if record.claims is None:
            claims = self.solver(path).problem.claims
            record.claims = {c.name: c.kind for c in claims}
            assert len(record.claims) == len(claims), "a name for each claim"
        return record.wanted(kept, events)

    def _left(
        self,
        path: str,
        kept: frozenset[str],
        goals: Sequence[str],
        proved: Sequence[tuple[Proven, Sequence[str]]],
        failed: Collection[str],
    ) -> list[str]:
        """Goals that are to be asked: neither proved, nor known to fail."""
        record = self.known(path)
        known = {goal for _, those in proved for goal in those}
        known |= settled(record.claims or {}, record.failing(goals, kept), failed).keys()
        return [goal for goal in goals if goal not in known]

    def _ask(
        self, path: str, kept: frozenset[str], goals: Sequence[str], failed: Collection[str]
    ) -> None:
        """Ask a path about goals, and note what it says."""
        solver, record = self.solver(path), self.known(path)
        kinds = record.claims or {}
        wanted = [n for n, name in enumerate(solver.names) if name in set(goals)]
        events = [n for n in wanted if kinds[solver.names[n]] == "event"]
        others = [n for n in wanted if kinds[solver.names[n]] != "event"]
        checked: Answer = ([], {})
        ended: Answer = ([], {})
        if others:
            checked = self._asking(lambda: solver.check(kept, others))
        if events:
            ended = self._asking(lambda: solver.events(kept, events, set(failed)))
        for proof in (*checked[0], *ended[0]):
            names = tuple(solver.names[n] for n in proof.claims)
            late = kept if proof.late else None
            self._add(path, Proven(names, lemmas(proof.premises), late), proof.premises)
        why = {solver.names[n]: why for n, why in (checked[1] | ended[1]).items()}
        if why:
            record.open.append(Open(kept, why))
        self._changed.add(path)

    def _add(self, path: str, proof: Proven, premises: Premises) -> None:
        """Note a proof."""
        self.known(path).proofs.append(proof)
        self._premises[id(proof)] = premises  # the record keeps the proof, and so its id

    # -- texts -------------------------------------------------------------------------
    def _can_write(self, proof: Proven) -> bool:
        """The text of a proof is there, or can be made."""
        return written(proof) or id(proof) in self._premises

    def _write(self, path: str, kept: frozenset[str], goals: Sequence[str]) -> None:
        """Make the texts of what is proved; what only all instances prove has its own."""
        record = self.known(path)
        done = {g for _, those in record.proved(goals, kept, written) for g in those}
        left = [goal for goal in goals if goal not in done]
        groups: dict[bool, list[Proven]] = {}
        for proof, _ in record.proved(left, kept, self._can_write):
            groups.setdefault(proof.late is not None, []).append(proof)
        for proofs in groups.values():
            premises = distinct([p for proof in proofs for p in self._premises[id(proof)]])
            claimed = {goal for proof in proofs for goal in proof.goals}
            claims = [c for c in self.solver(path).problem.claims if c.name in claimed]
            text = batch(
                path,
                [made.formula for _, made in premises],
                {c.name: lowlevel.negation(c.negated) for c in claims},
            )
            names = tuple(c.name for c in claims)
            self._add(path, Proven(names, lemmas(premises), proofs[0].late, text), premises)
        self._changed.add(path)

    def _needed(
        self, path: str, kept: frozenset[str], proved: Proved
    ) -> dict[str, tuple[str, ...]]:
        """The lemmas that the proof of each goal uses."""
        solver, record = self.solver(path), self.known(path)
        goals = [goal.name for part in proved.batches for goal in part.goals]
        proofs = record.proved(goals, kept, written)
        solver.used = distinct([p for proof, _ in proofs for p in self._premises[id(proof)]])
        out = {}
        # Of properties, claim by claim; of lemmas, as the path's proof has it.
        for n in (n for n, name in enumerate(solver.names) if name in set(goals)):
            if solver.problem.claims[n].kind == "invariant":
                out[solver.names[n]] = tuple(sorted(lemmas(solver.used)))
            elif (premises := solver.proof(kept, [n])) is not None:
                out[solver.names[n]] = tuple(sorted(lemmas(premises)))
        return out
