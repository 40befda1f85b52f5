"""A divergence for an engineer: what was predicted, what was seen, how to see it again."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from counterexamples.render import WIDTH
from counterexamples.scenario import Scenario, write
from model.designs import DESIGNS
from shstk.conform.campaign import Outcome
from shstk.conform.compare import Divergence

OWN = "linux-6.12"  # what a kept file runs on, where the design is a file of its own


def scenario_of(found: Divergence) -> Scenario:
    """The scenario up to where it diverges, with a story."""
    words = [f"{d.what}: predicted {d.predicted}, observed {d.observed}" for d in found.differences]
    story = [line for each in words for line in textwrap.wrap(each, WIDTH)]
    lines = tuple(asked.line for asked in found.case.asked[: found.step])
    said = found.case.scenario
    known = tuple(name for name in said.designs if name in DESIGNS) or (OWN,)
    return replace(said, designs=known, lines=lines, story=tuple(story), expects=())


def lines_of(found: Divergence) -> tuple[str, ...]:
    """The lines of a scenario up to where it diverges."""
    return tuple(asked.line.text for asked in found.case.asked[: found.step])


def text_of(found: Divergence, design: str, kernel: str) -> list[str]:
    """A divergence in lines: the step, a table of both sides, the scenario."""
    asked = found.asked
    what = f"step {found.step}: {asked.line.text}" if asked else "its start"
    kind = "THE GUEST FAILED" if found.harness else "DIVERGES"
    out = [f"{kind}  {found.case.scenario.path}, {what}", ""]
    for difference in found.differences:
        out.append(f"  {difference.what}")
        for label, words in ((design, difference.predicted), (kernel, difference.observed)):
            out += textwrap.wrap(
                words,
                WIDTH,
                initial_indent=f"    {label:<{max(len(design), len(kernel))}}  ",
                subsequent_indent=" " * (6 + max(len(design), len(kernel))),
                break_on_hyphens=False,
            )
    out.append("")
    for number, each in enumerate(found.case.asked[: found.step], 1):
        mark = ">" if number == found.step else " "
        out.append(f"  {mark} {number:>2}  {each.line.text}")
    return out


def file_of(found: Divergence) -> str:
    """The scenario file."""
    return write(scenario_of(found))


def json_of(outcome: Outcome) -> dict[str, object]:
    """What became of a scenario, as plain data."""
    found = outcome.divergence
    return {
        "scenario": outcome.case.scenario.path,
        "steps": outcome.steps,
        "left_out": outcome.left_out or None,
        "divergence": None if found is None else divergence_json(found),
    }


def divergence_json(found: Divergence) -> dict[str, object]:
    """A divergence as plain data."""
    return {
        "step": found.step,
        "guest_failed": found.harness,
        "lines": list(lines_of(found)),
        "differences": [
            {"what": d.what, "predicted": d.predicted, "observed": d.observed}
            for d in found.differences
        ],
    }


# -- what a campaign has met ---------------------------------------------------------------
class Met:
    """Counts what the steps of a campaign were and came to, so that it can be judged."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.events: Counter[str] = Counter()

    def count(self, outcome: Outcome) -> None:
        """Count the steps of a scenario that were compared."""
        for asked in outcome.case.asked[: outcome.steps]:
            self.operations[asked.line.operation] += 1
            for what, words in asked.rows.items():
                kind = what.partition(": ")[2]
                if kind == "exception" and words != "nothing":
                    self.events[" ".join(words.split()[:3])] += 1
                elif what == "result" and words.startswith("-"):
                    self.events[words] += 1
                elif kind == "handlers entered" and words != "nothing":
                    self.events["handler entered"] += 1
                elif kind == "call that returned" and words != "nothing":
                    self.events["vfork waiter goes on"] += 1
            self.events.update(f"WARN {warned.at}" for warned in asked.seen.warnings)

    def lines(self) -> list[str]:
        """The counts, most frequent first."""
        rows: Sequence[tuple[str, Counter[str]]] = (
            ("operations", self.operations),
            ("met", self.events),
        )
        out = []
        for label, counter in rows:
            words = ", ".join(f"{name} {count}" for name, count in counter.most_common())
            out += textwrap.wrap(
                words,
                WIDTH,
                initial_indent=f"{label:<12}",
                subsequent_indent=" " * 12,
                break_on_hyphens=False,
            )
        return out
