"""What of a design a text has asked for.

A run of a text depends on the design by what it asks of it: hooks, and what these ask of it in
turn.  Two designs that give the same there share what was made of that run.  A hook is the
same if it is the same function of the same file, and every file of designs that this one
imports from is the same, too.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from model.designs import Design
from shstk.loader import design_files

PLAIN = (bool, int, str, type(None))


class Observed:
    """A design that notes what it is asked for; ``asked`` are the names until now.

    ``whole`` is the design itself, which notes nothing.
    """

    def __init__(self, design: Design) -> None:
        self.whole = design
        self.asked: set[str] = set()
        asked, cls = self.asked, type(design)

        def noting(self: object, name: str) -> Any:
            if not name.startswith("__"):
                asked.add(name)
            return object.__getattribute__(self, name)

        body = {"__getattribute__": noting, "__module__": cls.__module__}
        kind = type(cls.__name__, (cls,), body)
        self.design = cast(Design, object.__new__(kind))
        vars(self.design).update(vars(design))


def footprint(design: Design, names: Iterable[str]) -> str:
    """A digest of what a design gives under these names."""
    out = hashlib.sha256()
    for name in sorted(names):
        out.update(f"{name}\n".encode())
        if name in vars(design):
            out.update(_value(design, vars(design)[name]).encode())
        for cls in type(design).__mro__:
            if name in vars(cls):
                out.update(_value(design, vars(cls)[name]).encode())
    return out.hexdigest()


def _value(design: Design, value: object) -> str:
    """A value as text that is only equal where the values are."""
    if isinstance(value, FunctionType):
        if "__class__" in value.__code__.co_freevars or value.__closure__:
            return _whole(design)  # super(), or what a closure holds
        where = _file(value.__code__.co_filename)
        return f"{value.__qualname__} {_module(where, frozenset(), value.__globals__)}\n"
    if _plain(value):
        return f"{type(value).__name__} {value!r}\n"
    return _record(value) or _whole(design)


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in value)
    return isinstance(value, PLAIN)


def _record(value: object) -> str:
    """A frozen dataclass of plain values, with the file of its class; '' for anything else."""
    kind, there = type(value), _named(type(value).__module__)
    if there is None or not is_dataclass(kind) or kind.__mro__ != (kind, object):
        return ""
    held = sorted(getattr(value, "__dict__", {}).items())
    names = sorted(f.name for f in fields(kind))
    frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    if not frozen or [n for n, _ in held] != names or not _plain(tuple(v for _, v in held)):
        return ""
    return f"{kind.__qualname__} {_module(there[0], frozenset(), there[1])} {held!r}\n"


def _whole(design: Design) -> str:
    files = "".join(f"{path} {_content(path)}\n" for path in design_files(design))
    return f"{type(design).__qualname__} {files}"


def _module(path: Path, above: frozenset[Path], names: dict[str, Any]) -> str:
    """A digest of a file of designs and of those that it imports from.

    ``above`` are those that import it: a file is looked at once on the way down.
    """
    out = hashlib.sha256(_content(path).encode())
    seen = above | {path}
    beside: dict[Path, dict[str, Any]] = {}
    for value in list(names.values()):
        module = getattr(value, "__module__", None)
        if isinstance(module, str) and module.startswith("model.designs."):
            there = _named(module)
            if there is not None and there[0] not in seen:
                beside[there[0]] = there[1]
    for file in sorted(beside):
        out.update(_module(file, seen | beside.keys(), beside[file]).encode())
    return out.hexdigest()


def _named(module: str) -> tuple[Path, dict[str, Any]] | None:
    known = sys.modules.get(module)
    file = getattr(known, "__file__", None)
    return (_file(file), vars(known)) if known is not None and file else None


@cache
def _file(name: str) -> Path:
    return Path(name).resolve()


@cache
def _content(path: Path) -> str:
    """A digest of a file as it was when it was first asked for: what this process runs."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
