"""The recorded verdicts of every design: a table that a person can review, and its rows.

``baseline/verdicts.txt`` has a row for each property, a column for each design, and below a
row a line for each violation.  The README's matrix is rendered from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shstk.cache import ROOT
from shstk.errors import UserError
from shstk.expectations import plain, program_name
from shstk.verdicts import HOLDS, NOT_APPLICABLE, PROVED, UNKNOWN, VIOLATED, Report

FILE = ROOT / "baseline" / "verdicts.txt"
README = ROOT / "README.md"
BEGIN, END = "<!-- verdicts -->\n", "<!-- /verdicts -->"
SYMBOLS = {PROVED: "P", HOLDS: "H", VIOLATED: "V", NOT_APPLICABLE: "-", UNKNOWN: "?"}
STATUSES = {symbol: status for status, symbol in SYMBOLS.items()}
NONE = "."  # there is no verdict
LEGEND = """\
# The verdicts of every design in the ordinary environment, at the default bounds, as
# `shstk baseline --update` records them and `shstk baseline` compares them.
# P: proved, for any number of tasks.  H: holds up to the bound.  V and a number: violated, and
# the shortest run has so many steps (or operations, of the CPU level).  -: no run makes its premise
# true.  .: no verdict, because there is no reference machine for the design's architecture.
"""
WIDTH, COLUMN = 56, 5


@dataclass(frozen=True)
class Entry:
    """A recorded verdict; ``steps`` and ``where`` (the conjunct, in which step) of a violation."""

    status: str
    steps: int = 0
    where: str = ""

    @property
    def symbol(self) -> str:
        """For example ``V9``."""
        return SYMBOLS[self.status] + (str(self.steps) if self.status == VIOLATED else "")

    @property
    def words(self) -> str:
        """For example ``violated: gone in clone_vm, 2 steps``."""
        if self.status != VIOLATED:
            return self.status
        where = f": {self.where}" if self.where else ""
        return f"violated{where}, {self.steps} step{'' if self.steps == 1 else 's'}"


@dataclass(frozen=True)
class Table:
    """The designs in order; the rows by the name of the verdict, and in them by design."""

    designs: tuple[str, ...]
    rows: dict[str, dict[str, Entry]]

    def entry(self, name: str, design: str) -> Entry | None:
        """A recorded verdict; None if there is none."""
        return self.rows.get(name, {}).get(design)


# -- from reports --------------------------------------------------------------------
def table(reports: Sequence[Report]) -> Table:
    """What was found, as it would be recorded."""
    rows: dict[str, dict[str, Entry]] = {}
    for report in reports:
        for name, entry in _entries(report):
            rows.setdefault(name, {})[report.design] = entry
    return Table(tuple(r.design for r in reports), rows)


def _entries(report: Report) -> Iterator[tuple[str, Entry]]:
    for v in report.verdicts:
        if v.status == VIOLATED and v.trace is not None:
            last = [f" in {s.step}" for s in v.trace.steps[-1:]]
            where = "".join([v.trace.conjunct, *last])
            yield v.property.id, Entry(VIOLATED, len(v.trace.steps), where)
        else:
            yield v.property.id, Entry(v.status)
    for p in plain(report):
        steps = p.depth if p.status == VIOLATED else 0
        yield program_name(p), Entry(p.status, steps)


def merged(recorded: Table, found: Table, order: Iterable[str]) -> Table:
    """The recorded table with the columns of what was found; designs that are not in order go."""
    known = {*recorded.designs, *found.designs}
    designs = tuple(d for d in order if d in known)
    rows: dict[str, dict[str, Entry]] = {}
    # In the order of what was found, which is that of the properties today.
    for name in dict.fromkeys([*found.rows, *recorded.rows]):
        row = {
            d: entry
            for d in designs
            if (entry := (found if d in found.designs else recorded).entry(name, d)) is not None
        }
        if row:
            rows[name] = row
    return Table(designs, rows)


def differences(recorded: Table, found: Table) -> list[str]:
    """A line for each verdict of the designs that were found that is not as recorded."""
    out = []
    for design in found.designs:
        if design not in recorded.designs:
            out.append(f"{design}: not recorded")
            continue
        for name in dict.fromkeys([*found.rows, *recorded.rows]):
            was, now = recorded.entry(name, design), found.entry(name, design)
            if was != now:
                words = [e.words if e else "no verdict" for e in (was, now)]
                out.append(f"{design} {name}: recorded {words[0]}; found {words[1]}")
    return out


# -- the file ------------------------------------------------------------------------
def render(recorded: Table) -> str:
    """The file's text."""
    assert all(len(name) < WIDTH for name in recorded.rows)
    lines = [LEGEND]
    for number, design in enumerate(recorded.designs):
        bars = "".join(f"{'|':<{COLUMN}}" for _ in range(number))
        lines.append(" " * WIDTH + bars + design)
    lines.append(" " * WIDTH + "".join(f"{'|':<{COLUMN}}" for _ in recorded.designs).rstrip())
    for name, row in recorded.rows.items():
        symbols = (row[d].symbol if d in row else NONE for d in recorded.designs)
        lines.append(f"{name:<{WIDTH}}" + "".join(f"{s:<{COLUMN}}" for s in symbols).rstrip())
        lines += [
            f"    {row[d].symbol} {d}: {row[d].where}"
            for d in recorded.designs
            if d in row and row[d].where
        ]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Table:
    """What ``render`` wrote; UserError if it is something else."""
    designs: list[str] = []
    rows: dict[str, dict[str, Entry]] = {}
    row: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" " * WIDTH):
            designs += [name for name in line.split() if name != "|"]
        elif line.startswith("    "):
            found = re.fullmatch(r" {4}V(\d+) (\S+): (.+)", line)
            if not found or found[2] not in row:
                raise _unreadable(number, line)
            row[found[2]] = Entry(VIOLATED, int(found[1]), found[3])
        else:
            row = _row(number, line, designs)
            rows[line[:WIDTH].rstrip()] = row
    if not rows:
        raise UserError(f"{FILE.name} records nothing: `shstk baseline --update` does")
    return Table(tuple(designs), rows)


