"""Addresses by name, the same on both sides: the ranges that a scenario made, step by step.

The machine and the kernel may put things at different addresses.  Both keep a table of the
ranges that the steps of a scenario have made, in the same order and under the same names; an
address is told by its distance from the newest range that it lies in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.kernel.mmap import SZ_4G
from model.world import PAGE_SIZE, U64

FRAME_BIT = 1 << 63  # marks a signal frame on a shadow stack (SHSTK_DATA_BIT, shstk.c, 6.12)
FAR = 1 << 40  # bytes: further away from a range an address has no name


@dataclass(frozen=True)
class Known:
    """A range and what it is called."""

    name: str
    start: int
    end: int


class Symbols:
    """The names of one side.  ``code``: the name of a code address, or ''."""

    def __init__(self, code: Callable[[int], str], fixed: tuple[Known, ...] = ()) -> None:
        self._code = code
        self._fixed = fixed
        self._of: dict[int, list[Known]] = {}

    def learn(self, mm: int, name: str, start: int, end: int) -> None:
        """A step has made a range in an mm."""
        self._of.setdefault(mm, []).append(Known(name, start, end))

    def copy(self, mm: int, to: int) -> None:
        """fork(): everything is called the same in the copy."""
        self._of[to] = list(self._of.get(mm, ()))

    def known(self, mm: int, name: str) -> Known | None:
        """The range of that name."""
        return next((k for k in self._of.get(mm, ()) if k.name == name), None)

    def find(self, mm: int, address: int, far: int = PAGE_SIZE) -> Known | None:
        """The newest range that an address is in, else ends at, else is below of, else is near.

        ``far``: bytes below a range, and above it; of addresses above 4 GiB only, because
        below that numbers look like them.
        """
        newest = self._of.get(mm, [])[::-1]
        for known in (*newest, *self._fixed):
            if known.start <= address < known.end:
                return known
        for known in newest:
            if known.end == address or known.start - PAGE_SIZE <= address < known.start:
                return known
        for known in newest if address >= SZ_4G else ():
            if known.start >= SZ_4G and known.start - far <= address < known.end + far:
                return known
        return None

    def address(self, mm: int, address: int) -> str:
        """``A``, ``A.end-8``, ``A+0x1000``; hexadecimal where no range is near.

        >>> s = Symbols(lambda a: "")
        >>> s.learn(0, "A", 0x1000, 0x3000)
        >>> s.address(0, 0x2ff8), s.address(0, 0x1008), s.address(0, 0x9000)
        ('A.end-8', 'A+8', '0x9000')
        """
        known = self.find(mm, address) or self.find(mm, address, FAR)
        if known is None:
            return f"{address:#x}"
        above, below = address - known.start, known.end - address
        if above < below:
            return f"{known.name}{_signed(above)}"
        return f"{known.name}.end{_signed(-below)}"

    def value(self, mm: int, value: int) -> str:
        """A word of memory: a code address, an address, what a signal frame holds, a number."""
        code = self._code(value)
        if code:
            return code
        if value & FRAME_BIT and value != U64 - 1:
            inside = value & ~FRAME_BIT
            if self.find(mm, inside):
                return f"frame bit + {self.address(mm, inside)}"
        return self.address(mm, value)


def _signed(distance: int) -> str:
    if distance == 0:
        return ""
    size = abs(distance)
    return f"{'-' if distance < 0 else '+'}{size if size < PAGE_SIZE else hex(size)}"
