"""Showing a trace to a kernel engineer: as text, and as a mermaid sequence diagram."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from counterexamples.changed import Line, changes, mapped, size_words, ssp_words
from counterexamples.named import Names, live, size_text, used_mms
from counterexamples.trace import Pick, StateView, Trace, TraceStep
from counterexamples.why import claim_of, explanation
from model.designs import DESIGNS, Design, function_of, in_words, source_of
from model.kernel import STEPS, Step
from model.kernel.mmap import RLIMITS, STACK_SIZES
from model.state import NULL, Ctl, Kind
from properties import PROPERTIES

WIDTH = 100
LEGEND = (
    "P, C, D … tasks; A, B … page ranges, the same in every mm; "
    "SSP: the CPU's shadow-stack pointer; base, size: thread.shstk"
)
BY_NAME = {step.name: step for step in STEPS}
USUAL = {"stack_size": STACK_SIZES[0], "RLIMIT_STACK": RLIMITS[0]}  # not worth a word
SHOWN = ("child", "group", "mm", "addr", "to", "SSP after")  # by what changes
PICK_WORDS = {"compat": "through the 32-bit system call entry", "error": ""}


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
    rows.append(("property", f"{trace.property}: {claim_of(trace)}"))
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


def start_lines(names: Names, state: StateView) -> list[str]:
    """The initial state, in which nothing but tasks and their mms is worth a word, as a rule."""
    lines: list[Line] = []
    for slot in live(state):
        task = state["tasks"][slot]
        ctl = task["ctl"].value if isinstance(task["ctl"], Ctl) else task["ctl"]
        words = f"is in {ctl}, {names.mm(task['mm'])}"
        if task["ssp"] is NULL and task["base"] is NULL:
            words += ", shadow stacks off"
        else:
            words += f", base {names.addr(task['base'])}, size {size_words(task)}"
            words += f", SSP {ssp_words(names, task)}"
        lines.append((names.task(slot), words))
    for mm in used_mms(state):
        for addr, mapping in enumerate(state["mms"][mm]):
            if mapping["kind"] is not Kind.FREE:
                where = f"{names.addr(addr)} in {names.mm(mm)}"
                lines.append((where, mapped(names, mapping)))
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
