"""A design of one's own: the file that new-design writes, and what is said of mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.designs import DESIGNS
from shstk.arguments import design as given_design
from shstk.cli import main
from shstk.errors import UserError
from shstk.loader import load_design
from shstk.new_design import template
from shstk.plan import Question
from shstk.search import TextFailure, answer
from shstk.space import Bound
from shstk.verdicts import combine

SMALL = Bound(2, 1, 1)


def written(folder: Path, source: str, name: str = "mine.py") -> Path:
    """A file with that text."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


def verdicts(path_or_name: str) -> dict[str, tuple[str, set[tuple[int, str]]]]:
    """Of each property the status, and where it is violated, at a small bound."""
    design = load_design(path_or_name)
    question = Question(design.name, "ordinary", SMALL, details="no")
    (report,) = combine([answer(question, design)])
    return {
        v.property.id: (v.status, {(s.claim, s.step) for s in v.sites}) for v in report.verdicts
    }


@pytest.mark.parametrize("name", ["linux-6.12", "v1"])
def test_the_file_as_it_is_has_the_verdicts_of_its_base(tmp_path: Path, name: str) -> None:
    """Nothing is changed by copying the hooks into a subclass."""
    path = written(tmp_path, template("mine", DESIGNS[name], "mine.py"))
    assert verdicts(str(path)) == verdicts(name)


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_can_be_the_base(tmp_path: Path, name: str, minimal: bool) -> None:
    """The file can be loaded, and is a design of its own."""
    path = written(tmp_path, template("mine", DESIGNS[name], "mine.py", minimal))
    design = load_design(str(path))
    assert isinstance(design, type(DESIGNS[name]))
    assert (design.name, design.title) == ("mine", f"{name}, changed")
    assert ("def " in path.read_text()) is not minimal


def test_an_inherited_hook_that_calls_super_keeps_its_meaning() -> None:
    """In a copy one class further down, super() names the class it was written in."""
    base = type(DESIGNS["linux-6.12"])

    class Counting(base):  # type: ignore[misc, valid-type]
        """A hook that calls the one that it overrides."""

        def exit_thread(self, k, tsk):  # type: ignore[no-untyped-def]
            return super().exit_thread(k, tsk)

    text = template("mine", Counting(), "mine.py")
    assert "super(Counting, self).exit_thread(k, tsk)" in text
    assert "super()" not in text


def test_one_condition_changed_is_one_edit(tmp_path: Path) -> None:
    """A vfork child that keeps its parent's bookkeeping frees the parent's stack."""
    text = template("mine", DESIGNS["linux-6.12"], "mine.py")
    old = "            tsk.base = NULL\n            tsk.size = 0\n            return 0\n"
    assert text.count(old) == 1
    path = written(tmp_path, text.replace(old, "            return 0\n"))
    before, after = verdicts("linux-6.12"), verdicts(str(path))
    assert before["freed-at-most-once"][0] == "holds"
    assert after["freed-at-most-once"][0] == "violated"


