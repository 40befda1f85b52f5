"""What an instruction has done: as predicted, and as the guest reports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from model.cpu.concrete import CpuFault
from model.cpu.world import Vector
from model.reference.signals import NAMES


@dataclass(frozen=True)
class Fault:
    """An exception: vector, error code, CR2 where it is a page fault, the signal it becomes."""

    vector: int
    error: int
    address: int | None
    signal: int

    def __str__(self) -> str:
        try:
            what = str(CpuFault(Vector(self.vector), self.error, self.address))
        except ValueError:  # an exception that the text knows nothing of
            what = f"vector {self.vector} error {self.error:#x}"
        return f"{what}, {NAMES.get(self.signal, f'signal {self.signal}')}"


@dataclass(frozen=True)
class Outcome:
    """After an instruction, or at its fault: registers, and the aligned words that changed.

    ``ssp`` is None where shadow stacks are off, ``rax`` where the text does not say.
    """

    rip: int
    rsp: int
    ssp: int | None
    cs: int
    cf: int
    rax: int | None
    words: dict[int, int] = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def kind(self) -> str:
        """``succeed``, or the exception."""
        return f"#{Vector(self.fault.vector).name}" if self.fault else "succeed"

    def rows(self) -> dict[str, str]:
        """What is compared, as text."""
        rows = {name: _hex(getattr(self, name)) for name in ("rip", "rsp", "ssp", "cs", "rax")}
        rows["cf"] = str(self.cf)
        rows.update((f"[{address:#x}]", _hex(word)) for address, word in sorted(self.words.items()))
        rows["exception"] = str(self.fault or "none")
        return rows


def _hex(value: int | None) -> str:
    return "-" if value is None else f"{value:#x}"


def same(predicted: Outcome, observed: Outcome) -> bool:
    """Nothing that the text says is otherwise."""
    return not differences(predicted, observed)


def differences(predicted: Outcome, observed: Outcome) -> list[tuple[str, str, str]]:
    """What is not the same: its name, as predicted, as observed."""
    left, right = predicted.rows(), observed.rows()
    names = list(dict.fromkeys((*left, *right)))
    if predicted.rax is None:
        names.remove("rax")
    both = [(name, left.get(name, "unchanged"), right.get(name, "unchanged")) for name in names]
    return [row for row in both if row[1] != row[2]]


@dataclass(frozen=True)
class Report:
    """A line of the guest's: a step's outcome, or why there is none."""

    case: int
    step: int
    outcome: Outcome | None
    lost: str = ""


def read_report(data: dict[str, Any]) -> Report:
    """A line of the guest's about a step.  ValueError, KeyError, TypeError if it is none."""
    case, step = int(data["case"]), int(data["step"])
    if "lost" in data:
        return Report(case, step, None, str(data["lost"]))
    registers = {name: int(data[name]) for name in ("rip", "rsp", "cs", "cf", "rax")}
    words = {int(address): int(word) for address, word in data["words"]}
    fault = data.get("fault")
    return Report(
        case,
        step,
        Outcome(
            **registers,
            ssp=int(data["ssp"]) if "ssp" in data else None,
            words=words,
            fault=_fault(fault) if fault else None,
        ),
    )


def _fault(data: dict[str, int]) -> Fault:
    address = int(data["address"]) if data["vector"] == Vector.PF else None
    return Fault(int(data["vector"]), int(data["error"]), address, int(data["signal"]))
