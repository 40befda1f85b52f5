"""What follows on a path: asked with the hinted instances first, then, where need be, with all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import z3

from shstk.proof.asserted import Asserted, Every, Guards
from shstk.proof.ground import Instance
from shstk.proof.instances import Only
from shstk.proof.problem import Premises, Problem

NOT_ASKED = "not asked"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Found:
    """What a path has shown: claims that fail on it, and the lemmas that the others need.

    ``unknown`` are those of the failing that the solver gave up on.
    """

    path: str
    failing: tuple[str, ...]
    unknown: tuple[str, ...]
    needed: frozenset[str]


@dataclass(frozen=True)
class Proof:
    """Claims of a path, by number, that follow from some premises.

    ``late``: from no hinted ones, but from all.
    """

    claims: tuple[int, ...]
    premises: Premises
    late: bool = False


Answer = tuple[list[Proof], dict[int, str]]  # what follows; what does not, and why


class PathSolver:
    """A problem, asked about with the hinted premises, or, where these are too few, with all."""

    def __init__(self, problem: Problem, only: Only, guards: Guards) -> None:
        self.problem = problem
        self.failing: dict[int, str] = {}  # of whatever was asked
        self.used: Premises = []  # the premises of the last proof of all claims
        self.ever: dict[int, tuple[str, Instance]] = {}  # of any proof, by the instance's id
        self._few = Asserted(problem, problem.premises_at(only), guards)

    @cached_property
    def all(self) -> Asserted:
        """With every instance."""
        return Every(self._few)

    @cached_property
    def names(self) -> list[str]:
        """The claims' names, by their numbers."""
        return [c.name for c in self.problem.claims]

    def pending(self, kept: Collection[str], events: bool = True) -> list[int]:
        """The claims that are still to be proved; those about events, if they are asked for."""
        return [
            n
            for n, c in enumerate(self.problem.claims)
            if n not in self.failing
            and (c.name in kept if c.kind == "invariant" else events or c.kind == "need")
        ]

    # -- claims ------------------------------------------------------------------------
    def check(self, kept: frozenset[str], wanted: Sequence[int]) -> Answer:
        """Which of these claims follow, and which do not."""
        proofs, hard = self._hinted(kept, wanted)
        failing = dict[int, str]()
        while hard:
            bad = self._failing(kept, hard)
            if not bad:
                proofs.append(Proof(tuple(hard), self._noted(self.all.core())))
                break
            failing |= bad
            hard = [n for n in hard if n not in bad]
        return proofs, failing

    def events(self, kept: frozenset[str], wanted: Sequence[int], failed: set[str]) -> Answer:
        """The same of claims about events, once it is known what can be kept.

        What does not follow from the hinted instances is asked with all; but a conjunct that
        has ``failed`` somewhere is not proved, and so is not asked again.
        """
        proofs, hard = self._hinted(kept, wanted)
        failing = dict[int, str]()
        late: list[int] = []
        used: Premises = []
        for n in hard:
            name = conjunct(self.names[n])
            if name in failed:
                failing[n] = NOT_ASKED
            elif bad := self._failing(kept, [n]):
                failing |= bad
                failed.add(name)
            else:
                late.append(n)
                used += self.all.core()
        if late:
            proofs.append(Proof(tuple(late), self._noted(distinct(used)), late=True))
        return proofs, failing

    def proof(self, kept: frozenset[str], wanted: Sequence[int]) -> Premises | None:
        """The premises from which these claims follow; None: they do not, as far as is known."""
        proofs, hard = self._hinted(kept, wanted)
        used = [p for proof in proofs for p in proof.premises]
        if hard:
            if self.all.ask(kept, hard) != z3.unsat:
                return None
            used += self._noted(self.all.core())
        return distinct(used)

    def missing(self, kept: Collection[str], lemma: str) -> list[str]:
        """Claims of the path that do not follow without a lemma; there may be others."""
        rest = frozenset(kept) - {lemma}
        wanted = [n for n in self.pending(kept) if self.names[n] != lemma]
        if not wanted or self.proof(rest, wanted) is not None:
            return []
        # Those that are false in a model, where the solver has one.
        false = self.all.false(wanted) if self.all.ask(rest, wanted) == z3.sat else []
        return [self.names[n] for n in false]

    def _hinted(self, kept: frozenset[str], wanted: Sequence[int]) -> tuple[list[Proof], list[int]]:
        """What follows from hinted premises, and the other claims."""
        easy, hard = list(wanted), list[int]()
        while easy:
            answer = self._few.ask(kept, easy)
            if answer == z3.unsat:
                return [Proof(tuple(easy), self._noted(self._few.core()))], sorted(hard)
            false = self._few.false(easy) if answer == z3.sat else []
            false = false or easy
            hard += false
            easy = [n for n in easy if n not in false]
        return [], sorted(hard)

    def _failing(self, kept: frozenset[str], hard: Sequence[int]) -> dict[int, str]:
        """Some of these claims that fail with every instance, and why; none: there is a proof."""
        answer = self.all.ask(kept, hard)
        if answer == z3.unsat:
            return {}
        why, bad = "sat", self.all.false(hard) if answer == z3.sat else []
        if not bad:
            # One by one, so that only what is hard is given up.
            why = UNKNOWN
            bad = [n for n in hard if self.all.ask(kept, [n]) != z3.unsat] or [*hard[:1]]
        failing = dict.fromkeys(bad, why)
        self.failing |= failing
        return failing

    def _noted(self, used: Premises) -> Premises:
        self.ever.update((made.id, (name, made)) for name, made in used)
        return used

    # -- what can happen ------------------------------------------------------------------
    def possible(self, kept: Collection[str]) -> Any:
        """Can the path be taken, as far as is known?"""
        return self.all.possible(kept)

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
        self._noted(used)
        return frozenset(events[n].name for n in found), used


def conjunct(goal: str) -> str:
    """The conjunct that an event's goal is about: the number of the event is left out."""
    return goal.rsplit(" ", 1)[0]


def distinct(premises: Premises) -> Premises:
    """Each premise once."""
    return list({made.id: (name, made) for name, made in premises}.values())


def lemmas(premises: Premises) -> frozenset[str]:
    """Of which lemmas these premises are instances."""
    return frozenset(name for name, _ in premises) - {""}
