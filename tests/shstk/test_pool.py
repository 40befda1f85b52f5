"""Working on all cores: results in order, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from shstk.pool import Meter, run


def _double(number: int, tell: Callable[[str], None]) -> int:
    tell(f"doubling {number}")
    return 2 * number


def _interrupted(number: int, tell: Callable[[str], None]) -> int:
    raise KeyboardInterrupt


def test_results_are_in_the_order_of_the_arguments() -> None:
    """Whoever finishes first."""
    assert run(_double, [3, 1, 2], Meter()) == ([6, 2, 4], False)


def test_an_interrupted_worker_ends_the_run() -> None:
    """A worker that Ctrl-C stopped gives nothing, and the run ends as interrupted."""
    assert run(_interrupted, [1, 2], Meter()) == ([], True)


def test_ctrl_c_begins_nothing_new() -> None:
    """What the pool has handed out already is not begun after Ctrl-C."""
    words = [sys.executable, "-m", "shstk.cli", "programs", "v1", "--depth", "9"]
    child = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    time.sleep(4)  # long enough for work to be under way, and far from its end
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"interrupted" in err and b"Traceback" not in err
