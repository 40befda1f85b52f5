"""``shstk baseline``: every design's verdicts against the recorded ones."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from model.designs import DESIGNS
from shstk import baseline
from shstk.arguments import known, share_of_memory
from shstk.assessment import assess
from shstk.baseline import Table
from shstk.verdicts import UNKNOWN


def add_parser(sub: Any) -> None:
    """Add ``baseline`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "baseline",
        help="compare every design's verdicts with the recorded ones",
        description="Find the verdicts of the designs again and compare them with those that "
        "baseline/verdicts.txt records: statuses, and of a violation its conjunct, its step and "
        "the length of its shortest run. Exit status 0: they are equal; 1: there is a line for "
        "each difference. What is kept from earlier runs is not explored again.",
    )
    parser.add_argument(
        "designs", nargs="*", metavar="DESIGN", help="only these (a name; default: all)"
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="record what is found, and show it in the README's matrix",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare, or record."""
    names = [known(n, DESIGNS, "design", "designs") for n in dict.fromkeys(arguments.designs)]
    chosen = [d for d in DESIGNS.values() if not names or d.name in names]
    nothing = arguments.update and not (names and baseline.FILE.exists())
    recorded = Table((), {}) if nothing else baseline.read()
    reports, interrupted = assess(chosen, memory=share_of_memory())
    if interrupted:
        print("shstk: interrupted; nothing was compared or recorded", file=sys.stderr)
        return 130
    found = baseline.table(reports)
    if arguments.update:
        return _update(recorded, found)
    different = baseline.differences(recorded, found)
    if not names:
        gone = [d for d in recorded.designs if d not in DESIGNS]
        different += [f"{d}: recorded, and there is no such design any more" for d in gone]
    for line in different:
        print(line)
    if not different:
        many = f"{len(reports)} design{'' if len(reports) == 1 else 's'}"
        print(f"{many}: all verdicts are as recorded")
    return 1 if different else 0


def _update(recorded: Table, found: Table) -> int:
    unknown = [
        f"{design} {name}"
        for name, row in found.rows.items()
        for design, entry in row.items()
        if entry.status == UNKNOWN
    ]
    if unknown:
        print(f"shstk: unknown, so nothing is recorded: {', '.join(unknown)}", file=sys.stderr)
        return 1
    baseline.write(baseline.merged(recorded, found, DESIGNS))
    return 0
