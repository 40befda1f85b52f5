"""What solvers say to the theorems about single moves, of all designs; asked once."""

from __future__ import annotations

from functools import cache

from model.designs import DESIGNS, Design
from shstk.proof.cpu_theorems import Theorem, batches, cpu_theorems
from shstk.proof.solvers import Result, solve

#: What is not true of a design, and by what move it is refuted.
REFUTED = {
    "linux-6.12": {("failed-x32-delivery", "deliver-x32")},
    "v1": {
        ("no-new-token", "deliver"),
        ("frame-is-no-token", "deliver"),
        ("frame-is-no-address", "deliver"),
        ("failed-delivery", "deliver"),
        ("failed-x32-delivery", "deliver-x32"),
        ("only-a-frame", "sigreturn"),
        ("installed-aligned", "sigreturn"),
    },
}


@cache
def answers(solver: str) -> dict[tuple[str, str], Result]:
    """By batch and goal.  What designs have in common is one batch."""
    theorems = [t for name in REFUTED for t in cpu_theorems(DESIGNS[name])]
    asked = batches(theorems)
    assert len({b.name for b in asked}) == len(asked) - 2  # guard gaps differ, in two
    results, interrupted = solve(asked, solver, cache=False)
    assert not interrupted
    goals = [(b, g) for b in asked for g in b.goals]
    return {(b.script(g), g.name): r for (b, g), r in zip(goals, results, strict=True)}


def refuted(design: Design, solver: str) -> set[tuple[str, str]]:
    """Statement and move of each goal that is refuted; all others have to be proved."""
    said = answers(solver)
    open_ = set()
    for one in cpu_theorems(design):
        for batch in one.batches:
            for goal in batch.goals:
                status = said[batch.script(goal), goal.name].status
                assert status in ("unsat", "sat"), (batch.name, goal.name)
                if status == "sat":
                    open_.add((one.name, goal.name.partition(":")[0]))
    return open_


def named(design: Design, id: str) -> Theorem:
    """A theorem by the statement's name."""
    return next(t for t in cpu_theorems(design) if t.name == id)
