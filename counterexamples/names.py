"""What page ranges are called, and addresses by their distance from one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from counterexamples.named import ADDR_LETTERS, size_text
from counterexamples.views import AreaView, View
from model.reference.values import Range
from model.world import PAGE_SIZE


@dataclass(frozen=True)
class Called:
    """A range and its name; it may not be mapped any more."""

    name: str
    start: int
    end: int


class Names:
    """Names of ranges, per mm: those that lines bind, and letters for other shadow stacks.

    A range keeps its name when it is unmapped, until something new is mapped there, and
    fork's copies have the name of the original.
    """

    def __init__(self, taken: set[str]) -> None:
        letters = (letter for letter in ADDR_LETTERS if letter not in taken)
        more = (f"A{n}" for n in count(1) if f"A{n}" not in taken)
        self._fresh = _chain(letters, more)
        # Per mm and start, oldest first; what was named last comes last among the starts too.
        self._known: dict[int, dict[int, list[Called]]] = {}

    # -- learning ----------------------------------------------------------------
    def observe(self, before: View | None, after: View) -> None:
        """Name the shadow stacks that are new in ``after``; forget mms that are long gone."""
        for gone in (
            self._known.keys() - after.mms.keys() - (before.mms.keys() if before else set())
        ):
            del self._known[gone]
        for mm, areas in after.mms.items():
            old = before.mms.get(mm) if before else None
            for area in areas:
                if not area.shadow or self.of(mm, area):
                    continue
                if old is None:
                    name = self._elsewhere(area)
                else:
                    name = self._part_of(mm, area, old)
                self.call(mm, name or next(self._fresh), area.start, area.end)

    def call(self, mm: int, name: str, start: int, end: int) -> None:
        """From now on the range has that name."""
        known = self._known.setdefault(mm, {})
        here = [called for called in known.pop(start, []) if called.end != end]
        known[start] = [*here, Called(name, start, end)]

    def _elsewhere(self, area: AreaView) -> str:
        """The name of the same range in another mm, for fork's copies."""
        for known in self._known.values():
            for called in reversed(known.get(area.start, ())):
                if called.end == area.end:
                    return called.name
        return ""

    def _part_of(self, mm: int, area: AreaView, old: tuple[AreaView, ...]) -> str:
        """The name of the area that this one has been split off."""
        for each in old:
            if each.shadow and each.start <= area.start and area.end <= each.end:
                return self.of(mm, each)
        return ""

    # -- asking --------------------------------------------------------------------
    def of(self, mm: int, area: AreaView) -> str:
        """The name of what is mapped, or ''."""
        for called in reversed(self._known.get(mm, {}).get(area.start, ())):
            if called.end >= area.end:
                return called.name
        return ""

    def _around(self, mm: int, address: int, stack: Range | None = None) -> Called | None:
        """The range that an address is in, or at the top of; of this mm first."""
        own = self._newest_first(mm)
        others = [c for other in self._known if other != mm for c in self._newest_first(other)]
        if stack is not None:
            for called in (*own, *others):
                if (called.start, called.end) == (stack.start, stack.end):
                    return called
        for known in (own, others):
            for called in known:
                if called.start <= address < called.end:
                    return called
            for called in known:
                if address == called.end or called.start - PAGE_SIZE <= address < called.start:
                    return called
        return None

    def _newest_first(self, mm: int) -> list[Called]:
        starts = reversed(self._known.get(mm, {}).values())
        return [called for here in starts for called in reversed(here)]

    def symbol(self, mm: int, address: int, stack: Range | None = None) -> str:
        """An address for a table: ``A``, ``A.end-8``, ``A+64``, or hexadecimal.

        ``stack``: the range it belongs to, where that is known.
        """
        called = self._around(mm, address, stack)
        if called is None:
            return f"{address:#x}"
        above, below = address - called.start, called.end - address
        if above < below:
            return f"{called.name}{_signed(above)}"
        return f"{called.name}.end{_signed(-below)}"

    def place(self, mm: int, address: int, view: View) -> str:
        """An address in a sentence: ``24 bytes below the top of A``; '' where nothing is known.

        ``view`` tells whether the range was still mapped.
        """
        called = self._around(mm, address)
        if called is None:
            return ""
        gone = "" if view.area(mm, called.start) else ", which is not mapped"
        above, below = address - called.start, called.end - address
        if below == 0:
            return f"the top of {called.name}{gone}"
        if above < 0:
            return f"{_bytes(-above)} below the bottom of {called.name}{gone}"
        if above == 0:
            return f"the bottom of {called.name}{gone}"
        if below <= above:
            return f"{_bytes(below)} below the top of {called.name}{gone}"
        return f"{_bytes(above)} above the bottom of {called.name}{gone}"


def _chain(*names: Iterator[str]) -> Iterator[str]:
    for each in names:
        yield from each


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else size_text(count)


def _signed(distance: int) -> str:
    """``-8``, ``+0x2000``; nothing for 0."""
    if distance == 0:
        return ""
    size = abs(distance)
    return f"{'-' if distance < 0 else '+'}{size if size < PAGE_SIZE else hex(size)}"
