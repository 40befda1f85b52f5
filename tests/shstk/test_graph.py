"""Reachable graphs: what is in them, their files, and what every path has in common."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import cast

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.designs import DESIGNS
from model.kernel import FAMILIES, STEPS
from shstk.build import CLAIMS, Request, Tables, extract, program
from shstk.engine import Engine, Result
from shstk.graph import (
    VIOLATION,
    Graph,
    describe,
    dominators,
    reachable,
    showing,
    unavoidable_steps,
    write_dot,
    write_graphml,
)
from shstk.slices import MERGES, Slice
from shstk.space import Bound, Space

BOUND = Bound(2, 1, 1)
SMALL = Slice(frozenset(MERGES))
VFORK = frozenset({"kernel", "enable", "vfork", "late-clone-failure", "exit"})
STALE = next(b for b, c in enumerate(CLAIMS) if c.name == "not-in-use/nobody-else-on-it")

Explored = tuple[Engine, Result, Space]


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Of v1."""
    return extract(DESIGNS["v1"], BOUND, frozenset(FAMILIES) - VFORK)


@pytest.fixture(scope="module")
def explored(tables: Tables) -> Explored:
    """v1 with failing vforks."""
    engine = Engine(program(tables, Request(VFORK, 1 << STALE, SMALL)))
    return engine, engine.explore(), tables.space


def edges_of(graph: Graph) -> set[tuple[int, int, str]]:
    """(source, target, label) of every edge."""
    return {(s, t, label) for s in graph for t in graph.adj[s] for label in graph.adj[s][t]}


def drawn(*edges: tuple[int, int, str]) -> Graph:
    """A graph of (source, target, label), steps being the first word of the label."""
    graph = Graph()
    for source, target, label in edges:
        graph.add_edge(source, target, key=label, label=label, step=label.split()[0])
    return graph


def test_a_graph_has_every_state_and_every_action_between_two(explored: Explored) -> None:
    engine, result, space = explored
    graph = reachable(engine, result, space, SMALL)
    assert list(graph) == list(range(result.states))
    expected = {
        (s, t, f"{STEPS[engine.action(leaf) // 2].name} {engine.action(leaf) % 2}")
        for s, leaf, t in engine.edges()
    }
    assert edges_of(graph) == expected
    assert all(graph.nodes[s]["depth"] == engine.depth(s) for s in graph)
    assert [s for s in graph if graph.nodes[s]["initial"]] == [0]


def test_too_many_states_are_refused_with_advice(explored: Explored) -> None:
    engine, result, space = explored
    with pytest.raises(ValueError, match=r"too many for a graph \(at most 3\): lower --tasks"):
        reachable(engine, result, space, SMALL, limit=3)


def test_a_state_in_words_names_what_is_not_initial() -> None:
    space = Space(BOUND)
    assert describe(space, space.initial) == "task0: ctl=user mode group=0 mm=0"
    values = list(space.initial)
    for cell in space.cells:
        if cell.name in ("group0.exit", "mm0.at0.kind", "mm0.at0.owner"):
            number = space.cells.index(cell)
            values[number] = 2
    words = "group0: exit=SIGSEGV; mm0.at0: kind=shadow stack (clone) owner=1"
    assert describe(space, tuple(values)).endswith(words)
    sliced = describe(space, SMALL.project(space, values), SMALL)
    assert "exit=SIGKILL|SIGSEGV|exit_group" in sliced
    assert "kind=shadow stack (clone)|shadow stack (arch_prctl) owner=1" in sliced


def test_dot_is_the_same_whatever_order_the_graph_was_built_in(tmp_path: Path) -> None:
    edges = [(0, 1, "a 0"), (0, 1, "b 0"), (1, 0, 'say "x"')]
    one, two = drawn(*edges), drawn(*edges[::-1])
    one.nodes[0]["state"] = two.nodes[0]["state"] = "task0: ctl=user mode; group0: exit=no"
    one.nodes[0]["initial"] = two.nodes[0]["initial"] = True
    write_dot(one, tmp_path / "one.dot")
    write_dot(two, tmp_path / "two.dot")
    text = (tmp_path / "one.dot").read_text()
    assert text == (tmp_path / "two.dot").read_text()
    assert text == (
        "digraph reachable {\n"
        "  node [shape=box];\n"
        '  0 [label="0\\ntask0: ctl=user mode\\ngroup0: exit=no", peripheries=2];\n'
        '  1 [label="1"];\n'
        '  0 -> 1 [label="a 0"];\n'
        '  0 -> 1 [label="b 0"];\n'
        '  1 -> 0 [label="say \\"x\\""];\n'
        "}\n"
    )


