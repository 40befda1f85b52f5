"""``python -m shstk.conform``: the subcommand by itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shstk.conform.command import add_arguments, run
from shstk.errors import UserError
from shstk.pool import interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 2 where the user asked for something that cannot be."""
    parser = argparse.ArgumentParser(prog="shstk conform")
    add_arguments(parser)
    try:
        with interruptible():
            return run(parser.parse_args(argv))
    except UserError as error:
        print(f"shstk: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
