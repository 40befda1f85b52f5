"""Random cases: a state in which an instruction succeeds, and then up to two things go wrong.

A case is made with the reference machine beside it, so that later steps build on what earlier
ones have left: CALL and RET, a pivot and its way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from model.reference.vma import PAGE_SIZE
from shstk.conform.instructions import layout, places, setups
from shstk.conform.instructions.ahead import outside
from shstk.conform.instructions.cases import MODES, Case, Step
from shstk.conform.instructions.draft import Draft
from shstk.conform.instructions.outcomes import Outcome
from shstk.conform.instructions.predict import Run
from shstk.conform.instructions.spoil import spoil
from shstk.conform.instructions.table import INSTRUCTIONS

LONGEST = 8  # steps of a case, at most
MODE_WEIGHTS = {"wrss": 7, "shstk": 2, "off": 1}
WEIGHTS = {
    **{"call_rel": 6, "call_abs": 6, "ret": 12, "endbr64": 1, "endbr32": 1},
    **{"jmp_far": 4, "call_far": 8, "ret_far": 8, "iret": 5},
    **{"rdsspd": 2, "rdsspq": 3, "incsspd": 6, "incsspq": 7, "rstorssp": 9, "saveprevssp": 8},
    **{"wrssd": 4, "wrssq": 5, "wrussd": 1, "wrussq": 1, "setssbsy": 1, "clrssbsy": 1},
    **{"store": 3, "load": 3, "push": 3, "pop": 3, "map_shadow_stack": 3},
}
assert WEIGHTS.keys() == INSTRUCTIONS.keys() and MODE_WEIGHTS.keys() == MODES.keys()
#: How often a step takes the state as it is; where that is what an earlier one has left.
FLOW, FOLLOWING = 0.15, 0.8
SPOILED = (60, 28, 12)  # weights of no, one, two things that go wrong


def generate(seed: int, count: int, first: int = 0) -> Iterator[Case]:
    """Cases ``first`` to ``first + count`` of a seed; each depends on the seed and its number."""
    for number in range(first, first + count):
        yield one(seed, number)


def one(seed: int, number: int) -> Case:
    """A case of a seed."""
    random = Random(f"{seed} {number}")
    mode = random.choices(list(MODE_WEIGHTS), list(MODE_WEIGHTS.values()))[0]
    place = random.choices(places.PLACES, [p.weight for p in places.PLACES])[0]
    maker = _Maker(random, Run(mode), place)
    return Case(number, mode, place.group, tuple(maker.steps()))


@dataclass
class _Maker:
    random: Random
    run: Run
    place: places.Place
    made: list[Step] = field(default_factory=list)

    def steps(self) -> Iterator[Step]:
        """Steps up to the first fault, or to where no instruction can be put."""
        first = True
        for _ in range(self.random.randint(1, LONGEST)):
            for step in self._step(first):
                first = False
                if self._strays(self.run.step(step)):
                    return
                yield step
                if self.run.faulted or not places.can_go_on(self.run.regs, self.place):
                    return

    def _strays(self, outcome: Outcome) -> bool:
        """A word is written where the guest does not look in this case."""
        areas = layout.GROUPS[self.place.group]
        slots = (layout.slot(layout.LOW), layout.slot(layout.HIGH))
        return not all(
            any(area.start <= word < area.end for area in areas) or word & -PAGE_SIZE in slots
            for word in outcome.words
        )

    def _step(self, first: bool) -> Iterator[Step]:
        draft = Draft(self.run, random=self.random, place=self.place)
        if first:
            draft.begin()
        name = self._choose(draft)
        draft.name = name
        if name in setups.WITH_WIDTH:
            draft.arguments = (draft.width,)
        if first or not draft.chance(self._flow(draft)):
            setups.SETUPS[name](draft)
            for _ in range(self.random.choices((0, 1, 2), SPOILED)[0]):
                spoil(draft)
        draft.complete()
        if outside(draft, name, draft.arguments):
            return
        if draft.odd_ssp:
            yield draft.half_pop()
        yield draft.step()

    @staticmethod
    def _flow(draft: Draft) -> float:
        """How likely it is that an instruction takes the state as it is."""
        if draft.name not in setups.FLOWING:
            return 0
        return FOLLOWING if setups.follows(draft) else FLOW

    def _choose(self, draft: Draft) -> str:
        """An instruction that the mode has, once map_shadow_stack."""
        fitting = {
            name: weight
            for name, weight in WEIGHTS.items()
            if setups.exists(name, draft.long_mode)
            and not (name == "map_shadow_stack" and self.run.mapped)
        }
        return self.random.choices(list(fitting), list(fitting.values()))[0]
