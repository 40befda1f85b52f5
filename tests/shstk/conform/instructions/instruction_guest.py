"""A guest without a kernel: executes cases by a text, and reports as the real one does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from shstk.conform.instructions import bochs
from shstk.conform.instructions.campaign import DONE, Boot
from shstk.conform.instructions.cases import Case, read_cases
from shstk.conform.instructions.judge import repeats
from shstk.conform.instructions.outcomes import Outcome
from shstk.conform.instructions.predict import Run, Texts
from shstk.conform.instructions.table import INSTRUCTIONS

#: The processor that the real guest runs on.
BOCHS = bochs.texts(lambda note: None)


def guest(
    texts: Texts = INSTRUCTIONS, spoil: Callable[[dict[str, Any]], None] | None = None
) -> Boot:
    """A guest whose processor is ``texts``; ``spoil`` may change a report."""

    def boot(cases: bytes) -> Iterator[str]:
        for case in read_cases(cases.decode()):
            for report in reports(case, texts):
                if spoil is not None:
                    spoil(report)
                yield json.dumps(report)
        yield DONE

    return boot


def reports(case: Case, texts: Texts) -> Iterator[dict[str, Any]]:
    """What a guest tells of a case."""
    run = Run(case.mode, texts)
    for number, step in enumerate(case.steps):
        outcome = run.step(step)
        head = {"case": case.number, "step": number}
        if repeats(outcome):
            yield {**head, "lost": "stuck"}
            return
        yield {**head, **_registers(outcome, run.general["rax"])}
        if run.faulted:
            return


def _registers(outcome: Outcome, rax: int) -> dict[str, Any]:
    report: dict[str, Any] = {name: getattr(outcome, name) for name in ("rip", "rsp", "cs", "cf")}
    report["rax"] = rax
    report["words"] = [[address, word] for address, word in outcome.words.items()]
    if outcome.ssp is not None:
        report["ssp"] = outcome.ssp
    fault = outcome.fault
    if fault is not None:
        report["fault"] = {
            "signal": fault.signal,
            "code": 0,
            "vector": fault.vector,
            "error": fault.error,
            "address": fault.address or 0,
        }
    return report
