"""The CPU-level properties in a check: each one a job of its own, kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.designs import Design
from properties.cpu import MACHINE_PROPERTIES
from shstk.cache import ROOT, digest, kept
from shstk.pool import Meter, run
from shstk.programs import ProgramVerdict, check_programs
from shstk.reference import has_machine, want_machine
from shstk.search import text_failures
from shstk.verdicts import HOLDS, UNKNOWN, VIOLATED, Report

# What a verdict depends on besides the design: the model, the claims, and the search.
PARTS = ("model", "model/kernel", "model/designs", "model/cpu", "model/reference")
SEARCH = ("programs", "program_search", "settings", "stage", "alphabet")


Found = tuple[str, list[ProgramVerdict]]  # of a design, by its name


@dataclass(frozen=True)
class ProgramJob:
    """A property of the CPU level, to be asked of a design."""

    design: Design
    property: str
    depth: int | None


def verdicts_of(job: ProgramJob, tell: Callable[[str], None]) -> Found:
    """A task for ``shstk.pool``."""
    sources = [p for part in PARTS for p in (ROOT / part).glob("*.py")]
    sources += [*(ROOT / "properties").glob("*.py"), *(ROOT / "counterexamples").glob("*.py")]
    sources += [ROOT / "shstk" / f"{name}.py" for name in SEARCH]
    key = digest(f"programs {job.design.name} {job.property} {job.depth}", sources, job.design)

    def make() -> list[ProgramVerdict]:
        return check_programs(job.design, frozenset({job.property}), job.depth, tell)

    with text_failures(job.design):
        found = kept(key, "programs", make, lambda v: all(x.status != UNKNOWN for x in v))
    return job.design.name, found


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
    for name, found in answers:  # after Ctrl-C, those that were done
        out[name] += found
    return out, interrupted or any(v.status == UNKNOWN for each in out.values() for v in each)


def program_jobs(
    designs: Sequence[Design], wanted: frozenset[str], depth: int | None = None
) -> list[ProgramJob]:
    """A job for each design and property; UserError where the machine cannot run a design."""
    for design in designs:
        want_machine(design)
    chosen = [id_ for id_ in MACHINE_PROPERTIES if not wanted or id_ in wanted]
    return [ProgramJob(design, id_, depth) for design in designs for id_ in chosen]


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
