"""What is in memory, and which accesses the areas allow (arch/x86/mm/fault.c, 6.12).

A page is populated by the first access that its area allows, silently; page faults that user
code sees are the others.  Contents are sparse: only populated pages exist, and in them only the
words that were written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain

from model.cpu.concrete import PageFault
from model.cpu.world import PageFaultCode
from model.reference.areas import TASK_SIZE_MAX, Areas, Vma
from model.world import PAGE_SIZE, U64

PAGE_SHIFT = 12
WORD = 8
IN_PAGE = PAGE_SIZE - WORD  # mask: the offset in its page of the word an address is in


class Page:
    """A populated page: the words that were written, by offset; how many address spaces have it.

    ``content``: equal for pages with the same words, those that are 0 left out; None: not known.
    """

    __slots__ = ("content", "users", "words")

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words
        self.users = 1
        self.content: bytes | None = None

    def known_content(self) -> bytes:
        """``content``, as bytes because these remember their hash."""
        there = sorted([w for w in self.words.items() if w[1]])
        self.content = array("Q", chain.from_iterable(there)).tobytes()
        return self.content


class Pages:
    """The populated pages of an address space, by page number.

    ``shadow`` are those whose page table entry is a shadow stack's (Write=0, Dirty=1): a shadow
    access has made it so, and mprotect() leaves it so (pte_modify(), x86's pgtable.h, 6.12).
    The four ``tlb`` dictionaries remember the words of pages that a kind of access has been
    allowed to; ``flush()`` is due whenever that may have changed.
    """

    def __init__(self) -> None:
        self.present: dict[int, Page] = {}
        self.shadow: set[int] = set()
        self.copied = 0  # pages copied because they were written while shared
        self.tlb_load: dict[int, dict[int, int]] = {}
        self.tlb_store: dict[int, dict[int, int]] = {}
        self.tlb_shadow_load: dict[int, dict[int, int]] = {}
        self.tlb_shadow_store: dict[int, dict[int, int]] = {}
        self._tlbs = (
            (self.tlb_load, self.tlb_store),
            (self.tlb_shadow_load, self.tlb_shadow_store),
        )

    def flush(self) -> None:
        """Forget which accesses are allowed."""
        for read, write in self._tlbs:
            read.clear()
            write.clear()

    def words(self, number: int, *, shadow: bool, write: bool) -> dict[int, int]:
        """The words of a page for an access that is allowed; it is populated, and copied if due."""
        page = self.present.get(number)
        if page is None:
            page = self.present[number] = Page({})
        elif write and page.users > 1:
            page = self._copy_on_write(number, page)
        if shadow:
            self.shadow.add(number)
        if write:
            page.content = None
        self._tlbs[shadow][write][number] = page.words
        return page.words

    def _copy_on_write(self, number: int, page: Page) -> Page:
        page.users -= 1
        self.copied += 1
        own = self.present[number] = Page(dict(page.words))
        for read, _ in self._tlbs:
            read.pop(number, None)
        return own

    def contents(self) -> tuple[tuple[int, bytes], ...]:
        """What lies where: equal for the same words in the same pages."""
        for _, write in self._tlbs:
            write.clear()  # so that the next store is seen to change what is known of its page
        there = self.present
        pages = [(number, there[number]) for number in sorted(there)]
        return tuple(
            [(n, p.content if p.content is not None else p.known_content()) for n, p in pages]
        )

    def within(self, start: int, end: int) -> list[int]:
        """The populated pages in [start, end), in order; never slower than either is large."""
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        if last - first < len(self.present):
            return [n for n in range(first, last) if n in self.present]
        return sorted([n for n in self.present if first <= n < last])

    def forget(self, start: int, end: int) -> None:
        """Drop the contents of [start, end)."""
        for number in self.within(start, end):
            self.present.pop(number).users -= 1
            self.shadow.discard(number)
        self.flush()

    def move(self, start: int, length: int, to: int) -> None:
        """move_page_tables(): what is at [start, start + length) is at ``to`` from now on."""
        shift = (to - start) >> PAGE_SHIFT
        for number in self.within(start, start + length):
            self.present[number + shift] = self.present.pop(number)
            if number in self.shadow:
                self.shadow.remove(number)
                self.shadow.add(number + shift)
        self.flush()

    def share(self, other: Pages) -> None:
        """Give all pages to ``other``, which has none; whoever writes one first copies it."""
        for page in self.present.values():
            page.users += 1
        other.present, other.shadow = self.present.copy(), self.shadow.copy()
        self.flush()


def access_error(vma: Vma | None, *, write: bool, shadow: bool) -> bool:
    """Whether an area refuses an access (access_error(), arch/x86/mm/fault.c, 6.12).

    A shadow stack access, load or store, needs a shadow stack area with VM_WRITE; an ordinary
    store is never allowed in a shadow stack area.  The kernel's own accesses are no different.
    """
    if vma is None:
        return True
    if shadow:
        return not (vma.shadow and vma.write)
    if write:
        return vma.shadow or not vma.write
    return not vma.accessible


class Memory(Areas):
    """Areas with their contents.

    ``width`` is in bytes, 4 or 8, and need not be aligned.  ``shadow``: the access of CALL, RET,
    WRSS and the like; ``user`` false: the kernel's own, which shows in the error code.  The
    address of a fault is the first one of the access in the page that refuses it.  Nothing is
    mapped at non-canonical addresses; that it is not #PF there is the CPU's to know.

    A failing access changes nothing.  (Linux has populated the lower page when an access across
    two pages faults on the upper one; only bit P of a later fault there could tell.)
    """

    pages: Pages

    def load(self, addr: int, width: int, shadow: bool, user: bool) -> int:
        """The little-endian number at ``addr``; PageFault."""
        if width == WORD and not addr & 7:
            tlb = self.pages.tlb_shadow_load if shadow else self.pages.tlb_load
            words = tlb.get(addr >> PAGE_SHIFT)
            if words is not None:
                return words.get(addr & IN_PAGE, 0)
        self._check(addr, width, write=False, shadow=shadow, user=user)
        if shadow:
            self._prepare_anon(addr, width)
        first, value = addr & -WORD, 0
        for word in range(first, addr + width, WORD):
            words = self.pages.words(word >> PAGE_SHIFT, shadow=shadow, write=False)
            value |= words.get(word & IN_PAGE, 0) << 8 * (word - first)
        return (value >> 8 * (addr - first)) & _mask(width)

    def store(self, addr: int, width: int, value: int, shadow: bool, user: bool) -> None:
        """Put ``value``, modulo 2 to the width, at ``addr``; PageFault, and then nothing is put."""
        if width == WORD and not addr & 7:
            tlb = self.pages.tlb_shadow_store if shadow else self.pages.tlb_store
            words = tlb.get(addr >> PAGE_SHIFT)
            if words is not None:
                words[addr & IN_PAGE] = value % U64
                return
        self._check(addr, width, write=True, shadow=shadow, user=user)
        self._prepare_anon(addr, width)
        first = addr & -WORD
        mask = _mask(width) << 8 * (addr - first)
        value = (value << 8 * (addr - first)) & mask
        for word in range(first, addr + width, WORD):
            words = self.pages.words(word >> PAGE_SHIFT, shadow=shadow, write=True)
            kept = words.get(word & IN_PAGE, 0) & ~(mask >> 8 * (word - first))
            words[word & IN_PAGE] = kept | (value >> 8 * (word - first)) % U64

    def probe_load(self, addr: int, width: int, shadow: bool, user: bool) -> None:
        """PageFault if a load would raise it; nothing is changed or populated."""
        self._check(addr, width, write=False, shadow=shadow, user=user)

    def probe_store(self, addr: int, width: int, shadow: bool, user: bool) -> None:
        """PageFault if a store would raise it; nothing is changed or populated."""
        tlb = self.pages.tlb_shadow_store if shadow else self.pages.tlb_store
        if not addr % width and addr >> PAGE_SHIFT in tlb:
            return
        self._check(addr, width, write=True, shadow=shadow, user=user)

    def find_words(self, vma: Vma) -> Iterator[tuple[int, int]]:
        """Address and value of every nonzero aligned 8-byte word in an area, upwards."""
        for number in self.pages.within(vma.start, vma.end):
            words = self.pages.present[number].words
            for offset in sorted(words):
                if words[offset]:
                    yield (number << PAGE_SHIFT) + offset, words[offset]

    def populated(self, addr: int) -> bool:
        """The page at ``addr`` has been accessed since it was mapped."""
        return addr >> PAGE_SHIFT in self.pages.present

    @property
    def copied_pages(self) -> int:
        """How many pages this address space has copied in order to write to them."""
        return self.pages.copied

    def _prepare_anon(self, addr: int, width: int) -> None:
        """anon_vma_prepare(): what only loads have populated is the zero page's."""
        last = addr + width - 1
        for at in (addr,) if addr >> PAGE_SHIFT == last >> PAGE_SHIFT else (addr, last):
            vma = self.find(at)
            if vma is not None:
                vma.anon = True

    def _check(self, addr: int, width: int, *, write: bool, shadow: bool, user: bool) -> None:
        """Raise the PageFault of an access, if any."""
        boundary = (addr | (PAGE_SIZE - 1)) + 1
        starts = (addr, boundary) if addr + width > boundary else (addr,)
        for start in starts:
            vma = self.find(start)
            if shadow and self._walks(start, vma):
                continue
            if access_error(vma, write=write, shadow=shadow):
                code = PageFaultCode.W * write | PageFaultCode.U * user | PageFaultCode.SS * shadow
                raise PageFault(start, code | PageFaultCode.P * self._present(start, vma))

    def _walks(self, addr: int, vma: Vma | None) -> bool:
        """The page table allows a shadow access, so that no area is asked."""
        there = addr >> PAGE_SHIFT in self.pages.shadow
        return there and vma is not None and vma.shadow and vma.accessible

    def _present(self, addr: int, vma: Vma | None) -> bool:
        """Bit P: PROT_NONE takes it away from a populated page.

        Above TASK_SIZE the kernel reports it whatever is there (sanitize_error_code()).
        """
        if addr >= TASK_SIZE_MAX:
            return True
        return vma is not None and vma.accessible and self.populated(addr)


def _mask(width: int) -> int:
    return (1 << 8 * width) - 1
