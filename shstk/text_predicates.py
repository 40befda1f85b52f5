"""What predicates of ``k.exists_task`` and its like may do: read, and combine with ``& | ~``.

A predicate is asked of many objects, and in the symbolic world again later, so it must not
fork, choose, write or emit.  It is written in the call, or a function that is followed, also
into other files of the model.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shstk.text_modules import Module, methods, parameters, resolved, root
from shstk.text_rules import ACTS, NO_FORK, ONLY_READS

Report = Callable[[ast.AST, str, str], None]
WRITE_IT = "write a lambda in the call, or name a function"


@dataclass(frozen=True)
class Predicate:
    """One argument of a quantifier, in a text whose local variables are ``variables``."""

    here: Module
    quantifier: str
    variables: frozenset[str]
    report: Report

    def check(self, argument: ast.expr) -> None:
        """Report what is wrong with it."""
        of = f"a predicate of {self.quantifier}"
        if isinstance(argument, ast.Lambda):
            self._called(argument)
        elif isinstance(argument, ast.Name):
            found = resolved(self.here, argument.id)
            function = isinstance(found, tuple) and isinstance(found[1], ast.FunctionDef)
            if argument.id in self.variables or (found is not None and not function):
                self.report(argument, f"{of} held in {argument.id!r}", WRITE_IT)
        elif not (isinstance(argument, ast.Attribute) and self._named(self.here, argument)):
            self.report(argument, f"{of} is not written there", WRITE_IT)
        self._follow(argument)

    def _called(self, predicate: ast.Lambda) -> None:
        """What a lambda calls has to be known, too."""
        for node in ast.walk(predicate):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in self.variables - parameters(predicate.args):
                    wrong = f"{name!r} is called in a predicate of {self.quantifier}"
                    self.report(node, wrong, "name a function, so that it can be looked at")

    def _follow(self, argument: ast.expr) -> None:
        start: ast.AST = argument.body if isinstance(argument, ast.Lambda) else argument
        todo: list[tuple[Module, str, ast.AST]] = [(self.here, "", start)]
        seen: set[ast.AST] = set()
        while todo:
            where, name, part = todo.pop()
            for node in ast.walk(part):
                for wrong, right in _breaches(where, node):
                    self._wrong(argument, where, name, node, wrong, right)
                for there, function in self._named(where, node):
                    if function not in seen:
                        seen.add(function)
                        todo += [(there, function.name, s) for s in function.body]

    def _wrong(
        self, argument: ast.expr, where: Module, name: str, node: ast.AST, wrong: str, right: str
    ) -> None:
        """At its line; of another file, at the predicate's, with that line."""
        verb = " forks" if right == NO_FORK else ""
        of = f"a predicate of {self.quantifier}"
        if where is self.here:
            self.report(node, f"{wrong} in {of}{verb}", right)
            return
        at = f"{where.path.name}:{getattr(node, 'lineno', 1)}"
        self.report(argument, f"{wrong} in {name} ({at}), part of {of},{verb or ' acts'}", right)

    def _named(self, where: Module, node: ast.AST) -> list[tuple[Module, ast.FunctionDef]]:
        """The functions that a name or an attribute can mean."""
        if isinstance(node, ast.Name):
            found = resolved(where, node.id)
            if isinstance(found, tuple) and isinstance(found[1], ast.FunctionDef):
                return [(found[0], found[1])]
        elif isinstance(node, ast.Attribute):
            of = resolved(where, node.value.id) if isinstance(node.value, ast.Name) else None
            if isinstance(of, Module):
                found = resolved(of, node.attr)
                if isinstance(found, tuple) and isinstance(found[1], ast.FunctionDef):
                    return [(found[0], found[1])]
            return methods(where, node.attr)
        return []


def _breaches(where: Module, node: ast.AST) -> Iterator[tuple[str, str]]:
    """What one node of a predicate, or of a function it calls, does wrong."""
    if forks := _forks(node):
        yield forks, NO_FORK
    if isinstance(node, ast.NamedExpr):
        yield "':='", "write the value where it is used"
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        yield "a write", ONLY_READS
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return
    name, of = node.func.attr, node.func.value
    if name in ACTS and isinstance(root(of), ast.Name):
        yield f"{ast.unparse(of)}.{name}()", ONLY_READS
    elif isinstance(of, ast.Attribute) and of.attr == "design" and not methods(where, name):
        yield f"{name}()", "a design's hooks may fork; ask for state variables"


def _forks(node: ast.AST) -> str:
    """The construct by which a node asks for a condition's truth, or ''."""
    if isinstance(node, ast.BoolOp):
        return "'and'" if isinstance(node.op, ast.And) else "'or'"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return "'not'"
    if isinstance(node, (ast.If, ast.IfExp)):
        return "'if'"
    if isinstance(node, ast.Compare):
        if any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            return "'in'"
        if len(node.ops) > 1:
            return "a chained comparison"
    return ""
