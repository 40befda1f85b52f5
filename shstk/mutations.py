"""Small changes to the text of a function: a guard made weaker or stronger, an effect left out.

An edit replaces whole lines, so that a reader sees the text before and after it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NEGATED = "condition negated"
ALWAYS = "condition always true"
NEVER = "condition always false"
OPERAND = "operand dropped"
DROPPED = "statement dropped"
SWAPPED = "statements swapped"
SUCCESS = "returns 0"
UNWRAPPED = "call dropped"


@dataclass(frozen=True)
class Edit:
    """Lines ``line`` to ``end`` (from 1, inclusive) of a text become ``lines``."""

    kind: str
    line: int
    end: int
    lines: tuple[str, ...]
    pass_: str = ""  # what stands there if ``lines`` is empty: Python needs a statement

    def applied(self, source: str) -> str:
        """The text after the edit."""
        all_ = source.splitlines()
        new = self.lines or ((self.pass_,) if self.pass_ else ())
        return "\n".join([*all_[: self.line - 1], *new, *all_[self.end :]]) + "\n"


def edits(source: str) -> Iterator[Edit]:
    """Every edit of a function's text, which begins in column 0."""
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    text = _Text(source, function)
    for block in _blocks(function):
        for n, statement in enumerate(block):
            yield from text.within(statement)
            yield from text.dropped(statement, len(block) == 1)
            if n + 1 < len(block):
                yield from text.swapped(statement, block[n + 1])


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a function, outer ones first; a docstring is no statement."""
    for name in ("body", "orelse"):
        block = [s for s in getattr(node, name, []) if isinstance(s, ast.stmt)]
        if block and isinstance(block[0], ast.Expr) and isinstance(block[0].value, ast.Constant):
            block = block[1:]
        if block:
            yield block
        for statement in block:
            yield from _blocks(statement)


class _Text:
    """A function's text, and the edits of its statements."""

    def __init__(self, source: str, function: ast.FunctionDef) -> None:
        self.source = source
        self.lines = source.splitlines()
        self.function = function
        self.returns = ast.unparse(function.returns) if function.returns else ""
        self.parameters = {a.arg for a in function.args.args}

    def segment(self, node: ast.AST) -> str:
        """A node as it is written."""
        return ast.get_source_segment(self.source, node) or ast.unparse(node)

    def replaced(self, kind: str, node: ast.expr, new: str) -> Edit:
        """The edit that writes something else in a node's place."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        first = self.lines[node.lineno - 1].encode()[: node.col_offset].decode()
        last = self.lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        return Edit(kind, node.lineno, node.end_lineno, tuple((first + new + last).split("\n")))

    # -- expressions ---------------------------------------------------------------
    def within(self, statement: ast.stmt) -> Iterator[Edit]:
        """The edits of a statement's own expressions."""
        if isinstance(statement, ast.If):
            yield from self.truth(statement.test)
            yield from self.unwrapped(statement.test)
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.IfExp):
                yield from self.truth(node.test)
        if isinstance(statement, ast.Return) and statement.value is not None:
            if self.returns == "Cond":
                yield from self.condition(statement.value)
            elif self.returns == "int" and ast.unparse(statement.value) != "0":
                yield self.replaced(SUCCESS, statement.value, "0")
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            if _is_condition(statement.value):
                yield from self.condition(statement.value)
        elif _is_call(statement, "require"):
            assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            yield from self.condition(statement.value.args[0])
        yield from self.unwrapped(statement)

    def truth(self, test: ast.expr) -> Iterator[Edit]:
        """What is only asked for its truth."""
        flipped = _flipped(test)
        negated = self.segment(flipped) if flipped else f"not ({self.segment(test)})"
        yield self.replaced(NEGATED, test, negated)
        yield self.replaced(ALWAYS, test, "True")
        yield self.replaced(NEVER, test, "False")
        yield from self.operands(test, top=True)

    def condition(self, value: ast.expr) -> Iterator[Edit]:
        """What has to stay a condition of the world."""
        yield self.replaced(NEGATED, value, ast.unparse(_negation(value)))
        yield self.replaced(ALWAYS, value, f"({self.segment(value)}) | True")
        yield self.replaced(NEVER, value, f"({self.segment(value)}) & False")
        yield from self.operands(value, top=True)

    def operands(self, node: ast.expr, top: bool = False) -> Iterator[Edit]:
        """Each operand of ``&``, ``|``, ``and``, ``or`` left out."""
        if isinstance(node, ast.UnaryOp):
            yield from self.operands(node.operand)
        parts: Sequence[ast.expr] = ()
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            parts = (node.left, node.right)
        elif isinstance(node, ast.BoolOp):
            parts = node.values
        for out in parts:
            kept = [self.segment(p) for p in parts if p is not out]
            joined = f" {'and' if _is_and(node) else 'or'} ".join(f"({k})" for k in kept)
            alone = kept[0] if top else f"({kept[0]})"
            yield self.replaced(OPERAND, node, alone if len(kept) == 1 else f"({joined})")
            yield from self.operands(out)

    def unwrapped(self, node: ast.AST) -> Iterator[Edit]:
        """``f(x)``, where a function makes a value of one argument, becomes ``x``."""
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
                names = [ast.unparse(a) for a in each.args]
                values = [a for a in each.args if ast.unparse(a) != "k"]
                if len(values) == 1 and len(names) <= 2 and not each.keywords:
                    yield self.replaced(UNWRAPPED, each, self.segment(values[0]))

    # -- statements ----------------------------------------------------------------
    def dropped(self, statement: ast.stmt, only: bool) -> Iterator[Edit]:
        """A statement left out, unless what it defines is used."""
        kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)
        if not isinstance(statement, kinds) or self._needed(statement):
            return
        assert statement.end_lineno is not None
        indent = self.lines[statement.lineno - 1][: statement.col_offset]
        yield Edit(
            DROPPED, statement.lineno, statement.end_lineno, (), f"{indent}pass" if only else ""
        )

    def _needed(self, statement: ast.stmt) -> bool:
        """It defines a name for the first time that is read elsewhere."""
        names = _stored(statement)
        earlier = set(self.parameters)
        simple = (ast.Assign, ast.AnnAssign)
        for node in ast.walk(self.function):
            # Defined on the way here: at the same depth or further out, and before.
            if isinstance(node, simple) and node.lineno < statement.lineno:
                if node.col_offset <= statement.col_offset:
                    earlier |= _stored(node)
        return bool((names - earlier) & _loaded(self.function))

    def swapped(self, first: ast.stmt, second: ast.stmt) -> Iterator[Edit]:
        """Two statements the other way round, where that can make a difference."""
        if isinstance(first, ast.Return) or isinstance(second, ast.Return):
            return
        bound, later = _stored(first), _stored(second)
        if bound & (_loaded(second) | later) or later & _loaded(first):
            return
        if ast.dump(first) == ast.dump(second) or self._commute(first, second):
            return
        assert first.end_lineno is not None and second.end_lineno is not None
        one = self.lines[first.lineno - 1 : first.end_lineno]
        between = self.lines[first.end_lineno : second.lineno - 1]
        two = self.lines[second.lineno - 1 : second.end_lineno]
        yield Edit(SWAPPED, first.lineno, second.end_lineno, (*two, *between, *one))

    def _commute(self, first: ast.stmt, second: ast.stmt) -> bool:
        """One names who runs, or both write a variable each, of values that are local."""
        if "k.current" in (_value(first), _value(second)):
            return True
        one, other = self._written(first), self._written(second)
        return bool(one and other) and one != other

    def _written(self, statement: ast.stmt) -> str:
        """The variable that a statement writes a local value to, or ''."""
        if isinstance(statement, ast.Assign) and self._local(statement.value):
            target = statement.targets[0]
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                return target.attr
        return ""

    def _local(self, value: ast.expr) -> bool:
        """It reads no state and calls nothing."""
        mine = self.parameters | _stored(self.function)
        for node in ast.walk(value):
            if isinstance(node, ast.Call):
                return False
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in mine:
                    return False
        return True


