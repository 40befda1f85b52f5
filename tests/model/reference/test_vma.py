"""Areas, the search for a place with its gaps and holes, and the errors of the system calls."""

from __future__ import annotations

import pytest

from model.kernel.errno import EEXIST, EFAULT, EINVAL, ENOMEM, EPERM
from model.reference.areas import MMAP_MIN_ADDR, PMD_SIZE, mmap_legacy_base
from model.reference.vma import (
    MMAP_BASE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE_SIZE,
    SZ_4G,
    TASK_SIZE_MAX,
    AddressSpace,
    GuardGaps,
    Vma,
    mmap_base,
    page_align,
)
from model.state import Kind

P = PAGE_SIZE
AT = 0x5000_0000_0000
TOP = (1 << 64) - P  # the last page of 64 bits
RW = 3
FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
KEEP = MREMAP_MAYMOVE | MREMAP_DONTUNMAP


def shape(space: AddressSpace, base: int = AT) -> list[tuple[int, int]]:
    """The areas as page numbers from ``base``: first, and one behind the last."""
    return [((a.start - base) // P, (a.end - base) // P) for a in space.areas]


def shadow_stack(space: AddressSpace, length: int = 4 * P, addr: int = 0) -> int:
    """What alloc_shstk() asks for since 6.6."""
    at = space.mmap(addr, length, 1, noreplace=bool(addr), shadow=True, above4g=True)
    assert at > 0
    return at


# -- layout --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rlimit", "base"),
    [
        (8 << 20, 0x7FFF_F7FF_F000),
        (0, 0x7FFF_F7FF_F000),
        (1 << 30, 0x7FFF_BFEF_F000),
        ((1 << 64) - 1, TASK_SIZE_MAX - TASK_SIZE_MAX // 6 * 5 + 0xFFF & -P),
    ],
)
def test_mmap_base(rlimit: int, base: int) -> None:
    """The search starts 128 MiB or RLIMIT_STACK and 1 MiB below the top, at most 5/6 of it all."""
    assert mmap_base(rlimit) == base


def test_the_first_area_ends_at_mmap_base() -> None:
    """Without randomisation the first area lies right below mmap_base."""
    assert AddressSpace().mmap(0, 5000, RW) == MMAP_BASE - 2 * P


# -- guard gaps ------------------------------------------------------------------------------


@pytest.mark.parametrize("gaps", [GuardGaps.merged, GuardGaps.v1])
def test_one_page_between_shadow_stacks(gaps: GuardGaps) -> None:
    """Two shadow stacks that were placed have exactly one page between them."""
    space = AddressSpace(gaps)
    first, second = shadow_stack(space), shadow_stack(space)
    assert second + 4 * P == first - P


def test_ordinary_memory_keeps_off_the_gap() -> None:
    """Ordinary memory is not placed in the page below a shadow stack, but may end there."""
    space = AddressSpace()
    stack = shadow_stack(space)
    assert space.mmap(0, P, RW) == stack - 2 * P
    assert space.mmap(0, P, RW) == stack - 3 * P


def test_merged_asks_for_a_gap_below_the_new_stack() -> None:
    """6.12 places a new shadow stack with the page below it free; v1 does not care."""
    for gaps, fits in ((GuardGaps.merged, False), (GuardGaps.v1, True)):
        space = AddressSpace(gaps)
        space.map(MMAP_BASE - 6 * P, 2 * P)
        hole = MMAP_BASE - 4 * P
        assert (space.mmap(0, 4 * P, 1, shadow=True) == hole) is fits
        assert space.munmap(hole, 4 * P) == 0
        assert space.mmap(0, 3 * P, 1, shadow=True) == hole + P


def test_v1_keeps_off_the_page_above_a_stack_too() -> None:
    """v1 places nothing in the page above a shadow stack; 6.12 does."""
    for gaps, fits in ((GuardGaps.merged, True), (GuardGaps.v1, False)):
        space = AddressSpace(gaps)
        space.map(MMAP_BASE - 8 * P, 4 * P, shadow=True)
        assert (space.mmap(0, 4 * P, RW) == MMAP_BASE - 4 * P) is fits


def test_v1_puts_a_stack_directly_below_ordinary_memory() -> None:
    """Neither design asks for a gap between a new stack's top and ordinary memory above."""
    for gaps in (GuardGaps.merged, GuardGaps.v1):
        space = AddressSpace(gaps)
        above = space.mmap(0, P, RW)
        assert shadow_stack(space) + 4 * P == above


def test_above_4g() -> None:
    """MAP_ABOVE4G finds no place below 4 GiB, where another search does."""
    space = AddressSpace(base=SZ_4G + 4 * P)
    assert space.unmapped_area(4 * P, shadow=True, above4g=False) == SZ_4G
    assert space.unmapped_area(3 * P, shadow=True, above4g=True) == SZ_4G + P
    assert space.unmapped_area(8 * P, shadow=True, above4g=False) == SZ_4G - 4 * P
    assert space.unmapped_area(8 * P, shadow=True, above4g=True) == mmap_legacy_base(TASK_SIZE_MAX)


def test_below_4g() -> None:
    """A 32-bit system call gets an address below 4 GiB, MAP_ABOVE4G or not."""
    space = AddressSpace()
    assert space.mmap(0, P, 1, shadow=True, below4g=True, above4g=True) == 0xF7FF_E000 - P
    assert space.mmap(0, SZ_4G, RW, below4g=True) == -ENOMEM


def test_no_room() -> None:
    """-ENOMEM where no hole is long enough."""
    space = AddressSpace()
    space.map(MMAP_BASE - 16 * P, P)
    assert space.unmapped_area(MMAP_BASE, shadow=False, above4g=False) == -ENOMEM
    assert space.unmapped_area(TASK_SIZE_MAX + P, shadow=False, above4g=False) == -ENOMEM
    assert space.areas[0].size == space.total == P


def test_huge_pages() -> None:
    """A multiple of 2 MiB is placed at one, below what is there; 5.17 did not do that."""
    space = AddressSpace()
    first, second = shadow_stack(space, 8 << 20), shadow_stack(space, 8 << 20)
    assert first == (MMAP_BASE - (8 << 20)) // PMD_SIZE * PMD_SIZE
    assert first % PMD_SIZE == second % PMD_SIZE == 0
    assert first - second == 10 << 20
    assert AddressSpace(base=AT).mmap(0, PMD_SIZE, RW) == AT - PMD_SIZE
    assert space.mmap(0, PMD_SIZE, RW, below4g=True) == 0xF7FF_E000 - PMD_SIZE
    assert shadow_stack(AddressSpace(huge_pages=False), 8 << 20) == MMAP_BASE - (8 << 20)


# -- the holes of 6.12 ---------------------------------------------------------------------


def test_a_named_address_has_no_gap() -> None:
    """MAP_FIXED_NOREPLACE puts a shadow stack right below or above another one."""
    space = AddressSpace()
    stack = shadow_stack(space)
    assert space.mmap(stack - 4 * P, 4 * P, 1, noreplace=True, shadow=True) == stack - 4 * P
    assert space.mmap(stack + 4 * P, P, 1, noreplace=True, shadow=True) == stack + 4 * P
    assert len(space.areas) == 3


def test_a_hint_respects_only_the_gap_above_it() -> None:
    """A hint is refused in the gap below a shadow stack, and taken right above one."""
    space = AddressSpace()
    space.map(AT, 4 * P, shadow=True)
    assert space.mmap(AT - P, P, RW) == MMAP_BASE - P
    assert space.mmap(AT - 2 * P, P, RW) == AT - 2 * P
    assert space.mmap(AT + 4 * P, P, RW) == AT + 4 * P


def test_the_fallback_has_no_gap() -> None:
    """With no room below mmap_base the search goes upwards and forgets the new stack's gap."""
    space = AddressSpace()
    start = mmap_legacy_base(TASK_SIZE_MAX)
    space.map(MMAP_MIN_ADDR, start - MMAP_MIN_ADDR, label="low")
    lower = space.map(start, 4 * P, shadow=True)
    space.map(lower.end + 4 * P, MMAP_BASE - lower.end - 4 * P, label="high")
    placed = space.mmap(0, 4 * P, 1, shadow=True, above4g=True)
    assert placed == lower.end
    space.load(lower.end, 8, True, True)  # RET on the empty lower stack does not fault


def test_the_fallback_keeps_off_the_gap_of_others() -> None:
    """The search upwards leaves the page below a shadow stack free."""
    space = AddressSpace(base=MMAP_MIN_ADDR)
    start = mmap_legacy_base(TASK_SIZE_MAX)
    space.map(start + 4 * P, 4 * P, shadow=True)
    assert space.unmapped_area(3 * P, shadow=False, above4g=False) == start
    assert space.unmapped_area(4 * P, shadow=False, above4g=False) == start + 8 * P


def test_mremap_asks_for_no_gap() -> None:
    """A shadow stack grows up to the next one, and is moved next to another."""
    space = AddressSpace()
    space.map(AT, 2 * P, shadow=True)
    space.map(AT + 4 * P, 2 * P, shadow=True)
    assert space.mremap(AT, 2 * P, 4 * P, 0) == AT
    assert space.mremap(AT, 4 * P, 4 * P, FIXED, AT + 6 * P) == AT + 6 * P
    assert shape(space) == [(4, 6), (6, 10)]
    assert all(area.shadow for area in space.areas)


# -- areas -----------------------------------------------------------------------------------


def test_find() -> None:
    """An area is found by any of its bytes, the next one only by find_vma()."""
    space = AddressSpace()
    area = space.map(AT, 2 * P)
    assert [space.find(a) for a in (AT - 1, AT, AT + 2 * P - 1, AT + 2 * P)] == [
        None,
        area,
        area,
        None,
    ]
    assert space.find_vma(AT - 1) is area and space.find_vma(AT + 2 * P) is None
    assert space.overlapping(AT + 2 * P - 1, AT + 2 * P) == [area]
    assert space.overlapping(AT - P, AT) == space.overlapping(AT + 2 * P, AT + 3 * P) == []


def test_a_split_keeps_annotations() -> None:
    """Every part of an area is its allocation: label, kind, owner, image and flags."""
    space = AddressSpace()
    space.map(AT, 8 * P, shadow=True, label="L", kind=Kind.CLONE, owner=3, image=True)
    assert space.munmap(AT + 2 * P, 2 * P) == 0
    assert space.mprotect(AT + 5 * P, P, 1) == 0
    assert shape(space) == [(0, 2), (4, 5), (5, 6), (6, 8)]
    for area in space.areas:
        assert (area.label, area.kind, area.owner, area.image) == ("L", Kind.CLONE, 3, True)
        assert area.shadow and area.read and area.write == (area.start != AT + 5 * P)


def test_neighbours_stay_apart() -> None:
    """Two areas side by side are two, whatever they have in common."""
    space = AddressSpace()
    space.map(AT, P, label="a")
    space.map(AT + P, P, label="b")
    assert [a.label for a in space.areas] == ["a", "b"]


@pytest.mark.parametrize(
    ("start", "length"),
    [(AT + 1, P), (AT, 0), (AT, P + 1), (TASK_SIZE_MAX, P), (-P, P), (AT - P, 2 * P)],
)
def test_map_refuses_what_does_not_fit(start: int, length: int) -> None:
    """map() is for free, aligned places below TASK_SIZE."""
    space = AddressSpace()
    space.map(AT, P)
    with pytest.raises(ValueError, match="place|mapped"):
        space.map(start, length)
    assert shape(space) == [(0, 1)]


# -- mmap(2) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addr", "length", "fixed", "noreplace", "error"),
    [
        (0, 0, False, False, EINVAL),
        (0, (1 << 64) - 1, False, False, ENOMEM),  # PAGE_ALIGN wraps
        (0, TASK_SIZE_MAX + 1, False, False, ENOMEM),
        (TASK_SIZE_MAX, P, True, False, ENOMEM),
        (TOP, P, True, False, ENOMEM),
        (AT + 16, P, True, False, EINVAL),
        (P, P, True, False, EPERM),
        (AT + 3 * P, 2 * P, False, True, EEXIST),
        (AT + 8 * P, P, False, True, EEXIST),
        (AT + 7 * P, 2 * P, True, False, EPERM),
        (0, 12 * P, False, False, ENOMEM),  # above the limit
    ],
)
def test_mmap_errors(addr: int, length: int, fixed: bool, noreplace: bool, error: int) -> None:
    """Each wrong use has its errno and maps nothing."""
    space = AddressSpace(limit_bytes=16 * P)
    space.map(AT, 4 * P)
    space.map(AT + 8 * P, P, sealed=True)
    before = shape(space)
    assert space.mmap(addr, length, RW, fixed=fixed, noreplace=noreplace) == -error
    assert shape(space) == before


def test_mmap_fixed_replaces() -> None:
    """MAP_FIXED takes the place of what is there, and counts only what is new."""
    space = AddressSpace(limit_bytes=5 * P)
    space.map(AT, 4 * P, label="old")
    assert space.mmap(AT + 3 * P, 2 * P, 0, fixed=True, label="new") == AT + 3 * P
    assert [a.label for a in space.areas] == ["old", "new"]
    assert shape(space) == [(0, 3), (3, 5)]
    assert not space.areas[1].accessible


def test_mmap_of_a_shadow_stack_is_writable() -> None:
    """VM_WRITE comes with VM_SHADOW_STACK, whatever PROT says."""
    space = AddressSpace()
    area = space.find(space.mmap(0, P, 1, shadow=True, kind=Kind.MAP, owner=4))
    assert isinstance(area, Vma)
    assert area.read and area.write and area.shadow
    assert (area.kind, area.owner) == (Kind.MAP, 4)


@pytest.mark.parametrize(
    ("hint", "placed"),
    [
        (AT + 5, AT),
        (1, MMAP_BASE - P),  # rounded down to nothing
        (P, MMAP_MIN_ADDR),
        (TASK_SIZE_MAX - P, TASK_SIZE_MAX - P),
        (TASK_SIZE_MAX, MMAP_BASE - P),
        (TOP, MMAP_BASE - P),
    ],
)
def test_mmap_hint(hint: int, placed: int) -> None:
    """A hint is rounded, and taken where it is free and below TASK_SIZE."""
    assert AddressSpace().mmap(hint, P, RW) == placed


# -- munmap(2) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length", "error"),
    [
        (AT + 8, P, EINVAL),
        (AT, 0, EINVAL),
        (TASK_SIZE_MAX, P, EINVAL),
        (TASK_SIZE_MAX + P, 0, EINVAL),
        (AT, TASK_SIZE_MAX, EINVAL),
        (AT, (1 << 64) - 1, EINVAL),
        (AT + P, 8 * P, EPERM),
    ],
)
def test_munmap_errors(start: int, length: int, error: int) -> None:
    """Each wrong use has its errno and unmaps nothing, not even what lies before a sealed area."""
    space = AddressSpace()
    space.map(AT, 4 * P)
    space.map(AT + 6 * P, P, sealed=True)
    assert space.munmap(start, length) == -error
    assert shape(space) == [(0, 4), (6, 7)]


