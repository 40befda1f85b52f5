"""A run told in one line a step, for formats that have no room for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterexamples.changed import changes
from counterexamples.named import Names
from counterexamples.render import BY_NAME, interesting
from counterexamples.trace import Trace
from counterexamples.why import explanation
from model.designs import Design, function_of, in_words, source_of

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Told:
    """A step: who does what, in which kernel function, and what changes with it.

    ``source``: the file of Linux, and its version, that the function was read from.
    ``place``: file and line of the step's text here, relative to the project; None where
    the step is not known.  ``function`` and ``source`` are empty then.
    """

    who: str
    what: str
    function: str = ""
    source: str = ""
    place: tuple[str, int] | None = None
    changes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """All but what changes."""
        where = f" [{self.function}, {self.source}]" if self.function else ""
        return f"{self.who}  {self.what}{where}"


def told(trace: Trace, design: Design) -> tuple[Told, ...]:
    """Every step of a run."""
    names = _named(trace, ())
    before, out = trace.initial, []
    for step in trace.steps:
        names.take(before, step)
        known = BY_NAME.get(step.step)
        meaning = known.meaning if known else step.step
        what = in_words("; ".join([meaning, *interesting(step.picks)]), design)
        seen = [f"{who} {what}" for who, what in changes(names, before, step.state, step.task)]
        seen += [names.words(note) for note in step.notes]
        words = tuple(in_words(each, design) for each in seen)
        who = names.task(step.task)
        if known:
            code = known.run.__code__
            place = (_relative(code.co_filename), code.co_firstlineno)
            where = function_of(known, design), source_of(known, design)
            out.append(Told(who, what, *where, place, words))
        else:
            out.append(Told(who, what, changes=words))
        before = step.state
    return tuple(out)


def why(trace: Trace, design: Design) -> str:
    """Why the end of a run violates the claim: one line."""
    names = _named(trace, trace.steps)
    return in_words(explanation(names, trace), design)


def _named(trace: Trace, steps: Sequence[object]) -> Names:
    """The names that objects have after some of the run's first steps."""
    names = Names()
    names.look(None, trace.initial)
    before = trace.initial
    for step in trace.steps[: len(steps)]:
        names.take(before, step)
        # Addresses are named when they are first spoken of.
        changes(names, before, step.state, step.task)
        for note in step.notes:
            names.words(note)
        before = step.state
    return names


def _relative(name: str) -> str:
    path = Path(name).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
