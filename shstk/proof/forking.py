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
        return self.condition if self.outcome else z3.Not(self.condition)


@dataclass
class Fork:
    """One run along ``prefix``; beyond it, decisions are made as they come.

    ``prune``: a decision with only one possible outcome, as far as a solver knows, is forced.
    """

    prefix: Sequence[Decision] = ()
    prune: bool = True
    decisions: list[Decision] = field(default_factory=list)
    _solver: z3.Solver | None = None

    def decide(self, condition: z3.BoolRef, shape: object = None) -> bool:
        """The truth of a condition on this path."""
        condition = z3.simplify(condition)
        if z3.is_true(condition):
            return True
        if z3.is_false(condition):
            return False
        at = len(self.decisions)
        if at < len(self.prefix):
            decision = self.prefix[at]
        else:
            decision = replace(self._new(condition), shape=shape)
        self.decisions.append(decision)
        if self._solver is not None:
            self._solver.add(decision.term)
        return decision.outcome

    def _new(self, condition: z3.BoolRef) -> Decision:
        known = self._known(condition)
        if known is not None:
            return Decision(condition, known, forced=True)
        if not self.prune:
            return Decision(condition, True, forced=False)
        if self._solver is None:
            self._solver = z3.Solver()
            self._solver.set("rlimit", FEASIBLE_RLIMIT)
            self._solver.add(*(d.term for d in self.decisions))
        if self._solver.check(condition) == z3.unsat:
            return Decision(condition, False, forced=True)
        if self._solver.check(z3.Not(condition)) == z3.unsat:
            return Decision(condition, True, forced=True)
        return Decision(condition, True, forced=False)

    def _known(self, condition: z3.BoolRef) -> bool | None:
        """The outcome, if the very same condition was decided before."""
        for d in self.decisions:
            if d.condition.eq(condition):
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
    while stack:
        prefix = stack.pop()
        fork = Fork(prefix, prune)
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
