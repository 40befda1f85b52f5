"""``shstk new-design``: a file of one's own with the hooks of a design, to be changed.

What is written is the design's own text and the imports that it needs, in a subclass: a hook
that is changed is changed, a hook that is deleted is inherited.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import keyword
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from model.designs import DESIGNS, Design
from shstk.errors import UserError

WIDTH = 100

HEADER = '''"""{name}: {base}, to be changed.

{what}
Then:

    shstk check ./{file} --bounded
    shstk diff {base} ./{file}
    shstk trace ./{file} PROPERTY

Hooks return 0, or an errno.  Text is `if`, early `return`, assignment and calls; conditions are
combined with & | ~.  In an `if`, `and`, `or` and `not` mean the same; where they would not, with
~ before them, in a predicate of k.exists_task, or `not` in what a hook returns as a condition,
they are refused, with the line.  What a hook is for: model/designs/design.py, where more can be
overridden; the variables: model/state.py; what k can be asked: model/world.py.
"""
'''
WHOLE = "These are the hooks of {base}.  Change one; a hook that is deleted is inherited."
BARE = "All hooks are those of {base}; define here what is to be changed."


def add_parser(sub: Any) -> None:
    """Add ``new-design`` to the subcommands of an argument parser."""
    parser: argparse.ArgumentParser = sub.add_parser(
        "new-design",
        help="write a file with a design's hooks, to be changed",
        description="Write NAME.py: a subclass of a design with its hooks in full, which the other "
        "commands take as ./NAME.py.  Nothing is overwritten.",
    )
    parser.add_argument("name", metavar="NAME", help="letters, digits, '.', '_' and '-'")
    parser.add_argument(
        "--from", dest="base", required=True, metavar="DESIGN", help="the design to start from"
    )
    parser.add_argument("--file", metavar="PATH", help="where to write it (default: ./NAME.py)")
    parser.add_argument("--minimal", action="store_true", help="the class only, no hooks")


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    name = arguments.name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name):
        raise UserError(
            f"a design's name is made of letters, digits, '.', '_' and '-', 64 at most: {name!r}"
        )
    if name in DESIGNS:
        raise UserError(f"there is a design {name!r}; give yours another name")
    if arguments.base not in DESIGNS:
        if Path(arguments.base).is_file():
            raise UserError(f"--from {arguments.base}: copy the file, and change its name in there")
        known = ", ".join(DESIGNS)
        raise UserError(f"--from {arguments.base}: there is no such design; known are {known}")
    path = Path(arguments.file or f"{name}.py")
    if path.suffix != ".py":
        raise UserError(f"--file {path}: the name of a design's file ends with .py")
    content = template(name, DESIGNS[arguments.base], path.name, arguments.minimal)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise UserError(f"{path} is there already; name another one with --file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    print(f"wrote {path}", file=sys.stderr)
    return 0


def template(name: str, base: Design, file: str, minimal: bool = False) -> str:
    """The text of the file: with all life-cycle hooks of ``base``, or with none."""
    cls = type(base)
    hooks = [] if minimal else list(_hooks(cls))
    imports = _Imports()
    imports.add(cls.__module__, cls.__name__)
    texts = [imports.text(function, owner) for function, owner in hooks]
    what = (BARE if minimal else WHOLE).format(base=base.name)
    parts = [
        HEADER.format(name=name, base=base.name, what=what, file=file),
        "from __future__ import annotations\n",
        *imports.lines(),
        "\n",
        f"class {_class_name(name, imports.names)}({cls.__name__}):",
        f'    """{base.name}, changed."""\n',
        f'    name = "{name}"',
        f'    title = "{base.name}, changed"',
        *(f"\n{text}" for text in texts),
    ]
    return "\n".join(parts) + "\n"


def _hooks(cls: type[Design]) -> Iterator[tuple[Callable[..., Any], type[Design]]]:
    """The functions of a design's life cycle, each with the class that it is written in.

    Without those about user memory, which have their world as ``u``.
    """
    found: dict[str, tuple[Callable[..., Any], type[Design]]] = {}
    for owner in reversed(cls.__mro__):  # in the order of the first that has it
        if issubclass(owner, Design) and owner is not Design:
            hooks = {n: f for n, f in vars(owner).items() if inspect.isfunction(f)}
            found |= {name: (function, owner) for name, function in hooks.items()}
    for function, owner in found.values():
        if "u" not in inspect.signature(function).parameters:
            yield function, owner


def _class_name(name: str, taken: set[str]) -> str:
    """A name for the class that Python takes and that nothing else has."""
    out = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    if not out or out[0].isdigit():
        out = f"Design{out}"
    while keyword.iskeyword(out) or out in taken:
        out = f"My{out}"
    return out


class _Imports:
    """What the copied text refers to: by module, the names in it."""

    def __init__(self) -> None:
        self.by_module: dict[str, set[str]] = {}
        self.names: set[str] = set()

    def add(self, module: str, name: str) -> None:
        """``from module import name``."""
        self.by_module.setdefault(module, set()).add(name)
        self.names.add(name)

    def text(self, function: Callable[..., Any], owner: type[Design]) -> str:
        """A hook's text, with imports of all that it refers to."""
        module = sys.modules[function.__module__]
        source = textwrap.dedent(inspect.getsource(function))
        if "super()" in source:
            # One class further down, super() would be the text itself.
            source = source.replace("super()", f"super({owner.__name__}, self)")
            self.add(owner.__module__, owner.__name__)
        bound = _bindings(module.__name__, inspect.getsource(module))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name) and node.id in bound:
                self.add(bound[node.id], node.id)
        return textwrap.indent(source, "    ").rstrip()

    def lines(self) -> Iterator[str]:
        """The import statements, as the project writes them."""
        for module, names in sorted(self.by_module.items()):
            listed = sorted(names, key=_import_order)
            line = f"from {module} import {', '.join(listed)}"
            if len(line) > WIDTH:
                line = "\n".join([f"from {module} import (", *(f"    {n}," for n in listed), ")"])
            yield line


def _import_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _bindings(module: str, source: str) -> dict[str, str]:
    """The names that a module binds, and the module each is to be imported from."""
    out: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            out |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            out[node.name] = module
        elif isinstance(node, ast.Assign):
            out |= {t.id: module for t in node.targets if isinstance(t, ast.Name)}
    return out
