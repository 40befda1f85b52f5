"""What state variables can be: what a text writes into one, or compares it with, has to be that.

A value that no variable has would be found by the worlds only as a step ends, when nobody knows
any more which line has written it; or, in a comparison, never.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from importlib import import_module
from types import MappingProxyType
from typing import Any

from model import state
from model.cpu.world import Cpu
from model.kernel.uaccess import UserMemory
from model.state import RECORD_OF, Field, Record, Sort
from shstk.text_modules import Module, methods
from shstk.text_rules import INSIDES
from shstk.text_scope import Scope, is_condition

Report = Callable[[ast.AST, str, str], None]
Function = ast.FunctionDef | ast.AsyncFunctionDef

#: The variables of each record, by name.
FIELDS: dict[str, dict[str, Field[Any]]] = {
    name: {f.name: f for f in state.fields(value)}
    for name, value in vars(state).items()
    if isinstance(value, type) and issubclass(value, Record) and value is not Record
}
#: Names that user memory and the CPU have for something else.
SHARED = frozenset(n for world in (UserMemory, Cpu) for n in vars(world)["__annotations__"])
#: The variables that only one record has, and nothing else.
ALONE = {
    name: field
    for fields in FIELDS.values()
    for name, field in fields.items()
    if name not in SHARED and sum(name in each for each in FIELDS.values()) == 1
}
#: What a reference may be compared with besides its values: that it never is, a lemma says.
COMPARED: Mapping[Sort | None, frozenset[object]] = {Sort.TASK: frozenset({state.LEFT})}
#: What a clone is called with: no state, and partly plain numbers.
ARGUMENTS = "CloneArgs"
OBJECTS = {Sort.TASK: "tasks", Sort.GROUP: "groups", Sort.MM: "mms", Sort.ADDR: "addresses"}


def records(module: Module, node: Function, is_method: bool) -> dict[str, str]:
    """The parameters of a function that are records, by their annotations or those of its bases."""
    out: dict[str, str] = {}
    bases = [f for _, f in methods(module, node.name)] if is_method else []
    for function in (node, *bases):
        mine, theirs = node.args.args, function.args.args
        for own, given in zip(mine, theirs, strict=False):
            if own.annotation is None or function is node:
                said = ast.unparse(given.annotation).strip("'\"") if given.annotation else ""
                if said in FIELDS or said == ARGUMENTS:
                    out.setdefault(own.arg, said)
    return out


def record_of(node: ast.expr, scope: Scope) -> str:
    """The class of a record, or of a clone's arguments, that an expression certainly is; or ''."""
    if isinstance(node, ast.Name):
        if node.id in scope.records:
            return scope.records[node.id]
        found = {record_of(v, scope) for v in scope.of(node) if v is not node}
        return found.pop() if len(found) == 1 else ""
    if isinstance(node, ast.Attribute):
        of = node.value
        if node.attr == "current" and isinstance(of, ast.Name) and of.id in scope.worlds:
            return "Task"
        field = FIELDS.get(record_of(of, scope), {}).get(node.attr)
        return RECORD_OF[field.sort].__name__ if field is not None and field.sort else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "at":
            return "Mapping"
    return ""


