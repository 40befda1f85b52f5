"""Answering a question: explore, find the run behind each violation, refine the slice.

What is found in the finite world is found once for all designs whose text is the same there:
they differ in what comes of a violation on the reference machine.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

from counterexamples.trace import Trace, TraceStep
from model.designs import Design
from model.kernel import STEPS
from model.reference.machine import NotNow
from shstk.build import CLAIMS, Request, Tables, program
from shstk.cache import FINITE, digest, explored_sources, put_shared, shared_by
from shstk.collecting import seldom_collected
from shstk.concretize import Concretizer
from shstk.engine import Engine, Hit, Progress, Result, TrapError
from shstk.footprint import Observed
from shstk.loader import design_files
from shstk.outlook import Outlook
from shstk.plan import Question, slices
from shstk.reference import has_machine, replay_on_reference
from shstk.replay import Successor, Taken, replay, violation
from shstk.slices import Slice
from shstk.space import Space
from shstk.table_cache import Names, tables_under


@dataclass(frozen=True)
class Site:
    """A violated conjunct, the step it is violated in, and a shortest run to there."""

    claim: int
    step: str
    trace: Trace


@dataclass
class Coverage:
    """How far one slice was explored."""

    slice: Slice
    claims: int
    status: str  # complete, memory, states, interrupted
    states: int
    transitions: int
    depth: int
    seconds: float
    peak_bytes: int
    saturated: bool
    witnessed: int  # mask
    not_expanded: int


@dataclass
class Answer:
    """All that was found out about a question."""

    question: Question
    coverage: list[Coverage] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    refined: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def interrupted(self) -> bool:
        """The user stopped it."""
        return any(c.status == "interrupted" for c in self.coverage)


class TextFailure(Exception):
    """The text of a design raised an exception: one line, with the place."""


def text_failure(error: Exception, design: Design) -> TextFailure:
    """Say where in the text an exception came from: in the design's own file, if it was there."""
    frames = traceback.extract_tb(error.__traceback__)
    own, *bases = [str(p) for p in design_files(design)]
    places = [f for f in frames if f.filename == own] or [f for f in frames if f.filename in bases]
    place = places[-1] if places else None
    where = f"{Path(place.filename).name}:{place.lineno}, in {place.name}: " if place else ""
    said = " ".join(str(error).split())[:200]
    return TextFailure(f"design {design.name}: {where}{type(error).__name__}: {said}")


# What the text of a design can raise, and what our own engines do when it misleads them.
TEXT_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError),
    *(MemoryError, RuntimeError, TypeError, ValueError),
)


@contextmanager
def text_failures(design: Design) -> Iterator[None]:
    """Whatever the text of a design raises in here is a TextFailure."""
    try:
        yield
    except TEXT_ERRORS as error:
        raise text_failure(error, design) from None


class InternalError(RuntimeError):
    """Two of our own engines disagree, or the text reached an impossible value."""


def answer(
    question: Question, design: Design, progress: Callable[[str], None] | None = None
) -> Answer:
    """Explore every slice of a question.

    A violation that no run of the text has is the slice's own: its claims are explored
    again with more variables, in the end with all.
    """
    with text_failures(design), seldom_collected():
        return _answer(question, design, progress)


def answer_to(argument: tuple[Question, Design], tell: Callable[[str], None]) -> Answer:
    """The same as a task for ``shstk.pool``."""
    return answer(argument[0], argument[1], tell)


def _answer(question: Question, design: Design, progress: Callable[[str], None] | None) -> Answer:
    start = time.perf_counter()
    try:
        tables, names = tables_under(design, question.bound, progress)
    except KeyboardInterrupt:
        nothing = Coverage(Slice(frozenset()), 0, "interrupted", 0, 0, 0, 0.0, 0, False, 0, 0)
        return Answer(question, [nothing])
    todo = slices(tables, question)
    what = _what(question, todo)
    known = shared_by(what, "explored", design)
    if known is not None:
        out = _taken(cast(Known, known), question, design)
    else:
        asking = _Asking.of(question, design, tables)
        out = _explored(asking, todo, progress)
        if asking.whole:
            asked = _asked(question, names) | asking.observed.asked
            put_shared(what, "explored", design, asked, Known.of(out, asking.tried))
    out.seconds = time.perf_counter() - start
    return out


# -- what designs share --------------------------------------------------------------
@dataclass(frozen=True)
class Known:
    """A whole answer as far as the finite world gives it.

    ``tried`` are all sites that a run was found for, in that order, their traces without an
    aftermath; ``sites`` the places of the answer's among them.
    """

    coverage: list[Coverage]
    tried: list[Site]
    sites: list[int]
    refined: list[str]

    @classmethod
    def of(cls, answer: Answer, tried: Sequence[Site]) -> Known:
        """Without what is the design's own."""
        places = {id(site): number for number, site in enumerate(tried)}
        finite = [replace(s, trace=replace(s.trace, aftermath=())) for s in tried]
        sites = [places[id(site)] for site in answer.sites]
        return cls(answer.coverage, finite, sites, answer.refined)


