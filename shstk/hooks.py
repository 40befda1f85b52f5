"""Where the text of two designs differs, by function: for a reader, no verdict."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.designs import Design

TITLES = frozenset({"name", "title", "cite", "source"})


@dataclass(frozen=True)
class Hook:
    """A function or a constant that two designs do not share, and what each has."""

    name: str
    where: tuple[str, str]  # a function's file and line, a constant's value, or "-"


def differing(one: Design, other: Design) -> list[Hook]:
    """What differs, in the order in which it is written; comments do not count."""
    members = _members(one), _members(other)
    out = []
    for name in dict.fromkeys([*members[1], *members[0]]):
        mine, theirs = (m.get(name) for m in members)
        if name not in TITLES and not _same(mine, theirs):
            out.append(Hook(name, (_where(mine), _where(theirs))))
    return out


def _members(design: Design) -> dict[str, Any]:
    """Functions and constants by name, as the design has them."""
    out: dict[str, Any] = {}
    for cls in type(design).__mro__:
        for name, value in vars(cls).items():
            if name.startswith("_") or name in out:
                continue
            out[name] = value if inspect.isfunction(value) else getattr(design, name)
    return out


def _same(one: Any, other: Any) -> bool:
    if inspect.isfunction(one) and inspect.isfunction(other):
        return one is other or _meaning(one) == _meaning(other)
    return bool(type(one) is type(other) and one == other)


def _meaning(function: Callable[..., Any]) -> str:
    """The text of a function without comments and docstring."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return repr(function)
    body = tree.body[0]
    if isinstance(body, ast.FunctionDef) and ast.get_docstring(body) is not None:
        body.body = body.body[1:]
    return ast.dump(tree)


def _where(value: Any) -> str:
    if value is None:
        return "-"
    if not inspect.isfunction(value):
        return " ".join(str(value).split())[:31]
    path = Path(value.__code__.co_filename)
    return f"{path.name}:{value.__code__.co_firstlineno}"
