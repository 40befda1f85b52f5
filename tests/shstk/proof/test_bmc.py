"""Bounded symbolic search: shortest runs, any 64-bit size, executed by text and machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from counterexamples.itf import dumps, loads, read
from counterexamples.render import render_text
from counterexamples.trace import Trace
from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel.fork import CLONE_VFORK, CloneArgs
from model.kernel.mmap import SZ_4G
from model.state import Task
from model.world import Term, World
from shstk.build import ORDINARY
from shstk.errors import UserError
from shstk.proof.bmc import BmcResult, relation, search
from shstk.proof.limits import Limit, parse_where
from shstk.proof.models import Asked, ground
from shstk.replay import drive, explicit_successors, replay
from shstk.space import Bound, Space
from shstk.views import valuation

BOUND = Bound(2, 2, 2)
SPACE = Space(BOUND)
V1, MERGED = DESIGNS["v1"], DESIGNS["linux-6.12"]
CORPUS = Path(__file__).parents[3] / "counterexamples" / "corpus"


FEW = frozenset({"kernel", "enable", "thread", "vfork", "late-clone-failure"})


def found(result: BmcResult) -> Trace:
    """The trace of a search that has found something."""
    assert result.status == "violated", result
    assert result.trace is not None
    return result.trace


# -- what is found -----------------------------------------------------------------
@pytest.mark.parametrize("design", [V1, MERGED], ids=lambda d: str(d.name))
def test_an_explicit_size_above_4_gib_is_found(design: Design) -> None:
    """The smallest violating stack_size is found in two steps, and the machine maps that much."""
    trace = found(search(design, ["size-explicit"], BOUND, 3))
    size = trace.steps[-1].picks["stack_size"]
    assert (len(trace.steps), size) == (2, SZ_4G + 1)
    assert any("0x100001000 bytes" in line for line in trace.aftermath)
    assert "stack_size 4294967297 bytes" in render_text(trace)
    assert loads(dumps(trace)) == trace


def test_a_compat_size_is_found() -> None:
    """The merged design does not quarter a compat thread's stack."""
    trace = found(search(MERGED, ["size-compat"], BOUND, 3))
    assert len(trace.steps) == 2
    assert trace.steps[-1].picks["compat"] is True


def test_the_run_is_as_plain_as_it_can_be() -> None:
    """Choices that a violation does not need are the usual ones, and objects go by number."""
    trace = found(search(MERGED, ["failed-clone-harmless/nothing-left-behind"], BOUND, 3))
    assert [(s.task, s.step) for s in trace.steps] == [(0, "enable"), (0, "clone_thread")]
    odd = {n for s in trace.steps for n, v in s.picks.items() if v is True}
    assert odd == {"bad TLS"}
    assert trace.steps[-1].picks["child"] == 1
    assert trace.steps[-1].picks["stack_size"] == 0


def test_runs_replay() -> None:
    """A run whose numbers are samples is a run for the replay of traces, too."""
    trace = found(search(V1, ["own-mm/nothing-else-hit"], BOUND, 3))
    assert len(trace.steps) == 3
    assert replay(trace, V1, SPACE).reason == ""


def test_the_lengths_are_the_explorers() -> None:
    """Each recorded ordinary run of up to three steps is a shortest one, by this search as well."""
    recorded = [read(path) for path in sorted(CORPUS.glob("*.itf.json"))]
    short = [t for t in recorded if len(t.steps) <= 3 and t.environment == "ordinary"]
    assert len(short) >= 10
    for trace in short:
        result = search(DESIGNS[trace.design], [trace.claim], BOUND, 3)
        assert (result.status, result.depth) == ("violated", len(trace.steps)), trace.claim


class KeepsTheParents(Linux612):
    """The merged design, but a vfork child keeps the bookkeeping of its parent."""

    name = "mutant"

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VFORK != 0:
            return 0
        return super().shstk_alloc_thread_stack(k, tsk, args)


def test_a_wrong_guard_is_found() -> None:
    """A vfork that fails late unmaps its caller's stack if the child has kept that in its books."""
    claim = "not-in-use/nobody-else-on-it"
    assert search(MERGED, [claim], BOUND, 3).status == "none up to depth"
    trace = found(search(KeepsTheParents(), [claim], BOUND, 3, FEW))
    assert [s.step for s in trace.steps] == ["enable", "vfork", "late_clone_failure"]


class OneOddSize(Linux612):
    """The merged design, with one size that is rounded wrongly."""

    name = "odd-size"

    def adjust_shstk_size(self, k: World, size: Term, rlimit: Term) -> Term:
        if size == 0x1234567:
            return k.number("lost", (8 << 30,))
        return super().adjust_shstk_size(k, size, rlimit)


