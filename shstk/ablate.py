"""Every mutant of a design, checked: which properties catch it, and what survivors are.

A mutant is *caught* where a property is violated that the design does not violate there: by
a conjunct of its own, in a step of its own, or sooner; and the design, doing the same steps,
does not violate it.  It is also told from the design where the premise of a conjunct is
exercised no more.  What nothing catches at small bounds is compared with the design by proof;
only what is not equivalent goes on to larger bounds, endless runs, and attackers.  What then
is left may violate less than the design does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.designs import Design
from model.kernel import STEPS
from shstk import ablate_tasks as tasks
from shstk.ablate_finding import Finding, Status
from shstk.ablation import IDLE, Base, Catch, Seen, missing
from shstk.behaviour import Comparison as Lockstep
from shstk.lasso import liveness_verdicts
from shstk.mutants import Mutant, hooks_reaching, mutated
from shstk.plan import Question, families_in, in_environment
from shstk.pool import Meter, run
from shstk.proof.proofs import Interrupted, prove
from shstk.search import TextFailure
from shstk.space import Bound
from shstk.verdicts import PROVED, VIOLATED, Report

ORDINARY, HOSTILE = "ordinary", "ordinary+hostile"
SMALL = (Bound(2, 1, 1), Bound(2, 1, 2), Bound(2, 2, 1))  # threads need two stacks


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
            lambda: self.compare(self._small(ORDINARY)),
            self.prove,
            self.quiet,
            self.granted,
            lambda: self.explore(in_environment(self.design.name, ORDINARY, None)),
            self.endless,
            lambda: self.explore(self._small(HOSTILE)),
            lambda: self.compare(self._small(HOSTILE)),
            self.lockstep,
            self.less,
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

    def compare(self, asked: Sequence[Question]) -> None:
        """Mutants that do not show what the design does: a premise made true, a violation."""
        ordinary = asked[0].environment == ORDINARY
        questions = [q for q in asked if q in self.bases]
        for f in self.findings.values():
            answers = [
                (self.bases[q], self._seen[f.mutant.number, q])
                for q in questions
                if (f.mutant.number, q) in self._seen
            ]
            if f.catches or f.hostile or not answers or len(answers) < len(questions):
                continue
            found = missing(answers, asked[0].without)
            idle = [c for c in found if c.how == IDLE]
            if ordinary:
                f.catches += idle
                f.cured += [c for c in found if c.how != IDLE]
            else:
                f.hostile += idle
            if idle and not f.explained:
                f.status = Status.CAUGHT

    def granted(self) -> None:
        """The small questions without what only the text asks for, such as the 32-bit entry.

        A mutant that takes the one for the other does, all in all, what the design does.
        """
        for family in sorted(families_in(ORDINARY) - {s.family for s in STEPS}):
            questions = [replace(q, without=frozenset({family})) for q in self._small(ORDINARY)]
            if self.open() and not self.interrupted:
                self.explore(questions)
                self.compare(questions)

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
            finding.note, finding.unread = comparison.differs, comparison.unread
            if comparison:
                finding.status = Status.BLIND if comparison.blind else Status.EQUIVALENT

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

    def less(self) -> None:
        """What the design violates, and what is left does not, where it keeps the claim at all."""
        left = [f for f in self.open() if f.status is not Status.UNKNOWN]
        jobs = [(q, f.design) for f in left for q in self._small(ORDINARY)[1:]]
        found = [
            replace(q, design=self.design.name)
            for each in self._run(tasks.quiet, jobs)
            for q in each
        ]
        for question in dict.fromkeys(found):
            if not self.interrupted:
                self.explore([question])
                self.compare([question])
        for f in left:
            if f.cured and not f.explained:
                f.status = Status.LESS

    def _pair(self, finding: Finding, bound: Bound) -> Lockstep:
        return Lockstep((self.design, finding.design), ORDINARY, bound, memory=self.memory)
