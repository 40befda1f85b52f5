"""Designs share what was made of a text where they give it the same, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel.fork import CloneArgs
from model.state import Task
from model.world import World
from shstk.build import ORDINARY, Request, extract, program
from shstk.cache import ROOT, shared
from shstk.engine import Engine
from shstk.footprint import Observed, footprint
from shstk.loader import load_design
from shstk.space import Bound
from shstk.table_cache import MAKERS, tables, tables_under

MERGED, LATER, V1 = DESIGNS["linux-6.12"], DESIGNS["linux-6.18"], DESIGNS["v1"]
BOUND = Bound(2, 1, 1)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield


class Careful(Linux612):
    """Asks the base class."""

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        return super().shstk_alloc_thread_stack(k, tsk, args)


def test_an_observed_design_notes_what_is_asked_of_it() -> None:
    """Also what a hook asks of the design in turn."""
    observed = Observed(MERGED)
    assert observed.design.has_mseal is MERGED.has_mseal
    assert observed.asked == {"has_mseal"}
    observed.design.enabled  # noqa: B018 - asking is enough
    assert observed.asked == {"has_mseal", "enabled"}


def test_a_hook_that_is_inherited_is_the_same() -> None:
    """6.18 has 6.12's life cycle and another sigreturn."""
    assert footprint(MERGED, ["shstk_free"]) == footprint(LATER, ["shstk_free"])
    changed = ["shstk_pop_sigframe"]
    assert footprint(MERGED, changed) != footprint(LATER, changed)


def test_a_constant_is_the_same_if_it_is_equal() -> None:
    """mseal(2) came with 6.10."""
    assert footprint(MERGED, ["has_mseal"]) == footprint(LATER, ["has_mseal"])
    assert footprint(MERGED, ["has_mseal"]) != footprint(V1, ["has_mseal"])


def test_a_record_is_the_same_if_it_is_equal() -> None:
    """The numbers of arch_prctl(2) are those of 6.6 in 6.12, and v1 has others."""
    of = {name: footprint(design, ["prctl"]) for name, design in DESIGNS.items()}
    assert of["linux-6.12"] == of["linux-6.6"] != of["v1"]


def test_what_can_change_is_not_compared() -> None:
    """A record that is not frozen, or holds what has no text, is the same in nobody else."""

    @dataclass
    class Loose:
        number: int

    class One(Linux612):
        extra: object = Loose(1)

    class Other(Linux612):
        extra: object = Loose(1)

    assert footprint(One(), ["extra"]) != footprint(Other(), ["extra"])


def test_who_asks_a_base_class_shares_with_nobody() -> None:
    """What super() leads to is not noted, so all files of the design count."""
    careful = ["shstk_alloc_thread_stack"]
    assert footprint(Careful(), careful) != footprint(MERGED, careful)


def test_an_edited_file_makes_another_hook(tmp_path: Path) -> None:
    """The text counts, not the name: a file's hooks are others once the file has changed."""
    source = (ROOT / "model" / "designs" / "linux_6_12.py").read_text(encoding="utf-8")
    found = []
    for number, text in enumerate((source, source.replace("tsk.size = 0\n        return 0", ""))):
        file = tmp_path / f"mine{number}.py"
        file.write_text(text, encoding="utf-8")
        found.append(footprint(load_design(str(file)), ["shstk_free"]))
    assert found[0] != found[1]


@pytest.mark.usefixtures("empty")
def test_a_piece_is_made_once_for_all_that_give_the_same() -> None:
    """And once more for a design that does not."""
    made: list[str] = []

    def make(design: Design) -> object:
        made.append(type(design).__name__)
        return design.has_mseal

    assert [shared("text", "piece", d, make) for d in (MERGED, LATER, V1, V1)] == [
        True,
        True,
        False,
        False,
    ]
    assert len(made) == 2


@pytest.mark.usefixtures("empty")
def test_shared_tables_are_the_designs_own() -> None:
    """What a design takes from another is what it would have made itself."""
    for design in (MERGED, DESIGNS["fix-double-unmap-warning"], V1):
        kept, own = tables(design, BOUND), extract(design, BOUND)
        assert kept.reads == own.reads
        one, other = (
            Engine(program(each, Request(ORDINARY))).explore(max_depth=8) for each in (kept, own)
        )
        assert (one.states, one.transitions) == (other.states, other.transitions)
        assert sorted(one.hits) == sorted(other.hits)


@pytest.mark.usefixtures("empty")
def test_tables_know_what_their_text_asks_of_a_design() -> None:
    """By step and claim: whether they are made, put together from pieces, or kept as a whole."""
    found = [tables_under(design, BOUND)[1] for design in (MERGED, LATER, MERGED)]
    assert found[0] == found[1] == found[2]
    assert found[0]["mseal"] == {"has_mseal"}
    assert {"deactivate_mm", "shstk_free"} <= found[0]["exit_mm_release"]
    assert "has_mseal" not in found[0]["exit_mm_release"]
    assert found[0]["off-is-noop/nothing-mapped"] == {"configured"}


def imported(name: str) -> set[str]:
    """The modules of shstk that a module of it imports, also by way of others."""
    found: set[str] = set()
    todo = [name]
    while todo:
        at = todo.pop()
        if at in found:
            continue
        found.add(at)
        tree = ast.parse((ROOT / "shstk" / f"{at}.py").read_bytes())
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shstk."):
                todo.append(str(node.module).removeprefix("shstk.").replace(".", "/"))
    return found


@pytest.mark.parametrize("maker", ["tables", "finite"])
def test_a_kept_table_depends_on_all_that_makes_it(maker: str) -> None:
    """An edit of any module that extraction runs is an edit of the key."""
    assert imported(maker) <= set(MAKERS)
