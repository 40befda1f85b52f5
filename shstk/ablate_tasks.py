"""What is asked about a design and its mutants, as tasks for the pool; answers are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from model.designs import Design
from shstk.ablation import Base, Seen, base_of, quieter, seen
from shstk.behaviour import Comparison as Lockstep
from shstk.behaviour import compared
from shstk.cache import digest, explored_sources, kept, whole_text
from shstk.parting import Parting
from shstk.plan import Question
from shstk.proof.equivalence import Comparison, Equivalence
from shstk.proof.invariants import named
from shstk.proof.solvers import identity
from shstk.search import TextFailure, text_failures

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A design against the original's answers: one question after the other, until it is caught."""

    number: int
    original: Design
    design: Design
    questions: tuple[Question, ...]
    bases: tuple[Base, ...]


def _kept(
    what: object,
    design: Design,
    make: Callable[[], T],
    whole: Callable[[T], bool],
    proof: bool = False,
) -> T:
    """An answer about a design, from an earlier run where there is one; ``proof``: by proof."""
    text = f"{identity('z3')} {whole_text()}" if proof else _explored_text()
    return kept(digest(f"ablate {text} {what}", (), design), "ablate", make, whole)


@cache
def _explored_text() -> str:
    """A digest of what explorations depend on, taken once: it is what this process runs."""
    return digest("ablate", explored_sources(), None)


def base(job: tuple[Question, Design], tell: Callable[[str], None]) -> tuple[Question, Base]:
    """What a design itself does."""
    question, design = job
    what = replace(question, memory=None)
    found = _kept(what, design, lambda: base_of(question, design, tell), lambda b: b.complete)
    return question, found


def quiet(job: tuple[Question, Design], tell: Callable[[str], None]) -> list[Question]:
    """Questions without the events by which the design itself violates a claim about states."""
    question, design = job
    what = ("quiet", replace(question, memory=None))
    found = _kept(what, design, lambda: quieter(question, design, tell), lambda _q: True)
    return [replace(q, memory=question.memory) for q in found]


def check(job: Job, tell: Callable[[str], None]) -> tuple[int, list[Seen]]:
    """The questions to a mutant, until something catches it; its number, and the answers."""
    out: list[Seen] = []
    for question, known in zip(job.questions, job.bases, strict=True):

        def ask(question: Question = question, known: Base = known) -> Seen:
            return seen(question, known, job.original, job.design, tell)

        what = replace(question, memory=None)
        out.append(_kept(what, job.design, ask, lambda s: s.complete or bool(s.failure)))
        if out[-1].catches or out[-1].interrupted or out[-1].failure:
            break
    return job.number, out


_equivalences: dict[tuple[str, tuple[str, ...]], Equivalence] = {}


@dataclass(frozen=True)
class Pair:
    """A design, a mutant that differs in what these hooks run, and what is proved of the design."""

    number: int
    original: Design
    design: Design
    hooks: frozenset[str]
    invariant: tuple[str, ...]


def compare(job: Pair, tell: Callable[[str], None]) -> tuple[int, Comparison]:
    """Is a mutant equivalent, or are the two at least alike?  Its number, and the answer."""
    tell(f"{job.design.name}: is it equivalent?")
    key = (job.original.name, job.invariant)

    def ask() -> Comparison:
        if key not in _equivalences:
            _equivalences[key] = Equivalence(job.original, named(job.invariant))
        try:
            with text_failures(job.design):
                same = _equivalences[key].compare(job.design, job.hooks)
                return same or _alike(_equivalences[key], job, same)
        except TextFailure as failure:
            return Comparison((), 0, str(failure))

    return job.number, _kept(job.invariant, job.design, ask, lambda _c: True, proof=True)


def _alike(equivalence: Equivalence, job: Pair, same: Comparison) -> Comparison:
    """The comparison that allows more; what the strict one has found where it fails, too."""
    found = equivalence.compare_alike(job.design, job.hooks)
    return found or same


def step_by_step(
    job: tuple[int, Lockstep], tell: Callable[[str], None]
) -> tuple[int, Parting | None, bool]:
    """A mutant's number, the shortest run after which it differs, and whether all was explored."""
    try:
        found = compared(job[1], tell)
    except TextFailure:
        return job[0], None, False
    first = min(found.partings, key=lambda p: p.length, default=None)
    return job[0], first, found.complete
