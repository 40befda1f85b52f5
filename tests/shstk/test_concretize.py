"""From a path of the engine to a run of the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from counterexamples.trace import TraceStep
from model.designs import Design
from model.kernel import STEPS
from shstk.build import CLAIMS, ORDINARY, Request, Tables, program
from shstk.concretize import Concretizer, Level, Node
from shstk.engine import Engine, Hit
from shstk.outlook import Outlook
from shstk.replay import Successor
from shstk.slices import DETAILS, Slice
from shstk.space import Bound, Valuation

TablesOf = Callable[[Design, Bound], Tables]
SLICE = Slice(DETAILS)


class Everything(Concretizer):
    """Executes every state, whatever it is like."""

    def _level(self, path: Sequence[tuple[int, int]]) -> Level | None:
        return None


def run_to(finder: Concretizer, hit: Hit) -> tuple[TraceStep, ...] | None:
    """The run to a violation, as ``check`` looks for it."""

    def accept(successor: Successor) -> bool:
        return CLAIMS[hit.violation].name in successor.violations

    if hit.kind == "state":
        return finder.final(hit.state, accept)
    return finder.run(hit.state, (hit.action, accept), 1 << hit.violation)


class Asked:
    """A design explored at a bound, and how often a step was executed to find runs."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.engine = Engine(program(tables, Request(ORDINARY, slice=SLICE)))
        self.hits = self.engine.explore(symmetry=True).hits
        self.executed: list[int] = []

    def runs(self, kind: type[Concretizer]) -> dict[tuple[int, int], object]:
        """The run to each violation by task 0."""
        space, design = self.tables.space, self.tables.design
        outlook = Outlook(self.tables, frozenset())
        finder = kind(space, design, self.engine, SLICE, True, frozenset(), outlook)
        hits = {at: hit for at, hit in self.hits.items() if at[1] % space.bound.tasks == 0}
        found: dict[tuple[int, int], object] = {at: run_to(finder, hits[at]) for at in sorted(hits)}
        self.executed.append(len(outlook._outcomes))
        return found


@pytest.mark.parametrize("bound", [Bound(3, 1, 1), Bound(2, 2, 2)], ids=str)
def test_states_that_are_alike_need_not_all_be_executed(
    tables_of: TablesOf, design: Design, bound: Bound
) -> None:
    """The run to every violation is the one that is found among all states, with less work."""
    asked = Asked(tables_of(design, bound))
    found = asked.runs(Concretizer)
    assert found == asked.runs(Everything)
    assert sum(run is not None for run in found.values()) > 10
    assert asked.executed[0] < 0.7 * asked.executed[1]


class Arrivals(Concretizer):
    """A concretizer that is told where a step leads."""

    ways: Sequence[Node]

    def _arrivals(self, nodes: Sequence[Node], action: int, outline: Valuation) -> list[Node]:
        return list(self.ways)

    def told(self, *ways: tuple[Valuation, int, tuple[str, ...]]) -> Level | None:
        """What is left of these ways: a state, how odd the step is, and what it violates."""
        assert self.outlook is not None
        start = Node(self.space.initial, None, None)
        self.ways = [
            Node(state, start, cast(Successor, SimpleNamespace(oddity=odd, violations=violated)))
            for state, odd, violated in ways
        ]
        return self._next(self.outlook, Level([start], set()), 0, self.space.initial)


def test_only_equally_odd_states_are_alike(
    tables_of: TablesOf, design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all states where those that differ in names are not all reached the same way, or
    where there is no room for all."""
    tables = tables_of(design, Bound(3, 1, 1))
    outlook, engine = Outlook(tables, frozenset()), Engine(program(tables, Request(ORDINARY)))
    finder = Arrivals(tables.space, design, engine, SLICE, True, frozenset(), outlook)
    after = by_name(outlook)
    one, other = next(
        (a, b)
        for a in after
        for b in after
        if a != b and outlook.nameless(a) == outlook.nameless(b)
    )

    level = finder.told((one, 1, ()), (other, 1, ()), (one, 2, ("worse",)), (other, 3, ()))
    assert level is not None
    assert [(n.state, n.odd()) for n in level.nodes] == [(one, 1)] and level.others == {other}
    assert finder.told((one, 1, ()), (other, 2, ())) is None
    assert finder.told((one, 1, ()), (other, 1, ("worse",))) is None
    assert finder.told((one, 1, ()), (one, 1, ("worse",))) is None
    monkeypatch.setattr("shstk.concretize.WIDTH", 1)
    assert finder.told((one, 1, ()), (other, 1, ())) is None


def test_renamed_states_are_alike(tables_of: TablesOf, design: Design) -> None:
    """States that a clone leads to differ in more than the names of their objects, and in those."""
    outlook = Outlook(tables_of(design, Bound(3, 1, 1)), frozenset())
    after = by_name(outlook)
    assert len(set(after)) > len({outlook.nameless(state) for state in after}) > 1


def by_name(outlook: Outlook) -> list[Valuation]:
    """Where creating a thread leads, whatever it is called."""
    number = next(n for n, step in enumerate(STEPS) if step.name == "clone_thread")
    return [s.after for s in outlook.outcomes(outlook.space.initial, 0, number)]
