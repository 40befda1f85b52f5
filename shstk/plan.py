"""What to explore for a question: bounds, environments, slices.

By default a design is explored at three tasks twice, with two mms and with two stacks,
and at two tasks with both, because all three at once are beyond 100 M states.  Claims
about details (locks, WRSS, the offset of SSP) are explored apart, over the variables
they need, at a smaller bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.kernel import FAMILIES, Environment
from shstk.build import CLAIMS, Tables
from shstk.slices import DETAILS, MERGES, Slice
from shstk.space import Bound

DEFAULT_BOUNDS = (Bound(3, 2, 1), Bound(3, 1, 2), Bound(2, 2, 2))
DETAIL_BOUNDS = (Bound(2, 2, 1), Bound(2, 1, 2))
BESIDE_BOUNDS = (Bound(2, 2, 1), Bound(2, 1, 2))  # for the environments beside the ordinary one


def families_in(environment: str, without: frozenset[str] = frozenset()) -> frozenset[str]:
    """The event families of an environment, for example ``ordinary+pivot``."""
    wanted = {Environment(name) for name in environment.split("+")}
    return frozenset(f.name for f in FAMILIES.values() if f.environment in wanted) - without


@dataclass(frozen=True)
class Question:
    """One exploration: a design's claims, at a bound, in an environment."""

    design: str
    environment: str  # for example "ordinary" or "ordinary+hostile"
    bound: Bound
    without: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()  # empty: all
    details: str = "both"  # "both", "no": core claims only, "only": claims about details
    memory: int | None = None  # bytes for the states
    symmetry: bool = True

    @property
    def families(self) -> frozenset[str]:
        """The event families that are on."""
        return families_in(self.environment, self.without)


def environments(pivot: bool, hostile: bool) -> list[str]:
    """The ordinary environment, and what was asked for beside it."""
    out = ["ordinary"]
    if pivot:
        out.append("ordinary+pivot")
    if hostile:
        out.append("ordinary+hostile")
    return out


def in_environment(
    design: str,
    environment: str,
    bound: Bound | None,
    without: frozenset[str] = frozenset(),
    properties: frozenset[str] = frozenset(),
    memory: int | None = None,
) -> list[Question]:
    """What to explore for a design in an environment; ``bound`` None: the default ones."""
    common = (without, properties)
    if bound is not None:
        return [Question(design, environment, bound, *common, "both", memory)]
    bounds = DEFAULT_BOUNDS if environment == "ordinary" else BESIDE_BOUNDS
    out = [Question(design, environment, b, *common, "no", memory) for b in bounds]
    return out + [Question(design, environment, b, *common, "only", memory) for b in DETAIL_BOUNDS]


def slices(tables: Tables, question: Question) -> list[tuple[int, Slice]]:
    """Masks of claims that are explored together, each with its slice."""
    groups: dict[frozenset[str], int] = {}
    for bit, claim in enumerate(CLAIMS):
        if question.properties and claim.property.id not in question.properties:
            continue
        needed = frozenset(tables.reads[bit] & DETAILS)
        if question.details == ("only" if not needed else "no"):
            continue
        groups[needed] = groups.get(needed, 0) | 1 << bit
    return [
        (mask, Slice(frozenset(MERGES) - needed))
        for needed, mask in sorted(groups.items(), key=lambda g: sorted(g[0]))
    ]
