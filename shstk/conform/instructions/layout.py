"""The pages that cases are about, for the reference machine and for the guest.

Two streets of the same pages, one below 4 GiB and one above, and the two places where an address
space ends: 4 GiB for 32-bit code, TASK_SIZE_MAX for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from model.reference.vma import PAGE_SIZE, PROT_READ, SZ_4G, TASK_SIZE_MAX, AddressSpace

BACKGROUND = 0x5A5A_5A5A_5A5A_5A5A  # every word to begin with, so that a stray 0 is seen
CODE = 0x2000_0000  # where instructions are, 64-bit and 32-bit ones
CODE_HIGH = 0x7FFF_8000_0000  # a CALL from here can reach what is not canonical
LOW, HIGH = 0x3000_0000, 0x7000_0000_0000  # the streets
LONGEST = 16  # bytes of an instruction, at most


class Kind(Enum):
    """What a page is."""

    RW = "rw"
    RO = "ro"
    NONE = "none"  # PROT_NONE
    SHADOW = "shadow"
    FROZEN = "frozen"  # a shadow stack after mprotect(PROT_READ), not used as one before
    USED = "used"  # the same, but used before
    CODE = "code"


PROTECTED = {Kind.RO: PROT_READ, Kind.FROZEN: PROT_READ, Kind.USED: PROT_READ, Kind.NONE: 0}


@dataclass(frozen=True)
class Area:
    """A mapping of ``pages`` pages."""

    start: int
    kind: Kind
    pages: int = 1

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.pages * PAGE_SIZE


def street(base: int) -> tuple[Area, ...]:
    """Data, shadow stacks with and without a gap between, and what refuses them."""
    return (
        Area(base + 0x1000, Kind.RW, 2),
        Area(base + 0x3000, Kind.SHADOW, 2),
        Area(base + 0x5000, Kind.SHADOW),
        Area(base + 0x6000, Kind.RW),
        Area(base + 0x8000, Kind.SHADOW),
        Area(base + 0xA000, Kind.RO),
        Area(base + 0xB000, Kind.FROZEN),
        Area(base + 0xC000, Kind.NONE),
        Area(base + 0xD000, Kind.USED),
    )


def slot(base: int) -> int:
    """A page of a street where nothing is, for map_shadow_stack."""
    return base + 0xF000


_LOW, _HIGH = street(LOW), street(HIGH)
#: The ends of the address space; RSP near the upper one, cut to 32 bits, is near the other.
_EDGES = (
    Area(SZ_4G - 0x3000, Kind.RW),
    Area(SZ_4G - 0x2000, Kind.SHADOW, 3),
    Area(SZ_4G + 0x1000, Kind.RW),
    Area(TASK_SIZE_MAX - 0x2000, Kind.RW),
    Area(TASK_SIZE_MAX - 0x1000, Kind.SHADOW),
)
CODE_AREAS = (Area(CODE, Kind.CODE, 2), Area(CODE_HIGH, Kind.CODE))
#: Cases are about one of them, and the guest looks at that one.
GROUPS = (_LOW, _HIGH, _EDGES)
AREAS = (*CODE_AREAS, *(area for group in GROUPS for area in group))
#: Behind all code that is executed: the operands of far branches.
OPERAND = CODE_AREAS[0].end - 64


def is_code(address: int) -> bool:
    """It is in an area for code."""
    return any(area.start <= address < area.end for area in CODE_AREAS)


def in_code(rip: int) -> bool:
    """An instruction can be put there."""
    return is_code(rip) and rip % PAGE_SIZE <= PAGE_SIZE - LONGEST


def header() -> str:
    """The pages as the guest reads them."""
    lines = [f"background {BACKGROUND:#x}"]
    for number, group in enumerate((*GROUPS, CODE_AREAS)):
        for area in group:
            for start in range(area.start, area.end, PAGE_SIZE):
                joined = " joined" if start > area.start else ""
                lines.append(f"page {start:#x} {area.kind.value} {number}{joined}")
    return "\n".join(lines) + "\n"


def build(space: AddressSpace) -> None:
    """Map the pages into an empty address space, all of them populated."""
    for area in AREAS:
        shadow = area.kind in (Kind.SHADOW, Kind.FROZEN, Kind.USED)
        size = area.end - area.start
        space.map(area.start, size, read=True, write=True, shadow=shadow)
        word = 0 if area.kind is Kind.CODE else BACKGROUND
        for at in range(area.start, area.end, 8):
            space.store(at, 8, word, shadow, False)
        if area.kind in PROTECTED:
            space.mprotect(area.start, size, PROTECTED[area.kind])
        if area.kind is Kind.FROZEN:  # the guest fills it later, by no shadow access
            space.pages.shadow.discard(area.start // PAGE_SIZE)
