"""Path forking: a text is run once for each sequence of decisions it can take.

A condition is a z3 term; asking for its truth is a decision.  Only a solver's *unsat* makes
one outcome of a decision impossible; *unknown* counts as possible.  That the paths of a
text cover everything is an obligation of its own (``covered``), proved like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import z3

from shstk.proof import lowlevel

T = TypeVar("T")
FEASIBLE_RLIMIT = 200_000  # z3 resource units for one question about feasibility


class Stop(Exception):
    """The text ends here: ``status`` says why (for example ``disabled``)."""

    def __init__(self, status: str, detail: str = "") -> None:
        super().__init__(detail or status)
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Decision:
    """A condition that was asked for, its outcome, and whether only that is possible."""

    condition: z3.BoolRef
    outcome: bool
    forced: bool
    shape: object = None  # the condition as it was written, where a world wants to keep that

    @property
    def term(self) -> z3.BoolRef:
        """What the outcome says."""
        return self.condition if self.outcome else lowlevel.negation(self.condition)


class Excluding:
    """What a solver excludes on the runs of a text: what they have in common is told it once."""

    def __init__(self) -> None:
        self._solver: z3.Solver | None = None
        self._given: list[z3.BoolRef] = []  # each behind a push

    def excluded(self, given: Sequence[z3.BoolRef], condition: z3.BoolRef) -> bool:
        """Nothing makes a condition true where all that is given is."""
        if self._solver is None:
            self._solver = z3.SimpleSolver()
            self._solver.set("rlimit", FEASIBLE_RLIMIT)
        common = 0
        for one, other in zip(self._given, given, strict=False):
            if not lowlevel.same(one, other):
                break
            common += 1
        if common < len(self._given):
            self._solver.pop(len(self._given) - common)
            del self._given[common:]
        for term in given[common:]:
            self._solver.push()
            self._solver.add(term)
            self._given.append(term)
        return bool(self._solver.check(condition) == z3.unsat)


@dataclass
class Fork:
    """One run along ``prefix``; beyond it, decisions are made as they come.

    ``prune``: a decision with only one possible outcome, as far as a solver knows, is forced.
    """

    prefix: Sequence[Decision] = ()
    prune: bool = True
    decisions: list[Decision] = field(default_factory=list)
    solver: Excluding = field(default_factory=Excluding)

    def decide(self, condition: z3.BoolRef, shape: object = None) -> bool:
        """The truth of a condition on this path."""
        condition = lowlevel.simplified(condition)
        known = lowlevel.value(condition)
        if known is not None:
            return known
        at = len(self.decisions)
        if at < len(self.prefix):
            decision = self.prefix[at]
        else:
            decision = replace(self._new(condition), shape=shape)
        self.decisions.append(decision)
        return decision.outcome

    def _new(self, condition: z3.BoolRef) -> Decision:
        known = self._known(condition)
        if known is not None:
            return Decision(condition, known, forced=True)
        if not self.prune:
            return Decision(condition, True, forced=False)
        given = [d.term for d in self.decisions]
        if self.solver.excluded(given, condition):
            return Decision(condition, False, forced=True)
        if self.solver.excluded(given, lowlevel.negation(condition)):
            return Decision(condition, True, forced=True)
        return Decision(condition, True, forced=False)

    def _known(self, condition: z3.BoolRef) -> bool | None:
        """The outcome, if the very same condition was decided before."""
        for d in self.decisions:
            if lowlevel.same(d.condition, condition):
                return d.outcome
        return None

    @property
    def condition(self) -> z3.BoolRef:
        """The path condition."""
        return z3.And(*(d.term for d in self.decisions))


@dataclass(frozen=True)
class Ending(Generic[T]):
    """A run that has ended: its path, and the text's result or why it stopped."""

    fork: Fork
    result: T | None
    stop: Stop | None


def endings(text: Callable[[Fork], T], prune: bool = True) -> Iterator[Ending[T]]:
    """Every run of a text, depth first.  ``prune``: leave out what a solver finds impossible."""
    stack: list[tuple[Decision, ...]] = [()]
    solver = Excluding()
    while stack:
        prefix = stack.pop()
        fork = Fork(prefix, prune, solver=solver)
        try:
            ending = Ending(fork, text(fork), None)
        except Stop as stop:
            ending = Ending(fork, None, stop)
        for at in range(len(fork.decisions) - 1, len(prefix) - 1, -1):
            d = fork.decisions[at]
            if not d.forced:
                other = replace(d, outcome=not d.outcome)
                stack.append((*fork.decisions[:at], other))
        yield ending


def covered(conditions: Sequence[z3.BoolRef]) -> z3.BoolRef:
    """That some path is taken, whatever the state and the inputs are."""
    return z3.Or(*conditions)
