"""Showing a counterexample to induction: the state whole, the step as in a trace."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from counterexamples.changed import changes
from counterexamples.named import Names, size_text
from counterexamples.render import (
    BY_NAME,
    LEGEND,
    SHOWN,
    USUAL,
    WIDTH,
)
from counterexamples.trace import Fields, Pick, StateView, TraceStep
from model.designs import Design
from model.state import LEFT, Ctl, Group, Record, Sort, Task, fields
from model.state import Mapping as Mapped
from shstk.build import CLAIMS
from shstk.proof.cti import Cti, goal


def render_cti(cti: Cti, design: Design) -> str:
    """A counterexample to induction for a terminal of 100 columns."""
    names = Names()
    names.look(None, cti.before)
    claims = f"{cti.in_force} claim{'s' * (cti.in_force != 1)} in force"
    given = (
        f"this claim and the {claims}" if goal(cti.claim).kind == "invariant" else f"the {claims}"
    )
    what = (
        "a counterexample to induction, no violation: the state may be unreachable. "
        f"In it {given} hold, and the step does not keep this one"
    )
    confirmed = (
        "the text does this in the finite world"
        if cti.confirmed
        else "NO: the finite world does not agree, so this says nothing about the text"
    )
    bound = f"tasks {cti.bound.tasks}, mms {cti.bound.mms}, stacks {cti.bound.stacks}"
    rows = [
        ("design", f"{design.name}: {design.title}"),
        ("claim", _said(cti.claim)),
        ("this is", what),
        ("confirmed", confirmed),
        ("run", f"1 step, from a state that is assumed; bound: {bound}"),
        ("reading", LEGEND),
    ]
    lines = [line for label, words in rows for line in _wrap(f"{label:<11}", words)]
    lines += ["", *_numbered(0, _table(list(_state(names, cti.before))))]
    step = TraceStep(cti.task, cti.step, cti.picks, cti.after, cti.notes)
    names.take(cti.before, step)
    title = "; ".join([BY_NAME[cti.step].meaning, *_choices(cti.picks)])
    lines += ["", *_wrap(f"{1:>3}  {names.task(cti.task)}  ", title)]
    told = _table(changes(names, cti.before, cti.after, cti.task))
    lines += ["         " + line for line in told]
    for note in cti.notes:
        lines += _wrap("       * ", names.words(note))
    lines += ["", *_wrap("", f"NOT INDUCTIVE {cti.claim}: {_ending(cti)}")]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _said(claim: str) -> str:
    """A claim with its sentence and where it is written."""
    wanted = goal(claim)
    if wanted.invariant is not None:
        return f"{claim}: {wanted.invariant.sentence} ({wanted.invariant.where})"
    for part in CLAIMS:
        if part.name == wanted.name:
            return f"{claim}: {part.property.claim} ({part.conjunct.where})"
    return f"{claim}: the step does not follow NULL there"


def _ending(cti: Cti) -> str:
    ends = {
        "invariant": "it is false after the step",
        "event": "it is false in the step",
        "need": "the step follows NULL",
    }
    return ends[goal(cti.claim).kind]


def _state(names: Names, state: StateView) -> Iterator[tuple[str, str]]:
    """Everything in a state that is not as in an empty world."""
    for slot, task in enumerate(state["tasks"]):
        parts = [f"in {task['ctl'].value}"] if task["ctl"] is not Ctl.DEAD else []  # type: ignore
        parts += _values(names, Task, task, ("ctl",))
        if parts:
            yield names.task(slot), ", ".join(parts)
    for slot, group in enumerate(state["groups"]):
        if parts := _values(names, Group, group):
            yield f"group{slot}", ", ".join(parts)
    for mm, mappings in enumerate(state["mms"]):
        for addr, mapping in enumerate(mappings):
            if parts := _values(names, Mapped, mapping):
                yield f"{names.addr(addr)} in {names.mm(mm)}", ", ".join(parts)


def _values(
    names: Names, record: type[Record], values: Fields, but: tuple[str, ...] = ()
) -> list[str]:
    """Variables that are not initial, as ``name value``; flags by their names alone."""
    called = {
        Sort.TASK: names.task,
        Sort.MM: names.mm,
        Sort.ADDR: names.addr,
        Sort.GROUP: _group,
    }
    parts = []
    for field in fields(record):
        value = values[field.name]
        if value == field.values[0] or field.name in but:
            continue
        if value is LEFT:
            parts.append(f"{field.name} has left")
        elif field.sort is not None:
            parts.append(f"{field.name} {called[field.sort](value)}")
        elif value is True:
            parts.append(field.name)
        elif field.store is not None:
            parts.append(f"{field.name} nonzero")
        else:
            parts.append(value.value if field.name == "kind" else f"{field.name} {value.value}")  # type: ignore
    return parts


def _group(slot: object) -> str:
    return str(slot) if type(slot) is int else "NULL"


def _choices(picks: Mapping[str, Pick]) -> Iterator[str]:
    """The choices that no change shows."""
    for name, value in sorted(picks.items()):
        if name in SHOWN or value is False or value == USUAL.get(name):
            continue
        if name in USUAL and isinstance(value, int):
            yield f"{name} {size_text(value)}"
        else:
            yield name if value is True else f"{name} {value}"


def _table(lines: Sequence[tuple[str, str]]) -> list[str]:
    wide = max((len(who) for who, _ in lines), default=0)
    return [line for who, what in lines for line in _wrap(f"{who:<{wide}}  ", what, 9)]


def _numbered(number: int, lines: Sequence[str]) -> list[str]:
    return [(f"{number:>3}  " if n == 0 else "     ") + line for n, line in enumerate(lines)]


def _wrap(first: str, words: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        words,
        WIDTH - indent,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first]
