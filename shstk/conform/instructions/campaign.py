"""A campaign: cases on a guest in one boot, judged as their lines come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shstk.conform.instructions import layout
from shstk.conform.instructions.cases import Case
from shstk.conform.instructions.judge import Verdict, judge
from shstk.conform.instructions.outcomes import Report, read_report
from shstk.conform.instructions.predict import Texts, predict
from shstk.conform.instructions.table import INSTRUCTIONS
from shstk.errors import UserError

#: Runs a file of cases on a guest; the lines that the guest writes.
Boot = Callable[[bytes], Iterator[str]]
DONE = '{"campaign":"done"}'


class Strayed(UserError):
    """Some case has changed pages that it is not about; which case is not known."""


@dataclass
class Tally:
    """What a campaign has come to."""

    cases: int = 0
    steps: int = 0  # that are as the text says
    explained: Counter[str] = field(default_factory=Counter)  # cases, by deviation
    explained_cases: int = 0
    unexplained: list[Verdict] = field(default_factory=list)
    strayed: str = ""  # why not all of what cases did has been compared
    #: Steps that agree, by instruction and what becomes of it.
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count a case."""
        self.cases += 1
        self.steps += verdict.agreed
        for step, outcome in zip(verdict.case.steps, verdict.outcomes, strict=False):
            self.outcomes[step.name, outcome.kind] += 1
        if verdict.unexplained:
            self.unexplained.append(verdict)
        elif verdict.diverged:
            self.explained_cases += 1
            self.explained.update(verdict.explained)


def file_of(cases: Iterable[Case]) -> bytes:
    """What the guest reads."""
    return (layout.header() + "".join(case.text() for case in cases)).encode()


def run(
    cases: Sequence[Case], boot: Boot, texts: Texts = INSTRUCTIONS, emulated: bool = True
) -> Iterator[Verdict]:
    """The verdicts in order, as they come.  UserError if the guest cannot be understood.

    ``emulated``: the guest's CPU is Bochs.  A guest that stops early leaves verdicts without a
    report.  Strayed at the end if a page has changed that nobody looked at.
    """
    expected = iter(cases)
    current = next(expected, None)
    seen: dict[int, Report] = {}
    strays = []
    for line in boot(file_of(cases)):
        if line == DONE:
            break
        report = _read(line)
        if isinstance(report, int):
            strays.append(f"{report:#x}")
            continue
        while current is not None and current.number != report.case:
            yield judge(current, predict(current, texts), seen, texts, emulated)
            current, seen = next(expected, None), {}
        seen[report.step] = report
    while current is not None:
        yield judge(current, predict(current, texts), seen, texts, emulated)
        current, seen = next(expected, None), {}
    if strays:
        pages = " ".join(strays)
        raise Strayed(f"the pages at {pages} have been changed by a case that is not about them")


def _read(line: str) -> Report | int:
    """A report, or the address of a page that has changed unseen."""
    try:
        data = json.loads(line)
        if "stray" in data:
            return int(data["stray"])
        if "failed" in data:
            raise UserError(f"the guest cannot go on after case {data['case']}: {data['failed']}")
        return read_report(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"the guest cannot be understood: {line[:120]!r}") from None
