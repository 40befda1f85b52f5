"""Every program up to a length, breadth first, and what the claims say of its moves.

Programs are told apart by which abilities they use.  A state is a machine with what the
property remembers; it is expanded once for each set of abilities that it was reached with,
sets that contain another such set left out.  So the first violation that is found with a
set is a shortest one, and no smaller set has one up to that length.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import model.reference.protocols  # noqa: F401  (registers the operations)
from model.designs import Design
from properties.cpu import MACHINE_PROPERTIES
from shstk.alphabet import Letter
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


class Node(NamedTuple):
    """A place that a program has led to."""

    place: Place
    abilities: int
    program: int  # in _Search.programs


@dataclass(frozen=True)
class _Shared:
    """What searches have in common that go along, level by level; ``searches`` are all of them."""

    places: Places
    within: Within
    progress: Progress | None
    searches: list[_Search]


class _Search:
    """Of designs for which every line has led to the same until now.

    Where a line does not, those that it leads elsewhere go on with a search of their own.
    """

    def __init__(
        self,
        who: Asking,
        setting: Setting,
        start: Place,
        possible: tuple[int, ...],
        limits: Sequence[int],
        shared: _Shared,
    ) -> None:
        self.company = [who]
        self.shared = shared
        self.start = start, possible
        self.conjuncts = [c.name for c in shared.places.prop.conjuncts]
        mask = sum(1 << bit for bit in possible)
        self.found = Explored(setting, setting.opening(), mask, [0, 0, 0])
        self.limits = [*limits, *[limits[-1]] * len(setting.abilities)]  # by how many abilities
        numbered = [(0, letter) for letter in setting.base]
        for bit in possible:
            numbered += [(1 << bit, letter) for letter in setting.abilities[bit].letters]
        self.letters = [(bit, id(letter), letter) for bit, letter in numbered]
        self.programs: list[tuple[int, str]] = [(0, "")]  # the one it goes on, and its last line
        self.seen: dict[int, list[int]] = {}  # abilities, by ``Place.alike``
        self.count = 0  # of states
        self.closed: dict[int, bool] = {}  # by mask, as long as no violation is added
        self.open: dict[int, list[tuple[int, int, Letter]]] = {}  # letters, by mask, as long
        self.others: dict[frozenset[str], list[Asking]] = {}  # as long as the company stays
        self.level = 0
        self._is_new(start, 0)
        self.following = [Node(start, 0, 0)]
        # What is still to be tried on this level, the next ones last; lines are those of the
        # last node.
        self.nodes: list[Node] = []
        self.lines: list[tuple[int, str]] = []

    @property
    def design(self) -> Design:
        """The one that lines are executed for."""
        return self.company[0].whole

    def begin(self, level: int) -> None:
        """Next comes what is longer by one operation."""
        self.level = level
        self.nodes, self.following = self.following[::-1], []
        self.open.clear()

    def advance(self) -> None:
        """Try it; what is found is in ``found`` at any moment."""
        while self.nodes:
            node = self.nodes[-1]
            self.lines = self.lines or self._lines(node)
            while self.lines:
                bit, line = self.lines[-1]
                mask = node.abilities | bit
                if not self._is_closed(mask):
                    self._try(node, mask, line)
                self.lines.pop()
            self.nodes.pop()
        self.found.depths = [min(self.level, limit) for limit in self.limits[:3]]

    def _try(self, node: Node, mask: int, line: str) -> None:
        taken = self._take(node.place, line)
        if taken is None:
            return
        self.found.programs += 1
        if taken.reached:
            self._note(taken, mask, node, line)
        place = taken.place
        if self._is_new(place, mask):
            number = len(self.programs)
            self.programs.append((node.program, line))
            if self.level < self._limit(mask) and not place.over and not self._is_closed(mask):
                self.following.append(Node(place, mask, number))

    def _limit(self, abilities: int) -> int:
        return self.limits[abilities.bit_count()]

    def _lines(self, node: Node) -> list[tuple[int, str]]:
        """What is to be tried, the first one last, each with the ability that it takes."""
        if self.level > self._limit(node.abilities):
            return []
        letters = self.open.get(node.abilities)
        if letters is None:
            letters = self.open[node.abilities] = self._letters(node.abilities)
        lines = []
        for name in self.found.setting.tasks:
            thread = node.place.running(name)
            if thread is not None:
                for bit, number, letter in letters:
                    for line in node.place.offered(thread, number, letter):
                        lines.append((bit, line))
        return lines[::-1]

    def _letters(self, abilities: int) -> list[tuple[int, int, Letter]]:
        """Those that may go on a program with these abilities."""
        masks = [(abilities | letter[0], letter) for letter in self.letters]
        return [
            letter
            for mask, letter in masks
            if self.level <= self._limit(mask) and not self._is_closed(mask)
        ]

    def _is_closed(self, abilities: int) -> bool:
        """Every conjunct is violated without using more than these."""
        closed = self.closed.get(abilities)
        if closed is None:
            closed = all(self.found.violation(name, abilities) for name in self.conjuncts)
            self.closed[abilities] = closed
        return closed

    def _is_new(self, place: Place, abilities: int) -> bool:
        known = self.seen.get(place.alike)
        if known is None:
            self.seen[place.alike] = [abilities]
        else:
            for mask in known:
                if not mask & ~abilities:
                    return False
            known.append(abilities)
        self.found.states[abilities] += 1
        self.count += 1
        if self.shared.progress and self.count % REPORT_EVERY == 0:
            self.shared.progress(self._said())
        return True

    def _said(self) -> str:
        setting, found = self.found.setting, self.found
        what = f"{self.design.name}: {setting.property} {setting.protocol}".strip()
        return f"{what}: {self.count:,} states, all programs of {found.depths[0]} operations"

    def _note(self, taken: Taken, abilities: int, node: Node, line: str) -> None:
        found = self.found
        for name in taken.reached:
            found.reached.setdefault(name, set()).add(abilities)
        for name, words in taken.wrong.items():
            if found.violation(name, abilities) is None:
                program = (*self._program(node.program), line)
                found.violations.setdefault(name, []).append(Violation(abilities, program, words))
                self.closed.clear()
                self.open.clear()

    def _program(self, number: int) -> tuple[str, ...]:
        lines: list[str] = []
        while number:
            number, line = self.programs[number]
            lines.append(line)
        return tuple(reversed(lines))

    # -- together and apart --------------------------------------------------------------
    def _take(self, place: Place, line: str) -> Taken | None:
        """Where a line leads; designs that it leads elsewhere go on by themselves."""
        first = self.company[0]
        tried = self.shared.places.tried(first, place, line)
        if len(self.company) == 1:
            return tried.taken
        others = self.others.get(tried.names)
        if others is None:
            others = [who for who in self.company if who.given(tried.names) != tried.given]
            self.others[tried.names] = others
        while others:
            with self.shared.within(others[0].whole):
                other = self.shared.places.tried(others[0], place, line)
            like = [who for who in others if who.given(other.names) == other.given]
            others = [who for who in others if who not in like]
            if not _same(tried.taken, other.taken):
                self._part(like)
        return tried.taken

    def _part(self, company: list[Asking]) -> None:
        """From the line that is being tried, some designs have a search of their own."""
        other, found = copy(self), self.found
        other.company, other.others, other.open = company, {}, {}
        other.found = replace(
            found,
            violations={name: [*known] for name, known in found.violations.items()},
            reached={name: {*masks} for name, masks in found.reached.items()},
            states=found.states.copy(),
        )
        other.programs = [*self.programs]
        other.seen = {alike: [*masks] for alike, masks in self.seen.items()}
        other.closed = {**self.closed}
        other.following, other.nodes, other.lines = [*self.following], [*self.nodes], [*self.lines]
        # In this order: whenever Ctrl-C comes, each design is in some company.
        self.shared.searches.append(other)
        self.company, self.others = [who for who in self.company if who not in company], {}


def _same(one: Taken | None, other: Taken | None) -> bool:
    """Whoever goes on from there need not know which of them it was."""
    if one is None or other is None:
        return one is other
    if one.place.alike != other.place.alike or one.place.stage is not other.place.stage:
        return False
    return one.wrong == other.wrong and one.reached == other.reached


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
    collecting = gc.isenabled()
    gc.disable()  # machines have no cycles, and there are many
    try:
        return _explored(designs, setting, depth, progress, within)
    finally:
        if collecting:
            gc.enable()  # what it looks at next is only what is returned


def _explored(
    designs: Sequence[Design],
    setting: Setting,
    depth: int | None,
    progress: Progress | None,
    within: Within,
) -> list[Explored]:
    searches: list[_Search] = []
    shared = _Shared(Places(MACHINE_PROPERTIES[setting.property]), within, progress, searches)
    more = 0 if depth is None else depth - setting.depths[0]
    limits = [max(1, each + more) for each in setting.depths]
    asking = [Asking(design, alone=len(designs) == 1) for design in designs]
    for who in asking:
        design = who.whole
        with within(design):
            start = shared.places.after(who, setting.opening())
            stage = Stage(start.stage.system.copy(design), start.stage.names)
            possible = [bit for bit, a in enumerate(setting.abilities) if a.possible(stage)]
        begun = start, tuple(possible)
        search = next((s for s in searches if s.start == begun), None)
        if search is None:
            searches.append(_Search(who, setting, *begun, limits, shared))
        else:
            search.company.append(who)
    try:
        for level in range(1, limits[0] + 1):
            shared.places.forget(last=level == limits[0])
            for search in searches:
                search.begin(level)
            for search in searches:  # there may be more of them in the end
                with within(search.design):
                    search.advance()
        for search in searches:
            search.found.complete = True
    except KeyboardInterrupt:
        pass
    found = {id(who): s.found for s in searches for who in s.company}
    searches.clear()  # each of them has this list
    return [found[id(who)] for who in asking]