def _what(question: Question, todo: Sequence[tuple[int, Slice]]) -> str:
    """All that an answer depends on besides what is asked of the design.

    How much memory there is does not change an answer that is complete.
    """
    asked = {n: v for n, v in vars(question).items() if n not in ("design", "memory")}
    words = {n: sorted(v) if isinstance(v, frozenset) else v for n, v in asked.items()}
    # What a claim reads is known from all steps, those of other environments among them.
    apart = [(mask, sorted(slice_.merged)) for mask, slice_ in todo]
    return f"{_finite_text()} {words} {apart}"


def _asked(question: Question, names: Names) -> set[str]:
    """What the claims and the steps that can happen have asked of the design."""
    off = {step.name for step in STEPS if step.family not in question.families}
    return {name for piece, asked in names.items() if piece not in off for name in asked}


@cache
def _finite_text() -> str:
    """A digest of the finite world's text and ours, taken once: it is what this process runs."""
    claims = " ".join(claim.name for claim in CLAIMS)
    return digest(f"explored {claims}", explored_sources(FINITE), None)


def _taken(known: Known, question: Question, design: Design) -> Answer:
    """The answer of a design with the same text, for this one."""
    space, steps = Space(question.bound), Taken()
    sites = []
    # All that were tried: the reference machine has to go along with what was left out, too.
    for site in known.tried:
        trace = replace(site.trace, design=design.name)
        replays(trace, design, space, steps)
        sites.append(replace(site, trace=on_reference(trace, design)))
    return Answer(question, known.coverage, [sites[n] for n in known.sites], known.refined)


# -- exploring -----------------------------------------------------------------------
@dataclass
class _Asking:
    """A question while it is explored.

    ``observed`` is the design in the finite world, where it notes what it is asked for;
    ``tried`` has every site that a run was found for, ``steps`` what was replayed of them;
    ``whole``: nothing was cut short.
    """

    question: Question
    observed: Observed
    outlook: Outlook
    tried: list[Site] = field(default_factory=list)
    steps: Taken = field(default_factory=dict)
    whole: bool = True

    @classmethod
    def of(cls, question: Question, design: Design, tables: Tables) -> _Asking:
        """Before anything is explored."""
        observed = Observed(design)
        outlook = Outlook(replace(tables, design=observed.design), question.without)
        return cls(question, observed, outlook)

    def site(self, bit: int, step: str, run: Sequence[TraceStep]) -> Site:
        """A violation with its run, which goes in both worlds; else InternalError."""
        space, design = self.outlook.space, self.observed.whole
        trace = violation(space, design, CLAIMS[bit].name, run, self.question.environment)
        replays(trace, self.observed.design, space, self.steps)
        self.tried.append(Site(bit, step, on_reference(trace, design)))
        return self.tried[-1]


def _explored(
    asking: _Asking, todo: list[tuple[int, Slice]], progress: Callable[[str], None] | None
) -> Answer:
    """Every slice, and finer ones where a violation has no run."""
    out = Answer(asking.question)
    while todo:
        mask, slice_ = todo.pop(0)
        coverage, sites, spurious = _explore(asking, mask, slice_, progress)
        out.coverage.append(coverage)
        out.sites += sites
        if spurious:
            finer = _finer(slice_)
            names = ", ".join(CLAIMS[b].name for b in _bits(spurious))
            out.refined.append(f"{names}: {slice_} was too coarse, explored {finer}")
            todo.append((spurious, finer))
            coverage.claims &= ~spurious
        if coverage.status == "interrupted":
            break
    return out


def _finer(slice_: Slice) -> Slice:
    """The next slice to try: one more variable whole, partial merges first."""
    if not slice_.merged:
        raise InternalError("a violation of the whole model has no run of the text")
    order = ["kind", "exit", "off", "locked_shstk", "wrss", "locked_wrss"]
    return Slice(slice_.merged - {next(n for n in order if n in slice_.merged)})


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _explore(
    asking: _Asking, mask: int, slice_: Slice, progress: Callable[[str], None] | None
) -> tuple[Coverage, list[Site], int]:
    """One exploration: how far it got, the violations that have runs, the mask of the others."""
    question = asking.question
    request = Request(question.families, mask, slice_)
    engine = Engine(program(asking.outlook.tables, request))

    def report(p: Progress) -> None:
        if progress:
            progress(f"{question.design}: {p.states:,} states, depth {p.depth}")

    result = engine.explore(symmetry=question.symmetry, max_bytes=question.memory, progress=report)
    if result.trap is not None:
        raise InternalError(
            "a reachable state dereferences NULL (or has no group or mm): "
            f"{result.trap.kind}, at depth {engine.depth(result.trap.state)}"
        )
    asking.whole &= result.complete
    sites, spurious = _runs(asking, engine, result, slice_)
    if any(_soiled(site.trace) for site in sites):
        sites = _cleaner(asking, engine, slice_, sites)
    return _coverage(slice_, mask, result), sites, spurious