def test_one_size_in_all_is_found() -> None:
    """One wrong size among 2^64 is found, where no sample of the explorer has it."""
    limits = parse_where("stack_size<4G,lost=8G")
    trace = found(search(OneOddSize(), ["size-explicit"], BOUND, 2, FEW, where=limits))
    assert trace.steps[-1].picks["stack_size"] == 0x1234567


# -- what is not found ---------------------------------------------------------------
def test_nothing_is_found_where_a_property_holds() -> None:
    """Sizes from RLIMIT_STACK are sane, whatever the limit, in every run of four steps."""
    assert search(V1, ["size-default"], BOUND, 4) == BmcResult("none up to depth", 4)


def test_nothing_is_found_without_what_it_takes() -> None:
    """Without late failures no clone of v1 unmaps what is not the child's within three steps."""
    claim, without = "own-mm/nothing-else-hit", frozenset({"late-clone-failure"})
    assert search(V1, [claim], BOUND, 3, FEW).status == "violated"
    assert search(V1, [claim], BOUND, 3, FEW, without).status == "none up to depth"


def test_a_small_budget_is_no_answer() -> None:
    """A solver without budget does not know, and says how far it got."""
    result = search(MERGED, ["own-mm"], BOUND, 4, rlimit=100_000)
    assert result.status == "unknown"
    assert result.depth < 4
    assert "100000 resource units" in result.reason


def test_ctrl_c_keeps_the_depth() -> None:
    """Interrupted, the search says up to which depth there is nothing."""

    def progress(words: str) -> None:
        if words.endswith(": 3 steps"):
            raise KeyboardInterrupt

    result = search(MERGED, ["own-mm"], BOUND, 4, progress=progress)
    assert result == BmcResult("interrupted", 2)


# -- questions about choices -----------------------------------------------------------
def test_a_question_limits_the_last_step() -> None:
    """Asked for sizes up to 4 GiB there is none that violates; asked for a limit, it is kept."""
    up_to = parse_where("stack_size<=4G")
    assert search(MERGED, ["size-explicit"], BOUND, 2, where=up_to).status == "none up to depth"
    asked = parse_where("RLIMIT_STACK=0,stack_size>8G")
    picks = found(search(MERGED, ["size-explicit"], BOUND, 2, where=asked)).steps[-1].picks
    assert (picks["RLIMIT_STACK"], picks["stack_size"]) == (0, (8 << 30) + 1)


def test_stacks_too_big_for_the_machine_are_said_to_be() -> None:
    """The machine's places lie 1 TiB apart; a run with a bigger stack is given without it."""
    asked = parse_where("stack_size>=2048G")
    result = search(MERGED, ["size-explicit"], BOUND, 2, where=asked)
    assert found(result).aftermath == ()
    assert result.reason.startswith("not shown on the reference machine")


def test_questions_are_read() -> None:
    """A question is NAME OP NUMBER with a unit, joined by commas."""
    assert parse_where("stack_size<4K, bad TLS = 1,RLIMIT_STACK!=0x10") == (
        Limit("stack_size", "<", 4096),
        Limit("bad TLS", "=", 1),
        Limit("RLIMIT_STACK", "!=", 16),
    )


@pytest.mark.parametrize("text", ["", "stack_size", "stack_size~3", "a<1,,b<2", "a<99999999999G"])
def test_bad_questions_are_refused(text: str) -> None:
    """What is no question is refused in one line."""
    with pytest.raises(UserError, match="^[^\n]+$"):
        parse_where(text)


def test_unknown_names_are_refused() -> None:
    """A claim or a choice that does not exist is refused, and so is a claim about endless runs."""
    with pytest.raises(UserError, match="no claim"):
        search(MERGED, ["size-imaginary"], BOUND, 1)
    with pytest.raises(UserError, match="endless"):
        search(MERGED, ["vfork-resumes"], BOUND, 1)
    with pytest.raises(UserError, match="stack_size"):
        search(MERGED, ["size-explicit"], BOUND, 1, where=parse_where("stak_size<1"))


# -- the relation ------------------------------------------------------------------
@pytest.mark.parametrize("design", [V1, MERGED], ids=lambda d: str(d.name))
def test_one_step_is_the_finite_worlds(design: Design) -> None:
    """From a state with a vfork child, the formula has the very successors that the text has."""
    path = ("enable", "vfork", "clone_commit", "sigkill")
    before = valuation(SPACE, drive(SPACE, design, [(name, 0) for name in path])[-1].state)
    where = ground(BOUND)
    steps = relation(where, design, ORDINARY, frozenset())
    asked = Asked()
    asked.add(*where.holds(before), steps.formula)
    after: set[tuple[int, ...]] = set()
    while asked.possible(z3.BoolVal(True)):
        state = where.valuation(asked.model, steps.after)
        after.add(state)
        asked.add(z3.Not(z3.And(*where.holds(state, steps.after))))
    assert after == {s[2] for s in explicit_successors(SPACE, design, before, ORDINARY)}
