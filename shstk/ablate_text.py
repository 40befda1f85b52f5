"""What ``shstk ablate`` prints: a block for each mutant, a summary; or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from counterexamples.told import told
from counterexamples.trace import Extent, Trace
from model.designs import Design
from shstk.ablate_finding import Finding, Status
from shstk.ablation import CURED, IDLE, VIOLATED, Catch
from shstk.parting import Parting

WIDTH = 100
FEW = 3  # of the properties that are exercised no more
WORDS = {
    Status.CAUGHT: "caught",
    Status.EQUIVALENT: "equivalent (proved)",
    Status.BLIND: "beyond the model",
    Status.BOUNDED: "equivalent up to a bound",
    Status.LESS: "violate less",
    Status.SURVIVES: "survive",
    Status.UNKNOWN: "not checked to the end",
}


def text(design: Design, findings: Sequence[Finding]) -> str:
    """A block for each mutant, and the numbers."""
    lines = [f"{design.name}: {design.title}", ""]
    for finding in findings:
        lines += [*_block(finding), ""]
    return "\n".join([*lines, *summary(findings)])


def _block(finding: Finding) -> Iterator[str]:
    mutant = finding.mutant
    yield f"{mutant.number:>3}  {mutant.kind}  {mutant.where}, {mutant.method}"
    indent = min(len(s) - len(s.lstrip()) for s in (*mutant.original, *mutant.mutated) if s)
    yield from (f"     - {line[indent:]}".rstrip() for line in mutant.original)
    yield from (f"     + {line[indent:]}".rstrip() for line in mutant.mutated)
    for line in verdict(finding):
        yield from textwrap.wrap(line, WIDTH, initial_indent="     ", subsequent_indent=" " * 11)
    if finding.parting is not None and not finding.explained:
        yield f"     the shortest run after which it differs, within {_extent(finding.parting)}"
        yield from (f"       {line}" for line in parting_lines(finding))


def verdict(finding: Finding) -> Iterator[str]:
    """What became of it, in sentences."""
    if finding.status is Status.CAUGHT:
        if finding.catches:
            yield "caught by " + ", ".join(_caught(finding.catches))
        elif not finding.hostile:
            yield f"caught: {finding.note}"
    elif finding.status is Status.EQUIVALENT:
        yield "equivalent (proved, for any number of tasks, in the ordinary environment)"
        if finding.unread:
            yield f"it differs only in what is proved to be read by nobody: {_all(finding.unread)}"
    elif finding.status is Status.BLIND:
        yield "beyond the model: no property of it can tell (proved, in the ordinary environment)"
        yield f"it differs only in {_all(finding.unread)}"
    elif finding.status is Status.BOUNDED:
        bounds = _bounds(finding.lockstep)
        yield f"EQUIVALENT UP TO {bounds}, bounded: not proved ({finding.note})"
    elif finding.status is Status.SURVIVES:
        yield "SURVIVES: no property tells"
    elif finding.status is Status.LESS:
        yield "violates less: the design violates, and it does not, " + ", ".join(
            _caught(finding.cured)
        )
    else:
        yield "NOT CHECKED TO THE END"
    if finding.hostile:
        yield "in the hostile environment caught by " + ", ".join(_caught(finding.hostile))


def _caught(catches: Sequence[Catch]) -> Iterator[str]:
    """Each property once, by its shortest run; what is exercised no more comes last."""
    best: dict[str, Catch] = {}
    for catch in sorted(catches, key=lambda c: (c.how != VIOLATED, c.steps)):
        best.setdefault(catch.property, catch)
    idle = [c for c in best.values() if c.how == IDLE]
    yield from (_told(c) for c in best.values() if c.how != IDLE)
    yield from (_told(c) for c in idle[:FEW])
    if len(idle) > FEW:
        yield f"and {len(idle) - FEW} more that no run exercises any more"


def _told(catch: Catch) -> str:
    """A property, with the conjunct, and how it tells."""
    conjunct = catch.claim.split("/")[1]
    off = f", without {', '.join(catch.without)}" if catch.without else ""
    where = f" in {catch.step}" if catch.step else ""
    if catch.how == IDLE:
        return f"{catch.property} ({conjunct}: no run makes its premise true any more{off})"
    if catch.how == CURED:
        return f"{catch.property} ({conjunct}{where}{off})"
    steps = f"{catch.steps} step{'' if catch.steps == 1 else 's'}"
    return f"{catch.property} ({steps}: {conjunct}{where}{off})"


def _all(things: Sequence[str]) -> str:
    """Things in a sentence."""
    return ", ".join(things[:-1]) + " and " * (len(things) > 1) + things[-1]


def _bounds(bounds: Sequence[Any]) -> str:
    return " and ".join(f"{b.tasks}x{b.mms}x{b.stacks}" for b in bounds)


def parting_lines(finding: Finding) -> Iterator[str]:
    """The run to where a mutant differs, a line a step, and what each then does."""
    parting = finding.parting
    assert parting is not None
    for number, step in enumerate(told(_trace(parting, 0, False), finding.design), 1):
        yield f"{number:>2}  {step.who}  {step.what}"
    for side, name in enumerate(("original", "mutant")):
        answer = parting.answers[side]
        if answer is None:
            yield f"{parting.length:>2}  {name}: the step {parting.step} cannot happen"
            continue
        last = told(_trace(parting, side, True), finding.design)[-1]
        yield f"{parting.length:>2}  {name}: {last.who}  {last.what}"
        for change in last.changes or ("nothing changes",):
            yield f"          {change}"

    yield from _unseen(parting)


def _unseen(parting: Parting) -> Iterator[str]:
    """What differs in the states that the two answers lead to, where each gives one."""
    one, other = parting.answers
    if one is None or other is None:
        return
    for number, tasks in enumerate(zip(one.state["tasks"], other.state["tasks"], strict=True)):
        for name, value in tasks[0].items():
            there = tasks[1][name]
            if value != there and dict(one.picks) == dict(other.picks):
                said = " and ".join(str(getattr(v, "value", v)) for v in (value, there))
                yield f"    afterwards task{number}.{name} is {said}"


def _extent(parting: Parting) -> str:
    state = parting.initial
    return f"{len(state['tasks'])}x{len(state['mms'])}x{len(state['mms'][0])}"


def _trace(parting: Parting, side: int, whole: bool) -> Trace:
    """One design's run, with what it does then or without."""
    steps = parting.runs[side]
    answer = parting.answers[side]
    if whole and answer is not None:
        steps = (*steps, answer)
    return Trace("", "", "", "", "", Extent(0, 0, 0), parting.initial, steps)


