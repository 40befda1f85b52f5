"""The project's own text keeps the rules, and text that breaks one is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from shstk.text import TextError, check_source, kernel_text

MODEL = Path(__file__).parents[2] / "model"
OWN = [
    *kernel_text(MODEL / "kernel"),
    *sorted((MODEL / "designs").glob("*.py")),
]


@pytest.mark.parametrize("path", OWN, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_own_text_keeps_the_rules(path: Path) -> None:
    """Kernel paths and designs pass the check."""
    check_source(path)


def refusal(folder: Path, source: str) -> str:
    """What is said of a text, without the file's name."""
    path = folder / "text.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(TextError) as caught:
        check_source(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:") and "\n" not in said
    return said.removeprefix(f"{path}:")


BREACHES = {
    "for t in tasks: pass": "a loop",
    "while k.may('exit'): pass": "a loop",
    "x = [t for t in tasks]": "a comprehension",
    "x = {t for t in tasks}": "a comprehension",
    "x = {t: 1 for t in tasks}": "a comprehension",
    "x = any(t.ctl == 1 for t in tasks)": "a comprehension",
    "x = map(f, tasks)": "map() is a loop",
    "try: f()\n    except Exception: pass": "'try'",
    "raise ValueError(tsk)": "'raise'",
    "assert tsk.size == 0": "'assert'",
    "with tsk: pass": "'with'",
    "match tsk.ctl:\n        case 1: pass": "'match'",
    "yield tsk": "'yield'",
    "import random": "an import in a function",
    "if tsk.mm is mm: pass": "'is'",
    "if tsk.mm is not mm: pass": "'is'",
    "if tsk.mm is None: pass": "compare with NULL",
    "if tsk.mm == None: pass": "compare with NULL",
    "if None != tsk.mm: pass": "compare with NULL",
    "x = type(tsk)": "type()",
    "x = isinstance(tsk, int)": "isinstance()",
    "x = id(tsk)": "id()",
    "x = hasattr(tsk, 'mm')": "hasattr()",
    "x = getattr(tsk, 'mm')": "getattr()",
    "look = getattr": "getattr()",
    "setattr(tsk, 'mm', 0)": "setattr()",
    "x = tsk.__class__": ".__class__",
    "print(tsk)": "print()",
    "global count": "'global'",
    "def g():\n        nonlocal tsk": "'nonlocal'",
    "TABLE[0] = 1": "a container is written to",
    "TABLE.append(1)": ".append() changes a container",
    "LIMITS.x = 1": "LIMITS.x = … keeps state in the module",
    "self.x = 1": "self.x = … keeps state in the design",
    "self.x += 1": "self.x = … keeps state in the design",
    "k.x = 1": "k.x = … changes the world itself",
    "k.exists_task(lambda t: t.a and t.b)": "'and' in a predicate",
    "k.exists_task(lambda t: t.a or t.b)": "'or' in a predicate",
    "k.exists_addr(lambda a: not a.b)": "'not' in a predicate",
    "k.exists_mm(lambda m: m.a if m.b else m.c)": "'if' in a predicate",
    "k.exists_task(lambda t: t.a in (1, 2))": "'in' in a predicate",
    "k.exists_task(lambda t: 1 < t.a < 3)": "a chained comparison in a predicate",
    "k.exists_task(lambda t: forking(t))": "'if' in a predicate",
    "k.exists_task(forking)": "'if' in a predicate",
}


@pytest.mark.parametrize("body", BREACHES)
def test_a_breach_is_refused(tmp_path: Path, body: str) -> None:
    """Each rule has a text that breaks it, in a function that is otherwise right."""
    head = "def forking(t):\n    if t.a:\n        return t.b\n    return t.c\n\n\n"
    said = refusal(tmp_path, f"{head}def step(self, k, tsk):\n    {body}\n")
    assert BREACHES[body] in said
    assert said.startswith(("2:", "8:", "9:"))


@pytest.mark.parametrize(
    "source",
    [
        "def f(k, seen=[]): pass",
        "def f(k, *, seen={}): pass",
        "def f(k, seen=set()): pass",
        "class D:\n    def f(self, k, seen=dict()): pass",
    ],
)
def test_a_mutable_default_is_refused(tmp_path: Path, source: str) -> None:
    """A default that a call could change is state."""
    assert "a mutable default" in refusal(tmp_path, source)


@pytest.mark.parametrize("module", ["random", "time", "functools", "shstk.finite", "os.path"])
def test_text_imports_only_the_model(tmp_path: Path, module: str) -> None:
    """Chance, time, caches and the machinery stay out of the text."""
    assert f"import of {module}" in refusal(tmp_path, f"import {module}\n")
    assert f"import of {module}" in refusal(tmp_path, f"from {module} import x\n")


@pytest.mark.parametrize(
    ("source", "line"), [("def f(:\n", 1), ("x = 1\n\ndef f()\n", 3), ("x = '\0'\n", 1)]
)
def test_a_syntax_error_is_a_breach(tmp_path: Path, source: str, line: int) -> None:
    """A file that is not Python is refused at its line."""
    said = refusal(tmp_path, source)
    assert said.startswith(f"{line}: syntax error")


def test_the_first_breach_is_named(tmp_path: Path) -> None:
    """Of two breaches the upper one is said."""
    source = "def f(k):\n    k.choose(1)\n    assert k\n    while k: pass\n"
    assert refusal(tmp_path, source).startswith("3: 'assert'")


@pytest.mark.parametrize(
    "body",
    [
        "if not k.may('exit'): return 0",
        "if tsk.a == 1 and tsk.b == 2: return 0",
        "x = 1 if tsk.a == 1 else 2",
        "x = tsk.wrss == True",
        "tsk.size += 1",
        "k.current.group.exit = Exit.KILLED",
        "k.exists_task(lambda t: (t != tsk) & ~(t.a == 1) | t.b.isin((1, 2)))",
        "raise NotImplementedError",
        "return super().step(k, tsk)",
        "exit(k)",
    ],
)
def test_what_forks_or_writes_a_record_is_allowed(tmp_path: Path, body: str) -> None:
    """Text may fork by asking for a truth value, and write state variables."""
    path = tmp_path / "text.py"
    head = "from model.kernel.exit import exit\n\nTABLE = {n: n for n in range(3)}\n\n\n"
    path.write_text(f"{head}def step(self, k, tsk):\n    {body}\n", encoding="utf-8")
    check_source(path)
