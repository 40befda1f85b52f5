"""``shstk prove``: proofs for any number of tasks, and what is said where there is none."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from counterexamples import itf
from counterexamples.render import render_text
from model.designs import Design
from properties import PROPERTIES
from properties.cpu import MACHINE_PROPERTIES
from shstk import arguments as given
from shstk.errors import UserError
from shstk.plan import families_in
from shstk.pool import Meter
from shstk.proof.bmc import search
from shstk.proof.certificates import write_certificates
from shstk.proof.cpu_proofs import prove_cpu
from shstk.proof.cpu_theorems import batches, cpu_theorems
from shstk.proof.cti import counterexample
from shstk.proof.cti_text import render_cti
from shstk.proof.invariants import named
from shstk.proof.judge import BOUNDED, Judgement, judge
from shstk.proof.limits import parse_where
from shstk.proof.proof_report import WIDTH, as_json, cpu_json, cpu_text, text
from shstk.proof.proofs import Interrupted, obligations, prove
from shstk.proof.smtlib import export
from shstk.reference import has_machine, want_machine
from shstk.search import TextFailure, text_failures
from shstk.verdicts import NOT_INDUCTIVE, PROVED

SEARCH_MAX = 12  # steps; each one more takes longer than all before
EVERY_PROPERTY = (*PROPERTIES, *MACHINE_PROPERTIES)


def add_parser(sub: Any) -> None:
    """Add ``prove`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "prove",
        help="prove properties for any number of tasks and any length of run",
        description="Prove properties of a design by induction, for any number of tasks, mms and "
        "mappings, any length of run and any 64-bit size.  What is not proved is explored.  Exit "
        "status 0: all that was asked about is proved, but for claims about endless runs, which "
        "`check` explores; 1: otherwise.",
    )
    parser.add_argument("design", metavar="DESIGN", help="a name or a Python file")
    parser.add_argument(
        "--property", action="append", default=[], metavar="ID", help="only this property"
    )
    given.add_environment(parser)
    parser.add_argument(
        "--solver",
        choices=("z3", "cvc5", "both"),
        help="who has to say unsat to every obligation (default: z3, which also finds the proof)",
    )
    parser.add_argument(
        "--smtlib", metavar="DIR", help="write all obligations there, as SMT-LIB 2 files"
    )
    parser.add_argument(
        "--certificates",
        action="store_true",
        help="with --smtlib: also cvc5's proofs, where it can write one (slow)",
    )
    parser.add_argument(
        "--search",
        type=int,
        metavar="N",
        help="instead of proving: search symbolically for a violation of the --property within N "
        "steps, sizes being any 64-bit number (exit status 0 if there is one)",
    )
    parser.add_argument(
        "--where",
        metavar="CONDITIONS",
        help="with --search: of the last step's choices, for example stack_size<4K,compat=1",
    )
    parser.add_argument(
        "--explain", action="store_true", help="the lemmas of each proof, and what fails without"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Prove what can be proved."""
    design = given.design(arguments.design)
    wanted = frozenset(
        given.known(name, EVERY_PROPERTY, "property", "properties") for name in arguments.property
    )
    without, environment = given.without(arguments), given.environment(arguments)
    _check(arguments)
    meter = Meter()
    try:
        with text_failures(design):
            if arguments.search is not None:
                return _search(arguments, design, environment, without, meter)
            if arguments.smtlib:
                _export(arguments, design, environment, without, meter)
            return _prove(arguments, design, environment, without, wanted, meter)
    except Interrupted:
        print("shstk: interrupted; the answers found until then are kept", file=sys.stderr)
        return 130
    except TextFailure as failure:
        raise UserError(str(failure)) from None


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that would say nothing beside the others."""
    if arguments.search is not None:
        proving = ("solver", "smtlib", "certificates", "explain")
        given_too = [
            f"--{name}" for name in proving if getattr(arguments, name) not in (None, False)
        ]
        if given_too:
            raise UserError(
                f"--search looks for a violation and proves nothing: leave out "
                f"{', '.join(given_too)}, or --search"
            )
    elif arguments.where is not None:
        raise UserError("--where goes with --search N")
    if arguments.certificates and not arguments.smtlib:
        raise UserError("--certificates are written beside the obligations: say --smtlib DIR too")


def _solvers(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Who has to confirm a proof."""
    return ("z3", "cvc5") if arguments.solver == "both" else (arguments.solver or "z3",)


def _prove(
    arguments: argparse.Namespace,
    design: Design,
    environment: str,
    without: frozenset[str],
    wanted: frozenset[str],
    meter: Meter,
) -> int:
    """The life cycle, then the CPU's text; unless only properties of one of them are asked for."""
    solvers = _solvers(arguments)
    judgement, cpu = None, None
    if not wanted or wanted & PROPERTIES.keys():
        judgement = _judged(arguments, design, environment, without, wanted, meter)
    if wanted & MACHINE_PROPERTIES.keys():
        want_machine(design)
    if has_machine(design) and (not wanted or wanted & MACHINE_PROPERTIES.keys()):
        cpu = prove_cpu(design, solvers, meter)
    meter.clear()
    machine = wanted & MACHINE_PROPERTIES.keys()
    if arguments.format == "json":
        out = as_json([judgement] if judgement else [])
        out["theorems"] = cpu_json(cpu, machine) if cpu else []
        print(json.dumps(out, indent=2))
    else:
        if judgement:
            print(text(judgement, design, arguments.explain))
            _counterexamples(judgement, design, without)
        if cpu:
            print(cpu_text(cpu, machine))
    if judgement and judgement.interrupted:
        print("shstk: interrupted; not all that is not proved was explored", file=sys.stderr)
        return 130
    open_ = [v.status for v in (judgement.verdicts if judgement else ())]
    theorems = cpu.theorems if cpu else ()
    open_ += [t.status for t in theorems if not machine or t.property in machine]
    return 0 if all(status in (PROVED, BOUNDED) for status in open_) else 1


def _judged(
    arguments: argparse.Namespace,
    design: Design,
    environment: str,
    without: frozenset[str],
    wanted: frozenset[str],
    meter: Meter,
) -> Judgement:
    proof = prove(design, environment, without, _solvers(arguments), meter, arguments.explain)
    return judge(proof, design, wanted, given.share_of_memory(), meter)


def _counterexamples(judgement: Judgement, design: Design, without: frozenset[str]) -> None:
    """For what is neither proved nor violated: why induction does not go through."""
    in_force = named(judgement.proof.kept)
    for v in judgement.verdicts:
        for c in v.claims if v.status == NOT_INDUCTIVE else ():
            if c.status != NOT_INDUCTIVE:
                continue
            found = None
            for path, goal in zip(c.paths[:3], c.goals, strict=False):
                found = found or counterexample(design, path, in_force, goal, switched_off=without)
            if found is not None:
                print("\n" + "-" * WIDTH)
                print(render_cti(found, design))


def _search(
    arguments: argparse.Namespace,
    design: Design,
    environment: str,
    without: frozenset[str],
    meter: Meter,
) -> int:
    """The shortest violation of a property, sizes being any number."""
    if len(arguments.property) != 1:
        raise UserError("--search looks for a violation of one property: say --property ID")
    if not 1 <= arguments.search <= SEARCH_MAX:
        raise UserError(f"--search {arguments.search}: a run of 1 to {SEARCH_MAX} steps")
    prop = arguments.property[0]
    where = parse_where(arguments.where) if arguments.where is not None else ()
    found = search(
        design,
        [prop],
        depth=arguments.search,
        families=families_in(environment, without),
        switched_off=without,
        where=where,
        environment=environment,
        progress=meter.show,
    )
    meter.clear()
    if found.trace is not None:
        if arguments.format == "json":
            sys.stdout.write(itf.dumps(found.trace))
        else:
            print(render_text(found.trace, design))
        return 0
    within = f"within {found.depth} step{'' if found.depth == 1 else 's'} of 2x2x2"
    said = {"interrupted": "interrupted; none", "unknown": f"the solver gave up ({found.reason})"}
    reason = said.get(found.status, "none")
    print(f"shstk: violations of {prop} by {design.name}: {reason} {within}", file=sys.stderr)
    return 130 if found.status == "interrupted" else 1


def _export(
    arguments: argparse.Namespace,
    design: Design,
    environment: str,
    without: frozenset[str],
    meter: Meter,
) -> None:
    made = obligations(design, environment, without, meter.show)
    every = list(made.batches)
    if has_machine(design):
        every += batches(cpu_theorems(design))
    meter.clear()
    directory = Path(arguments.smtlib)
    export(every, directory)
    if arguments.certificates:
        write_certificates(every, directory / "certificates")
