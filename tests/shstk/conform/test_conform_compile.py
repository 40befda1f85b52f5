"""From scenarios to campaign files, and what the machine predicts."""

from __future__ import annotations

import pytest

from counterexamples.scenario import Scenario, parse
from model.designs import DESIGNS
from shstk.conform.causable import NotCausable
from shstk.conform.compile import Case, compile_scenario, executable

DESIGN = DESIGNS["linux-6.12"]


def compiled(*lines: str, header: str = "") -> Case:
    """A scenario's case."""
    return compile_scenario(scenario(*lines, header=header), DESIGN, 7)


def scenario(*lines: str, header: str = "") -> Scenario:
    return parse("\n".join(["design: linux-6.12", header, *lines, ""]))


def test_addresses_are_told_by_what_they_are() -> None:
    """Ranges by the step that made them, near SSP and RSP by these, numbers as they are."""
    case = compiled(
        "A = P arch_prctl ENABLE SHSTK",
        "P store rsp-64 0x1234",
        "P munmap A+4096 4096",
        "P load A.end-8",
        "P mremap A 4096 to=A-0x1000000000",
    )
    assert [asked.text for asked in case.asked] == [
        "1 0 arch_prctl option=ENABLE feature=SHSTK",
        "2 0 store addr=p0-64 value=4660",
        "3 0 munmap addr=r1+4096 size=4096",
        "4 0 load addr=r1+8388600",
        "5 0 mremap addr=r1 size=4096 to=r1-68719476736",
    ]


def test_ssp_of_an_unknown_range() -> None:
    """An address on a stack that fork has copied is found by the name of the original."""
    case = compiled("A = P arch_prctl ENABLE SHSTK", "P call", "P fork C", "C load ssp")
    assert case.asked[-1].text == "4 1 load addr=r1+8388600"
    assert case.asked[-1].rows["result"] == "c0"


def test_equal_return_addresses_are_equal_places() -> None:
    """A CALL from the same place pushes the same, another one something else."""
    case = compiled("P call", "P ret", "P jmp 0x401000", "P call", "P call")
    sites = [asked.text for asked in case.asked]
    assert sites[0].endswith("call site=0") and sites[3].endswith("call site=0")
    assert sites[4].endswith("call site=1")
    assert sites[2] == "3 0 jmp target=entry"


def test_results_are_told_by_their_kind() -> None:
    """A range by its name, a child by its, an errno by its name, what is read by what it is."""
    case = compiled(
        "A = P map_shadow_stack 8192 token",
        "P munmap 1 4096",
        "P clone C VM|THREAD|SIGHAND",
        "P load A.end-8",
        "P arch_prctl STATUS",
    )
    assert [a.rows["result"] for a in case.asked] == ["A", "-EINVAL", "C", "A.end+1", "0x0"]


def test_a_waiter_goes_on_with_its_childs_number() -> None:
    """A vfork parent returns in the step in which its child execs."""
    case = compiled("P vfork C", "C execve")
    assert case.asked[0].rows["P: state"] == "blocked"
    assert case.asked[1].rows["P: call that returned"] == "C"
    assert case.asked[1].rows["result"] == "nothing"


def test_the_wait_status_is_the_groups() -> None:
    """It is the leader's row, once the last member has gone, and says what the last one said."""
    case = compiled("P clone C VM|THREAD|SIGHAND", "P exit 3", "C exit 4")
    assert case.asked[1].rows["P: wait status"] == "nothing"
    assert case.asked[2].rows["P: wait status"] == "exit 4"
    case = compiled("P clone C VM|THREAD|SIGHAND", "C execve", "C exit_group 5")
    assert case.asked[1].rows["P: state"] == "dead"
    assert case.asked[2].rows["C: wait status"] == "exit 5"


def test_an_initial_limit_is_a_step() -> None:
    """The header `rlimit:` becomes a line that says the same."""
    case = compiled("P arch_prctl ENABLE SHSTK", header="rlimit: 64K")
    assert case.asked[0].text == "1 0 setrlimit stack=65536"
    assert case.asked[1].rows["P: shadow stacks"] == "r2 (64 KiB, rd wr ss)"


@pytest.mark.parametrize(
    ("lines", "header", "why"),
    [
        (["P kernel"], "", "one by one"),
        (["P contend 3"], "", "mmap_lock"),
        (["P iret"], "", "far branches"),
        (["P libc_vfork C"], "", "C library"),
        (["P fork C"], "kernel: stepwise", "by itself"),
        (["P fork C"], "limit: 1M", "limited"),
        (["P jmp 0x500000"], "", "no code"),
        (["P ret"], "", "no code"),
        (["P call 0x401000"], "", "own only"),
        (["P ret 24"], "", "0, 8 or 16"),
        (["P setrlimit 4096", "P execve"], "", "arguments"),
        (["P sigaction SIGUSR1", "P kill SIGUSR1", "P pop", "P pop"], "", "signal frame"),
        (["P rt_sigreturn"], "", "none is wanted"),
        (["P clone C VM|SIGHAND", "P sigaction SIGUSR1"], "", "CLONE_SIGHAND"),
        (["P sigaction SIGUSR1", "P clone C VM|SIGHAND"], "", "would be shared"),
        (["P sigkill", "P call"], "", "gone"),
        (["P sigaltstack 0x10000000 4096"], "", "the CPU's affair"),
        (["P clone C VM|THREAD|SIGHAND fails=pidns"], "", "-EINVAL"),
        (["P io_uring_worker C set_tid"], "", "without any such"),
        (["P map_shadow_stack 4G compat"], "", "32 bits"),
        (["P vfork C", "C io_uring_worker D", "C exit", "D exit"], "", "nobody can close"),
        (["P io_uring_worker C", "P vfork D", "C exit"], "", "nobody can close"),
        (
            ["A = P mmap 8192", "P mprotect A 4096 r", "P mremap A 8192 new_size=4096 to=A-1G"],
            "",
            "may have merged",
        ),
        (["A = P mmap 4096", "P mprotect A 4096 r", "P execve before-release"], "", "copies"),
        (["P arch_prctl ENABLE SHSTK", "P call", "P saveprevssp"], "", "bits are the guest's"),
        (["P call next", "P pop"], "", "CALL to the next"),
        (
            [
                "A = P arch_prctl ENABLE SHSTK",
                "P setrlimit 2G",
                "P munmap A A.size",
                "P call",
            ],
            "",
            "main stack grows",
        ),
    ],
)
def test_what_cannot_be_caused_is_refused(lines: list[str], header: str, why: str) -> None:
    """With the line and the reason."""
    with pytest.raises(NotCausable, match=why):
        compiled(*lines, header=header)


def test_a_handler_returns() -> None:
    """What a frame holds is not read, so a handler may call, return and go back."""
    case = compiled(
        "A = P arch_prctl ENABLE SHSTK",
        "P sigaction SIGUSR1",
        "P call",
        "P kill SIGUSR1",
        "P call",
        "P ret",
        "P handler_return",
        "P ret",
    )
    assert case.asked[3].rows["P: handlers entered"] == "10"
    assert case.asked[-1].rows["P: SSP"] == "A.end"


def test_lines_that_cannot_happen_are_left_out() -> None:
    """A candidate of the shrinker without the line that makes C is without C's lines, too."""
    whole = scenario("P vfork C", "C call", "P fork D", "D call")
    case, kept = executable(whole, DESIGN, whole.lines[1:], 1)
    assert [line.text for line in kept] == ["P fork D", "D call"]
    assert case.text == "scenario 1\n1 0 fork child=1\n2 1 call site=0\nend\n"
