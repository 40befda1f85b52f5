"""Exploring for runs that violate properties, and which event families they use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from model.designs import Design
from model.kernel import STEPS
from shstk.build import CLAIMS, Request, Tables, program
from shstk.collecting import seldom_collected
from shstk.concretize import Concretizer
from shstk.engine import Engine, Hit
from shstk.outlook import Outlook
from shstk.plan import Question, slices
from shstk.replay import Successor
from shstk.search import answer, text_failures
from shstk.slices import Slice
from shstk.space import Space
from shstk.table_cache import tables as cached_tables
from shstk.used import used

Families = frozenset[str]
RUNS = 3  # violating runs taken from one exploration, for a property


@dataclass(frozen=True)
class Job:
    """Questions about the same properties, all without the same families.

    What one finds violated is not asked of the next.
    """

    design: Design
    questions: tuple[Question, ...]


@dataclass
class Found:
    """What was found without some families.

    ``runs``: by property, what violating runs use.  ``met``: properties whose premise some
    run makes true.
    """

    runs: dict[str, set[Families]] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    states: int = 0
    complete: bool = True


def violating(job: Job, tell: Callable[[str], None]) -> Found:
    """Explore; a task for ``shstk.pool``."""
    out = Found()
    with text_failures(job.design), seldom_collected():
        for asked in job.questions:
            open_ = asked.properties - out.runs.keys()
            if not open_:
                break
            question = replace(asked, properties=open_)
            tell(f"{job.design.name}: without {', '.join(sorted(question.without))}")
            tables = cached_tables(job.design, question.bound)
            for mask, slice_ in slices(tables, question):
                _explore(job.design, question, tables, mask, slice_, out)
    return out


def _explore(
    design: Design, question: Question, tables: Tables, mask: int, slice_: Slice, out: Found
) -> None:
    """One slice of a question, the violations that have runs, and the premises."""
    engine = Engine(program(tables, Request(question.families, mask, slice_)))
    result = engine.explore(symmetry=question.symmetry, max_bytes=question.memory)
    if result.status == "interrupted":
        raise KeyboardInterrupt
    out.complete &= result.complete
    out.states += result.states
    hits: dict[str, list[Hit]] = {}
    for hit in sorted(result.hits.values(), key=lambda h: (engine.depth(h.state), h.state)):
        hits.setdefault(CLAIMS[hit.violation].property.id, []).append(hit)
    for bit, claim in enumerate(CLAIMS):
        if result.witnessed & mask & 1 << bit:
            out.met.add(claim.property.id)
    without = question.without
    outlook = Outlook(tables, without)
    finder = Concretizer(tables.space, design, engine, slice_, question.symmetry, without, outlook)
    for id_, of in hits.items():
        runs = out.runs.setdefault(id_, set())
        runs |= _runs(tables.space, design, finder, _different(engine, tables.space, of))
        if not runs:  # the slice's own, perhaps: ask as `check` does
            only = replace(question, properties=frozenset({id_}))
            runs |= {used(tables.space, design, s.trace.steps) for s in answer(only, design).sites}
    out.runs = {id_: runs for id_, runs in out.runs.items() if runs}


def _different(engine: Engine, space: Space, hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose paths differ in the families of their steps, without those that only add some."""
    by_steps: dict[Families, Hit] = {}
    for hit in hits:
        actions = [engine.action(leaf) for leaf, _ in engine.path(hit.state)[1:]]
        if hit.kind == "step":
            actions.append(hit.action)
        by_steps.setdefault(frozenset(STEPS[a // space.bound.tasks].family for a in actions), hit)
    return [hit for steps, hit in by_steps.items() if not any(s < steps for s in by_steps)]


def _runs(space: Space, design: Design, finder: Concretizer, hits: Sequence[Hit]) -> set[Families]:
    """What the first violating runs use."""
    found: list[Families] = []
    for hit in hits:
        if len(found) == RUNS:
            break
        name = CLAIMS[hit.violation].name

        def accept(successor: Successor, name: str = name) -> bool:
            return name in successor.violations

        if hit.kind == "state":
            steps = finder.final(hit.state, accept)
        else:
            steps = finder.run(hit.state, (hit.action, accept), 1 << hit.violation)
        if steps is not None:
            found.append(used(space, design, steps))
    return set(found)
