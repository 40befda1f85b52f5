"""``shstk conform``: the machine against a real kernel, on scenarios at random or from files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterexamples.scenario import Scenario, ScenarioError, read
from model.designs import DESIGNS, Design
from shstk import arguments as given
from shstk.conform.boots import Place, place
from shstk.conform.campaign import Campaign, Ended, Outcome, configured
from shstk.conform.causable import NotCausable
from shstk.conform.compare import Divergence
from shstk.conform.compile import Case, compile_scenario
from shstk.conform.instructions.command import MOST as INSTRUCTIONS_MAX
from shstk.conform.instructions.command import command as instructions
from shstk.conform.observe import Garbled
from shstk.conform.scenarios import random_case
from shstk.conform.shrink import kind_of, shrink
from shstk.conform.told import Met, divergence_json, file_of, json_of, lines_of, text_of
from shstk.errors import UserError
from shstk.pool import Meter
from shstk.reference import want_machine
from shstk.search import TEXT_ERRORS, text_failure

DESIGN = "linux-6.12"
SCENARIOS, SCENARIOS_MAX = 300, 100_000
SHRUNK = 3  # divergences, each of another kind, that are shrunk
INTERRUPTED = 130


def add_parser(sub: Any) -> None:
    """Add ``conform`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "conform",
        help="compare the reference machine with a real kernel",
        description="Run scenarios on a real kernel with user shadow stacks and compare every "
        "step with what the reference machine predicts. Exit status 0: no divergence; 1: there "
        "are, and each is printed and kept as a scenario file here; 2: wrong usage, or "
        "something is missing.",
    )
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``conform``."""
    parser.add_argument(
        "files", metavar="FILE.scn", nargs="*", help="scenarios to run; without any, random ones"
    )
    parser.add_argument(
        "--scenarios",
        type=given.number,
        metavar="N",
        help=f"how many random scenarios ({SCENARIOS}; none if there are files)",
    )
    parser.add_argument(
        "--seed", type=given.number, default=0, metavar="S", help="which random scenarios (0)"
    )
    parser.add_argument(
        "--design",
        metavar="DESIGN",
        default=DESIGN,
        help=f"what predicts: a design or a Python file ({DESIGN})",
    )
    parser.add_argument(
        "--kernel", metavar="FILE", help="a bzImage of your own instead of Debian's kernel"
    )
    parser.add_argument(
        "--on",
        choices=("bochs", "host"),
        default="bochs",
        help="on an emulated CPU, or on this machine's (user_shstk in /proc/cpuinfo)",
    )
    parser.add_argument(
        "--instructions",
        type=given.number,
        metavar="N",
        help="compare the text of the CPU instead, by N random sequences of instructions "
        "(and the files, which are such sequences)",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and tell; 1 where something diverges."""
    if arguments.instructions is not None:
        if arguments.scenarios is not None:
            raise UserError("--scenarios and --instructions are campaigns of their own: say one")
        arguments.cases = _within("--instructions", arguments.instructions, INSTRUCTIONS_MAX)
        return instructions(arguments)
    design, seed = given.design(arguments.design), given.seed(arguments)
    want_machine(design)
    meter = Meter()
    scenarios = [_read(Path(name)) for name in arguments.files]
    count = _count(arguments)
    where = place(arguments.on, arguments.kernel, meter.show)
    try:
        if arguments.kernel is not None or arguments.on == "host":
            design = configured(design, Campaign(where.boot))
        cases, refused = _cases(scenarios, count, seed, design, meter)
        for path, reason in refused:
            meter.clear()
            print(f"shstk: not run: {path}: {reason}", file=sys.stderr)
        if not cases:
            raise UserError("there is no scenario that can be run")
        return Teller(design, where, meter, arguments.format == "json").run(cases)
    except TEXT_ERRORS as error:
        raise UserError(str(text_failure(error, design))) from None
    except Garbled as error:
        raise UserError(f"the guest cannot be understood: {error}") from None
    except Ended as error:
        raise UserError(f"the guest has stopped: {error}") from None
    finally:
        meter.clear()


def _count(arguments: argparse.Namespace) -> int:
    count = arguments.scenarios
    if count is None:
        return 0 if arguments.files else SCENARIOS
    return _within("--scenarios", count, SCENARIOS_MAX)


def _within(option: str, number: int, most: int) -> int:
    """The number, if it is one that the option takes."""
    if not 0 <= number <= most:
        raise UserError(f"{option} {number}: a number from 0 to {most:,}")
    return number


def _read(path: Path) -> Scenario:
    try:
        return read(path)
    except ScenarioError as error:
        raise UserError(str(error)) from None


def _cases(
    scenarios: Sequence[Scenario], count: int, seed: int, design: Design, meter: Meter
) -> tuple[list[Case], list[tuple[str, str]]]:
    """What is to be run, and which files cannot be, with reasons."""
    cases: list[Case] = []
    refused = []
    for scenario in scenarios:
        try:
            cases.append(compile_scenario(scenario, design, len(cases) + 1))
        except NotCausable as reason:
            refused.append((scenario.path, str(reason)))
    for number in range(count):
        meter.show(f"making scenarios: {number} of {count}")
        cases.append(random_case(design, seed, number, len(cases) + 1))
    return cases, refused


@dataclass
class Teller:
    """Runs cases and tells what becomes of them."""

    design: Design
    where: Place
    meter: Meter
    json: bool
    outcomes: list[Outcome] = field(default_factory=list)
    met: Met = field(default_factory=Met)

    def run(self, cases: Sequence[Case]) -> int:
        """The exit status: 1 with divergences, 130 after Ctrl-C.

        UserError where the guest stops for good, after what was found until then.
        """
        failed: UserError | None = None
        campaign = Campaign(self.where.boot, self.where.on == "bochs")
        interrupted = False
        try:
            for outcome in self._follow(campaign, cases):
                self.outcomes.append(outcome)
                self.met.count(outcome)
                if self.json:
                    print(json.dumps(json_of(outcome)), flush=True)
        except KeyboardInterrupt:
            interrupted = True
        except UserError as error:
            if not self.outcomes:
                raise
            failed = error
        found = [o.divergence for o in self.outcomes if o.divergence is not None]
        try:
            self._tell(found, campaign, not interrupted)
        except KeyboardInterrupt:
            interrupted = True
        self._summary(found, campaign, interrupted, len(cases))
        if failed is not None:
            raise failed
        return INTERRUPTED if interrupted else 1 if found else 0

    def _follow(self, campaign: Campaign, cases: Sequence[Case]) -> Iterator[Outcome]:
        steps = divergences = 0
        for number, outcome in enumerate(campaign.run(cases), 1):
            steps += outcome.steps
            divergences += outcome.divergence is not None
            self.meter.show(
                f"{number} of {len(cases)} scenarios, {steps} steps, {divergences} divergences"
            )
            yield outcome
        self.meter.clear()

    # -- divergences -------------------------------------------------------------------------
    def _tell(self, found: Sequence[Divergence], campaign: Campaign, shrinking: bool) -> None:
        """Print each, the first of a kind shrunk, unless there is no time."""
        kinds: set[tuple[object, ...]] = set()
        known: set[tuple[str, ...]] = set()
        for each in found:
            operation = each.asked.line.operation if each.asked else ""
            kind = (*kind_of(each), operation)
            if kind not in kinds and len(kinds) < SHRUNK and not each.harness:
                kinds.add(kind)
                small = each
                if shrinking:
                    small = shrink(each, self.design, campaign, self.meter.show)
                lines = lines_of(small)
                if lines not in known:
                    known.add(lines)
                    self._show(small, campaign)
                    continue
            elif each.harness:
                self._show(each, campaign)
                continue
            if not self.json:
                what = each.differences[0]
                asked = f" ({each.asked.line.text})" if each.asked else ""
                print(
                    f"DIVERGES  {each.case.scenario.path}, step {each.step}{asked}: {what.what}: "
                    f"predicted {what.predicted}, observed {what.observed}"
                )

    def _show(self, found: Divergence, campaign: Campaign) -> None:
        self.meter.clear()
        path = _free_path()
        try:
            path.write_text(file_of(found))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        if self.json:
            print(json.dumps({"file": str(path), **divergence_json(found)}), flush=True)
            return
        lines = text_of(found, self.design.name, self._kernel(campaign))
        print("\n".join([*lines, f"  kept as {path}", ""]), flush=True)

    @staticmethod
    def _kernel(campaign: Campaign) -> str:
        return f"Linux {campaign.start.kernel}" if campaign.start else "the kernel"

    # -- the end -------------------------------------------------------------------------------
    def _summary(
        self, found: Sequence[Divergence], campaign: Campaign, interrupted: bool, count: int
    ) -> None:
        self.meter.clear()
        steps = sum(outcome.steps for outcome in self.outcomes)
        left_out = [outcome for outcome in self.outcomes if outcome.left_out]
        if self.json:
            end = {
                "design": self.design.name,
                "kernel": campaign.start.kernel if campaign.start else None,
                "on": self.where.on,
                "scenarios": len(self.outcomes),
                "steps": steps,
                "divergences": len(found),
                "ended_early": len(left_out),
                "interrupted": interrupted,
                "operations": dict(self.met.operations),
                "met": dict(self.met.events),
            }
            print(json.dumps(end), flush=True)
            return
        print("\n".join(self.met.lines()))
        for reason in sorted({outcome.left_out for outcome in left_out}):
            times = sum(outcome.left_out == reason for outcome in left_out)
            print(f"ended early {times}, where this kernel has no way: {reason}")
        done = len(self.outcomes)
        of = f"{count}" if done == count else f"{done} of {count}"
        verdict = f"{len(found)} divergence{'s' * (len(found) != 1)}"
        verdict += ", interrupted" * interrupted
        print(
            f"{self.design.name} against {self._kernel(campaign)} on {self.where.on}: "
            f"{of} scenario{'s' * (count != 1)}, {steps:,} step{'s' * (steps != 1)}, {verdict}"
        )


def _free_path() -> Path:
    """A name for a scenario file in the working directory that is not taken."""
    number = 1
    while (path := Path(f"divergence-{number}.scn")).exists():
        number += 1
    return path


assert DESIGN in DESIGNS
