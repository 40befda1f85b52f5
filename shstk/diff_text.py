"""What ``shstk diff`` prints: what differs, in the order in which it becomes known."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from counterexamples.changed import changes
from counterexamples.named import Names
from counterexamples.render import (
    BY_NAME,
    LEGEND,
    WIDTH,
    interesting,
    render_text,
    start_lines,
    step_lines,
)
from counterexamples.trace import Extent, Trace, TraceStep
from model.designs import Design, in_words
from shstk.behaviour import Lockstep
from shstk.build import CLAIMS
from shstk.diff import Change, Diff, ProgramChange
from shstk.parting import Parting
from shstk.programs import ProgramVerdict, scenario_text
from shstk.report import bound_text
from shstk.search import Site
from shstk.space import Bound
from shstk.verdicts import HOLDS, NOT_APPLICABLE, PROVED, UNKNOWN, VIOLATED, Verdict

NAME, COLUMN = 30, 33
RULE = "-" * WIDTH
SCREEN = 50  # lines that one can see at once


def text(diff: Diff) -> str:
    """All of it."""
    return "\n".join(known(diff))


def known(diff: Diff) -> list[str]:
    """The lines that can be said of what is known; what becomes known later adds some at the end.

    The text that differs; behaviour, with a run that shows it; by environment, the verdicts
    that changed, then run by run.
    """
    lines = [*_heads(diff), *_hooks(diff)]
    environments = dict.fromkeys(lockstep.environment for lockstep in diff.locksteps)
    for environment in environments:
        lines += _behaviour(diff, environment)
    shown: set[str] = set()
    for environment in environments:
        # Beside the ordinary environment, only what that has not shown already.
        firsts = [p for p in diff.first_partings(environment) if p.step not in shown]
        shown |= {p.step for p in firsts}
        if firsts:
            lines += ["", RULE, *_run(diff, firsts[0])]
    told = [firsts[0].key] if (firsts := diff.first_partings("ordinary")) else []
    for environment in environments:
        if environment in diff.reported:
            # What is above the table may be runs.
            lines += ["", *([RULE] if RULE in lines else []), *_verdicts(diff, environment)]
        runs = [
            line
            for change in diff.changes
            if change.environment == environment
            for line in _traces(diff, change, told)
        ]
        if environment == "ordinary":
            runs += [line for program in diff.programs for line in _scenarios(diff, program)]
        lines += runs
        if environment in diff.reported and sum(1 + r.count("\n") for r in runs) > SCREEN:
            # The table is far above by now.
            lines += ["", RULE, "once more:", *_verdicts(diff, environment)]
    return [line.rstrip() for each in lines for line in each.split("\n")]


def status_text(verdict: Verdict) -> str:
    """A verdict in a few words."""
    word = {NOT_APPLICABLE: "NOT MET", UNKNOWN: "UNKNOWN"}.get(
        verdict.status, verdict.status.upper()
    )
    if verdict.status == VIOLATED and verdict.trace is not None:
        return f"{word} in {_steps(len(verdict.trace.steps))}"
    if verdict.status in (PROVED, VIOLATED, UNKNOWN) or not verdict.bounds:
        return word
    return f"{word} to {_bounds(verdict.bounds)}"


def _bounds(bounds: Iterable[Bound]) -> str:
    """Bounds as the verdicts have them."""
    return " ".join(f"{b.tasks}x{b.mms}x{b.stacks}" for b in bounds)


def _largest(bounds: Iterable[Bound]) -> list[Bound]:
    """Those that no other one has room for."""
    each = list(dict.fromkeys(bounds))
    return [b for b in each if not any(c != b and _has_room(c, b) for c in each)]


def _has_room(larger: Bound, smaller: Bound) -> bool:
    return (
        larger.tasks >= smaller.tasks
        and larger.mms >= smaller.mms
        and larger.stacks >= smaller.stacks
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _steps(number: int) -> str:
    return _many(number, "step")


def _row(name: str, one: str, other: str) -> str:
    return f"  {name:<{NAME}} {one:<{COLUMN}} {other}"


def _wrap(first: str, words: str) -> list[str]:
    """Words beside a label."""
    indent = " " * len(first)
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def _heads(diff: Diff) -> Iterator[str]:
    yield "=" * WIDTH
    for letter, design in zip("AB", diff.designs, strict=True):
        yield f"{letter}  {design.name}: {design.title}"
        yield f"   {design.cite}"


def _hooks(diff: Diff) -> Iterator[str]:
    yield ""
    if not diff.hooks:
        yield "text       the same in both"
        return
    yield _row("", *(d.name for d in diff.designs))[2:]
    yield "text that differs"
    for hook in diff.hooks:
        yield _row(hook.name, *hook.where)


def _verdicts(diff: Diff, environment: str) -> Iterator[str]:
    """The table of verdicts that changed, and of those that are violated in another way."""
    mine = [c for c in diff.changes if c.environment == environment]
    changed = [c for c in mine if c.status]
    if not changed:
        yield f"verdicts   the same in both, {environment} environment"
        yield from _as_far_as(diff.reported[environment])
    else:
        yield f"verdicts that changed, {environment} environment"
        for change in changed:
            yield from _verdict_row(change)
        yield from _one_proved(changed)
    otherwise = [c for c in mine if not c.status]
    if otherwise:
        yield "violated in both, in another way"
        for change in otherwise:
            yield from _verdict_row(change)
    if environment == "ordinary" and diff.programs:
        yield "on the reference machine, all programs up to a length"
        for program in diff.programs:
            using = f" with {', '.join(program.abilities)}" if program.abilities else ""
            yield f"  {program.name}{using}"
            yield _row("", *map(_program_text, program.verdicts))


def _program_text(verdict: ProgramVerdict) -> str:
    how = "in" if verdict.status == VIOLATED else "to"
    return f"{verdict.status.upper()} {how} {_many(verdict.depth, 'operation')}"


def _as_far_as(bounds: Sequence[Bound]) -> Iterator[str]:
    """How far verdicts are the same that were explored and are not proved."""
    if bounds:
        words = f"what is not proved was explored up to {_bounds(bounds)} (tasks x mms x stacks)"
        yield from _wrap("           ", f"{words}, and may differ beyond")


def _one_proved(changed: Sequence[Change]) -> Iterator[str]:
    """What it means that a property is proved of one design, and explored in the other."""
    bounds = [
        v.bounds
        for c in changed
        for v in c.verdicts
        if PROVED in {w.status for w in c.verdicts} and v.status in (HOLDS, NOT_APPLICABLE)
    ]
    if bounds:
        yield from _wrap(
            "  ",
            "PROVED beside HOLDS or NOT MET: neither design violates it up to "
            f"{_bounds(dict.fromkeys(b for each in bounds for b in each))} (tasks x mms x stacks). "
            "Beyond that one design is proved to keep it; of the other it is not known.",
        )


def _verdict_row(change: Change) -> Iterator[str]:
    yield _row(change.verdicts[0].property.id, *map(status_text, change.verdicts))
    if not change.status:
        for column, sites in enumerate(change.sites):
            for site in sites:
                words = f"{_site(site)}, {_steps(len(site.trace.steps))}"
                yield _row("", words, "") if column == 0 else _row("", "", words)


def _site(site: Site) -> str:
    return f"{CLAIMS[site.claim].conjunct.name} in {site.step}"


# -- behaviour -----------------------------------------------------------------------
def _behaviour(diff: Diff, environment: str) -> Iterator[str]:
    locksteps = [k for k in diff.locksteps if k.environment == environment]
    firsts = diff.first_partings(environment)
    yield ""
    if firsts:
        yield f"behaviour  differs after {_steps(firsts[0].length)}, {environment} environment"
        yield "           the shortest run to each step that goes otherwise"
        for parting in firsts:
            meaning = in_words(BY_NAME[parting.step].meaning, diff.designs[0])
            label = f"           {_steps(parting.length):>8}  {parting.step:<24} "
            yield from _wrap(label, meaning)
    else:
        cut = "" if all(k.complete for k in locksteps) else ", as far as it was explored"
        bounds = _bounds(_largest(k.bound for k in locksteps))
        yield f"behaviour  the same up to {bounds}, {environment} environment{cut}"
    for lockstep in locksteps:
        yield from _wrap("           in lockstep, ", _explored(lockstep))
        for line in lockstep.refined:
            yield from _wrap("           refined: ", line)


def _explored(lockstep: Lockstep) -> str:
    full = " (bound saturated)" if lockstep.saturated else ""
    cut = "" if lockstep.complete else f"; STOPPED: {lockstep.status}"
    return (
        f"{bound_text(lockstep.bound)}{full}: {lockstep.states:,} states up to symmetry, depth "
        f"{lockstep.depth}, {lockstep.slice}{cut}"
    )


def _run(diff: Diff, parting: Parting) -> Iterator[str]:
    """The run to the first difference, and what each design does then."""
    yield f"a shortest run after which they differ: {_steps(parting.length)}"
    yield from _wrap("reading  ", LEGEND)
    design, steps = diff.designs[0], parting.runs[0]
    trace = Trace("", "", "", "", "", Extent(0, 0, 0), parting.initial, steps)
    names = Names()
    names.look(None, parting.initial)
    lines = ["", *start_lines(names, parting.initial)]
    before = parting.initial
    for number, step in enumerate(steps, 1):
        names.take(before, step)
        lines += ["", *step_lines(names, before, number, step, trace, design)]
        before = step.state
    for line in lines:
        yield in_words(line, design)
    yield ""
    yield from _fork(diff.designs, parting)


def _fork(designs: Sequence[Design], parting: Parting) -> Iterator[str]:
    """The step that goes otherwise, in one design and in the other."""
    meaning, given = BY_NAME[parting.step].meaning, [a for a in parting.answers if a]
    picks = [dict(a.picks) for a in given]
    common = {n: v for n, v in picks[0].items() if all(p.get(n) == v for p in picks)}
    for side, (design, answer) in enumerate(zip(designs, parting.answers, strict=True)):
        names = _names(parting, side)
        if side == 0:
            what = "; ".join([meaning, *interesting(common)])
            who = names.task(parting.task)
            yield from _wrap(f"{parting.length:>3}  {who}  ", in_words(what, design))
        yield f"     in {design.name}"
        if answer is None:
            yield "         the step cannot happen"
            continue
        own = {n: v for n, v in answer.picks.items() if n not in common}
        for line in _answer(names, parting, side, answer):
            yield in_words(line, design)
        if words := "; ".join(interesting(own)):
            yield from _wrap("       ? ", words)


def _names(parting: Parting, side: int) -> Names:
    """The names of things after the common run."""
    names, before = Names(), parting.initial
    names.look(None, before)
    for step in parting.runs[side]:
        names.take(before, step)
        before = step.state
    return names


def _answer(names: Names, parting: Parting, side: int, answer: TraceStep) -> Iterator[str]:
    """What a step changes, and what happens in it."""
    run = parting.runs[side]
    before = run[-1].state if run else parting.initial
    names.take(before, answer)
    lines = changes(names, before, answer.state, answer.task)
    width = max((len(who) for who, _ in lines), default=0)
    for who, what in lines:
        yield from _wrap(f"         {who:<{width}}  ", what)
    for note in answer.notes:
        yield from _wrap("       * ", names.words(note))
    if answer.violations:
        yield from _wrap("       ! ", "violates " + ", ".join(answer.violations))
    if not (lines or answer.notes):
        yield "         nothing changes"


# -- runs ----------------------------------------------------------------------------
def _traces(diff: Diff, change: Change, told: list[object]) -> Iterator[str]:
    """The trace of each design in which the property is violated, and how the other goes.

    ``told``: the partings that have been shown already.
    """
    for side, verdict in enumerate(change.verdicts):
        parting = change.partings[side]
        if verdict.trace is None or not (change.elsewhere or parting):
            continue
        design, other = diff.designs[side], diff.designs[1 - side]
        yield from ("", RULE, render_text(verdict.trace, design))
        if parting is None:
            yield f"in {other.name} this run goes the same way"
            continue
        until = parting.length - 1
        same = f"{_steps(until)} the same way, then otherwise" if until else "otherwise at once"
        if parting.key in told:
            yield f"in {other.name} it goes {same}: step {parting.length} as above"
            continue
        told.append(parting.key)
        yield f"in {other.name} it goes {same}"
        yield from _fork(diff.designs, parting)


def _scenarios(diff: Diff, change: ProgramChange) -> Iterator[str]:
    """The shortest scenario of a design that violates what the other keeps."""
    for design, verdict in zip(diff.designs, change.verdicts, strict=True):
        if verdict.status == VIOLATED:
            yield from ("", RULE, scenario_text(verdict, design))
