"""One line of a scenario: a task does an operation, and what is expected of it."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import model.reference.protocols  # noqa: F401  (registers the operations)
from counterexamples.expected import Outcome, parse_outcomes
from counterexamples.expressions import Expression, Wrong, expression, name_of, shown
from model.designs import DESIGNS
from model.reference.operations import OPERATIONS, Address, Bytes, NewTask, Operation, Parameter

MAPPINGS = ("mmap", "mremap", "map_shadow_stack", "makecontext")  # NAME = ... binds the range
NUMERIC = (Address, Bytes, int)
# Operations that make a shadow stack and give no number: NAME = ... binds the stack.
MAKERS = ("arch_prctl", "clone", "clone3", "io_uring_worker", "pthread_create")

Argument = str | bool | Expression


@dataclass(frozen=True)
class Do:
    """A line that has a task do something.  ``arguments`` by parameter; ``bind``: NAME or ''."""

    task: str
    operation: str
    arguments: tuple[tuple[str, Argument], ...] = ()
    bind: str = ""
    expected: tuple[Outcome, ...] = ()
    line: int = field(default=0, compare=False)
    written: str = field(default="", compare=False)  # what the file says

    @property
    def text(self) -> str:
        """The line, as ``write`` does."""
        words = [self.bind, "="] if self.bind else []
        words += [self.task, self.operation]
        known = OPERATIONS[self.operation].parameters
        in_order = True  # so far all of them have been given
        given = dict(self.arguments)
        for parameter in known:
            value = given.get(parameter.name)
            if isinstance(value, bool):
                words += [parameter.name] * value
            elif value is None:
                in_order = False
            else:
                word = value if isinstance(value, str) else value.text
                words.append(word if in_order else f"{parameter.name}={word}")
        return " ".join(words) + self._outcomes()

    def _outcomes(self) -> str:
        by_design: dict[str, list[str]] = {}
        for outcome in self.expected:
            by_design.setdefault(outcome.design, []).append(outcome.text)
        return "".join(
            f" => {design}{': ' * bool(design)}{', '.join(texts)}"
            for design, texts in by_design.items()
        )


@dataclass(frozen=True)
class Picture:
    """A line that asks for a picture of the address spaces."""

    line: int = field(default=0, compare=False)

    @property
    def text(self) -> str:
        """The line."""
        return "picture"

    written = text


Line = Do | Picture


def tasks_made_in(line: Do) -> Iterable[str]:
    """The names that a line gives to tasks."""
    made = {p.name for p in OPERATIONS[line.operation].parameters if p.kind is NewTask}
    yield from (str(value) for name, value in line.arguments if name in made)


_ON = re.compile(r"([A-Za-z0-9._-]+): *(.*)")


def parse_line(text: str, count: int = 0) -> Do:
    """``[NAME =] TASK OPERATION [ARG…] [key=value…] [flag…] [=> EXPECTED]``; Wrong."""
    said, *clauses = re.split(r"(?:(?<=\s)|^)=>(?=\s|$)", text)
    expected: list[Outcome] = []
    for clause in clauses:
        on = _ON.fullmatch(clause.strip())
        if on and on[1] not in DESIGNS:
            raise Wrong(f"there is no design {shown(on[1])}; known are {', '.join(DESIGNS)}")
        design, outcomes = (on[1], on[2]) if on else ("", clause)
        expected += parse_outcomes(outcomes, design)
    words = said.split()
    for word in words:
        if word.startswith("#"):
            raise Wrong(f"{shown(word)} stands among the arguments; write `=> {word} …`")
    bind = ""
    if len(words) > 1 and words[1] == "=":
        bind, words = name_of(words[0], "a range"), words[2:]
    if len(words) < 2:
        raise Wrong("a line is `[NAME =] TASK OPERATION …`, or `picture`")
    task, called = name_of(words[0], "a task"), words[1]
    operation = OPERATIONS.get(called)
    if operation is None:
        raise Wrong(
            f"there is no operation {shown(called)}; SCENARIOS.md lists them{_near(called)}"
        )
    arguments = _arguments(operation, words[2:])
    line = Do(
        task, called, tuple(arguments.items()), bind, tuple(expected), count, " ".join(text.split())
    )
    if bind and not (operation.gives or called in MAKERS):
        raise Wrong(f"{called} gives nothing that {bind} could name; leave out `{bind} =`")
    if any(o.kind == "gives" and o.text != "0" for o in expected) and not operation.gives:
        raise Wrong(f"{called} gives no number; expect an errno, ok, #PF …")
    return line


def _near(called: str) -> str:
    close = difflib.get_close_matches(called[:40], OPERATIONS, 1)
    return f", did you mean {close[0]}?" if close else ""


def _arguments(operation: Operation, words: list[str]) -> dict[str, Argument]:
    """The words after an operation, by parameter in the signature's order; Wrong."""
    given: dict[str, Argument] = {}
    known = {p.name: p for p in operation.parameters}
    usage = f"right is `TASK {operation.syntax}`"
    for word in words:
        name, equals, value = word.partition("=")
        argument: Argument
        if word in known and known[word].kind is bool:
            name, argument = word, True
        elif equals and name in known:
            if known[name].kind is bool:
                raise Wrong(f"{name} has no value, it is the bare word; {usage}")
            argument = _argument(known[name], value)
        elif equals:
            raise Wrong(f"{operation.name} has no argument {shown(name)}; {usage}")
        else:
            free = [p for p in operation.parameters if p.kind is not bool and p.name not in given]
            if not free:
                raise Wrong(f"{shown(word)} is one argument too many; {usage}")
            name, argument = free[0].name, _argument(free[0], word)
        if name in given:
            raise Wrong(f"{name} is given twice; {usage}")
        given[name] = argument
    for parameter in operation.parameters:
        if parameter.required and parameter.name not in given:
            raise Wrong(f"{operation.name} needs {parameter.name.upper()}; {usage}")
    return {p.name: given[p.name] for p in operation.parameters if p.name in given}


