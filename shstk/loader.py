"""Designs by name, or from a file of their own.

Whatever is wrong with a design is said in one line, with the file and line where known.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from model.designs import DESIGNS, Design
from shstk.text import TextError, check_source

HOOKS: dict[str, Callable[..., Any]] = {
    name: hook
    for name, hook in vars(Design).items()
    if inspect.isfunction(hook) and not name.startswith("_")
}


class DesignError(Exception):
    """Why there is no such design, in one line."""


def load_design(name_or_path: str) -> Design:
    """The design of that name, or the one that a Python file defines."""
    if name_or_path in DESIGNS:
        return DESIGNS[name_or_path]
    path = Path(name_or_path)
    if not (path.suffix == ".py" or path.exists() or len(path.parts) > 1):
        known, file = ", ".join(DESIGNS), Path(f"{name_or_path}.py")
        other = f"{file}, which is there" if file.is_file() else "a Python file"
        raise DesignError(f"unknown design {name_or_path!r}: known are {known}; or give {other}")
    if not path.exists():
        raise DesignError(f"{path}: no such file")
    if not path.is_file():
        raise DesignError(f"{path}: not a file")
    for design in DESIGNS.values():
        if _file(type(design)) == path.resolve():
            return design
    try:
        check_source(path)
    except TextError as error:
        raise DesignError(_one_line(str(error))) from None
    except OSError as error:
        raise DesignError(f"{path}: {error.strerror}") from None
    return _instance(path, _design_class(path, _module(path)))


def design_files(design: Design) -> tuple[Path, ...]:
    """The files a design's class and its bases are written in, its own first."""
    files = [_file(cls) for cls in type(design).__mro__ if cls is not object]
    return tuple(dict.fromkeys(f for f in files if f is not None))


def base_of(design: Design) -> str | None:
    """The known design that another one is derived from; None: it is known itself, or of none."""
    known = {type(d): name for name, d in DESIGNS.items()}
    if type(design) in known:
        return None
    return next((known[cls] for cls in type(design).__mro__ if cls in known), None)


def _file(cls: type) -> Path | None:
    source = inspect.getsourcefile(cls)
    return None if source is None else Path(source).resolve()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _module(path: Path) -> ModuleType:
    """The file as a module, run once per load."""
    # inspect finds a class's file through sys.modules.
    digest = sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"_design_{digest}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise DesignError(f"{path}: not a Python file (its name has to end with .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled afresh: a cached file could be older than an edit within one second.
        code = compile(path.read_bytes(), str(path.resolve()), "exec", dont_inherit=True)
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename) == path.resolve()]
        what = _one_line(f"{type(error).__name__}: {error}")
        raise DesignError(f"{path}:{lines[-1] if lines else 1}: cannot be run: {what}") from None
    return module


def _design_class(path: Path, module: ModuleType) -> type[Design]:
    """The one design that a module defines, with all its hooks."""
    found = [
        value
        for value in dict.fromkeys(v for v in vars(module).values() if isinstance(v, type))
        if issubclass(value, Design) and value.__module__ == module.__name__
    ]
    if not found:
        raise DesignError(f"{path}: defines no subclass of Design (model/designs/design.py)")
    if len(found) > 1:
        names = ", ".join(c.__name__ for c in found)
        raise DesignError(f"{path}: defines {len(found)} designs, {names}; a file defines one")
    _check_hooks(path, found[0])
    return found[0]


def _check_hooks(path: Path, cls: type[Design]) -> None:
    """Every hook is there and can be called as the kernel text does."""
    where = f"{path}:{_line(cls)}: class {cls.__name__}"
    missing = [name for name, hook in HOOKS.items() if getattr(cls, name) is hook]
    if missing:
        raise DesignError(f"{where} does not define {', '.join(missing)}")
    for name, hook in HOOKS.items():
        own = inspect.getattr_static(cls, name)
        if not inspect.isfunction(own):
            raise DesignError(f"{where}: {name} is not a function")
        wanted = list(inspect.signature(hook).parameters)
        try:
            inspect.signature(own).bind(*wanted)
        except TypeError:
            line = own.__code__.co_firstlineno
            given = f"{name}({', '.join(wanted)})"
            raise DesignError(f"{path}:{line}: the kernel calls {given}") from None
    for name, own in vars(cls).items():
        if not inspect.isfunction(own):
            continue
        _check_parameters(path, cls, name, own)
        returns = _returned(cls, name)
        if returns:
            _check_returns(path, name, own, returns)
    _check_names(path, cls)


