"""The initial state: one task in user mode, its group and its mm, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import z3

from model.designs import Design
from model.state import FIRST_TASK, Field, Group, Mapping, Record, Sort, Task, fields
from model.world import Cond
from shstk.proof.batch import Batch, batch
from shstk.proof.forking import Fork
from shstk.proof.ground import Universal
from shstk.proof.instances import instantiate
from shstk.proof.invariants import Invariant
from shstk.proof.problem import Problems
from shstk.proof.sorts import INDEX, encode, unbounded
from shstk.proof.world import SymbolicWorld


def initial_batch(design: Design, pool: Sequence[Invariant]) -> Batch:
    """That every claim of the pool holds in the initial state."""
    universe = unbounded()
    problems = Problems(universe, design, pool)
    world = SymbolicWorld(universe, design, Fork(prune=False), problems.old)
    first = {s: z3.Const(f"first.{s.value}", universe.sorts[s]) for s in Sort}
    start: dict[Field[Any], Any] = {}
    for field in fields(Task):
        if field.name in FIRST_TASK:
            value = FIRST_TASK[field.name]
            start[field] = first[field.sort] if field.sort else encode(universe, field, value)

    def initially(record: type[Record], *index: Any) -> z3.BoolRef:
        same = []
        for f in fields(record):
            nothing = encode(universe, f, f.values[0])
            if f in start:
                nothing = z3.If(index[0] == first[Sort.TASK], start[f], nothing)
            same.append(problems.base[f](*index) == nothing)
        return z3.And(*same)

    universals = []
    for record in (Task, Group, Mapping):

        def body(*index: Any, record: type[Record] = record) -> Cond:
            return world.cond(initially(record, *index))

        schema = problems.grounder.schema(INDEX[record], body)  # type: ignore[arg-type]
        name = f"initial {record.__name__}"
        universals.append(Universal(name, None, INDEX[record], body, schema=schema))  # type: ignore[arg-type]
    real = [universe.is_object(s, t) for s, t in first.items()]
    premises = [*universe.axioms, *real]
    goals: dict[str, Any] = {}
    places: list[tuple[Any, ...]] = [(t,) for t in first.values()]
    for claimed, where, more in problems.state_claims():
        goals[claimed.name] = z3.Not(claimed.negated)
        places += where
        universals += more
    premises += [made.formula for _, made in instantiate(problems.grounder, universals, places)]
    return batch("initial state", premises, goals)
