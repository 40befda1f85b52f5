"""``python -m shstk``, and the ``shstk`` command: the command line, also where Ctrl-C comes early.

The machinery takes a moment to import, and the interpreter one to end.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run a command; 130 after Ctrl-C, whenever that comes."""
    try:
        from shstk.cli import main as command
    except KeyboardInterrupt:
        print("shstk: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # it may have come in an exec(): Python would end by the signal then
    status = command()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the interpreter's own end is left
    return status


if __name__ == "__main__":
    sys.exit(main())