def numbers(findings: Sequence[Finding]) -> dict[str, int]:
    """How many mutants there are of each kind, all of them first."""
    counts = {status: sum(f.status is status for f in findings) for status in Status}
    out = {"mutants": len(findings)}
    return out | {WORDS[s]: n for s, n in counts.items()}


def summary(findings: Sequence[Finding]) -> Iterator[str]:
    """The numbers in a line, and a line for each that nothing explains."""
    counts = numbers(findings)
    parts = [f"{n} {word}" for word, n in counts.items() if n and word != "mutants"]
    yield f"{counts['mutants']} mutants: {', '.join(parts)}"
    for finding in findings:
        if not finding.explained:
            mutant = finding.mutant
            yield f"  {mutant.number:>3}  {finding.status.value}: {mutant.kind}, {mutant.where}"


def as_json(design: Design, findings: Sequence[Finding]) -> str:
    """All of it as an object."""
    out = {
        "design": design.name,
        "mutants": [_finding(f) for f in findings],
        "summary": numbers(findings),
    }
    return json.dumps(out, indent=2)


def _finding(finding: Finding) -> dict[str, Any]:
    mutant, parting = finding.mutant, finding.parting
    return {
        "number": mutant.number,
        "kind": mutant.kind,
        "file": mutant.file.name,
        "line": mutant.line,
        "method": mutant.method,
        "original": list(mutant.original),
        "mutated": list(mutant.mutated),
        "status": finding.status.value,
        "caught_by": [_catch(c) for c in finding.catches],
        "hostile": [_catch(c) for c in finding.hostile],
        "cured": [_catch(c) for c in finding.cured],
        "note": finding.note,
        "unread": list(finding.unread),
        "bounds": [_bounds([b]) for b in finding.bounds],
        "lockstep": [_bounds([b]) for b in finding.lockstep],
        "differs_after": parting.length if parting else None,
        "differs_in": parting.step if parting else None,
    }


def _catch(catch: Catch) -> dict[str, Any]:
    return {
        "property": catch.property,
        "conjunct": catch.claim.split("/")[1],
        "step": catch.step or None,
        "steps": catch.steps or None,
        "how": catch.how,
        "without": list(catch.without),
    }
