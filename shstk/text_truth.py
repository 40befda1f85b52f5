"""Where a Python bool stands for a condition: ``and``, ``or`` and ``not`` fork, as ``if`` does.

They mean what ``& | ~`` mean, in every world, wherever only the truth is asked for.  What they
give may be a Python bool, and ``~`` of that is a number, which is true either way.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from shstk.text_modules import Module, methods, resolved
from shstk.text_rules import FUNCTIONS
from shstk.text_scope import Scope
from shstk.text_values import ARGUMENTS, FIELDS, Values, record_of

Report = Callable[[ast.AST, str, str], None]
Function = ast.FunctionDef | ast.AsyncFunctionDef
DEPTH = 6  # of functions that call each other
FLAGS = ("YES", "NO")
NUMBERS, BOOLS = ("flags",), ("worker",)  # of a clone's arguments


class Truth:
    """Checks the conditions of a file's text."""

    def __init__(self, module: Module, report: Report) -> None:
        self.module = module
        self.report = report

    def inverted(self, node: ast.UnaryOp, scope: Scope) -> None:
        """``~`` is for conditions."""
        if isinstance(node.op, ast.Invert) and self.plain(node.operand, scope):
            what = ast.unparse(node.operand)
            wrong = f"~ of {what!r}, which can be a Python bool, is a number and always true"
            self.report(
                node, wrong, "combine conditions with & | ~ only, or ask for the truth by 'not'"
            )

    def returned(self, node: Function, scope: Scope) -> None:
        """A hook that returns a condition returns no Python bool: its callers negate it."""
        said = {
            ast.unparse(each).strip("'\"")
            for each in (node.returns, *(f.returns for _, f in methods(self.module, node.name)))
            if each is not None
        }
        if "Cond" not in said or any("bool" in each for each in said):
            return
        for each in _returns(node):
            value, what = each.value, ast.unparse(each)
            if value is not None and self.plain(value, scope):
                right = "return a condition: a comparison, or several combined with & | ~"
                self.report(each, f"{node.name}: {what!r} can give a Python bool", right)
            elif isinstance(value, ast.Attribute):
                if value.attr in FIELDS.get(record_of(value.value, scope), {}):
                    wrong = f"{node.name}: {what!r} gives a value"
                    self.report(each, wrong, "compare it: return a condition")

    def plain(self, node: ast.expr, scope: Scope, depth: int = DEPTH) -> bool:
        """An expression can be a Python bool."""
        if isinstance(node, ast.Constant):
            return isinstance(node.value, bool)
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.Not)
        if isinstance(node, ast.BoolOp):
            return any(self.plain(v, scope, depth) for v in node.values)
        if isinstance(node, ast.IfExp):
            return any(self.plain(v, scope, depth) for v in (node.body, node.orelse))
        if isinstance(node, ast.BinOp):
            combined = isinstance(node.op, (ast.BitAnd, ast.BitOr))
            both = (node.left, node.right)
            return combined and all(self.plain(v, scope, depth) for v in both)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            member = any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops)
            return member or all(self.number(o, scope, depth) for o in operands)
        if isinstance(node, ast.Attribute):
            return node.attr in BOOLS and record_of(node.value, scope) == ARGUMENTS
        if isinstance(node, ast.Name):
            return self._name(node, scope, depth)
        return isinstance(node, ast.Call) and self._call(node, scope, depth)

    def number(self, node: ast.expr, scope: Scope, depth: int) -> bool:
        """Certainly a Python number, or an errno's name: to compare two gives a Python bool."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.BinOp):
            return all(self.number(v, scope, depth) for v in (node.left, node.right))
        if isinstance(node, ast.Attribute):
            return node.attr in NUMBERS and record_of(node.value, scope) == ARGUMENTS
        if isinstance(node, ast.Name) and node.id in scope.local:
            found = [v for v in scope.of(node) if v is not node]
            return (
                depth > 0 and bool(found) and all(self.number(v, scope, depth - 1) for v in found)
            )
        if isinstance(node, ast.Name):
            if node.id in self.module.values:
                return isinstance(self.module.values[node.id], ast.Constant)
            return isinstance(Values(self.module, self.report).imported(node, scope), (int, str))
        return isinstance(node, ast.Call) and any(
            f.returns is not None and ast.unparse(f.returns).strip("'\"") in ("int", "str")
            for _, f in self._called(node, scope)
        )

    def _name(self, node: ast.Name, scope: Scope, depth: int) -> bool:
        if node.id in scope.local:
            found = [v for v in scope.values.get(node.id, ()) if v is not None]
            return depth > 0 and any(self.plain(v, scope, depth - 1) for v in found)
        return self.module.imports.get(node.id) in [("model.state", flag) for flag in FLAGS]

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> bool:
        """It calls a function of this file, or of the model, that says so or does so."""
        for module, function in self._called(node, scope):
            said = ast.unparse(function.returns) if function.returns else ""
            if "bool" in said or (depth > 0 and Truth(module, self.report)._gives(function, depth)):
                return True
        return False

    def _called(self, node: ast.Call, scope: Scope) -> list[tuple[Module, ast.FunctionDef]]:
        found: list[tuple[Module, ast.FunctionDef]] = []
        if isinstance(node.func, ast.Name) and node.func.id not in scope.variables:
            of = resolved(self.module, node.func.id)
            if isinstance(of, tuple) and isinstance(of[1], ast.FunctionDef):
                found = [(of[0], of[1])]
        elif isinstance(node.func, ast.Attribute):
            of_self = isinstance(node.func.value, ast.Name) and node.func.value.id in scope.me
            found = methods(self.module, node.func.attr)[:1] if of_self else []
        return found

    def _gives(self, function: ast.FunctionDef, depth: int) -> bool:
        values = [r.value for r in _returns(function) if r.value is not None]
        return any(self.plain(v, Scope(), depth - 1) for v in values)


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """The ``return`` statements of a function, nested functions' own left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            yield from _returns(child)
