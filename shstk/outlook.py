"""Where a step leads from a state: looked up in the tables, and by executing the text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from model.kernel import STEPS
from model.state import Sort, Task
from shstk.build import Tables
from shstk.engine import Engine
from shstk.engine.program import TRAP, Program
from shstk.replay import Successor, step_outcomes
from shstk.space import Valuation
from shstk.tables import Choice, Leaf, Test


class Outlook:
    """The steps of a design from given states, each looked up and executed once.

    The tables know sooner than the text which tasks have to be looked at: executing a step
    takes a hundred times as long as a walk through its trees.
    """

    def __init__(self, tables: Tables, switched_off: frozenset[str]) -> None:
        self.space = tables.space
        self.tables = tables
        self.switched_off = switched_off
        self._outcomes: dict[tuple[Valuation, int, int], list[Successor]] = {}
        self._leads: dict[tuple[Valuation, int, int], list[Valuation] | None] = {}
        self._nameless: dict[Valuation, Valuation] = {}
        self._swaps = [self._exchange(task) for task in range(self.space.bound.tasks)]

    def outcomes(self, state: Valuation, task: int, step: int) -> list[Successor]:
        """Every way the step can go, by the text."""
        key = state, task, step
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = step_outcomes(
                self.space, self.tables.design, state, task, STEPS[step], self.switched_off
            )
        return known

    def leads(self, state: Valuation, task: int, step: int) -> list[Valuation] | None:
        """The states that the step leads to, by the tables, and perhaps more: those that need
        what is switched off.  None: the tables do not say."""
        key = state, task, step
        if key not in self._leads:
            found = self._leaves(self.tables.steps, state, task, step)
            self._leads[key] = found and self._after(found[0], found[1], task)
        return self._leads[key]

    def reports(self, state: Valuation, task: int, step: int) -> int | None:
        """The claims about events that the step may violate (a mask), by the tables.

        None: they do not say.
        """
        found = self._leaves(self.tables.reports, state, task, step)
        if found is None:
            return None
        violated = 0
        for leaf in found[1]:
            violated |= leaf.violations
        return violated

    def nameless(self, state: Valuation) -> Valuation:
        """The same for all states that differ in the names of their objects only."""
        known = self._nameless.get(state)
        if known is None:
            known = self._nameless[state] = self._names.canonical(state)
        return known

    @cached_property
    def _names(self) -> Engine:
        """An engine without steps, for what it knows about names."""
        return Engine(Program(self.space.layout, (self.space.initial,), (), (), (), 0))

    def _leaves(
        self, trees: dict[str, int], state: Valuation, task: int, step: int
    ) -> tuple[Sequence[int], list[Leaf]] | None:
        """The leaves of a step's tree, and the state, as of task 0, that they are reached in."""
        root = trees.get(STEPS[step].name)
        if root is None:
            return None
        at = self._exchanged(state, task)
        nodes, out, stack = self.tables.forest.nodes, [], [root]
        while stack:
            number = stack.pop()
            if number == TRAP:
                return None
            if number < 0:
                continue
            node = nodes[number]
            if isinstance(node, Test):
                stack.append(node.children[at[node.cell]])
            elif isinstance(node, Choice):
                stack.extend(node.children)
            elif isinstance(node, Leaf):
                out.append(node)
        return at, out

    def _after(self, at: Sequence[int], leaves: Sequence[Leaf], task: int) -> list[Valuation]:
        out: dict[Valuation, None] = {}
        for leaf in leaves:
            if leaf.saturated:
                continue
            after = list(at)
            for cell, source, table in leaf.updates:
                after[cell] = table[0 if source is None else at[source]]
            out[tuple(self._exchanged(after, task))] = None
        return list(out)

    # -- tasks are interchangeable, and the trees are those of task 0 -----------------------
    def _exchange(self, task: int) -> list[tuple[int, list[int] | None]]:
        """For each cell: which one is in its place, and where its values are, if elsewhere."""
        out: list[tuple[int, list[int] | None]] = []
        for number, cell in enumerate(self.space.cells):
            place = number
            if cell.record is Task and cell.index[0] in (0, task):
                place = self.space.number(Task, (task - cell.index[0],), cell.field.name)
            values = None
            if cell.field.sort is Sort.TASK and task:
                values = list(range(len(cell.domain)))  # index 0 is NULL
                values[1], values[task + 1] = values[task + 1], values[1]
            out.append((place, values))
        return out

    def _exchanged(self, state: Sequence[int], task: int) -> Sequence[int]:
        """The state with tasks 0 and ``task`` exchanged."""
        if not task:
            return state
        return [
            state[place] if values is None else values[state[place]]
            for place, values in self._swaps[task]
        ]
