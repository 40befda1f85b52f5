"""The CPU-level properties in a check: each one a job of its own, kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from model.designs import Design
from properties.cpu import MACHINE_PROPERTIES
from shstk.cache import ROOT, digest, found, keep
from shstk.pool import Meter, run
from shstk.programs import ProgramVerdict, check_all
from shstk.reference import has_machine, want_machine
from shstk.search import text_failures
from shstk.verdicts import HOLDS, UNKNOWN, VIOLATED, Report

# What a verdict depends on besides the design: the model, the claims, and the search.
PARTS = ("model", "model/kernel", "model/designs", "model/cpu", "model/reference")
SEARCH = ("programs", "program_search", "places", "settings", "stage", "alphabet", "footprint")

Found = tuple[tuple[str, list[ProgramVerdict]], ...]  # by the name of the design


@dataclass(frozen=True)
class ProgramJob:
    """A property of the CPU level, to be asked of designs, which share what they have in common."""

    designs: tuple[Design, ...]
    property: str
    depth: int | None


def verdicts_of(job: ProgramJob, tell: Callable[[str], None]) -> Found:
    """A task for ``shstk.pool``."""
    keys = [_key(design, job.property, job.depth) for design in job.designs]
    known = [cast("list[ProgramVerdict] | None", found(key, "programs")) for key in keys]
    missing = [design for design, verdicts in zip(job.designs, known, strict=True) if not verdicts]
    wanted = frozenset({job.property})
    made = iter(check_all(missing, wanted, job.depth, tell, text_failures) if missing else ())
    out: list[tuple[str, list[ProgramVerdict]]] = []
    for design, key, verdicts in zip(job.designs, keys, known, strict=True):
        if not verdicts:
            verdicts = next(made)
            if all(verdict.status != UNKNOWN for verdict in verdicts):
                keep(key, "programs", verdicts)
        out.append((design.name, verdicts))
    return tuple(out)


def _key(design: Design, prop: str, depth: int | None) -> str:
    sources = [p for part in PARTS for p in (ROOT / part).glob("*.py")]
    sources += [*(ROOT / "properties").glob("*.py"), *(ROOT / "counterexamples").glob("*.py")]
    sources += [ROOT / "shstk" / f"{name}.py" for name in SEARCH]
    return digest(f"programs {design.name} {prop} {depth}", sources, design)


def program_verdicts(
    designs: Sequence[Design],
    wanted: frozenset[str],
    depth: int | None,
    meter: Meter,
    known: Sequence[Found] | None = None,
) -> tuple[dict[str, list[ProgramVerdict]], bool]:
    """Verdicts by the name of the design, and whether Ctrl-C cut it short.

    ``known``: the answers to all of them, where they are there already.  UserError where the
    reference machine cannot run one of them.
    """
    jobs = program_jobs(designs, wanted, depth)
    answers, interrupted = run(verdicts_of, jobs, meter) if known is None else ([*known], False)
    out: dict[str, list[ProgramVerdict]] = {design.name: [] for design in designs}
    for answer in answers:  # after Ctrl-C, those that were done
        for name, verdicts in answer:
            out[name] += verdicts
    return out, interrupted or any(v.status == UNKNOWN for each in out.values() for v in each)


def program_jobs(
    designs: Sequence[Design], wanted: frozenset[str], depth: int | None = None
) -> list[ProgramJob]:
    """A job for each property; UserError where the machine cannot run a design."""
    for design in designs:
        want_machine(design)
    chosen = [id_ for id_ in MACHINE_PROPERTIES if not wanted or id_ in wanted]
    return [ProgramJob(tuple(designs), id_, depth) for id_ in chosen] if designs else []


def attach(
    reports: Sequence[Report],
    designs: Sequence[Design],
    wanted: frozenset[str],
    meter: Meter,
    known: Sequence[Found] | None = None,
) -> bool:
    """Add them to the reports of the ordinary environment; True if Ctrl-C cut it short.

    Designs that the reference machine cannot run get none.
    """
    if wanted and not wanted & MACHINE_PROPERTIES.keys():
        return False
    able = [design for design in designs if has_machine(design)]
    found, interrupted = program_verdicts(able, wanted, None, meter, known)
    for report in reports:
        if report.environment == "ordinary":
            report.programs = found.get(report.design, [])
    return interrupted


def overall(verdicts: Sequence[ProgramVerdict]) -> str:
    """Of a property as a whole, for programs without any ability."""
    plain = [v.status for v in verdicts if not v.abilities]
    for word in (VIOLATED, UNKNOWN, HOLDS):
        if word in plain:
            return word
    return plain[0] if plain else UNKNOWN
