"""From a path of the engine to a run of the text.

The engine's states are canonical and, in a slice, incomplete: they are a path's outline.
The run is found again by executing the text forward from the initial state and keeping,
at each step, the states whose outline is the path's.  A path of a slice may have no run;
then the slice was too coarse for it.

Most of these states differ in nothing but the names of their objects, and so does what comes
of them.  Only the first of such states is executed: its runs are as good as the others', and
come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from counterexamples.trace import TraceStep
from model.designs import Design
from model.kernel import STEPS
from shstk.engine import Engine
from shstk.outlook import Outlook
from shstk.replay import Successor, step_outcomes
from shstk.slices import Slice
from shstk.space import Space, Valuation

# States kept per step.  More than enough for every path seen; a path that needs more is
# taken for spurious, and the slice is refined.
WIDTH = 24


class Node:
    """A state of the run, and how it was reached."""

    def __init__(
        self, state: Valuation, previous: Node | None, successor: Successor | None
    ) -> None:
        self.state = state
        self.previous = previous
        self.successor = successor
        self._odd = previous.before() if previous is not None else 0
        if successor is not None:
            self._odd += successor.oddity

    def steps(self, space: Space) -> tuple[TraceStep, ...]:
        """The run up to here."""
        out: list[TraceStep] = []
        at: Node | None = self
        while at is not None and at.successor is not None:
            out.append(at.successor.traced(space))
            at = at.previous
        return tuple(reversed(out))

    def odd(self) -> int:
        """How special the choices on the way are, earlier violations above all."""
        return self._odd

    def before(self) -> int:
        """How odd what comes next is at least."""
        return self._odd + 100 * len(self.violations)

    @property
    def violations(self) -> tuple[str, ...]:
        """What the last step has violated."""
        return self.successor.violations if self.successor is not None else ()


class Level(NamedTuple):
    """What a step of a path has reached: of states that are alike the first, and all others."""

    nodes: list[Node]
    others: set[Valuation]


class Concretizer:
    """Finds runs for paths of one exploration.

    ``outlook``, if there is one, says which tasks' steps need not be executed.  With it, and with
    symmetry, states that are alike are not executed again.
    """

    def __init__(
        self,
        space: Space,
        design: Design,
        engine: Engine,
        slice_: Slice,
        symmetry: bool,
        switched_off: frozenset[str],
        outlook: Outlook | None = None,
    ) -> None:
        self.space = space
        self.design = design
        self.engine = engine
        self.slice = slice_
        self.symmetry = symmetry
        self.switched_off = switched_off
        self.outlook = outlook
        self._outcomes: dict[tuple[Valuation, int], list[Successor]] = {}
        self._outlines: dict[Valuation, Valuation] = {}
        self._prefixes: dict[int, list[Node]] = {}
        self._levels: dict[int, Level | None] = {}

    def run(
        self,
        state: int,
        last: tuple[int, Callable[[Successor], bool]] | None,
        reported: int = 0,
    ) -> tuple[TraceStep, ...] | None:
        """A run to the engine's ``state``, and then, if given, the action ``last`` with an
        outcome that is accepted.  None where there is no such run.

        ``reported``: claims about events of which an accepted outcome violates one.
        """
        nodes = self._reach(state)
        if last is None:
            return min(nodes, key=Node.odd).steps(self.space) if nodes else None
        action, accept = last

        def may(at: Valuation, task: int, step: int) -> bool:
            assert self.outlook is not None
            found = self.outlook.reports(at, task, step)
            return found is None or bool(found & reported)

        best: tuple[int, Node] | None = None
        for node in nodes:
            least = node.before()
            # The first of the least odd ones; no step makes a run less odd than it is.
            if best is not None and least >= best[0]:
                continue
            for reached in self._advance([node], action, may if reported else None):
                successor = reached.successor
                if successor is None or not accept(successor):
                    continue
                odd = least + successor.oddity
                if best is None or odd < best[0]:
                    best = odd, reached
        return best[1].steps(self.space) if best else None

    def final(
        self, state: int, accept: Callable[[Successor], bool]
    ) -> tuple[TraceStep, ...] | None:
        """A run to the engine's ``state`` whose last step is accepted."""
        nodes = [n for n in self._reach(state) if n.successor and accept(n.successor)]
        return min(nodes, key=Node.odd).steps(self.space) if nodes else None

    def _reach(self, state: int) -> list[Node]:
        """Runs to a state of the engine."""
        path = self.engine.path(state)
        level = self._level(path)
        return self._all(path) if level is None else level.nodes

    def _all(self, path: Sequence[tuple[int, int]]) -> list[Node]:
        """Runs along a path, to all states; prefixes are shared between calls."""
        at = len(path) - 1
        while at > 0 and path[at][1] not in self._prefixes:
            at -= 1
        if at == 0:
            self._prefixes[path[0][1]] = [Node(self.space.initial, None, None)]
        nodes = self._prefixes[path[at][1]]
        for leaf, target in path[at + 1 :]:
            ways = self._arrivals(nodes, self.engine.action(leaf), self.engine.state(target))
            nodes = sorted(_least_odd(ways).values(), key=Node.odd)[:WIDTH]
            self._prefixes[target] = nodes
        return nodes

    # -- states that are alike -----------------------------------------------------------
    def _level(self, path: Sequence[tuple[int, int]]) -> Level | None:
        """Runs along a path to the first ones of states that are alike.

        None: it takes all runs to know which states would be kept.
        """
        if self.outlook is None or not self.symmetry:
            return None
        at = len(path) - 1
        while at > 0 and path[at][1] not in self._levels:
            at -= 1
        if at == 0:
            self._levels[path[0][1]] = Level([Node(self.space.initial, None, None)], set())
        level = self._levels[path[at][1]]
        for leaf, target in path[at + 1 :]:
            if level is not None:
                action, outline = self.engine.action(leaf), self.engine.state(target)
                level = self._next(self.outlook, level, action, outline)
            self._levels[target] = level
        return level

    def _next(
        self, outlook: Outlook, level: Level, action: int, outline: Valuation
    ) -> Level | None:
        """One step further.

        What a state leads to, those that are like it lead to, under other names, as oddly.  So
        of all runs to states that are alike the first one comes from a first one, and no later
        one is better: if each state has equally odd ones, and none is left out for want of room.
        """
        first: dict[Valuation, Node] = {}
        states: set[Valuation] = set()
        for node in level.nodes:
            ways = self._arrivals([node], action, outline)
            best = _least_odd(ways)
            for way in ways:
                kept = best[way.state]
                known = first.setdefault(outlook.nameless(way.state), kept)
                if (known.odd(), known.violations) != (kept.odd(), kept.violations):
                    return None
                if way.odd() == kept.odd() and way.violations != kept.violations:
                    return None
            states.update(best)
        step = action // self.space.bound.tasks
        for state in level.others:
            for task in range(self.space.bound.tasks):
                found = outlook.leads(state, task, step)
                if found is None:
                    return None
                states.update(s for s in found if self._outline(s) == outline)
        if len(states) > WIDTH:
            return None
        nodes = sorted(first.values(), key=Node.odd)
        return Level(nodes, states - {node.state for node in nodes})

    # -- one step ------------------------------------------------------------------------
    def _arrivals(self, nodes: Sequence[Node], action: int, outline: Valuation) -> list[Node]:
        """Every way to take a step that leads to a state with this outline."""
        ways = self._advance(nodes, action, partial(self._may_reach, outline))
        return [node for node in ways if self._outline(node.state) == outline]

    def _may_reach(self, outline: Valuation, state: Valuation, task: int, step: int) -> bool:
        assert self.outlook is not None
        found = self.outlook.leads(state, task, step)
        return found is None or any(self._outline(after) == outline for after in found)

    def _advance(
        self,
        nodes: Sequence[Node],
        action: int,
        may: Callable[[Valuation, int, int], bool] | None = None,
    ) -> list[Node]:
        """Every way to take a step, by whichever task.

        ``may``, by state, task and step: by the tables, there is a way that is wanted.
        """
        step = action // self.space.bound.tasks
        return [
            Node(successor.after, node, successor)
            for node in nodes
            for successor in self._ways(node.state, step, may)
        ]

    def _ways(
        self, state: Valuation, step: int, may: Callable[[Valuation, int, int], bool] | None
    ) -> list[Successor]:
        if self.outlook is None:
            return self._successors(state, step)
        return [
            successor
            for task in range(self.space.bound.tasks)
            if may is None or may(state, task, step)
            for successor in self.outlook.outcomes(state, task, step)
        ]

    def _successors(self, state: Valuation, step: int) -> list[Successor]:
        """Every way to take a step, without an outlook."""
        key = (state, step)
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = [
                successor
                for task in range(self.space.bound.tasks)
                for successor in step_outcomes(
                    self.space, self.design, state, task, STEPS[step], self.switched_off
                )
            ]
        return known

    def _outline(self, state: Valuation) -> Valuation:
        known = self._outlines.get(state)
        if known is None:
            projected = self.slice.project(self.space, state)
            known = self.engine.canonical(projected) if self.symmetry else projected
            self._outlines[state] = known
        return known


def _least_odd(ways: Iterable[Node]) -> dict[Valuation, Node]:
    """The first of the least odd ways to each state."""
    out: dict[Valuation, Node] = {}
    for way in ways:
        if way.odd() < out.setdefault(way.state, way).odd():
            out[way.state] = way
    return out
