"""What an emulated CPU does differently from the manual, and so from the model's CPU text.

Bochs 3.0 loads RSTORSSP's token before it stores ("should be done atomically using RMW", says
its source), so the page fault of that load says read.  The manual's load is locked, which is
a write from the start.  Silicon decides; here bit W is taken out of the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping

from model.cpu.world import PageFaultCode
from shstk.conform.seen import PAGE_FAULT, Seen

RSTORSSP = "RSTORSSP"


def on_bochs(seen: Seen, names: Mapping[int, str], rows: Mapping[str, str]) -> dict[str, str]:
    """The rows that are predicted of a step, as Bochs would have them."""
    out = dict(rows)
    for slot, task in seen.tasks.items():
        fault = task.fault
        if fault is None or fault.trapno != PAGE_FAULT or fault.instruction != RSTORSSP:
            continue
        what = f"{names.get(slot, f'task {slot}')}: exception"
        read = fault.error & ~int(PageFaultCode.W)
        out[what] = out[what].replace(f"error {fault.error:#x}", f"error {read:#x}")
    return out
