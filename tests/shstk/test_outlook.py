"""What the tables say of a step from a given state is what executing it gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from model.designs import Design
from model.kernel import STEPS
from model.state import Task
from properties import EventConjunct
from shstk.build import CLAIMS, Tables
from shstk.factoring import Factoring
from shstk.outlook import Outlook
from shstk.space import Bound, Valuation
from shstk.tables import Choice, Forest, apply

BOUNDS = [Bound(3, 1, 1), Bound(2, 2, 2)]
DEADLY = frozenset({"exit", "exit-group", "sigkill", "exec", "exec-failure", "fault"})

TablesOf = Callable[[Design, Bound], Tables]


def states(outlook: Outlook, chance: random.Random, length: int) -> Iterator[Valuation]:
    """The states of a run in which few tasks die."""
    state = outlook.space.initial
    for _ in range(length):
        yield state
        ways = [
            successor
            for task in range(outlook.space.bound.tasks)
            for number, step in enumerate(STEPS)
            if outlook.space.value(state, Task, task, "ctl") in step.at
            if step.family not in DEADLY or chance.random() < 0.05
            for successor in outlook.outcomes(state, task, number)
        ]
        if not ways:
            return
        state = chance.choice(ways).after


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_the_tables_know_where_a_step_leads(
    tables_of: TablesOf, design: Design, bound: Bound
) -> None:
    """Whoever's step it is, it leads where the text does, and violates the same claims."""
    outlook = Outlook(tables_of(design, bound), frozenset())
    about_events = {
        c.name: 1 << bit for bit, c in enumerate(CLAIMS) if isinstance(c.conjunct, EventConjunct)
    }
    for state in states(outlook, random.Random(3), 12):
        for task in range(bound.tasks):
            for number in range(len(STEPS)):
                found = outlook.outcomes(state, task, number)
                said = {about_events.get(name, 0) for s in found for name in s.violations}
                assert set(outlook.leads(state, task, number) or ()) == {s.after for s in found}
                reported = outlook.reports(state, task, number)
                assert reported is not None
                # An attempt that finds no room in the bound is reported, and is no step.
                assert not sum(said) & ~reported


def test_what_is_switched_off_only_takes_away(tables_of: TablesOf, design: Design) -> None:
    """Without an event family a step leads to fewer states, all of which the tables know."""
    tables = tables_of(design, Bound(2, 1, 1))
    outlook = Outlook(tables, frozenset({"alloc-failure"}))
    for state in states(outlook, random.Random(5), 12):
        for number in range(len(STEPS)):
            after = {s.after for s in outlook.outcomes(state, 0, number)}
            assert after <= set(outlook.leads(state, 0, number) or ())


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_factoring_changes_nothing_that_fires(
    tables_of: TablesOf, design: Design, depth: int
) -> None:
    """With shared tests on top the same leaves are reached, in the same order and as often."""
    tables = tables_of(design, Bound(2, 2, 2))
    outlook = Outlook(tables, frozenset())
    forest = Forest(tables.forest)
    for trees in (tables.steps, tables.reports):
        plain = forest.raw(Choice(tuple(trees.values())))
        factored = Factoring(forest, depth).choice(tuple(trees.values()))
        for state in states(outlook, random.Random(7), 12):
            wanted = [leaf for leaf, _ in apply(forest, plain, state)]
            assert [leaf for leaf, _ in apply(forest, factored, state)] == wanted


def test_factoring_makes_a_test_once(tables_of: TablesOf, design: Design) -> None:
    """A choice of trees that begin with the same test is one test."""
    tables = tables_of(design, Bound(2, 1, 1))
    forest = Forest(tables.forest)
    ctl = tables.space.number(Task, (0,), "ctl")
    node = forest.nodes[Factoring(forest).choice(tuple(tables.steps.values()))]
    assert getattr(node, "cell", None) == ctl
