"""What paths have shown, for whoever asks again: as often another design.

Most steps are the same text in most designs, and of those that are not most paths are the
same: what is assumed there, what changes, what is claimed.  What was found out on a path, where
some lemmas were assumed, is an answer also where others are, if it follows:

* what was proved, as long as the lemmas that the proof used are assumed;
* what failed, as long as no more is assumed.

Whatever does not follow is not answered, and asked of the path itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from shstk.proof.batch import Batch
from shstk.proof.path_solver import NOT_ASKED, Found, conjunct
from shstk.proof.proved import Proved


@dataclass(frozen=True)
class Checked:
    """What a path has shown of the claims that others may rest on, when ``kept`` was assumed."""

    kept: frozenset[str]
    claims: frozenset[str]  # about states: those of the pool that the path may break
    found: Found

    def answer(self, kept: frozenset[str]) -> Found | None:
        """The same where something else is assumed, if that follows."""
        f = self.found
        failing = tuple(n for n in f.failing if n in kept or n not in self.claims)
        proved = (self.claims & self.kept).difference(f.failing)
        asked = (self.claims & kept).difference(failing)
        if not (f.needed <= kept and asked <= proved):
            return None
        if (failing and not kept <= self.kept) or (f.unknown and kept != self.kept):
            return None
        return replace(f, failing=failing, unknown=tuple(n for n in f.unknown if n in failing))


@dataclass(frozen=True)
class Ended:
    """A path's obligations when ``kept`` was assumed; ``open``: what fails of events, and why."""

    kept: frozenset[str]
    claims: frozenset[str]
    needed: frozenset[str]
    open: dict[str, str]
    proved: Proved

    def answer(self, kept: frozenset[str], failed: set[str]) -> Proved | None:
        """The obligations where something else is kept, if they follow; ``failed`` as they go."""
        goals = {g.name for g in self.proved.batch.goals}
        if not (self.needed <= kept and self.claims & kept <= goals):
            return None
        bad = self.open or self.proved.unsafe
        if (bad and not kept <= self.kept) or (self.proved.unknown and kept != self.kept):
            return None
        if any(why == NOT_ASKED and conjunct(g) not in failed for g, why in self.open.items()):
            return None
        failed |= {conjunct(g) for g in self.open}
        left = tuple(
            g for g in self.proved.batch.goals if g.name in kept or g.name not in self.claims
        )
        return replace(self.proved, batch=replace(self.proved.batch, goals=left))


@dataclass(frozen=True)
class Witnessed:
    """Whether the premises of some claims about events may be true, when ``kept`` was assumed."""

    kept: frozenset[str]
    said: dict[str, bool]
    needed: frozenset[str]  # what excludes those that may not

    def answer(self, kept: frozenset[str], events: Collection[str]) -> frozenset[str] | None:
        """Of these events those that may, where something else is assumed, if that follows."""
        if not self.said.keys() >= set(events):
            return None
        true = frozenset(e for e in events if self.said[e])
        if (true and not kept <= self.kept) or (
            len(true) < len(events) and not self.needed <= kept
        ):
            return None
        return true


@dataclass
class PathRecord:
    """What a path has shown, whatever its name is in a design."""

    checked: list[Checked] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    witnessed: list[Witnessed] = field(default_factory=list)

    def check(self, path: str, kept: frozenset[str]) -> Found | None:
        """As ``PathSolver.check``, if that is known; ``path`` is the name."""
        answers = (c.answer(kept) for c in self.checked)
        known = next((a for a in answers if a is not None), None)
        return known and replace(known, path=path)

    def end(self, path: str, kept: frozenset[str], failed: set[str]) -> Proved | None:
        """The obligations of the path of that name, if they are known."""
        answers = (e.answer(kept, failed) for e in self.ended)
        known = next((a for a in answers if a is not None), None)
        return known and replace(known, path=path, batch=replace(known.batch, name=path))

    def witness(self, kept: frozenset[str], events: Collection[str]) -> frozenset[str] | None:
        """As ``PathSolver.witnessed``, if that is known."""
        answers = (w.answer(kept, events) for w in self.witnessed)
        return next((a for a in answers if a is not None), None)


@dataclass(frozen=True)
class Record:
    """Of a step: its paths that end, and that these are all."""

    paths: tuple[str, ...]
    coverage: Batch
    events: dict[str, tuple[str, ...]]  # by path, the conjuncts that its events are about
    prints: dict[str, str]  # by path, its fingerprint