class Values:
    """Checks what a file's text writes and compares."""

    def __init__(self, module: Module, report: Report) -> None:
        self.module = module
        self.report = report

    def assigned(self, node: ast.Assign | ast.AnnAssign, scope: Scope) -> None:
        """What is written into a variable is one of its values."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target, value in _pairs(targets, node.value):
            field = self.variable(target, scope) if isinstance(target, ast.Attribute) else None
            if field is None:
                continue
            if self.condition(value, scope):
                wrong = f"a condition is written to {ast.unparse(target)}"
                self.report(node, wrong, "write its value under an 'if', and the other one else")
            self.alike(node, target, field, value, scope)
            self.one_of(node, target, field, value, scope)

    def alike(
        self,
        at: ast.AST,
        target: ast.expr,
        field: Field[Any],
        value: ast.expr,
        scope: Scope,
    ) -> None:
        """A variable that is copied to another has values of the same kind."""
        if isinstance(value, ast.Attribute):
            copied = FIELDS.get(record_of(value.value, scope), {}).get(value.attr)
            if copied is not None and _kind(copied) != _kind(field):
                wrong = f"{ast.unparse(target)} is set to what {ast.unparse(value)} is"
                theirs, mine = values_text(copied), values_text(field)
                self.report(at, wrong, f"the one can be {mine}; the other {theirs}")

    def returned(self, node: ast.Return) -> None:
        """What a hook returns is 0, or a positive errno."""
        value = node.value
        if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
            said = ast.unparse(value.operand)
            self.report(node, f"-{said} is returned", f"errnos are positive here: return {said}")

    def compared(self, node: ast.Compare, scope: Scope) -> None:
        """What a variable is compared with is one of its values."""
        if len(node.ops) > 1 and any(
            isinstance(v, ast.BinOp) and isinstance(v.op, (ast.BitAnd, ast.BitOr))
            for v in node.comparators[:-1]
        ):
            wrong = "'|' and '&' bind tighter than comparisons do"
            self.report(node, wrong, "put each comparison in parentheses")
            return
        operands = [node.left, *node.comparators]
        for left, op, right in zip(operands, node.ops, node.comparators, strict=False):
            for one, other in ((left, right), (right, left)):
                if isinstance(op, (ast.Eq, ast.NotEq)) and isinstance(one, ast.Attribute):
                    field = FIELDS.get(record_of(one.value, scope), {}).get(one.attr)
                    if field is not None:
                        self.one_of(node, one, field, other, scope, COMPARED)

    def named(self, node: ast.Attribute, scope: Scope) -> None:
        """A record has no other variables than its own."""
        record = record_of(node.value, scope)
        other = node.attr == "at" or node.attr in INSIDES or node.attr.startswith("_")
        if record in FIELDS and not other and node.attr not in FIELDS[record]:
            mine = ", ".join(FIELDS[record])
            right = f"its variables are {mine}" if mine else "it has none (model/state.py)"
            self.report(node, f"{record} has no variable {node.attr!r}", right)

    def variable(self, node: ast.Attribute, scope: Scope) -> Field[Any] | None:
        """The variable that an attribute certainly is."""
        record = record_of(node.value, scope)
        return FIELDS.get(record, {}).get(node.attr) if record else ALONE.get(node.attr)

    def condition(self, node: ast.expr, scope: Scope) -> bool:
        """An expression is certainly a condition of the world, and no Python bool."""
        if isinstance(node, ast.BoolOp):
            return any(self.condition(v, scope) for v in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            return any(self.condition(v, scope) for v in (node.left, node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self.condition(node.operand, scope)
        if isinstance(node, ast.Compare):
            operands = [o for o in (node.left, *node.comparators) if isinstance(o, ast.Attribute)]
            return any(o.attr in FIELDS.get(record_of(o.value, scope), {}) for o in operands)
        return isinstance(node, ast.Call) and is_condition(node)

    def one_of(
        self,
        at: ast.AST,
        one: ast.expr,
        field: Field[Any],
        value: ast.expr,
        scope: Scope,
        besides: Mapping[Sort | None, frozenset[object]] = MappingProxyType({}),
    ) -> None:
        for each in self.values(value, scope):
            if not has(field, each) and each not in besides.get(field.sort, ()):
                wrong = f"{_shown(each)} is no value of {ast.unparse(one)}"
                self.report(at, wrong, f"its values are {values_text(field)}")
                return

    def values(self, node: ast.expr, scope: Scope) -> Iterator[object]:
        """The constants that an expression can be, as far as they are known."""
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            if isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int):
                yield -node.operand.value
        elif isinstance(node, ast.IfExp):
            yield from self.values(node.body, scope)
            yield from self.values(node.orelse, scope)
        elif isinstance(node, ast.Name) and node.id in scope.local:
            for each in scope.of(node):
                if not isinstance(each, ast.Name):
                    yield from self.values(each, scope)
        elif isinstance(node, ast.Name) and node.id in self.module.values:
            value = self.module.values[node.id]
            if not isinstance(value, ast.Name):
                yield from self.values(value, scope)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            found = self.imported(node, scope)
            if isinstance(found, (int, str, Enum)):
                yield found

    def imported(self, node: ast.expr, scope: Scope) -> object:
        """What an imported name of the model is, and a member of an enumeration."""
        if isinstance(node, ast.Attribute):
            of = self.imported(node.value, scope)
            known = isinstance(of, type) and issubclass(of, Enum)
            return getattr(of, node.attr, None) if known else None
        if not isinstance(node, ast.Name) or node.id in scope.local:
            return None
        module, name = self.module.imports.get(node.id, ("", ""))
        if not module.startswith("model.") or not name:
            return None
        try:
            return getattr(import_module(module), name, None)
        except ImportError:
            return None


def _pairs(
    targets: Sequence[ast.expr], value: ast.expr | None
) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target and what it is set to, tuples member by member."""
    for target in targets:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            yield from zip(target.elts, value.elts, strict=False)
        elif value is not None:
            yield target, value


def _kind(field: Field[Any]) -> object:
    """What a variable holds: references of a sort, numbers, or members of a type."""
    if field.sort is not None:
        return field.sort
    return int if field.store is not None else type(field.values[0])


def has(field: Field[Any], value: object) -> bool:
    """A variable can have a constant as its value."""
    if field.sort is None and field.store is not None:
        return isinstance(value, int) and not isinstance(value, bool)
    return any(type(v) is type(value) and v == value for v in field.values)


def values_text(field: Field[Any]) -> str:
    """All that a variable can be."""
    if field.sort is None and field.store is not None:
        return "numbers"
    words = [_shown(v) for v in field.values]
    if field.sort is not None:
        words.append(OBJECTS[field.sort])
    if field.values == (False, True):
        words = ["False (NO)", "True (YES)"]
    return " and ".join([", ".join(words[:-1]), words[-1]])


def _shown(value: object) -> str:
    if isinstance(value, state.Special):
        return value.name
    return str(value) if isinstance(value, Enum) else repr(value)
