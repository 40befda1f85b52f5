"""Fair lassos: on small random graphs by brute force, and in both designs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel import FAMILIES
from model.state import NULL, YES, Group, Task
from model.world import World
from shstk.build import ORDINARY, Tables, extract
from shstk.engine.program import NONE
from shstk.fair import Graph
from shstk.liveness import UNFAIR_LOCK, LivenessResult, Part, check, conjuncts, slice_for
from shstk.replay import replay
from shstk.slices import MERGES, WHOLE, Slice
from shstk.space import Bound
from shstk.tables import Forest, Mask
from shstk.tables import Test as Branch

BOUND = Bound(2, 1, 1)
BOTH = ("v1", "linux-6.12")
UNFAIR = ORDINARY | {UNFAIR_LOCK}
RESUMES, TERMINATES = "vfork-resumes/resumes", "unmap-terminates/gets-past"
# A part of the ordinary environment that is small enough without a slice.
FEW = frozenset(
    {
        "kernel",
        "vfork-abandon",
        "enable",
        "disable",
        "vfork",
        "sigkill",
        "exit",
        "munmap-eintr",
        "wrss",
    }
)

# Actions of hand-made graphs: 0 and 1 are nobody's, 2 is fair to task 0, 3 to task 1.
FAIR = (-1, -1, 0, 1)
Edge = tuple[int, int, int]


def graph(states: int, *edges: Edge) -> Graph:
    """A graph of (source, action, target)."""
    return Graph.build(2, FAIR, states, sorted(edges))


def everywhere(g: Graph) -> bytearray:
    """The claim is false in every state."""
    return bytearray([1]) * len(g.due)


# -- hand-made graphs --------------------------------------------------------------


def test_stopping_is_fair_where_no_fair_step_can_happen() -> None:
    assert graph(2, (0, 0, 1)).fair_lasso(b"\0\1") == (1, [])
    assert graph(2, (0, 0, 1)).fair_lasso(b"\1\0") == (0, [])
    assert graph(2, (0, 2, 1)).fair_lasso(b"\1\0") is None


def test_a_fair_step_that_finds_no_room_could_still_happen() -> None:
    assert graph(1, (0, -1, 0)).fair_lasso(b"\1") is None


def test_a_loop_past_a_fair_step_that_can_always_happen_is_not_fair() -> None:
    edges = [(0, 0, 1), (1, 0, 0), (0, 2, 2), (1, 2, 2)]
    assert graph(3, *edges).fair_lasso(b"\1\1\0") is None
    assert graph(3, *edges[:3]).fair_lasso(b"\1\1\0") == (0, [(0, 1), (0, 0)])


def test_a_retry_is_fair_only_to_those_who_may_wait_for_ever() -> None:
    retry = graph(2, (0, 2, 0), (0, 2, 1))
    assert retry.fair_lasso(b"\1\0") is None
    assert retry.fair_lasso(b"\1\0", unfair_lock=True) == (0, [(2, 0)])


def test_a_step_that_changes_something_is_no_retry() -> None:
    assert graph(2, (0, 2, 1), (1, 2, 0)).fair_lasso(b"\1\1") == (0, [(2, 1), (2, 0)])


def test_a_loop_visits_the_witness_of_every_task() -> None:
    # Task 0 is served between 1 and 2 only, task 1 between 3 and 4 only.
    ring = [(0, 0, 1), (1, 2, 2), (2, 0, 3), (3, 3, 4), (4, 0, 0)]
    both_due = [(s, -1 - t, s) for s in range(5) for t in range(2)]
    found = graph(5, *ring, *both_due).fair_lasso(bytes([1] * 5))
    assert found == (0, [(0, 1), (2, 2), (0, 3), (3, 4), (0, 0)])


def test_a_component_serves_only_those_inside_it() -> None:
    edges = [(0, 2, 1), (1, 0, 0), (1, 2, 0), (0, 3, 2), (1, 3, 2), (2, 3, 2)]
    assert graph(3, *edges).fair_lasso(b"\1\1\1") is None
    assert graph(3, *edges).fair_lasso(b"\1\1\1", unfair_lock=True) == (2, [(3, 2)])


STATES = 5
EDGES = st.lists(
    st.tuples(st.integers(0, STATES - 1), st.integers(-2, 3), st.integers(0, STATES - 1)),
    max_size=14,
)


def legal(g: Graph, states: set[int], edges: set[Edge], unfair_lock: bool) -> bool:
    """Whether going round these states and edges for ever is fair."""
    for task in range(2):
        taken = any(
            a >= 0 and FAIR[a] == task and (s != t or unfair_lock)
            for s, a, t in edges
            if s in states and t in states
        )
        if not taken and all(g.due[s] >> task & 1 for s in states):
            return False
    return True


@given(EDGES, st.lists(st.booleans(), min_size=STATES, max_size=STATES), st.booleans())
def test_fair_lassos_by_brute_force(edges: list[Edge], inside: list[bool], unfair: bool) -> None:
    g = graph(STATES, *edges)
    real = {e for e in edges if e[1] >= 0}
    false = [s for s in range(STATES) if inside[s]]
    whole: nx.DiGraph[int] = nx.DiGraph([(s, t) for s, _, t in real])
    whole.add_nodes_from(range(STATES))
    possible = [
        set(chosen)
        for size in range(1, len(false) + 1)
        for chosen in combinations(false, size)
        if nx.is_strongly_connected(whole.subgraph(chosen))
    ]
    fair = [chosen for chosen in possible if legal(g, chosen, real, unfair)]
    found = g.fair_lasso(inside, unfair)
    assert (found is not None) == bool(fair)
    if found is not None:
        entry, loop = found
        assert entry == min(min(chosen) for chosen in fair)
        at, taken = entry, set()
        for action, target in loop:
            assert (at, action, target) in real
            taken.add((at, action, target))
            at = target
        assert at == entry
        states = {entry, *(t for _, t in loop)}
        assert all(inside[s] for s in states)
        assert legal(g, states, taken, unfair)


# -- the designs -------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables() -> dict[str, Tables]:
    """Of both designs."""
    return {name: extract(design, BOUND) for name, design in DESIGNS.items() if name in BOTH}


def verdicts(results: list[LivenessResult]) -> dict[str, set[str]]:
    """The statuses of each conjunct."""
    out: dict[str, set[str]] = {}
    for result in results:
        out.setdefault(result.conjunct, set()).add(result.status)
    return out


@pytest.mark.parametrize("name", BOTH)
def test_everything_ends_while_the_lock_is_fair(tables: dict[str, Tables], name: str) -> None:
    results = check(tables[name], ORDINARY)
    assert verdicts(results) == {RESUMES: {"holds"}, TERMINATES: {"holds"}}
    assert [(r.conjunct, r.task) for r in results] == [
        (claim, task) for claim in (RESUMES, TERMINATES) for task in range(2)
    ]
    assert all(r.premise and not r.prefix and not r.loop and r.trace is None for r in results)
    assert all(r.states > 1000 and r.saturated for r in results)


def test_an_unfair_lock_keeps_v1_retrying_for_ever(tables: dict[str, Tables]) -> None:
    results = check(tables["v1"], UNFAIR, environment="ordinary+hostile")
    assert verdicts(results)[TERMINATES] == {"violated"}
    first = next(r for r in results if r.conjunct == TERMINATES)
    assert len(first.loop) == 1 and first.loop[-1][1] == first.prefix[-1][1]
    assert first.prefix[0][0] == -1
    assert first.trace is not None
    steps = [step.step for step in first.trace.steps]
    assert steps == ["enable", "disable", "sigkill", "shstk_disable"] and first.trace.loop == 3
    assert "tries again" in first.trace.steps[-1].notes[0]
    for result in results:
        assert result.trace is not None
        verdict = replay(result.trace, DESIGNS["v1"], tables["v1"].space)
        assert verdict, verdict.reason


def test_an_unfair_lock_keeps_the_parent_of_a_v1_vfork_waiting(tables: dict[str, Tables]) -> None:
    """exit_mm() of a vfork child frees nothing, but arch_prctl() does not ask who it is."""
    first = check(tables["v1"], UNFAIR, ["vfork-resumes"])[0]
    assert first.status == "violated" and first.trace is not None
    steps = [step.step for step in first.trace.steps]
    assert steps[-1] == "shstk_disable" and {"vfork", "disable", "sigkill"} <= set(steps)
    without_disable = check(tables["v1"], UNFAIR - {"disable"}, ["vfork-resumes"])
    assert verdicts(without_disable) == {RESUMES: {"holds"}}


def test_no_event_keeps_the_merged_design_from_ending(tables: dict[str, Tables]) -> None:
    merged = tables["linux-6.12"]
    assert verdicts(check(merged, UNFAIR)) == {RESUMES: {"holds"}, TERMINATES: {"holds"}}
    everything = frozenset(FAMILIES)
    assert verdicts(check(merged, everything)) == {RESUMES: {"holds"}, TERMINATES: {"holds"}}


@pytest.mark.parametrize("unfair", [False, True])
@pytest.mark.parametrize("name", BOTH)
def test_a_slice_answers_as_the_whole_model(
    tables: dict[str, Tables], name: str, unfair: bool
) -> None:
    families = FEW | {"exit-group", "run", "fault"} | ({UNFAIR_LOCK} if unfair else set())
    sliced = check(tables[name], families)
    whole = check(tables[name], families, slices=lambda *_: WHOLE)
    assert {r.slice for r in sliced} == {Slice(frozenset(MERGES))}
    assert all(r.states < w.states for r, w in zip(sliced, whole, strict=True))
    key = [(r.conjunct, r.task, r.status, r.premise, len(r.prefix)) for r in sliced]
    assert key == [(r.conjunct, r.task, r.status, r.premise, len(r.prefix)) for r in whole]


def test_part_of_an_exploration_settles_nothing(tables: dict[str, Tables]) -> None:
    results = check(tables["linux-6.12"], ORDINARY, max_states=500)
    assert verdicts(results) == {RESUMES: {"unknown"}, TERMINATES: {"unknown"}}


def test_only_what_was_asked_for_is_checked(tables: dict[str, Tables]) -> None:
    assert {n for n, _ in conjuncts()} == {RESUMES, TERMINATES}
    results = check(tables["v1"], FEW, ["unmap-terminates"])
    assert {r.conjunct for r in results} == {TERMINATES}


class Flapping(Linux612):
    """Tries again for ever, and each time looks different only in a detail."""

    name = "flapping"

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if tsk.shstk == YES:
            if tsk.wrss == YES:
                tsk.wrss = False
            else:
                tsk.wrss = True
            return 1
        return 0


class Stuck(Linux612):
    """Waits for something that never comes where a vfork child ends."""

    name = "stuck"

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        k.require(tsk.vfork_done == NULL)
        return super().deactivate_mm(k, tsk)


class Hesitant(Linux612):
    """Tries again once."""

    name = "hesitant"

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if tsk.wrss == YES:
            tsk.wrss = False
            return 1
        return super().deactivate_mm(k, tsk)


def few(design: Design, *properties: str, **options: Any) -> list[LivenessResult]:
    """Check a design in the small environment."""
    off = frozenset(FAMILIES) - FEW
    tables = extract(design, BOUND, off)
    families = FEW | {UNFAIR_LOCK} if options.pop("unfair", False) else FEW
    return check(tables, families, properties, switched_off=off, **options)


def crude(_tables: Tables, _part: Part, _families: Collection[str]) -> Slice:
    """Everything merged, whatever depends on it."""
    return Slice(frozenset(MERGES))


def test_a_detail_that_tells_progress_from_a_retry_is_not_merged() -> None:
    results = few(Flapping())
    assert verdicts(results) == {RESUMES: {"violated"}, TERMINATES: {"violated"}}
    assert all("wrss" not in r.slice.merged for r in results)
    assert all(len(r.loop) == 2 for r in results)
    # Why it matters: merged, a run is lost.
    assert verdicts(few(Flapping(), slices=crude)) == {RESUMES: {"holds"}, TERMINATES: {"holds"}}


def test_a_lasso_of_the_slice_alone_is_not_believed() -> None:
    results = few(Hesitant(), slices=crude, unfair=True)
    assert verdicts(results) == {RESUMES: {"holds"}, TERMINATES: {"holds"}}
    assert all("wrss" not in r.slice.merged for r in results if r.conjunct == TERMINATES)


def test_waiting_for_what_never_comes_is_a_run_that_stops() -> None:
    results = few(Stuck(), "vfork-resumes")
    assert verdicts(results) == {RESUMES: {"violated"}}
    for result in results:
        assert result.trace is not None and result.trace.loop is None and not result.loop
        assert [s.step for s in result.trace.steps][-1] in ("sigkill", "exit")


def test_what_a_question_tells_apart_is_not_merged(tables: dict[str, Tables]) -> None:
    v1 = tables["v1"]
    forest, exit_ = Forest(v1.forest), v1.space.number(Group, (0,), "exit")
    yes = forest.add(Mask(1, 0))
    dying = forest.add(Branch(exit_, (NONE, yes, yes, yes)))
    killed = forest.add(Branch(exit_, (NONE, yes, NONE, NONE)))
    asking = replace(v1, forest=forest)
    assert slice_for(asking, Part("", dying, yes), ORDINARY).merged == frozenset(MERGES)
    for part in (Part("", killed, yes), Part("", yes, killed)):
        assert slice_for(asking, part, ORDINARY).merged == frozenset(MERGES) - {"exit"}
