"""Contents and accesses: what faults, with which error code, and what is shared after fork."""

from __future__ import annotations

import pytest

from model.reference.vma import (
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE_SIZE,
    SZ_4G,
    TASK_SIZE_MAX,
    AddressSpace,
    PageFault,
)

BASE = 0x7F00_0000_0000
DATA = 0x1000_0000
SIZE = 4 * PAGE_SIZE
ORDINARY, SHADOW = False, True
USER, KERNEL = True, False


@pytest.fixture
def space() -> AddressSpace:
    """A shadow stack, ordinary memory, and nothing in between."""
    made = AddressSpace()
    made.map(BASE, SIZE, shadow=True, label="shadow stack")
    made.map(DATA, SIZE, label="data")
    return made


def load_fault(space: AddressSpace, addr: int, shadow: bool, user: bool = USER) -> tuple[int, int]:
    """Address and error code of a load that faults."""
    with pytest.raises(PageFault) as caught:
        space.load(addr, 8, shadow, user)
    return caught.value.address, caught.value.error_code


def store_fault(space: AddressSpace, addr: int, shadow: bool, user: bool = USER) -> tuple[int, int]:
    """Address and error code of a store that faults; the probe says the same."""
    with pytest.raises(PageFault) as probed:
        space.probe_store(addr, 8, shadow, user)
    with pytest.raises(PageFault) as caught:
        space.store(addr, 8, 1, shadow, user)
    fault = caught.value.address, caught.value.error_code
    assert fault == (probed.value.address, probed.value.error_code)
    return fault


# -- what was seen on a real kernel ----------------------------------------------------


def test_call_after_unmap(space: AddressSpace) -> None:
    """CALL faults with 0x46 once its stack is unmapped: user, shadow, write, not present."""
    space.store(BASE + SIZE - 8, 8, 1, SHADOW, USER)
    assert space.munmap(BASE, SIZE) == 0
    assert store_fault(space, BASE + SIZE - 16, SHADOW) == (BASE + SIZE - 16, 0x46)


def test_ret_after_unmap(space: AddressSpace) -> None:
    """RET faults with 0x44 once its stack is unmapped."""
    space.store(BASE + SIZE - 8, 8, 1, SHADOW, USER)
    assert space.munmap(BASE, SIZE) == 0
    assert load_fault(space, BASE + SIZE - 8, SHADOW) == (BASE + SIZE - 8, 0x44)


def test_ret_on_an_empty_stack(space: AddressSpace) -> None:
    """RET on an empty stack reads at base + size, where nothing is mapped: 0x44."""
    assert load_fault(space, BASE + SIZE, SHADOW) == (BASE + SIZE, 0x44)


def test_plain_store_to_a_shadow_stack(space: AddressSpace) -> None:
    """A plain store to a shadow stack is error 6, and 7 when the page is present."""
    assert store_fault(space, BASE, ORDINARY) == (BASE, 6)
    space.load(BASE, 8, SHADOW, USER)
    assert store_fault(space, BASE, ORDINARY) == (BASE, 7)
    assert store_fault(space, BASE + PAGE_SIZE, ORDINARY)[1] == 6


def test_wrss_to_ordinary_memory(space: AddressSpace) -> None:
    """WRSS to ordinary memory faults, and bit P says whether the page is present."""
    assert store_fault(space, DATA, SHADOW) == (DATA, 0x46)
    space.store(DATA, 8, 1, ORDINARY, USER)
    assert store_fault(space, DATA, SHADOW) == (DATA, 0x47)
    assert load_fault(space, DATA, SHADOW) == (DATA, 0x45)


def test_ordinary_loads_read_a_shadow_stack(space: AddressSpace) -> None:
    """What a shadow access stores an ordinary load reads."""
    space.store(BASE + 8, 8, 0x1234, SHADOW, USER)
    assert space.load(BASE + 8, 8, ORDINARY, USER) == 0x1234
    assert space.load(BASE + 8, 8, ORDINARY, KERNEL) == 0x1234


