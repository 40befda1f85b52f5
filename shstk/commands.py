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
from shstk import plan, report
from shstk.build import Request, program
from shstk.cache import tables as cached_tables
from shstk.engine import Engine, Progress, Result
from shstk.errors import UserError
from shstk.graph import reachable, write_dot, write_graphml
from shstk.lasso import liveness_verdicts
from shstk.plan import Question, families_in
from shstk.pool import Meter, run
from shstk.program_command import run as run_programs
from shstk.program_verdicts import attach, overall, program_verdicts
from shstk.programs import ProgramVerdict, scenario_text
from shstk.promela import to_promela
from shstk.proof.judge import prove_reports
from shstk.proof.prove_command import run as run_prove
from shstk.reference import replay_on_reference
from shstk.replay import replay
from shstk.run import run as run_scenario
from shstk.search import TextFailure, answer_to, text_failure, text_failures
from shstk.slices import MERGES, WHOLE, Slice
from shstk.space import Bound, Space
from shstk.verdicts import UNKNOWN, VIOLATED, Report, combine, preference

EVERY_PROPERTY = (*PROPERTIES, *MACHINE_PROPERTIES)
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


# -- check ---------------------------------------------------------------------------


def _reports(
    arguments: argparse.Namespace, chosen: list[Design], wanted: frozenset[str]
) -> tuple[list[Report], bool]:
    bound, without = given.bound(arguments), given.without(arguments)
    questions = [
        (question, design)
        for design in chosen
        for question in plan.questions(
            design.name,
            bound,
            arguments.pivot,
            arguments.hostile,
            without,
            wanted,
            given.memory(arguments),
        )
    ]
    meter = Meter()
    # The long ones first, so that the cores finish together.
    order = sorted(
        range(len(questions)),
        key=lambda n: -questions[n][0].bound.tasks * len(questions[n][0].families),
    )
    try:
        return _explored(arguments, chosen, wanted, questions, order, meter)
    except TextFailure as failure:
        raise UserError(str(failure)) from None


def _explored(
    arguments: argparse.Namespace,
    chosen: list[Design],
    wanted: frozenset[str],
    questions: list[tuple[Question, Design]],
    order: list[int],
    meter: Meter,
) -> tuple[list[Report], bool]:
    done, interrupted = run(answer_to, [questions[n] for n in order], meter)
    by_question = {a.question: a for a in done}
    answers = [by_question[q] for q, _ in questions if q in by_question]
    reports = combine(answers, wanted)
    interrupted = interrupted or any(a.interrupted for a in answers)
    if not interrupted:
        without = given.without(arguments)
        interrupted = liveness_verdicts(reports, chosen, without, wanted, meter)
    if not interrupted:
        interrupted = attach(reports, chosen, wanted, meter)
    if not interrupted and not getattr(arguments, "bounded", True):
        interrupted = prove_reports(reports, chosen, given.without(arguments), meter)
    return reports, interrupted


def check(arguments: argparse.Namespace) -> int:
    """Explore designs and say which properties hold."""
    chosen = [given.design(name) for name in dict.fromkeys(arguments.designs)]
    chosen = chosen or list(DESIGNS.values())
    names = [d.name for d in chosen]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two designs are called {name!r}; give one of them another name")
    wanted = frozenset(
        given.known(name, EVERY_PROPERTY, "property", "properties") for name in arguments.property
    )
    expected = _expected(arguments.expect)
    out = _directory(arguments.out)
    reports, interrupted = _reports(arguments, chosen, wanted)
    try:
        files, unwritten = _write(reports, out), ""
    except (OSError, itf.ItfError) as error:
        files, unwritten = {}, f"--out {arguments.out}: {error}"
    if arguments.format == "json":
        print(report.as_json(reports, files))
    else:
        print(report.text(reports, {d.name: d for d in chosen}))
    if unwritten:
        raise UserError(unwritten)
    if interrupted:
        print("shstk: interrupted; what is above was found until then", file=sys.stderr)
        return 130
    if expected is not None:
        return _compare(reports, expected)
    unknown = sum(
        v.status == UNKNOWN for r in reports for each in (r.verdicts, r.programs) for v in each
    )
    if unknown:
        print(f"shstk: {unknown} verdicts are unknown: not explored to the end", file=sys.stderr)
    wrong = any(r.violated or _violated_programs(r) for r in reports)
    return 1 if unknown or wrong else 0


