"""The exported Promela models, run by Spin: as many states as the engine finds."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import test_engine

from model.designs import Design
from shstk.build import ORDINARY, Request, Tables, program
from shstk.engine import Engine
from shstk.engine.program import CHOICE, LEAF, NONE, PLAIN, TEST, TRAP, Layout, Leaf, Program
from shstk.promela import to_promela
from shstk.slices import MERGES, WHOLE, Slice
from shstk.space import Bound

SECONDS = 300
COARSEST = Slice(frozenset(MERGES))


@dataclass(frozen=True)
class Verdict:
    """What a verifier printed: the states it stored, the errors it found."""

    states: int
    errors: int


Spin = Callable[[Program, Sequence[str]], Verdict]


@pytest.fixture
def spin(tmp_path: Path) -> Spin:
    """Export a program, and have Spin search it."""
    if not (shutil.which("spin") and shutil.which("cc")):
        pytest.skip("SKIPPED: spin is not installed")

    def call(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=True
        )
        return done.stdout

    def run(program: Program, names: Sequence[str]) -> Verdict:
        (tmp_path / "model.pml").write_text(to_promela(program, names, "A test."))
        assert "rror" not in call("spin", "-a", "model.pml")
        # Optimizing would take longer than the search.
        call("cc", "-O0", "-w", "-DNOREDUCE", "-DSAFETY", "-o", "pan", "pan.c")
        output = call("./pan", "-m1000000", "-w24")
        assert "max search depth too small" not in output
        states = re.search(r"^ *(\d+) states, stored$", output, re.MULTILINE)
        errors = re.search(r"errors: (\d+)$", output, re.MULTILINE)
        assert states and errors, output
        return Verdict(int(states[1]), int(errors[1]))

    return run


def names(program: Program) -> list[str]:
    """Names for the cells of a program that has none."""
    return [f"x.c{cell}" for cell in range(program.layout.cells)]


def tiny(
    sizes: Sequence[int],
    initial: Sequence[tuple[int, ...]],
    nodes: Sequence[int],
    leaves: Sequence[Leaf],
    tables: Sequence[tuple[int, ...]] = (),
) -> Program:
    """A program with one record of plain cells, and one tree that is the first node."""
    return Program(
        layout=Layout.build([(size, PLAIN) for size in sizes], tasks=1),
        initial=tuple(initial),
        nodes=tuple(nodes),
        roots=(0,),
        leaves=tuple(leaves),
        n_actions=1,
        tables=tuple(tables),
    )


IDENTITY = (0, 1, 2)


@pytest.mark.parametrize(
    ("program", "states"),
    [
        pytest.param(tiny([2], [(0,)], [CHOICE, 0], []), 1, id="no step"),
        pytest.param(tiny([2], [(0,)], [LEAF, 0], [Leaf(0)]), 1, id="no effect"),
        pytest.param(
            tiny([2, 1], [(0, 0)], [LEAF, 0], [Leaf(0, saturated=1, consts=((0, 1),))]),
            1,
            id="saturated",
        ),
        pytest.param(
            tiny([3, 300], [(0, 0)], [LEAF, 0], [Leaf(0, consts=((0, 1), (1, 299)))]),
            2,
            id="variables that are only written",
        ),
        pytest.param(
            tiny([2], [(1,), (0,), (1,), (0,)], [TEST, 0, 2, NONE, NONE], []),
            2,
            id="several initial states",
        ),
        pytest.param(
            tiny(
                [3] * 4,
                [(0, 1, 2, 0)],
                [LEAF, 0],
                [Leaf(0, moves=((0, 1, 0), (1, 2, 0), (2, 0, 0), (3, 0, 0)))],
                [IDENTITY],
            ),
            4,
            id="parallel rotation",
        ),
        pytest.param(
            tiny([3, 3], [(0, 2)], [LEAF, 0], [Leaf(0, moves=((0, 1, 0), (1, 0, 0)))], [(1, 2, 0)]),
            6,
            id="parallel exchange through a table",
        ),
        pytest.param(
            tiny(
                [300],
                [(0,)],
                [LEAF, 0],
                [Leaf(0, moves=((0, 0, 0),))],
                [(*range(1, 280), 7, *range(280, 300))],
            ),
            280,
            id="many values",
        ),
    ],
)
def test_tiny_programs(spin: Spin, program: Program, states: int) -> None:
    """Spin stores exactly the states that there are."""
    assert Engine(program).explore().states == states
    assert spin(program, names(program)) == Verdict(states, 0)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            tiny([2], [(0,)], [TEST, 0, 2, 5, TRAP, LEAF, 0], [Leaf(0, consts=((0, 1),))]),
            id="in a tree",
        ),
        pytest.param(
            tiny([3], [(0,)], [LEAF, 0], [Leaf(0, moves=((0, 0, 0),))], [(2, 0, TRAP)]),
            id="in a table",
        ),
    ],
)
def test_traps_fail(spin: Spin, program: Program) -> None:
    """Where the engine traps, an assertion fails."""
    assert Engine(program).explore().status == "trap"
    assert spin(program, names(program)).errors == 1


def test_impossible_values_do_not_fail(spin: Spin) -> None:
    """A TRAP that is not reached is no error."""
    nodes = (TEST, 0, 3, 6, 6, TRAP, LEAF, 0)
    program = tiny([3], [(0,)], nodes, [Leaf(0, moves=((0, 0, 0),))], [(1, 0, TRAP)])
    assert spin(program, names(program)) == Verdict(2, 0)


@pytest.mark.parametrize("seed", [8, 26, 49])
def test_random_programs(spin: Spin, seed: int) -> None:
    """Spin and the engine agree about programs without any structure."""
    program = replace(test_engine.random_program(random.Random(seed)), state_roots=())
    states = Engine(program).explore().states
    assert spin(program, names(program)) == Verdict(states, 0)


@pytest.mark.parametrize(
    ("bound", "part"),
    [
        pytest.param(Bound(1, 2, 2), WHOLE, id="1,2,2"),
        pytest.param(Bound(2, 2, 2), COARSEST, id="2,2,2 sliced"),
        pytest.param(Bound(2, 1, 1), WHOLE, id="2,1,1"),
    ],
)
def test_designs(
    spin: Spin,
    tables_of: Callable[[Design, Bound], Tables],
    design: Design,
    bound: Bound,
    part: Slice,
) -> None:
    """Spin and the engine agree about the designs."""
    tables = tables_of(design, bound)
    model = program(tables, Request(ORDINARY, slice=part))
    states = Engine(model).explore().states
    assert spin(model, [cell.name for cell in tables.space.cells]) == Verdict(states, 0)


def test_bad_names_are_rejected() -> None:
    """Cells need names that are different and that Promela can read."""
    program = tiny([2, 2], [(0, 0)], [CHOICE, 0], [])
    for bad in (["a"], ["a", "a"], ["a.b", "a_b"], ["a", "1"], ["a", "b c"]):
        with pytest.raises(ValueError):
            to_promela(program, bad, "")