def test_read_only_shadow_stack(space: AddressSpace) -> None:
    """After mprotect(PROT_READ) shadow accesses fault in pages that none has touched before."""
    space.store(BASE, 8, 5, SHADOW, USER)
    space.load(BASE + 2 * PAGE_SIZE, 8, ORDINARY, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    assert store_fault(space, BASE + PAGE_SIZE, SHADOW) == (BASE + PAGE_SIZE, 0x46)
    assert load_fault(space, BASE + 2 * PAGE_SIZE, SHADOW) == (BASE + 2 * PAGE_SIZE, 0x45)
    space.store(BASE, 8, 6, SHADOW, USER)  # its page table entry stays a shadow stack's
    assert space.load(BASE, 8, ORDINARY, USER) == space.load(BASE, 8, SHADOW, USER) == 6


def test_fork_takes_read_only_pages_away(space: AddressSpace) -> None:
    """fork write-protects: where the area is read-only, touched pages fault in both afterwards."""
    space.store(BASE, 8, 5, SHADOW, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    for each in (space, space.fork()):
        assert load_fault(each, BASE, SHADOW) == (BASE, 0x45)
        assert each.load(BASE, 8, ORDINARY, USER) == 5


def test_fork_copies_no_page_that_was_only_loaded(space: AddressSpace) -> None:
    """Without an anon_vma fork leaves the page table alone: bit P of a later fault tells."""
    space.load(BASE, 8, ORDINARY, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    child = space.fork()
    assert load_fault(space, BASE, SHADOW) == (BASE, 0x45)
    assert load_fault(child, BASE, SHADOW) == (BASE, 0x44)


def test_a_copy_to_look_at_changes_nothing(space: AddressSpace) -> None:
    """A copy that is no fork has the same page table, and leaves this one as it is."""
    space.store(BASE, 8, 5, SHADOW, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    for each in (space.copy(), space):
        assert each.load(BASE, 8, SHADOW, USER) == 5


def test_prot_none_and_back(space: AddressSpace) -> None:
    """PROT_NONE takes shadow accesses away, and PROT_READ alone gives them back."""
    space.store(BASE, 8, 5, SHADOW, USER)
    assert space.mprotect(BASE, SIZE, 0) == 0
    assert load_fault(space, BASE, SHADOW) == (BASE, 0x44)
    assert space.mprotect(BASE, SIZE, 1) == 0
    assert space.load(BASE, 8, SHADOW, USER) == 5


def test_read_only_pages_move(space: AddressSpace) -> None:
    """mremap moves page table entries as they are; what is mapped there later has none."""
    space.store(BASE, 8, 5, SHADOW, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    to = BASE - (1 << 30)
    assert space.mremap(BASE, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to
    assert space.load(to, 8, SHADOW, USER) == 5
    space.map(BASE, SIZE, shadow=True, label="another")
    assert space.mprotect(BASE, SIZE, 1) == 0
    assert load_fault(space, BASE, SHADOW) == (BASE, 0x44)


def test_writable_again(space: AddressSpace) -> None:
    """mprotect(PROT_WRITE) brings shadow accesses back, and no ordinary store."""
    space.store(BASE, 8, 5, SHADOW, USER)
    assert space.mprotect(BASE, SIZE, 1) == 0
    assert space.mprotect(BASE, SIZE, 2) == 0
    assert space.load(BASE, 8, SHADOW, USER) == 5
    assert space.load(BASE, 8, ORDINARY, USER) == 5
    assert store_fault(space, BASE, ORDINARY) == (BASE, 7)


def test_prot_none_is_not_present(space: AddressSpace) -> None:
    """PROT_NONE takes bit P away from a populated page, and gives the contents back later."""
    space.store(DATA, 8, 5, ORDINARY, USER)
    assert space.mprotect(DATA, SIZE, 0) == 0
    assert load_fault(space, DATA, ORDINARY) == (DATA, 4)
    assert store_fault(space, DATA, ORDINARY) == (DATA, 6)
    assert space.mprotect(DATA, SIZE, 1) == 0
    assert space.load(DATA, 8, ORDINARY, USER) == 5
    assert store_fault(space, DATA, ORDINARY) == (DATA, 7)


def test_kernel_accesses(space: AddressSpace) -> None:
    """The kernel's own accesses fail like user code's, without bit U."""
    assert store_fault(space, BASE, ORDINARY, KERNEL) == (BASE, 2)
    assert load_fault(space, BASE - 8, ORDINARY, KERNEL) == (BASE - 8, 0)
    space.store(DATA, 8, 7, ORDINARY, KERNEL)
    assert space.load(DATA, 8, ORDINARY, USER) == 7


def test_kernel_addresses(space: AddressSpace) -> None:
    """Above TASK_SIZE bit P is reported whatever is there, and nothing is learned from it."""
    assert load_fault(space, TASK_SIZE_MAX, SHADOW) == (TASK_SIZE_MAX, 0x45)
    assert store_fault(space, 0xFFFF_8000_0000_0000, ORDINARY)[1] == 7
    assert load_fault(space, (1 << 64) - 8, ORDINARY)[0] == (1 << 64) - 8


# -- contents ----------------------------------------------------------------------------


def test_new_memory_is_zero_and_populated_by_use(space: AddressSpace) -> None:
    """A page is zero, and populated by the first access that is allowed."""
    assert not space.populated(DATA)
    assert space.load(DATA, 8, ORDINARY, USER) == 0
    assert space.populated(DATA) and not space.populated(DATA + PAGE_SIZE)


def test_probe_populates_nothing(space: AddressSpace) -> None:
    """A probe that succeeds leaves the page as it was."""
    space.probe_store(DATA, 8, ORDINARY, USER)
    assert not space.populated(DATA)


def test_little_endian(space: AddressSpace) -> None:
    """Two 4-byte stores make the 8-byte word, the lower one first; values are truncated."""
    space.store(DATA, 4, 0x1_2222_1111, ORDINARY, USER)
    space.store(DATA + 4, 4, -1, ORDINARY, USER)
    assert space.load(DATA, 8, ORDINARY, USER) == 0xFFFF_FFFF_2222_1111
    assert space.load(DATA + 2, 4, ORDINARY, USER) == 0xFFFF_2222
    space.store(DATA, 8, -1, ORDINARY, USER)
    space.store(DATA, 8, -2, ORDINARY, USER)
    assert space.load(DATA, 8, ORDINARY, USER) == (1 << 64) - 2


def test_across_two_pages(space: AddressSpace) -> None:
    """An access across a page boundary has a part in each page."""
    at = DATA + PAGE_SIZE - 4
    space.store(at, 8, 0x8877_6655_4433_2211, ORDINARY, USER)
    assert space.load(at, 8, ORDINARY, USER) == 0x8877_6655_4433_2211
    assert space.load(at + 4, 4, ORDINARY, USER) == 0x8877_6655
    assert space.load(at - 4, 8, ORDINARY, USER) == 0x4433_2211_0000_0000


def test_across_two_pages_of_which_the_upper_faults(space: AddressSpace) -> None:
    """The fault is at the upper page's first byte, and the lower page is not written."""
    at = DATA + SIZE - 4
    space.store(at - 4, 8, 0x1111_1111_2222_2222, ORDINARY, USER)
    assert store_fault(space, at, ORDINARY) == (DATA + SIZE, 6)
    assert load_fault(space, at, ORDINARY) == (DATA + SIZE, 4)
    assert space.load(at - 4, 8, ORDINARY, USER) == 0x1111_1111_2222_2222


def test_across_two_pages_of_which_the_lower_faults(space: AddressSpace) -> None:
    """The fault is at the access's own address, and the upper page stays unpopulated."""
    assert store_fault(space, DATA - 4, ORDINARY) == (DATA - 4, 6)
    assert not space.populated(DATA)


def test_find_words(space: AddressSpace) -> None:
    """Only nonzero words of the area are found, upwards, in an area of any size."""
    huge = space.map(0x1000_0000_0000, 32 << 40, label="32 TiB")
    top = huge.end - 8
    for addr, value in ((top, 3), (huge.start, 1), (huge.start + 16, 0), (huge.start + 8, 2)):
        space.store(addr, 8, value, ORDINARY, USER)
    space.store(DATA, 8, 9, ORDINARY, USER)
    assert list(space.find_words(huge)) == [(huge.start, 1), (huge.start + 8, 2), (top, 3)]


def test_contents_go_with_the_mapping(space: AddressSpace) -> None:
    """What is mapped where something was is zero and not populated."""
    space.store(DATA, 8, 1, ORDINARY, USER)
    space.store(DATA + PAGE_SIZE, 8, 2, ORDINARY, USER)
    assert space.munmap(DATA, PAGE_SIZE) == 0
    space.map(DATA, PAGE_SIZE)
    assert not space.populated(DATA)
    assert space.load(DATA, 8, ORDINARY, USER) == 0
    assert space.load(DATA + PAGE_SIZE, 8, ORDINARY, USER) == 2


def test_a_huge_area_goes_at_once() -> None:
    """Mapping, using and unmapping 64 TiB touches only what was used."""
    space = AddressSpace()
    start = space.mmap(0, 64 << 40, 3)
    for addr in (start, start + (63 << 40), start + SZ_4G):
        space.store(addr, 8, addr, ORDINARY, USER)
    assert space.munmap(start + SZ_4G, 32 << 40) == 0
    assert [space.populated(a) for a in (start, start + SZ_4G)] == [True, False]
    assert space.load(start + (63 << 40), 8, ORDINARY, USER) == start + (63 << 40)
    assert space.total == 32 << 40


# -- fork ----------------------------------------------------------------------------------


def test_copies_are_isolated(space: AddressSpace) -> None:
    """What one side writes after fork the other side does not see."""
    space.store(BASE, 8, 1, SHADOW, USER)
    child = space.fork()
    space.store(BASE, 8, 2, SHADOW, USER)
    child.store(BASE + 8, 8, 3, SHADOW, USER)
    assert [space.load(BASE + n, 8, SHADOW, USER) for n in (0, 8)] == [2, 0]
    assert [child.load(BASE + n, 8, SHADOW, USER) for n in (0, 8)] == [1, 3]


def test_a_page_is_copied_once_by_who_writes_first(space: AddressSpace) -> None:
    """Reading copies nothing, the first writer copies, the other side then has it alone."""
    space.store(DATA, 8, 1, ORDINARY, USER)
    space.store(DATA + PAGE_SIZE, 8, 1, ORDINARY, USER)
    child = space.fork()
    assert child.load(DATA, 8, ORDINARY, USER) == 1
    child.store(DATA, 8, 2, ORDINARY, USER)
    child.store(DATA, 8, 3, ORDINARY, USER)
    assert child.load(DATA, 8, ORDINARY, USER) == 3
    space.store(DATA, 8, 4, ORDINARY, USER)
    assert (space.copied_pages, child.copied_pages) == (0, 1)


def test_a_copy_that_is_gone_shares_nothing(space: AddressSpace) -> None:
    """After exec or exit of one side the other has its pages alone."""
    space.store(DATA, 8, 1, ORDINARY, USER)
    child = space.fork()
    child.clear()
    space.store(DATA, 8, 2, ORDINARY, USER)
    assert space.copied_pages == 0 and child.areas == [] and not child.populated(DATA)


def test_what_is_known_of_a_page_ends_with_a_store(space: AddressSpace) -> None:
    """Contents are equal where the words are, zeros or not, and whoever writes changes its own."""
    space.store(DATA, 8, 1, ORDINARY, USER)
    known = space.pages.contents()
    space.store(DATA, 8, 2, ORDINARY, USER)
    other = space.copy()
    assert known != space.pages.contents() == other.pages.contents()
    other.store(DATA, 8, 1, ORDINARY, USER)
    other.store(DATA + 8, 8, 0, ORDINARY, USER)
    assert other.pages.contents() == known != space.pages.contents()
    other.store(BASE, 8, 1, SHADOW, USER)
    assert [number for number, _ in other.pages.contents()] == [DATA >> 12, BASE >> 12]
    assert [number for number, _ in known] == [DATA >> 12]


def test_annotations_are_copied(space: AddressSpace) -> None:
    """fork's areas are the same, sealed ones too, and their annotations their own."""
    assert space.mseal(BASE, SIZE) == 0
    child = space.fork()
    child.areas[1].owner, child.areas[1].label = 7, "orphan"
    assert [repr(a) for a in space.areas] == [
        f"<Vma {DATA:#x}-{DATA + SIZE:#x} read write 'data'>",
        f"<Vma {BASE:#x}-{BASE + SIZE:#x} read write shadow sealed 'shadow stack'>",
    ]
    assert child.areas[1].sealed and child.munmap(BASE, SIZE) == -1
    assert child.munmap(DATA, SIZE) == 0 and len(space.areas) == 2


# -- what was allowed once -------------------------------------------------------------------


@pytest.mark.parametrize("shadow", [ORDINARY, SHADOW])
@pytest.mark.parametrize("change", ["munmap", "mprotect", "fixed", "clear", "mremap"])
def test_permission_does_not_outlast_the_area(
    space: AddressSpace, change: str, shadow: bool
) -> None:
    """An access that was allowed faults once the area is gone or refuses it."""
    addr = BASE if shadow else DATA
    space.store(addr, 8, 1, shadow, USER)
    space.load(addr, 8, shadow, USER)
    if change == "munmap":
        space.munmap(addr, PAGE_SIZE)
    elif change == "mprotect":
        space.mprotect(addr, PAGE_SIZE, 0)
    elif change == "fixed":
        space.mmap(addr, PAGE_SIZE, 0, fixed=True)
    elif change == "clear":
        space.clear()
    else:
        moved = space.mremap(addr, SIZE, SIZE, 3, addr + 2 * SIZE)
        assert space.load(moved, 8, shadow, USER) == 1
    load_fault(space, addr, shadow)
    store_fault(space, addr, shadow)
