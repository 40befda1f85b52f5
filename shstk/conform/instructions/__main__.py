"""``python -m shstk.conform.instructions``: the instruction campaign."""

from __future__ import annotations

import argparse
import sys

from shstk.conform.instructions.command import add_arguments, command
from shstk.errors import UserError


def main() -> int:
    """The exit status: 0, 1 with unexplained divergences, 2 for an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m shstk.conform.instructions",
        description="Execute random user-mode instructions on a real kernel and compare each "
        "with the CPU's text.",
    )
    add_arguments(parser)
    try:
        return command(parser.parse_args())
    except UserError as error:
        print(f"shstk: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
