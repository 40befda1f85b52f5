"""Executing the text step by step on given states: successors, traces, and their replay."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from counterexamples.notes import note
from counterexamples.trace import Pick, Trace, TraceStep
from model.designs import Design
from model.events import Event, Unmapped
from model.kernel import STEPS, Step
from model.kernel.mmap import RLIMITS, STACK_SIZES, can_still_run
from model.state import Record, Sort, Task
from model.world import Cond, World
from properties import (
    PROPERTIES,
    Conjunct,
    EventConjunct,
    LivenessConjunct,
    StateConjunct,
    TaskConjunct,
)
from shstk.finite import Impossible, Outcome, Run
from shstk.finite_terms import FiniteTerm
from shstk.running import runs_step
from shstk.space import Space, Valuation
from shstk.views import extent, valuation, view

NONE_OFF: frozenset[str] = frozenset()
BY_NAME = {step.name: step for step in STEPS}


@dataclass(frozen=True)
class Successor:
    """One way a step can go, and what it violates for the first time."""

    task: int
    step: Step
    after: Valuation
    outcome: Outcome
    picks: dict[str, Pick]  # the arbitrary choices, by name
    notes: tuple[str, ...]
    violations: tuple[str, ...]

    @functools.cached_property
    def oddity(self) -> int:
        """How many of the choices are something special: an error, a size that was asked for."""
        usual = {"stack_size": STACK_SIZES[0], "RLIMIT_STACK": RLIMITS[0]}
        return sum(v is True or v != usual.get(n, v) for n, v in self.picks.items())

    def traced(self, space: Space) -> TraceStep:
        """As a step of a trace."""
        state = view(space, self.after)
        return TraceStep(self.task, self.step.name, self.picks, state, self.notes, self.violations)


def explicit_successors(
    space: Space,
    design: Design,
    before: Valuation,
    families: Collection[str],
    switched_off: frozenset[str] = NONE_OFF,
) -> Iterator[tuple[int, Step, Valuation, Outcome]]:
    """Everything that can happen in a state: by task, then by step, then by choices."""
    for task in range(space.bound.tasks):
        for step in STEPS:
            if step.family in families:
                for outcome in runs_step(
                    space, design, task, step, state=before, switched_off=switched_off
                ):
                    if outcome.status == "done":
                        yield task, step, _after(before, outcome), outcome


def step_outcomes(
    space: Space,
    design: Design,
    before: Valuation,
    task: int,
    step: Step,
    switched_off: frozenset[str] = NONE_OFF,
    wanted: Mapping[str, Pick] | None = None,
    fixed: Mapping[str, object] | None = None,
) -> list[Successor]:
    """Every way one step can go, with what happens inside it, judged as it happens.

    Only those where the choices are the ``wanted`` ones, as far as these say.  ``fixed``
    choices are given as values of the text, any number among them.
    """
    observer = _Observer(None)

    def watched(k: World) -> None:
        nonlocal observer
        if wanted:
            cast(Run, k).admits = functools.partial(_admits, wanted)
        observer = _Observer(k, wanted)
        step.run(cast(World, observer))

    successors = []
    for outcome in runs_step(
        space,
        design,
        task,
        dataclasses.replace(step, run=watched),
        state=before,
        switched_off=switched_off,
        fixed=fixed,
    ):
        if outcome.status != "done":
            continue
        # Settling the choices that nothing depended on is no part of the outcome.
        decisions = list(outcome.decisions)
        picks = observer.settle(wanted or {})
        if picks is None:
            continue
        events = [_settled(event) for event in outcome.events]
        outcome = dataclasses.replace(outcome, decisions=decisions, events=events)
        after = _after(before, outcome)
        violated = [claim for event in observer.seen for claim in event.violated]
        if failing := _failing(space, design, after):
            already = _failing(space, design, before)
            violated += [claim for claim in failing if claim not in already]
        notes = tuple(note for event in observer.seen if (note := event.note()))
        successors.append(
            Successor(task, step, after, outcome, picks, notes, tuple(dict.fromkeys(violated)))
        )
    return successors


def _admits(wanted: Mapping[str, Pick], name: str, value: object) -> bool:
    return name not in wanted or pick(value) == wanted[name]


def _settled(event: Event) -> Event:
    """An event with the values that it has in a run whose choices are all settled."""

    def settled(value: Any) -> Any:
        if isinstance(value, Record):
            return type(value)(value.world, *map(settled, value.index))
        if isinstance(value, FiniteTerm):
            return FiniteTerm(value.run, (None, (value.force(),)))
        return bool(value) if isinstance(value, Cond) else value

    return type(event)(**{name: settled(value) for name, value in vars(event).items()})


@dataclass(frozen=True)
class Move:
    """What is known of a step to be taken: the step, its task if known, choices, the rest."""

    step: str
    task: int | None = None
    picks: Mapping[str, Pick] = field(default_factory=dict)
    accept: Callable[[Successor], bool] = lambda _successor: True


def derive(
    space: Space,
    design: Design,
    path: Iterable[Move],
    switched_off: frozenset[str] = NONE_OFF,
) -> tuple[TraceStep, ...]:
    """The steps of a run from the initial state along ``path``.

    Of several successors that fit a move, the one with the fewest special choices is
    taken, then the first.
    """
    at = space.initial
    taken = []
    for number, move in enumerate(path, 1):
        tasks = range(space.bound.tasks) if move.task is None else (move.task,)
        step = BY_NAME[move.step]
        fitting = [
            successor
            for task in tasks
            for successor in step_outcomes(space, design, at, task, step, switched_off, move.picks)
            if move.accept(successor)
        ]
        if not fitting:
            raise ValueError(f"step {number}: {_who(move.task, step.name)} cannot go as wanted")
        best = min(fitting, key=lambda s: s.oddity)
        taken.append(best.traced(space))
        at = best.after
    return tuple(taken)


def drive(
    space: Space,
    design: Design,
    path: Iterable[tuple[str, int] | tuple[str, int, Mapping[str, Pick]]],
) -> tuple[TraceStep, ...]:
    """A run along named steps, for example ``[("enable", 0), ("vfork", 0, {"child": 1})]``."""
    return derive(space, design, [Move(*part) for part in path])


def shortest(
    space: Space,
    design: Design,
    claim: str,
    families: Collection[str],
    switched_off: frozenset[str] = NONE_OFF,
    depth: int = 12,
) -> tuple[TraceStep, ...]:
    """A shortest run to a violation, breadth first over explicit states; empty: none.

    The slow way, for small spaces: no tables and no symmetry.
    """
    paths: dict[Valuation, tuple[Move, ...]] = {space.initial: ()}
    frontier = [space.initial]
    for _ in range(depth):
        reached = []
        for at in frontier:
            for task in range(space.bound.tasks):
                for step in STEPS:
                    if step.family not in families:
                        continue
                    outcomes = step_outcomes(space, design, at, task, step, switched_off)
                    for s in sorted(outcomes, key=lambda s: s.oddity):
                        path = (*paths[at], Move(step.name, task, s.picks))
                        if claim in s.violations:
                            return derive(space, design, path, switched_off)
                        if s.after not in paths:
                            paths[s.after] = path
                            reached.append(s.after)
        frontier = reached
    return ()


def violation(
    space: Space,
    design: Design,
    claim: str,
    steps: Sequence[TraceStep],
    environment: str = "ordinary",
    loop: int | None = None,
) -> Trace:
    """The trace of a run that ends in the violation of ``claim`` (``property/conjunct``)."""
    conjunct = find_conjunct(claim)
    return Trace(
        design=design.name,
        property=claim.split("/")[0],
        conjunct=conjunct.name,
        where=conjunct.where,
        environment=environment,
        bound=extent(space),
        initial=view(space, space.initial),
        steps=tuple(steps),
        loop=loop,
    )


def find_conjunct(claim: str) -> Conjunct:
    """A conjunct by ``property/conjunct``; ValueError where there is none."""
    prop, _, name = claim.partition("/")
    if prop not in PROPERTIES:
        raise ValueError(f"there is no property {prop!r}")
    for conjunct in PROPERTIES[prop].conjuncts:
        if conjunct.name == name:
            return conjunct
    names = ", ".join(c.name for c in PROPERTIES[prop].conjuncts)
    raise ValueError(f"{prop} has no conjunct {name!r}: it has {names}")


# -- replay ------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplayResult:
    """Whether a trace is a run of the design that ends in its violation; if not, why."""

    reason: str  # empty: it is
    steps: tuple[TraceStep, ...]  # as executed now, up to the first that did not go

    def __bool__(self) -> bool:
        return not self.reason


Taken = dict[tuple[Valuation, Valuation, int, str, str], Successor]


def replay(trace: Trace, design: Design, space: Space, known: Taken | None = None) -> ReplayResult:
    """Execute each step of a trace again and judge its last step by the trace's conjunct.

    ``known`` are steps of other traces that were executed already: many begin alike.
    """
    known = {} if known is None else known
    steps: list[TraceStep] = []
    try:
        conjunct = find_conjunct(trace.claim)
        at = valuation(space, trace.initial)
        if at != space.initial:
            raise ValueError(f"the trace starts elsewhere: {_difference(space, space.initial, at)}")
        for number, step in enumerate(trace.steps, 1):
            label = f"step {number} ({_who(step.task, step.step)})"
            wanted = valuation(space, step.state)
            key = at, wanted, step.task, step.step, repr(sorted(step.picks.items()))
            taken = known.get(key)
            if taken is None:
                taken = known[key] = _retake(space, design, at, step, wanted, label)
            steps.append(dataclasses.replace(taken.traced(space), picks=step.picks))
            at = taken.after
        if isinstance(conjunct, LivenessConjunct):
            _check_lasso(space, design, trace, conjunct)
        elif not trace.steps or not _violates(space, design, at, conjunct, trace.claim, steps):
            raise ValueError(f"after step {len(steps)}: {trace.claim} is not violated there")
    except ValueError as error:
        return ReplayResult(str(error), tuple(steps))
    return ReplayResult("", tuple(steps))


def _retake(
    space: Space, design: Design, at: Valuation, step: TraceStep, wanted: Valuation, label: str
) -> Successor:
    """The successor that a trace's step describes."""
    if step.step not in BY_NAME:
        raise ValueError(f"{label}: there is no step of that name")
    if not 0 <= step.task < space.bound.tasks:
        raise ValueError(f"{label}: there is no such task")
    known = BY_NAME[step.step]
    possible = step_outcomes(space, design, at, step.task, known, wanted=step.picks)
    # The trace may come from a world where events were switched off: then they did not happen.
    chosen = [s for s in possible if not any(v for n, v in s.picks.items() if n not in step.picks)]
    if not chosen:
        if not possible and not _enabled(space, design, at, step.task, known):
            raise ValueError(f"{label}: the step cannot happen there")
        picks = ", ".join(f"{n}={v}" for n, v in sorted(step.picks.items()))
        raise ValueError(f"{label}: the step cannot happen there with the choices {picks or '{}'}")
    for successor in chosen:
        if successor.after == wanted:
            return successor
    differs = _difference(space, chosen[0].after, wanted)
    raise ValueError(f"{label}: the step leads elsewhere: {differs}")


