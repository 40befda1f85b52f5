"""What is predicted of steps whose outcome is not simply the machine's."""

from __future__ import annotations

import pytest

from counterexamples.scenario import parse
from model.designs import DESIGNS
from shstk.conform.compile import Asked, compile_scenario
from shstk.conform.predict import wait_status
from shstk.conform.quirks import on_bochs
from shstk.conform.seen import Fault, Seen, Task

DESIGN = DESIGNS["linux-6.12"]


def steps(*lines: str) -> tuple[Asked, ...]:
    """The steps of a scenario."""
    return compile_scenario(parse("\n".join(["design: linux-6.12", *lines, ""])), DESIGN).asked


@pytest.mark.parametrize(
    ("causes", "status"),
    [
        (["exit(0)"], "exit 0"),
        (["exit(257)"], "exit 1"),
        (["exit(1)", "exit_group(2)", "exit_group(2)"], "exit 2"),
        (["de_thread", "exit(3)"], "exit 3"),
        (["SIGKILL", "SIGKILL"], "signal 9"),
        (["SIGSEGV", "SIGILL (#UD)"], "signal 4"),
        (["exit(1)", "SIGTERM"], "signal 15"),
        ([], ""),
    ],
)
def test_what_wait_says_of_a_group(causes: list[str], status: str) -> None:
    """The first that ended the whole group, else the last that ended by itself."""
    assert wait_status(causes) == status


def test_who_dies_returns_nothing() -> None:
    """A pending SIGSEGV takes a vfork parent on its way back: what vfork returned is not seen."""
    last = steps("P vfork C", "P kill SIGSEGV", "C exit")[-1].rows
    assert last["P: state"] == "dead" and last["P: call that returned"] == "nothing"


def test_the_log_is_silent_about_an_exception_with_a_handler() -> None:
    """Also where the handler cannot be entered, because its frame has no place."""
    rows = steps("P sigaction SIGSEGV", "P mov_rsp 0x10000", "P store 0 1")[-1].rows
    assert rows["P: state"] == "dead" and rows["P: exception"] == "nothing"
    caught = steps("P sigaction SIGSEGV", "P store 0 1")[-1].rows
    assert (
        caught["P: exception"] == "#PF error 0x6 at 0x0" and caught["P: handlers entered"] == "11"
    )


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["P store 0 1"], "1"),
        (["A = P mmap 4096 prot=r", "P store A 1"], "2"),
        (["P arch_prctl ENABLE SHSTK", "P store ssp-8 1"], "2"),
        (["P arch_prctl ENABLE SHSTK", "P call", "P push 0x1234", "P ret"], "10"),
        (["P store 0x8000000000000000 1"], "128"),
    ],
)
def test_what_a_handler_finds_in_siginfo(lines: list[str], code: str) -> None:
    """SEGV_MAPERR where nothing is mapped, SEGV_ACCERR, SEGV_CPERR, SI_KERNEL."""
    rows = steps("P sigaction SIGSEGV", *lines)[-1].rows
    assert rows["P: handlers entered"] == "11" and rows["P: si_code"] == code


def test_two_handlers_begin_one_after_the_other() -> None:
    """Signals that come together: the last frame's handler runs, the other after its return."""
    rows = [
        asked.rows["P: handlers entered"]
        for asked in steps(
            "P sigaction SIGUSR1",
            "P sigaction SIGUSR2",
            "P vfork C",
            "P kill SIGUSR1",
            "P kill SIGUSR2",
            "C exit",
            "P handler_return",
            "P handler_return",
        )
    ]
    assert rows == ["nothing"] * 5 + ["12", "10", "nothing"]


def test_a_failing_execve_leaves_its_caller_as_the_leader() -> None:
    """de_thread() has given it the leader's number, so wait(2) tells of it."""
    rows = steps("P clone C VM|THREAD|SIGHAND", "C execve fails=after-switch")[-1].rows
    assert rows["C: wait status"] == "signal 11"
    early = steps("P clone C VM|THREAD|SIGHAND", "C execve early", "C exit_group 2")[-1].rows
    assert early["P: wait status"] == "exit 2"


def test_a_bad_frame_is_in_the_log() -> None:
    """rt_sigreturn without a frame: SIGSEGV, and a line that says why."""
    asked = steps("P arch_prctl ENABLE SHSTK", "P rt_sigreturn")[-1]
    assert asked.rows["P: wait status"] == "signal 11" and asked.seen.other


def test_bochs_loads_a_token_before_it_stores() -> None:
    """The page fault of RSTORSSP is predicted as a read there, and only that one."""
    tasks = {
        0: Task("dead", fault=Fault(14, 0x46, 0x1000, instruction="RSTORSSP")),
        1: Task("dead", fault=Fault(14, 0x46, 0x1000, instruction="CALL")),
        2: Task("dead", fault=Fault(21, 0x4, instruction="RSTORSSP")),
    }
    rows = {
        "P: exception": "#PF error 0x46 at 0x1000",
        "C: exception": "#PF error 0x46 at 0x1000",
        "D: exception": "#CP error 0x4",
    }
    changed = on_bochs(Seen(tasks=tasks), {0: "P", 1: "C", 2: "D"}, rows)
    assert changed == {**rows, "P: exception": "#PF error 0x44 at 0x1000"}
