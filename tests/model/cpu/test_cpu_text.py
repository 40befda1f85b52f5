"""The CPU text keeps the rules of text, and the narrower ones of the CPU."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import model.cpu
from model.cpu import INSTRUCTIONS
from shstk.text import check_source

FOLDER = Path(model.cpu.__file__).parent
TEXT = [path for path in sorted(FOLDER.glob("*.py")) if path.name != "concrete.py"]
FILES = pytest.mark.parametrize("path", TEXT, ids=lambda p: p.name)

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.BitAnd, ast.BitOr, ast.BitXor),
    *(ast.LShift, ast.RShift, ast.FloorDiv, ast.Mod),
)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE)
_CONVERSIONS = {"int", "bool", "len", "abs", "min", "max", "divmod", "pow", "round", "str"}


def breaches(path: Path) -> list[str]:
    """What the functions of a file use that a word or a condition need not have."""
    found = []
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    for node in (n for f in functions for statement in f.body for n in ast.walk(statement)):
        bad = (
            isinstance(node, (ast.BoolOp, ast.UnaryOp, ast.IfExp, ast.AugAssign, ast.JoinedStr))
            or (isinstance(node, ast.BinOp) and not isinstance(node.op, _OPERATORS))
            or (isinstance(node, ast.Compare) and len(node.ops) > 1)
            or (isinstance(node, ast.Compare) and not isinstance(node.ops[0], _COMPARISONS))
            or (isinstance(node, ast.Name) and node.id in _CONVERSIONS)
        )
        if bad:
            found.append(f"{path.name}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
    return found


@FILES
def test_the_text_keeps_the_rules(path: Path) -> None:
    """The same check as for kernel paths and designs."""
    check_source(path)


@FILES
def test_the_text_uses_only_the_operators_of_words(path: Path) -> None:
    """No ``and or not ~``, no chained comparison, no multiplication, no conversion."""
    assert breaches(path) == []


def test_a_breach_would_be_seen(tmp_path: Path) -> None:
    """Each of the narrower rules."""
    lines = ["a and b", "not a", "~a", "-a", "a * b", "a > b", "0 < a < 3", "int(a)", "a in b"]
    path = tmp_path / "text.py"
    path.write_text("def f(a, b):\n" + "".join(f"    x = {line}\n" for line in lines))
    assert len(breaches(path)) == len(lines)


def test_the_text_imports_nothing_but_the_text() -> None:
    """The concrete world is not imported by what it executes."""
    for path in TEXT:
        assert "model.cpu.concrete" not in path.read_text()


def test_every_instruction_has_a_docstring_with_its_manual_page() -> None:
    """The module or the function says where the rule is written."""
    for function in INSTRUCTIONS:
        of_module = sys.modules[function.__module__].__doc__
        assert function.__doc__ and "SDM" in f"{function.__doc__}{of_module}"