def test_munmap_of_nothing() -> None:
    """Where nothing is mapped munmap succeeds: a stale range is silent."""
    assert AddressSpace().munmap(AT, 1) == 0


def test_munmap_takes_what_is_there_now() -> None:
    """A stale range takes the parts of whatever overlaps it, the length rounded up."""
    space = AddressSpace()
    space.map(AT, 4 * P, shadow=True, label="stack")
    space.map(AT + 5 * P, 4 * P, label="heap")
    assert space.munmap(AT + 2 * P, 4 * P + 1) == 0
    assert shape(space) == [(0, 2), (7, 9)]


# -- mprotect(2) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length", "prot", "error"),
    [
        (AT + 1, P, RW, EINVAL),
        (AT, P, 16, EINVAL),
        (AT, (1 << 64) - 1, RW, ENOMEM),
        (TOP, P, RW, ENOMEM),
        (AT - P, 2 * P, 0, ENOMEM),
        (AT + 20 * P, P, 0, ENOMEM),
        (AT + 8 * P, P, 0, EPERM),
    ],
)
def test_mprotect_errors(start: int, length: int, prot: int, error: int) -> None:
    """Each wrong use has its errno."""
    space = AddressSpace()
    space.map(AT, 4 * P)
    space.map(AT + 8 * P, P, sealed=True)
    assert space.mprotect(start, length, prot) == -error
    assert all(area.read and area.write for area in space.areas)


