"""``shstk run``: a scenario on the reference machine, told step by step."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from counterexamples.effects import Teller, area_json, effect_json, task_json
from counterexamples.interpret import Run, Step, Verdict
from counterexamples.lines import Do
from counterexamples.named import size_text
from counterexamples.picture import pictures
from counterexamples.render import WIDTH
from counterexamples.scenario import Scenario, ScenarioError, read
from model.designs import DESIGNS, Design
from shstk.errors import UserError
from shstk.loader import DesignError, load_design
from shstk.reference import want_machine
from shstk.search import TEXT_ERRORS, text_failure

INDENT = " " * 7


def add_parser(sub: Any) -> None:
    """Add ``run`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "run",
        help="execute a scenario on the reference machine",
        description="Execute a scenario file (SCENARIOS.md) and compare with what it expects. "
        "Exit status 0: everything is as expected; 1: something is not; 2: the file is wrong.",
    )
    parser.add_argument("file", metavar="FILE", help="a scenario, as in counterexamples/scenarios")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--design", metavar="DESIGN", help="run on this design (a name or a Python file) instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Execute a scenario; 1 where something is not as expected."""
    designs: list[Design] = []
    try:
        scenario = read(Path(arguments.file))
        designs = _designs(arguments.design, scenario)
        for each in designs:
            want_machine(each)
        told = _json if arguments.format == "json" else _text
        missed = told(scenario, designs)
    except (ScenarioError, DesignError) as error:
        sys.stdout.flush()  # what was told so far comes first
        raise UserError(str(error)) from None
    except TEXT_ERRORS as error:
        raise _of_the_design(error, designs) from None
    sys.stdout.flush()
    for design, verdict in missed:
        where = f"{scenario.path}:{verdict.line}: {design}"
        print(
            f"shstk: {where}: expected {verdict.expected}, found {verdict.found}", file=sys.stderr
        )
    return 1 if missed else 0


def _of_the_design(error: Exception, designs: list[Design]) -> UserError:
    """The text of a design raised an exception; the machine's own are errors of ours."""
    sys.stdout.flush()
    return UserError(str(text_failure(error, designs[-1])))


Missed = list[tuple[str, Verdict]]


def _designs(name: str | None, scenario: Scenario) -> list[Design]:
    if name is not None:
        return [load_design(name)]
    return [DESIGNS[each] for each in scenario.designs]


# -- text --------------------------------------------------------------------------


def _text(scenario: Scenario, designs: list[Design]) -> Missed:
    missed: Missed = []
    for number, design in enumerate(designs):
        if number:
            print()
        told = Run(scenario, design)
        _print(_heading(scenario, design))
        verdicts: list[Verdict] = []
        for step in told.steps():
            _print(["", *_step(told, step)])
            verdicts += step.verdicts
        _print(["", "the end", *pictures(told.machine, told.names, told.view), ""])
        verdicts += told.verdicts()
        _print(_summary(verdicts))
        missed += [(design.name, verdict) for verdict in verdicts if not verdict.met]
    return missed


def _print(lines: list[str]) -> None:
    print("\n".join(line.rstrip() for line in lines))


def _heading(scenario: Scenario, design: Design) -> list[str]:
    lines = _wrap("scenario  ", scenario.path)
    lines += _wrap(" " * 10, " ".join(scenario.story)) if scenario.story else []
    lines += _wrap("design    ", f"{design.name}: {design.title}")
    lines += _wrap(" " * 10, design.cite)
    label = "expected  "
    for expect in scenario.expects:
        if expect.design in ("", design.name):
            lines += _wrap(label, expect.statement.text)
            label = " " * 10
    start = f"P in user mode, RLIMIT_STACK {size_text(scenario.rlimit)}, shadow stacks off"
    if scenario.limit is not None:
        start += f"; an address space holds {size_text(scenario.limit)}"
    if scenario.stepwise:
        start += "; the kernel does nothing by itself"
    return lines + _wrap("start     ", start)


def _wrap(first: str, words: str) -> list[str]:
    wrapped = textwrap.wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
    return wrapped or [first]


def _step(told: Run, step: Step) -> list[str]:
    """A line, what came of it, and what is different since."""
    place = f"line {step.line.line}"
    head = f"{step.number:>3}  {step.line.written}"
    lines = [f"{head:<{WIDTH - len(place) - 1}} {place}"]
    if step.done is None:
        return [*lines, *pictures(told.machine, told.names, step.after)]
    teller = Teller(told.machine, told.names, step.before, step.after)
    rows = [teller.effect(effect) for effect in step.done.effects] + teller.changes()
    width = max((len(who) for who, _ in rows), default=0)
    for who, what in rows:
        lines += _wrap(f"{INDENT}{who:<{width}}  ", what)
    for verdict in step.verdicts:
        if not verdict.met:
            lines += _wrap(f"{INDENT}! ", f"expected {verdict.expected}, found {verdict.found}")
    return lines


def _summary(verdicts: list[Verdict]) -> list[str]:
    """Whether everything is as expected: the lines together, each statement by itself."""
    lines = []
    of_lines = [verdict for verdict in verdicts if verdict.step]
    if of_lines:
        met = sum(verdict.met for verdict in of_lines)
        state = "ok" if met == len(of_lines) else "NOT MET"
        lines.append(f"{state:<9} {met} of {len(of_lines)} outcomes of lines are as expected")
        for verdict in of_lines:
            if not verdict.met:
                words = f"step {verdict.step}: expected {verdict.expected}, found {verdict.found}"
                lines += _wrap(f"{'NOT MET':<9} ", words)
    for verdict in verdicts:
        if not verdict.step:
            found = "" if verdict.met else f"; found: {verdict.found}"
            state = "ok" if verdict.met else "NOT MET"
            lines += _wrap(f"{state:<9} ", f"{verdict.expected}{found}")
    return lines or ["nothing was expected"]


# -- JSON --------------------------------------------------------------------------


def _json(scenario: Scenario, designs: list[Design]) -> Missed:
    """An object a line: the steps, and at the end what was expected and found."""
    missed: Missed = []
    expectations: list[dict[str, object]] = []
    for design in designs:
        told = Run(scenario, design)
        verdicts: list[Verdict] = []
        for step in told.steps():
            print(json.dumps(dict(_step_json(told, step))))
            verdicts += step.verdicts
        verdicts += told.verdicts()
        expectations += [_verdict_json(design, verdict) for verdict in verdicts]
        missed += [(design.name, verdict) for verdict in verdicts if not verdict.met]
    end = {"scenario": scenario.path, "met": not missed, "expectations": expectations}
    print(json.dumps(end))
    return missed


def _step_json(told: Run, step: Step) -> Iterator[tuple[str, object]]:
    yield "design", told.design.name
    yield "step", step.number
    yield "line", step.line.line
    yield "text", step.line.written
    if step.done is not None and isinstance(step.line, Do):
        yield "task", step.line.task
        yield "operation", step.line.operation
        yield "arguments", dict(step.arguments)
        yield "effects", [effect_json(effect) for effect in step.done.effects]
        yield "value", step.done.value
    yield "tasks", {name: task_json(task) for name, task in step.after.tasks.items()}
    yield (
        "mms",
        {
            str(mm): [area_json(area, told.names.of(mm, area)) for area in areas]
            for mm, areas in step.after.mms.items()
        },
    )


def _verdict_json(design: Design, verdict: Verdict) -> dict[str, object]:
    return {
        "design": design.name,
        "line": verdict.line,
        "step": verdict.step or None,
        "expected": verdict.expected,
        "found": verdict.found,
        "met": verdict.met,
    }
