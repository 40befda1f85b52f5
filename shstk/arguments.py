"""Arguments that several subcommands take: how they are declared, and what they mean."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterable

from model.designs import Design
from model.kernel import FAMILIES
from shstk.errors import UserError
from shstk.loader import DesignError, load_design
from shstk.space import Bound


# -- declared ------------------------------------------------------------------------
def number(text: str) -> int:
    """The type of an argument that is a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """--tasks, --mms, --stacks."""
    group = parser.add_argument_group(
        "bound", "without any of these, several bounds are used, of 2 or 3 tasks"
    )
    group.add_argument("--tasks", type=number, metavar="N", help="how many tasks (1 to 8)")
    group.add_argument("--mms", type=number, metavar="M", help="how many mms (1 to 8)")
    group.add_argument(
        "--stacks", type=number, metavar="K", help="how many addresses in each mm (1 to 8)"
    )


def add_environment(parser: argparse.ArgumentParser) -> None:
    """--without, --pivot, --hostile."""
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="EVENT",
        help="switch an event family off (may be repeated; `shstk events` lists them)",
    )
    parser.add_argument(
        "--pivot", action="store_true", help="also with user contexts moving between stacks"
    )
    parser.add_argument(
        "--hostile", action="store_true", help="also with munmap, mremap, mseal of shadow stacks"
    )


def add_memory(parser: argparse.ArgumentParser) -> None:
    """--memory."""
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="bytes for the states of one exploration, with K, M or G (default: 40%% of what "
        "is free, shared by the cores); there it stops and says how far it got",
    )


# -- meant ---------------------------------------------------------------------------
def design(name: str) -> Design:
    """A design, by its name or its file."""
    try:
        return load_design(name)
    except DesignError as error:
        raise UserError(str(error)) from None


def known(name: str, names: Iterable[str], what: str, where: str) -> str:
    """``name``, if it is one of these; ``shstk where`` would list them."""
    names = list(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"there is no {what} {name!r}{hint} (`shstk {where}` lists them)")
    return name


def without(arguments: argparse.Namespace) -> frozenset[str]:
    """The event families that are switched off."""
    names = [n.strip() for given in arguments.without for n in given.split(",")]
    for name in names:
        known(name, FAMILIES, "event family", "events")
        if name == "kernel":
            raise UserError("the family 'kernel' is the kernel itself and cannot be switched off")
    return frozenset(names)


def environment(arguments: argparse.Namespace) -> str:
    """All that was asked for, in one environment."""
    beside = [name for name in ("pivot", "hostile") if getattr(arguments, name)]
    return "+".join(["ordinary", *beside])


def bound(arguments: argparse.Namespace, default: Bound | None = None) -> Bound | None:
    """The bound that was asked for."""
    given = (arguments.tasks, arguments.mms, arguments.stacks)
    if given == (None, None, None):
        return default
    tasks, mms, stacks = (v if v is not None else 2 for v in given)
    try:
        return Bound(tasks, mms, stacks)
    except ValueError as error:
        raise UserError(str(error)) from None


def seed(arguments: argparse.Namespace) -> int:
    """Which random cases; -1 would be 1 to Python's generator."""
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: a number from 0 on")
    return int(arguments.seed)


def memory(arguments: argparse.Namespace) -> int:
    """Bytes for one exploration."""
    if arguments.memory is None:
        return share_of_memory()
    match = re.fullmatch(r"(\d{1,15})([KMG]?)", arguments.memory)
    if not match or int(match[1]) == 0:
        raise UserError(f"--memory {arguments.memory!r}: a number of bytes, or one with K, M or G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def share_of_memory() -> int:
    """Bytes for one exploration if nobody says: 40% of what is free, shared by the cores."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(pages * 0.4 / max(1, len(os.sched_getaffinity(0))))