@pytest.mark.parametrize("stop", ["hole", "sealed"])
def test_mprotect_has_changed_what_lies_before(stop: str) -> None:
    """A hole is -ENOMEM, a sealed area -EPERM, after what lies before has been changed."""
    space = AddressSpace()
    space.map(AT, 2 * P)
    space.map(AT + 2 * P, P)
    if stop == "sealed":
        space.map(AT + 3 * P, P, sealed=True)
    space.map(AT + 4 * P, P)
    error = ENOMEM if stop == "hole" else EPERM
    assert space.mprotect(AT + P, 4 * P, 1) == -error
    assert [a.write for a in space.areas][:3] == [True, False, False]
    assert all(a.write for a in space.areas[3:])


def test_mprotect_of_nothing_and_of_the_same() -> None:
    """Length 0 is no error, and the same protection splits nothing."""
    space = AddressSpace()
    space.map(AT, 4 * P)
    assert space.mprotect(AT + 100 * P, 0, 0) == 0
    assert space.mprotect(AT + P, P, RW) == 0
    assert shape(space) == [(0, 4)]


# -- mseal(2) ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length", "error"),
    [
        (AT + 1, P, EINVAL),
        (AT, (1 << 64) - 1, EINVAL),
        (TOP, P, EINVAL),
        (AT - P, 2 * P, ENOMEM),
        (AT, 5 * P, ENOMEM),
        (AT + 3 * P, 3 * P, ENOMEM),
        (AT + 30 * P, P, ENOMEM),
    ],
)
def test_mseal_errors(start: int, length: int, error: int) -> None:
    """Each wrong use has its errno and seals nothing."""
    space = AddressSpace()
    space.map(AT, 4 * P)
    space.map(AT + 5 * P, P)
    assert space.mseal(start, length) == -error
    assert not any(area.sealed for area in space.areas)


