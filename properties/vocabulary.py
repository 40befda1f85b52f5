"""Properties, their conjuncts, and the words they share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from model.events import Event
from model.kernel.signal import fatal_signal_pending
from model.state import NULL, Ctl, Field, Record, Sort, Task
from model.world import Cond, World


class Judged(World, Protocol):
    """The world after a step, which also remembers the state before it."""

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""


Claim = Callable[..., Cond | bool]


@dataclass(frozen=True)
class Conjunct:
    """One part of a property.  ``holds`` is the claim, ``premise`` what makes it say anything."""

    name: str
    holds: Claim
    premise: Claim

    @property
    def where(self) -> str:
        """File and line the claim is written at, relative to the project."""
        path = Path(inspect.getsourcefile(self.holds) or "?")
        return f"{path.parent.name}/{path.name}:{self.holds.__code__.co_firstlineno}"


@dataclass(frozen=True)
class StateConjunct(Conjunct):
    """Holds of every reachable state: ``holds(k)``."""


@dataclass(frozen=True)
class TaskConjunct(StateConjunct):
    """Holds of every task in every reachable state: ``holds(k, task)``."""


@dataclass(frozen=True)
class EventConjunct(Conjunct):
    """Holds whenever an event of type ``event`` happens: ``holds(k, event)``."""

    event: type[Event]


@dataclass(frozen=True)
class LivenessConjunct(Conjunct):
    """A state where ``holds`` is false does not last for ever: ``holds(k, task)``, per task."""


@dataclass
class Property:
    """A claim about every design, with where it comes from."""

    id: str
    claim: str
    source: str
    conjuncts: list[Conjunct] = field(default_factory=list)
    assumption: str = ""

    @property
    def kind(self) -> str:
        """state, step or liveness."""
        kinds = {type(c) for c in self.conjuncts}
        if all(issubclass(k, StateConjunct) for k in kinds):
            return "state"
        return "liveness" if kinds == {LivenessConjunct} else "step"

    def always(self, name: str, premise: Claim) -> Callable[[Claim], Claim]:
        """Add a conjunct about every state."""

        def add(holds: Claim) -> Claim:
            self.conjuncts.append(StateConjunct(name, holds, premise))
            return holds

        return add

    def every_task(self, name: str, premise: Claim) -> Callable[[Claim], Claim]:
        """Add a conjunct about every task in every state."""

        def add(holds: Claim) -> Claim:
            self.conjuncts.append(TaskConjunct(name, holds, premise))
            return holds

        return add

    def whenever(
        self, event: type[Event], name: str, premise: Claim | None = None
    ) -> Callable[[Claim], Claim]:
        """Add a conjunct about an event."""

        def add(holds: Claim) -> Claim:
            self.conjuncts.append(EventConjunct(name, holds, premise or happens, event))
            return holds

        return add

    def eventually(self, name: str, premise: Claim) -> Callable[[Claim], Claim]:
        """Add a conjunct that may be false, but not for ever."""

        def add(holds: Claim) -> Claim:
            self.conjuncts.append(LivenessConjunct(name, holds, premise))
            return holds

        return add


PROPERTIES: dict[str, Property] = {}


def declare(id: str, claim: str, source: str, assumption: str = "") -> Property:
    """A new property, in the registry."""
    PROPERTIES[id] = Property(id, claim, source, assumption=assumption)
    return PROPERTIES[id]


def happens(_k: World, _event: Event) -> bool:
    """The premise of a conjunct that needs no more than its event."""
    return True


def can_run(tsk: Task) -> Cond:
    """In user mode, no fatal signal pending."""
    return (tsk.ctl == Ctl.USER) & ~fatal_signal_pending(tsk)


def on(tsk: Task) -> Cond:
    """Shadow stacks are on for the CPU."""
    return tsk.ssp != NULL


@dataclass(frozen=True)
class Lemma:
    """A claim that strengthens properties to something inductive: of all objects of ``sorts``.

    ``holds(k, *objects)`` is written in the words of properties.  A design need not satisfy it: of
    all lemmas together the largest set that a design's steps preserve is taken.
    """

    name: str
    sentence: str
    sorts: tuple[Sort, ...]
    holds: Claim

    @property
    def where(self) -> str:
        """File and line the lemma is written at, relative to the project."""
        path = Path(inspect.getsourcefile(self.holds) or "?")
        return f"{path.parent.name}/{path.name}:{self.holds.__code__.co_firstlineno}"


LEMMAS: dict[str, Lemma] = {}
CHAIN_LEMMAS: dict[str, Lemma] = {}


def lemma(name: str, sentence: str, *sorts: Sort) -> Callable[[Claim], Claim]:
    """Add a lemma to the pool; ``sorts`` are those of the objects it speaks about."""

    def add(holds: Claim) -> Claim:
        LEMMAS[name] = Lemma(name, sentence, sorts, holds)
        return holds

    return add


class Dated(World, Protocol):
    """The world of a proof, which remembers in which order tasks were made."""

    def older(self, t: Task, u: Task) -> Cond:
        """``t`` was made before ``u``."""


def chain_lemma(name: str, sentence: str, *sorts: Sort) -> Callable[[Claim], Claim]:
    """Add a lemma about vfork children on their parents' stacks; it may ask who is older.

    ``holds(k: Dated, *objects)``.  They are tried where no vfork wait can be abandoned.
    """

    def add(holds: Claim) -> Claim:
        CHAIN_LEMMAS[name] = Lemma(name, sentence, sorts, holds)
        return holds

    return add


@dataclass(frozen=True)
class Unread:
    """That nothing reads a variable of a task where ``when(k, task)`` is true.

    No design need satisfy it: it is used to compare two, and then it is proved of them.
    """

    field: Field[Any]
    sentence: str
    when: Claim


UNREAD: list[Unread] = []


def unread(field: object, sentence: str) -> Callable[[Claim], Claim]:
    """Add to the pool of what may be unread; ``sentence`` goes on from "which differs only in"."""

    def add(when: Claim) -> Claim:
        UNREAD.append(Unread(cast("Field[Any]", field), sentence, when))
        return when

    return add