def _row(number: int, line: str, designs: Sequence[str]) -> dict[str, Entry]:
    symbols = line[WIDTH:].split()
    if len(symbols) != len(designs):
        raise _unreadable(number, line)
    row = {}
    for design, symbol in zip(designs, symbols, strict=True):
        if symbol == NONE:
            continue
        if symbol[0] not in STATUSES or not re.fullmatch(r"V\d+|[^V]", symbol):
            raise _unreadable(number, line)
        row[design] = Entry(STATUSES[symbol[0]], int(symbol[1:] or 0))
    return row


def _unreadable(number: int, line: str) -> UserError:
    said = line.strip()[:60]
    return UserError(f"{FILE.name}:{number}: {said!r} is nothing that `shstk baseline` records")


def read() -> Table:
    """The recorded table; UserError if there is none."""
    try:
        return parse(FILE.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{FILE}: {error.strerror}; `shstk baseline --update` records the verdicts"
        ) from None


def write(recorded: Table) -> None:
    """Record a table, and show it in the README; UserError if that cannot be."""
    try:
        readme = README.read_text(encoding="utf-8")
        shown = with_matrix(readme, recorded)
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(render(recorded), encoding="utf-8")
        README.write_text(shown, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


# -- the README ----------------------------------------------------------------------
def matrix(recorded: Table) -> str:
    """The recorded verdicts as a Markdown table."""
    cells = [["", *(f"`{d}`" for d in recorded.designs)], ["---"] * (len(recorded.designs) + 1)]
    for name, row in recorded.rows.items():
        entries = [row.get(d) for d in recorded.designs]
        cells.append([f"`{name}`", *(_cell(e) for e in entries)])
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return f"**{entry.symbol}**" if entry.status == VIOLATED else entry.symbol


def with_matrix(readme: str, recorded: Table) -> str:
    """The README with the matrix between its marks; UserError where there are none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{README.name} has no {BEGIN.strip()} … {END} to put the verdicts in")
    return f"{before}{begin}{matrix(recorded)}{end}{after}"