def test_graphml_can_be_read_back(explored: Explored, tmp_path: Path) -> None:
    engine, result, space = explored
    graph = reachable(engine, result, space, SMALL)
    write_graphml(graph, tmp_path / "graph.graphml")
    back = nx.read_graphml(tmp_path / "graph.graphml", node_type=int, force_multigraph=True)
    assert edges_of(cast(Graph, back)) == edges_of(graph)
    assert {n: back.nodes[n] for n in back} == {n: graph.nodes[n] for n in graph}
    assert ElementTree.parse(tmp_path / "graph.graphml").getroot().tag.endswith("graphml")


def test_dominators_are_passed_on_every_path() -> None:
    diamond = drawn((0, 1, "a"), (1, 2, "b"), (1, 3, "c"), (2, 4, "d"), (3, 4, "e"), (4, 0, "f"))
    diamond.add_edge(9, 0, key="x", label="x", step="x")
    assert dominators(diamond, 0, 4) == [0, 1, 4]
    assert dominators(diamond, 0, 0) == [0]
    assert dominators(diamond, 0, 9) == []


def test_a_step_is_unavoidable_even_where_no_state_is() -> None:
    graph = drawn(
        (0, 1, "enable 0"), (0, 2, "enable 1"), (1, 3, "vfork 0"), (2, 3, "fork 1"), (3, 4, "x 0")
    )
    assert unavoidable_steps(graph, [0], [4]) == ["enable", "x"]
    assert unavoidable_steps(graph, [0], [4], by="label") == ["x 0"]
    assert unavoidable_steps(graph, [0], [3]) == ["enable"]
    assert unavoidable_steps(graph, [0], [0]) == []
    assert unavoidable_steps(graph, [4], [0]) == []
    assert unavoidable_steps(graph, [0], [1, 3]) == ["enable"]


def simple_paths(
    edges: set[tuple[int, int, str]], at: int, end: int, seen: frozenset[int] = frozenset()
) -> list[list[tuple[int, int, str]]]:
    """Every path that passes no state twice."""
    if at == end:
        return [[]]
    return [
        [edge, *rest]
        for edge in sorted(edges)
        if edge[0] == at and edge[1] not in seen
        for rest in simple_paths(edges, edge[1], end, seen | {at})
    ]


EDGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("abc")), max_size=12
)


@given(EDGES)
def test_what_is_common_to_every_path_by_listing_paths(edges: list[tuple[int, int, str]]) -> None:
    graph = drawn((0, 0, "a"), (5, 5, "a"), *edges)
    paths = simple_paths(edges_of(graph), 0, 5)
    steps = [{key for _, _, key in path} for path in paths]
    common: set[str] = set.intersection(*steps) if steps else set()
    assert set(unavoidable_steps(graph, [0], [5])) == common
    passed = [{0, *(t for _, t, _ in path)} for path in paths]
    states: set[int] = set.intersection(*passed) if passed else set()
    assert set(dominators(graph, 0, 5)) == states
    assert all(nx.has_path(graph, a, b) for a, b in pairwise(dominators(graph, 0, 5)))


def test_every_way_to_the_bug_of_v1_passes_through_a_failing_vfork(tables: Tables) -> None:
    shown, leaves = showing(program(tables, Request(VFORK, 1 << STALE, SMALL)), 1 << STALE)
    engine = Engine(shown)
    result = engine.explore()
    graph = reachable(engine, result, tables.space, SMALL, violating=leaves)
    assert unavoidable_steps(graph, [0], [VIOLATION]) == ["enable", "vfork", "late_clone_failure"]
    last = set(graph.predecessors(VIOLATION))
    hits = {hit.state for hit in result.hits.values() if hit.violation == STALE}
    assert last >= hits and hits
    passed = dominators(graph, 0, VIOLATION)
    assert passed[0] == 0 and passed[-1] == VIOLATION
