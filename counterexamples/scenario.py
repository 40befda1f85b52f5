"""Scenario files: what a person writes for the reference machine to execute (SCENARIOS.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from counterexamples.expected import Statement, parse_statement
from counterexamples.expressions import Expression, Wrong, number, shown
from counterexamples.lines import Do, Line, Picture, parse_line, tasks_made_in
from model.designs import DESIGNS, X86_DESIGNS
from model.reference.system import DEFAULT_RLIMIT

LINES_MAX, LENGTH_MAX = 10_000, 1_000
BYTES_MAX = 4_000_000
FIRST = "P"  # the first task
UNLIMITED = (1 << 64) - 1
KEYS = ("design", "expect", "rlimit", "kernel", "limit")


class ScenarioError(Exception):
    """What is wrong with a scenario file, where (line 0: all of it), and what would be right."""

    def __init__(self, path: str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}" if line else f"{path}: {message}")
        self.path, self.line, self.message = path, line, message


@dataclass(frozen=True)
class Expect:
    """A statement about the end; ``design`` empty: on every design."""

    statement: Statement
    design: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Scenario:
    """What to execute on which designs, and what is expected.

    ``story``: the comment at its head.  ``limit`` in bytes is what an address space can hold
    beside the program image, None: anything.
    """

    designs: tuple[str, ...]
    lines: tuple[Line, ...]
    story: tuple[str, ...] = ()
    expects: tuple[Expect, ...] = ()
    rlimit: int = DEFAULT_RLIMIT
    limit: int | None = None
    stepwise: bool = False
    path: str = field(default="scenario", compare=False)

    @property
    def names(self) -> set[str]:
        """The names of tasks and ranges that it uses."""
        lines = [line for line in self.lines if isinstance(line, Do)]
        tasks = {name for line in lines for name in tasks_made_in(line)}
        return {FIRST} | tasks | {line.bind for line in lines if line.bind}


# -- writing -----------------------------------------------------------------------


def write(scenario: Scenario) -> str:
    """The scenario as a file; reading it gives an equal one."""
    out = [f"# {line}".rstrip() for line in scenario.story]
    out.append(f"design: {' '.join(scenario.designs)}")
    if scenario.rlimit != DEFAULT_RLIMIT:
        unlimited = scenario.rlimit == UNLIMITED
        out.append(f"rlimit: {'unlimited' if unlimited else scenario.rlimit}")
    if scenario.limit is not None:
        out.append(f"limit: {scenario.limit}")
    if scenario.stepwise:
        out.append("kernel: stepwise")
    for expect in scenario.expects:
        design = f" {expect.design}" if expect.design else ""
        out.append(f"expect{design}: {expect.statement.text}")
    return "\n".join([*out, "", *(line.text for line in scenario.lines)]) + "\n"


# -- reading -----------------------------------------------------------------------


def read(path: Path) -> Scenario:
    """The scenario in a file; ScenarioError for whatever is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ScenarioError(str(path), 0, f"cannot be read: {error.strerror}") from None
    if len(data) > BYTES_MAX:
        raise ScenarioError(str(path), 0, f"more than {BYTES_MAX} bytes; a scenario is short")
    try:
        return parse(data.decode(), str(path))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ScenarioError(str(path), line, "not UTF-8; a scenario is plain text") from None