def test_mseal_again_and_of_nothing() -> None:
    """Sealing what is sealed and sealing no bytes are no errors; a part is split off."""
    space = AddressSpace()
    space.map(AT, 4 * P)
    assert space.mseal(AT + 50 * P, 0) == 0
    assert space.mseal(AT + P, P) == 0
    assert space.mseal(AT, 4 * P) == 0
    assert shape(space) == [(0, 1), (1, 2), (2, 4)]
    assert all(area.sealed for area in space.areas)


def test_a_sealed_stack_stays() -> None:
    """munmap, mmap over it, mprotect and mremap of a sealed area are -EPERM; clear() is exit."""
    space = AddressSpace()
    space.map(AT, 4 * P, shadow=True)
    space.map(AT + 8 * P, P)
    assert space.mseal(AT, 4 * P) == 0
    assert space.munmap(AT, 4 * P) == -EPERM
    assert space.mmap(AT, P, RW, fixed=True) == -EPERM
    assert space.mprotect(AT, P, 0) == -EPERM
    assert space.mremap(AT, 4 * P, P, 0) == -EPERM
    assert space.mremap(AT + 8 * P, P, P, FIXED, AT) == -EPERM
    assert shape(space) == [(0, 4), (8, 9)]
    space.clear()
    assert space.areas == [] and space.total == 0


