"""What a proof of a path consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from shstk.proof.batch import Batch


@dataclass
class Proved:
    """The obligations of a path, after the last round, and the lemmas that each claim needs.

    ``batches``: proofs that use other premises are texts of their own.
    """

    step: str
    path: str
    batches: tuple[Batch, ...]
    needed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failing: tuple[str, ...] = ()  # of the claims about events
    unsafe: bool = False  # something may be written through NULL
    unknown: tuple[str, ...] = ()  # of the failing, those that the solver gave up on
    late: frozenset[str] = frozenset()  # goals about events that took every instance
    witnessed: frozenset[str] = frozenset()  # conjuncts whose premise the path can make true
