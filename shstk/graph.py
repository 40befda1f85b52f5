"""The reachable graph of a small bound, for questions that are about its shape.

An explored program becomes a networkx graph: a node per state, an edge per action that
leads from one to another.  Not the store of the search: a graph of Python objects
takes far more room than the engine's states, so it is refused above a limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx

from model.kernel import STEPS
from shstk.engine import Engine, Result
from shstk.engine.program import Program, Values
from shstk.slices import WHOLE, Slice
from shstk.space import Space
from shstk.tables import REPORT

if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[int]
else:
    Graph = nx.MultiDiGraph

MAX_STATES = 200_000
VIOLATION = -1  # the node that every violation leads to


def showing(program: Program, claims: int) -> tuple[Program, frozenset[int]]:
    """The program with a leaf that fires at each violation of ``claims`` by a step.

    Such leaves, which are returned, change nothing.  (The engine itself records only the
    first violation by each action.)
    """
    leaves = list(program.leaves)
    found = set()
    for number, leaf in enumerate(leaves):
        if leaf.saturated == REPORT and leaf.violations & claims:
            leaves[number] = replace(leaf, saturated=0)
            found.add(number)
    return replace(program, leaves=tuple(leaves)), frozenset(found)


def reachable(
    engine: Engine,
    result: Result,
    space: Space,
    slice_: Slice = WHOLE,
    limit: int = MAX_STATES,
    violating: Collection[int] = (),
) -> Graph:
    """The graph of an exploration; ValueError above ``limit`` states.

    Nodes are the engine's state numbers, with ``depth``, ``state`` (what differs from an
    unused record, in words) and ``initial``.  Edges have the action's ``label`` ("vfork
    0"), its ``step`` and its ``task``; actions with several outcomes that lead to the same
    state are one edge.  With symmetry a task's number is that in the source's state, and
    may be another's in the target's.  The ``violating`` leaves lead to the node VIOLATION.
    """
    if result.states > limit:
        raise ValueError(
            f"{result.states:,} states are too many for a graph (at most {limit:,}): "
            "lower --tasks, --mms or --stacks, or leave out event families with --without"
        )
    tasks = space.bound.tasks
    graph = Graph(symmetry=result.symmetry, complete=result.complete)
    known: dict[tuple[Values, int], str] = {}
    depth = [level for level, count in enumerate(result.levels) for _ in range(count)]
    for state in range(result.states):
        words = describe(space, engine.state(state), slice_, known)
        graph.add_node(state, depth=depth[state], initial=depth[state] == 0, state=words)
    for source, leaf, target in engine.edges():
        if leaf in violating:
            target = VIOLATION
            graph.add_node(target, depth=-1, initial=False, state="violation")
        action = engine.action(leaf)
        step, task = STEPS[action // tasks].name, action % tasks
        label = f"{step} {task}"
        graph.add_edge(source, target, key=label, label=label, step=step, task=task)
    return graph


def describe(
    space: Space,
    values: Values,
    slice_: Slice = WHOLE,
    known: dict[tuple[Values, int], str] | None = None,
) -> str:
    """A state in words, record by record: every variable that is not at its initial value.

    Members of a class that a slice has merged are joined by ``|``; a variable that is
    merged altogether is left out.  ``known`` keeps the words of records between calls.
    """
    known = {} if known is None else known
    parts = []
    start = 0
    while start < len(space.cells):
        cell = space.cells[start]
        end = start
        while end < len(space.cells) and (
            space.cells[end].record is cell.record and space.cells[end].index == cell.index
        ):
            end += 1
        key = (tuple(values[start:end]), start)
        if key not in known:
            known[key] = " ".join(_words(space, values, slice_, range(start, end)))
        if known[key]:
            parts.append(f"{cell.name.rpartition('.')[0]}: {known[key]}")
        start = end
    return "; ".join(parts)


def _words(space: Space, values: Values, slice_: Slice, cells: Iterable[int]) -> Iterator[str]:
    """What is to be said of some cells."""
    for number in cells:
        cell, value = space.cells[number], values[number]
        classes = slice_.classes(cell.field)
        if value:
            members = [
                str(v.value if isinstance(v, Enum) else v)
                for i, v in enumerate(cell.domain)
                if (i if classes is None else classes[i]) == value
            ]
            yield f"{cell.field.name}={'|'.join(members)}"


# -- files -------------------------------------------------------------------------


def write_graphml(graph: Graph, path: Path) -> None:
    """Write the graph as GraphML."""
    nx.write_graphml(graph, path)


def write_dot(graph: Graph, path: Path) -> None:
    """Write the graph for Graphviz: nodes by number, edges by source, target and label."""
    path.write_text("".join(f"{line}\n" for line in _dot(graph)), encoding="utf-8")


def _dot(graph: Graph) -> Iterator[str]:
    yield "digraph reachable {"
    yield "  node [shape=box];"
    for node in sorted(graph):
        data = graph.nodes[node]
        shape = ", peripheries=2" if data.get("initial") else ""
        words = "; ".join(part for part in (str(node), data.get("state", "")) if part)
        yield f"  {node} [label={_quoted(words)}{shape}];"
    edges = ((s, t, label) for s in graph for t in graph.adj[s] for label in graph.adj[s][t])
    for source, target, label in sorted(edges):
        yield f"  {source} -> {target} [label={_quoted(label)}];"
    yield "}"


def _quoted(text: str) -> str:
    """A DOT string; the parts of a state are put on lines of their own."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("; ", "\\n") + '"'


# -- what every path has in common -------------------------------------------------


def dominators(graph: Graph, root: int, target: int) -> list[int]:
    """The states that every path from ``root`` to ``target`` passes through, both included.

    In the order in which they are passed; empty where there is no path.
    """
    above = nx.immediate_dominators(graph, root)
    if target != root and target not in above:
        return []
    chain = [target]
    while chain[-1] != root:
        chain.append(above[chain[-1]])
    return chain[::-1]


def unavoidable_steps(
    graph: Graph, initial: Collection[int], targets: Collection[int], by: str = "step"
) -> list[str]:
    """What every path from an initial state to a target does, in the order of a shortest path.

    ``by`` is the edges' attribute: "step" (whoever takes it), or "label" (that task, which
    says something only without symmetry).  Empty also where there is no path, or one
    without edges.
    """
    path = _path(graph, initial, targets, by, None)
    candidates = dict.fromkeys(path or ())  # what is on every path is on this one
    return [c for c in candidates if _path(graph, initial, targets, by, c) is None]


def _path(
    graph: Graph, initial: Collection[int], targets: Collection[int], by: str, without: str | None
) -> list[str] | None:
    """The edges' attributes along a shortest path that does without one; None: there is none."""
    wanted = set(targets)
    came: dict[int, tuple[int, str] | None] = {}
    queue: deque[int] = deque()
    for state in sorted(initial):
        came[state] = None
        queue.append(state)
    while queue:
        at = queue.popleft()
        if at in wanted:
            path: list[str] = []
            while (link := came[at]) is not None:
                at = link[0]
                path.append(link[1])
            return path[::-1]
        for target, edges in graph.adj[at].items():
            if target in came:
                continue
            for data in edges.values():
                if data[by] != without:
                    came[target] = (at, data[by])
                    queue.append(target)
                    break
    return None
