"""Where lines lead to, found out once for all designs that give a line the same.

Designs differ in a few hooks, and most lines ask for none of these.  So a line is executed
where it was not executed before for a design that gives the same under all that it asks for.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass, field
from sys import intern
from typing import Any, NamedTuple, cast

from counterexamples.lines import Do
from model.designs import Design
from model.reference.machine import Listener, Machine, Move
from model.reference.system import System, Thread
from properties.machine import MachineProperty, Run, Tasks, look
from shstk.alphabet import Letter
from shstk.footprint import Observed, footprint
from shstk.stage import (
    Performed,
    Stage,
    boot,
    canonical_parts,
    is_over,
    perform,
    uncanonical,
)


class Judge:
    """Told of every move of a line, it asks a property's claims and keeps its memory.

    ``memory`` and ``tasks``: as they are before the line.
    """

    def __init__(self, prop: MachineProperty, memory: Hashable, tasks: Tasks) -> None:
        self.prop = prop
        self.memory = memory
        self.tasks = tasks
        self.wrong: dict[str, str] = {}  # in words, by conjunct
        self.reached: set[str] = set()  # conjuncts whose premise was true

    def listen(self, machine: Machine, line: Do, arguments: Mapping[str, Any]) -> Listener:
        """Who is told of the moves of a line."""
        before, told, index = self.tasks, len(machine.effects), 0

        def tell(machine: Machine, move: Move) -> None:
            nonlocal before, told, index
            after = look(machine.system)
            effects = tuple(machine.effects[told:])
            steps = tuple([name for name, _ in move.steps])
            self._judge(
                Run(
                    machine.system,
                    move.tid,
                    line.task,
                    line.operation,
                    arguments,
                    index,
                    before,
                    after,
                    effects,
                    steps,
                    self.memory,
                )
            )
            before, told, index = after, len(machine.effects), index + 1

        return tell

    def _judge(self, run: Run) -> None:
        for conjunct in self.prop.conjuncts:
            if conjunct.premise(run):
                self.reached.add(conjunct.name)
                words = conjunct.wrong(run)
                if words:
                    self.wrong.setdefault(conjunct.name, words)
        self.memory = self.prop.remember(run)


def play(design: Design, prop: MachineProperty, lines: tuple[str, ...]) -> tuple[Performed, Judge]:
    """Execute lines from the start, and who has judged them; ValueError where one cannot be.

    What is ``wrong`` and ``reached`` in the end is so in the last line, and the effects are
    its effects.
    """
    done = Performed(boot(design), ())
    judge = Judge(prop, frozenset(), done.stage.tasks)
    for line in lines:
        judge = Judge(prop, judge.memory, done.stage.tasks)
        after = perform(done.stage, line, judge.listen, to_the_end=True)
        if after is None:
            raise ValueError(f"{line!r} cannot be done")
        done = after
    return done, judge


class Asking:
    """A design that lines are executed for; ``alone``: there is nobody to share with."""

    def __init__(self, design: Design, alone: bool) -> None:
        self.whole = design
        self.alone = alone
        self._observed = Observed(design)
        self.design = design if alone else self._observed.design
        self._by_name: dict[str, str] = {}
        self._given: dict[frozenset[str], tuple[str, ...]] = {}

    def begin(self) -> None:
        """Nothing has been asked for."""
        self._observed.asked.clear()

    @property
    def asked(self) -> frozenset[str]:
        """The names asked for since."""
        return frozenset(self._observed.asked)

    def given(self, names: frozenset[str]) -> tuple[str, ...]:
        """What it gives under these names: equal only where that is the same."""
        known = self._given.get(names)
        if known is None:
            known = self._given[names] = tuple([self._one(name) for name in sorted(names)])
        return known

    def _one(self, name: str) -> str:
        if name not in self._by_name:
            self._by_name[name] = intern(footprint(self.whole, (name,)))
        return self._by_name[name]


class _Nobody:
    """The design of a machine that several have led to: between two lines nobody asks it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"what comes next must not depend on the design's {name}")


NOBODY = cast(Design, _Nobody())
NO_NAMES: frozenset[str] = frozenset()
NOWHERE = Stage(System(NOBODY), {})  # of a place that nobody goes on from


