"""Obligations as files that any SMT-LIB 2 solver can be asked about.

One file for each batch: premises, then every goal between push and pop with the answer that
is expected.  ``index.tsv`` lists them all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.errors import UserError
from shstk.proof.batch import Batch
from shstk.proof.engines import SETTINGS, ScriptError, cvc5_commands, cvc5_new
from shstk.proof.solvers import RLIMIT

INDEX = "index.tsv"
WIDTH = 100
_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_PART = re.compile(r'\|[^|]*\||"(?:[^"]|"")*"|[()]|[^\s()|"]+')
_STATUS = re.compile(r"^\(set-info :status (\w+)\)$", re.MULTILINE)


def file_name(batch: str) -> str:
    """A safe name for a batch's file; different batches have different ones."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", batch.lower().replace("/", "."))[:80].strip("-.")
    if batch.replace("/", ".") == slug and "." not in batch and _PLAIN.fullmatch(slug):
        return f"{slug}.smt2"
    return f"{slug or 'batch'}-{hashlib.sha256(batch.encode()).hexdigest()[:8]}.smt2"


def text(batch: Batch, expected: Mapping[tuple[str, str], str] | None = None) -> str:
    """A batch as a whole file; a goal that ``expected`` does not name is to be unsat."""
    head = [
        batch.name,
        *batch.about.splitlines(),
        "Each goal is a negated claim: unsat means that the claim follows from the premises.",
        f"z3 rlimit={RLIMIT['z3']} FILE",
        f"cvc5 --incremental --rlimit-per={RLIMIT['cvc5']} FILE",
        "(cvc5 says 'unsupported' to the option, which is z3's own.)",
    ]
    lines = [*(_comment(line) for line in head), ""]
    # How z3 is to rank instances of quantifiers: without it some goals are unknown to it.
    lines += [
        f'(set-option :{name} "{value}")'
        for name, value in SETTINGS["z3"].items()
        if not value.isdigit()
    ]
    lines += ["(set-logic ALL)", *wrapped(batch.prelude)]
    for goal in batch.goals:
        status = (expected or {}).get((batch.name, goal.name), "unsat")
        lines += ["", "(push 1)", _comment(goal.name), f"(set-info :status {status})"]
        lines += [*wrapped(f"(assert {goal.negated})"), "(check-sat)", "(pop 1)"]
    return "\n".join([*lines, "(exit)", ""])


def _comment(line: str) -> str:
    return "; " + " ".join(line.split())


def wrapped(script: str) -> Iterator[str]:
    """The same commands in lines of some ``WIDTH`` columns, indented by their depth."""
    depth = 0
    line = ""
    glued = True
    for part in (m[0] for m in _PART.finditer(script)):
        space = "" if glued or part == ")" else " "
        if line and depth == 0:
            yield line
            line, space = "", ""
        elif not glued and part != ")" and _full(line, part):
            yield line
            line, space = "  " * min(depth, 20), ""
        line += space + part
        glued = part == "("
        depth += (part == "(") - (part == ")")
    if line:
        yield line


def _full(line: str, part: str) -> bool:
    return len(line) > WIDTH - 25 if part == "(" else len(line) + 1 + len(part) > WIDTH


def export(
    batches: Sequence[Batch],
    directory: Path,
    expected: Mapping[tuple[str, str], str] | None = None,
) -> list[Path]:
    """Write every batch, and the index; the files written.

    ``expected`` maps (batch, goal) to "unsat", "sat" or "unknown".  Files that were there
    before stay; the index says which count.  Raises ``UserError`` where nothing can be
    written, ``ValueError`` if two batches have the same name.
    """
    names = [file_name(b.name) for b in batches]
    if len(set(names)) != len(names):
        raise ValueError("two batches have the same name")
    rows = ["file\tbatch\tgoal\texpected"]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, one in zip(names, batches, strict=True):
            (directory / name).write_text(text(one, expected))
            for goal in one.goals:
                status = (expected or {}).get((one.name, goal.name), "unsat")
                rows.append(f"{name}\t{one.name}\t{goal.name}\t{status}")
        (directory / INDEX).write_text("\n".join(rows) + "\n")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{directory}: not a directory") from None
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    return [directory / name for name in [*names, INDEX]]


@dataclass(frozen=True)
class Checked:
    """A check of a file: the answer it hopes for, and the one it got."""

    expected: str
    answer: str


def check_file(path: Path, solver: str = "z3") -> list[Checked]:
    """Give a file to a solver as it is.  Raises ``ScriptError`` if the solver rejects it."""
    content = path.read_text()
    said = _z3_says(content) if solver == "z3" else _cvc5_says(content)
    answers = []
    for line in said:
        word = line.split(" ")[0]
        if word in ("unsat", "sat", "unknown"):
            answers.append(word)
        elif line != "unsupported":
            raise ScriptError(f"{path.name}: {solver}: {line}")
    expected = _STATUS.findall(content)
    if len(expected) != len(answers):
        raise ScriptError(f"{path.name}: {solver}: {len(answers)} answers, not {len(expected)}")
    return [Checked(e, a) for e, a in zip(expected, answers, strict=True)]


def _z3_says(content: str) -> list[str]:
    import z3

    context = z3.Context()  # has to outlive the call
    try:
        said = z3.Z3_eval_smtlib2_string(context.ref(), content)
    except z3.Z3Exception as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
    # A status that is not as hoped for is an error to z3; here it is for the caller to see.
    ignored = "check annotation that says"
    return [s for s in said.splitlines() if s.strip() and ignored not in s]


def _cvc5_says(content: str) -> list[str]:
    solver = cvc5_new({"incremental": "true", "rlimit-per": str(RLIMIT["cvc5"])})
    try:
        return [line for line in cvc5_commands(solver, content) if line]
    except RuntimeError as error:
        return [str(error)]