def _argument(parameter: Parameter, text: str) -> Argument:
    try:
        if parameter.choices:
            if text not in parameter.choices:
                raise Wrong(f"{shown(text)} is none of {', '.join(parameter.choices)}")
            return text
        if parameter.kind is NewTask:
            return name_of(text, "a task")
        if parameter.kind in NUMERIC:
            return expression(text)
        if not re.fullmatch(r"[A-Za-z0-9_|.-]{1,200}", text):
            raise Wrong(f"{shown(text)} is no word; letters, digits, _ | . -")
        return text
    except Wrong as wrong:
        raise Wrong(f"{parameter.name}: {wrong}") from None


def make(task: str, operation: str, arguments: Mapping[str, object]) -> Do:
    """The line for an operation with Python values, as ``operations.do`` takes them."""
    words = []
    for name, value in arguments.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f"{name}={value:#x}" if isinstance(value, int) else f"{name}={value}")
    return parse_line(" ".join([task, operation, *words]))


def operations_text() -> str:
    """Every operation with its syntax and meaning, by chapter, in markdown (SCENARIOS.md)."""
    chapters: dict[str, list[Operation]] = {}
    for operation in OPERATIONS.values():
        chapters.setdefault(operation.chapter, []).append(operation)
    out = []
    for chapter, operations in chapters.items():
        out.append(f"### {chapter[0].upper()}{chapter[1:]}\n")
        out += [_described(operation) for operation in operations]
        out.append("")
    return "\n".join(out)


def _described(operation: Operation) -> str:
    words = (operation.run.__doc__ or "").replace("``", "`").split()
    if operation.name in MAPPINGS:
        words.append("Gives a range.")
    elif operation.gives:
        words.append("Gives a number.")
    if operation.name in MAKERS:
        words.append("`NAME =` binds the shadow stack that it makes.")
    meaning = textwrap.fill(
        " ".join(words),
        98,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"* `{operation.syntax}`\n{meaning}"
