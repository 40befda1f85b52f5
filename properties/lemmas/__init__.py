"""Lemmas: what is true of every reachable state besides the properties themselves.

None of them is assumed.  A proof takes the largest set of lemmas and properties that hold in
the initial state and that every step of the design preserves, if all of them held before.
"""

from properties.lemmas import cloning, features, holding, nesting, ownership, stacks, structure
from properties.vocabulary import CHAIN_LEMMAS, LEMMAS, Lemma

__all__ = [
    "CHAIN_LEMMAS",
    "LEMMAS",
    "Lemma",
    "cloning",
    "features",
    "holding",
    "nesting",
    "ownership",
    "stacks",
    "structure",
]
