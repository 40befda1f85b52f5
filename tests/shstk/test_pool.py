"""Working on all cores: results in order, and Ctrl-C."""

from __future__ import annotations

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