# -- mremap(2) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addr", "old", "new", "flags", "to", "error"),
    [
        (AT, P, P, 8, 0, EINVAL),
        (AT, P, P, MREMAP_FIXED, AT + 50 * P, EINVAL),
        (AT, P, 2 * P, KEEP, 0, EINVAL),
        (AT, P, P, MREMAP_DONTUNMAP, 0, EINVAL),
        (AT + 1, P, P, 0, 0, EINVAL),
        (AT, P, 0, 0, 0, EINVAL),
        (AT, P, (1 << 64) - 1, 0, 0, EINVAL),
        (AT, 0, P, MREMAP_MAYMOVE, 0, EINVAL),
        (AT + 4 * P, P, P, 0, 0, EFAULT),
        (AT, 5 * P, 6 * P, MREMAP_MAYMOVE, 0, EFAULT),
        (AT + 2 * P, 2 * P, 4 * P, 0, 0, ENOMEM),  # the next area is in the way
        (AT, P, 2 * P, 0, 0, ENOMEM),  # its own rest is in the way
        (AT, 4 * P, 40 * P, MREMAP_MAYMOVE, 0, ENOMEM),  # above the limit
        (AT, P, P, FIXED, AT + 50 * P + 1, EINVAL),
        (AT, P, P, FIXED, AT, EINVAL),
        (AT, 2 * P, P, FIXED, AT + P, EINVAL),
        (AT, P, P, FIXED, TASK_SIZE_MAX, EINVAL),
        (AT, P, TASK_SIZE_MAX + P, FIXED, 0, EINVAL),
        (AT, 4 * P, 30 * P, FIXED, AT + 50 * P, ENOMEM),
        (AT, 4 * P, 4 * P, KEEP, AT + 50 * P, ENOMEM),
        (AT, P, P, FIXED, P, EPERM),
        (AT, 8 * P, 8 * P, FIXED, AT + 50 * P, EFAULT),
        (AT, 8 * P, P, MREMAP_MAYMOVE, 0, EPERM),  # the tail has somebody's sealed area
        (AT, TASK_SIZE_MAX, P, MREMAP_MAYMOVE, 0, EINVAL),
    ],
)
def test_mremap_errors(addr: int, old: int, new: int, flags: int, to: int, error: int) -> None:
    """Each wrong use has its errno and changes nothing here."""
    space = AddressSpace(limit_bytes=8 * P)
    space.map(AT, 4 * P)
    space.map(AT + 5 * P, P, sealed=True)
    assert space.mremap(addr, old, new, flags, to) == -error
    assert shape(space) == [(0, 4), (5, 6)]


