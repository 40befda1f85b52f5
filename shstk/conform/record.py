"""What a kernel has shown of the counterexamples in the corpus, kept in a file beside them.

    python -m shstk.conform.record

runs them all in one boot and writes the file.  A trace that user space cannot cause is kept
with the reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from counterexamples import itf
from model.designs import DESIGNS
from shstk.conform.boots import place
from shstk.conform.replay import KernelReplay, replay_on_kernel
from shstk.errors import UserError
from shstk.pool import Meter

CORPUS = Path(__file__).parents[2] / "counterexamples" / "corpus"
FILE = "on-kernel.json"
DESIGN = "linux-6.12"


@dataclass(frozen=True)
class Recorded:
    """One trace: what was shown, a line an operation; or why it cannot be run, and nothing."""

    shown: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Record:
    """The whole file: traces by the name of their file."""

    kernel: str
    traces: Mapping[str, Recorded]


def read(path: Path = CORPUS / FILE) -> Record:
    """The record in a file."""
    data = json.loads(path.read_text())
    traces = {
        name: Recorded(tuple(each.get("shown", ())), each.get("not causable", ""))
        for name, each in data["traces"].items()
    }
    return Record(data["kernel"], traces)


def write(record: Record, path: Path) -> None:
    """Write it; the traces in order of their names."""
    traces = {
        name: {"not causable": each.reason} if each.reason else {"shown": list(each.shown)}
        for name, each in sorted(record.traces.items())
    }
    data = {"kernel": record.kernel, "traces": traces}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def record_of(names: list[str], replays: list[KernelReplay]) -> Record:
    """UserError where a kernel does not confirm a trace that it can run."""
    traces = {}
    for name, replay in zip(names, replays, strict=True):
        if not replay.reason and not replay.confirmed:
            raise UserError(f"{name} is not confirmed: `shstk replay {name} --on kernel` says why")
        traces[name] = Recorded(tuple(replay.shown), replay.reason)
    kernel = next((r.kernel for r in replays if r.kernel), "")
    return Record(kernel, traces)


def main() -> int:
    """Run and write."""
    meter = Meter()
    paths = sorted(CORPUS.glob(f"{DESIGN}-*.itf.json"))
    try:
        where = place("bochs", None, meter.show)
        traces = [itf.read(path) for path in paths]
        replays = replay_on_kernel(traces, DESIGNS[DESIGN], where.boot, emulated=True)
        write(record_of([path.name for path in paths], replays), CORPUS / FILE)
    except UserError as error:
        print(f"shstk: {error}", file=sys.stderr)
        return 2
    finally:
        meter.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