def _violated_programs(report: Report) -> list[ProgramVerdict]:
    """What a program without any ability violates."""
    return [v for v in report.programs if v.status == VIOLATED and not v.abilities]


def _expected(name: str | None) -> dict[str, dict[str, str]] | None:
    if name is None:
        return None
    try:
        data = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--expect {name}: {error}") from None
    right = isinstance(data, dict) and all(
        isinstance(v, dict) and all(isinstance(s, str) for s in v.values()) for v in data.values()
    )
    if not right or not data:
        raise UserError(f'--expect {name}: expected {{"DESIGN": {{"PROPERTY": "STATUS"}}}}')
    return data  # type: ignore[no-any-return]


def _compare(reports: list[Report], expected: dict[str, dict[str, str]]) -> int:
    """Print each difference from the expected verdicts; 1 if there is one."""
    found = {
        r.design: {v.property.id: v.status for v in r.verdicts}
        | {id_: overall([v for v in r.programs if v.property == id_]) for id_ in _ids(r)}
        for r in reports
        if r.environment == "ordinary"
    }
    different = 0
    for design, verdicts in expected.items():
        for prop, status in verdicts.items():
            now = found.get(design, {}).get(prop, "not checked")
            if now != status:
                different += 1
                print(f"shstk: {design} {prop}: expected {status}, found {now}", file=sys.stderr)
    return 1 if different else 0


def _ids(report: Report) -> set[str]:
    return {v.property for v in report.programs}


def _directory(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {name}: {error.strerror}; name a directory") from None
    return path


def _write(reports: list[Report], out: Path | None) -> dict[int, str]:
    """Write the trace of every violated property; the files' names by the trace's id()."""
    files: dict[int, str] = {}
    if out is None:
        return files
    for each in reports:
        beside = each.environment.removeprefix("ordinary").replace("+", "-")
        for verdict in each.violated:
            if verdict.trace is not None:
                path = out / f"{each.design}-{verdict.property.id}{beside}.itf.json"
                itf.write(verdict.trace, path)
                files[id(verdict.trace)] = str(path)
    return files


# -- single questions -----------------------------------------------------------------


def trace(arguments: argparse.Namespace) -> int:
    """Print a shortest counterexample."""
    design = given.design(arguments.design)
    prop = given.known(arguments.property, EVERY_PROPERTY, "property", "properties")
    if prop in MACHINE_PROPERTIES:
        return _scenario(design, prop, arguments.format)
    reports, interrupted = _reports(arguments, [design], frozenset({prop}))
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
    tables = cached_tables(design, bound, without, meter.show)
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
    tables = cached_tables(design, bound, without, Meter().show)
    names = [cell.name for cell in tables.space.cells]
    header = f"{design.name}: {design.title}; {report.bound_text(bound)}; {request.slice}"
    sys.stdout.write(to_promela(program(tables, request), names, header))
    return 0


def replay_file(arguments: argparse.Namespace) -> int:
    """Execute a trace again."""
    try:
        found = itf.read(Path(arguments.file))
    except itf.ItfError as error:
        raise UserError(str(error)) from None
    if arguments.design is None and found.design not in DESIGNS:
        # A trace is data: it does not choose a file to be executed.
        raise UserError(f"the trace is of {found.design!r}: say --design FILE.py where that is")
    design = given.design(arguments.design or found.design)
    try:
        space = Space(Bound(*found.bound))
    except ValueError as error:
        raise UserError(f"{arguments.file}: {error}") from None
    if arguments.on == "reference":
        return _on_reference(found, design)
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
    "check": check,
    "trace": trace,
    "explore": explore,
    "export": export,
    "replay": replay_file,
    "run": run_scenario,
    "programs": run_programs,
    "prove": run_prove,
}
