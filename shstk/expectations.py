"""Known verdicts, in a file, so that a check fails only where something changes.

The file is JSON: {"DESIGN": {"PROPERTY": "STATUS"}}.  Another environment than the ordinary
one has its own entry, for example "linux-6.12 ordinary+hostile".  What bound and which
``--without`` the verdicts belong to is up to the command that the file is used with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.errors import UserError
from shstk.program_verdicts import overall
from shstk.programs import ProgramVerdict
from shstk.verdicts import (
    HOLDS,
    NOT_APPLICABLE,
    NOT_INDUCTIVE,
    PROVED,
    UNKNOWN,
    VIOLATED,
    Report,
)

STATUSES = (PROVED, HOLDS, VIOLATED, NOT_APPLICABLE, NOT_INDUCTIVE, UNKNOWN)
NOT_CHECKED = "not checked"
SHAPE = '{"DESIGN": {"PROPERTY": "STATUS"}}'
Table = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Expectations:
    """The verdicts of a file, by label and name; ``bounded``: nothing is proved in this run.

    Verdicts have to be equal, with one exception: where nothing is proved, what is expected
    to be proved may be found to hold, or to be about nothing that can happen.
    """

    file: str
    table: Table
    wanted: frozenset[str] = frozenset()  # properties; none: all
    bounded: bool = False

    def of(self, report: Report) -> dict[str, str]:
        """What is expected of the verdicts of a report, by their names.

        A property of the CPU level may stand for all its conjuncts and protocols.
        """
        given = self.table.get(label(report), {})
        out = {
            name: status
            for name, status in given.items()
            if not self.wanted or property_of(name) in self.wanted
        }
        for id_ in {v.property for v in report.programs} & out.keys():
            mine = [v for v in plain(report) if v.property == id_]
            status = out.pop(id_)
            same = overall(mine) == status
            out = {program_name(v): v.status if same else status for v in mine} | out
        return out

    def met(self, expected: str, found: str) -> bool:
        """A verdict is the expected one."""
        if self.bounded and expected == PROVED:
            return found in (PROVED, HOLDS, NOT_APPLICABLE)
        return expected == found


def label(report: Report) -> str:
    """What a report is called in a file."""
    name, environment = report.design, report.environment
    return name if environment == "ordinary" else f"{name} {environment}"


def plain(report: Report) -> list[ProgramVerdict]:
    """The verdicts of the CPU level on programs without any ability."""
    return [v for v in report.programs if not v.abilities]


def program_name(verdict: ProgramVerdict) -> str:
    """For example ``vfork-frames/frames-kept (glibc 2.36)``."""
    return verdict.claim + (f" ({verdict.protocol})" if verdict.protocol else "")


def property_of(name: str) -> str:
    """The property that a verdict's name is about."""
    return name.split("/")[0]


def found(report: Report) -> dict[str, str]:
    """The statuses of a report's verdicts, by their names."""
    of = {v.property.id: v.status for v in report.verdicts}
    return of | {program_name(v): v.status for v in plain(report)}


def differences(reports: Sequence[Report], expectations: Expectations) -> list[str]:
    """A line for each verdict that is not the expected one."""
    out = []
    for report in reports:
        expected, statuses = expectations.of(report), found(report)
        for name in [*statuses, *(n for n in expected if n not in statuses)]:
            said, now = expected.get(name), statuses.get(name, NOT_CHECKED)
            if said is None:
                out.append(f"{label(report)} {name}: not in {expectations.file}, found {now}")
            elif not expectations.met(said, now):
                out.append(f"{label(report)} {name}: expected {said}, found {now}")
    return out


def read(name: str, wanted: frozenset[str], bounded: bool) -> Expectations:
    """The expectations of a file; UserError if it has none."""
    try:
        data = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UserError(f"--expect {name}: cannot be read: {why}; --record writes one") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: not JSON: {error.msg}"
        raise UserError(f"--expect {name}: {where}; expected {SHAPE}") from None
    except (ValueError, RecursionError):
        raise UserError(f"--expect {name}: no text that is JSON; expected {SHAPE}") from None
    right = isinstance(data, dict) and all(
        isinstance(v, dict) and all(isinstance(s, str) for s in v.values()) for v in data.values()
    )
    if not right or not data:
        raise UserError(f"--expect {name}: expected {SHAPE}")
    for status in (s for verdicts in data.values() for s in verdicts.values()):
        if status not in STATUSES:
            raise UserError(f"--expect {name}: {status!r} is none of {', '.join(STATUSES)}")
    return Expectations(name, data, wanted, bounded)


def writable(name: str) -> None:
    """UserError if there will be nowhere to record verdicts: known before they are found."""
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--record {name}: name a file in a directory that is there")


def record(reports: Sequence[Report], name: str) -> None:
    """Write what ``read`` reads; UserError if that cannot be."""
    table = {label(report): found(report) for report in reports}
    try:
        Path(name).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--record {name}: {error.strerror}; name a file") from None
