"""Scenarios on this machine's kernel, of what it has without shadow stacks."""

from __future__ import annotations

from typing import Any

from guest_samples import Native

Step = dict[str, Any]


def steps(native: Native, text: str) -> tuple[list[Step], Step]:
    """The report's lines of a scenario's steps, from step 0; and the first line."""
    report = native(f"scenario 1\n{text}\nend\n")
    assert report[-2:] == [{"scenario": 1, "done": True}, {"campaign": "done"}]
    return report[1:-2], report[0]


def entry(step: Step, slot: int) -> Step:
    """What a step tells of a task."""
    return next((dict(task) for task in step["tasks"] if task["slot"] == slot), {})


def test_a_vfork_parent_waits_for_its_child(native: Native) -> None:
    """It is blocked, and its vfork returns in the step in which the child exits."""
    done, _ = steps(native, "1 0 vfork child=1\n2 1 call\n3 1 exit code=3\n4 0 pop")
    assert done[1]["result"] is None
    assert (entry(done[1], 0)["state"], entry(done[1], 1)["state"]) == ("blocked", "user")
    assert done[1]["mms"] == [{"mm": 0, "slots": [0, 1], "shstk": []}]
    assert (entry(done[3], 0)["state"], entry(done[3], 0)["returned"]) == ("user", 1)
    assert entry(done[3], 1) == {"slot": 1, "state": "dead", "exit": {"code": 3}}


def test_a_vfork_child_that_executes_a_program_lets_go(native: Native) -> None:
    """The parent goes on, the child has an mm of its own and is still the same task."""
    done, _ = steps(native, "1 0 vfork child=1\n2 1 execve\n3 1 call\n4 1 exit_group code=4")
    assert entry(done[2], 0)["returned"] == 1
    assert [mm["slots"] for mm in done[2]["mms"]] == [[0], [1]]
    assert entry(done[4], 1)["exit"] == {"code": 4}


def test_calls_push_the_return_address_of_their_site(native: Native) -> None:
    """The data stack shows it, and RET takes it off again."""
    text = "1 0 call site=5\n2 0 load addr=p0\n3 0 call site=900\n4 0 ret\n5 0 pop"
    done, begin = steps(native, text)
    first, distance, _ = begin["sites"]
    assert done[2]["result"] == done[5]["result"] == first + 5 * distance


def test_threads_share_memory_and_die_with_their_group(native: Native) -> None:
    """A thread's store is seen by the others; exit_group takes all."""
    text = """1 0 clone child=1 flags=VM|THREAD|SIGHAND
2 0 mmap size=8K
3 1 store addr=r2+8 value=77
4 0 load addr=e2-8184
5 1 exit_group code=6"""
    done, _ = steps(native, text)
    assert done[1]["result"] == 1
    assert done[4]["result"] == 77
    assert [entry(done[5], slot)["exit"] for slot in (0, 1)] == [{"code": 6}] * 2


def test_execve_by_a_thread_ends_the_others(native: Native) -> None:
    """The thread goes on as the group's leader."""
    text = "1 0 clone child=1 flags=VM|THREAD|SIGHAND\n2 1 execve\n3 1 exit code=2"
    done, _ = steps(native, text)
    assert entry(done[2], 0) == {"slot": 0, "state": "dead"}
    assert entry(done[2], 1)["state"] == "user"
    assert entry(done[3], 1)["exit"] == {"code": 2}


def test_a_leader_that_exits_before_its_threads_is_dead(native: Native) -> None:
    """When the last thread has gone, the group's wait status is that one's."""
    text = "1 0 clone child=1 flags=VM|THREAD|SIGHAND\n2 0 exit code=1\n3 1 exit code=2"
    done, _ = steps(native, text)
    assert entry(done[2], 0) == {"slot": 0, "state": "dead"}
    assert entry(done[3], 0) == {"slot": 0, "state": "dead", "exit": {"code": 2}}


def test_a_killed_vfork_waiter_leaves_its_child(native: Native) -> None:
    """SIGKILL ends the wait; the child goes on in the same mm."""
    done, _ = steps(native, "1 0 vfork child=1\n2 0 sigkill\n3 1 call")
    assert entry(done[2], 0) == {"slot": 0, "state": "dead", "exit": {"signal": 9}}
    assert done[2]["mms"] == [{"mm": 0, "slots": [1], "shstk": []}]
    assert done[3]["result"] is None