def parse(text: str, path: str = "scenario") -> Scenario:
    """The scenario that a text is; ScenarioError for whatever is wrong with it."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > LINES_MAX:
        message = f"more than {LINES_MAX} lines; split the scenario"
        raise ScenarioError(path, LINES_MAX + 1, message)
    reader = _Reader(path)
    for count, line in enumerate(lines, 1):
        try:
            reader.take(count, line.removesuffix("\r").replace("\t", " "))
        except Wrong as wrong:
            raise ScenarioError(path, count, str(wrong)) from None
    return reader.finish()


_HEADER = re.compile(r"([a-z]+)(?: +(\S+?))? *:(.*)")
_COMMENT = re.compile(r"(?<!\S)#(?!(?:PF|CP|GP|UD|SS)\b)")


class _Reader:
    """What has been read so far, line by line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.story: list[str] = []
        self.lines: list[Line] = []
        self.expects: list[Expect] = []
        self.given: dict[str, tuple[int, str]] = {}  # header: its line and value
        self.tasks = {FIRST}
        self.bound: dict[str, int] = {}
        self.in_story = True

    def take(self, count: int, raw: str) -> None:
        """Read a line; Wrong."""
        if len(raw) > LENGTH_MAX:
            raise Wrong(f"longer than {LENGTH_MAX} characters; a scenario is for people to read")
        if not raw.isprintable():
            raise Wrong("there is a character that cannot be printed; a scenario is plain text")
        text = raw.strip()
        if text.startswith("#"):
            if self.in_story:
                self.story.append(text.removeprefix("#").strip())
            return
        self.in_story = self.in_story and not text
        match = _COMMENT.search(text)
        text = text[: match.start()].rstrip() if match else text
        header = _HEADER.fullmatch(text)
        if header:
            self._header(count, header[1], header[2] or "", header[3].strip())
        elif text:
            self._line(count, text)

    # -- headers -----------------------------------------------------------------
    def _header(self, count: int, key: str, design: str, value: str) -> None:
        if key not in KEYS:
            raise Wrong(f"there is no header {shown(key)}; known are {', '.join(KEYS)}")
        if self.lines:
            raise Wrong(f"{key}: stands before the first operation, on line {self.lines[0].line}")
        if not value:
            raise Wrong(f"{key}: says nothing; for example `{_EXAMPLES[key]}`")
        if key == "expect":
            if design and design not in DESIGNS:
                raise Wrong(f"there is no design {shown(design)}; known are {', '.join(DESIGNS)}")
            self.expects.append(Expect(parse_statement(value), design, count))
            return
        if design:
            raise Wrong(f"{key}: is for all designs; only `expect DESIGN:` is for one")
        if key in self.given:
            raise Wrong(f"{key}: stands on line {self.given[key][0]} already; leave one out")
        _HEADERS[key](value)  # Wrong now, not later
        self.given[key] = count, value

    # -- operations ----------------------------------------------------------------
    def _line(self, count: int, text: str) -> None:
        if text == "picture":
            self.lines.append(Picture(count))
            return
        line = parse_line(text, count)
        if line.task not in self.tasks:
            known = ", ".join(sorted(self.tasks))
            raise Wrong(f"there is no task {shown(line.task)} so far; known are {known}")
        self._look(e for _, e in line.arguments if isinstance(e, Expression))
        if line.bind in self.bound:
            place = self.bound[line.bind]
            raise Wrong(f"{line.bind} is bound on line {place} already; choose another name")
        if line.bind:
            self.bound[line.bind] = count
        self.tasks.update(tasks_made_in(line))
        for name in self.tasks & self.bound.keys():
            raise Wrong(f"{name} would be a task and a range; choose another name")
        self._look(o.gives for o in line.expected if o.gives is not None)
        self.lines.append(line)

    def _look(self, expressions: Iterable[Expression]) -> None:
        """Every name and task in them is known by now."""
        for each in expressions:
            for term in each.named:
                of_task = term.name in self.tasks and term.part == "size"
                if term.name not in self.bound and not of_task:
                    say = f"bind it with `{term.name} = TASK …`"
                    raise Wrong(f"{term.name} is bound on no line before; {say}")
            for task in each.tasks:
                if task not in self.tasks:
                    raise Wrong(
                        f"there is no task {task}; known are {', '.join(sorted(self.tasks))}"
                    )

    # -- the end -------------------------------------------------------------------
    def finish(self) -> Scenario:
        """The whole; ScenarioError where something is missing."""
        if "design" not in self.given:
            raise ScenarioError(self.path, 1, f"there is no design; {_DESIGN}")
        designs = _designs(self.given["design"][1])
        for expect in self.expects:
            try:
                self._statement(expect, designs)
            except Wrong as wrong:
                raise ScenarioError(self.path, expect.line, str(wrong)) from None
        for line in self.lines:
            for outcome in line.expected if isinstance(line, Do) else ():
                if outcome.design not in ("", *designs):
                    message = f"{outcome.design} is expected on, but not in the line `design:`"
                    raise ScenarioError(self.path, line.line, message)
        return Scenario(
            designs,
            tuple(self.lines),
            tuple(self.story),
            tuple(self.expects),
            _rlimit(self.given["rlimit"][1]) if "rlimit" in self.given else DEFAULT_RLIMIT,
            number(self.given["limit"][1]) if "limit" in self.given else None,
            "kernel" in self.given,
            self.path,
        )

    def _statement(self, expect: Expect, designs: tuple[str, ...]) -> None:
        if expect.design not in ("", *designs):
            raise Wrong(f"the scenario does not run on {expect.design}; `design:` says where")
        task = expect.statement.task
        if task and task not in self.tasks:
            raise Wrong(f"no line makes a task {task}; known are {', '.join(sorted(self.tasks))}")
        self._look(expect.statement.expressions)


_DESIGN = f"write `design: NAME …`, known are {', '.join(X86_DESIGNS)}"
_EXAMPLES = {
    "design": "design: linux-6.12",
    "expect": "expect: P is alive",
    "rlimit": "rlimit: 8M",
    "kernel": "kernel: stepwise",
    "limit": "limit: 64M",
}


def _designs(value: str) -> tuple[str, ...]:
    names = tuple(value.split())
    for name in names:
        if name not in DESIGNS:
            raise Wrong(f"there is no design {shown(name)}; {_DESIGN}")
        if name not in X86_DESIGNS:
            raise Wrong(f"the machine is an x86 and {name} is not for x86; {_DESIGN}")
    if len(set(names)) < len(names):
        raise Wrong("a design is named twice; name each once")
    return names


def _rlimit(value: str) -> int:
    return UNLIMITED if value == "unlimited" else number(value)


def _kernel(value: str) -> None:
    if value != "stepwise":
        raise Wrong(f"kernel: {shown(value)} is nothing; write `kernel: stepwise` or leave it out")


_HEADERS = {"design": _designs, "rlimit": _rlimit, "kernel": _kernel, "limit": number}
