"""Brute force: the text run state by state, without tables, packing or symmetry.

States are tuples in a Python set, and every claim is evaluated as it is written.
What the machinery finds with decision tables has to be what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from model.designs import Design
from model.events import Event
from model.kernel import FAMILIES, STEPS, Step
from model.state import Sort, Task
from properties import EventConjunct, StateConjunct, TaskConjunct
from shstk.build import CLAIMS
from shstk.finite import Outcome, Run
from shstk.finite_terms import Decision
from shstk.running import runs, runs_step
from shstk.space import Space, Valuation


@dataclass
class Taken:
    """One way a step goes in a state: its successor (None: saturated), and what claims say."""

    step: Step
    task: int
    after: Valuation | None
    saturated: Sort | None
    violated: set[int]
    witnessed: set[int]


@dataclass
class Found:
    """All states within a depth, and for each claim the least depth it is violated at."""

    depth: dict[Valuation, int] = field(default_factory=dict)
    violated: dict[int, int] = field(default_factory=dict)
    witnessed: dict[int, int] = field(default_factory=dict)
    transitions: int = 0


def explore(
    space: Space, design: Design, families: Collection[str], max_depth: int | None = None
) -> Found:
    """Breadth first from the initial state; a step's claims count at its successor's depth."""
    found = Found({space.initial: 0})
    level, depth = [space.initial], 0
    while level:
        for state in level:
            _note(found, *judge(space, design, state), depth)
        if depth == max_depth:
            break
        depth += 1
        following = []
        for state in level:
            for taken in steps_from(space, design, state, families):
                _note(found, taken.violated, taken.witnessed, depth)
                if taken.after is None:
                    continue
                found.transitions += 1
                if taken.after not in found.depth:
                    found.depth[taken.after] = depth
                    following.append(taken.after)
        level = following
    return found


def _note(found: Found, violated: set[int], witnessed: set[int], depth: int) -> None:
    for bit in violated:
        found.violated.setdefault(bit, depth)
    for bit in witnessed:
        found.witnessed.setdefault(bit, depth)


def steps_from(
    space: Space, design: Design, state: Valuation, families: Collection[str]
) -> Iterator[Taken]:
    """Everything that can happen in a state, and be granted in it, with these families."""
    off = frozenset(FAMILIES) - frozenset(families)
    for task in range(space.bound.tasks):
        ctl = space.value(state, Task, task, "ctl")
        for step in STEPS:
            if step.family in families and ctl in step.at:
                yield from take(space, design, state, task, step, off)


def take(
    space: Space,
    design: Design,
    state: Valuation,
    task: int,
    step: Step,
    switched_off: frozenset[str] = frozenset(),
) -> Iterator[Taken]:
    """Every way one step of one task can go."""
    for outcome in runs_step(space, design, task, step, state, switched_off, _watch):
        assert outcome.status != "impossible", f"{step.name} dereferences NULL in {state}"
        if outcome.status == "disabled":
            continue
        after = None
        if outcome.saturated is None:
            values = list(state)
            for cell, (source, table) in outcome.updates.items():
                assert source is None, "an update of a given state is a constant"
                values[cell] = table[0]
            after = tuple(values)
        said = [f.question for f in outcome.findings if _can_be_yes(outcome, f.answers)]
        yield Taken(
            step,
            task,
            after,
            outcome.saturated,
            {q.bit for q in said if isinstance(q, Question) and not q.wanted},
            {q.bit for q in said if isinstance(q, Question) and q.wanted},
        )


@dataclass(frozen=True)
class Question:
    """Whether a claim's premise is true of an event, or else the claim itself false."""

    bit: int
    wanted: bool


def _watch(run: Run, event: Event) -> list[tuple[object, Callable[[], bool]]]:
    """Ask of an event every claim about its type."""
    out: list[tuple[object, Callable[[], bool]]] = []
    for bit, claim in enumerate(CLAIMS):
        c = claim.conjunct
        if isinstance(c, EventConjunct) and isinstance(event, c.event):
            for wanted, text in ((False, c.holds), (True, c.premise)):
                out.append((Question(bit, wanted), partial(_is, wanted, text, run, event)))
    return out


def _is(wanted: bool, claim: Callable[..., object], *arguments: object) -> bool:
    return bool(claim(*arguments)) == wanted


def _can_be_yes(outcome: Outcome, answers: list[tuple[list[Decision], bool | None]]) -> bool:
    """Some yes was said under choices that the rest of the run agrees with."""
    return any(said and _agree([*outcome.decisions, *taken]) for taken, said in answers)


def _agree(decisions: list[Decision]) -> bool:
    """Some value of every input is on the chosen side of each decision about it."""
    left: dict[int, int] = {}
    for source, mask, answer in decisions:
        assert source.kind == "input", "nothing of a given state is left to decide"
        every = (1 << len(source.labels)) - 1
        left[source.number] = left.get(source.number, every) & (mask if answer else every & ~mask)
    return all(left.values())


def judge(space: Space, design: Design, state: Valuation) -> tuple[set[int], set[int]]:
    """The claims about states that one violates, and those whose premise it makes true."""
    violated, witnessed = set(), set()
    for bit, claim in enumerate(CLAIMS):
        c = claim.conjunct
        if not isinstance(c, StateConjunct):
            continue
        tasks = range(space.bound.tasks) if isinstance(c, TaskConjunct) else range(1)
        each = isinstance(c, TaskConjunct)
        for task in tasks:
            if not value(space, design, state, task, c.holds, each):
                violated.add(bit)
            if value(space, design, state, task, c.premise, each):
                witnessed.add(bit)
    return violated, witnessed


def value(
    space: Space,
    design: Design,
    state: Valuation,
    task: int,
    claim: Callable[..., object],
    each: bool,
) -> bool:
    """A claim about a state, or about a task in it, evaluated as it is written."""
    answers: list[bool] = []

    def ask(k: Any) -> None:
        answers.append(bool(claim(k, k.current) if each else claim(k)))

    (outcome,) = runs(space, design, task, ask, state)
    assert outcome.status == "done", f"a claim dereferences NULL in {state}"
    return answers[0]
