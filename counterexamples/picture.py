"""Drawing an address space: what is mapped, who is where, what lies on the shadow stacks.

Rows go from high to low addresses, as stacks grow.  A shadow stack shows the words near each
SSP, and every token on it; areas of the program image share one line.
"""

from __future__ import annotations

from dataclasses import dataclass

from counterexamples.effects import kind_words
from counterexamples.named import size_text
from counterexamples.names import Names
from counterexamples.views import AreaView, View
from model.cpu.words import TOKEN_L, TOKEN_PREVIOUS, previous_ssp
from model.designs import Design
from model.reference import image
from model.reference.machine import Machine
from model.reference.tokens import is_restore_token
from model.reference.vma import AddressSpace
from model.state import Kind
from model.world import PAGE_SIZE

ABOVE, BELOW = 5, 1  # words shown at and above an SSP, and below it
TOKENS_MAX = 8  # shown per stack
MARK = 14  # columns for who is where
FRAME_BIT = 1 << 63  # SHSTK_DATA_BIT: the word of a 6.12 signal frame
WORD = 8
PICTURED = {Kind.COPY: "shadow stack (fork's copy)", Kind.ORPHAN: "shadow stack (orphan copy)"}
INDENT = "    "  # of an address within a range
LEFT_OUT = INDENT + "..."


@dataclass(frozen=True)
class Row:
    """A line of the picture: who points there, the address, and what is there.

    ``rank`` orders rows of one address: what lies above it, the gap below, the area below.
    """

    address: int
    mark: str
    where: str
    what: str
    rank: int = 0

    @property
    def text(self) -> str:
        """The line, of 100 columns as a rule."""
        return f"{self.mark:>{MARK}} {self.where:<30}{self.what}".rstrip()


def pictures(machine: Machine, names: Names, view: View) -> list[str]:
    """All address spaces, as lines."""
    lines: list[str] = []
    for mm, space in sorted(machine.system.mms.items()):
        lines += ["", *_Picture(mm, space, machine.design, names, view).lines()]
    return lines[1:] or ["no address space is left"]


