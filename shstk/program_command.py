"""``shstk programs``: the CPU level, all short programs on the reference machine."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

from model.designs import X86_DESIGNS, Design
from properties.cpu import MACHINE_PROPERTIES
from shstk.arguments import design
from shstk.errors import UserError
from shstk.pool import Meter
from shstk.program_verdicts import program_verdicts
from shstk.programs import ProgramVerdict, scenario_text, table
from shstk.report import program_json
from shstk.search import TextFailure
from shstk.verdicts import UNKNOWN, VIOLATED

DEPTH_MAX = 12  # operations; each one more makes several times as many programs


def add_parser(sub: Any) -> None:
    """Add ``programs`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "programs",
        help="the CPU level: all short programs on the reference machine",
        description="Try all programs up to a length, with and without abilities such as INCSSP or "
        "WRSS. Exit status 1: a program without any ability violates a property.",
    )
    parser.add_argument("designs", nargs="*", metavar="DESIGN", help="a name or a Python file")
    parser.add_argument(
        "--property", action="append", default=[], metavar="ID", help="only this property"
    )
    parser.add_argument(
        "--depth",
        type=int,
        metavar="N",
        help="how many operations a program has at most (default: by property)",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--out", metavar="DIR", help="write the scenario of every violation there, as a file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Try programs and say which properties they violate."""
    designs = [design(name) for name in dict.fromkeys(arguments.designs)]
    designs = designs or list(X86_DESIGNS.values())
    wanted = frozenset(_known(name) for name in arguments.property)
    if arguments.depth is not None and not 1 <= arguments.depth <= DEPTH_MAX:
        raise UserError(f"--depth {arguments.depth}: a program has 1 to {DEPTH_MAX} operations")
    try:
        found, interrupted = program_verdicts(designs, wanted, arguments.depth, Meter())
    except TextFailure as failure:
        raise UserError(str(failure)) from None
    for each in designs:
        _tell(each, found[each.name], arguments)
    if interrupted:
        print("shstk: interrupted; not all programs were tried", file=sys.stderr)
        return 130
    every = [v for verdicts in found.values() for v in verdicts]
    plain = [v.status for v in every if not v.abilities]
    return 1 if VIOLATED in plain or UNKNOWN in [v.status for v in every] else 0


def _known(name: str) -> str:
    if name not in MACHINE_PROPERTIES:
        close = difflib.get_close_matches(name, MACHINE_PROPERTIES, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"there is no property {name!r} of the CPU level{hint}: "
            f"there are {', '.join(MACHINE_PROPERTIES)}"
        )
    return name


def _tell(design: Design, found: list[ProgramVerdict], arguments: argparse.Namespace) -> None:
    if arguments.format == "json":
        for verdict in found:
            print(json.dumps({"design": design.name, **program_json(verdict)}))
    else:
        print(f"{design.name}: {design.title}")
        print(table(found))
        print()
    if arguments.out is not None:
        _write(design, found, arguments.out)


def _write(design: Design, found: list[ProgramVerdict], name: str) -> None:
    try:
        out = Path(name)
        out.mkdir(parents=True, exist_ok=True)
        for verdict in found:
            if verdict.status == VIOLATED:
                words = [design.name, verdict.property, verdict.conjunct, verdict.protocol]
                words += verdict.abilities
                file = "-".join("-".join(w.split()) for w in words if w) + ".scn"
                (out / file).write_text(scenario_text(verdict, design), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {name}: {error.strerror}; name a directory") from None
