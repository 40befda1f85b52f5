"""``python -m shstk.kernel``: fetch and build what a boot needs, and say what it is.

Exit status 2, with one line on what is missing, if it cannot be had.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shstk.errors import UserError
from shstk.kernel.prepare import prepare
from shstk.pool import Meter


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m shstk.kernel",
        description="Fetch Debian's Linux 6.12 and build the Bochs emulator, into the cache.",
    )
    parser.add_argument(
        "--newest", action="store_true", help="look for a newer kernel than the one in the cache"
    )
    arguments = parser.parse_args(words)
    meter = Meter()
    try:
        kernel, bochs = prepare(meter.show, newest=arguments.newest)
    except UserError as error:
        meter.clear()
        print(f"shstk: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        meter.clear()
        print("shstk: interrupted", file=sys.stderr)
        return 130
    meter.clear()
    print(f"Linux {kernel.version}: {kernel.image}")
    print(f"Bochs: {bochs.program}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
