"""One worker of a proof: some of a design's steps.

Workers keep their solvers from round to round; what goes between them and the master is
plain data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from model.designs import Design
from model.kernel import Step
from shstk.footprint import Observed
from shstk.proof.asserted import Guards
from shstk.proof.batch import Batch
from shstk.proof.hints import Hint, Hints
from shstk.proof.instances import plain
from shstk.proof.invariants import Invariant
from shstk.proof.path_solver import Found, PathSolver, lemmas
from shstk.proof.problem import Problems
from shstk.proof.proved import Proved
from shstk.proof.sorts import unbounded
from shstk.proof.step_proof import Shared, StepProof


class Worker:
    """Some steps of a design.

    ``shared``: what is known of steps already, from this design or others; None: nothing, and
    nothing is kept.
    """

    def __init__(
        self,
        design: Design,
        steps: Sequence[Step],
        switched_off: frozenset[str],
        pool: Sequence[Invariant],
        hints: Hints,
        shared: Shared | None = None,
    ) -> None:
        observed = Observed(design)
        problems = Problems(unbounded(), observed.design, pool)
        _ask_everything(problems)
        self.text = problems.grounder.text
        shared, guards = shared and shared.of(problems), Guards()
        self.steps = [
            StepProof(observed, problems, s, switched_off, hints.get(s.name, {}), guards, shared)
            for s in steps
        ]

    @property
    def solvers(self) -> dict[str, PathSolver]:
        """Of every path, by name."""
        return {name: s.solver(name) for s in self.steps for name in s.paths}

    def check(self, kept: Collection[str], paths: Collection[str] | None) -> list[Found]:
        """Ask of every path, or of some, what fails if the kept lemmas held before.

        What fails on one path is not assumed, nor asked again, on the next.
        """
        now = frozenset(kept)
        out = []
        for step in self.steps:
            for name in step.paths:
                if paths is None or name in paths:
                    out.append(step.check(name, now))
                    now = now.difference(out[-1].failing)
        return out

    def missing(self, kept: Collection[str], lemma: str) -> list[tuple[str, str]]:
        """What is not proved any more if a lemma is left out: claims, and on which paths."""
        out = []
        for name, s in self.solvers.items():
            if lemma in lemmas(s.used):
                out += [(claim, name) for claim in s.missing(kept, lemma)]
        return out

    def obligations(self, kept: Collection[str], explain: bool) -> list[Proved]:
        """The paths' obligations as text, each with no more premises than the proof has used."""
        now, failed = frozenset(kept), set[str]()
        out = [step.end(name, now, failed, explain) for step in self.steps for name in step.paths]
        seen = set(failed)  # of what is not proved nobody asks
        for step in self.steps:
            for proved in (p for p in out if p.step == step.name):
                # Each where that is found first.
                proved.witnessed = step.witness(proved.path, now, seen)
                seen |= proved.witnessed
            step.keep()
        return out

    def used(self) -> list[tuple[str, Hint]]:
        """The instances of lemmas that the proofs have used until now, by the step."""
        out = set[tuple[str, Hint]]()
        for s in self.solvers.values():
            for name, made in s.ever.values():
                if name and made.objects is not None:
                    terms = tuple(plain(self.text(t), s.problem.tag) for t in made.objects)
                    out.add((s.problem.path.step.name, (name, terms)))
        return sorted(out)

    def coverage(self) -> list[Batch]:
        """For each step, that its paths are all there are."""
        return [step.record.coverage for step in self.steps]


def _ask_everything(problems: Problems) -> None:
    """Have all that the pool's claims ask of the design asked before any step is looked at.

    Instances are made once for all steps, and it must not be the first step alone that has asked.
    """
    grounder = problems.grounder
    todo = [u for u in problems.universals if u.schema is None]
    while todo:
        universal = todo.pop()
        objects = [grounder.skolem(sort, n) for n, sort in enumerate(universal.sorts)]
        todo += grounder.assumed(
            universal.name, universal.body(*objects), universal.positive
        ).universals
