"""What the names of a text stand for: in its file, and in the model's files that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import model
from shstk.text_rules import FUNCTIONS

MODEL = Path(model.__file__).parent
Place = tuple[int, int]  # line and column, as in ast


class Module:
    """A file of text: functions by name, methods by name, imports, and what names are set to."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self.path = path
        self.tree = tree
        self.functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
        self.classes = {c.name: c for c in tree.body if isinstance(c, ast.ClassDef)}
        self.imports: dict[str, tuple[str, str]] = {}  # a name: the module, and its name there
        self.values: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                for a in node.names:
                    self.imports[a.asname or a.name] = (node.module or "", a.name)
            elif isinstance(node, ast.Import):
                for a in node.names:
                    self.imports[a.asname or a.name.split(".")[0]] = (
                        a.name if a.asname else a.name.split(".")[0],
                        "",
                    )
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        self.values[target.id] = statement.value
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                if isinstance(statement.target, ast.Name):
                    self.values[statement.target.id] = statement.value


Found: TypeAlias = "tuple[Module, ast.FunctionDef | ast.ClassDef | ast.expr] | Module | None"


@cache
def _read(path: Path, _changed: int) -> Module | None:
    try:
        return Module(path, ast.parse(path.read_bytes(), str(path)))
    except (SyntaxError, ValueError):
        return None


def module(name: str) -> Module | None:
    """The file of a module of the model, by its dotted name; None for any other."""
    parts = name.split(".")
    if parts[0] != "model":
        return None
    stem = MODEL.joinpath(*parts[1:])
    for path in (stem / "__init__.py", stem.with_suffix(".py")):
        if path.is_file():
            return _read(path, path.stat().st_mtime_ns)
    return None


def resolved(here: Module, name: str, depth: int = 8) -> Found:
    """What a name at the top of a file stands for, through imports and other names for it."""
    if name in here.classes:
        return here, here.classes[name]
    if name in here.functions:
        return here, here.functions[name]
    if name in here.imports and depth:
        of, original = here.imports[name]
        there = module(of)
        if there is None or not original:
            return there
        return resolved(there, original, depth - 1) or module(f"{of}.{original}")
    if name in here.values:
        value = here.values[name]
        if isinstance(value, ast.Name) and depth:
            return resolved(here, value.id, depth - 1) or (here, value)
        return here, value
    return None


def methods(here: Module, name: str) -> list[tuple[Module, ast.FunctionDef]]:
    """Every method of that name, of this file's classes and of their bases."""
    found = []
    todo = [(here, c) for c in here.classes.values()]
    seen: set[ast.ClassDef] = set()
    while todo:
        where, cls = todo.pop()
        if cls in seen:
            continue
        seen.add(cls)
        found += [(where, f) for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == name]
        for base in cls.bases:
            of = resolved(where, base.id) if isinstance(base, ast.Name) else None
            if isinstance(of, tuple) and isinstance(of[1], ast.ClassDef):
                todo.append((of[0], of[1]))
    return found


# -- what a piece of text binds ----------------------------------------------------------
def parameters(arguments: ast.arguments) -> frozenset[str]:
    """The names of a function's parameters."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    return frozenset(a.arg for a in every)


def bound(*roots: ast.AST) -> frozenset[str]:
    """The names that statements bind, nested functions' own names left out."""
    return frozenset(name for root in roots for name in _bindings(root))


def _bindings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    for child in ast.iter_child_nodes(node):
        yield from _bindings(child)


def stores(*roots: ast.AST) -> Iterator[tuple[str, Place, ast.expr | None]]:
    """Assignments to names, nested functions' own left out: where each is done, and of what."""
    for root in roots:
        yield from _stores(root, None)


def _stores(
    node: ast.AST, within: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr | None
) -> Iterator[tuple[str, Place, ast.expr | None]]:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
        within = node
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        value = within.value if within is not None else None
        yield node.id, end(within or node), value
    for child in ast.iter_child_nodes(node):
        yield from _stores(child, within)


def end(node: ast.expr | ast.stmt) -> Place:
    """Where a node ends."""
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def root(node: ast.expr) -> ast.expr:
    """What an expression like ``a.b(c).d[e]`` begins with."""
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node