def _violates(
    space: Space,
    design: Design,
    at: Valuation,
    conjunct: Conjunct,
    claim: str,
    steps: Sequence[TraceStep],
) -> bool:
    if isinstance(conjunct, StateConjunct):
        return _fails(Run(space, design, 0, (), at), conjunct)
    return claim in steps[-1].violations


def _check_lasso(space: Space, design: Design, trace: Trace, conjunct: LivenessConjunct) -> None:
    """The loop closes, is fair, and leaves one task's claim false for ever."""
    if trace.loop is None or not 0 <= trace.loop < len(trace.steps):
        raise ValueError(f"{trace.claim} speaks of endless runs, and the trace has no loop")
    states = [valuation(space, state) for state in trace.states[trace.loop :]]
    if states[0] != states[-1]:
        differs = _difference(space, states[0], states[-1])
        raise ValueError(f"the loop does not close at state {trace.loop}: {differs}")
    states.pop()
    looping = {(s.task, s.step) for s in trace.steps[trace.loop :]}
    fair = {step.name for step in STEPS if step.fair}
    stuck = False
    for task in range(space.bound.tasks):
        holds = _for_task(conjunct, task)
        stuck |= not any(_holds(space, design, state, holds) for state in states)
        if any(t == task and name in fair for t, name in looping):
            continue
        for step in STEPS:
            if step.fair and all(_enabled(space, design, v, task, step) for v in states):
                raise ValueError(
                    f"the loop is not fair: {_who(task, step.name)} can always happen, never does"
                )
    if not stuck:
        raise ValueError(f"{trace.claim} does not stay false for one task round the loop")


