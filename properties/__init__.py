"""What must hold: one small file per family, each property with its source.

A property is a set of named *conjuncts*.  A conjunct speaks of a state, or of an event
inside a step; it is written once, in the vocabulary of the text (``& | ~``, ``exists``),
and every world evaluates it.  Beside each conjunct stands its premise: a condition that
must be reachable, so that nothing holds because nothing happens.
"""

from properties import bookkeeping, clone, freeing, liveness, sharing, sizes, switching
from properties.vocabulary import (
    PROPERTIES,
    Conjunct,
    EventConjunct,
    LivenessConjunct,
    Property,
    StateConjunct,
    TaskConjunct,
)

__all__ = [
    "PROPERTIES",
    "Conjunct",
    "EventConjunct",
    "LivenessConjunct",
    "Property",
    "StateConjunct",
    "TaskConjunct",
    "bookkeeping",
    "clone",
    "freeing",
    "liveness",
    "sharing",
    "sizes",
    "switching",
]
