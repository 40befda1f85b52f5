"""Campaigns on a guest in Python: agreement, wrong answers, wrong designs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import fake_guest
import pytest

from counterexamples.scenario import parse
from model.designs import DESIGNS
from model.designs.linux_6_12 import Linux612
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.state import Task
from model.world import World
from shstk.conform.campaign import Campaign, Ended, Outcome
from shstk.conform.compile import Case, compile_scenario
from shstk.conform.observe import Garbled
from shstk.conform.scenarios import random_case
from shstk.conform.shrink import shrink
from shstk.errors import UserError

DESIGN = DESIGNS["linux-6.12"]


class VforkKeepsBase(Linux612):
    """Wrong: a vfork child keeps its parent's base and size, and frees the stack when it exits."""

    name = "vfork-keeps-base"

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0
        return super().shstk_alloc_thread_stack(k, tsk, args)


def case(*lines: str) -> Case:
    """One scenario."""
    return compile_scenario(parse("\n".join(["design: linux-6.12", *lines, ""])), DESIGN, 1)


def outcome(*lines: str, lie: fake_guest.Lie = lambda line: line) -> Outcome:
    """What becomes of a scenario on a guest that may lie."""
    (only,) = Campaign(fake_guest.boot(DESIGN, lie=lie)).run([case(*lines)])
    return only


def test_a_right_guest_agrees_wherever_it_puts_things() -> None:
    """Random scenarios on a second machine with another layout: no divergence in any step."""
    cases = [random_case(DESIGN, 11, number) for number in range(80)]
    outcomes = list(Campaign(fake_guest.boot(DESIGN)).run(cases))
    assert [o.divergence for o in outcomes] == [None] * 80
    assert sum(o.steps for o in outcomes) == sum(len(c.asked) for c in cases) > 600


def test_random_scenarios_are_the_same_again() -> None:
    """A seed and a number make the same scenario; others make others."""
    assert random_case(DESIGN, 1, 2).text == random_case(DESIGN, 1, 2).text
    texts = {random_case(DESIGN, seed, number).text for seed in (1, 2) for number in range(9)}
    assert len(texts) == 18


def test_rare_steps_happen() -> None:
    """In 150 random scenarios there is what a campaign is for."""
    seen: set[str] = set()
    for number in range(150):
        for asked in random_case(DESIGN, 0, number).asked:
            seen.add(asked.line.operation)
            seen |= {f"fails={v}" for n, v in asked.line.arguments if n == "fails"}
            seen |= {f"WARN {warned.at}" for warned in asked.seen.warnings}
            seen |= (
                {"waiter killed"} if _kills_a_waiter(asked.rows, asked.line.operation) else set()
            )
    assert seen >= {"WARN double free", "WARN munmap failed", "waiter killed", "exit_group"}
    assert seen >= {f"fails={way}" for way in ("set_tid", "pids", "pidfd-limit", "after-switch")}
    assert seen >= {"mseal", "mremap", "io_uring_worker", "pivot", "wrssq", "handler_return"}


def _kills_a_waiter(rows: Any, operation: str) -> bool:
    return operation in ("sigkill", "kill") and any(
        what.endswith("wait status") and words == "signal 9" for what, words in rows.items()
    )


def test_a_wrong_design_is_caught() -> None:
    """A vfork child that keeps base is seen within 100 random scenarios, and shrinks."""
    wrong = VforkKeepsBase()
    cases = [random_case(wrong, 5, number) for number in range(100)]
    campaign = Campaign(fake_guest.boot(DESIGN))
    found = [o.divergence for o in campaign.run(cases) if o.divergence]
    assert found
    small = shrink(found[0], wrong, campaign, lambda text: None)
    lines = [asked.line.text for asked in small.case.asked[: small.step]]
    assert len(lines) <= 4 and any("vfork" in line or "VFORK" in line for line in lines)


SCENARIO = (
    "A = P arch_prctl ENABLE SHSTK",
    "P call",
    "P vfork C",
    "C arch_prctl ENABLE WRSS",
    "P kill SIGTERM",
    "C call",
)


def lies() -> Iterator[tuple[str, int, Callable[[dict[str, Any]], None]]]:
    """Ways to answer wrongly: what differs, in which step, and how."""

    def task(line: dict[str, Any], slot: int) -> dict[str, Any]:
        return next(t for t in line["tasks"] if t["slot"] == slot)

    yield "P: SSP", 2, lambda line: task(line, 0).update(ssp=task(line, 0)["ssp"] - 8)
    yield "P: SSP", 2, lambda line: task(line, 0).update(ssp=0)
    yield "P: state", 3, lambda line: task(line, 0).update(state="user")
    yield "C: SSP", 3, lambda line: task(line, 1).update(ssp=task(line, 1)["ssp"] + 8)
    yield "C: features", 4, lambda line: task(line, 1).update(features=1)
    yield "result", 1, lambda line: line.update(result=-1)
    yield "P: shadow stacks", 1, lambda line: line.update(mms=[])
    yield "P: wait status", 5, lambda line: task(line, 0)["exit"].update(signal=9)
    yield "C: exception", 6, lambda line: task(line, 1)["fault"].update(error=6)
    yield "C: exception", 6, lambda line: task(line, 1)["fault"].update(trapno=21)
    yield "kernel log", 5, lambda line: line.update(log=["WARNING: something else"])
    yield (
        "kernel log",
        2,
        lambda line: line.update(warnings=[{"slot": 0, "function": "f", "at": "shstk.c:1"}]),
    )
    yield "who shares memory", 3, lambda line: line["mms"][0].update(slots=[0])


