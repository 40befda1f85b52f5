"""Showing a trace to a kernel engineer: as text, and as a mermaid sequence diagram."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from counterexamples.trace import Fields, Pick, StateView, Trace, TraceStep
from model.designs import DESIGNS, Design, function_of, in_words, source_of
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
from model.kernel import STEPS, Step
from model.kernel.mmap import RLIMITS, STACK_SIZES
from model.state import LEFT, NULL, SHADOW_KINDS, Ctl, Exit, Kind, Off, Special
from properties import PROPERTIES, EventConjunct

WIDTH = 100
LEGEND = (
    "P, C, D … tasks; A, B … page ranges, the same in every mm; "
    "SSP: the CPU's shadow-stack pointer; base, size: thread.shstk"
)
BY_NAME = {step.name: step for step in STEPS}
# No letter is both a task's and an address's.
TASK_LETTERS = "PCDEFGHIJKLMNO"
ADDR_LETTERS = "ABSTUVWXYZ"
USUAL = {"stack_size": STACK_SIZES[0], "RLIMIT_STACK": RLIMITS[0]}  # not worth a word
SHOWN = ("child", "group", "mm", "addr", "to", "SSP after")  # by what changes
PICK_WORDS = {"compat": "through the 32-bit system call entry", "error": ""}
# Control states that the words of the steps leading there already say.
SAID = tuple(ctl for ctl in Ctl if ctl.name.startswith(("EXIT", "EXEC", "PRCTL")))
FEATURES = {
    "shstk": ("features", "SHSTK"),
    "wrss": ("features", "WRSS"),
    "locked_shstk": ("features_locked", "SHSTK"),
    "locked_wrss": ("features_locked", "WRSS"),
}


def size_text(size: int) -> str:
    """A number of bytes as people say it.

    >>> size_text(8 << 20), size_text((4 << 30) + 4096), size_text(5000)
    ('8 MiB', '4 GiB + 4 KiB', '5000 bytes')
    """
    if size == (1 << 64) - 1:
        return "unlimited"
    if size == 0 or size % 1024:
        return f"{size} bytes"
    parts = []
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> shift:
            parts.append(f"{size >> shift} {unit}")
            size &= (1 << shift) - 1
    return " + ".join(parts)


# -- names -------------------------------------------------------------------------


@dataclass
class Names:
    """What the objects are called; a slot that is used again gets a new name."""

    tasks: dict[int, str] = field(default_factory=dict)
    mms: dict[int, str] = field(default_factory=dict)
    addrs: dict[int, str] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)  # of tasks, in order of appearance
    _mms: int = 0

    def take(self, before: StateView, step: TraceStep) -> None:
        """Name what is new after a step."""
        self.look(before, step.state)
        child = step.picks.get("child")
        if type(child) is int and child not in _live(step.state):
            self.tasks[child] = "the child"  # created and gone within the step

    def look(self, before: StateView | None, after: StateView) -> None:
        """Name what is new in ``after``."""
        for slot in _appeared(before, after, _live):
            letter = len(self.given)
            name = TASK_LETTERS[letter] if letter < len(TASK_LETTERS) else f"T{letter}"
            self.tasks[slot] = name
            self.given.append(name)
        for slot in _appeared(before, after, _used_mms):
            self.mms[slot] = f"mm{self._mms}"
            self._mms += 1

    def task(self, slot: object) -> str:
        """A task's name, or NULL."""
        return self.tasks.get(slot, f"task{slot}") if type(slot) is int else _special(slot)

    def mm(self, slot: object) -> str:
        """An mm's name, or NULL."""
        return self.mms.get(slot, f"mm-slot{slot}") if type(slot) is int else _special(slot)

    def addr(self, slot: object) -> str:
        """An address's name, given when it is first asked for, or NULL."""
        if type(slot) is not int:
            return _special(slot)
        if slot not in self.addrs:
            used = len(self.addrs)
            known = used < len(ADDR_LETTERS)
            self.addrs[slot] = ADDR_LETTERS[used] if known else f"A{used}"
        return self.addrs[slot]

    def words(self, note: str) -> str:
        """A note with its numbered objects called by their names."""
        called: dict[str, Callable[[object], str]] = {
            "task": self.task,
            "mm": self.mm,
            "address": self.addr,
        }
        return re.sub(r"\b(task|mm|address)(\d{1,9})\b", lambda m: called[m[1]](int(m[2])), note)


