"""Every program up to a length, breadth first, and what the claims say of its moves.

Programs are told apart by which abilities they use.  A state is a machine with what the
property remembers; it is expanded once for each set of abilities that it was reached with,
sets that contain another such set left out.  So the first violation that is found with a
set is a shortest one, and no smaller set has one up to that length.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import model.reference.protocols  # noqa: F401  (registers the operations)
from counterexamples.lines import Do
from model.designs import Design
from model.reference.machine import Listener, Machine, Move
from properties.cpu import MACHINE_PROPERTIES
from properties.machine import MachineProperty, Run, Tasks, look
from shstk.alphabet import Letter
from shstk.settings import Setting
from shstk.stage import Performed, Stage, boot, canonical, is_over, perform

Progress = Callable[[str], None]
REPORT_EVERY = 500  # states between two reports of progress


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


@dataclass(frozen=True)
class Node:
    """A machine that a program has led to; ``parent`` and ``line``: how."""

    stage: Stage
    memory: Hashable
    abilities: int
    program: int  # in _Search.programs


class _Search:
    def __init__(
        self, design: Design, setting: Setting, depth: int | None, progress: Progress | None
    ) -> None:
        self.prop = MACHINE_PROPERTIES[setting.property]
        self.conjuncts = [c.name for c in self.prop.conjuncts]
        self.design, self.progress = design.name, progress
        opening = setting.opening()
        done, judge = play(design, self.prop, opening)
        self.start = Node(done.stage, judge.memory, 0, 0)
        possible = [bit for bit, a in enumerate(setting.abilities) if a.possible(done.stage)]
        mask = sum(1 << bit for bit in possible)
        self.found = Explored(setting, opening, mask, [0, 0, 0])
        more = 0 if depth is None else depth - setting.depths[0]
        self.limits = [max(1, each + more) for each in setting.depths]
        self.letters: list[tuple[int, Letter]] = [(0, letter) for letter in setting.base]
        for bit in possible:
            self.letters += [(1 << bit, letter) for letter in setting.abilities[bit].letters]
        self.programs: list[tuple[int, str]] = [(0, "")]  # the one it goes on, and its last line
        self.seen: dict[tuple[Any, Hashable], list[int]] = {}
        self.closed: dict[int, bool] = {}  # by mask, as long as no violation is added
        self._is_new(self.start)

    def run(self) -> None:
        """Explore; what is found is in ``found`` also when it is interrupted."""
        frontier = [self.start]
        for level in range(1, self.limits[0] + 1):
            frontier = [node for node in frontier for node in self._expand(node, level)]
            self.found.depths = [min(level, limit) for limit in self.limits]
        self.found.complete = True

    def _expand(self, node: Node, level: int) -> Iterator[Node]:
        if level > self._limit(node.abilities):
            return
        for bit, line in self._lines(node, level):
            mask = node.abilities | bit
            if self._is_closed(mask):
                continue
            judge = Judge(self.prop, node.memory, node.stage.tasks)
            done = perform(node.stage, line, judge.listen)
            if done is None:
                continue
            self.found.programs += 1
            self._note(judge, mask, node, line)
            new = Node(done.stage, judge.memory, mask, len(self.programs))
            if self._is_new(new):
                self.programs.append((node.program, line))
                if not self._is_closed(mask) and not is_over(done.stage.system):
                    yield new

    def _limit(self, abilities: int) -> int:
        return self.limits[min(abilities.bit_count(), 2)]

    def _lines(self, node: Node, level: int) -> Iterator[tuple[int, str]]:
        """What is to be tried next, with the ability that it takes."""
        machine = Machine(node.stage.system)
        for name in self.found.setting.tasks:
            thread = node.stage.thread(name)
            if thread is not None and machine.can_run(thread):
                for bit, letter in self.letters:
                    mask = node.abilities | bit
                    if level <= self._limit(mask) and not self._is_closed(mask):
                        for line in letter.lines(node.stage, thread):
                            yield bit, line

    def _is_closed(self, abilities: int) -> bool:
        """Every conjunct is violated without using more than these."""
        closed = self.closed.get(abilities)
        if closed is None:
            closed = all(self.found.violation(name, abilities) for name in self.conjuncts)
            self.closed[abilities] = closed
        return closed

    def _is_new(self, node: Node) -> bool:
        key = canonical(node.stage.system), node.memory
        known = self.seen.setdefault(key, [])
        if any(not mask & ~node.abilities for mask in known):
            return False
        known.append(node.abilities)
        self.found.states[node.abilities] += 1
        if self.progress and sum(self.found.states.values()) % REPORT_EVERY == 0:
            self.progress(self._said())
        return True

    def _said(self) -> str:
        setting, found = self.found.setting, self.found
        what = f"{self.design}: {setting.property} {setting.protocol}".strip()
        states = sum(found.states.values())
        return f"{what}: {states:,} states, all programs of {found.depths[0]} operations"

    def _note(self, judge: Judge, abilities: int, node: Node, line: str) -> None:
        found = self.found
        for name in judge.reached:
            found.reached.setdefault(name, set()).add(abilities)
        for name, words in judge.wrong.items():
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
    search = _Search(design, setting, depth, progress)
    collecting = gc.isenabled()
    gc.disable()  # machines have no cycles, and there are many
    try:
        search.run()
    except KeyboardInterrupt:
        pass
    finally:
        if collecting:
            gc.enable()
    return search.found