def test_the_command_writes_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NAME.py in the current folder, or PATH; what is there already is left alone."""
    monkeypatch.chdir(tmp_path)
    assert main(["new-design", "my-own", "--from", "linux-6.12"]) == 0
    assert "class MyOwn(Linux612):" in (tmp_path / "my-own.py").read_text()
    assert main(["new-design", "my-own", "--from", "v1", "--file", "other.py", "--minimal"]) == 0
    assert load_design("other.py").name == "my-own"
    assert capsys.readouterr().err == "wrote my-own.py\nwrote other.py\n"
    before = (tmp_path / "my-own.py").read_bytes()
    assert main(["new-design", "my-own", "--from", "v1"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "my-own.py").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/b", "--from", "v1"], "a design's name is made of"),
        ([".a", "--from", "v1"], "a design's name is made of"),
        (["", "--from", "v1"], "a design's name is made of"),
        (["a" * 65, "--from", "v1"], "a design's name is made of"),
        (["v1", "--from", "v1"], "there is a design 'v1'"),
        (["mine", "--from", "nosuch"], "known are v1"),
        (["mine", "--from", "here.py"], "copy the file"),
        (["mine"], "--from"),
        (["mine", "--from", "v1", "--file", "mine.txt"], "ends with .py"),
        (["mine", "--from", "v1", "--file", "nowhere/mine.py"], "No such file"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    """Status 2, one line, and no file."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "", "here.py")
    assert main(["new-design", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("shstk: ") and err.count("\n") == 1 and said in err
    assert [p.name for p in tmp_path.iterdir()] == ["here.py"]


@pytest.mark.parametrize("name", ["none", "Linux612", "task", "6.12-mine", "_"])
def test_any_name_gives_a_class_that_python_takes(tmp_path: Path, name: str) -> None:
    """Keywords, digits and the names that the text itself uses are stepped around."""
    path = written(tmp_path, template(name, DESIGNS["linux-6.12"], "mine.py"))
    assert load_design(str(path)).name == name


# -- mistakes ------------------------------------------------------------------------
def edited(folder: Path, old: str, new: str) -> tuple[Path, int]:
    """The file with one line of it changed, and that line's number."""
    text = template("mine", DESIGNS["linux-6.12"], "mine.py")
    assert text.count(old) >= 1
    at = text.index(old)
    return written(folder, text[:at] + new + text[at + len(old) :]), text[:at].count("\n") + 1


TLS = "        return args.set_new_tls(k)\n"
FREE = "        self.unmap_shadow_stack(k, tsk)\n        tsk.size = 0\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FREE, "        if tsk.size = 0:\n", "syntax error"),
        (FREE, "        while tsk.size != 0: pass\n", "a loop"),
        ("from model.state", "import random\nfrom model.state", "import of random"),
        ("from model.events import Warned", "from model.events import Warn", "ImportError"),
        ("    title", "    has_msel = False\n    title", "did you mean has_mseal?"),
        ("    def exit_thread", "    def exit_thred", "did you mean exit_thread?"),
        (
            "    def shstk_free(self, k: World, tsk: Task)",
            "    def shstk_free(self, k: World, tsk: Task, more: Task)",
            "Linux612 has shstk_free(self, k, tsk)",
        ),
        (TLS, "        return\n", "copy_thread returns nothing"),
        (TLS, "        return 'x'\n", "copy_thread returns 'x'"),
        ("    title", "    title = 3 + 'a'\n    title", "TypeError"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    """Syntax, the rules of the text, imports, misspelled hooks, hooks that return nothing."""
    path, line = edited(tmp_path, old, new)
    with pytest.raises(UserError) as caught:
        given_design(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ") and said in message
    assert "\n" not in message


def test_a_hook_without_its_last_return(tmp_path: Path) -> None:
    """A hook that can come to its end would return None there: its last line is named."""
    end = "        tsk.size = 0\n        return 0\n"
    path, line = edited(tmp_path, end, "        tsk.size = 0\n")
    with pytest.raises(UserError) as caught:
        given_design(str(path))
    right = "shstk_free can end without a return; it returns 0 for success"
    assert str(caught.value) == f"{path}:{line}: {right}"


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("        self.unmap_shadow_stak(k, tsk)\n", "AttributeError"),
        ("        self.unmap_shadow_stack(tsk)\n", "TypeError"),
        ("        if tsk.siz == 0: return 0\n", "'siz'"),
        ("        if tsk.size == NUL: return 0\n", "NameError"),
        ("        if tsk.size: return 0\n", "TypeError"),
        ("        x = 1 // 0\n", "ZeroDivisionError"),
        ("        super().shstk_free(k, tsk.mm)\n", "AttributeError"),
    ],
)
def test_what_a_hook_raises_is_told_with_its_line(tmp_path: Path, new: str, said: str) -> None:
    """As it is loaded or as it is run: the line in the user's file, not in ours."""
    path, line = edited(tmp_path, FREE, new + "        tsk.size = 0\n")
    question = Question("mine", "ordinary", SMALL, properties=frozenset({"own-mm"}), details="no")
    with pytest.raises((UserError, TextFailure)) as caught:
        answer(question, given_design(str(path)))
    message = str(caught.value)
    assert f"mine.py:{line}" in message and said in message
    assert "\n" not in message


COPY = "        tsk.size = size\n        tsk.ssp = addr"
VALUES = {
    "tsk.off = 17": "17 is no value of tsk.off; its values are Off.TOP and Off.INSIDE",
    "tsk.off = 'x'": "'x' is no value of tsk.off; its values are Off.TOP and Off.INSIDE",
    "tsk.off = Kind.CLONE": "Kind.CLONE is no value of tsk.off",
    "at = 17\n        tsk.off = at": "17 is no value of tsk.off",
    "tsk.base, tsk.off = NULL, 3": "3 is no value of tsk.off",
    "tsk.shstk = 1": "1 is no value of tsk.shstk; its values are False (NO) and True (YES)",
    "tsk.base = 0": "0 is no value of tsk.base; its values are NULL and addresses",
    "tsk.size = NULL": "NULL is no value of tsk.size; its values are numbers",
    "tsk.mm.at(tsk.base).owner = 1": "its values are NULL, LEFT and tasks",
    "k.current.vfork_done.off = NO": "False is no value of k.current.vfork_done.off",
    "k.current.features = 'x'": "Task has no variable 'features'; its variables are ctl, group,",
    "tsk.shstk = tsk.wrss == YES": "a condition is written to tsk.shstk; write its value under",
    "tsk.shstk = tsk.wrss == YES or tsk.base == NULL": "a condition is written to tsk.shstk",
    "tsk.off = tsk.size": "tsk.off is set to what tsk.size is; the one can be Off.TOP and Off.INS",
    "tsk.base = tsk.mm": "tsk.base is set to what tsk.mm is; the one can be NULL and addresses",
    "return -11": "-11 is returned; errnos are positive here: return 11",
    "if tsk.base == NULL | tsk.size == 0: return 0": "put each comparison in parentheses",
    # what is never true, or a number where nobody expects one
    "if tsk.base == 0: return 0": "0 is no value of tsk.base",
    "if 17 != tsk.off: return 0": "17 is no value of tsk.off",
    "if tsk.group.exit == NO: return 0": "its values are Exit.NO, Exit.KILLED, Exit.FAULTED",
    "if ~(not tsk.size == 0): return 0": "which can be a Python bool, is a number and always",
    "if ~(tsk.size == 0 or NO): return 0": "which can be a Python bool",
    "c = not tsk.size == 0\n        if ~c: return 0": "~ of 'c', which can be a Python bool",
    "if ~(args.flags & CLONE_VM == 0): return 0": "which can be a Python bool",
    "if ~args.worker: return 0": "which can be a Python bool",
    "e = vm_munmap(k, tsk, tsk.base, tsk.size)\n        if ~(e == OK): return 0": "~ of 'e == OK'",
}


@pytest.mark.parametrize("line", VALUES)
def test_a_value_that_nothing_can_have_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    """Written or compared: the user's file and line, what is wrong, and the values there are."""
    path, number = edited(tmp_path, COPY, f"        {line}\n{COPY}")
    with pytest.raises(UserError) as caught:
        given_design(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:{number + line.count(chr(10))}: ")
    assert VALUES[line] in message and "\n" not in message


@pytest.mark.parametrize(
    "line",
    [
        "tsk.off = Off.INSIDE",
        "at = Off.TOP\n        tsk.off = at",
        "tsk.shstk = tsk.wrss",
        "tsk.shstk = not tsk.wrss == YES",
        "tsk.shstk = args.flags & CLONE_VM != 0",
        "tsk.size = 4096",
        "tsk.base = k.current.base",
        "tsk.vfork_done = tsk.child",
        "if (args.flags & CLONE_VM) == 0: return 0",
        "if not tsk.size == 0 and (tsk.base == NULL or tsk.off == Off.TOP): return 0",
        "if not args.worker | (tsk.size == 0): return 0",
        "if ~(tsk.size == 0 or tsk.base == NULL): return 0",
        "if ~k.may('exit'): return 0",
    ],
)
def test_what_variables_can_be_is_taken(tmp_path: Path, line: str) -> None:
    """Their values, other variables, truths as flags; and, or and not where a truth is asked."""
    path, _ = edited(tmp_path, COPY, f"        {line}\n{COPY}")
    assert given_design(str(path)).name == "mine"


ON = "        return tsk.shstk == YES\n"


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("return not tsk.shstk == NO", "'return not tsk.shstk == NO' can give a Python bool"),
        ("return True", "'return True' can give a Python bool"),
        ("return tsk.shstk == YES and YES", "can give a Python bool; return a condition"),
        ("return tsk.shstk", "'return tsk.shstk' gives a value; compare it"),
    ],
)
def test_a_hook_that_returns_a_condition_returns_no_truth(
    tmp_path: Path, new: str, said: str
) -> None:
    """The kernel negates what `enabled` returns, and ~True is true."""
    path, line = edited(tmp_path, ON, f"        {new}\n")
    with pytest.raises(UserError) as caught:
        given_design(str(path))
    assert str(caught.value).startswith(f"{path}:{line}: enabled: ") and said in str(caught.value)


def test_and_or_and_not_mean_what_the_operators_mean(tmp_path: Path) -> None:
    """Where they are taken they change no verdict, and no place where something is violated."""
    old = "        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):\n"
    new = "        if tsk.mm == NULL or not (tsk.mm == k.current.mm and not tsk.mm == NULL):\n"
    text = template("mine", DESIGNS["linux-6.12"], "mine.py")
    assert old in text and ON in text
    text = text.replace(old, new).replace(ON, f"{ON.rstrip()} or tsk.shstk != NO\n")
    assert verdicts(str(written(tmp_path, text))) == verdicts("linux-6.12")


def test_two_designs_in_a_file_and_none(tmp_path: Path) -> None:
    """A file defines one design: both are named, or it is said that there is none."""
    text = template("mine", DESIGNS["v1"], "mine.py", minimal=True)
    path = written(tmp_path, text + "\n\nclass Other(Mine):\n    name = 'other'\n")
    with pytest.raises(UserError, match="defines 2 designs, Mine, Other; a file defines one"):
        given_design(str(path))
    path = written(tmp_path, "from model.designs.v1 import V1\n")
    with pytest.raises(UserError, match="defines no subclass of Design"):
        given_design(str(path))


def test_a_design_with_the_name_of_another_is_called_by_its_file(tmp_path: Path) -> None:
    """So that two reports of one check are told apart."""
    text = template("mine", DESIGNS["v1"], "mine.py", minimal=True)
    path = written(tmp_path, text.replace('name = "mine"', 'name = "linux-6.12"'))
    assert load_design(str(path)).name == "mine.py"
