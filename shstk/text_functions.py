"""The rules of text inside functions: names, attributes, calls, and what is kept for later."""

from __future__ import annotations

import ast
import builtins

from shstk import text_rules as rules
from shstk.text_modules import Module, Place, bound, end, parameters, resolved, root, stores
from shstk.text_outside import Outside
from shstk.text_predicates import Predicate
from shstk.text_rules import FUNCTIONS, NO_STATE, PREDICATED
from shstk.text_scope import Scope, is_condition, is_super, parts, worlds
from shstk.text_truth import Truth
from shstk.text_values import Values, records

_MUTABLE = (ast.List, ast.Dict, ast.Set, ast.Call, *rules.COMPREHENSIONS)


class Checker:
    """All breaches in a module: where, what is wrong, what would be right."""

    def __init__(self, module: Module) -> None:
        self.errors: list[tuple[Place, str, str]] = []
        self.module = module
        self.names = bound(module.tree)  # names the module itself gives a meaning
        self.values = Values(module, self.error)
        self.truth = Truth(module, self.error)

    def check(self) -> None:
        """Find them."""
        outside = Outside(self.module, self.error)
        outside.check()
        for function, is_method in outside.text:
            if isinstance(function, ast.Lambda):
                self.inside(function, Scope())
            else:
                self.function(function, Scope(), is_method)

    def error(self, node: ast.AST, wrong: str, right: str) -> None:
        at = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        self.errors.append((at, wrong, right))

    # -- functions -----------------------------------------------------------------
    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, outer: Scope, is_method: bool = False
    ) -> None:
        """Check a function; ``outer`` are the names around it."""
        if isinstance(node, ast.AsyncFunctionDef):
            self.error(node, *rules.FORBIDDEN[ast.AsyncFunctionDef])
        self.defaults(node.args)
        given, assigned = parameters(node.args), list(stores(*node.body))
        own = given | bound(*node.body)
        changed = {name for name, _, _ in assigned}
        variables = given | changed
        local = outer.local | own
        borrowed = {
            name
            for name, _, value in assigned
            if isinstance(value, (ast.Name, ast.Attribute))
            and isinstance(first := root(value), ast.Name)
            and first.id not in local
        }
        first_argument = [*node.args.posonlyargs, *node.args.args][:1] if is_method else []
        scope = Scope(
            local,
            (outer.variables - own) | variables,
            outer.me | {a.arg for a in first_argument},
            (outer.borrowed - own) | borrowed,
            (
                *((n, at) for n, at in outer.later if n not in own),
                *((n, at) for n, at, _ in assigned),
            ),
            (outer.worlds - own) | worlds(node.args),
            {n: v for n, v in outer.values.items() if n not in own}
            | {n: tuple(v for m, _, v in assigned if m == n) for n in variables - given},
            {n: r for n, r in outer.records.items() if n not in own}
            | {n: r for n, r in records(self.module, node, is_method).items() if n not in changed},
        )
        if is_method:
            self.truth.returned(node, scope)
        for statement in node.body:
            self.inside(statement, scope)

    def defaults(self, arguments: ast.arguments) -> None:
        """A default is there once for all calls."""
        for default in (*arguments.defaults, *(d for d in arguments.kw_defaults if d)):
            if any(isinstance(n, _MUTABLE) for n in ast.walk(default)):
                self.error(default, "a mutable default is state that is kept", "use a tuple")

    def inside(self, node: ast.AST, scope: Scope, parent: ast.AST | None = None) -> None:
        """Check text, from a statement or expression down."""
        if isinstance(node, FUNCTIONS):
            for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
                self.inside(default, scope)
            self.captured(node, bound(*node.body) | parameters(node.args), scope)
            for decorator in node.decorator_list:
                self.error(decorator, "a decorator in a function", "call what it does")
            self.function(node, scope)
            return
        if isinstance(node, ast.Lambda):
            self.defaults(node.args)
            self.captured(node, parameters(node.args), scope)
            own = parameters(node.args) | {name for name, _, _ in stores(node.body)}
            scope = scope | own
        if rule := rules.FORBIDDEN.get(type(node)):
            self.errors.append(((getattr(node, "lineno", 1), -1), *rule))  # the line's worst
        if isinstance(node, ast.Raise):
            self.raised(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            self.values.assigned(node, scope)
        elif isinstance(node, ast.Return):
            self.values.returned(node)
        elif isinstance(node, ast.UnaryOp):
            self.truth.inverted(node, scope)
        elif isinstance(node, ast.Compare):
            self.compared(node, scope)
            self.values.compared(node, scope)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.named(node, scope, parent)
        elif isinstance(node, ast.Attribute):
            self.attribute(node, scope, parent)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            self.error(node, "a container is written to", NO_STATE)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            sign = {ast.Add: "+", ast.BitOr: "|", ast.Sub: "-", ast.BitAnd: "&"}
            what = f"'{sign.get(type(node.op), '…')}=' of a name may change what it stands for"
            self.error(node, what, "write x = x + …")
        elif isinstance(node, ast.BinOp):
            self.computed(node, scope)
        elif isinstance(node, ast.Call):
            self.called(node, scope)
        for child in parts(node):
            self.inside(child, scope, node)

    def captured(
        self,
        node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef,
        own: frozenset[str],
        scope: Scope,
    ) -> None:
        """The symbolic world calls a predicate again later: what it reads must still be so."""
        read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - own
        for name in sorted(n for n, at in scope.later if n in read and at >= end(node)):
            wrong = f"{name!r} is assigned again after a predicate has read it"
            self.error(node, wrong, "give the new value another name")

    def raised(self, node: ast.Raise) -> None:
        """A hook that a design has to define raises NotImplementedError; nothing else raises."""
        what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if not (isinstance(what, ast.Name) and what.id == "NotImplementedError"):
            self.error(node, "'raise'", "return an error code, as the kernel does")

    def compared(self, node: ast.Compare, scope: Scope) -> None:
        """Identity, and None, mean nothing to a term; a condition has no equality."""
        operands = [node.left, *node.comparators]
        if any(isinstance(o, ast.Constant) and o.value is None for o in operands):
            self.error(node, "a comparison with None", "compare with NULL, by == or !=")
        elif any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            self.error(node, "'is' tests identity", "compare with == or !=")
        elif any(all(is_condition(v) for v in scope.of(o)) for o in operands):
            self.error(node, "a condition is compared", "combine conditions with & | ~")

    def computed(self, node: ast.BinOp, scope: Scope) -> None:
        """``%`` also writes a value into a text."""
        left: tuple[ast.expr, ...] = scope.of(node.left)
        if isinstance(node.left, ast.Name) and node.left.id not in scope.local:
            left = (self.module.values.get(node.left.id, node.left),)
        texts = [isinstance(v, ast.Constant) and isinstance(v.value, (str, bytes)) for v in left]
        if isinstance(node.op, ast.Mod) and any(texts):
            self.error(node, "'%' of a text sees what a value is made of", rules.NO_INSIDE)

    def named(self, node: ast.Name, scope: Scope, parent: ast.AST | None) -> None:
        """Built-in functions that see more of a value than a world gives."""
        name = node.id
        if name in scope.me and not (isinstance(parent, ast.Attribute) or self.of_base(parent)):
            self.error(node, f"{name!r} by another name can be written to", "say self.… each time")
        if name in scope.local or name in self.names or name in rules.ALLOWED_BUILTINS:
            return
        if name in rules.BUILTINS:
            self.error(node, *rules.BUILTINS[name])
        elif hasattr(builtins, name) and name not in rules.EXCEPTIONS:
            self.error(node, f"{name} is none of the world's words", "say it with them (world.py)")

    def of_base(self, call: ast.AST | None) -> bool:
        """``Base.hook(self, …)`` and ``super(Base, self)``: what a named class does."""
        if not isinstance(call, ast.Call):
            return False
        if isinstance(call.func, ast.Name):
            return call.func.id == "super"
        of = call.func.value if isinstance(call.func, ast.Attribute) else None
        found = resolved(self.module, of.id) if isinstance(of, ast.Name) else None
        return isinstance(found, tuple) and isinstance(found[1], ast.ClassDef)

    def attribute(self, node: ast.Attribute, scope: Scope, parent: ast.AST | None) -> None:
        """Only records are written to, and nobody looks at an object's insides."""
        name, of = node.attr, node.value
        mine = isinstance(of, ast.Name) and of.id in scope.me
        world = of.id if isinstance(of, ast.Name) and of.id in scope.worlds else ""
        if name.startswith("__") and name.endswith("__"):
            self.error(node, f".{name} looks behind the text", "compare values with ==")
        elif isinstance(node.ctx, ast.Store):
            self.written(node, scope)
            self.values.named(node, scope)
        elif name == "design" and not isinstance(parent, ast.Attribute):
            wrong = "the design by another name can be written to"
            self.error(node, wrong, "say k.design.… each time")
        elif name in PREDICATED and not (isinstance(parent, ast.Call) and parent.func is node):
            self.error(node, f"{name} is not called there", "write the call where it is asked")
        elif world and name not in rules.PRIMITIVES:
            self.error(
                node, f"{world}.{name} is not of every world", "use the primitives of world.py"
            )
        elif name in rules.INSIDES or (name.startswith("_") and not mine and not is_super(of)):
            self.error(node, f".{name} sees what a value is made of", rules.NO_INSIDE)
        else:
            self.values.named(node, scope)

    def written(self, node: ast.Attribute, scope: Scope) -> None:
        """A write of an attribute is one of a state variable, through a record."""
        first, whole = root(node), f"{ast.unparse(node)} = …"
        made = any(isinstance(n, ast.Call) and n.func is first for n in ast.walk(node))
        name = first.id if isinstance(first, ast.Name) and not made else ""
        design = any(isinstance(n, ast.Attribute) and n.attr == "design" for n in ast.walk(node))
        if name in scope.worlds and node.value is first:
            self.error(node, f"{whole} changes the world itself", NO_STATE)
        elif name in scope.me or (design and node.attr != "design"):
            self.error(node, f"{whole} keeps state in the design", NO_STATE)
        elif name and (name not in scope.local or name in scope.borrowed):
            self.error(node, f"{whole} keeps state in the module", NO_STATE)
        elif node.attr not in rules.VARIABLES:
            self.error(node, f".{node.attr} = … is no state variable", NO_STATE)

    def called(self, node: ast.Call, scope: Scope) -> None:
        """Containers are not changed, and predicates do not fork."""
        if isinstance(node.func, ast.Name):
            self.converted(node.func, scope)
        if not isinstance(node.func, ast.Attribute):
            return
        name = node.func.attr
        if name in rules.METHODS:
            self.error(node, *rules.METHODS[name])
        if name in PREDICATED:
            predicate = Predicate(self.module, name, scope.variables, self.error)
            for argument in (*node.args, *(k.value for k in node.keywords)):
                predicate.check(argument)

    def converted(self, node: ast.Name, scope: Scope) -> None:
        """A call of a type by another name."""
        found = resolved(self.module, node.id) if node.id not in scope.local else None
        value = found[1] if isinstance(found, tuple) else None
        if isinstance(value, ast.Name) and value.id in rules.BUILTINS:
            self.error(node, *rules.BUILTINS[value.id])
