"""What each subcommand does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from counterexamples import itf
from counterexamples.render import render_mermaid, render_text
from counterexamples.trace import Trace
from model.designs import DESIGNS, Design
from model.kernel import FAMILIES
from model.reference.machine import NotNow
from properties import PROPERTIES
from properties.cpu import MACHINE_PROPERTIES
from shstk import arguments as given
from shstk import report
from shstk.ablate_command import run as run_ablate
from shstk.baseline_command import run as run_baseline
from shstk.build import Request, program
from shstk.check_command import EVERY_PROPERTY, reports_of
from shstk.check_command import run as run_check
from shstk.conform.command import run as run_conform
from shstk.conform.replay import replay_command
from shstk.diff_command import run as run_diff
from shstk.engine import Engine, Progress, Result
from shstk.errors import UserError
from shstk.graph import reachable, write_dot, write_graphml
from shstk.new_design import run as run_new_design
from shstk.plan import families_in
from shstk.pool import Meter
from shstk.program_command import run as run_programs
from shstk.program_verdicts import program_verdicts
from shstk.programs import scenario_text
from shstk.promela import to_promela
from shstk.proof.prove_command import run as run_prove
from shstk.reference import replay_on_reference
from shstk.replay import replay
from shstk.run import run as run_scenario
from shstk.search import TextFailure, text_failure, text_failures
from shstk.slices import MERGES, WHOLE, Slice
from shstk.space import Bound, Space
from shstk.table_cache import tables as cached_tables
from shstk.verdicts import UNKNOWN, VIOLATED, preference

DEFAULT_EXPLORE = Bound(2, 2, 1)


# -- listings ------------------------------------------------------------------------


def _list(rows: list[dict[str, str]], arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    keys = list(rows[0])
    widths = [max(len(row[key]) for row in rows) for key in keys]
    for row in rows:
        line = "  ".join(f"{row[k]:<{w}}" for k, w in zip(keys, widths, strict=True))
        print(line.rstrip())
    return 0


def designs(arguments: argparse.Namespace) -> int:
    """The designs there are."""
    rows = [{"design": d.name, "title": d.title, "cite": d.cite} for d in DESIGNS.values()]
    return _list(rows, arguments)


def properties(arguments: argparse.Namespace) -> int:
    """The properties there are."""
    rows = [
        {"property": p.id, "kind": p.kind, "claim": p.claim, "source": p.source}
        for p in PROPERTIES.values()
    ]
    rows += [
        {"property": p.id, "kind": "machine", "claim": p.claim, "source": p.source}
        for p in MACHINE_PROPERTIES.values()
    ]
    if arguments.format == "text":
        rows = [{k: r[k] for k in ("property", "kind", "claim")} for r in rows]
    return _list(rows, arguments)


def events(arguments: argparse.Namespace) -> int:
    """The event families there are."""
    rows = [
        {"event": f.name, "environment": f.environment.value, "meaning": f.meaning}
        for f in FAMILIES.values()
    ]
    return _list(rows, arguments)


# -- single questions -----------------------------------------------------------------


def trace(arguments: argparse.Namespace) -> int:
    """Print a shortest counterexample."""
    design = given.design(arguments.design)
    prop = given.known(arguments.property, EVERY_PROPERTY, "property", "properties")
    if prop in MACHINE_PROPERTIES:
        return _scenario(design, prop, arguments.format)
    reports, interrupted = reports_of(arguments, [design], frozenset({prop}), False)
    sites = [s for r in reports for v in r.verdicts if v.status == VIOLATED for s in v.sites]
    steps = sorted({s.step for s in sites})
    if arguments.at is not None:
        sites = [s for s in sites if s.step == arguments.at]
        if steps and not sites:
            raise UserError(f"--at {arguments.at}: {prop} is violated in {', '.join(steps)}")
    traces = [s.trace for s in sorted(sites, key=preference)]
    traces += [v.trace for r in reports for v in r.violated if v.trace is not None and not v.sites]
    if not traces:
        if interrupted or any(v.status == UNKNOWN for r in reports for v in r.verdicts):
            said = "not explored to the end, and none found until then"
        else:
            said = "none up to the bound"
        print(f"shstk: violations of {prop} by {design.name}: {said}", file=sys.stderr)
        return 130 if interrupted else 1
    _show(traces[0], design, arguments.format)
    return 0


def _scenario(design: Design, prop: str, form: str) -> int:
    """Print the shortest scenario that violates a property of the CPU level."""
    if form != "text":
        raise UserError(f"--format {form}: {prop} is violated by scenarios, which are text")
    by_design, interrupted = program_verdicts([design], frozenset({prop}), None, Meter())
    found = [v for v in by_design[design.name] if v.status == VIOLATED]
    if interrupted or not found:
        print(f"shstk: violations of {prop} by {design.name}: none found", file=sys.stderr)
        return 130 if interrupted else 1
    # A program without any ability first, then the shortest.
    best = min(found, key=lambda v: (len(v.abilities), v.depth))
    sys.stdout.write(scenario_text(best, design))
    return 0


def _show(found: Trace, design: Design, form: str) -> None:
    if form == "itf":
        sys.stdout.write(itf.dumps(found))
    elif form == "mermaid":
        print(render_mermaid(found))
    else:
        print(render_text(found, design))


def _request(arguments: argparse.Namespace) -> tuple[Request, frozenset[str]]:
    environment = given.environment(arguments)
    without = given.without(arguments)
    families = families_in(environment, without)
    slice_ = Slice(frozenset(MERGES)) if arguments.slice else WHOLE
    # No claims: a slice can hide what they read, and counting needs none.
    return Request(families, 0, slice_), without


def explore(arguments: argparse.Namespace) -> int:
    """Count the reachable states."""
    design = given.design(arguments.design)
    bound = given.bound(arguments, DEFAULT_EXPLORE)
    assert bound is not None
    if arguments.graph and not arguments.graph.endswith((".graphml", ".dot")):
        raise UserError(f"--graph {arguments.graph}: the name ends in .graphml or .dot")
    request, without = _request(arguments)
    meter = Meter()
    tables = cached_tables(design, bound, meter.show)
    engine = Engine(program(tables, request))

    def progress(p: Progress) -> None:
        meter.show(f"{design.name}: {p.states:,} states, depth {p.depth}")

    result = engine.explore(
        symmetry=not arguments.no_symmetry, max_bytes=given.memory(arguments), progress=progress
    )
    meter.clear()
    row = {
        "states": result.states,
        "transitions": result.transitions,
        "depth": len(result.levels) - 1,
        "seconds": round(result.seconds, 3),
        "peak_bytes": result.peak_bytes,
    }
    if arguments.graph:
        _graph(engine, result, tables.space, request.slice, Path(arguments.graph))
    if arguments.format == "json":
        print(json.dumps({**row, "status": result.status}))
    else:
        print(f"{design.name}: {report.bound_text(bound)}; {request.slice}")
        for key, value in row.items():
            print(f"  {key:<12} {value:,}")
    if not result.complete:
        print(f"shstk: stopped: {result.status}; the counts are what was found", file=sys.stderr)
        return 130 if result.status == "interrupted" else 1
    return 0


def _graph(engine: Engine, result: Result, space: Space, slice_: Slice, path: Path) -> None:
    try:
        graph = reachable(engine, result, space, slice_)
        (write_dot if path.suffix == ".dot" else write_graphml)(graph, path)
    except ValueError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"--graph {path}: {error.strerror}") from None


def export(arguments: argparse.Namespace) -> int:
    """Write the model for another checker."""
    design = given.design(arguments.design)
    bound = given.bound(arguments, Bound(2, 1, 1))
    assert bound is not None
    request, without = _request(arguments)
    tables = cached_tables(design, bound, Meter().show)
    names = [cell.name for cell in tables.space.cells]
    header = f"{design.name}: {design.title}; {report.bound_text(bound)}; {request.slice}"
    sys.stdout.write(to_promela(program(tables, request), names, header))
    return 0


def replay_file(arguments: argparse.Namespace) -> int:
    """Execute a trace again."""
    try:
        found = itf.read(Path(arguments.file))
    except itf.ItfError as error:
        hint = "; a scenario is executed by `shstk run`" if arguments.file.endswith(".scn") else ""
        raise UserError(f"{error}{hint}") from None
    if arguments.design is None and found.design not in DESIGNS:
        # A trace is data: it does not choose a file to be executed.
        raise UserError(f"the trace is of {found.design!r}: say --design FILE.py where that is")
    design = given.design(arguments.design or found.design)
    try:
        space = Space(Bound(*found.bound))
    except ValueError as error:
        raise UserError(f"{arguments.file}: {error}") from None
    if arguments.kernel is not None and arguments.on != "kernel":
        raise UserError("--kernel goes with --on kernel")
    if arguments.on == "reference":
        return _on_reference(found, design)
    if arguments.on == "kernel":
        return replay_command(found, design, arguments.kernel)
    result = replay(found, design, space)
    if not result:
        reason = " ".join(result.reason.split())
        print(f"shstk: does not replay on {design.name}: {reason}", file=sys.stderr)
        return 1
    print(f"replays on {design.name}: {len(found.steps)} steps, violates {found.claim}")
    return 0


def _on_reference(found: Trace, design: Design) -> int:
    """Execute a trace on the reference machine and show what comes of it."""
    try:
        with text_failures(design):
            result = replay_on_reference(found, design)
    except TextFailure as failure:
        raise UserError(str(failure)) from None
    except NotNow as error:
        raise UserError(str(text_failure(error, design))) from None
    if not result:
        reason = " ".join(result.reason.split())
        on = f"{design.name} on the reference machine"
        print(f"shstk: does not replay on {on}: {reason}", file=sys.stderr)
        return 1
    print(f"replays on the reference machine: {len(found.steps)} steps, violates {found.claim}")
    for line in result.aftermath:
        print(f"  {line}")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "designs": designs,
    "properties": properties,
    "events": events,
    "check": run_check,
    "baseline": run_baseline,
    "trace": trace,
    "explore": explore,
    "export": export,
    "replay": replay_file,
    "run": run_scenario,
    "programs": run_programs,
    "prove": run_prove,
    "new-design": run_new_design,
    "ablate": run_ablate,
    "diff": run_diff,
    "conform": run_conform,
}
