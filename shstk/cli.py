"""The command line: arguments, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from shstk import (
    ablate_command,
    baseline_command,
    check_command,
    commands,
    diff_command,
    new_design,
)
from shstk import program_command as programs
from shstk import run as scenario
from shstk.arguments import add_bounds, add_environment, add_memory
from shstk.conform import command as conform_command
from shstk.errors import UserError
from shstk.pool import interruptible
from shstk.proof import prove_command


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="shstk",
        description="How Linux allocates, shares and frees user shadow stacks: check a design.",
    )
    sub = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, help_ in (
        ("designs", "the designs there are"),
        ("properties", "the properties there are"),
        ("events", "the event families that --without takes"),
    ):
        listing = sub.add_parser(name, help=help_, description=help_)
        listing.add_argument("--format", choices=("text", "json"), default="text")

    check_command.add_parser(sub)
    baseline_command.add_parser(sub)

    trace = sub.add_parser(
        "trace",
        help="print a shortest counterexample",
        description="Print a shortest run that violates the property; exit status 1 if "
        "there is none up to the bound.",
    )
    trace.add_argument("design", metavar="DESIGN")
    trace.add_argument("property", metavar="PROPERTY")
    trace.add_argument("--at", metavar="STEP", help="violated in this step (as `check` lists them)")
    trace.add_argument("--format", choices=("text", "itf", "mermaid"), default="text")
    add_bounds(trace)
    add_environment(trace)
    add_memory(trace)

    explore = sub.add_parser(
        "explore",
        help="count the reachable states",
        description="Explore all variables (or a slice) and count states and transitions.",
    )
    explore.add_argument("design", metavar="DESIGN")
    add_bounds(explore)
    add_environment(explore)
    explore.add_argument(
        "--slice",
        action="store_true",
        help="leave out the details (locks, WRSS, offsets), as check does for most properties",
    )
    explore.add_argument("--no-symmetry", action="store_true", help="every state by itself")
    explore.add_argument(
        "--graph", metavar="FILE", help="write the reachable graph (.graphml or .dot)"
    )
    explore.add_argument("--format", choices=("text", "json"), default="text")
    add_memory(explore)

    export = sub.add_parser(
        "export",
        help="write the model for another checker",
        description="Write the decision tables as a Promela model on standard output.",
    )
    export.add_argument("design", metavar="DESIGN")
    export.add_argument("--to", choices=("promela",), required=True)
    add_bounds(export)
    add_environment(export)
    export.add_argument("--slice", action="store_true", help="leave out the details")

    scenario.add_parser(sub)
    programs.add_parser(sub)
    prove_command.add_parser(sub)
    new_design.add_parser(sub)
    ablate_command.add_parser(sub)
    diff_command.add_parser(sub)
    conform_command.add_parser(sub)

    replay = sub.add_parser(
        "replay",
        help="execute a trace again",
        description="Execute every step of a trace again and judge its last. Exit status 0: "
        "it replays and the violation shows; 1: it does not.",
    )
    replay.add_argument("file", metavar="FILE.itf.json")
    replay.add_argument("--design", metavar="DESIGN", help="on another design than the trace's")
    replay.add_argument(
        "--on",
        choices=("text", "reference", "kernel"),
        default="text",
        help="execute the text on the bound's states; or on the reference machine: real "
        "addresses, page faults, #CP; or on a real kernel in an emulator (see make kernel)",
    )
    replay.add_argument(
        "--kernel", metavar="FILE", help="with --on kernel: a bzImage instead of Debian's kernel"
    )
    return top


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; a word that is too many is told with the command that has not got it."""
    arguments, others = parser().parse_known_args(argv)
    if others:
        prog = f"shstk {arguments.command}" if arguments.command else "shstk"
        Parser(prog=prog).error(f"unrecognized arguments: {' '.join(others)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 2 where the user asked for something that cannot be."""
    try:
        arguments = _arguments(argv)
        if arguments.command is None:
            parser().print_help()
            return 0
        with interruptible():
            status = commands.COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"shstk: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("shstk: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
