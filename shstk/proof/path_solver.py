"""What follows on a path: asked with the hinted instances first, then, where need be, with all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import z3

from shstk.proof.asserted import Asserted, Guards
from shstk.proof.ground import Instance
from shstk.proof.instances import Only
from shstk.proof.problem import Premises, Problem

NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Found:
    """What a path has shown: claims that fail on it, and the lemmas that the others need.

    ``unknown`` are those of the failing that the solver gave up on.
    """

    path: str
    failing: tuple[str, ...]
    unknown: tuple[str, ...]
    needed: frozenset[str]


class PathSolver:
    """A problem, asked about with the hinted premises, or, where these are too few, with all."""

    def __init__(self, problem: Problem, only: Only, guards: Guards) -> None:
        self.problem = problem
        self.failing: dict[int, str] = {}
        self.used: Premises = []  # the premises of the last proof of all claims
        self._last: tuple[Premises, frozenset[int]] = ([], frozenset())  # proof, claims proved
        self.ever: dict[int, tuple[str, Instance]] = {}  # of any proof, by the instance's id
        self._guards = guards
        self._few = Asserted(problem, problem.premises_at(only), guards)

    @cached_property
    def all(self) -> Asserted:
        """With every instance."""
        return Asserted(self.problem, self.problem.premises, self._guards)

    def pending(self, kept: Collection[str], events: bool = True) -> list[int]:
        """The claims that are still to be proved; those about events, if they are asked for."""
        return [
            n
            for n, c in enumerate(self.problem.claims)
            if n not in self.failing
            and (c.name in kept if c.kind == "invariant" else events or c.kind == "need")
        ]

    def proof(self, kept: Collection[str], wanted: Sequence[int]) -> Premises | None:
        """The premises from which these claims follow; None: they do not, as far as is known."""
        easy, hard = self._parted(kept, wanted)
        used = easy
        if hard:
            if self.all.ask(kept, hard) != z3.unsat:
                return None
            used = [*easy, *self.all.core()]
        self._note(used)
        return _distinct(used)

    def _parted(self, kept: Collection[str], wanted: Sequence[int]) -> tuple[Premises, list[int]]:
        """The hinted premises from which some claims follow, and the other claims."""
        easy, hard = list(wanted), list[int]()
        while easy:
            answer = self._few.ask(kept, easy)
            if answer == z3.unsat:
                return self._few.core(), hard
            false = self._few.false(easy) if answer == z3.sat else []
            false = false or easy
            hard += false
            easy = [n for n in easy if n not in false]
        return [], hard

    def _note(self, used: Premises) -> None:
        self.ever.update((made.id, (name, made)) for name, made in used)

    def possible(self, kept: Collection[str]) -> Any:
        """Can the path be taken, as far as is known?"""
        return self.all.possible(kept)

    @cached_property
    def claims(self) -> frozenset[str]:
        """The claims of the pool that are to be proved here, if they are kept."""
        return frozenset(c.name for c in self.problem.claims if c.kind == "invariant")

    def witnessed(
        self, kept: Collection[str], wanted: Collection[str]
    ) -> tuple[frozenset[str], Premises]:
        """Claims about events, of those wanted, whose premise may be true here.

        And the premises that exclude the others'.
        """
        events = self.problem.path.events
        found, used = self._few.witnessed(
            kept, [n for n, e in enumerate(events) if e.name in wanted]
        )
        if found:
            found, more = self.all.witnessed(kept, found)
            used = [*used, *more]
        self._note(used)
        return frozenset(events[n].name for n in found), used

    def missing(self, kept: Collection[str], lemma: str) -> list[str]:
        """Claims of the path that do not follow without a lemma; there may be others."""
        rest = set(kept) - {lemma}
        wanted = [n for n in self.pending(kept) if self.problem.claims[n].name != lemma]
        if not wanted or self.proof(rest, wanted) is not None:
            return []
        return [self.problem.claims[n].name for n in self._false(rest, wanted)]

    def _false(self, kept: Collection[str], wanted: Sequence[int]) -> list[int]:
        """Claims that are false in a model, where the solver has one."""
        return self.all.false(wanted) if self.all.ask(kept, wanted) == z3.sat else []

    def check(self, kept: Collection[str]) -> Found:
        """Every claim that others may rest on; those that fail once are not asked again."""
        easy, hard = self._parted(kept, self.pending(kept, events=False))
        used = easy
        while hard:
            bad, proof = self._failing(kept, hard)
            used = [*easy, *proof]
            hard = [n for n in hard if n not in bad] if bad else []
        self._note(used)
        self._last = used, frozenset(self.pending(kept, events=False))
        claims = self.problem.claims
        # What failed before fails again, should it be asked.
        failing = [n for n in self.failing if claims[n].kind == "need" or claims[n].name in kept]
        unknown = [claims[n].name for n in failing if self.failing[n] == "unknown"]
        names = tuple(claims[n].name for n in failing)
        return Found(self.problem.path.name, names, tuple(unknown), lemmas(used))

    def _failing(self, kept: Collection[str], hard: Sequence[int]) -> tuple[list[int], Premises]:
        """Some of these claims that fail with every instance; or none, and their proof."""
        answer = self.all.ask(kept, hard)
        if answer == z3.unsat:
            return [], self.all.core()
        why, bad = "sat", self.all.false(hard) if answer == z3.sat else []
        if not bad:
            # One by one, so that only what is hard is given up.
            why = "unknown"
            bad = [n for n in hard if self.all.ask(kept, [n]) != z3.unsat] or [*hard[:1]]
        self.failing |= dict.fromkeys(bad, why)
        return bad, []

    def events(self, kept: Collection[str], failed: set[str]) -> frozenset[str]:
        """Every claim about an event, once it is known what can be kept.

        What does not follow from the hinted instances is asked with all; but a conjunct that
        has ``failed`` somewhere is not proved, and so is not asked again.  Returns what only
        all instances prove.
        """
        known, proved = self._last
        if not lemmas(known) <= frozenset(kept):
            known, proved = [], frozenset()
        easy, hard = self._parted(kept, [n for n in self.pending(kept) if n not in proved])
        late: list[int] = []
        for n in hard:
            claimed = self.problem.claims[n]
            # What is written through has to be there on every path.
            name = conjunct(claimed.name) if claimed.kind == "event" else ""
            if name in failed:
                self.failing[n] = NOT_ASKED
            elif not self._failing(kept, [n])[0]:
                late.append(n)
            elif name:
                failed.add(name)
        proof = self.proof(kept, late) if late else []
        self.used = _distinct([*known, *easy, *(proof or [])])
        self._note(self.used)
        return frozenset(self.problem.claims[n].name for n in late)


def conjunct(goal: str) -> str:
    """The conjunct that an event's goal is about: the number of the event is left out."""
    return goal.rsplit(" ", 1)[0]


def _distinct(premises: Premises) -> Premises:
    """Each premise once."""
    return list({made.id: (name, made) for name, made in premises}.values())


def lemmas(premises: Premises) -> frozenset[str]:
    """Of which lemmas these premises are instances."""
    return frozenset(name for name, _ in premises) - {""}