def test_signal_handlers_are_entered_and_left(native: Native) -> None:
    """A handler runs on the task's stack, and its return leads back."""
    done, begin = steps(
        native,
        "1 0 sigaction signal=SIGUSR1\n2 0 kill signal=SIGUSR1\n3 0 load addr=p0\n"
        "4 0 handler_return\n5 0 push value=9\n6 0 load addr=stack0-8",
    )
    assert entry(done[2], 0)["handled"] == [10]
    assert done[3]["result"] == begin["restorer"]
    assert done[6]["result"] == 9


def test_a_handled_fault_is_told_with_its_error_code(native: Native) -> None:
    """The frame has them; after the handler's return the instruction is not tried again."""
    done, _ = steps(
        native, "1 0 sigaction signal=SIGSEGV\n2 0 store addr=8 value=1\n3 0 handler_return"
    )
    fault = {"trapno": 14, "error": 6, "address": 8, "si_code": 1}
    assert (entry(done[2], 0)["fault"], entry(done[2], 0)["handled"]) == (fault, [11])
    assert entry(done[3], 0).get("handled") is None


def test_a_signal_that_waits_for_vfork_is_delivered_when_it_returns(native: Native) -> None:
    """The handler is entered in that step, and what vfork returned is told."""
    text = """1 0 sigaction signal=SIGUSR1
2 0 vfork child=1
3 0 kill signal=SIGUSR1
4 1 exit
5 0 handler_return"""
    done, _ = steps(native, text)
    assert done[3]["tasks"] == []
    assert (entry(done[4], 0)["handled"], entry(done[4], 0)["returned"]) == ([10], 1)
    assert done[5]["result"] is None


def test_identity_survives_a_return_from_another_tasks_handler(native: Native) -> None:
    """A vfork child that leaves its parent's handler still is the child."""
    text = """1 0 sigaction signal=SIGUSR1
2 0 kill signal=SIGUSR1
3 0 vfork child=1
4 1 handler_return
5 1 exit code=8"""
    done, _ = steps(native, text)
    assert entry(done[5], 1)["exit"] == {"code": 8}
    assert entry(done[5], 0)["state"] == "user"


def test_clones_fail_late_for_real_reasons(native: Native) -> None:
    """Each way gives its errno, where this machine lets us; the slot is free again."""
    ways = {"set_tid": -17, "pidfd-limit": -24, "pidfd-pointer": -14, "pidns": -12}
    lines = native("")
    ways = {way: errno for way, errno in ways.items() if way not in lines[0]["cannot"]}
    text = [
        f"{n} 0 {operation} fails={way}"
        for n, (operation, way) in enumerate(
            (
                (operation, way)
                for way in ways
                for operation in ("vfork child=1", "clone3 child=1 flags=VM", "fork child=1")
            ),
            1,
        )
    ]
    done, _ = steps(native, "\n".join([*text, "100 0 fork child=1"]))
    assert [step["result"] for step in done[1:-1]] == [e for e in ways.values() for _ in range(3)]
    assert done[-1]["result"] == 1


def test_execve_fails_early_and_after_the_switch(native: Native) -> None:
    """An errno before the point of no return, SIGSEGV behind it."""
    done, _ = steps(native, "1 0 execve fails=early\n2 0 execve fails=after-switch")
    assert done[1]["result"] == -2
    assert entry(done[2], 0)["exit"] == {"signal": 11}


def test_an_execve_that_is_to_be_killed_waits_for_that(native: Native) -> None:
    """It is blocked, its threads are dead, and SIGKILL ends it."""
    text = "1 0 clone child=1 flags=VM|THREAD|SIGHAND\n2 0 execve fails=killed\n3 0 sigkill"
    report = native(f"scenario 1\n{text}\nend\n")
    if "killed" in report[0]["cannot"]:
        assert report[3]["cannot"] == report[0]["cannot"]["killed"]
        return
    assert [entry(report[3], slot)["state"] for slot in (0, 1)] == ["blocked", "dead"]
    assert entry(report[4], 0)["exit"] == {"signal": 9}


def test_two_runs_say_the_same(native: Native) -> None:
    """Numbers of processes are not in a report."""
    text = """scenario 1
1 0 vfork child=1
2 1 fork child=2
3 2 clone child=3 flags=VM|THREAD|SIGHAND
4 3 execve
5 1 exit
6 0 mmap size=1G addr=0x600000000000
7 0 mremap addr=r6 size=e6-r6 new_size=2G maymove
end
"""
    assert native(text) == native(text)
