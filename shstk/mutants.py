"""A design with one guard or one effect of its text changed, as a design of its own.

Changed is the text of the life cycle: the hooks of ``model.designs.design`` and the methods
they call, inherited ones too.  What a design does to user memory is the CPU level's, and is
left alone; so are functions outside the class, which belong to the kernel.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from model.designs import Design
from shstk.loader import HOOKS
from shstk.mutations import Edit, edits
from shstk.text import check_source

Method = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """One change: where it is, what it is, and the method it is in as a whole, changed.

    ``original`` and ``mutated`` are the lines of the file that differ; ``mutated`` is empty
    where something was left out.
    """

    number: int
    kind: str
    file: Path
    line: int
    owner: type
    method: str
    original: tuple[str, ...]
    mutated: tuple[str, ...]
    source: str

    @property
    def where(self) -> str:
        """For example ``linux_6_12.py:93``."""
        return f"{self.file.name}:{self.line}"


def mutants(design: Design) -> list[Mutant]:
    """Every mutant of a design, in the order of its files' lines, counted from 1."""
    found: dict[tuple[type, str], list[tuple[int, str, Edit]]] = {}
    for owner, name in methods(design):
        first, source = _source(vars(owner)[name])
        found[owner, name] = [(first, source, edit) for edit in edits(source)]
    order = sorted(
        ((owner, name, *each) for (owner, name), list_ in found.items() for each in list_),
        key=lambda m: (list(type(design).__mro__).index(m[0]), m[2] + m[4].line),
    )
    return [_mutant(n, *each) for n, each in enumerate(order, 1)]


def _mutant(number: int, owner: type, name: str, first: int, source: str, edit: Edit) -> Mutant:
    file = Path(inspect.getsourcefile(owner) or "?")
    before = tuple(source.splitlines()[edit.line - 1 : edit.end])
    line = first + edit.line - 1
    return Mutant(
        number, edit.kind, file, line, owner, name, before, edit.lines, edit.applied(source)
    )


# -- the methods -----------------------------------------------------------------------
def methods(design: Design) -> list[tuple[type, str]]:
    """The methods that the hooks run, with the class each is written in, hooks included."""
    return list(calls(design))


def calls(design: Design) -> dict[tuple[type, str], frozenset[tuple[type, str]]]:
    """Of every method that the hooks run, the methods of the design that it may call."""
    out: dict[tuple[type, str], frozenset[tuple[type, str]]] = {}
    todo = [m for hook in HOOKS if (m := _resolved(type(design), hook)) is not None]
    while todo:
        method = todo.pop(0)
        if method not in out:
            out[method] = frozenset(_called(design, *method))
            todo += sorted(out[method], key=lambda m: m[1])
    return out


def hooks_reaching(design: Design, owner: type, method: str) -> frozenset[str]:
    """The hooks that may come to a method."""
    graph = calls(design)
    reaching = {(owner, method)}
    while more := {m for m, called in graph.items() if called & reaching} - reaching:
        reaching |= more
    return frozenset(h for h in HOOKS if _resolved(type(design), h) in reaching)


def _resolved(cls: type, name: str, after: type | None = None) -> tuple[type, str] | None:
    """Where a method of the design's own text is found; ``after``: by that class's super()."""
    order = cls.__mro__
    for each in order[order.index(after) + 1 if after else 0 :]:
        if name in vars(each):
            # Design itself has only refusals, and user memory is another level.
            own = issubclass(each, Design) and each is not Design
            return (each, name) if own and inspect.isfunction(vars(each)[name]) else None
    return None


def _called(design: Design, owner: type, name: str) -> Iterator[tuple[type, str]]:
    for node in ast.walk(ast.parse(_source(vars(owner)[name])[1])):
        if isinstance(node, ast.Attribute):
            found = None
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found = _resolved(type(design), node.attr)
            elif _is_super(node.value):
                found = _resolved(type(design), node.attr, owner)
            if found is not None:
                yield found


def _is_super(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


@cache
def _source(function: Method) -> tuple[int, str]:
    """A function's first line in its file, and its text from column 0 on."""
    lines, first = inspect.getsourcelines(function)
    return first, textwrap.dedent("".join(lines))


# -- a mutant as a design -----------------------------------------------------------------
def directory() -> tempfile.TemporaryDirectory[str]:
    """Where the files of mutants are kept while they are in use."""
    return tempfile.TemporaryDirectory(prefix="shstk-ablate-")


def mutated(design: Design, mutant: Mutant, folder: Path) -> Design:
    """The design with this change, its text in a file of its own in ``folder``.

    The file is a subclass with the one method.  Raises ``TextError`` where the changed text
    breaks a rule.
    """
    base = type(design)
    name = f"{base.__name__}_{mutant.number}"
    text = textwrap.indent(_explicit_super(mutant), "    ")
    patch, head = "", f"class {name}({base.__name__}):\n"
    if _resolved(base, mutant.method) != (mutant.owner, mutant.method):
        # Other methods come to it by super(): it goes in between.
        patch = f"class Changed({mutant.owner.__name__}):\n{text}\n\n"
        head, text = f"class {name}({base.__name__}, Changed):\n", "    pass\n"
    what = f'"""{design.name}, {mutant.where} {mutant.kind}."""\n\n'
    path = folder / f"{design.name}~{mutant.number}.py"
    path.write_text(f"{what}from __future__ import annotations\n\n\n{patch}{head}{text}")
    check_source(path)
    module = ModuleType(f"_mutant_{id(design)}_{mutant.number}")
    context = vars(mutant.owner)[mutant.method].__globals__
    vars(module).update({k: v for k, v in context.items() if not k.startswith("__")})
    vars(module).update({base.__name__: base, mutant.owner.__name__: mutant.owner})
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # inspect, and pickle, look there
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    out = copy.copy(design)
    out.__class__ = vars(module)[name]
    out.name = f"{design.name}~{mutant.number}"
    out.title = f"{design.title}; {mutant.where} {mutant.kind}"
    return out


def _explicit_super(mutant: Mutant) -> str:
    """The method's text, where ``super()`` still means the class it was written in."""
    return mutant.source.replace("super()", f"super({mutant.owner.__name__}, self)")
