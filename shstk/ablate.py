"""Every mutant of a design, checked: which properties catch it, and what survivors are.

A mutant is *caught* where a property is violated that the design does not violate there: by
a conjunct of its own, in a step of its own, or sooner; and the design, doing the same steps,
does not violate it.  It is also told from the design where the premise of a conjunct is
exercised no more.  What nothing catches at small bounds is compared with the design by proof;
only what is not equivalent goes on to larger bounds, endless runs, and attackers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from model.designs import Design
from shstk import ablate_tasks as tasks
from shstk.ablation import IDLE, Base, Catch, Seen, missing
from shstk.behaviour import Comparison as Lockstep
from shstk.lasso import liveness_verdicts
from shstk.mutants import Mutant, hooks_reaching, mutated
from shstk.parting import Parting
from shstk.plan import Question, in_environment
from shstk.pool import Meter, run
from shstk.proof.proofs import Interrupted, prove
from shstk.search import TextFailure
from shstk.space import Bound
from shstk.verdicts import PROVED, VIOLATED, Report

ORDINARY, HOSTILE = "ordinary", "ordinary+hostile"
SMALL = (Bound(2, 1, 1), Bound(2, 1, 2), Bound(2, 2, 1))  # threads need two stacks


class Status(Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    EQUIVALENT = "equivalent"
    BOUNDED = "equivalent up to a bound"
    SURVIVES = "survives"
    UNKNOWN = "not checked to the end"


@dataclass
class Finding:
    """All that is known of a mutant.

    ``catches`` are the shortest first; ``hostile`` those beside the ordinary environment,
    ``cured`` what the design violates and the mutant does not.
    ``note`` says why it is not proved to be equivalent.  ``lockstep``: the bounds up to
    which it was compared step by step; ``parting``: the shortest run after which it differs.
    """

    mutant: Mutant
    design: Design
    status: Status = Status.UNKNOWN
    catches: list[Catch] = field(default_factory=list)
    hostile: list[Catch] = field(default_factory=list)
    cured: list[Catch] = field(default_factory=list)
    note: str = ""
    bounds: list[Bound] = field(default_factory=list)
    lockstep: list[Bound] = field(default_factory=list)
    parting: Parting | None = None

    @property
    def explained(self) -> bool:
        """Caught, or proved to be equivalent."""
        return self.status in (Status.CAUGHT, Status.EQUIVALENT)


# -- all of it -------------------------------------------------------------------------------
class Ablation:
    """The mutants of a design and what is found out about them, stage by stage."""

    def __init__(
        self,
        design: Design,
        chosen: Sequence[Mutant],
        folder: Path,
        meter: Meter,
        memory: int | None = None,
    ) -> None:
        self.design = design
        self.meter = meter
        self.memory = memory
        self.interrupted = False
        self.bases: dict[Question, Base] = {}
        self._seen: dict[tuple[int, Question], Seen] = {}
        self.findings = {m.number: Finding(m, mutated(design, m, folder)) for m in chosen}

    def run(self) -> bool:
        """Every stage; whether Ctrl-C cut it short."""
        stages: tuple[Callable[[], None], ...] = (
            lambda: self.explore(self._small(ORDINARY)),
            lambda: self.compare(ORDINARY),
            self.prove,
            self.quiet,
            lambda: self.explore(in_environment(self.design.name, ORDINARY, None)),
            self.endless,
            lambda: self.explore(self._small(HOSTILE)),
            lambda: self.compare(HOSTILE),
            self.lockstep,
        )
        for stage in stages:
            if not self.interrupted:
                stage()
        return self.interrupted

    def open(self) -> list[Finding]:
        """Those that are not explained yet."""
        return [f for f in self.findings.values() if not f.explained]

    def _small(self, environment: str) -> list[Question]:
        return [Question(self.design.name, environment, b, memory=self.memory) for b in SMALL]

    def _run(self, task: Any, jobs: Sequence[Any]) -> list[Any]:
        done, interrupted = run(task, jobs, self.meter)
        self.interrupted = self.interrupted or interrupted
        return done

    # -- exploring -----------------------------------------------------------------------
    def explore(self, questions: Sequence[Question]) -> None:
        """Put these questions to every mutant that is open, in this order."""
        ordinary = questions[0].environment == ORDINARY
        # What is equivalent in the ordinary environment may not be so beside it.
        found = self.open() if ordinary else [f for f in self.findings.values() if not f.catches]
        new = [q for q in questions if q not in self.bases]
        if not found:
            return
        bases = self._run(tasks.base, [(q, self.design) for q in new])
        self.bases.update({q: b for q, b in bases if b.complete})
        if self.interrupted:
            return
        asked = [q for q in questions if q in self.bases]
        known = tuple(self.bases[q] for q in asked)
        jobs = [
            tasks.Job(f.mutant.number, self.design, f.design, tuple(asked), known) for f in found
        ]
        for number, results in self._run(tasks.check, jobs):
            finding = self.findings[number]
            for question, result in zip(asked, results, strict=False):
                self.note(finding, question, result)

    def note(self, finding: Finding, question: Question, result: Seen) -> None:
        """Add what a question has shown to what is known of a mutant."""
        ordinary = question.environment == ORDINARY
        (finding.catches if ordinary else finding.hostile).extend(result.catches)
        finding.note = result.failure or finding.note
        if result.complete:
            self._seen[finding.mutant.number, question] = result
            if ordinary and question.bound not in finding.bounds:
                finding.bounds.append(question.bound)
        if not finding.explained and (result.catches or result.failure):
            finding.status = Status.CAUGHT

    def compare(self, environment: str) -> None:
        """Mutants that do not show what the design does: a premise made true, a violation."""
        questions = [q for q in self._small(environment) if q in self.bases]
        for f in self.findings.values():
            asked = [
                (self.bases[q], self._seen[f.mutant.number, q])
                for q in questions
                if (f.mutant.number, q) in self._seen
            ]
            if f.catches or f.hostile or len(asked) < len(questions):
                continue
            found = missing(asked)
            idle = [c for c in found if c.how == IDLE]
            if environment == ORDINARY:
                f.catches += idle
                # That less is violated does not say what the text is good for.
                f.cured = [c for c in found if c.how != IDLE]
            else:
                f.hostile += idle
            if idle and not f.explained:
                f.status = Status.CAUGHT

    def quiet(self) -> None:
        """Claims about states that the design violates, where it does not."""
        jobs = [(q, self.design) for q in self._small(ORDINARY)[1:]]
        found = self._run(tasks.quiet, jobs if self.open() else [])
        questions = [q for each in found for q in each]
        if questions and not self.interrupted:
            self.explore(questions)

    def endless(self) -> None:
        """Claims about endless runs."""
        found = self.open()
        if not found:
            return
        designs = [self.design, *(f.design for f in found)]
        reports = [Report(d.name, ORDINARY, [], [], []) for d in designs]
        try:
            self.interrupted |= liveness_verdicts(
                reports, designs, frozenset(), frozenset(), self.meter
            )
        except TextFailure as failure:
            self.meter.clear()
            for f in found:
                f.note = f.note or str(failure)
            return
        if self.interrupted:
            return
        known = {v.property.id for v in reports[0].violated}
        for f, report in zip(found, reports[1:], strict=True):
            for v in report.verdicts:
                if v.status == VIOLATED and v.property.id not in known and v.trace is not None:
                    f.catches.append(Catch(v.trace.claim, "", "violated", v.trace))
                    f.status = Status.CAUGHT

    # -- comparing ---------------------------------------------------------------------------
    def prove(self) -> None:
        """Which of the mutants that are open do the same, for any number of tasks."""
        found = self.open()
        if not found:
            return
        try:
            proof = prove(self.design, meter=self.meter)
        except Interrupted:
            self.interrupted = True
            return
        # Where the invariant itself is in doubt, no claim of the proof is PROVED.
        sound = any(c.status == PROVED for p in proof.properties for c in p.claims)
        if not sound:
            return
        jobs = [
            tasks.Pair(
                f.mutant.number,
                self.design,
                f.design,
                hooks_reaching(self.design, f.mutant.owner, f.mutant.method),
                proof.kept,
            )
            for f in found
        ]
        for number, comparison in self._run(tasks.compare, jobs):
            finding = self.findings[number]
            finding.note = comparison.differs
            if comparison:
                finding.status = Status.EQUIVALENT

    def lockstep(self) -> None:
        """Of what survives, the shortest run that tells it from the design, if there is one."""
        for bound in SMALL:
            found = [f for f in self.open() if f.parting is None and not self.interrupted]
            jobs = [
                (
                    f.mutant.number,
                    self._pair(f, bound),
                )
                for f in found
            ]
            for number, parting, complete in self._run(tasks.step_by_step, jobs):
                finding = self.findings[number]
                finding.parting = parting
                if complete:
                    finding.lockstep.append(bound)
        for f in self.open():
            if f.parting is not None:
                f.status = Status.SURVIVES
            elif len(f.lockstep) == len(SMALL):
                f.status = Status.BOUNDED

    def _pair(self, finding: Finding, bound: Bound) -> Lockstep:
        return Lockstep((self.design, finding.design), ORDINARY, bound, memory=self.memory)