def _enabled(space: Space, design: Design, at: Valuation, task: int, step: Step) -> bool:
    return any(o.status == "done" for o in runs_step(space, design, task, step, state=at))


def _difference(space: Space, ours: Valuation, theirs: Valuation) -> str:
    """The first cell in which two valuations differ."""
    for cell, here, there in zip(space.cells, ours, theirs, strict=True):
        if here != there:
            return f"{cell.name} is {_show(cell.domain[here])}, not {_show(cell.domain[there])}"
    return "nothing"


def _who(task: int | None, name: str) -> str:
    return name if task is None else f"{name} by task {task}"


# -- judging -----------------------------------------------------------------------


def _after(before: Valuation, outcome: Outcome) -> Valuation:
    after = list(before)
    for cell, (source, table) in outcome.updates.items():
        assert source is None, "the state is given, so every update is a constant"
        after[cell] = table[0]
    return tuple(after)


def _holds(
    space: Space, design: Design, at: Valuation, claim: Callable[[Any], Cond | bool]
) -> bool:
    """A claim about a state."""
    return _answer(Run(space, design, 0, (), at), claim)


def _answer(run: Run, claim: Callable[[Any], Cond | bool]) -> bool:
    """A claim about the state of a run that has done nothing: there is nothing to decide."""
    try:
        answer = bool(claim(run))
    except Impossible:
        raise AssertionError("a claim follows a reference that is NULL") from None
    assert not run.decisions, "a claim about a given state makes no choice"
    return answer