def _soiled(trace: Trace) -> bool:
    """Does the run pass through a violation before its last step?"""
    return any(step.violations for step in trace.steps[:-1])


def _cleaner(asking: _Asking, engine: Engine, slice_: Slice, sites: list[Site]) -> list[Site]:
    """Where there is a run without an earlier violation, that one, if longer.

    Violations that a clone's arguments decide (sizes) are not counted as earlier ones.
    """
    earlier = sum(1 << b for b, c in enumerate(CLAIMS) if not c.property.id.startswith("size-"))
    question = asking.question
    result = engine.explore(
        symmetry=question.symmetry, max_bytes=question.memory, prune=True, prune_mask=earlier
    )
    asking.whole &= result.complete
    done = frozenset((s.claim, s.step) for s in sites if not _soiled(s.trace))
    clean = {
        (s.claim, s.step): s
        for s in _runs(asking, engine, result, slice_, done)[0]
        if not _soiled(s.trace)
    }
    out = [clean.get((s.claim, s.step), s) if _soiled(s.trace) else s for s in sites]
    known = {(s.claim, s.step) for s in out}
    return out + [s for key, s in clean.items() if key not in known]


def _runs(
    asking: _Asking,
    engine: Engine,
    result: Result,
    slice_: Slice,
    done: Collection[tuple[int, str]] = (),
) -> tuple[list[Site], int]:
    """The sites that were hit, and the mask of the claims of which no hit has a run.

    ``done``: claims and steps that a run is known for, and none is looked for.
    """
    question, outlook, design = asking.question, asking.outlook, asking.observed.design
    space, without = outlook.space, question.without
    finder = Concretizer(space, design, engine, slice_, question.symmetry, without, outlook)
    tasks = space.bound.tasks
    hits = sorted(result.hits.values(), key=lambda h: (engine.depth(h.state), h.state, h.action))
    sites: list[Site] = []
    seen: set[tuple[int, str]] = set()
    found = failed = 0
    for hit in hits:
        bit = hit.violation
        # Of a claim about states only the first state counts: later ones are mostly its heirs.
        if hit.kind == "state" and (found | failed) >> bit & 1:
            continue
        step = STEPS[hit.action // tasks].name
        if (bit, step) in done:
            found |= 1 << bit
        if (bit, step) in seen or (bit, step) in done:
            continue
        run = _run(finder, hit)
        if run is None:
            failed |= 1 << bit
            continue
        seen.add((bit, step))
        found |= 1 << bit
        sites.append(asking.site(bit, step, run))
    return sites, failed & ~found


def replays(trace: Trace, design: Design, space: Space, known: Taken | None = None) -> None:
    """Execute a trace again, step by step, by the text itself; InternalError if it does not go."""
    verdict = replay(trace, design, space, known)
    if not verdict:
        raise InternalError(f"{trace.claim}: the trace does not replay: {verdict.reason}")


def on_reference(trace: Trace, design: Design) -> Trace:
    """The trace with what comes of it on the reference machine; InternalError if it does not go.

    Unchanged where there is no machine for the design's architecture.
    """
    if not has_machine(design):
        return trace
    try:
        found = replay_on_reference(trace, design)
    except NotNow as reason:
        raise InternalError(f"{trace.claim}: on the reference machine {reason}") from None
    if not found:
        raise InternalError(
            f"{trace.claim}: the trace does not replay on the reference machine: {found.reason}"
        )
    return replace(trace, aftermath=found.aftermath)


def _run(finder: Concretizer, hit: Hit) -> tuple[TraceStep, ...] | None:
    name = CLAIMS[hit.violation].name

    def accept(successor: Successor) -> bool:
        return name in successor.violations

    if hit.kind == "state":
        return finder.final(hit.state, accept)
    return finder.run(hit.state, (hit.action, accept), 1 << hit.violation)


def _coverage(slice_: Slice, mask: int, result: Result) -> Coverage:
    return Coverage(
        slice_,
        mask,
        result.status,
        result.states,
        result.transitions,
        len(result.levels) - 1,
        result.seconds,
        result.peak_bytes,
        any(result.saturated.get(bit, 0) for bit in range(4)),
        result.witnessed,
        result.states - result.expanded,
    )


__all__ = ["Answer", "Coverage", "InternalError", "Site", "TrapError", "answer", "answer_to"]
