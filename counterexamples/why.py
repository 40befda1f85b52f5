"""Why the end of a trace violates its claim, in one line.

A reading of the last state for people.  That the claim is violated there was found out, and
is checked again on replay, by the claim itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from counterexamples.changed import mapped
from counterexamples.named import Names, used_mms
from counterexamples.trace import StateView, Trace
from model.events import (
    Allocated,
    CloneFailed,
    CloneStarted,
    Event,
    FeatureChanged,
    FutexWoken,
    Unmapped,
    Warned,
)
from model.state import LEFT, NULL, SHADOW_KINDS, Ctl, Exit, Kind
from properties import PROPERTIES, EventConjunct


def claim_of(trace: Trace) -> str:
    """The property's claim, in its own words."""
    prop = PROPERTIES.get(trace.property)
    return prop.claim if prop else "?"


def explanation(names: Names, trace: Trace) -> str:
    """Why the last state, or the last step, violates the claim: one line."""
    if trace.loop is not None:
        return (
            _why_endless(names, trace.states[trace.loop :]) or f"the claim was: {claim_of(trace)}"
        )
    last = trace.states[-1]
    found = EXPLAINERS[trace.property](names, last) if trace.property in EXPLAINERS else ""
    prop = PROPERTIES.get(trace.property)
    for conjunct in prop.conjuncts if prop else ():
        if conjunct.name == trace.conjunct and isinstance(conjunct, EventConjunct):
            about = EVENT_WORDS.get(conjunct.event)
            notes = trace.steps[-1].notes if trace.steps else ()
            told = [note for note in notes if about and about in note]
            found = f"step {len(trace.steps)}: {names.words(told[-1])}" if told else found
    return found or f"the claim was: {claim_of(trace)}"


def _dying(state: StateView, slot: int) -> bool:
    """A fatal signal is pending."""
    number = state["tasks"][slot]["group"]
    if type(number) is not int:
        return False
    group = state["groups"][number]
    return group["exit"] is not Exit.NO or group["exec_task"] not in (NULL, slot)


def _can_run(state: StateView, slot: int) -> bool:
    """In user mode, no fatal signal pending."""
    return state["tasks"][slot]["ctl"] is Ctl.USER and not _dying(state, slot)


def _runners(state: StateView) -> list[tuple[int, int, int]]:
    """Task, mm and address of everybody who can run with shadow stacks on."""
    return [
        (i, task["mm"], task["ssp"])
        for i, task in enumerate(state["tasks"])
        if _can_run(state, i) and type(task["mm"]) is int and type(task["ssp"]) is int
    ]


def _why_endless(names: Names, loop: Sequence[StateView]) -> str:
    stuck = []
    for slot, task in enumerate(loop[0]["tasks"]):
        ctl = task["ctl"]
        dying = all(_dying(state, slot) for state in loop)
        if not isinstance(ctl, Ctl) or ctl in (Ctl.DEAD, Ctl.NEW):
            continue
        if ctl in (Ctl.USER, Ctl.WORKER) and not dying:
            continue
        if all(state["tasks"][slot]["ctl"] is ctl for state in loop):
            who = f"{names.task(slot)}, with a fatal signal pending," if dying else names.task(slot)
            stuck.append(f"{who} is in {ctl.value} for ever")
    return ", ".join(stuck)


def _why_shared(names: Names, state: StateView) -> str:
    order = names.given.index
    for one, mm, addr in _runners(state):
        for other, *where in _runners(state):
            if other > one and where == [mm, addr]:
                both = " and ".join(sorted((names.task(one), names.task(other)), key=order))
                return f"{both} can both run, on one stack: {names.addr(addr)} in {names.mm(mm)}"
    return ""


def _why_dangling(names: Names, state: StateView) -> str:
    for task, mm, addr in _runners(state):
        mapping = state["mms"][mm][addr]
        if mapping["kind"] not in SHADOW_KINDS:
            where = f"{names.addr(addr)} in {names.mm(mm)}"
            return f"{names.task(task)} can run, SSP is in {where}: {mapped(names, mapping)} mapped"
    return ""


def _why_left(names: Names, state: StateView) -> str:
    for mm in used_mms(state):
        for addr, mapping in enumerate(state["mms"][mm]):
            if mapping["owner"] is LEFT and mapping["kind"] is not Kind.ORPHAN:
                where = f"{names.addr(addr)} in {names.mm(mm)}"
                return f"{where}, {mapped(names, mapping)}, stays"
    return ""


def _why_orphan(names: Names, state: StateView) -> str:
    for mm in used_mms(state):
        for addr, mapping in enumerate(state["mms"][mm]):
            if mapping["kind"] is Kind.ORPHAN:
                where = f"{names.addr(addr)} in {names.mm(mm)}"
                return f"{where} belongs to nobody: no task of {names.mm(mm)} will free it"
    return ""


# What the note of an event has in it.
EVENT_WORDS: dict[type[Event], str] = {
    Allocated: "the stack at",
    Unmapped: "the kernel unmaps",
    Warned: "WARNING",
    CloneFailed: "the clone returns",
    CloneStarted: "starts ",
    FutexWoken: "CLEARTID",
    FeatureChanged: "locked feature",
}

EXPLAINERS: dict[str, Callable[[Names, StateView], str]] = {
    "separate-stacks": _why_shared,
    "no-dangling-ssp": _why_dangling,
    "freed-at-least-once": _why_left,
    "no-orphan-copies": _why_orphan,
}