def _special(value: object) -> str:
    return str(value.value) if isinstance(value, Special) else str(value)


def _live(state: StateView) -> list[int]:
    return [i for i, task in enumerate(state["tasks"]) if task["ctl"] is not Ctl.DEAD]


def _used_mms(state: StateView) -> list[int]:
    used = {task["mm"] for task in state["tasks"]}
    return [m for m in range(len(state["mms"])) if m in used]


def _appeared(
    before: StateView | None, after: StateView, there: Callable[[StateView], list[int]]
) -> list[int]:
    known = there(before) if before else []
    return [i for i in there(after) if i not in known]


# -- what changed ------------------------------------------------------------------

Line = tuple[str, str]  # whose, what


def changes(names: Names, before: StateView, after: StateView, actor: int) -> list[Line]:
    """Only what changed, in words; names of new objects are given already."""
    lines: list[Line] = []
    for slot in sorted(range(len(after["tasks"])), key=lambda slot: slot != actor):
        who, old, new = names.task(slot), before["tasks"][slot], after["tasks"][slot]
        if old["ctl"] is Ctl.DEAD and new["ctl"] is not Ctl.DEAD:
            lines.append((who, _created(names, before, after, slot, actor)))
        elif old["ctl"] is not Ctl.DEAD and new["ctl"] is Ctl.DEAD:
            lines.append((who, "is gone"))
        elif parts := list(_task_changes(names, old, new)):
            lines.append((who, ", ".join(parts)))
    lines += _group_changes(names, before, after)
    live = _used_mms(after)
    for mm, (olds, news) in enumerate(zip(before["mms"], after["mms"], strict=True)):
        if mm not in live:
            if mm in _used_mms(before):
                lines.append((names.mm(mm), "is gone, with all that was mapped in it"))
            continue
        for addr, (was, now) in enumerate(zip(olds, news, strict=True)):
            if parts := list(_mapping_changes(names, was, now)):
                lines.append((f"{names.addr(addr)} in {names.mm(mm)}", ", ".join(parts)))
    return lines


def _created(names: Names, before: StateView, after: StateView, slot: int, actor: int) -> str:
    """A new task: what it has, and what of that is its creator's."""
    task, creator = after["tasks"][slot], after["tasks"][actor]
    parts = [names.mm(task["mm"])]
    if task["mm"] not in _used_mms(before):
        parts[0] += f" (new, a copy of {names.mm(creator['mm'])})"
    parts += [
        f"base {names.addr(task['base'])}",
        f"size {_size(task)}",
        f"SSP {_ssp(names, task)}",
    ]
    parts += [f"{where} {bit}" for name, (where, bit) in FEATURES.items() if task[name]]
    if task["group"] == creator["group"]:
        parts.append(f"in {names.task(actor)}'s thread group")
    kind = "a kernel worker is created" if task["worker"] else "is created"
    return f"{kind}: {', '.join(parts)}"


def _task_changes(names: Names, old: Fields, new: Fields) -> Iterator[str]:
    if old["mm"] != new["mm"]:
        yield f"mm {names.mm(old['mm'])} → {names.mm(new['mm'])}"
    if old["base"] != new["base"]:
        yield f"base {names.addr(old['base'])} → {names.addr(new['base'])}"
    if _size(old) != _size(new):
        yield f"size {_size(old)} → {_size(new)}"
    if (old["ssp"], old["off"]) != (new["ssp"], new["off"]):
        yield f"SSP {_ssp(names, old)} → {_ssp(names, new)}"
    for name, (where, bit) in FEATURES.items():
        if old[name] != new[name]:
            yield f"{where} {'+' if new[name] else '-'}{bit}"
    if old["vfork_done"] != new["vfork_done"]:
        yield f"vfork_done {_waiter(names, old)} → {_waiter(names, new)}"
    if not old["mm_switched"] and new["mm_switched"] and new["base"] is not NULL:
        yield f"base still names {names.addr(new['base'])}, recorded in {names.mm(old['mm'])}"
    if old["ctl"] is new["ctl"]:
        if new["ctl"] is Ctl.VFORK_WAIT and old["child"] != new["child"]:
            yield "is woken: its vfork child is done"
    elif new["ctl"] not in SAID and isinstance(new["ctl"], Ctl):
        yield f"now in {new['ctl'].value}"


