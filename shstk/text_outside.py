"""What a file of text may do outside its functions, once, as it is imported.

Tables, loops and conversions are right there.  What is refused: state that functions could
change, other names for functions that text must not call, and changes of other modules.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable

from shstk import text_rules as rules
from shstk.text_modules import Module, bound, parameters, root, stores
from shstk.text_rules import FUNCTIONS

Text = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Class = ast.ClassDef | None


class Outside:
    """A module without its functions' bodies; ``text`` are those, and whether they are methods."""

    def __init__(self, module: Module, report: Callable[[ast.AST, str, str], None]) -> None:
        self.module = module
        self.report = report
        self.names = bound(module.tree)
        self.text: list[tuple[Text, bool]] = []

    def check(self) -> None:
        """Report what is wrong, and collect the text."""
        for statement in self.module.tree.body:
            self.visit(statement, self.module.tree, None)
        self.recursion()

    def visit(self, node: ast.AST, parent: ast.AST, cls: Class) -> None:
        """Look at a node and all in it that is no text."""
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            self.function(node, cls)
            return
        if isinstance(node, ast.ClassDef):
            self.class_(node)
            cls = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self.imported(node, alias.name)
                if alias.name in rules.IMPORTS:
                    right = f"say from {alias.name} import …"
                    self.report(node, f"import of {alias.name} with all it imports", right)
        elif isinstance(node, ast.ImportFrom):
            self.imported_from(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.named(node, parent)
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            self.reached(node)
        elif isinstance(node, (ast.Call, ast.GeneratorExp)):
            self.made(node, parent)
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and field != "annotation":
                    self.visit(child, node, cls)

    def function(self, node: Text, cls: Class) -> None:
        """A function's decorators and defaults; its body is text."""
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(default, node, cls)
        if isinstance(node, ast.Lambda):
            self.text.append((node, False))
            return
        names = {self.decorator(d, rules.DECORATORS) for d in node.decorator_list}
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                for argument in (*decorator.args, *(k.value for k in decorator.keywords)):
                    self.visit(argument, decorator, cls)
        if node.name.startswith("__") and node.name != "__init__":
            wrong = f"{node.name}() is called behind the text"
            self.report(node, wrong, "say what a design is by attributes, what it does by hooks")
        self.text.append((node, cls is not None and "staticmethod" not in names))

    def decorator(self, node: ast.expr, allowed: frozenset[str]) -> str:
        """The name of a decorator that leaves a function what it is."""
        what = node.func if isinstance(node, ast.Call) else node
        name = what.id if isinstance(what, ast.Name) else ""
        known_here = name in self.names or hasattr(builtins, name)
        own = name in self.names and name not in self.module.imports
        if own or not name or (known_here and name not in allowed):
            wrong = f"the decorator '{ast.unparse(what)}' makes something else of what it decorates"
            known = ", ".join(sorted(allowed - {"operation"}))
            self.report(node, wrong, f"leave it out, or use one of the model's: {known}")
        return name

    def class_(self, node: ast.ClassDef) -> None:
        """A class's decorators, and what its attributes begin with."""
        for decorator in node.decorator_list:
            name = self.decorator(decorator, rules.CLASS_DECORATORS)
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            frozen = any(
                k.arg == "frozen" and isinstance(k.value, ast.Constant) and k.value.value is True
                for k in keywords
            )
            if name == "dataclass" and not frozen:
                self.report(decorator, "a dataclass that is not frozen", "say frozen=True")
        for statement in node.body:
            value = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
            if value is not None and _mutable(value):
                right = "use a tuple, or a table at the top of the file"
                self.report(statement, "a mutable attribute is state that is kept", right)

    # -- imports -----------------------------------------------------------------------
    def imported(self, node: ast.AST, module: str) -> None:
        """Refuse modules that could bring in state or chance."""
        ours = module == "model" or module.startswith("model.")
        hidden = any(module == m or module.startswith(f"{m}.") for m in rules.NO_IMPORTS)
        if hidden or not (ours or module in rules.IMPORTS):
            right = "text may import only model, without model.reference"
            self.report(node, f"import of {module}", right)

    def imported_from(self, node: ast.ImportFrom) -> None:
        """The same, name by name."""
        if node.level:
            self.report(node, "a relative import", "name the module: from model.… import …")
            return
        self.imported(node, node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self.report(node, "a star import hides what names mean", "name what is used")
            elif f"{node.module}.{alias.name}" in rules.NO_IMPORTS:
                self.imported(node, f"{node.module}.{alias.name}")
            elif alias.name not in rules.IMPORTS.get(node.module or "", [alias.name]):
                wrong = f"{alias.name} is not {node.module}'s own"
                self.report(node, wrong, "text may import only model")

    # -- expressions -------------------------------------------------------------------
    def named(self, node: ast.Name, parent: ast.AST) -> None:
        """A built-in function may be called here, but text must not get it by another name."""
        name = node.id
        if name in self.names or name not in rules.BUILTINS:
            return
        called = isinstance(parent, ast.Call) and parent.func is node
        if name in rules.NEVER:
            self.report(node, *rules.BUILTINS[name])
        elif not called and name not in rules.TYPES:
            self.report(node, f"{name}() under another name", "call it here, where it is needed")

    def reached(self, node: ast.Attribute | ast.Subscript) -> None:
        """What belongs to others stays as it is."""
        if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            self.report(node, f".{node.attr} looks behind the text", "name what is meant")
        elif not isinstance(node.ctx, ast.Load):
            if isinstance(node, ast.Attribute) or self.foreign(node):
                self.changed(node)

    def changed(self, node: ast.expr) -> None:
        """Somebody else's."""
        wrong = f"{ast.unparse(node)} changes another module"
        self.report(node, wrong, "write a hook of your own design, or a subclass")

    def foreign(self, node: ast.expr) -> bool:
        """It begins with an imported name."""
        first = root(node)
        return isinstance(first, ast.Name) and first.id in self.module.imports

    def made(self, node: ast.Call | ast.GeneratorExp, parent: ast.AST) -> None:
        """An iterator that is kept is state: every look at it changes it."""
        function = node.func if isinstance(node, ast.Call) else None
        if isinstance(function, ast.Attribute):
            if function.attr in rules.METHODS and self.foreign(function):
                self.changed(node)
            return
        name = function.id if isinstance(function, ast.Name) else ""
        if name not in rules.ITERATORS and not isinstance(node, ast.GeneratorExp):
            return
        by = parent.func if isinstance(parent, ast.Call) else None
        used = isinstance(by, ast.Name) and by.id in rules.CONSUMERS
        if not (used or isinstance(parent, (ast.comprehension, ast.For, ast.Starred))):
            self.report(node, "an iterator is state that is kept", "make a tuple of it")

    # -- functions that call themselves ----------------------------------------------------
    def recursion(self) -> None:
        """A function that comes back to itself is a loop."""
        calls: dict[ast.AST, list[ast.AST]] = {}
        top = {f.name: f for f in self.module.tree.body if isinstance(f, ast.FunctionDef)}
        for f in top.values():
            calls[f] = self.calls(f, top, {}, "")
        for cls in self.module.classes.values():
            own = {f.name: f for f in cls.body if isinstance(f, ast.FunctionDef)}
            for f in own.values():
                me = [*f.args.posonlyargs, *f.args.args][:1]
                calls[f] = self.calls(f, top, own, me[0].arg if me else "")
        for function in calls:
            todo, seen = list(calls[function]), set()
            while todo:
                at = todo.pop()
                if at is function:
                    name = getattr(function, "name", "")
                    self.report(function, f"{name} calls itself: a loop", rules.NO_LOOP)
                    break
                if at not in seen:
                    seen.add(at)
                    todo += calls.get(at, [])

    def calls(
        self,
        node: ast.FunctionDef,
        top: dict[str, ast.FunctionDef],
        own: dict[str, ast.FunctionDef],
        me: str,
    ) -> list[ast.AST]:
        """The functions of this file that a function mentions."""
        local = parameters(node.args) | {name for name, _, _ in stores(*node.body)}
        found: list[ast.AST] = []
        for part in (n for statement in node.body for n in ast.walk(statement)):
            if isinstance(part, ast.Name) and part.id in top and part.id not in local:
                found.append(top[part.id])
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                if part.value.id == me and part.attr in own:
                    found.append(own[part.attr])
        return found


def _mutable(node: ast.expr) -> bool:
    """A display or call that makes a list, dict or set."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in rules.MUTABLE_CALLS
    return isinstance(node, (ast.List, ast.Dict, ast.Set, *rules.COMPREHENSIONS))
