"""From a path of the engine to a run of the text.

The engine's states are canonical and, in a slice, incomplete: they are a path's outline.
The run is found again by executing the text forward from the initial state and keeping,
at each step, the states whose outline is the path's.  A path of a slice may have no run;
then the slice was too coarse for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from counterexamples.trace import TraceStep
from model.designs import Design
from model.kernel import STEPS
from shstk.engine import Engine
from shstk.replay import Successor, step_outcomes
from shstk.slices import Slice
from shstk.space import Space, Valuation

# States kept per step.  More than enough for every path seen; a path that needs more is
# taken for spurious, and the slice is refined.
WIDTH = 24


@dataclass(frozen=True)
class Node:
    """A state of the run, and how it was reached."""

    state: Valuation
    previous: Node | None
    successor: Successor | None

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
        total, at = 0, self.previous
        if self.successor is not None:
            total += self.successor.oddity
        while at is not None and at.successor is not None:
            total += at.successor.oddity + 100 * len(at.successor.violations)
            at = at.previous
        return total


class Concretizer:
    """Finds runs for paths of one exploration."""

    def __init__(
        self,
        space: Space,
        design: Design,
        engine: Engine,
        slice_: Slice,
        symmetry: bool,
        switched_off: frozenset[str],
    ) -> None:
        self.space = space
        self.design = design
        self.engine = engine
        self.slice = slice_
        self.symmetry = symmetry
        self.switched_off = switched_off
        self._outcomes: dict[tuple[Valuation, int], list[Successor]] = {}
        self._outlines: dict[Valuation, Valuation] = {}
        self._prefixes: dict[int, list[Node]] = {}

    def run(
        self, state: int, last: tuple[int, Callable[[Successor], bool]] | None
    ) -> tuple[TraceStep, ...] | None:
        """A run to the engine's ``state``, and then, if given, the action ``last`` with an
        outcome that is accepted.  None where there is no such run."""
        nodes = self._reach(state)
        if last is not None:
            action, accept = last
            nodes = [n for n in self._advance(nodes, action) if n.successor and accept(n.successor)]
        if not nodes:
            return None
        return min(nodes, key=Node.odd).steps(self.space)

    def final(
        self, state: int, accept: Callable[[Successor], bool]
    ) -> tuple[TraceStep, ...] | None:
        """A run to the engine's ``state`` whose last step is accepted."""
        nodes = [n for n in self._reach(state) if n.successor and accept(n.successor)]
        return min(nodes, key=Node.odd).steps(self.space) if nodes else None

    def _reach(self, state: int) -> list[Node]:
        """Runs to a state of the engine; prefixes are shared between calls."""
        path = self.engine.path(state)
        at = len(path) - 1
        while at > 0 and path[at][1] not in self._prefixes:
            at -= 1
        if at == 0:
            self._prefixes[path[0][1]] = [Node(self.space.initial, None, None)]
        nodes = self._prefixes[path[at][1]]
        for leaf, target in path[at + 1 :]:
            outline = self.engine.state(target)
            action = self.engine.action(leaf)
            reached: dict[Valuation, Node] = {}
            for node in self._advance(nodes, action):
                if self._outline(node.state) == outline:
                    known = reached.get(node.state)
                    if known is None or node.odd() < known.odd():
                        reached[node.state] = node
            nodes = sorted(reached.values(), key=Node.odd)[:WIDTH]
            self._prefixes[target] = nodes
        return nodes

    def _advance(self, nodes: Sequence[Node], action: int) -> list[Node]:
        """Every way to take a step, by whichever task."""
        step = action // self.space.bound.tasks
        return [
            Node(successor.after, node, successor)
            for node in nodes
            for successor in self._successors(node.state, step)
        ]

    def _successors(self, state: Valuation, step: int) -> list[Successor]:
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