def _check_parameters(path: Path, cls: type, name: str, own: Callable[..., Any]) -> None:
    """A function that a base class has, too, can be called as that is."""
    bases = (c for c in cls.__mro__[1:] if inspect.isfunction(vars(c).get(name)))
    base = next(bases, None)
    if base is None:
        return
    every = inspect.signature(vars(base)[name]).parameters.values()
    given = [p.name for p in every if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: None for p in every if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(own).bind(*given, **named)
    except TypeError:
        line = own.__code__.co_firstlineno
        said = f"{name}({', '.join([*given, *named])})"
        raise DesignError(f"{path}:{line}: {base.__name__} has {said}") from None


RIGHT = {"int": "it returns 0 for success", "Cond": "it returns a condition"}


def _returned(cls: type, name: str) -> str:
    """What the function of that name in a base class returns, as it is written; '': nothing."""
    inherited = next((vars(c)[name] for c in cls.__mro__[1:] if name in vars(c)), None)
    returns = getattr(inherited, "__annotations__", {}).get("return")
    return returns if isinstance(returns, str) and returns != "None" else ""


def _check_returns(path: Path, name: str, hook: Callable[..., Any], wanted: str) -> None:
    """Every path of a function returns something that can be what its callers want."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(hook)))
    except (OSError, SyntaxError, TypeError):
        return
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef):
        return
    first = hook.__code__.co_firstlineno
    right = RIGHT.get(wanted, f"it returns {wanted}")
    for node in ast.walk(function):
        if isinstance(node, ast.Return):
            value = node.value.value if isinstance(node.value, ast.Constant) else 0
            if node.value is None or (wanted == "int" and not isinstance(value, int)):
                line = first + node.lineno - 1
                said = "nothing" if node.value is None else repr(value)
                raise DesignError(f"{path}:{line}: {name} returns {said}; {right}")
    if not _ends(function.body):
        line = first + (function.end_lineno or 1) - 1
        raise DesignError(f"{path}:{line}: {name} can end without a return; {right}")


def _ends(block: list[ast.stmt]) -> bool:
    """No path comes to the end of a block."""
    last = block[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _ends(last.body) and _ends(last.orelse)
    return isinstance(last, (ast.Return, ast.Raise))


def _check_names(path: Path, cls: type[Design]) -> None:
    """What looks like a misspelled hook or attribute of a base, and nothing in the file uses."""
    known = {n for base in cls.__mro__[1:] for n in (*vars(base), *inspect.get_annotations(base))}
    tree = ast.parse(path.read_bytes())
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    used |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _stored(n)}
    lines = {
        name: node.lineno
        for body in (n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))
        for node in body
        for name in _bound(node)
    }
    for name in vars(cls):
        close = difflib.get_close_matches(name, known, 1, 0.8)
        if name in lines and name not in known | used and close:
            raise DesignError(
                f"{path}:{lines[name]}: nothing uses {name}; did you mean {close[0]}?"
            )


def _stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement of a class body gives to something."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _line(cls: type) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 1


def _instance(path: Path, cls: type[Design]) -> Design:
    """The design, with its title, citation and source filled in where the file says nothing."""
    try:
        design = cls()
    except Exception as error:
        what = _one_line(f"{type(error).__name__}: {error}")
        raise DesignError(f"{path}:{_line(cls)}: class {cls.__name__}: {what}") from None
    # What a base class says is said of another design.
    defaults = {
        "name": path.stem,
        "title": f"the design in {path.name}",
        "cite": "not published",
        "source": path.name,
    }
    for attribute, default in defaults.items():
        value = vars(cls).get(attribute, default)
        if not isinstance(value, str) or not value.strip():
            raise DesignError(
                f"{path}:{_line(cls)}: class {cls.__name__}: {attribute} is not a text"
            )
        setattr(design, attribute, _one_line(value))
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", design.name) or design.name.startswith("."):
        raise DesignError(
            f"{path}:{_line(cls)}: class {cls.__name__}: the name is made of letters, digits, "
            "'.', '_' and '-', 64 at most"
        )
    if design.name in DESIGNS:
        design.name = path.name  # a changed copy is not the design it was copied from
    return design
