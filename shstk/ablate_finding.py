"""What is known of a mutant."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from model.designs import Design
from shstk.ablation import Catch
from shstk.mutants import Mutant
from shstk.parting import Parting
from shstk.space import Bound


class Status(Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    EQUIVALENT = "equivalent"
    BLIND = "beyond the model"
    BOUNDED = "equivalent up to a bound"
    LESS = "violates less"
    SURVIVES = "survives"
    UNKNOWN = "not checked to the end"


@dataclass
class Finding:
    """All that is known of a mutant.

    ``catches`` are the shortest first; ``hostile`` those beside the ordinary environment,
    ``cured`` what the design violates and the mutant does not.
    ``note`` says why it is not proved to be equivalent, ``unread`` in what it differs although
    it is proved: what nothing reads.  ``lockstep``: the bounds up to
    which it was compared step by step; ``parting``: the shortest run after which it differs.
    """

    mutant: Mutant
    design: Design
    status: Status = Status.UNKNOWN
    catches: list[Catch] = field(default_factory=list)
    hostile: list[Catch] = field(default_factory=list)
    cured: list[Catch] = field(default_factory=list)
    note: str = ""
    unread: tuple[str, ...] = ()
    bounds: list[Bound] = field(default_factory=list)
    lockstep: list[Bound] = field(default_factory=list)
    parting: Parting | None = None

    @property
    def explained(self) -> bool:
        """A property tells it from the design, one way or the other, or nothing can, by proof."""
        return self.status in (Status.CAUGHT, Status.LESS, Status.EQUIVALENT, Status.BLIND)
