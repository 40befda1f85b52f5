"""Every program up to a length, breadth first, and what the claims say of its moves.

Programs are told apart by which abilities they use.  A state is a machine with what the
property remembers; it is expanded once for each set of abilities that it was reached with,
sets that contain another such set left out.  So the first violation that is found with a
set is a shortest one, and no smaller set has one up to that length.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import model.reference.protocols  # noqa: F401  (registers the operations)
from model.designs import Design
from properties.cpu import MACHINE_PROPERTIES
from shstk.places import Asking, Place, Places, Taken
from shstk.settings import Setting
from shstk.stage import Stage

Progress = Callable[[str], None]
Within = Callable[[Design], AbstractContextManager[None]]
REPORT_EVERY = 500  # states between two reports of progress


@dataclass(frozen=True)
class Violation:
    """A shortest program that violates a conjunct, what is wrong with it, and its abilities."""

    abilities: int  # mask
    program: tuple[str, ...]  # after the prelude
    words: str


@dataclass
class Explored:
    """What was found out about a setting.  Sets of abilities are masks, bit i is ability i."""

    setting: Setting
    opening: tuple[str, ...]
    possible: int  # abilities that the design has
    depths: list[int]  # all programs tried up to so many operations: no, one, several abilities
    violations: dict[str, list[Violation]] = field(default_factory=dict)  # by conjunct, minimal
    reached: dict[str, set[int]] = field(default_factory=dict)  # premises, by conjunct
    states: Counter[int] = field(default_factory=Counter)
    programs: int = 0  # operations tried
    complete: bool = False

    def depth(self, abilities: int) -> int:
        """How many operations were tried with these abilities."""
        return self.depths[min(abilities.bit_count(), 2)]

    def violation(self, conjunct: str, abilities: int) -> Violation | None:
        """The shortest with no other abilities than these."""
        known = self.violations.get(conjunct, ())
        fitting = [v for v in known if not v.abilities & ~abilities]
        return min(fitting, key=lambda v: len(v.program), default=None)

    def was_reached(self, conjunct: str, abilities: int) -> bool:
        """A program with no other abilities makes the premise true."""
        return any(not mask & ~abilities for mask in self.reached.get(conjunct, ()))

    def states_with(self, abilities: int) -> int:
        """States that programs with no other abilities reach."""
        return sum(n for mask, n in self.states.items() if not mask & ~abilities)


@dataclass(frozen=True, slots=True)
class Node:
    """A place that a program has led to."""

    place: Place
    abilities: int
    program: int  # in _Search.programs


class _Search:
    """Of one design; others may go along, level by level, and share the places."""

    def __init__(
        self,
        design: Design,
        setting: Setting,
        depth: int | None,
        progress: Progress | None,
        places: Places,
        alone: bool,
    ) -> None:
        self.conjuncts = [c.name for c in places.prop.conjuncts]
        self.design, self.progress = design, progress
        self.places, self.who = places, Asking(design, alone)
        opening = setting.opening()
        start = Node(places.after(self.who, opening), 0, 0)
        stage = start.place.stage
        stage = Stage(stage.system.copy(design), stage.names)
        possible = [bit for bit, a in enumerate(setting.abilities) if a.possible(stage)]
        mask = sum(1 << bit for bit in possible)
        self.found = Explored(setting, opening, mask, [0, 0, 0])
        more = 0 if depth is None else depth - setting.depths[0]
        self.limits = [max(1, each + more) for each in setting.depths]
        numbered = [(0, letter) for letter in setting.base]
        for bit in possible:
            numbered += [(1 << bit, letter) for letter in setting.abilities[bit].letters]
        self.letters = [(bit, id(letter), letter) for bit, letter in numbered]
        self.programs: list[tuple[int, str]] = [(0, "")]  # the one it goes on, and its last line
        self.seen: dict[int, list[int]] = {}  # abilities, by ``Place.alike``
        self.closed: dict[int, bool] = {}  # by mask, as long as no violation is added
        self._is_new(start)
        self.frontier = [start]

    def advance(self, level: int) -> None:
        """Try what is longer by one operation; what is found is in ``found`` at any moment."""
        self.frontier = [node for node in self.frontier for node in self._expand(node, level)]
        self.found.depths = [min(level, limit) for limit in self.limits]

    def _expand(self, node: Node, level: int) -> Iterator[Node]:
        if level > self._limit(node.abilities):
            return
        for bit, line in self._lines(node, level):
            mask = node.abilities | bit
            if self._is_closed(mask):
                continue
            taken = self.places.take(self.who, node.place, line)
            if taken is None:
                continue
            self.found.programs += 1
            self._note(taken, mask, node, line)
            new = Node(taken.place, mask, len(self.programs))
            if self._is_new(new):
                self.programs.append((node.program, line))
                if level < self._limit(mask) and not taken.place.over and not self._is_closed(mask):
                    yield new

    def _limit(self, abilities: int) -> int:
        return self.limits[min(abilities.bit_count(), 2)]

    def _lines(self, node: Node, level: int) -> Iterator[tuple[int, str]]:
        """What is to be tried next, with the ability that it takes."""
        for name in self.found.setting.tasks:
            thread = node.place.running(name)
            if thread is not None:
                for bit, number, letter in self.letters:
                    mask = node.abilities | bit
                    if level <= self._limit(mask) and not self._is_closed(mask):
                        for line in node.place.offered(thread, number, letter):
                            yield bit, line

    def _is_closed(self, abilities: int) -> bool:
        """Every conjunct is violated without using more than these."""
        closed = self.closed.get(abilities)
        if closed is None:
            closed = all(self.found.violation(name, abilities) for name in self.conjuncts)
            self.closed[abilities] = closed
        return closed

    def _is_new(self, node: Node) -> bool:
        known = self.seen.setdefault(node.place.alike, [])
        if any(not mask & ~node.abilities for mask in known):
            return False
        known.append(node.abilities)
        self.found.states[node.abilities] += 1
        if self.progress and sum(self.found.states.values()) % REPORT_EVERY == 0:
            self.progress(self._said())
        return True

    def _said(self) -> str:
        setting, found = self.found.setting, self.found
        what = f"{self.design.name}: {setting.property} {setting.protocol}".strip()
        states = sum(found.states.values())
        return f"{what}: {states:,} states, all programs of {found.depths[0]} operations"

    def _note(self, taken: Taken, abilities: int, node: Node, line: str) -> None:
        found = self.found
        for name in taken.reached:
            found.reached.setdefault(name, set()).add(abilities)
        for name, words in taken.wrong.items():
            if found.violation(name, abilities) is None:
                program = (*self._program(node.program), line)
                found.violations.setdefault(name, []).append(Violation(abilities, program, words))
                self.closed.clear()

    def _program(self, number: int) -> tuple[str, ...]:
        lines: list[str] = []
        while number:
            number, line = self.programs[number]
            lines.append(line)
        return tuple(reversed(lines))


def explore(
    design: Design,
    setting: Setting,
    depth: int | None = None,
    progress: Progress | None = None,
) -> Explored:
    """Try all programs of a setting.

    ``depth``: how many operations without abilities, None: the setting's own number; with
    abilities it changes by as much.  Ctrl-C ends it early: ``complete`` is false then, and
    ``depths`` what was done.
    """
    return explore_all((design,), setting, depth, progress)[0]


def anywhere(_design: Design) -> AbstractContextManager[None]:
    """No context: what a design's text raises is raised."""
    return nullcontext()


def explore_all(
    designs: Sequence[Design],
    setting: Setting,
    depth: int | None = None,
    progress: Progress | None = None,
    within: Within = anywhere,
) -> list[Explored]:
    """The same for several designs, each operation once for all that give it the same.

    ``within``: what a design's text is executed in.
    """
    places = Places(MACHINE_PROPERTIES[setting.property])
    searches: list[_Search] = []
    collecting = gc.isenabled()
    gc.disable()  # machines have no cycles, and there are many
    try:
        for design in designs:
            with within(design):
                alone = len(designs) == 1
                searches.append(_Search(design, setting, depth, progress, places, alone))
        try:
            deepest = searches[0].limits[0]
            for level in range(1, deepest + 1):
                places.forget(last=level == deepest)
                for search in searches:
                    with within(search.design):
                        search.advance(level)
        except KeyboardInterrupt:
            return [search.found for search in searches]
    finally:
        if collecting:
            gc.enable()
    for search in searches:
        search.found.complete = True
    return [search.found for search in searches]
