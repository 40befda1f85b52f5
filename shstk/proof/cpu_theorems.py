"""The statements of ``properties.memory`` as obligations: one goal for each move.

A theorem is proved if every goal of every batch is: what its statement says of each move, on
every path, and that the paths of each move are all there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import z3

from model.cpu import INSTRUCTIONS
from model.designs.design import Design
from properties.memory import STATEMENTS, Statement
from shstk.proof.batch import Batch, batch
from shstk.proof.cpu_moves import MOVES, PAIRS, Move
from shstk.proof.cpu_paths import Path, Paths, paths_of, well_formed
from shstk.proof.cpu_step import SymbolicStep
from shstk.proof.cpu_world import any_registers
from shstk.proof.terms import as_bool

_NAMES = {f.__name__ for f in INSTRUCTIONS}


@dataclass(frozen=True)
class Theorem:
    """A statement about a design; ``property`` and ``conjunct`` are '' for a lemma."""

    property: str
    conjunct: str
    name: str
    sentence: str
    assumptions: tuple[str, ...]
    batches: tuple[Batch, ...]


@cache
def cpu_theorems(design: Design) -> tuple[Theorem, ...]:
    """Every statement, about this design.  That it can be proved is not said."""
    return tuple(theorem(statement, design) for statement in STATEMENTS.values())


def batches(theorems: Sequence[Theorem]) -> list[Batch]:
    """All batches of several theorems, each once: what covers a move is needed by many."""
    return list(dict.fromkeys(b for t in theorems for b in t.batches))


def theorem(statement: Statement, design: Design, moves: dict[str, Move] | None = None) -> Theorem:
    """One statement; ``moves`` replaces some of the moves by others of that name."""
    found = [paths_for(name, design, (moves or {}).get(name)) for name in statement.moves]
    plain = tuple(p for p in found if not p.design)
    kernel = tuple(p for p in found if p.design)
    gaps = design.guard_gaps if statement.asks_gaps else None
    said = []
    if plain:
        said.append(_plain(statement, plain, gaps))
    if kernel:
        name = f"{statement.id}: {design.name}"
        said.append(_batch(name, statement, kernel, gaps, design.prctl.shstk))
    return Theorem(
        *(statement.property, statement.conjunct, statement.id),
        *(statement.sentence, statement.assumptions),
        (*said, *(coverage(p) for p in found)),
    )


@cache
def _plain(statement: Statement, found: tuple[Paths, ...], gaps: str | None) -> Batch:
    """What is said of instructions, which is the same for all designs but for guard gaps."""
    return _batch(f"{statement.id}: instructions", statement, found, gaps, None)


def _batch(
    name: str, statement: Statement, found: tuple[Paths, ...], gaps: str | None, shstk: int | None
) -> Batch:
    claims = dict(goal for p in found for goal in _goals(statement, p, gaps, shstk))
    return batch(name, [well_formed(any_registers())], claims)


def _goals(
    statement: Statement, paths: Paths, gaps: str | None, shstk: int | None
) -> Iterator[tuple[str, z3.BoolRef]]:
    """What a statement says of a move, where it is not plain to see.

    Paths of which it says the same are one goal.
    """
    said: dict[tuple[int, int], tuple[Any, Any, list[Path]]] = {}
    for path in paths.paths:
        step = _step(path, gaps, shstk)
        premise = z3.simplify(as_bool(statement.premise(step)))
        if z3.is_false(premise):
            continue
        claim = z3.simplify(as_bool(statement.claim(step)))
        if not z3.is_true(claim):
            key = (premise.get_id(), claim.get_id())
            said.setdefault(key, (premise, claim, []))[2].append(path)
    for number, (premise, claim, taken) in enumerate(said.values(), 1):
        endings = " or ".join(sorted({p.ending for p in taken}))
        path_is_taken = z3.Or(*(p.condition for p in taken))
        yield (
            f"{paths.move}: {number}, {endings}",
            z3.Implies(z3.And(path_is_taken, premise), claim),
        )


@cache
def _step(path: Path, gaps: str | None, shstk: int | None) -> Any:
    """As ``properties.memory.vocabulary.Step``, whose words the type checker takes for ints."""
    return SymbolicStep(path, gaps, shstk)


@cache
def coverage(paths: Paths) -> Batch:
    """That the paths of a move are all there are."""
    premise = well_formed(any_registers())
    of = f"{paths.move}: {paths.design}" if paths.design else paths.move
    return batch(f"paths of {of}", [premise], {"no others": paths.covered})


def paths_for(name: str, design: Design, move: Move | None = None) -> Paths:
    """The paths of a move, or of another one in its stead."""
    kernel = name.partition("/")[0] not in _NAMES and name not in PAIRS
    if move is not None:
        return paths_of(name, move, design if kernel else None)
    return _kernel(name, design) if kernel else _instruction(name)


@cache
def _instruction(name: str) -> Paths:
    """The paths of an instruction are the same for all designs."""
    return paths_of(name, MOVES[name], None)


@cache
def _kernel(name: str, design: Design) -> Paths:
    return paths_of(name, MOVES[name], design)
