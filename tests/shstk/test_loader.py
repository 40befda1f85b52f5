"""Designs by name and by file; every mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.designs import DESIGNS
from shstk.loader import HOOKS, DesignError, base_of, design_files, load_design

ROOT = Path(__file__).parents[2]
MERGED = ROOT / "model" / "designs" / "linux_6_12.py"

CHANGED = """
from model.designs.linux_6_12 import Linux612


class Mine(Linux612):
    '''No stack is ever given up.'''

    def shstk_free(self, k, tsk):
        return 0
"""


def written(folder: Path, source: str, name: str = "mine.py") -> str:
    """A file with that text."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return str(path)


def refusal(name_or_path: str) -> str:
    """The one line that is said of a design that cannot be loaded."""
    with pytest.raises(DesignError) as caught:
        load_design(name_or_path)
    said = str(caught.value)
    assert said and "\n" not in said and "Traceback" not in said
    return said


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_by_name(name: str) -> None:
    """A registered name gives the registered design."""
    assert load_design(name) is DESIGNS[name]


def test_a_registered_designs_own_file() -> None:
    """The file of a registered design is that design."""
    assert load_design(str(MERGED)) is DESIGNS["linux-6.12"]


def test_a_design_by_path(tmp_path: Path) -> None:
    """A file that changes one hook of a design is a design of its own name."""
    design = load_design(written(tmp_path, CHANGED))
    assert isinstance(design, type(DESIGNS["linux-6.12"]))
    assert design.name == "mine"
    assert (design.title, design.cite) == ("the design in mine.py", "not published")
    assert design.source == "mine.py"


def test_a_changed_copy_has_its_own_name(tmp_path: Path) -> None:
    """A copy that still says the name of the original is told from it by its file."""
    design = load_design(written(tmp_path, MERGED.read_text(encoding="utf-8")))
    assert design is not DESIGNS["linux-6.12"]
    assert design.name == "mine.py"
    assert design.title == DESIGNS["linux-6.12"].title


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    """Loading a path again sees what the file says now."""
    path = written(tmp_path, CHANGED)
    assert load_design(path).name == "mine"
    written(tmp_path, CHANGED.replace("'''No", "name = 'other'\n    '''No"))
    assert load_design(path).name == "other"


def test_the_files_of_a_design(tmp_path: Path) -> None:
    """A design's files are those of its class and of every base."""
    design = load_design(written(tmp_path, CHANGED))
    names = [path.name for path in design_files(design)]
    assert names[:3] == ["mine.py", "linux_6_12.py", "user_memory_6_12.py"]
    assert set(names[3:]) == {"design.py", "user_memory.py"}
    assert all(path.is_file() for path in design_files(design))


def test_the_known_design_that_another_is_derived_from(tmp_path: Path) -> None:
    """The nearest known one; a known design, and a copy of one's text, has none."""
    assert base_of(load_design(written(tmp_path, CHANGED))) == "linux-6.12"
    assert base_of(DESIGNS["linux-6.12"]) is None
    copy = load_design(written(tmp_path, MERGED.read_text(encoding="utf-8"), "copy.py"))
    assert base_of(copy) is None


def test_an_unknown_name() -> None:
    """An unknown name is answered with the known ones."""
    said = refusal("linux-7")
    assert "'linux-7'" in said
    assert all(name in said for name in DESIGNS)


def test_a_file_without_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves the ending out is told of the file that is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-6.20.py").write_text("")
    with pytest.raises(DesignError, match="or give my-6.20.py, which is there"):
        load_design("my-6.20")


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere/mine.py"])
def test_a_missing_file(name: str) -> None:
    """A path to nothing is said to be that."""
    assert refusal(name) == f"{name}: no such file"


def test_a_folder(tmp_path: Path) -> None:
    """A folder is not a design."""
    assert refusal(str(tmp_path)) == f"{tmp_path}: not a file"


def test_a_file_with_another_ending(tmp_path: Path) -> None:
    """A design is in a file whose name ends with .py."""
    assert "has to end with .py" in refusal(written(tmp_path, CHANGED, "mine.txt"))


HEAD = "from model.designs import Design\n\n\n"
MISTAKES = {
    "class Mine(\n": "1: syntax error",
    "x = 1\n": "defines no subclass of Design",
    "from model.designs.v1 import V1\n": "defines no subclass of Design",
    f"{HEAD}class A(Design): pass\n\n\nclass B(Design): pass\n": "2 designs, A, B",
    "import random\n": "1: import of random",
    "from model.nowhere import x\n": "1: cannot be run: ModuleNotFoundError",
    "from model.state import nothing\n": "1: cannot be run: ImportError",
    "x = 1\ny = x // 0\n": "2: cannot be run: ZeroDivisionError",
    "raise SystemExit('a\\nb')\n": "1: cannot be run: SystemExit: a b",
    f"{HEAD}class A(Design): pass\n": f"4: class A does not define {', '.join(HOOKS)}",
    CHANGED.replace("return 0", "while k: pass"): "9: a loop",
    CHANGED.replace("shstk_free(self, k, tsk)", "exit_thread(self, k)"): (
        "8: the kernel calls exit_thread(self, k, tsk)"
    ),
    CHANGED.replace("    def", "    exit_thread = 0\n\n    def"): "exit_thread is not a function",
    CHANGED.replace("    def", "    title = 7\n\n    def"): "title is not a text",
    CHANGED.replace("    def", "    def __init__(self, x): pass\n\n    def"): "TypeError",
}


@pytest.mark.parametrize("source", MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, source: str) -> None:
    """Each mistake is said with the file, and the line where there is one."""
    path = written(tmp_path, source)
    said = refusal(path)
    assert said.startswith(f"{path}:")
    assert MISTAKES[source] in said
    assert "_design_" not in said


def test_one_missing_hook_is_named(tmp_path: Path) -> None:
    """Of all hooks only the one that is missing is named."""
    source = MERGED.read_text(encoding="utf-8").replace("def start_thread", "def begin_thread")
    assert refusal(written(tmp_path, source)).endswith("does not define start_thread")


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is a syntax error."""
    path = tmp_path / "mine.py"
    path.write_bytes(b"x = '\xff'\n")
    assert "1: syntax error" in refusal(str(path))
