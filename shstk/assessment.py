"""All verdicts of designs: explored, of endless runs, of the CPU level, proved; and kept.

A finished report is kept under a digest of every source that it depends on, as these were
when the process began to ask.  What was cut short or is unknown anywhere is not kept.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

from model.designs import Design
from properties import PROPERTIES, Property
from shstk.build import CLAIMS
from shstk.cache import digest, found, keep, whole_text
from shstk.depends import Asked, attach_depends
from shstk.errors import UserError
from shstk.lasso import liveness_verdicts
from shstk.plan import Question, in_environment
from shstk.pool import Meter, cores, run
from shstk.program_verdicts import attach, program_jobs, verdicts_of
from shstk.proof.judge import prove_one, prove_reports
from shstk.proof.proofs import DesignProof
from shstk.proof.solvers import identity
from shstk.reference import has_machine
from shstk.search import Answer, TextFailure, answer_to
from shstk.space import Bound
from shstk.verdicts import UNKNOWN, Report, combine


@dataclass(frozen=True)
class _Asked:
    """What is asked of every design."""

    bound: Bound | None
    without: frozenset[str]
    wanted: frozenset[str]
    proofs: bool
    memory: int | None


def assess(
    designs: Sequence[Design],
    *,
    environments: Sequence[str] = ("ordinary",),
    bound: Bound | None = None,
    without: frozenset[str] = frozenset(),
    wanted: frozenset[str] = frozenset(),
    proofs: bool = True,
    depends: Collection[str] = (),
    memory: int | None = None,
    meter: Meter | None = None,
) -> tuple[list[Report], bool]:
    """A report for each design and environment, in that order, and whether Ctrl-C cut it short.

    After Ctrl-C the reports have what was found until then.  ``environments`` are like
    "ordinary+hostile"; ``bound`` None: the default ones; ``wanted`` empty: all properties;
    ``depends``: the environments in which violations say what they depend on;
    ``memory`` in bytes for each exploration, None: no limit.  Designs are told apart by
    their names and files.  Raises UserError where the text of a design fails, InternalError
    where a proof and an exploration contradict each other.
    """
    asked = _Asked(bound, without, wanted, proofs, memory)
    pairs = [(design, environment) for design in designs for environment in environments]
    keys = {(d.name, e): _key(d, e, asked) for d, e in pairs}
    reports: dict[tuple[str, str], Report] = {}
    for pair, key in keys.items():
        known = found(key, "report")
        if isinstance(known, Report):
            reports[pair] = known
    missing = [(d, e) for d, e in pairs if (d.name, e) not in reports]
    try:
        made, interrupted = _made(missing, asked, meter or Meter())
        for report in made:
            pair = report.design, report.environment
            reports[pair] = report
            if not interrupted and _whole(report):
                keep(keys[pair], "report", report)
        of = [pair for pair, r in reports.items() if pair[1] in depends and not r.depends]
        if of and not interrupted:
            how = Asked(bound, without, memory)
            interrupted = attach_depends([reports[p] for p in of], designs, how, meter or Meter())
            for pair in of:
                if reports[pair].depends and _whole(reports[pair]):
                    keep(keys[pair], "report", reports[pair])
    except TextFailure as failure:
        raise UserError(str(failure)) from None
    return [reports[pair] for pair in keys if pair in reports], interrupted


def _made(
    pairs: Sequence[tuple[Design, str]], asked: _Asked, meter: Meter
) -> tuple[list[Report], bool]:
    """The reports of these designs and environments, from their text."""
    if not pairs:
        return [], False
    questions = [
        (question, design)
        for design, environment in pairs
        for question in _questions(design, environment, asked)
    ]
    designs = list({d.name: d for d, _ in pairs}.values())
    ordinary = [d for d, environment in pairs if environment == "ordinary"]
    # What was found of a design is there for its relatives, if they do not ask at the same time.
    # In the registry they stand together: so designs take turns in strides, and each is asked
    # everything, of which the long questions are first, before the next one's turn.
    turns = {d.name: turn for turn, d in enumerate(_in_strides(designs))}
    order = sorted(questions, key=lambda q: turns[q[1].name])
    tasks: list[tuple[Callable[..., Any], Any]] = []
    together = len(ordinary) >= cores() and not asked.wanted
    if together:
        # Of many designs all at once, so that no core waits; of one, each proof on all cores.
        # Programs are few tasks, and long.
        able = [d for d in ordinary if has_machine(d)]
        tasks += [(verdicts_of, job) for job in program_jobs(able, asked.wanted)]
    tasks += [(answer_to, question) for question in order]
    if together and asked.proofs:
        proved = sorted(ordinary, key=lambda d: turns[d.name])
        tasks += [(prove_one, (d, asked.without)) for d in proved]
    done, interrupted = run(_call, tasks, meter)
    by_question = {a.question: a for a in done if isinstance(a, Answer)}
    proofs = [p for p in done if isinstance(p, DesignProof)]
    programs = [p for p in done if isinstance(p, tuple)] if together else None
    answers = [by_question[q] for q, _ in questions if q in by_question]
    reports = combine(answers, asked.wanted)
    interrupted = interrupted or any(a.interrupted for a in answers)
    stages: list[Callable[[], bool]] = [
        lambda: liveness_verdicts(reports, designs, asked.without, asked.wanted, meter),
        lambda: attach(reports, ordinary, asked.wanted, meter, programs),
        lambda: asked.proofs and prove_reports(reports, designs, asked.without, meter, proofs),
    ]
    for stage in stages:
        interrupted = interrupted or stage()
    return reports, interrupted


def _in_strides(designs: Sequence[Design]) -> list[Design]:
    """All of them, those far apart that stand together."""
    stride = isqrt(len(designs))
    return [design for first in range(stride) for design in designs[first::stride]]


def _call(task: tuple[Callable[..., Any], Any], tell: Callable[[str], None]) -> Any:
    """One of several tasks of ``shstk.pool``, with its argument."""
    do, argument = task
    return do(argument, tell)


def _questions(design: Design, environment: str, asked: _Asked) -> list[Question]:
    return in_environment(
        design.name, environment, asked.bound, asked.without, asked.wanted, asked.memory
    )


def _whole(report: Report) -> bool:
    """Nothing in a report is unknown."""
    return all(v.status != UNKNOWN for each in (report.verdicts, report.programs) for v in each)


# -- kept ----------------------------------------------------------------------------
def _property(id_: str) -> Property:
    return PROPERTIES[id_]


# A property's claims are functions: it is kept as its name.
copyreg.pickle(Property, lambda p: (_property, (p.id,)))


def _key(design: Design, environment: str, asked: _Asked) -> str:
    # How much memory there is does not change an answer that is complete.
    questions = [(q.bound, q.details) for q in _questions(design, environment, asked)]
    names = sorted(asked.without), sorted(asked.wanted), asked.proofs
    made = f"{identity('z3')} {' '.join(c.name for c in CLAIMS)} {whole_text()}"
    return digest(f"report {design.name} {environment} {questions} {names} {made}", [], design)
