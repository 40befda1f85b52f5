"""The instruction campaign from the command line: what runs, and what is told."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shstk import arguments as given
from shstk.conform.boots import Place, place
from shstk.conform.campaign import Ended
from shstk.conform.instructions.campaign import Boot, Strayed, Tally, run
from shstk.conform.instructions.cases import Case, read_cases
from shstk.conform.instructions.generate import generate
from shstk.conform.instructions.judge import Verdict
from shstk.conform.instructions.predict import Texts
from shstk.conform.instructions.shrink import cut, kind_of, shrink
from shstk.conform.instructions.table import INSTRUCTIONS
from shstk.errors import UserError
from shstk.pool import Meter

PROGRAM = "instructions"  # the guest
COUNT, MOST = 1000, 1_000_000
BOOTED = 20_000  # cases of one boot
SHRUNK = 3  # divergences, each of another kind, that are shrunk
LISTED = 20  # divergences that get a line
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a campaign of its own."""
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="cases to run; without any, random ones"
    )
    parser.add_argument(
        "--cases", type=given.number, metavar="N", help=f"how many random cases ({COUNT:,})"
    )
    parser.add_argument(
        "--seed", type=given.number, default=0, metavar="S", help="which random cases (0)"
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
    parser.add_argument("--format", choices=("text", "json"), default="text")


def command(arguments: argparse.Namespace) -> int:
    """Run a campaign and tell; 1 where a divergence is not explained."""
    cases = [case for name in arguments.files for case in _read(Path(name))]
    count = arguments.cases if arguments.cases is not None else 0 if cases else COUNT
    if not 0 <= count <= MOST:
        raise UserError(f"--cases {count}: a number from 0 to {MOST:,}")
    seed = given.seed(arguments)
    meter = Meter()
    where = place(arguments.on, arguments.kernel, meter.show)
    try:
        tally, shrunk, interrupted = instructions_campaign(
            count,
            seed,
            boot_of(where),
            meter=meter,
            cases=cases,
            emulated=where.on == "bochs",
        )
    finally:
        meter.clear()
    tell = _json if arguments.format == "json" else _text
    tell(tally, shrunk, "interrupted" if interrupted else "")
    return INTERRUPTED if interrupted else 1 if tally.unexplained or tally.strayed else 0


def _read(path: Path) -> list[Case]:
    try:
        return read_cases(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or 'not a text'}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def boot_of(where: Place) -> Boot:
    """Boots the guest program of this campaign."""

    def boot(cases: bytes) -> Iterator[str]:
        try:
            yield from where.lines(PROGRAM, cases)
        except Ended as ended:
            raise UserError(str(ended)) from None

    return boot


def instructions_campaign(
    count: int,
    seed: int,
    boot: Boot,
    *,
    meter: Meter,
    cases: Sequence[Case] = (),
    texts: Texts = INSTRUCTIONS,
    emulated: bool = True,
) -> tuple[Tally, list[Verdict], bool]:
    """Run given cases, and ``count`` random ones, on guests; ``texts`` predict,
    and on Bochs (``emulated``) what it does otherwise is no divergence.

    What came of it, the first unexplained divergences, shrunk, and whether Ctrl-C ended it.
    """
    tally, shrunk = Tally(), []
    try:
        for batch in _batches(count, seed, cases, meter.show):
            try:
                for verdict in run(batch, boot, texts, emulated):
                    tally.add(verdict)
                    meter.show(
                        f"{tally.cases:,} cases, {tally.steps:,} instructions, "
                        f"{len(tally.unexplained)} divergences"
                    )
            except Strayed as strayed:
                tally.strayed = str(strayed)
        kinds: dict[tuple[str, str], Verdict] = {}
        for verdict in tally.unexplained:
            kinds.setdefault(kind_of(verdict), verdict)
        for verdict in list(kinds.values())[:SHRUNK]:
            shrunk.append(shrink(verdict, boot, meter.show, texts, emulated))
    except KeyboardInterrupt:
        return tally, shrunk, True
    return tally, shrunk, False


def _batches(
    count: int, seed: int, cases: Sequence[Case], say: Callable[[str], None]
) -> Iterator[list[Case]]:
    """The cases of each boot, with different numbers."""
    if cases:
        yield [Case(n, case.mode, case.group, case.steps) for n, case in enumerate(cases)]
    for first in range(0, count, BOOTED):
        batch = []
        for case in generate(seed, min(BOOTED, count - first), first):
            say(f"making cases: {case.number:,} of {count:,}")
            batch.append(case)
        yield batch


# -- telling -----------------------------------------------------------------------


def _text(tally: Tally, shrunk: Sequence[Verdict], interrupted: str) -> None:
    for verdict in tally.unexplained[:LISTED]:
        print(line(verdict))
    if len(tally.unexplained) > LISTED:
        print(f"          and {len(tally.unexplained) - LISTED:,} more")
    for verdict in shrunk:
        print("\n".join(("", *describe(verdict))))
    print(end="\n" if shrunk else "")
    print("\n".join(met(tally)))
    if tally.explained:
        print("Bochs does otherwise, as predicted (cases):")
        for deviation, times in tally.explained.most_common():
            print(f"  {times:5,}  {deviation}")
    if tally.strayed:
        print(f"DIVERGES  {tally.strayed}")
    ends = "case ends" if tally.explained_cases == 1 else "cases end"
    print(
        f"{interrupted + ': ' if interrupted else ''}{_many(tally.cases, 'case')}, "
        f"{_many(tally.steps, 'instruction')} as the text says, {tally.explained_cases:,} {ends} "
        f"where Bochs does otherwise, {_many(len(tally.unexplained), 'unexplained divergence')}"
    )


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def met(tally: Tally) -> list[str]:
    """What has become of each instruction, where that is as the text says."""
    kinds: dict[str, dict[str, int]] = {}
    for (name, kind), times in sorted(tally.outcomes.items(), key=lambda item: -item[1]):
        kinds.setdefault(name, {})[kind] = times
    return [
        f"{name:<16}  " + ", ".join(f"{times:,} {kind}" for kind, times in kinds[name].items())
        for name in INSTRUCTIONS
        if name in kinds
    ]


def line(verdict: Verdict) -> str:
    """A divergence in a line."""
    what, predicted, observed = verdict.rows()[0]
    where = f"case {verdict.case.number}, step {verdict.agreed}"
    name = verdict.case.steps[verdict.agreed].name
    return f"DIVERGES  {where}, {name}: {what}: predicted {predicted}, observed {observed}"


def describe(verdict: Verdict) -> list[str]:
    """A divergence: the case, and both sides of what differs."""
    step = verdict.case.steps[verdict.agreed]
    lines = [f"SHRUNK    {step.name}, step {verdict.agreed} of this case:"]
    lines += ["  " + line for line in cut(verdict).text().splitlines()]
    rows = [("", "predicted", "observed"), *verdict.rows()]
    widths = [max(len(row[n]) for row in rows) for n in range(2)]
    lines += [f"    {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    return lines


def _json(tally: Tally, shrunk: Sequence[Verdict], interrupted: str) -> None:
    print(
        json.dumps(
            {
                "cases": tally.cases,
                "instructions": tally.steps,
                "outcomes": [[*key, times] for key, times in sorted(tally.outcomes.items())],
                "explained": dict(tally.explained),
                "explained_cases": tally.explained_cases,
                "unexplained": len(tally.unexplained),
                "strayed": tally.strayed,
                "interrupted": bool(interrupted),
                "divergences": [
                    {
                        "case": cut(v).text(),
                        "step": v.agreed,
                        "differs": [list(row) for row in v.rows()],
                    }
                    for v in shrunk
                ],
            }
        )
    )
