"""``shstk ablate``: what each guard and each effect of a design is good for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from counterexamples.render import render_text
from shstk import arguments as given
from shstk.ablate import Ablation
from shstk.ablate_finding import Finding
from shstk.ablate_text import as_json, parting_lines, text, verdict
from shstk.errors import UserError
from shstk.mutants import Mutant, directory, mutants
from shstk.pool import Meter
from shstk.search import TextFailure


def add_parser(sub: Any) -> None:
    """Add ``ablate`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "ablate",
        help="mutate every guard and effect of a design; say which property catches it",
        description="Change every guard and every effect of a design's life-cycle hooks once, "
        "and say which properties catch it, with the shortest run; or that it is equivalent, by "
        "proof; or what the design violates and it does not; or that no property tells. What a "
        "design does to user memory is not changed. Exit status 0: every mutant is one of the "
        "first three; 1: otherwise.",
    )
    parser.add_argument("design", metavar="DESIGN", help="a name or a Python file")
    parser.add_argument(
        "--mutant",
        action="append",
        type=given.number,
        default=[],
        metavar="N",
        help="only this mutant (may be repeated)",
    )
    parser.add_argument(
        "--trace", type=given.number, metavar="N", help="print the shortest run of mutant N"
    )
    parser.add_argument(
        "--list", action="store_true", help="only list the mutants, do not check them"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given.add_memory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Mutate a design and check the mutants."""
    design = given.design(arguments.design)
    every = mutants(design)
    chosen = _chosen(every, arguments)
    with directory() as folder:
        if arguments.list:
            findings = [Finding(m, design) for m in chosen]
            for f in findings:
                print(f"{f.mutant.number:>3}  {f.mutant.kind}  {f.mutant.where}, {f.mutant.method}")
            return 0
        memory = given.memory(arguments)
        ablation = Ablation(design, chosen, Path(folder), Meter(), memory)
        try:
            interrupted = ablation.run()
        except TextFailure as failure:
            raise UserError(str(failure)) from None
        findings = list(ablation.findings.values())
        if arguments.trace is not None:
            _trace(findings[0])
        elif arguments.format == "json":
            print(as_json(design, findings))
        else:
            print(text(design, findings))
    if interrupted:
        print("shstk: interrupted; what is above was found until then", file=sys.stderr)
        return 130
    return 0 if all(f.explained for f in findings) else 1


def _chosen(every: list[Mutant], arguments: argparse.Namespace) -> list[Mutant]:
    """The mutants that were asked for."""
    wanted = set(arguments.mutant) if arguments.trace is None else {arguments.trace}
    for number in sorted(wanted):
        if not 1 <= number <= len(every):
            raise UserError(f"there is no mutant {number}: they are numbered 1 to {len(every)}")
    return [m for m in every if not wanted or m.number in wanted]


def _trace(finding: Finding) -> None:
    """The shortest run that tells a mutant from its design."""
    runs = [c for c in (*finding.catches, *finding.hostile) if c.trace is not None]
    for line in verdict(finding):
        print(line)
    if runs:
        shortest = min(runs, key=lambda c: c.steps)
        assert shortest.trace is not None
        print(render_text(shortest.trace, finding.design))
    elif finding.parting is not None:
        for line in parting_lines(finding):
            print(line)
