"""Where cases take place, and the addresses that are of interest there."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from model.cpu.concrete import USER32_CS, USER_CS, Registers
from model.reference.vma import PAGE_SIZE, SZ_4G, TASK_SIZE_MAX
from shstk.conform.instructions import layout
from shstk.conform.instructions.layout import Area, Kind

#: Distances from the start or the end of a page, multiples of 8 mostly.
EDGES = (0, 0, 8, 8, 16, 24, 32, 40, 64, 256, 0x800)
#: Addresses at which nobody can have anything.
NOWHERE = (
    *(0, 8, 4, 1 << 47, (1 << 47) - 8, (1 << 47) - 4, TASK_SIZE_MAX, 0xFFFF_8000_0000_0000),
    *(0xFFFF_7FFF_FFFF_FFF8, (1 << 64) - 8, (1 << 64) - 4, (1 << 63) | 0x1000, 0x4000_0000),
)


@dataclass(frozen=True)
class Place:
    """A group of areas, and whether cases begin there in 64-bit code."""

    name: str
    group: int  # of layout.GROUPS
    long_mode: bool
    weight: int
    code: int = layout.CODE
    above: int = 0  # areas of the group that are of interest: from here
    below: int = 1 << 64  # to here

    @property
    def areas(self) -> tuple[Area, ...]:
        """What is of interest there."""
        areas = layout.GROUPS[self.group]
        return tuple(area for area in areas if self.above <= area.start < self.below)

    @property
    def selector(self) -> int:
        """CS to begin with."""
        return USER_CS if self.long_mode else USER32_CS


_LOW, _HIGH, _EDGES = range(len(layout.GROUPS))
PLACES = (
    Place("high", _HIGH, True, 40),
    Place("high, code below the hole", _HIGH, True, 4, code=layout.CODE_HIGH),
    Place("low", _LOW, True, 18),
    Place("low, 32-bit", _LOW, False, 22),
    Place("4 GiB", _EDGES, True, 6, below=SZ_4G + SZ_4G),
    Place("4 GiB, 32-bit", _EDGES, False, 6, below=SZ_4G + SZ_4G),
    Place("top", _EDGES, True, 4, above=SZ_4G + SZ_4G),
)


def can_go_on(regs: Registers, place: Place) -> bool:
    """The next instruction can be put at RIP, or its fetch is a fault that the model knows.

    32-bit code finds nothing in a place above 4 GiB.
    """
    if not regs.long_mode and all(area.start >= SZ_4G for area in place.areas):
        return False
    return layout.in_code(regs.rip) or regs.rip >= TASK_SIZE_MAX


def code(random: Random, place: Place) -> int:
    """An address at which an instruction can be put."""
    start = place.code if place.long_mode else layout.CODE
    return start + 16 * random.randrange((PAGE_SIZE - 256) // 16)


def within(random: Random, area: Area, align: int = 8) -> int:
    """An address in an area, near an end of it mostly; its end counts as in it."""
    page = area.start + PAGE_SIZE * random.randrange(area.pages)
    distance = random.choice(EDGES)
    at = random.choice((page + distance, area.end - distance, page + PAGE_SIZE - distance))
    return at // align * align


def pointer(random: Random, place: Place, kinds: tuple[Kind, ...], below: int = 1 << 64) -> int:
    """An address in an area of one of these kinds; below a limit."""
    areas = [a for a in place.areas if a.kind in kinds and a.start < below]
    at = within(random, random.choice(areas))
    return at if at < below else at - PAGE_SIZE


def elsewhere(random: Random, place: Place) -> int:
    """An address where something else is, or nothing."""
    choices = [
        *(within(random, area) for area in place.areas if area.kind is not Kind.RW),
        *(area.end + 8 for area in place.areas),
        *(area.start - 8 for area in place.areas),
        *NOWHERE,
    ]
    return random.choice(choices)


def fits(address: int, long_mode: bool) -> bool:
    """Code in that mode can have it as SSP or RSP, and the kernel lets SSP be set to it."""
    return address < (TASK_SIZE_MAX if long_mode else SZ_4G) and not address & 7
