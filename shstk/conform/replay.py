"""``shstk replay FILE --on kernel``: what a real kernel shows of a counterexample."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from counterexamples.trace import Trace
from model.designs import Design
from shstk.conform.boots import place
from shstk.conform.campaign import Boot, Campaign, Ended, Outcome, configured
from shstk.conform.causable import NotCausable
from shstk.conform.compile import Case
from shstk.conform.observe import Garbled
from shstk.conform.told import text_of
from shstk.conform.traces import Told, case_of
from shstk.errors import UserError
from shstk.pool import Meter
from shstk.reference import want_machine

NOTHING, STACKS = "nothing", "shadow stacks"
# What a task is at first; of a step only what is different since the one before is told.
AT_FIRST = {"state": "user", "SSP": "off", "features": "none", "locked features": "none"}
MOMENTARY = ("result", "exception", "handlers entered", "call that returned")


@dataclass(frozen=True)
class KernelReplay:
    """What became of a trace on a kernel.

    ``reason``: why it cannot be run there, '' if it can.  ``told``: its scenario; ``outcome``:
    what the comparison with the machine says.  ``kernel``: the version that it ran on.
    """

    trace: Trace
    reason: str = ""
    told: Told | None = None
    outcome: Outcome | None = None
    kernel: str = ""

    @property
    def confirmed(self) -> bool:
        """The kernel shows what the machine predicts, and that is the trace's violation."""
        if self.told is None or self.outcome is None:
            return False
        return self.told.violated and not self.outcome.divergence and not self.outcome.left_out

    @property
    def shown(self) -> list[str]:
        """What was seen on the kernel, a line a step."""
        if self.told is None or self.outcome is None:
            return []
        return shown(self.told.case, self.outcome.steps)


def shown(case: Case, steps: int) -> list[str]:
    """What the first steps of a case show, a line a step, where the kernel agrees."""
    before: Mapping[str, str] = {}
    out = []
    for asked in case.asked[:steps]:
        seen = changes(before, asked.rows)
        seen += [f"WARN {warned.at}" for warned in asked.seen.warnings]
        out.append(f"{asked.line.text}: {'; '.join(seen) or 'nothing to be seen'}")
        before = asked.rows
    return out


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is different since, in words."""
    out = []
    gone = [words for what, words in before.items() if _kind(what) == STACKS and what not in after]
    for what, words in after.items():
        kind = _kind(what)
        was = NOTHING if kind in MOMENTARY else before.get(what, AT_FIRST.get(kind, NOTHING))
        if kind == STACKS and what not in before and gone:
            was = gone[0]  # of the same mm, whose first task has died
        if what != "who shares memory" and words != was:
            out.append(f"{what} {words}")
    return out


def _kind(what: str) -> str:
    return what.partition(": ")[2] or what


def replay_on_kernel(
    traces: Sequence[Trace], design: Design, boot: Boot, emulated: bool = False
) -> list[KernelReplay]:
    """Run the scenarios of traces in one boot; UserError, Garbled where there is no guest."""
    results: dict[int, KernelReplay] = {}
    told: dict[int, Told] = {}
    for number, trace in enumerate(traces, 1):
        try:
            told[number] = case_of(trace, design, number)
        except NotCausable as reason:
            results[number] = KernelReplay(trace, str(reason))
    if told:
        campaign = Campaign(boot, emulated)
        for outcome in campaign.run([each.case for each in told.values()]):
            number = outcome.case.number
            version = campaign.start.kernel if campaign.start else ""
            results[number] = KernelReplay(
                traces[number - 1], outcome.left_out, told[number], outcome, version
            )
    return [results[number] for number in sorted(results)]


def replay_command(trace: Trace, design: Design, kernel: str | None) -> int:
    """Replay a trace on Debian's kernel, or on one of your own: tell, and the exit status."""
    want_machine(design)
    meter = Meter()
    try:
        where = place("bochs", kernel, meter.show)
        if kernel is not None:
            design = configured(design, Campaign(where.boot))
        result = replay_on_kernel([trace], design, where.boot, emulated=True)[0]
    except Garbled as error:
        raise UserError(f"the guest cannot be understood: {error}") from None
    except Ended as error:
        raise UserError(f"the guest has stopped: {error}") from None
    finally:
        meter.clear()
    return tell(result, design)


def tell(result: KernelReplay, design: Design) -> int:
    """Print what became of a trace; 0 where the kernel confirms it."""
    if result.reason or result.told is None or result.outcome is None:
        print(f"shstk: does not replay on a kernel: {result.reason}", file=sys.stderr)
        return 1
    found = result.outcome.divergence
    if found is not None:
        print("\n".join(text_of(found, design.name, f"Linux {result.kernel}")))
        return 1
    count, trace = len(result.told.case.asked) - result.told.probes, result.trace
    if not result.told.violated:
        print(
            f"shstk: does not replay on a kernel: where it goes on by itself, {trace.claim} is "
            "not violated",
            file=sys.stderr,
        )
        return 1
    print(
        f"replays on Linux {result.kernel}: {count} operations, as the reference machine "
        f"predicts, which violates {trace.claim}"
    )
    for line in result.shown:
        print(f"  {line}")
    return 0
