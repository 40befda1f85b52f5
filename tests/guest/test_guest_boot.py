"""The guest as PID 1 of a real kernel with shadow stacks: what is known of Linux 6.12 is seen."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from shstk.kernel.boot import debian_kernel, guest_program, run
from shstk.kernel.prepare import ready

pytestmark = pytest.mark.skipif(not ready(), reason="kernel and emulator are not there")

CAMPAIGN = """scenario 1
1 0 arch_prctl option=ENABLE
2 0 call site=1
3 0 load addr=s0
4 0 vfork child=1
5 0 sigkill
6 1 call
end
scenario 2
1 0 arch_prctl option=ENABLE
2 0 clone child=1 flags=VM|THREAD|SIGHAND|SETTLS tls=bad
3 0 clone3 child=1 flags=VM|THREAD|SIGHAND stack_size=5000
4 1 mseal addr=r3 size=e3-r3
5 1 exit
6 0 ret
end
scenario 3
1 0 arch_prctl option=ENABLE
2 0 vfork child=1 fails=pids
3 0 clone child=1 flags=VM fails=set_tid
4 0 clone child=1 flags=VM|THREAD|SIGHAND fails=cgroup
5 0 vfork child=1 fails=pidns
6 0 fork child=1
7 1 execve fails=before-release
8 0 fork child=2
9 2 execve fails=after-switch
10 0 fork child=3
11 3 rstorssp addr=t0-8
12 0 sigaction signal=SIGUSR1
13 0 kill signal=SIGUSR1
14 0 load addr=s0
15 0 handler_return
16 0 io_uring_worker worker=4
17 4 exit
18 0 execve
end
"""


@cache
def boot(number: int) -> tuple[str, ...]:
    """All lines of a boot; ``number`` tells boots apart."""
    lines = run(
        debian_kernel(lambda _: None),
        guest_program("guest"),
        {"scenarios": CAMPAIGN.encode()},
        say=lambda _: None,
        timeout=120,
    )
    return tuple(lines)


def step(scenario: int, number: int) -> dict[str, Any]:
    """What a step has told."""
    for line in map(json.loads, boot(1)):
        if (line.get("scenario"), line.get("step")) == (scenario, number):
            return dict(line)
    raise AssertionError(f"scenario {scenario} has no step {number}")


def task(scenario: int, number: int, slot: int) -> dict[str, Any]:
    """What a step has told of a task."""
    entries = step(scenario, number)["tasks"]
    return next(dict(entry) for entry in entries if entry["slot"] == slot)


def sizes(scenario: int, number: int) -> list[int]:
    """The sizes of the shadow stacks that a step has told of, upwards."""
    (mm,) = step(scenario, number)["mms"]
    return [end - start for start, end, _ in mm["shstk"]]


def test_two_boots_say_the_same() -> None:
    """Every byte of the report."""
    assert boot(1) == boot(2)


def test_nothing_is_lacking() -> None:
    """Every way to fail is there, and warnings are told each time."""
    begin = json.loads(boot(1)[0])
    assert begin["cannot"] == {}
    assert begin["shstk"] and begin["compat"] and begin["prompt"] and begin["log"]
    assert begin["warn_once_reset"]


def test_a_shadow_stack_holds_return_addresses() -> None:
    """ENABLE makes 8 MiB, and CALL pushes on it."""
    assert sizes(1, 1) == [8 << 20]
    first, distance, _ = json.loads(boot(1)[0])["sites"]
    assert step(1, 3)["result"] == first + distance


def test_the_child_of_a_killed_vfork_parent_faults() -> None:
    """The parent's exit unmaps the stack that both use: #PF error 0x46."""
    assert step(1, 5)["mms"] == [{"mm": 0, "slots": [1], "shstk": []}]
    dead = task(1, 6, 1)
    assert dead["exit"] == {"signal": 11}
    assert (dead["fault"]["trapno"], dead["fault"]["error"]) == (14, 0x46)


def test_a_bad_tls_address_leaves_a_stack() -> None:
    """EPERM, and 8 MiB more are mapped."""
    assert step(2, 2)["result"] == -1
    assert sizes(2, 2) == [8 << 20] * 2


def test_a_sealed_stack_outlives_its_thread() -> None:
    """The kernel's munmap fails, and it warns."""
    assert sizes(2, 3) == [8 << 20, 8 << 20, 8192]  # there is room above the first
    assert step(2, 5)["warnings"][0]["function"] == "shstk_free"
    assert sizes(2, 4) == [8 << 20, 8 << 20, 8192]
    assert step(2, 5)["mms"] == [{**step(2, 4)["mms"][0], "slots": [0]}]


def test_ret_on_an_empty_shadow_stack_is_a_page_fault() -> None:
    """At the end of the stack: error 0x44."""
    assert task(2, 6, 0)["fault"]["error"] == 0x44


def test_clones_fail_late() -> None:
    """Each way gives its errno, and the caller's stack stays."""
    assert [step(3, n)["result"] for n in range(2, 6)] == [-11, -17, -11, -12]
    assert all(step(3, n)["mms"] == [] for n in range(2, 6))


def test_execve_fails_late() -> None:
    """Before the old stack is released without a warning, after it with one."""
    assert task(3, 7, 1)["exit"] == task(3, 9, 2)["exit"] == {"signal": 11}
    assert "warnings" not in step(3, 7)
    assert step(3, 9)["warnings"][0]["slot"] == 2


def test_a_bad_token_is_a_control_protection_exception() -> None:
    """RSTORSSP: #CP error 4."""
    assert task(3, 11, 3)["fault"] == {"trapno": 21, "error": 4}


def test_a_signal_pushes_two_words() -> None:
    """The restorer is the lower; a handler's return takes both."""
    before = task(3, 1, 0)["ssp"]
    assert task(3, 13, 0)["ssp"] == before - 16
    assert step(3, 14)["result"] == json.loads(boot(1)[0])["restorer"]
    assert task(3, 15, 0)["ssp"] == before


def test_a_worker_has_a_stack_for_as_long_as_it_lives() -> None:
    """create_io_thread() makes one, which nothing uses."""
    assert sizes(3, 16) == [8 << 20] * 2
    assert sizes(3, 17) == [8 << 20]


def test_a_new_image_has_none() -> None:
    """execve: features and SSP are 0."""
    after = task(3, 18, 0)
    assert (after["ssp"], after["features"]) == (0, 0)
