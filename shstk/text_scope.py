"""The names around a piece of text, and what single expressions are."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shstk.text_modules import Place
from shstk.text_rules import QUANTIFIERS


@dataclass(frozen=True)
class Scope:
    """The names around a piece of text.

    ``local``: all that functions bind; ``variables``: those that are no functions of this
    text; ``me``: what a method calls the design; ``borrowed``: other names for something of
    the module; ``later``: where variables are assigned; ``worlds``: what the world is called;
    ``values``: all that variables are set to, None for what is not known; ``records``: the
    parameters that are records of the state, by name.
    """

    local: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    me: frozenset[str] = frozenset({"self", "cls"})
    borrowed: frozenset[str] = frozenset()
    later: tuple[tuple[str, Place], ...] = ()
    worlds: frozenset[str] = frozenset({"k"})
    values: Mapping[str, tuple[ast.expr | None, ...]] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, own: frozenset[str]) -> Scope:
        """With these variables, too."""
        values = {n: v for n, v in self.values.items() if n not in own}
        return replace(
            self,
            local=self.local | own,
            variables=self.variables | own,
            values=values,
            records={n: r for n, r in self.records.items() if n not in own},
        )

    def of(self, node: ast.expr) -> tuple[ast.expr, ...]:
        """What an expression is, or all that a variable is set to, where that is known."""
        found = self.values.get(node.id, ()) if isinstance(node, ast.Name) else ()
        known = tuple(v for v in found if v is not None)
        return known if found and len(known) == len(found) else (node,)


def parts(node: ast.AST) -> list[ast.AST]:
    """What of a node is text: not its annotations, nor the type that cast() names."""
    if isinstance(node, ast.AnnAssign):
        return [node.target, *([node.value] if node.value else [])]
    if isinstance(node, ast.Lambda):
        return [*node.args.defaults, *(d for d in node.args.kw_defaults if d), node.body]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
        return [node.func, *node.args[1:], *node.keywords]
    return list(ast.iter_child_nodes(node))


def is_condition(node: ast.expr) -> bool:
    """It is certainly a condition, and no value."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        return is_condition(node.left) or is_condition(node.right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return is_condition(node.operand)
    if isinstance(node, ast.BoolOp):
        return any(is_condition(v) for v in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in (*QUANTIFIERS, "may", "isin", "no_room")
    return isinstance(node, ast.Compare)


def worlds(arguments: ast.arguments) -> frozenset[str]:
    """Parameters that are a world: annotated as one, or called ``k`` and not annotated."""
    return frozenset(
        a.arg
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if (ast.unparse(a.annotation) == "World" if a.annotation else a.arg == "k")
    )


def is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )
