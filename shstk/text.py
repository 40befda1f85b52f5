"""What kernel and design text may not do: a static check, before the text is run.

The rules are those of ``model.world``: ``if``, early ``return``, assignment, calls and
the world's primitives.  Only functions are text; what a module does once, as it is
imported (tables of constants, registration), is not, but it must not make what text could
keep something in or look behind values with.  What is refused, and what to write instead,
is in ``text_rules``.
"""

from __future__ import annotations

import ast
from pathlib import Path

from shstk.text_functions import Checker
from shstk.text_modules import Module

#: Registers steps and families; nothing in it runs inside a step.
NO_TEXT = frozenset({"steps.py"})


class TextError(Exception):
    """Text that breaks a rule: ``file:line: what is wrong; what would be right``."""


def kernel_text(folder: Path) -> list[Path]:
    """The files of a folder that hold text."""
    return [p for p in sorted(folder.glob("*.py")) if p.name not in NO_TEXT]


def check_source(path: Path | str) -> None:
    """Raise TextError at the first line that breaks a rule."""
    path = Path(path)
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        line = error.lineno or 1
        raise TextError(f"{path}:{line}: syntax error: {error.msg}") from None
    except ValueError as error:
        raise TextError(f"{path}:1: syntax error: {error}") from None
    checker = Checker(Module(path, tree))
    checker.check()
    found = sorted(checker.errors)
    if found:
        (line, _), wrong, right = found[0]
        raise TextError(f"{path}:{line}: {wrong}; {right}")
