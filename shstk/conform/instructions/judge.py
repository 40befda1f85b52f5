"""Holding what was seen of a case against the text, and against Bochs where the text is not met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.cpu.world import Vector
from model.reference.vma import SZ_4G
from shstk.conform.instructions import bochs
from shstk.conform.instructions.cases import Case
from shstk.conform.instructions.outcomes import Outcome, Report, differences, same
from shstk.conform.instructions.predict import Run, Texts
from shstk.conform.instructions.table import INSTRUCTIONS

STUCK = "stuck"  # the guest's word for a task that never stops


@dataclass(frozen=True)
class Verdict:
    """A case judged: outcomes that agree; then, if not all do, the first that does not.

    ``explained``: what Bochs does otherwise, if that predicts all that was seen; empty: the
    divergence is not explained.
    """

    case: Case
    outcomes: tuple[Outcome, ...]
    predicted: Outcome | None = None
    seen: Report | None = None
    explained: tuple[str, ...] = ()

    @property
    def agreed(self) -> int:
        """How many steps agree."""
        return len(self.outcomes)

    @property
    def diverged(self) -> bool:
        """Some step is not as the text says."""
        return self.predicted is not None

    @property
    def unexplained(self) -> bool:
        """It is, and not as Bochs does it either."""
        return self.diverged and not self.explained

    def rows(self) -> list[tuple[str, str, str]]:
        """What is not the same: its name, as predicted, as seen."""
        assert self.predicted is not None
        if self.seen is None:
            return [("report", "one", "none: the guest did not get here")]
        if self.seen.outcome is None:
            return [("task", "stops after the instruction", self.seen.lost)]
        return differences(self.predicted, self.seen.outcome)


def judge(
    case: Case,
    predicted: Sequence[Outcome],
    seen: Mapping[int, Report],
    texts: Texts = INSTRUCTIONS,
    emulated: bool = True,
) -> Verdict:
    """``predicted`` by ``texts``; what was ``seen``, by number of step.

    ``emulated``: on Bochs, so that what it does otherwise is no surprise.
    """
    for number, outcome in enumerate(predicted):
        report = seen.get(number)
        if report is None or report.outcome is None or not same(outcome, report.outcome):
            explained = explain(case, number, report, texts) if report and emulated else ()
            return Verdict(case, tuple(predicted[:number]), outcome, report, explained)
    return Verdict(case, tuple(predicted))


def explain(case: Case, number: int, seen: Report, texts: Texts = INSTRUCTIONS) -> tuple[str, ...]:
    """What Bochs does otherwise in a step, if that is all there is to it."""
    run = Run(case.mode, texts)
    for step in case.steps[:number]:
        run.step(step)
    notes: dict[str, None] = {}
    run.texts = bochs.texts(lambda note: notes.update({note: None}))
    outcome = run.step(case.steps[number])
    if seen.outcome is None:
        return tuple(notes) if seen.lost == STUCK and repeats(outcome) else ()
    return tuple(notes) if same(outcome, seen.outcome) else ()


def repeats(outcome: Outcome) -> bool:
    """The kernel returns to a page fault of 32-bit code above 4 GiB, and it is raised again.

    is_errata100() (arch/x86/mm/fault.c, 6.12): no CPU but an old one should raise it.
    """
    fault = outcome.fault
    if fault is None or fault.vector != Vector.PF or fault.address is None:
        return False
    return outcome.cs == 0x23 and fault.address >= SZ_4G