def _for_task(conjunct: Conjunct, task: int) -> Callable[[Any], Cond | bool]:
    """A claim about every task, for one."""
    return lambda k: conjunct.holds(k, Task(k, k.const(task)))


def _fails(run: Run, conjunct: StateConjunct) -> bool:
    """A claim about states, or about every task in a state, is false."""
    if isinstance(conjunct, TaskConjunct):
        tasks = range(run.space.bound.tasks)
        return not all(_answer(run, _for_task(conjunct, task)) for task in tasks)
    return not _answer(run, conjunct.holds)


@functools.lru_cache(maxsize=50_000)
def _failing(space: Space, design: Design, at: Valuation) -> tuple[str, ...]:
    """The claims about states that are false in this one."""
    run = Run(space, design, 0, (), at)
    failing = tuple(
        f"{prop.id}/{conjunct.name}"
        for prop in PROPERTIES.values()
        for conjunct in prop.conjuncts
        if isinstance(conjunct, StateConjunct) and _fails(run, conjunct)
    )
    run.end()
    return failing


class _Observer:
    """The world of a step, looking at each event in the moment it happens."""

    def __init__(self, world: Any, wanted: Mapping[str, Pick] | None = None) -> None:
        self._world = world
        self._wanted = wanted or {}
        self.seen: list[_Seen] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def number(self, name: str, samples: Sequence[int]) -> Any:
        """A trace may have any number, not only a sample."""
        asked = self._wanted.get(name)
        given = type(asked) is int and 0 <= asked < 1 << 64
        return self._world.number(name, (asked,) if given else samples)

    def emit(self, event: Event) -> None:
        self._world.emit(event)
        self.seen.append(self._world.seen(event, lambda: _Seen(self._world, event)))

    def settle(self, wanted: Mapping[str, Pick]) -> dict[str, Pick] | None:
        """Every choice of the finished run, the first possible; None: not all that is wanted."""
        picks = {
            name: pick(FiniteTerm(self._world, (source, source.labels)).force())
            for name, source in dict(self._world.inputs).items()
        }
        return picks if wanted.keys() <= picks.keys() else None


def violated_by(world: Any, event: Event) -> list[str]:
    """The claims about an event that it violates, in the moment it happens, in any world."""
    kind: Any = type(event)
    return [name for name, conjunct in _about(kind) if not conjunct.holds(world, event)]


@functools.cache
def _about(kind: Any) -> list[tuple[str, EventConjunct]]:
    """The claims about events of a kind, by name."""
    return [
        (f"{prop.id}/{conjunct.name}", conjunct)
        for prop in PROPERTIES.values()
        for conjunct in prop.conjuncts
        if isinstance(conjunct, EventConjunct) and issubclass(kind, conjunct.event)
    ]


class _Seen:
    """An event, the claims about events it violates, and what else was so just then."""

    def __init__(self, world: Any, event: Event) -> None:
        self.event = event
        self.on_it: list[tuple[int, Cond]] = []
        if isinstance(event, Unmapped):
            for number in range(world.space.bound.tasks):
                t = Task(world, world.const(number))
                on_it = (t != event.task) & (t.mm == event.mm) & (t.ssp == event.addr)
                self.on_it.append((number, on_it & can_still_run(t)))
        self.violated = violated_by(world, event)

    def note(self) -> str:
        """What happened, in words, objects by number; empty where the step itself says it."""
        there = [f"task{number}" for number, on_it in self.on_it if on_it]
        return note(self.event, _show, _plain, there)


SORT_NAMES = {Sort.TASK: "task", Sort.GROUP: "group", Sort.MM: "mm", Sort.ADDR: "address"}


def _plain(value: object) -> object:
    """A value of the finite world as Python has it."""
    if isinstance(value, Record):
        return _plain(value.index[0])
    return value.force() if isinstance(value, FiniteTerm) else value


def _show(value: object) -> str:
    plain = _plain(value)
    if isinstance(value, Record) and value.sort and isinstance(plain, int):
        return f"{SORT_NAMES[value.sort]}{plain}"
    return str(plain.value if isinstance(plain, Enum) else plain)


def pick(value: object) -> Pick:
    """A choice as traces record it: by its words where it is not a number."""
    if isinstance(value, (bool, int, str)):
        return value
    return str(value.value if isinstance(value, Enum) else value)
