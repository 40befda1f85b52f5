"""Areas of an address space, and where a new one goes (mm/mmap.c, arch/x86, 6.12).

Addresses and lengths are in bytes.  A place is looked for from ``mmap_base`` downwards, and only
when that fails from a third of the address space upwards.  Guard gaps are not areas: nothing is
mapped there, and they exist only in the search for a place.  Whoever names an address gets it,
gaps or not.

Left out: the growing of the main stack and its own gap, MAP_32BIT, the randomised layout, the
limit on the number of areas, and file mappings.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, NamedTuple, TypedDict

from model.kernel.errno import ENOMEM
from model.kernel.mmap import SZ_4G, TASK_SIZE_MAX
from model.state import Kind, Special
from model.world import PAGE_SIZE, U64

__all__ = [
    "MMAP_BASE",
    "MMAP_MIN_ADDR",
    "PAGE_SIZE",
    "PMD_SIZE",
    "SZ_4G",
    "TASK_SIZE_MAX",
    "Annotations",
    "Areas",
    "Flags",
    "GuardGaps",
    "Vma",
    "Wanted",
    "mmap_base",
    "offset_in_page",
    "page_align",
]

PMD_SIZE = 2 << 20  # a huge page
MMAP_MIN_ADDR = 64 << 10  # vm.mmap_min_addr, as distributions set it
TASK_SIZE_32BIT = SZ_4G - 2 * PAGE_SIZE  # IA32_PAGE_OFFSET
STACK_GUARD_GAP = 256 * PAGE_SIZE  # below a stack that grows
MIN_STACK_HOLE = 128 << 20


def page_align(length: int) -> int:
    """PAGE_ALIGN() on 64 bits, wrap-around included (include/linux/mm.h)."""
    return (length + PAGE_SIZE - 1) % U64 & -PAGE_SIZE


def offset_in_page(addr: int) -> int:
    """Zero for an aligned address (include/linux/mm.h)."""
    return addr & (PAGE_SIZE - 1)


def mmap_base(rlimit_stack: int = 8 << 20, task_size: int = TASK_SIZE_MAX) -> int:
    """Where the search downwards starts, without randomisation (arch/x86/mm/mmap.c, 6.12).

    ``rlimit_stack`` in bytes is RLIMIT_STACK at the time of exec.
    """
    gap = min(max(rlimit_stack + STACK_GUARD_GAP, MIN_STACK_HOLE), task_size // 6 * 5)
    return page_align(task_size - gap)


def mmap_legacy_base(task_size: int) -> int:
    """Where the search upwards starts (__TASK_UNMAPPED_BASE, arch/x86, 6.12)."""
    return page_align(task_size // 3)


MMAP_BASE = mmap_base()
_new = object.__new__


@dataclass(eq=False, repr=False, slots=True)
class Vma:
    """A vm_area_struct: [start, end), what may be done there, and what people call it.

    Only the address space changes the range and the flags; the annotations are for whoever
    uses the machine.  Neighbours that Linux would merge stay apart here, so that an area is one
    allocation with its owner.  Only mremap() across their border can tell: it is -EFAULT here.
    """

    start: int
    end: int
    read: bool = True  # VM_READ
    write: bool = True  # VM_WRITE
    shadow: bool = False  # VM_SHADOW_STACK
    sealed: bool = False  # VM_SEALED
    anon: bool = False  # it has an anon_vma: a store or a shadow access has populated a page
    label: str = ""
    kind: Kind = Kind.ORDINARY
    owner: object = Special.NULL  # NULL, LEFT or a task number
    image: bool = False  # text, data, main stack

    @property
    def size(self) -> int:
        """Bytes from start to end."""
        return self.end - self.start

    def covered(self, start: int, end: int) -> int:
        """Bytes it has in [start, end), which it overlaps."""
        return min(self.end, end) - max(self.start, start)

    @property
    def accessible(self) -> bool:
        """vma_is_accessible(): on x86 what may be written may be read (include/linux/mm.h)."""
        return self.read or self.write

    def at(self, start: int, end: int) -> Vma:
        """The same in all but its range: a part of it, or where it is moved to."""
        other = _new(Vma)  # written out, because it is done for every area of every machine
        other.start = start
        other.end = end
        other.read = self.read
        other.write = self.write
        other.shadow = self.shadow
        other.sealed = self.sealed
        other.anon = self.anon
        other.label = self.label
        other.kind = self.kind
        other.owner = self.owner
        other.image = self.image
        return other

    def __repr__(self) -> str:
        flags = [n for n in ("read", "write", "shadow", "sealed") if getattr(self, n)]
        return f"<Vma {self.start:#x}-{self.end:#x} {' '.join(flags)} {self.label!r}>"


_START = attrgetter("start")
_END = attrgetter("end")


@dataclass(frozen=True)
class GuardGaps:
    """How many bytes the search for a place keeps free around shadow stacks.

    ``merged`` (6.10 and later): nothing is placed in the page below a shadow stack, and a new
    shadow stack is placed with the page below it free.  Above a shadow stack there is no gap.

    ``v1`` (18/35): nothing is placed in the page below or above a shadow stack, but what lies
    next to a new shadow stack is not asked for: it may go directly above or below ordinary
    memory.  Between two shadow stacks whose places were looked for downwards there is a page
    either way.
    """

    start: int  # below one that is there: stack_guard_start_gap()
    end: int  # above one that is there
    placement: int  # below the new one: stack_guard_placement()

    merged: ClassVar[GuardGaps]
    v1: ClassVar[GuardGaps]

    def vm_start_gap(self, vma: Vma) -> int:
        """The lowest address that belongs to ``vma`` or its gap (include/linux/mm.h)."""
        return vma.start - self.start if vma.shadow else vma.start

    def vm_end_gap(self, vma: Vma) -> int:
        """The end of ``vma`` and its gap (include/linux/mm.h)."""
        return vma.end + self.end if vma.shadow else vma.end


GuardGaps.merged = GuardGaps(start=PAGE_SIZE, end=0, placement=PAGE_SIZE)
GuardGaps.v1 = GuardGaps(start=PAGE_SIZE, end=PAGE_SIZE, placement=0)


class Wanted(NamedTuple):
    """What is to be placed, as far as the search asks."""

    length: int
    shadow: bool = False
    above4g: bool = False  # MAP_ABOVE4G
    below4g: bool = False  # in_32bit_syscall(): int 0x80, or x32


class Annotations(TypedDict, total=False):
    """What the model says of an area beyond what Linux does (see Vma)."""

    label: str
    kind: Kind
    owner: object
    image: bool


class Flags(Annotations, total=False):
    """Everything about an area but its range."""

    read: bool
    write: bool
    shadow: bool
    sealed: bool


class Areas:
    """The areas of one address space, in order, and the search for a place.

    ``huge_pages`` (CONFIG_TRANSPARENT_HUGEPAGE): a multiple of 2 MiB is placed at one, since 6.7.
    """

    def __init__(
        self,
        gaps: GuardGaps = GuardGaps.merged,
        *,
        base: int = MMAP_BASE,
        huge_pages: bool = True,
    ) -> None:
        self.areas: list[Vma] = []
        self.gaps = gaps
        self.mmap_base = base
        self.huge_pages = huge_pages

    # -- finding ---------------------------------------------------------------
    def find(self, addr: int) -> Vma | None:
        """vma_lookup(): the area that contains ``addr``."""
        index = bisect_right(self.areas, addr, key=_START)
        if index and addr < self.areas[index - 1].end:
            return self.areas[index - 1]
        return None

    def find_vma(self, addr: int) -> Vma | None:
        """find_vma(): the area that contains ``addr``, or the next one above."""
        index = bisect_right(self.areas, addr, key=_END)
        return self.areas[index] if index < len(self.areas) else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """The areas that have a byte in [start, end), in order."""
        return self.areas[self._slice(start, end)]

    def _slice(self, start: int, end: int) -> slice:
        first = bisect_right(self.areas, start, key=_END)
        return slice(first, max(first, bisect_left(self.areas, end, key=_START)))

    # -- changing --------------------------------------------------------------
    def _insert(self, vma: Vma) -> Vma:
        """Add an area at a free place."""
        self.areas.insert(bisect_left(self.areas, vma.start, key=_START), vma)
        return vma

    def _split(self, vma: Vma, addr: int) -> None:
        """__split_vma() at ``addr``; ``vma`` stays the lower part (mm/vma.c, 6.12)."""
        if vma.start < addr < vma.end:
            upper = vma.at(addr, vma.end)
            vma.end = addr
            self._insert(upper)

    def _carve(self, start: int, end: int) -> list[Vma]:
        """The areas in [start, end), after splitting those that reach out of it."""
        for at in (start, end):
            vma = self.find(at)
            if vma is not None:
                self._split(vma, at)
        return self.overlapping(start, end)

    def _remove(self, start: int, end: int) -> None:
        """Take what is in [start, end) out; areas that reach out of it are split."""
        if self._carve(start, end):
            del self.areas[self._slice(start, end)]

    # -- the search for a place ------------------------------------------------
    def unmapped_area(
        self, length: int, *, shadow: bool, above4g: bool, below4g: bool = False
    ) -> int:
        """Where ``length`` bytes, a multiple of the page size, would go; or -ENOMEM."""
        return self._get_unmapped_area(0, Wanted(length, shadow, above4g, below4g))

    def _get_unmapped_area(self, hint: int, wanted: Wanted) -> int:
        """__get_unmapped_area() without MAP_FIXED (mm/mmap.c, 6.12); ``hint`` is 0 or aligned."""
        if wanted.length > TASK_SIZE_MAX:
            return -ENOMEM
        huge = self.huge_pages and wanted.length % PMD_SIZE == 0
        if huge and hint == 0 and not wanted.below4g:
            addr = self._thp_unmapped_area(wanted)
            if addr >= 0:
                return addr
        return self._unmapped_area_topdown(hint, wanted)

    def _thp_unmapped_area(self, wanted: Wanted) -> int:
        """__thp_get_unmapped_area(): a place with 2 MiB to spare, then aligned in it.

        (mm/huge_memory.c, 6.12)
        """
        padded = wanted._replace(length=wanted.length + PMD_SIZE)
        if padded.length > TASK_SIZE_MAX:
            return -ENOMEM
        addr = self._unmapped_area_topdown(0, padded)
        if addr < 0:
            return addr
        return addr + (-addr % PMD_SIZE or PMD_SIZE)

    def _unmapped_area_topdown(self, hint: int, wanted: Wanted) -> int:
        """arch_get_unmapped_area_topdown() (arch/x86/kernel/sys_x86_64.c, 6.12)."""
        length, _, above4g, below4g = wanted
        if hint and hint <= TASK_SIZE_MAX - length:
            above = self.find_vma(hint)
            if above is None or hint + length <= self.gaps.vm_start_gap(above):
                return hint
        low = SZ_4G if above4g and not below4g else MMAP_MIN_ADDR
        high = mmap_base(task_size=TASK_SIZE_32BIT) if below4g else self.mmap_base
        gap = self.gaps.placement if wanted.shadow else 0
        addr = self._highest(length, low, high, gap)
        if addr >= 0:
            return addr
        return self._unmapped_area_bottomup(length, below4g)

    def _unmapped_area_bottomup(self, length: int, below4g: bool) -> int:
        """arch_get_unmapped_area(), the fallback: it forgets what is to be placed.

        It is called with vm_flags 0, so a new shadow stack gets no gap below it and may begin
        where another one ends.  A hint that was refused is refused here too.
        (arch/x86/kernel/sys_x86_64.c, 6.12)
        """
        task_size = TASK_SIZE_32BIT if below4g else TASK_SIZE_MAX
        return self._lowest(length, mmap_legacy_base(task_size), task_size)

    def _highest(self, length: int, low: int, high: int, gap: int) -> int:
        """unmapped_area_topdown(): the highest place, with ``gap`` free below it (mm/mmap.c)."""
        for index in range(len(self.areas), -1, -1):
            bottom, top = self._hole(index, low, high)
            if top - length >= bottom + gap:
                return top - length
            if index and self.areas[index - 1].start <= low:
                break
        return -ENOMEM

    def _lowest(self, length: int, low: int, high: int) -> int:
        """unmapped_area(): the lowest place (mm/mmap.c)."""
        for index in range(len(self.areas) + 1):
            bottom, top = self._hole(index, low, high)
            if bottom + length <= top:
                return bottom
        return -ENOMEM

    def _hole(self, index: int, low: int, high: int) -> tuple[int, int]:
        """The hole below the area at ``index``, within the limits: where it begins and ends."""
        if index:
            low = max(low, self.gaps.vm_end_gap(self.areas[index - 1]))
        if index < len(self.areas):
            high = min(high, self.gaps.vm_start_gap(self.areas[index]))
        return low, high
