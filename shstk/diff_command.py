"""``shstk diff``: what a change of design does."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from properties import PROPERTIES
from properties.cpu import MACHINE_PROPERTIES
from shstk import arguments as given
from shstk import plan
from shstk.arguments import add_bounds, add_environment, add_memory
from shstk.diff import Asked, stages
from shstk.diff_json import as_json
from shstk.diff_text import known

DESCRIPTION = """\
Compare two designs: the verdicts that change, each with the run that shows why, and the shortest
run after which the designs behave otherwise, found by exploring both in lockstep. What a design
notes about its tasks (base, size, the features word) is no behaviour; what it maps, unmaps, warns
of and returns is, and the stack that each task runs on. Signal frames, sigreturn and tokens are
compared by the verdicts of the CPU level only. Exit status 0: nothing changes, as far as
was explored; 1: something does, or is not known; 2: the question was wrong; 130: interrupted.
"""
COST = """\
Where nothing is kept from an earlier run this takes minutes: both designs are explored together,
then each by itself, and proved. Text is printed as it becomes known: the functions that differ at
once, then behaviour, then verdicts; JSON at the end. For less: --bounded (no proofs), --property
(fewer verdicts), and above all small bounds (--tasks 2 --mms 1 --stacks 1), beyond which the
designs may differ.
"""


def add_parser(sub: Any) -> None:
    """Add ``diff`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "diff", help="say what a change of design does", description=DESCRIPTION, epilog=COST
    )
    parser.add_argument("one", metavar="A", help="a design: a name or a Python file")
    parser.add_argument("other", metavar="B", help="what becomes of it")
    add_bounds(parser)
    parser.add_argument(
        "--property", action="append", default=[], metavar="ID", help="only this one's verdict"
    )
    add_environment(parser)
    parser.add_argument(
        "--bounded",
        action="store_true",
        help="explore only: holds up to a bound, nothing is proved",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    add_memory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare two designs."""
    one, other = given.design(arguments.one), given.design(arguments.other)
    every = (*PROPERTIES, *MACHINE_PROPERTIES)
    wanted = frozenset(
        given.known(name, every, "property", "properties") for name in arguments.property
    )
    asked = Asked(
        plan.environments(arguments.pivot, arguments.hostile),
        given.bound(arguments),
        given.without(arguments),
        wanted,
        not arguments.bounded,
        given.memory(arguments),
    )
    printed = 0
    for found in stages((one, other), asked):
        if arguments.format == "text":
            lines = known(found)[printed:]
            print("".join(f"{line}\n" for line in lines), end="", flush=True)
            printed += len(lines)
    if arguments.format == "json":
        print(as_json(found))
    if found.interrupted:
        print("shstk: interrupted; what is above was found until then", file=sys.stderr)
        if found.uncompared:
            print(f"shstk: not compared: {', '.join(found.uncompared)}", file=sys.stderr)
        return 130
    if not found.complete:
        print("shstk: not everything was explored to the end", file=sys.stderr)
    return 1 if found.changed or not found.complete else 0