def test_mremap_in_place() -> None:
    """Shrinking unmaps the tail, growing extends the area where nothing is in the way."""
    space = AddressSpace()
    area = space.map(AT, 4 * P)
    space.store(AT + 3 * P, 8, 1, False, True)
    assert space.mremap(AT, 4 * P, 2 * P, 0) == AT
    assert space.mremap(AT + P, P, 5 * P, 0) == AT + P
    assert space.mremap(AT, P, P, 0) == AT
    assert space.areas == [area] and shape(space) == [(0, 6)]
    assert space.load(AT + 3 * P, 8, False, True) == 0


def test_mremap_moves_the_contents() -> None:
    """Growing may move the area; contents and annotations go along, populated or not."""
    space = AddressSpace()
    space.map(AT, 2 * P, shadow=True, owner=3)
    space.map(AT + 2 * P, P)
    space.store(AT + P, 8, 5, True, True)
    moved = space.mremap(AT, 2 * P, 3 * P, MREMAP_MAYMOVE)
    assert moved == MMAP_BASE - 3 * P
    area = space.find(moved)
    assert area is not None and area.shadow and area.owner == 3
    assert list(space.find_words(area)) == [(moved + P, 5)]
    assert not space.populated(moved) and not space.populated(AT + P)
    assert space.find(AT) is None


def test_mremap_of_a_part() -> None:
    """A part of an area is moved out of it, and what was at the new address is gone."""
    space = AddressSpace()
    space.map(AT, 4 * P, label="a")
    space.map(AT + 8 * P, 3 * P, label="b")
    assert space.mremap(AT + P, P, P, FIXED, AT + 9 * P) == AT + 9 * P
    assert shape(space) == [(0, 1), (2, 4), (8, 9), (9, 10), (10, 11)]
    assert [a.label for a in space.areas] == ["a", "a", "b", "a", "b"]


def test_mremap_to_where_it_touches() -> None:
    """The old and the new range may touch but not overlap."""
    space = AddressSpace()
    space.map(AT, 2 * P)
    assert space.mremap(AT, 2 * P, 2 * P, FIXED, AT + 2 * P) == AT + 2 * P
    assert space.mremap(AT + 2 * P, 2 * P, 2 * P, FIXED, AT) == AT
    assert shape(space) == [(0, 2)]


def test_mremap_dontunmap() -> None:
    """MREMAP_DONTUNMAP leaves the old area in place, empty; its address is only a hint."""
    space = AddressSpace()
    space.map(AT, P, shadow=True)
    space.store(AT, 8, 5, True, True)
    assert space.mremap(AT, P, P, KEEP, AT + 4 * P) == AT + 4 * P
    assert shape(space) == [(0, 1), (4, 5)]
    assert [space.load(a, 8, True, True) for a in (AT, AT + 4 * P)] == [0, 5]
    assert space.mremap(AT + 4 * P, P, P, KEEP, AT) == MMAP_BASE - P


def test_mremap_to_a_fixed_address_unmaps_it_first() -> None:
    """When the move fails later the destination is gone already."""
    space = AddressSpace()
    space.map(AT, P)
    space.map(AT + 8 * P, P)
    assert space.mremap(AT, 2 * P, 2 * P, FIXED, AT + 8 * P) == -EFAULT
    assert shape(space) == [(0, 1)]


def test_page_align() -> None:
    """PAGE_ALIGN rounds up and wraps on 64 bits."""
    assert [page_align(n) for n in (0, 1, P, P + 1, (1 << 64) - 1)] == [0, P, P, 2 * P, 0]
