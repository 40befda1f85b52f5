"""What others can see of the events inside a step, and no claim has to ask for."""

from __future__ import annotations

from model.events import (
    Allocated,
    CloneFailed,
    CloneStarted,
    Event,
    ExecStarted,
    Failed,
    FeatureChanged,
    FutexWoken,
    Retried,
    Unmapped,
    Warned,
)
from model.state import Record
from model.world import Cond

# Which fields of an event others can see.  What the rest say is in the state, or is a choice.
OBSERVED: dict[type[Event], tuple[str, ...]] = {
    Allocated: ("addr", "size"),
    Unmapped: ("mm", "addr"),
    Warned: ("what", "cause"),
    Failed: ("task", "errno"),
    FutexWoken: ("task",),
}
IN_THE_STATE = (CloneFailed, CloneStarted, ExecStarted, FeatureChanged, Retried)


def observed(event: Event) -> dict[str, object]:
    """What others can see of an event, its type included: terms, or constants."""
    names = OBSERVED.get(type(event))
    if names is None:  # of one that is not listed: all but what claims ask
        names = tuple(n for n, v in vars(event).items() if not isinstance(v, (Cond, bool)))
    values = {name: getattr(event, name) for name in names}
    return {
        "event": type(event),
        **{n: v.index[0] if isinstance(v, Record) else v for n, v in values.items()},
    }