def _waiter(names: Names, task: Fields) -> str:
    waiter = names.task(task["vfork_done"])
    return waiter if task["vfork_done"] is NULL else f"{waiter} waits"


def _size(task: Fields) -> str:
    """Worlds that keep the whole size show it."""
    size = task["size"]
    if size in (0, 1):
        return "nonzero" if size else "0"
    return size_text(size) if isinstance(size, int) else str(size)


def _ssp(names: Names, task: Fields) -> str:
    if task["ssp"] is NULL:
        return "off"
    place = "at the top of" if task["off"] is Off.TOP else "inside"
    return f"{place} {names.addr(task['ssp'])}"


def _group_changes(names: Names, before: StateView, after: StateView) -> Iterator[Line]:
    for slot, (old, new) in enumerate(zip(before["groups"], after["groups"], strict=True)):
        members = [i for i in _live(after) if after["tasks"][i]["group"] == slot]
        who = "+".join(names.task(i) for i in members)
        if members and old["exit"] is not new["exit"] and isinstance(new["exit"], Exit):
            yield who, f"SIGNAL_GROUP_EXIT by {new['exit'].value}: a fatal signal is pending"
        if len(members) > 1 and old["exec_task"] != new["exec_task"]:
            if new["exec_task"] is NULL:
                yield who, "group_exec_task → NULL"
            else:
                yield who, f"{names.task(new['exec_task'])} in de_thread() kills the others"


def _mapping_changes(names: Names, old: Fields, new: Fields) -> Iterator[str]:
    if old["kind"] is not new["kind"]:
        yield f"{_mapped(names, old)} → {_mapped(names, new)}"
    elif old["owner"] != new["owner"]:
        yield f"owner {_owner(names, old['owner'])} → {_owner(names, new['owner'])}"
    if old["sealed"] != new["sealed"] and new["kind"] is not Kind.FREE:
        yield "is sealed" if new["sealed"] else "is not sealed any more"
    if old["token"] != new["token"] and new["kind"] is not Kind.FREE:
        yield "has a restore token" if new["token"] else "its restore token is used up"


def _mapped(names: Names, mapping: Fields) -> str:
    kind = mapping["kind"]
    words = str(kind.value) if isinstance(kind, Kind) else str(kind)
    if type(mapping["owner"]) is int:
        words += f" of {names.task(mapping['owner'])}"
    elif mapping["owner"] is LEFT and kind is not Kind.ORPHAN:
        words += " of a task that has left the mm"
    return words


def _owner(names: Names, owner: object) -> str:
    return "nobody (has left the mm)" if owner is LEFT else names.task(owner)


# -- text --------------------------------------------------------------------------


def render_text(trace: Trace, design: Design | None = None) -> str:
    """The trace for a terminal of 100 columns; ``design`` where it is none of the registry's."""
    names = Names()
    names.look(None, trace.initial)
    design = design or DESIGNS.get(trace.design)
    lines = _header(trace, design)
    lines += ["", *start_lines(names, trace.initial)]
    before = trace.initial
    for number, step in enumerate(trace.steps, 1):
        if trace.loop == number - 1:
            lines += ["", f"-- from here, step {number}, the run repeats for ever --"]
        names.take(before, step)
        lines += ["", *step_lines(names, before, number, step, trace, design)]
        before = step.state
    lines += ["", *_verdict(names, trace)]
    return in_words("\n".join(line.rstrip() for line in lines), design) + "\n"


