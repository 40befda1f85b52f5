"""The rules of text as tables: what is refused, and what to write instead."""

from __future__ import annotations
import __future__

import ast
import builtins
import collections.abc
import dataclasses
import enum
import typing

from model import state
from model.cpu.world import Cpu
from model.kernel.uaccess import UserMemory
from model.world import World

QUANTIFIERS = ("exists_task", "exists_addr", "exists_mm")
PREDICATED = (*QUANTIFIERS, "some_task")

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

NO_LOOP = "ask k.exists_task, k.exists_addr or k.exists_mm, or let k.choose pick one"
NO_STATE = "what survives a step is a state variable, in model/state.py"
NO_INSIDE = "compare values, with == or <; what is said of them is said by an event"
NO_FORK = "combine conditions with & | ~"
ONLY_READS = "a predicate reads, and combines conditions with & | ~"

#: Modules that text may import from, and what is theirs.
IMPORTS: dict[str, list[str]] = {
    "__future__": __future__.all_feature_names,
    "collections.abc": collections.abc.__all__,
    "dataclasses": dataclasses.__all__,
    "enum": enum.__all__,
    "typing": typing.__all__,
}
NO_IMPORTS = ("model.reference",)  # real addresses, and threads with registers

#: Statements and expressions that are wrong wherever they stand in text.
FORBIDDEN: dict[type[ast.AST], tuple[str, str]] = {
    ast.For: ("a loop", NO_LOOP),
    ast.AsyncFor: ("a loop", NO_LOOP),
    ast.While: ("a loop", NO_LOOP),
    **{kind: ("a comprehension is a loop", NO_LOOP) for kind in COMPREHENSIONS},
    ast.Try: ("'try'", "return an error code, as the kernel does"),
    ast.TryStar: ("'try'", "return an error code, as the kernel does"),
    ast.With: ("'with'", "write the calls"),
    ast.AsyncWith: ("'with'", "write the calls"),
    ast.Assert: ("'assert'", "k.require says where a step can happen; a claim is a property"),
    ast.Match: ("'match'", "compare with == in an 'if'"),
    ast.Global: ("'global'", NO_STATE),
    ast.Nonlocal: ("'nonlocal'", NO_STATE),
    ast.Delete: ("'del'", "k.reset(record) forgets a record's values"),
    ast.AsyncFunctionDef: ("'async'", "a step is a plain function"),
    ast.Await: ("'await'", "a step is a plain function"),
    ast.Yield: ("'yield'", "a step is a plain function"),
    ast.YieldFrom: ("'yield'", "a step is a plain function"),
    ast.Import: ("an import in a function", "import at the top of the file"),
    ast.ImportFrom: ("an import in a function", "import at the top of the file"),
    ast.ClassDef: ("a class in a function", "define it at the top of the file"),
    ast.JoinedStr: ("an f-string sees what a value is made of", NO_INSIDE),
}


def _all(names: str, wrong: str, right: str) -> dict[str, tuple[str, str]]:
    return {name: (wrong.format(name), right) for name in names.split()}


_SEES = "{}() sees what a value is made of"
_KEEP = "read a condition by 'if', and keep a number as it is"

#: Built-in names that text does not use.
BUILTINS: dict[str, tuple[str, str]] = {
    **_all(
        "type isinstance issubclass id hash callable",
        "{}() tests type or identity",
        "compare values with ==",
    ),
    **_all("getattr setattr delattr hasattr", "{}() looks behind the text", "name the attribute"),
    **_all(
        "vars dir globals locals eval exec compile __import__",
        "{}() looks behind the text",
        "write what is meant",
    ),
    **_all("map filter iter next range enumerate zip reversed sorted", "{}() is a loop", NO_LOOP),
    **_all("sum any all len list tuple set frozenset dict slice", "{}() is a loop", NO_LOOP),
    **_all("open input print breakpoint exit quit", "{}() leaves the model", "leave it out"),
    **_all("repr str ascii format bytes bytearray memoryview chr ord", _SEES, NO_INSIDE),
    **_all("bin hex oct", _SEES, NO_INSIDE),
    **_all("int float complex abs round", _SEES, _KEEP),
    **_all("divmod pow", _SEES, "write //, % or a shift"),
    **_all("bool", "{}() asks for a truth", "write an 'if'"),
    **_all("min max", "{}() asks for a truth", "write an 'if' with <"),
}
ALLOWED_BUILTINS = frozenset({"super"})
#: What no module does, not even as it is imported.
NEVER = frozenset(
    "setattr delattr vars dir globals locals eval exec compile __import__ "
    "open input print breakpoint exit quit".split()
)
#: Iterators, and who makes something lasting of one.
ITERATORS = frozenset({"iter", "map", "filter", "zip", "enumerate", "reversed"})
CONSUMERS = frozenset(
    "tuple list dict set frozenset sorted sum min max any all enumerate zip map filter".split()
)
#: Names of types, which may stand in annotations, be subclassed, and get another name.
TYPES = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and name not in ITERATORS | {"range"}
)
#: Exceptions: to raise one is refused where it is done, and Warning is an event's name, too.
EXCEPTIONS = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
)

#: Methods that text does not call.
METHODS: dict[str, tuple[str, str]] = {
    **_all(
        "append extend insert remove pop clear sort reverse add discard update setdefault popitem "
        "intersection_update difference_update symmetric_difference_update",
        ".{}() changes a container",
        NO_STATE,
    ),
    **_all("send throw close", ".{}() changes a generator", NO_STATE),
    **_all("format format_map join", ".{}() sees what a value is made of", NO_INSIDE),
}
#: Attributes that a world's values and records have for the world, not for the text.
INSIDES = frozenset("index world term decide force resolve evaluate constant encode run".split())
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray"})

#: Decorators by name; they register or declare, and leave the function what it is.
DECORATORS = frozenset(
    "step operation property staticmethod classmethod overload override final".split()
)
CLASS_DECORATORS = frozenset({"dataclass", "runtime_checkable", "final"})

#: What can be written: variables of the life cycle, and registers of user memory and the CPU.
_RECORDS = [r for r in vars(state).values() if isinstance(r, type) and issubclass(r, state.Record)]
VARIABLES = frozenset(
    [f.name for record in _RECORDS for f in state.fields(record)]
    + [name for world in (UserMemory, Cpu) for name in vars(world)["__annotations__"]]
)
#: What text may ask of ``k``; ``before`` is for claims.
PRIMITIVES = frozenset({"before", *vars(World)["__annotations__"]}) | {
    name for name in vars(World) if not name.startswith("_")
}
#: Primitives that do something: not in a predicate, which is asked of many objects, and again.
ACTS = frozenset(
    "require write choose number may any_addr some_task fresh_task fresh_group fresh_mm "
    "fresh_addr no_room copy_fields reset copy_mappings clear_mappings replace_owner emit".split()
)