@dataclass(eq=False, slots=True)
class Place:
    """A stage with what a property remembers, and what lines have come to there.

    ``alike``: equal for two places that differ in nothing that can be told later.  ``over``:
    nobody will run user code any more.
    """

    stage: Stage
    memory: Hashable
    alike: int
    over: bool
    runs: dict[str, Thread | None] = field(default_factory=dict)
    offers: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    tried: dict[tuple[str, bool], list[Tried]] = field(default_factory=dict)

    def running(self, name: str) -> Thread | None:
        """The task of that name, if it can do something."""
        if name not in self.runs:
            thread = self.stage.thread(name)
            can = thread is not None and Machine(self.stage.system).can_run(thread)
            self.runs[name] = thread if can else None
        return self.runs[name]

    def offered(self, thread: Thread, number: int, letter: Letter) -> tuple[str, ...]:
        """The lines of a letter for a task; ``number`` tells letters apart."""
        lines = self.offers.get((thread.name, number))
        if lines is None:
            lines = self.offers[thread.name, number] = tuple(letter.lines(self.stage, thread))
        return lines


class Taken(NamedTuple):
    """What a line has led to; what is wrong with it, and the conjuncts whose premise was true."""

    place: Place
    wrong: Mapping[str, str]
    reached: Set[str]


class Tried(NamedTuple):
    """The names that a line has asked for, what was given, and what came of it.

    ``taken``: None where it cannot be done.
    """

    names: frozenset[str]
    given: tuple[str, ...]
    taken: Taken | None


class Places:
    """All that lines have led to since ``forget``."""

    def __init__(self, prop: MachineProperty) -> None:
        self.prop = prop
        self._last = False
        self._parts: dict[Hashable, int] = {}  # of states: most have most of them in common
        self._alike: dict[Hashable, int] = {}
        self._known: dict[Hashable, Place] = {}
        self._left: list[Place] = []  # what was known before

    def forget(self, last: bool) -> None:
        """A place that a line leads to from now on is a new one.

        ``last``: nobody will go on from there.
        """
        for place in self._left:
            place.tried.clear()  # a line of the opening may lead to where it began: a cycle
        self._left = list(self._known.values())
        self._known.clear()
        self._last = last

    def after(self, who: Asking, lines: tuple[str, ...]) -> Place:
        """Where lines lead from the start; ValueError where one cannot be done."""
        place = self._place(who, boot(who.design), frozenset())
        for line in lines:
            taken = self.tried(who, place, line, to_the_end=True).taken
            if taken is None:
                raise ValueError(f"{line!r} cannot be done")
            place = taken.place
        return place

    def tried(self, who: Asking, place: Place, line: str, to_the_end: bool = False) -> Tried:
        """What comes of a line."""
        if who.alone:
            return Tried(NO_NAMES, (), self._take(who, place, line, to_the_end))
        known = place.tried.get((line, to_the_end))
        if known is None:
            known = place.tried[line, to_the_end] = []
        for tried in known:
            if who.given(tried.names) == tried.given:
                return tried
        who.begin()
        taken = self._take(who, place, line, to_the_end)
        names = who.asked
        tried = Tried(names, who.given(names), taken)
        known.append(tried)
        return tried

    def _take(self, who: Asking, place: Place, line: str, to_the_end: bool) -> Taken | None:
        judge = Judge(self.prop, place.memory, place.stage.tasks)
        done = perform(place.stage, line, judge.listen, to_the_end, who.design)
        if done is None:
            return None
        return Taken(self._place(who, done.stage, judge.memory), judge.wrong, judge.reached)

    def _place(self, who: Asking, stage: Stage, memory: Hashable) -> Place:
        over = is_over(stage.system)
        numbers = self._parts
        key = [
            numbers.setdefault(part, len(numbers))
            for part in (*(() if over else canonical_parts(stage.system)), memory)
        ]
        alike = self._alike.setdefault(tuple(key), len(self._alike))
        left = NOWHERE if over or self._last else stage
        if who.alone or left is NOWHERE:
            return Place(left, memory, alike, over)
        whole = (
            alike,
            *[numbers.setdefault(part, len(numbers)) for part in uncanonical(stage)],
        )
        known = self._known.get(whole)
        if known is None:
            stage.system.design = NOBODY
            known = self._known[whole] = Place(left, memory, alike, over)
        return known