def _header(trace: Trace, design: Design | None) -> list[str]:
    rows = [("design", trace.design)]
    if design:
        rows = [("design", f"{trace.design}: {design.title}"), ("", design.cite)]
    rows.append(("property", f"{trace.property}: {_claim(trace)}"))
    if trace.property in PROPERTIES:
        rows.append(("", f"from {PROPERTIES[trace.property].source}"))
    bound = "bound: tasks {}, mms {}, stacks {}".format(*trace.bound)
    count = len(trace.steps)
    rows += [
        ("violated", f"{trace.claim} ({trace.where})"),
        ("run", f"{count} step{'s' * (count != 1)}; environment: {trace.environment}; {bound}"),
        ("reading", LEGEND),
    ]
    return [line for label, words in rows for line in _wrap(f"{label:<10}", words)]


def _claim(trace: Trace) -> str:
    prop = PROPERTIES.get(trace.property)
    return prop.claim if prop else "?"


def start_lines(names: Names, state: StateView) -> list[str]:
    """The initial state, in which nothing but tasks and their mms is worth a word, as a rule."""
    lines: list[Line] = []
    for slot in _live(state):
        task = state["tasks"][slot]
        ctl = task["ctl"].value if isinstance(task["ctl"], Ctl) else task["ctl"]
        words = f"is in {ctl}, {names.mm(task['mm'])}"
        if task["ssp"] is NULL and task["base"] is NULL:
            words += ", shadow stacks off"
        else:
            words += f", base {names.addr(task['base'])}, size {_size(task)}"
            words += f", SSP {_ssp(names, task)}"
        lines.append((names.task(slot), words))
    for mm in _used_mms(state):
        for addr, mapping in enumerate(state["mms"][mm]):
            if mapping["kind"] is not Kind.FREE:
                where = f"{names.addr(addr)} in {names.mm(mm)}"
                lines.append((where, _mapped(names, mapping)))
    return [
        f"{'0':>3}  {line}" if i == 0 else f"     {line}" for i, line in enumerate(_table(lines))
    ]


def _table(lines: Sequence[Line], indent: str = "") -> list[str]:
    """Subjects in one column, what is said of them in the next."""
    width = max((len(who) for who, _ in lines), default=0)
    return [line for who, what in lines for line in _wrap(f"{indent}{who:<{width}}  ", what)]


def _wrap(first: str, words: str) -> list[str]:
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first]


def step_lines(
    names: Names,
    before: StateView,
    number: int,
    step: TraceStep,
    trace: Trace,
    design: Design | None,
) -> list[str]:
    """One step: what it does and where in the kernel, what changed, what happened."""
    known = BY_NAME.get(step.step)
    meaning = in_words(known.meaning, design) if known else step.step
    what = "; ".join([meaning, *interesting(step.picks)])
    who = names.task(step.task)
    lines = _wrap(f"{number:>3}  {who}  ", what)
    if known:
        read_from = f"[{source_of(known, design)}]"
        source = f"{function_of(known, design)}() {read_from}" if _is_c(known) else read_from
        if len(lines[-1]) + 2 + len(source) <= WIDTH:
            lines[-1] += f"{source:>{WIDTH - len(lines[-1])}}"
        else:
            lines.append(f"{source:>{WIDTH}}")
    lines += _table(changes(names, before, step.state, step.task), " " * 9)
    for note in step.notes:
        lines += _wrap(" " * 7 + "* ", names.words(note))
    others = [v for v in step.violations if v != trace.claim]
    if others:
        lines += _wrap(" " * 7 + "! ", "violates " + ", ".join(others))
    return lines


def _is_c(step: Step) -> bool:
    """A function of the kernel's, not an instruction."""
    return not step.function.isupper()


