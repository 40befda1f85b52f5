"""What kernel and design text may not do: a static check, before the text is run.

The rules are those of ``model.world``: ``if``, early ``return``, assignment, calls and
the world's primitives.  Only functions are text; what a module does once, as it is
imported (tables of constants, registration), is not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

QUANTIFIERS = ("exists_task", "exists_addr", "exists_mm")

#: Registers steps and families; nothing in it runs inside a step.
NO_TEXT = frozenset({"steps.py"})

_IMPORTS = frozenset({"__future__", "collections.abc", "dataclasses", "enum", "typing"})
_TYPE_TESTS = frozenset({"type", "isinstance", "issubclass", "id", "hash", "callable"})
_REFLECTION = frozenset(
    {
        *("getattr", "setattr", "delattr", "hasattr", "vars", "dir", "globals", "locals"),
        *("eval", "exec", "compile", "__import__"),
    }
)
_LOOPS_IN_CALLS = frozenset({"map", "filter", "iter", "next", "range", "enumerate", "zip"})
_OUTSIDE = frozenset({"open", "input", "print", "breakpoint", "exit", "quit"})
_MUTATORS = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
        *("add", "discard", "update", "setdefault", "popitem"),
    }
)
_MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray"})

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_NO_LOOP = "ask k.exists_task, k.exists_addr or k.exists_mm, or let k.choose pick one"
_NO_STATE = "what survives a step is a state variable, in model/state.py"

#: Statements and expressions that are wrong wherever they stand in text.
_FORBIDDEN: dict[type[ast.AST], tuple[str, str]] = {
    ast.For: ("a loop", _NO_LOOP),
    ast.AsyncFor: ("a loop", _NO_LOOP),
    ast.While: ("a loop", _NO_LOOP),
    **{kind: ("a comprehension is a loop", _NO_LOOP) for kind in _COMPREHENSIONS},
    ast.Try: ("'try'", "return an error code, as the kernel does"),
    ast.TryStar: ("'try'", "return an error code, as the kernel does"),
    ast.With: ("'with'", "write the calls"),
    ast.AsyncWith: ("'with'", "write the calls"),
    ast.Assert: ("'assert'", "k.require says where a step can happen; a claim is a property"),
    ast.Match: ("'match'", "compare with == in an 'if'"),
    ast.Global: ("'global'", _NO_STATE),
    ast.Nonlocal: ("'nonlocal'", _NO_STATE),
    ast.AsyncFunctionDef: ("'async'", "a step is a plain function"),
    ast.Await: ("'await'", "a step is a plain function"),
    ast.Yield: ("'yield'", "a step is a plain function"),
    ast.YieldFrom: ("'yield'", "a step is a plain function"),
    ast.Import: ("an import in a function", "import at the top of the file"),
    ast.ImportFrom: ("an import in a function", "import at the top of the file"),
}


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
    found = sorted(_Checker(tree).errors)
    if found:
        line, wrong, right = found[0]
        raise TextError(f"{path}:{line}: {wrong}; {right}")


class _Checker:
    """All breaches in a module, as (line, what is wrong, what would be right)."""

    def __init__(self, module: ast.Module) -> None:
        self.errors: list[tuple[int, str, str]] = []
        self.functions = {f.name: f for f in ast.walk(module) if isinstance(f, ast.FunctionDef)}
        self.names = _bound(module)  # names the module itself gives a meaning
        for statement in module.body:
            self.outside(statement)

    def error(self, node: ast.AST, wrong: str, right: str) -> None:
        self.errors.append((getattr(node, "lineno", 1), wrong, right))

    # -- outside functions: once, on import ----------------------------------------
    def outside(self, node: ast.AST) -> None:
        """Look for functions, in what runs when the module is imported."""
        if isinstance(node, _FUNCTIONS):
            self.function(node, frozenset())
            return
        if isinstance(node, ast.Lambda):
            self.inside(node, frozenset())
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imported(node, alias.name)
        if isinstance(node, ast.ImportFrom) and not node.level:
            self.imported(node, node.module or "")
        for child in ast.iter_child_nodes(node):
            self.outside(child)

    def imported(self, node: ast.AST, module: str) -> None:
        """Refuse modules that could bring in state or chance."""
        if module != "model" and not module.startswith("model.") and module not in _IMPORTS:
            self.error(node, f"import of {module}", "text may import only model")

    # -- functions -----------------------------------------------------------------
    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, outer: frozenset[str]) -> None:
        """Check a function; ``outer`` are the local names around it."""
        if isinstance(node, ast.AsyncFunctionDef):
            self.error(node, *_FORBIDDEN[ast.AsyncFunctionDef])
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            if _mutable(default):
                self.error(default, "a mutable default is state that is kept", "use a tuple")
        for decorator in node.decorator_list:
            self.outside(decorator)
        local = outer | _parameters(node.args) | _bound(*node.body)
        for statement in node.body:
            self.inside(statement, local)

    def inside(self, node: ast.AST, local: frozenset[str]) -> None:
        """Check text, from a statement or expression down."""
        if isinstance(node, _FUNCTIONS):
            self.function(node, local)
            return
        if isinstance(node, ast.Lambda):
            local = local | _parameters(node.args)
        rule = _FORBIDDEN.get(type(node))
        if rule:
            self.error(node, *rule)
        if isinstance(node, ast.Raise):
            self.raised(node)
        elif isinstance(node, ast.Compare):
            self.compared(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.named(node, local)
        elif isinstance(node, ast.Attribute):
            self.attribute(node, local)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            self.error(node, "a container is written to", _NO_STATE)
        elif isinstance(node, ast.Call):
            self.called(node)
        for child in ast.iter_child_nodes(node):
            self.inside(child, local)

    def raised(self, node: ast.Raise) -> None:
        """A hook that a design has to define raises NotImplementedError; nothing else raises."""
        what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if not (isinstance(what, ast.Name) and what.id == "NotImplementedError"):
            self.error(node, "'raise'", "return an error code, as the kernel does")

    def compared(self, node: ast.Compare) -> None:
        """Identity, and None, mean nothing to a term."""
        operands = [node.left, *node.comparators]
        if any(isinstance(o, ast.Constant) and o.value is None for o in operands):
            self.error(node, "a comparison with None", "compare with NULL, by == or !=")
        elif any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            self.error(node, "'is' tests identity", "compare with == or !=")

    def named(self, node: ast.Name, local: frozenset[str]) -> None:
        """Built-in functions that see more of a value than a world gives."""
        name = node.id
        if name in local or name in self.names:
            return
        if name in _TYPE_TESTS:
            self.error(node, f"{name}() tests type or identity", "compare values with ==")
        elif name in _REFLECTION:
            self.error(node, f"{name}() looks behind the text", "name the attribute")
        elif name in _LOOPS_IN_CALLS:
            self.error(node, f"{name}() is a loop", _NO_LOOP)
        elif name in _OUTSIDE:
            self.error(node, f"{name}() leaves the model", "leave it out")

    def attribute(self, node: ast.Attribute, local: frozenset[str]) -> None:
        """Only records are written to, and nobody looks at an object's insides."""
        if node.attr.startswith("__") and node.attr.endswith("__"):
            self.error(node, f".{node.attr} looks behind the text", "compare values with ==")
        if isinstance(node.ctx, ast.Load):
            return
        if isinstance(node.ctx, ast.Del):
            self.error(node, "'del' of an attribute", "k.reset(record) forgets a record's values")
        elif isinstance(node.value, ast.Name):
            name = node.value.id
            if name in ("self", "cls"):
                self.error(node, f"{name}.{node.attr} = … keeps state in the design", _NO_STATE)
            elif name == "k":
                self.error(node, f"k.{node.attr} = … changes the world itself", _NO_STATE)
            elif name not in local:
                self.error(node, f"{name}.{node.attr} = … keeps state in the module", _NO_STATE)

    def called(self, node: ast.Call) -> None:
        """Containers are not changed, and predicates do not fork."""
        if not isinstance(node.func, ast.Attribute):
            return
        name = node.func.attr
        if name in _MUTATORS:
            self.error(node, f".{name}() changes a container", _NO_STATE)
        if name in QUANTIFIERS:
            for argument in (*node.args, *(k.value for k in node.keywords)):
                self.predicate(name, argument)

    def predicate(self, quantifier: str, predicate: ast.expr) -> None:
        """A predicate is one condition, by & | ~; so are this file's functions that it calls."""
        todo: list[ast.AST] = [predicate.body] if isinstance(predicate, ast.Lambda) else [predicate]
        seen: set[str] = set()
        while todo:
            for node in ast.walk(todo.pop()):
                forks = _forks(node)
                if forks:
                    right = "combine conditions with & | ~"
                    self.error(node, f"{forks} in a predicate of {quantifier} forks", right)
                if isinstance(node, ast.Name) and node.id in self.functions:
                    if node.id not in seen:
                        seen.add(node.id)
                        todo += self.functions[node.id].body


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


def _mutable(node: ast.expr) -> bool:
    """A display or call that makes a list, dict or set."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _MUTABLE_CALLS
    return isinstance(node, (ast.List, ast.Dict, ast.Set, *_COMPREHENSIONS))


def _parameters(arguments: ast.arguments) -> frozenset[str]:
    """The names of a function's parameters."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    return frozenset(a.arg for a in every)


def _bound(*roots: ast.AST) -> frozenset[str]:
    """The names that statements bind, nested functions' own names left out."""
    return frozenset(name for root in roots for name in _bindings(root))


def _bindings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    for child in ast.iter_child_nodes(node):
        yield from _bindings(child)
