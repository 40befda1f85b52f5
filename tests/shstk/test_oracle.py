"""The engine over decision tables finds what brute force over the text finds."""

from __future__ import annotations

from collections.abc import Callable

import oracle
import pytest

from model.designs import Design
from model.kernel import FAMILIES
from shstk.build import CLAIMS, Request, Tables, program
from shstk.engine import Engine
from shstk.space import Bound

ALL = frozenset(FAMILIES)
CLONES = frozenset(
    {
        "kernel",
        "vfork-abandon",
        "enable",
        "thread",
        "vfork",
        "late-clone-failure",
        "sigkill",
        "exit",
    }
)


@pytest.mark.parametrize(
    ("bound", "families", "depth"),
    [
        pytest.param(Bound(1, 1, 1), ALL, None, id="1-1-1"),
        pytest.param(Bound(2, 1, 1), CLONES, None, id="2-1-1-clones"),
        pytest.param(Bound(2, 1, 1), ALL, 3, id="2-1-1-all"),
        pytest.param(Bound(1, 1, 2), ALL, 4, id="1-1-2-all"),
        pytest.param(Bound(1, 2, 2), ALL, 3, id="1-2-2-all"),
    ],
)
def test_the_engine_finds_what_brute_force_finds(
    tables_of: Callable[[Design, Bound], Tables],
    design: Design,
    bound: Bound,
    families: frozenset[str],
    depth: int | None,
) -> None:
    """States, depths, transitions, violated claims and premises are the same."""
    tables = tables_of(design, bound)
    engine = Engine(program(tables, Request(families)))
    result = engine.explore(max_depth=depth)
    assert result.status == ("complete" if depth is None else "depth")
    found = oracle.explore(tables.space, design, families, depth)

    states = {engine.state(number): engine.depth(number) for number in range(result.states)}
    assert len(states) == result.states, "the engine has a state twice"
    assert states == found.depth

    violated: dict[int, int] = {}
    for (bit, _action), hit in result.hits.items():
        at = engine.depth(hit.state) + (hit.kind == "step")
        violated[bit] = min(at, violated.get(bit, at))
    assert named(violated) == named(found.violated)
    assert violated or bound.tasks == 1 or depth, "nothing to compare"

    witnessed = {bit: engine.depth(w.state) + (w.leaf >= 0) for bit, w in result.witnesses.items()}
    assert named(witnessed) == named(found.witnessed)


def named(depths: dict[int, int]) -> dict[str, int]:
    """Depths by the claims' names."""
    return {CLAIMS[bit].name: depth for bit, depth in depths.items()}