@pytest.mark.parametrize(("what", "step", "lie"), list(lies()))
def test_a_wrong_answer_is_caught(
    what: str, step: int, lie: Callable[[dict[str, Any]], None]
) -> None:
    """In the step in which it is wrong, by what is wrong."""

    def tell(line: dict[str, Any]) -> dict[str, Any]:
        line = json.loads(json.dumps(line))
        if line.get("step") == step:
            lie(line)
        return line

    found = outcome(*SCENARIO, lie=tell).divergence
    assert found is not None and found.step == step and not found.harness
    assert what in [difference.what for difference in found.differences]


def test_a_right_answer_to_the_same_scenario() -> None:
    """Without the lie there is no divergence."""
    result = outcome(*SCENARIO)
    assert result.divergence is None and result.steps == len(SCENARIO)


def test_a_warning_means_the_same_in_the_whole_campaign() -> None:
    """Where a WARN is, is renamed; at the same place it cannot mean something else."""
    lines = ("A = P arch_prctl ENABLE SHSTK", "P mseal A A.size", "P fork C", "P exit")
    double = ("P arch_prctl ENABLE SHSTK", "P execve after-switch")

    def one_place(line: dict[str, Any]) -> dict[str, Any]:
        for warned in line.get("warnings", ()):
            warned["at"] = "shstk.c:1"
        return line

    cases = [
        case(*lines),
        compile_scenario(parse("design: linux-6.12\n" + "\n".join(double)), DESIGN, 2),
    ]
    right = list(Campaign(fake_guest.boot(DESIGN)).run(cases))
    assert [o.divergence for o in right] == [None, None]
    wrong = list(Campaign(fake_guest.boot(DESIGN, lie=one_place)).run(cases))
    assert wrong[0].divergence is None and wrong[1].divergence is not None


def test_what_a_kernel_has_no_way_to_is_left_out() -> None:
    """It says so at its start, and then it is no divergence; else it is the guest's fault."""
    lines = ("P fork C", "P fork D fails=cgroup", "P call")

    def cannot(line: dict[str, Any]) -> dict[str, Any] | None:
        if line.get("step") == 2:
            return {"scenario": line["scenario"], "step": 2, "cannot": "no cgroups"}
        return None if line.get("step") == 3 else line

    start = {**fake_guest.START, "cannot": {"cgroup": "no cgroups"}}
    (left_out,) = Campaign(fake_guest.boot(DESIGN, lie=cannot, start=start)).run([case(*lines)])
    assert left_out.divergence is None
    assert (left_out.steps, left_out.left_out) == (1, "no cgroups")
    (failed,) = Campaign(fake_guest.boot(DESIGN, lie=cannot)).run([case(*lines)])
    assert failed.divergence is not None and failed.divergence.harness


def test_a_guest_that_stops_is_told_and_booted_again() -> None:
    """The scenario in which it stopped diverges; those behind it are run."""
    cases = [random_case(DESIGN, 3, number) for number in range(3)]
    good = fake_guest.boot(DESIGN)

    def boot(campaign: bytes) -> Iterator[str]:
        for line in good(campaign):
            said = json.loads(line)
            if said.get("scenario") == 1 and said.get("step") == 2:
                raise Ended("panic")
            yield line

    outcomes = list(Campaign(boot).run(cases))
    assert [o.case.number for o in outcomes] == [0, 1, 2]
    assert [o.divergence is None for o in outcomes] == [True, False, True]
    assert "panic" in outcomes[1].divergence.differences[0].observed  # type: ignore[union-attr]


def test_a_kernel_without_shadow_stacks_is_refused() -> None:
    """In one line, before anything is compared."""
    start = {**fake_guest.START, "shstk": False}
    with pytest.raises(UserError, match="no user shadow stacks"):
        list(Campaign(fake_guest.boot(DESIGN, start=start)).run([case("P call")]))


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"scenario": 1}',
        '{"scenario": 1, "step": "x"}',
        '{"scenario": 1, "step": 0, "result": 1.5}',
        '{"scenario": 1, "step": 0, "result": null, "tasks": [{"slot": 0, "state": "asleep"}]}',
        '{"scenario": 1, "step": 0, "result": null, "mms": [{"mm": 0, "slots": [0], "shstk": 1}]}',
        '{"scenario": 9, "step": 0, "result": null}',
        '{"scenario": 1, "step": 1, "result": null}',
        '{"error": "line 7: no such operation"}',
        '{"campaign": "start", "version": 99}',
    ],
)
def test_what_is_no_report_is_refused(line: str) -> None:
    """A guest that cannot be understood is never taken for one that agrees."""

    def boot(campaign: bytes) -> Iterator[str]:
        yield json.dumps(fake_guest.START)
        yield line

    with pytest.raises(Garbled):
        list(Campaign(boot).run([case("P call")]))


def test_a_scenario_that_ends_early_is_no_agreement() -> None:
    """A guest that says done before its last step has failed."""

    def lie(line: dict[str, Any]) -> dict[str, Any] | None:
        return None if line.get("step") == 6 else line

    found = outcome(*SCENARIO, lie=lie).divergence
    assert found is not None and found.harness