# -- of nodes ----------------------------------------------------------------------------
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}


def _flipped(test: ast.expr) -> ast.expr | None:
    """A comparison the other way."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        opposite = _OPPOSITE.get(type(test.ops[0]))
        if opposite:
            return ast.Compare(test.left, [opposite()], test.comparators)
    return None


def _negation(value: ast.expr) -> ast.expr:
    """The negation, taken inside: ``~`` of a Python bool would be a number."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, (ast.BitAnd, ast.BitOr)):
        op = ast.BitOr() if isinstance(value.op, ast.BitAnd) else ast.BitAnd()
        return ast.BinOp(_negation(value.left), op, _negation(value.right))
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Invert):
        return value.operand
    return _flipped(value) or ast.UnaryOp(ast.Invert(), value)


def _is_condition(value: ast.expr) -> bool:
    if isinstance(value, ast.BinOp) and isinstance(value.op, (ast.BitAnd, ast.BitOr)):
        return _is_condition(value.left) or _is_condition(value.right)
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.op, ast.Invert) and _is_condition(value.operand)
    return isinstance(value, ast.Compare)


def _value(statement: ast.stmt) -> str:
    """What an assignment assigns."""
    return ast.unparse(statement.value) if isinstance(statement, ast.Assign) else ""


def _is_and(node: ast.expr) -> bool:
    return isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And)


def _is_call(statement: ast.stmt, method: str) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == method
        and bool(call.args)
    )


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in _names(node) if isinstance(n.ctx, ast.Store)}


def _loaded(node: ast.AST) -> set[str]:
    return {n.id for n in _names(node) if isinstance(n.ctx, ast.Load)}


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (n for n in ast.walk(node) if isinstance(n, ast.Name))
