"""What the corpus' counterexamples came to on a real kernel, as the README shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from counterexamples import itf
from shstk.conform.record import CORPUS, Record, read

ENVIRONMENTS = ("-hostile", "-pivot")  # beside the ordinary one
WIDTH = 100


def findings(record: Record | None = None) -> str:
    """For each property what was done on the kernel and what was seen, a line an operation.

    Properties whose violations look the same there stand together.
    """
    record = record or read()
    by_sight: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name, each in record.traces.items():
        stem = name.removesuffix(".itf.json")
        if not stem.endswith(ENVIRONMENTS):
            trace = itf.read(CORPUS / name)
            claim = f"{trace.property} ({len(trace.steps)} steps)"
            by_sight.setdefault((each.shown, each.reason), []).append(claim)
    lines = [f"Linux {record.kernel}"]
    for (shown, reason), predicted in by_sight.items():
        lines += ["", "predicted: " + ", ".join(predicted)]
        lines += _wrapped(shown or (f"not tried: {reason}",))
    return "\n".join(lines)


def _wrapped(lines: tuple[str, ...]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="      ")
