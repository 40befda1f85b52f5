"""The pool of workers: results in order, and Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest

from shstk.errors import UserError
from shstk.pool import Meter, run


def _double(number: int, tell: Callable[[str], None]) -> int:
    tell(f"doubling {number}")
    return 2 * number


def _interrupted(number: int, tell: Callable[[str], None]) -> int:
    raise KeyboardInterrupt


def _killed(number: int, tell: Callable[[str], None]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def _wrong(number: int, tell: Callable[[str], None]) -> int:
    if number:
        time.sleep(600)
    raise ValueError("no such number")


def test_results_are_in_the_order_of_the_arguments() -> None:
    """Whoever finishes first."""
    assert run(_double, [3, 1, 2], Meter()) == ([6, 2, 4], False)


def test_an_interrupted_worker_ends_the_run() -> None:
    """A worker that Ctrl-C stopped gives nothing, and the run ends as interrupted."""
    assert run(_interrupted, [1, 2], Meter()) == ([], True)


def test_a_killed_worker_is_the_users_to_know() -> None:
    """A worker that the system killed is said in a line, and is no interruption."""
    with pytest.raises(UserError, match="a worker process was killed"):
        run(_killed, [1], Meter())


def test_a_task_that_raises_ends_the_others() -> None:
    """The run ends at once with what the task raised, and leaves no worker behind."""
    with pytest.raises(ValueError, match="no such number"):
        run(_wrong, [0, 1], Meter())


def test_ctrl_c_is_as_before_afterwards() -> None:
    """The pool hears Ctrl-C only while it runs."""
    before = signal.getsignal(signal.SIGINT)
    run(_double, [1], Meter())
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


# -- Ctrl-C ------------------------------------------------------------------------------
# A run in a process of its own, which says what has happened; how a task ends is its kind.
HEAD = """
import os, signal, sys, time
import shstk.pool
from shstk.pool import Meter, interruptible, run

def say(words):
    os.write(1, f"{words}\\n".encode())

class Term:
    def __del__(self):
        say("deleting")
        for _ in range(30):
            time.sleep(0.01)

def task(kind, tell):
    if kind == "quick":
        return kind
    if kind == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if kind == "deleting":
            Term()
        say(f"in {kind}")
        time.sleep(600)
    except KeyboardInterrupt:
        return f"partial {kind}"

def collect(ended, numbers, done, told, usual=shstk.pool._collect):
    before = len(done)
    out = usual(ended, numbers, done, told)
    if len(done) > before:
        say(f"done {len(done)}")
    return out

def end(*arguments, usual=shstk.pool._end):
    usual(*arguments)
    say("told")

shstk.pool._collect, shstk.pool._end = collect, end
"""


def interrupted(
    main: str, moments: list[set[str]], send: Callable[[int], None]
) -> tuple[int, str, str]:
    """A program's status, last line and errors, where Ctrl-C comes when all that was said."""
    child = subprocess.Popen(
        [sys.executable, "-c", HEAD + textwrap.dedent(main)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert child.stdout is not None
    try:
        for moment in moments:
            awaited = set(moment)
            while awaited:
                said = child.stdout.readline()
                if not said:
                    break
                awaited.discard(said.strip())
            send(child.pid)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, (out.splitlines() or [""])[-1], err


def terminal(pid: int) -> None:
    """Ctrl-C in a terminal: everybody in the process group."""
    os.killpg(pid, signal.SIGINT)


def alone(pid: int) -> None:
    """The signal is sent to the master only."""
    os.kill(pid, signal.SIGINT)


FOUR = "os.sched_getaffinity = lambda pid: range(4)\n"


@pytest.mark.parametrize("send", [terminal, alone])
def test_what_is_under_way_is_kept(send: Callable[[int], None]) -> None:
    """After Ctrl-C there is what was done, and what the busy workers had; nothing is begun."""
    main = f"{FOUR}print(run(task, ['quick', *'abcdefgh'], Meter()))"
    moment = {"done 1", "in a", "in b", "in c", "in d"}
    said = interrupted(main, [moment], send)
    found = ["quick", "partial a", "partial b", "partial c", "partial d"]
    assert said == (0, f"({found}, True)", "")


@pytest.mark.parametrize("send", [terminal, alone])
def test_an_idle_worker_does_not_break_the_pool(send: Callable[[int], None]) -> None:
    """A worker that has nothing to do when Ctrl-C comes does not die of it."""
    main = f"{FOUR}print(run(task, ['quick', 'quick', 'long', 'quick'], Meter()))"
    said = interrupted(main, [{"done 3", "in long"}], send)
    assert said == (0, "(['quick', 'quick', 'partial long', 'quick'], True)", "")


def test_a_second_ctrl_c_ends_what_does_not_hear() -> None:
    """A worker deaf to Ctrl-C is killed at the second, and what is done is kept."""
    main = "print(run(task, ['quick', 'deaf'], Meter()))"
    said = interrupted(main, [{"done 1", "in deaf"}, {"told"}], terminal)
    assert said == (0, "(['quick'], True)", "")


def test_ctrl_c_while_an_object_is_deleted_is_not_lost() -> None:
    """Python would print it as ignored, and go on: in a worker, and in the master."""
    main = "print(run(task, ['deleting'], Meter()))"
    assert interrupted(main, [{"deleting"}], terminal) == (0, "(['partial deleting'], True)", "")
    main = """
    try:
        with interruptible():
            Term()
            time.sleep(600)
    except KeyboardInterrupt:
        print("heard")
    """
    assert interrupted(main, [{"deleting"}], alone) == (0, "heard", "")


@pytest.mark.parametrize("moment", ["imports", "forks", "works"])
def test_the_command_ends_as_interrupted(moment: str) -> None:
    """130 and one line, while it is being imported, while workers are made, while they work."""
    main = """
    import shstk.__main__

    class Finder:
        def find_spec(self, name, *_):
            if name == "shstk.cli":
                say("imports")
                time.sleep(0.2)

    def fork(usual=os.fork):
        say("forks")
        return usual()

    def submit(*arguments, usual=shstk.pool._submit):
        out = usual(*arguments)
        say("works")
        return out

    sys.meta_path.insert(0, Finder())
    os.fork, shstk.pool._submit = fork, submit
    sys.argv = ["shstk", "programs", "v1", "--depth", "9"]
    sys.exit(shstk.__main__.main())
    """
    status, _, err = interrupted(main, [{moment}], terminal)
    assert status == 130
    assert err.startswith("shstk: ") and "interrupted" in err and err.count("\n") == 1
