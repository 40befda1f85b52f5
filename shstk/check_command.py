"""``shstk check``: all verdicts of designs, in one of several formats."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from counterexamples import itf
from model.designs import DESIGNS, Design
from properties import PROPERTIES
from properties.cpu import MACHINE_PROPERTIES
from shstk import arguments as given
from shstk import expectations, plan, report
from shstk.arguments import add_bounds, add_environment, add_memory
from shstk.assessment import assess
from shstk.errors import UserError
from shstk.expectations import Expectations
from shstk.formats import junit, sarif, tap
from shstk.formats.cases import suites
from shstk.loader import base_of
from shstk.verdicts import UNKNOWN, VIOLATED, Report

EVERY_PROPERTY = (*PROPERTIES, *MACHINE_PROPERTIES)
RENDER = {"junit": junit.render, "tap": tap.render, "sarif": sarif.render}
DESCRIPTION = """\
Explore designs exhaustively up to a bound, and prove what can be proved. Exit status 0: nothing
is violated (with --expect: the verdicts are the expected ones); 1: otherwise; 2: the question was
wrong; 130: interrupted, what was found is printed.
"""
EXPECT = """\
With --expect FILE a verdict is right if it is the one in FILE, and nothing else counts: an expected
violation is no failure, in no format, and a property that is unexpectedly proved is one. Verdicts
have to be equal word by word; only where nothing is proved (--bounded), "proved" may be found as
"holds" or "not-applicable". What FILE does not have is a difference too. FILE is JSON,
{"DESIGN": {"PROPERTY": "STATUS"}}, with "DESIGN ordinary+hostile" and the like for what is beside
the ordinary environment; --record FILE writes it, for the same bounds and --without.
"""


def add_parser(sub: Any) -> None:
    """Add ``check`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "check",
        help="explore designs and say which properties hold",
        description=DESCRIPTION,
        epilog=EXPECT,
    )
    parser.add_argument("designs", nargs="*", metavar="DESIGN", help="a name or a Python file")
    add_bounds(parser)
    parser.add_argument(
        "--property", action="append", default=[], metavar="ID", help="only this property"
    )
    add_environment(parser)
    parser.add_argument(
        "--bounded",
        action="store_true",
        help="explore only: holds up to a bound, nothing is proved",
    )
    parser.add_argument(
        "--no-depends",
        action="store_true",
        help="do not look for the events that a violation depends on",
    )
    parser.add_argument(
        "--all-depends",
        action="store_true",
        help="look for them beside the ordinary environment, too",
    )
    parser.add_argument(
        "--expect", metavar="FILE", help="fail only where a verdict is not the one in FILE"
    )
    parser.add_argument("--record", metavar="FILE", help="write the verdicts there, for --expect")
    parser.add_argument(
        "--format", choices=("text", "json", *RENDER), default="text", help="KTAP: tap"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write the trace of every violated property there, as ITF"
    )
    add_memory(parser)


def reports_of(
    arguments: argparse.Namespace,
    chosen: list[Design],
    wanted: frozenset[str],
    proofs: bool,
    depends: str = "none",
) -> tuple[list[Report], bool]:
    """What was asked for of these designs, and whether Ctrl-C cut it short.

    ``depends``: "ordinary", "all" or "none", the environments in which violations say what they
    depend on.
    """
    environments = plan.environments(arguments.pivot, arguments.hostile)
    return assess(
        chosen,
        environments=environments,
        depends={"none": (), "all": environments}.get(depends, ("ordinary",)),
        bound=given.bound(arguments),
        without=given.without(arguments),
        wanted=wanted,
        proofs=proofs,
        memory=given.memory(arguments),
    )


def run(arguments: argparse.Namespace) -> int:
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
    expected = None
    if arguments.expect is not None:
        expected = expectations.read(arguments.expect, wanted, arguments.bounded)
    if arguments.record is not None:
        expectations.writable(arguments.record)
    out = _directory(arguments.out)
    depends = "none" if arguments.no_depends else "all" if arguments.all_depends else "ordinary"
    reports, interrupted = reports_of(arguments, chosen, wanted, not arguments.bounded, depends)
    try:
        files, unwritten = _write(reports, out), ""
    except (OSError, itf.ItfError) as error:
        files, unwritten = {}, f"--out {arguments.out}: {error}"
    print(_shown(reports, {d.name: d for d in chosen}, arguments.format, files, expected))
    if arguments.format == "text":
        for name, design in zip(dict.fromkeys(arguments.designs), chosen, strict=False):
            for line in _hint(arguments, name, design, reports):
                print(line)
    if unwritten:
        raise UserError(unwritten)
    if interrupted:
        print("shstk: interrupted; what is above was found until then", file=sys.stderr)
        return 130
    if arguments.record is not None:
        expectations.record(reports, arguments.record)
    return _status(reports, expected)


def _shown(
    reports: list[Report],
    designs: dict[str, Design],
    form: str,
    files: dict[int, str],
    expected: Expectations | None,
) -> str:
    if form == "json":
        return report.as_json(reports, files)
    if form == "text":
        return report.text(reports, designs)
    return RENDER[form](suites(reports, designs, expected))


def _hint(
    arguments: argparse.Namespace, name: str, design: Design, reports: list[Report]
) -> Iterator[str]:
    """For a violated design from a file: the command that says what is new in it."""
    base = base_of(design)
    mine = [r for r in reports if r.design == design.name]
    if base is not None and any(_violated(r) for r in mine):
        options = [
            word
            for option in ("--tasks", "--mms", "--stacks", "--property", "--without")
            for value in _given(getattr(arguments, option.removeprefix("--")))
            for word in (option, str(value))
        ]
        options += [f"--{o}" for o in ("pivot", "hostile", "bounded") if getattr(arguments, o)]
        yield ""
        yield f"what {design.name} changes: {shlex.join(['shstk', 'diff', base, name, *options])}"


def _given(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _violated(report: Report) -> bool:
    """Something is, in the life cycle or on the CPU level."""
    return bool(report.violated) or any(v.status == VIOLATED for v in expectations.plain(report))


def _status(reports: list[Report], expected: Expectations | None) -> int:
    """The exit status; on standard error, what is not as it should be."""
    if expected is not None:
        different = expectations.differences(reports, expected)
        for line in different:
            print(f"shstk: {line}", file=sys.stderr)
        return 1 if different else 0
    unknown = sum(
        v.status == UNKNOWN for r in reports for each in (r.verdicts, r.programs) for v in each
    )
    if unknown:
        print(f"shstk: {unknown} verdicts are unknown: not explored to the end", file=sys.stderr)
    return 1 if unknown or any(_violated(r) for r in reports) else 0


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
