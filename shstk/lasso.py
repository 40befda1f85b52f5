"""Verdicts of the properties about endless runs.

They are explored without symmetry, so at a smaller bound than the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from model.designs import Design
from properties import PROPERTIES
from shstk.collecting import seldom_collected
from shstk.liveness import LivenessResult, check
from shstk.plan import families_in
from shstk.pool import Meter, run
from shstk.search import on_reference, text_failures
from shstk.space import Bound
from shstk.table_cache import tables as cached_tables
from shstk.verdicts import HOLDS, NOT_APPLICABLE, UNKNOWN, VIOLATED, Report, Verdict, is_liveness

BOUND = Bound(2, 1, 1)


@dataclass(frozen=True)
class _Job:
    design: Design
    environment: str
    without: frozenset[str]
    properties: tuple[str, ...]


def _work(job: _Job, tell: Callable[[str], None]) -> tuple[list[LivenessResult], float]:
    with text_failures(job.design), seldom_collected():
        return _check(job, tell)


def _check(job: _Job, tell: Callable[[str], None]) -> tuple[list[LivenessResult], float]:
    start = time.perf_counter()
    tables = cached_tables(job.design, BOUND, tell)
    families = families_in(job.environment, job.without)
    results = check(
        tables,
        families,
        job.properties,
        environment=job.environment,
        switched_off=job.without,
        progress=tell,
    )
    results = [
        replace(r, trace=on_reference(r.trace, job.design)) if r.trace is not None else r
        for r in results
    ]
    return results, time.perf_counter() - start


def liveness_verdicts(
    reports: Sequence[Report],
    designs: Sequence[Design],
    without: frozenset[str],
    wanted: frozenset[str],
    meter: Meter,
) -> bool:
    """Add the liveness properties' verdicts to the reports; True if Ctrl-C cut it short."""
    ids = tuple(
        p.id for p in PROPERTIES.values() if is_liveness(p) and (not wanted or p.id in wanted)
    )
    if not ids:
        return False
    by_name = {d.name: d for d in designs}
    jobs = [_Job(by_name[r.design], r.environment, without, ids) for r in reports]
    answers, interrupted = run(_work, jobs, meter)
    if interrupted:
        return True
    for report, (results, seconds) in zip(reports, answers, strict=True):
        for id_ in ids:
            mine = [r for r in results if r.conjunct.startswith(f"{id_}/")]
            report.verdicts.append(_verdict(id_, mine, seconds / len(ids)))
    return False


def _verdict(id_: str, results: list[LivenessResult], seconds: float) -> Verdict:
    found = [r for r in results if r.status == VIOLATED]
    exercised = {r.conjunct for r in results if r.premise}
    unexercised = tuple(
        sorted({r.conjunct.split("/")[1] for r in results} - {c.split("/")[1] for c in exercised})
    )
    if found:
        status = VIOLATED
    elif any(r.status == UNKNOWN for r in results):
        status = UNKNOWN
    else:
        status = HOLDS if exercised else NOT_APPLICABLE
    traces = [r.trace for r in found if r.trace is not None]
    prop = PROPERTIES[id_]
    return Verdict(
        prop,
        status,
        (BOUND,),
        min(traces, key=lambda t: len(t.steps)) if traces else None,
        [],
        unexercised,
        any(r.saturated for r in results),
        seconds,
        assumptions=(prop.assumption,) if prop.assumption else (),
    )