def interesting(picks: Mapping[str, Pick]) -> Iterator[str]:
    """The choices that matter to a reader and that no change shows."""
    for name, value in sorted(picks.items()):
        if name in USUAL and type(value) is int:
            if value != USUAL[name]:
                yield f"{name} {size_text(value)}"
        elif name in SHOWN or value is False:
            continue
        elif value is True:
            yield PICK_WORDS.get(name, name)
        else:
            yield f"{PICK_WORDS.get(name, name)} {value}".strip()


def _verdict(names: Names, trace: Trace) -> list[str]:
    lines = [f"VIOLATED {trace.claim} ({trace.where})"]
    lines += _wrap("         ", explanation(names, trace))
    if trace.loop is not None:
        lines.append(f"         the run repeats from step {trace.loop + 1} for ever")
    if trace.aftermath:
        lines += ["", "on the reference machine:"]
        lines += [line for seen in trace.aftermath for line in _wrap("         ", seen)]
    return lines


def explanation(names: Names, trace: Trace) -> str:
    """Why the last state, or the last step, violates the claim: one line."""
    if trace.loop is not None:
        return _why_endless(names, trace.states[trace.loop :]) or f"the claim was: {_claim(trace)}"
    last = trace.states[-1]
    found = EXPLAINERS[trace.property](names, last) if trace.property in EXPLAINERS else ""
    prop = PROPERTIES.get(trace.property)
    for conjunct in prop.conjuncts if prop else ():
        if conjunct.name == trace.conjunct and isinstance(conjunct, EventConjunct):
            about = EVENT_WORDS.get(conjunct.event)
            notes = trace.steps[-1].notes if trace.steps else ()
            told = [note for note in notes if about and about in note]
            found = f"step {len(trace.steps)}: {names.words(told[-1])}" if told else found
    return found or f"the claim was: {_claim(trace)}"


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
            return (
                f"{names.task(task)} can run, SSP is in {where}: {_mapped(names, mapping)} mapped"
            )
    return ""


def _why_left(names: Names, state: StateView) -> str:
    for mm in _used_mms(state):
        for addr, mapping in enumerate(state["mms"][mm]):
            if mapping["owner"] is LEFT and mapping["kind"] is not Kind.ORPHAN:
                where = f"{names.addr(addr)} in {names.mm(mm)}"
                return f"{where}, {_mapped(names, mapping)}, stays"
    return ""


def _why_orphan(names: Names, state: StateView) -> str:
    for mm in _used_mms(state):
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


# -- mermaid -----------------------------------------------------------------------


def render_mermaid(trace: Trace) -> str:
    """The trace as a mermaid sequence diagram, a column per task."""
    names = Names()
    names.look(None, trace.initial)
    body: list[str] = []
    before = trace.initial
    for number, step in enumerate(trace.steps, 1):
        if trace.loop == number - 1:
            body.append("loop for ever")
        known = set(names.given)
        names.take(before, step)
        who = names.task(step.task)
        meaning = BY_NAME[step.step].meaning if step.step in BY_NAME else step.step
        words = "; ".join([meaning, *interesting(step.picks)])
        new = [name for name in names.given if name not in known]
        body.append(f"{who}->>{new[0] if new else who}: {_escape(f'{number}. {words}')}")
        told = [f"{w} {t}" for w, t in changes(names, before, step.state, step.task)]
        told += [names.words(note) for note in step.notes]
        if told:
            body.append(f"Note over {who}: {'<br/>'.join(_escape(t) for t in told)}")
        before = step.state
    if trace.loop is not None:
        body.append("end")
    if trace.steps:
        words = f"VIOLATED {trace.claim}: {explanation(names, trace)}"
        body.append(f"Note over {names.task(trace.steps[-1].task)}: {_escape(words)}")
    head = [f"participant {name}" for name in names.given]
    title = _escape(f"{trace.design}: {trace.claim}")
    lines = ["sequenceDiagram", f"    title {title}", *(f"    {line}" for line in head + body)]
    return in_words("\n".join(lines), DESIGNS.get(trace.design)) + "\n"


def _escape(words: str) -> str:
    """Mermaid's own signs, as its entities."""
    codes = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;"}
    return "".join(codes.get(sign, sign) for sign in " ".join(words.split()))
