"""Laws of the address space, against an oracle that knows nothing but single pages.

A call or access that fails changes nothing but what the oracle says it changes; what one side
does after fork the other side does not see.  The oracle is a dictionary from page numbers to
what is there, in a window of a few pages below a low mmap_base; placement is decided by trying
every address.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from model.kernel.errno import EEXIST, EFAULT, EINVAL, ENOMEM, EPERM
from model.reference.areas import mmap_legacy_base
from model.reference.vma import TASK_SIZE_MAX, AddressSpace, GuardGaps, PageFault

P = 4096
LOW, HIGH = 16, 26  # pages: mmap_min_addr, mmap_base
LEGACY = mmap_legacy_base(TASK_SIZE_MAX) // P
LIMIT = 18
Answer = int | tuple[int, int]  # a value, or the address and error code of a page fault


@dataclass
class PageOf:
    """A mapped page."""

    read: bool
    write: bool
    shadow: bool
    label: str
    allocation: int
    sealed: bool = False
    populated: bool = False
    data: dict[int, int] = field(default_factory=dict)  # offset: byte


@dataclass
class Oracle:
    """An address space, page by page."""

    gaps: GuardGaps
    pages: dict[int, PageOf] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)  # pages at which an allocation has been split
    allocations: int = 0

    # -- areas ---------------------------------------------------------------------
    def at(self, anywhere: int) -> int:
        """A page: one that is mapped, or any in the window and a little around it."""
        if anywhere < 70 and self.pages:
            return sorted(self.pages)[anywhere % len(self.pages)]
        return 0 if anywhere == 99 else LOW - 1 + anywhere % (HIGH + 4 - LOW)

    def together(self, below: int) -> bool:
        """A page and the next one are in one area."""
        one, two = self.pages.get(below), self.pages.get(below + 1)
        if one is None or two is None or below + 1 in self.cuts:
            return False
        return one.allocation == two.allocation

    def areas(self) -> list[list[int]]:
        """The pages, area by area."""
        found: list[list[int]] = []
        for page in sorted(self.pages):
            if found and found[-1][-1] == page - 1 and self.together(page - 1):
                found[-1].append(page)
            else:
                found.append([page])
        return found

    def area(self, page: int) -> list[int]:
        """The area a mapped page is in."""
        return next(area for area in self.areas() if page in area)

    def any_sealed(self, first: int, count: int) -> bool:
        """Something sealed is there."""
        return any(self.pages[p].sealed for p in range(first, first + count) if p in self.pages)

    def put(self, first: int, pages: list[PageOf]) -> int:
        """Map pages as one new area."""
        self.allocations += 1
        for number, page in enumerate(pages, first):
            page.allocation = self.allocations
            self.pages[number] = page
            self.cuts.discard(number)
        return first * P

    def drop(self, first: int, count: int) -> None:
        """Unmap pages."""
        for page in range(first, first + count):
            self.pages.pop(page, None)

    # -- placement -------------------------------------------------------------------
    def fits(self, first: int, count: int, gap_below: int) -> bool:
        """An area can go there, as far as neighbours are concerned."""
        start = range(first - gap_below // P, first + count)
        if any(page in self.pages for page in start):
            return False
        above, below = self.pages.get(first + count), self.pages.get(first - 1)
        if self.gaps.start and above is not None and above.shadow:
            return False
        return not (self.gaps.end and below is not None and below.shadow)

    def place(self, hint: int, count: int, shadow: bool, above4g: bool) -> int:
        """The page of a new area, or -errno."""
        if hint:
            above = self.pages.get(hint + count)
            free = not any(p in self.pages for p in range(hint, hint + count))
            if free and not (above is not None and above.shadow):
                return hint
        gap = self.gaps.placement if shadow else 0
        for first in range(HIGH - count, LOW + gap // P - 1, -1):
            if not above4g and self.fits(first, count, gap):
                return first
        return next(p for p in range(LEGACY, LEGACY + 1000) if self.fits(p, count, 0))

    # -- system calls ------------------------------------------------------------------
    def mmap(self, at: tuple[int, int], count: int, new: PageOf, how: str, above4g: bool) -> int:
        """mmap(2) of ``count`` pages."""
        first, offset = at
        if count == 0:
            return -EINVAL
        if how == "hint":
            first = self.place(max(first, LOW) if first else 0, count, new.shadow, above4g)
        else:
            if offset:
                return -EINVAL
            if first < LOW:
                return -EPERM
        there = [p for p in range(first, first + count) if p in self.pages]
        if there and how == "noreplace":
            return -EEXIST
        if self.any_sealed(first, count):
            return -EPERM
        if len(self.pages) - len(there) + count > LIMIT:
            return -ENOMEM
        return self.put(first, [deepcopy(new) for _ in range(count)])

    def munmap(self, at: tuple[int, int], count: int) -> int:
        """munmap(2)."""
        if at[1] or count == 0:
            return -EINVAL
        if self.any_sealed(at[0], count):
            return -EPERM
        self.drop(at[0], count)
        return 0

    def mprotect(self, at: tuple[int, int], count: int, prot: int) -> int:
        """mprotect(2), page by page."""
        first, offset = at
        if offset:
            return -EINVAL
        before = self.areas()
        flags = bool(prot & 1), bool(prot & 2)
        for number in range(first, first + count):
            page = self.pages.get(number)
            if page is None:
                return -ENOMEM
            if page.sealed:
                return -EPERM
            if (page.read, page.write) != flags:
                self._cut(before, number, first, first + count)
            page.read, page.write = flags
        return 0

    def mseal(self, at: tuple[int, int], count: int) -> int:
        """mseal(2)."""
        first, offset = at
        if offset:
            return -EINVAL
        if any(p not in self.pages for p in range(first, first + count)):
            return -ENOMEM
        before = self.areas()
        for number in range(first, first + count):
            if not self.pages[number].sealed:
                self._cut(before, number, first, first + count)
            self.pages[number].sealed = True
        return 0

    def _cut(self, areas: list[list[int]], page: int, start: int, end: int) -> None:
        """The area of a page, as it was, is split at the ends of a range."""
        area = next(a for a in areas if page in a)
        self.cuts |= {cut for cut in (start, end) if area[0] < cut <= area[-1]}

    def mremap(self, at: tuple[int, int], old: int, new: int, flags: int, to: int) -> int:
        """mremap(2); its errors in the kernel's order."""
        first, offset = at
        may_move, fixed, keep = flags & 1, flags & 2, flags & 4
        if ((fixed or keep) and not may_move) or (keep and old != new) or offset or not new:
            return -EINVAL
        if first not in self.pages:
            return -EFAULT
        if self.pages[first].sealed:
            return -EPERM
        if fixed or keep:
            if first + old > to and to + new > first:
                return -EINVAL
            if fixed:
                if self.any_sealed(to, new):
                    return -EPERM
                self.drop(to, new)
        if old > new:
            if self.any_sealed(first + new, old - new):
                return -EPERM
            self.drop(first + new, old - new)
            old = new
        if old == new and not (fixed or keep):
            return first * P
        if first not in self.pages:
            return -EFAULT
        if old == 0:
            return -EINVAL
        last = self.area(first)[-1]
        if first + old - 1 > last:
            return -EFAULT
        if len(self.pages) + (old if keep else new - old) > LIMIT:
            return -ENOMEM
        if not (fixed or keep):
            room = range(first + old, first + new)
            if first + old - 1 == last and not any(p in self.pages for p in room):
                for page in room:
                    self.pages[page] = self._blank(first)
                    self.cuts.discard(page)
                return first * P
            if not may_move:
                return -ENOMEM
        if not fixed:
            to = self.place(to if keep else 0, new, False, False)
        if to < LOW:
            return -EPERM
        moved = [self.pages[p] for p in range(first, first + old)]
        blank = self._blank(first)
        left = [self._blank(first) for _ in moved]
        self.put(to, moved + [deepcopy(blank) for _ in range(new - old)])
        if keep:
            self.pages.update(enumerate(left, first))
        else:
            self.drop(first, old)
        return to * P

    def _blank(self, first: int) -> PageOf:
        """A page like that one, never accessed."""
        page = deepcopy(self.pages[first])
        page.populated, page.data = False, {}
        return page

    # -- accesses ------------------------------------------------------------------------
    def refusal(self, addr: int, width: int, write: bool, shadow: bool) -> tuple[int, int] | None:
        """Address and error code of the page fault, without the bit of user mode."""
        for byte in range(addr, addr + width):
            page = self.pages.get(byte // P)
            if page is not None:
                if shadow:
                    allowed = page.shadow and page.write
                elif write:
                    allowed = page.write and not page.shadow
                else:
                    allowed = page.read or page.write
                if allowed:
                    continue
            present = page is not None and page.populated and (page.read or page.write)
            return byte, present + 2 * write + 0x40 * shadow
        return None

    def access(self, addr: int, data: bytes | None, width: int) -> int:
        """An access that is allowed: the number that is there afterwards."""
        for n in range(width):
            page = self.pages[(addr + n) // P]
            page.populated = True
            if data is not None:
                page.data[(addr + n) % P] = data[n]
        held = (self.pages[a // P].data.get(a % P, 0) for a in range(addr, addr + width))
        return int.from_bytes(bytes(held), "little")

    def words(self) -> dict[int, int]:
        """All nonzero words by address."""
        found: dict[int, int] = {}
        for number, page in self.pages.items():
            for offset, byte in page.data.items():
                at = number * P + (offset & ~7)
                found[at] = found.get(at, 0) | byte << 8 * (offset & 7)
        return {at: value for at, value in found.items() if value}


ANYWHERE = st.integers(0, 99)  # mostly where something is mapped: see Oracle.at()
MISALIGNED = st.sampled_from((0,) * 9 + (8,))
PLACES = st.tuples(ANYWHERE, MISALIGNED)
COUNTS = st.integers(0, 4)
OFFSETS = st.sampled_from((0, 8, 16, 4, 3, P - 8, P - 4, P - 2))
BITS = st.integers(0, (1 << 64) - 1)


class Machine(RuleBasedStateMachine):
    """Random calls and accesses on an address space and its oracle, and on copies of both."""

    @initialize(gaps=st.sampled_from((GuardGaps.merged, GuardGaps.v1)))
    def boot(self, gaps: GuardGaps) -> None:
        """One address space, with ordinary memory between two shadow stacks."""
        space = AddressSpace(gaps, base=HIGH * P, limit_bytes=LIMIT * P, huge_pages=False)
        oracle = Oracle(gaps)
        self.pairs = [(space, oracle)]
        self.labels = 0
        for first, count, shadow in ((16, 3, True), (20, 3, False), (24, 2, True)):
            space.map(first * P, count * P, shadow=shadow, label="first")
            oracle.put(first, [PageOf(True, True, shadow, "first", 0) for _ in range(count)])

    def pair(self, which: int) -> tuple[AddressSpace, Oracle]:
        """One of the address spaces there are."""
        return self.pairs[which % len(self.pairs)]

    @rule(
        which=st.integers(0, 2),
        at=PLACES,
        count=COUNTS,
        prot=st.integers(0, 3),
        how=st.sampled_from(("hint", "fixed", "noreplace")),
        shadow=st.booleans(),
        above4g=st.sampled_from((False, False, True)),
    )
    def mmap(
        self,
        which: int,
        at: tuple[int, int],
        count: int,
        prot: int,
        how: str,
        shadow: bool,
        above4g: bool,
    ) -> None:
        """mmap returns the same and maps the same."""
        space, oracle = self.pair(which)
        at = oracle.at(at[0]), at[1]
        self.labels += 1
        label = f"area {self.labels}"
        new = PageOf(bool(prot & 1), bool(prot & 2) or shadow, shadow, label, 0)
        got = space.mmap(
            at[0] * P + at[1],
            count * P - (count > 0),
            prot,
            fixed=how == "fixed",
            noreplace=how == "noreplace",
            shadow=shadow,
            above4g=above4g,
            label=label,
        )
        assert got == oracle.mmap(at, count, new, how, above4g)

    @rule(which=st.integers(0, 2), at=PLACES, count=COUNTS)
    def munmap(self, which: int, at: tuple[int, int], count: int) -> None:
        """munmap returns the same and unmaps the same."""
        space, oracle = self.pair(which)
        at = oracle.at(at[0]), at[1]
        assert space.munmap(at[0] * P + at[1], count * P) == oracle.munmap(at, count)

    @rule(which=st.integers(0, 2), at=PLACES, count=COUNTS, prot=st.integers(0, 3))
    def mprotect(self, which: int, at: tuple[int, int], count: int, prot: int) -> None:
        """mprotect returns the same and changes the same, also where it fails."""
        space, oracle = self.pair(which)
        at = oracle.at(at[0]), at[1]
        got = space.mprotect(at[0] * P + at[1], count * P, prot)
        assert got == oracle.mprotect(at, count, prot)

    @rule(which=st.integers(0, 2), at=PLACES, count=st.sampled_from((0, 1, 1, 2)))
    def mseal(self, which: int, at: tuple[int, int], count: int) -> None:
        """mseal returns the same and seals the same."""
        space, oracle = self.pair(which)
        at = oracle.at(at[0]), at[1]
        assert space.mseal(at[0] * P + at[1], count * P) == oracle.mseal(at, count)

    @rule(
        which=st.integers(0, 2),
        at=PLACES,
        old=st.sampled_from((1, 1, 2, 2, 3, 4, 0)),
        new=st.sampled_from((1, 2, 2, 3, 4, 0)),
        flags=st.sampled_from((1, 1, 3, 3, 5, 5, 0, 2, 4, 7)),
        to=ANYWHERE,
    )
    def mremap(
        self, which: int, at: tuple[int, int], old: int, new: int, flags: int, to: int
    ) -> None:
        """mremap returns the same and moves the same."""
        space, oracle = self.pair(which)
        at, to = (oracle.at(at[0]), at[1]), oracle.at(to)
        got = space.mremap(at[0] * P + at[1], old * P, new * P, flags, to * P)
        assert got == oracle.mremap(at, old, new, flags, to)

    @rule(
        which=st.integers(0, 2),
        page=ANYWHERE,
        offset=OFFSETS,
        width=st.sampled_from((4, 8, 8)),
        shadow=st.sampled_from((None, None, False, True)),
        user=st.booleans(),
        value=st.one_of(st.none(), BITS),
    )
    def access(
        self,
        which: int,
        page: int,
        offset: int,
        width: int,
        shadow: bool | None,
        user: bool,
        value: int | None,
    ) -> None:
        """Loads and stores fault at the same address with the same code, or find the same.

        probe_store raises what store raises, and nothing else.
        """
        space, oracle = self.pair(which)
        there = oracle.pages.get(oracle.at(page))
        if shadow is None:
            shadow = there is not None and there.shadow
        addr = oracle.at(page) * P + offset
        refusal = oracle.refusal(addr, width, value is not None, shadow)
        expected: Answer
        if refusal is not None:
            expected = refusal[0], refusal[1] + 4 * user
        else:
            data = None if value is None else value.to_bytes(8, "little")[:width]
            expected = oracle.access(addr, data, width)
        answers: list[Answer] = []
        for access in ("probe", "access", "again"):
            try:
                if value is None:
                    answers.append(space.load(addr, width, shadow, user))
                elif access == "probe":
                    space.probe_store(addr, width, shadow, user)
                    answers.append(expected if refusal is None else 0)
                else:
                    space.store(addr, width, value, shadow, user)
                    answers.append(space.load(addr, width, shadow, user))
            except PageFault as fault:
                answers.append((fault.address, fault.error_code))
        assert answers == [expected] * 3

    @rule(which=st.integers(0, 2))
    def fork(self, which: int) -> None:
        """A copy is the same, and from then on nobody's but its own."""
        space, oracle = self.pair(which)
        if len(self.pairs) < 3:
            self.pairs.append((space.copy(), deepcopy(oracle)))

    @rule()
    def exit(self) -> None:
        """The last address space is cleared and gone."""
        if len(self.pairs) > 1:
            space, _ = self.pairs.pop()
            space.clear()
            assert space.areas == [] and not space.pages.present

    @invariant()
    def same(self) -> None:
        """Areas are sorted, disjoint, and what the oracle says, and so are the contents."""
        for space, oracle in self.pairs:
            edges = [edge for area in space.areas for edge in (area.start, area.end)]
            assert edges == sorted(edges) and all(area.size > 0 for area in space.areas)
            expected = []
            for numbers in oracle.areas():
                page = oracle.pages[numbers[0]]
                flags = (page.read, page.write, page.shadow, page.sealed, page.label)
                expected.append((numbers[0] * P, (numbers[-1] + 1) * P, *flags))
            assert expected == [
                (a.start, a.end, a.read, a.write, a.shadow, a.sealed, a.label) for a in space.areas
            ]
            populated = {number for number, page in oracle.pages.items() if page.populated}
            assert set(space.pages.present) == populated
            assert {
                at: value for area in space.areas for at, value in space.find_words(area)
            } == oracle.words()
            assert space.total == len(oracle.pages) * P


TestLaws = Machine.TestCase
TestLaws.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, derandomize=True
)