class _Picture:
    """One address space."""

    def __init__(
        self, mm: int, space: AddressSpace, design: Design, names: Names, view: View
    ) -> None:
        self.mm, self.space, self.names, self.view = mm, space, names, view
        self.frame_bit = not design.signal_frame_is_token
        self.areas = view.mms[mm]
        self.tasks = {name: t for name, t in view.tasks.items() if t.mm == mm}
        self.ssps = {name: t for name, t in self.tasks.items() if t.ssp is not None}

    def lines(self) -> list[str]:
        users = ", ".join(self.tasks) or "nobody"
        out = [f"mm{self.mm} of {users}", *(row.text for row in self._upper())]
        return [*out, self._image()]

    def _upper(self) -> list[Row]:
        """Everything but the image, from the top."""
        rows = [row for area in self.areas for row in self._area(area)]
        rows += self._gaps()
        rows += self._dangling()
        rows += self._stale()
        return sorted(rows, key=lambda row: (-row.address, row.rank))

    def _image(self) -> str:
        areas = [a for a in reversed(self.space.areas) if a.image]
        what = ", ".join(f"{a.label} {size_text(a.end - a.start)}" for a in areas)
        return Row(0, "", "the program image", what).text

    # -- areas -------------------------------------------------------------------------
    def _area(self, area: AreaView) -> list[Row]:
        name = self.names.of(self.mm, area)
        what = kind_words(area, PICTURED)
        words = [f"{size_text(area.size):>8} ", f"{name}:" * bool(name), what]
        # Its row is above its words, what is recorded of its lower end below them.
        head = Row(area.end, "", f"{area.start:#x}-{area.end:#x}", " ".join(filter(None, words)), 2)
        recorded = [self._base(n, "") for n, t in self.tasks.items() if t.base == area.start]
        return [head, *(self._words(area) if area.shadow else []), *recorded]

    def _base(self, name: str, where: str) -> Row:
        """What thread.shstk of a task says."""
        task = self.tasks[name]
        size = size_text(task.size) if task.size else "0 (freed)"
        what = f"{name}'s base, size {size}{where}"
        return Row(task.base, "", f"{INDENT}{task.base:#x}", what)

    def _words(self, area: AreaView) -> list[Row]:
        """The words of a shadow stack that are worth showing, downwards."""
        rows: list[Row] = []
        last = area.end
        for address in sorted(self._interesting(area), reverse=True):
            if address < last - WORD:
                rows.append(Row(address, "", LEFT_OUT, ""))
            rows.append(self._slot(area, address))
            last = address
        if rows and last > area.start:
            rows.append(Row(last, "", LEFT_OUT, ""))
        return rows

    def _slot(self, area: AreaView, address: int) -> Row:
        mark, where = self._marks(area, address), f"{INDENT}{address:#x}"
        if address == area.end:
            return Row(address, mark, where, "the top", 3)
        word = self._word(address)
        what = f"{word:#018x}  {self._meaning(address, word)}".rstrip()
        return Row(address, mark, where, what)

    def _word(self, address: int) -> int:
        """What lies there; nothing is populated by looking."""
        if not self.space.populated(address):
            return 0
        return self.space.pages.present[address // PAGE_SIZE].words.get(address % PAGE_SIZE, 0)

    def _interesting(self, area: AreaView) -> set[int]:
        """The words near each SSP that belongs here, and the tokens."""
        shown = set()
        for task in self.ssps.values():
            if task.ssp is not None and task.stack is not None and task.stack.start == area.start:
                near = task.ssp & -WORD
                window = range(near - BELOW * WORD, near + ABOVE * WORD, WORD)
                shown |= {a for a in window if area.start <= a < area.end} | {near} & {area.end}
        vma = self.space.find(area.start)
        words = self.space.find_words(vma) if vma else ()
        tokens = [address for address, word in words if self._special(address, word)]
        return shown | set(tokens[-TOKENS_MAX:])

    def _special(self, address: int, word: int) -> bool:
        return is_restore_token(address, word) or self._previous(word) is not None

    def _previous(self, word: int) -> int | None:
        """The SSP in a previous-ssp token, where it leads to a shadow stack."""
        ssp = previous_ssp(word)
        if word & 3 != TOKEN_L | TOKEN_PREVIOUS:
            return None
        leads = any(area.shadow and area.start <= ssp <= area.end for area in self.areas)
        return ssp if leads else None

    def _marks(self, area: AreaView, address: int) -> str:
        here = []
        for name, task in self.ssps.items():
            on_it = task.stack is not None and task.stack.start == area.start
            if on_it and task.ssp is not None and task.ssp & -WORD == address:
                here.append(f"{name}.ssp" + " (+4)" * bool(task.ssp % WORD))
        return f"{', '.join(here)} →" if here else ""

    def _meaning(self, address: int, word: int) -> str:
        if is_restore_token(address, word):
            return "restore token"
        if (previous := self._previous(word)) is not None:
            return f"previous-ssp token: {self.names.symbol(self.mm, previous)}"
        if word & FRAME_BIT and self.frame_bit:
            return f"signal frame: SSP was {self.names.symbol(self.mm, word - FRAME_BIT)}"
        if word == image.RESTORER:
            return "return address: the restorer"
        if image.TEXT <= word < image.TEXT + image.TEXT_SIZE:
            return "return address"
        return ""

    # -- what is not mapped ------------------------------------------------------------
    def _gaps(self) -> list[Row]:
        """Where nothing is placed, beside shadow stacks; two stacks can share a gap."""
        gaps = self.space.gaps
        beside: dict[tuple[int, int], list[str]] = {}
        for area in reversed(self.areas):
            for low, high in (
                (area.end, area.end + gaps.end),
                (area.start - gaps.start, area.start),
            ):
                if area.shadow and low < high:
                    beside.setdefault((low, high), []).append(self.names.of(self.mm, area))
        rows = []
        for (low, high), names in beside.items():
            what = f"guard gap of {' and '.join(names)}"
            if self.space.overlapping(low, high):
                what = f"no {what}: it is mapped"
            what = f"{size_text(high - low):>8}  {what}"
            rows.append(Row(high, "", f"{low:#x}-{high:#x}", what, 1))
        return rows

    def _dangling(self) -> list[Row]:
        """SSPs whose stack is not mapped."""
        rows = []
        for name, task in self.ssps.items():
            ssp, stack = task.ssp or 0, task.stack
            area = self.view.area(self.mm, stack.start) if stack is not None else None
            if area is None or not area.shadow:
                what = f"{self.names.symbol(self.mm, ssp, stack)}, not mapped"
                rows.append(Row(ssp, f"{name}.ssp →", f"{INDENT}{ssp:#x}", what))
        return rows

    def _stale(self) -> list[Row]:
        """Recorded ranges at which nothing begins."""
        starts = {area.start for area in self.areas}
        rows = []
        for name, task in self.tasks.items():
            if task.base and task.base not in starts:
                where = f", {self.names.symbol(self.mm, task.base)} is not mapped"
                rows.append(self._base(name, where))
        return rows
