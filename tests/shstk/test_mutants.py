"""Mutants: which changes there are, and that each is a design of its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from shstk.loader import load_design
from shstk.mutants import hooks_reaching, methods, mutants, mutated
from shstk.mutations import (
    ALWAYS,
    DROPPED,
    NEGATED,
    NEVER,
    OPERAND,
    SUCCESS,
    SWAPPED,
    UNWRAPPED,
    edits,
)

LINUX = DESIGNS["linux-6.12"]

TEXT = """\
def hook(self, k: World, tsk: Task) -> int:
    if (tsk.base == NULL) | ~(tsk.size != 0):
        return EPERM
    size = page_align(tsk.size)
    err = self.unmap(k, size)
    tsk.size = 0
    k.emit(err)
    tsk.base = NULL
    tsk.off = Off.TOP
    return 0
"""

INHERITS = '''\
"""A design that adds to what it inherits."""

from model.designs.linux_6_12 import Linux612
from model.state import Task
from model.world import World


class Mine(Linux612):
    """Frees only what is recorded."""

    name = "mine"

    def shstk_free(self, k: World, tsk: Task) -> int:
        if tsk.size == 0:
            return 0
        return super().shstk_free(k, tsk)
'''


def _lines(kind: str) -> list[tuple[int, tuple[str, ...]]]:
    return [(e.line, tuple(s.strip() for s in e.lines)) for e in edits(TEXT) if e.kind == kind]


def test_a_condition_is_negated_made_true_and_made_false() -> None:
    """Each guard gives three edits of its line."""
    assert _lines(NEGATED) == [(2, ("if not ((tsk.base == NULL) | ~(tsk.size != 0)):",))]
    assert _lines(ALWAYS) == [(2, ("if True:",))]
    assert _lines(NEVER) == [(2, ("if False:",))]


def test_each_operand_is_dropped() -> None:
    """Of ``a | b`` there remain b, and a."""
    kept = [line for _, (line,) in _lines(OPERAND)]
    assert kept == ["if ~(tsk.size != 0):", "if tsk.base == NULL:"]


def test_arithmetic_is_no_condition() -> None:
    """``flags & BIT != 0`` is a comparison: its ``&`` has no operands to drop."""
    text = "def hook(k):\n    if flags & BIT != 0:\n        return 0\n    return 0\n"
    assert [e for e in edits(text) if e.kind == OPERAND] == []


def test_effects_are_dropped_and_definitions_are_not() -> None:
    """Writes and calls are left out one by one; what is read later has to be defined."""
    assert [line for line, _ in _lines(DROPPED)] == [6, 7, 8, 9]


def test_an_errno_becomes_success_and_a_wrapper_its_argument() -> None:
    """What an int function returns becomes 0; a function of one value that value."""
    assert _lines(SUCCESS) == [(3, ("return 0",))]
    assert _lines(UNWRAPPED) == [(4, ("size = tsk.size",))]


def test_only_independent_statements_are_swapped() -> None:
    """No name is read before it is defined, and two plain writes commute."""
    assert [line for line, _ in _lines(SWAPPED)] == [2, 5, 6, 7]


def test_an_only_statement_is_replaced_by_pass() -> None:
    """A block needs a statement."""
    text = "def hook(k, t):\n    if t.x == 0:\n        t.x = 1\n    return 0\n"
    (dropped,) = (e for e in edits(text) if e.kind == DROPPED)
    assert dropped.lines == ()
    assert dropped.applied(text).splitlines()[2] == "        pass"


@pytest.mark.parametrize("name", ["linux-6.12", "v1"])
def test_every_mutant_is_a_design(name: str, tmp_path: Path) -> None:
    """Each mutant's text passes the check, and differs from the design in the one method."""
    design = DESIGNS[name]
    every = mutants(design)
    assert [m.number for m in every] == list(range(1, len(every) + 1))
    assert len(every) > 80
    for mutant in every:
        other = mutated(design, mutant, tmp_path)
        assert isinstance(other, Design)
        assert other.name == f"{name}~{mutant.number}"
        changed = {n for n in vars(type(other)) if not n.startswith("__")}
        assert changed == {mutant.method}
        assert mutant.original != mutant.mutated
        assert mutant.original[0] in mutant.file.read_text().splitlines()[mutant.line - 1]


def test_a_mutant_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """A mutant is pickled by its class, which workers that are forked later have."""
    mutant = mutated(LINUX, mutants(LINUX)[0], tmp_path)
    again = pickle.loads(pickle.dumps(mutant))
    assert type(again) is type(mutant)
    assert again.name == mutant.name


def test_user_memory_is_left_alone() -> None:
    """Signals, map_shadow_stack and arch_prctl at the level of memory are not mutated."""
    assert {owner.__name__ for owner, _ in methods(LINUX)} == {"Linux612"}


def test_hooks_that_come_to_a_method_are_found() -> None:
    """shstk_free is reached from three hooks, enabled from itself alone."""
    owner = type(LINUX)
    freeing = {"deactivate_mm", "exit_thread", "shstk_disable"}
    assert hooks_reaching(LINUX, owner, "unmap_shadow_stack") == freeing
    assert hooks_reaching(LINUX, owner, "enabled") == {"enabled"}


def test_what_is_reached_by_super_is_changed_in_between(tmp_path: Path) -> None:
    """A method that the design overrides and still calls is mutated where it is inherited."""
    path = tmp_path / "mine.py"
    path.write_text(INHERITS)
    mine = load_design(str(path))
    owners = {(owner.__name__, name) for owner, name in methods(mine)}
    assert {("Mine", "shstk_free"), ("Linux612", "shstk_free")} <= owners
    inherited = [m for m in mutants(mine) if m.owner is not type(mine) and m.method == "shstk_free"]
    other = mutated(mine, inherited[0], tmp_path)
    order = [c.__name__ for c in type(other).__mro__]
    assert order.index("Mine") < order.index("Changed") < order.index("Linux612")
    assert hooks_reaching(mine, type(LINUX), "shstk_free") >= {"exit_thread"}


def test_super_keeps_its_meaning(tmp_path: Path) -> None:
    """In a changed method ``super()`` is the class above the one it was written in."""
    path = tmp_path / "mine.py"
    path.write_text(INHERITS)
    mine = load_design(str(path))
    own = [m for m in mutants(mine) if m.owner is type(mine)]
    mutated(mine, own[0], tmp_path)
    assert "super(Mine, self).shstk_free" in (tmp_path / f"mine~{own[0].number}.py").read_text()
