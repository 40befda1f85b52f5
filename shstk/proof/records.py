"""What paths have shown, for whoever asks again: as often another design.

Most steps are the same text in most designs, and of those that are not most paths are the
same: what is assumed there, what changes, what is claimed.  What was found out on a path, where
some lemmas were assumed, is an answer also where others are, if it follows, goal by goal:

* what was proved, as long as the lemmas that the proof used are assumed;
* what failed, as long as no more is assumed.

Whatever does not follow is not answered, and asked of the path itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from shstk.proof.batch import Batch
from shstk.proof.path_solver import NOT_ASKED, UNKNOWN, Found, conjunct
from shstk.proof.proved import Proved


@dataclass(frozen=True)
class Proven:
    """Goals of a path that follow from some premises.

    ``needed``: the lemmas that these are of.  ``late``: with these lemmas the hinted instances
    were not enough; None if they were.  ``batch``: the text, where it has been needed.
    """

    goals: tuple[str, ...]
    needed: frozenset[str]
    late: frozenset[str] | None = None
    batch: Batch | None = None

    def follows(self, kept: frozenset[str]) -> bool:
        """The same is so, in the same way, where something else is assumed."""
        return self.needed <= kept and (self.late is None or kept <= self.late)


@dataclass(frozen=True)
class Open:
    """Goals of a path that do not follow when ``kept`` is assumed, and why."""

    kept: frozenset[str]
    goals: dict[str, str]

    def why(self, goal: str, kept: frozenset[str]) -> str | None:
        """Why a goal does not follow where something else is assumed, if that is so."""
        why = self.goals.get(goal)
        same = kept == self.kept if why == UNKNOWN else kept <= self.kept
        return why if same else None


@dataclass(frozen=True)
class Witnessed:
    """Events whose claims' premises may be true when ``kept`` was assumed, and those that not.

    ``needed``: what excludes the others.
    """

    kept: frozenset[str]
    possible: frozenset[str]
    excluded: frozenset[str]
    needed: frozenset[str]


@dataclass
class PathRecord:
    """What a path has shown, whatever its name is in a design.

    ``claims``: the kinds of its goals, by their names; None before that was asked.
    """

    claims: dict[str, str] | None = None
    proofs: list[Proven] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)
    witnessed: list[Witnessed] = field(default_factory=list)

    # -- goals -------------------------------------------------------------------------
    def wanted(self, kept: Collection[str], events: bool) -> list[str]:
        """What is to be proved where some lemmas are kept: without claims about events, or all."""
        return [
            name
            for name, kind in (self.claims or {}).items()
            if (name in kept if kind == "invariant" else events or kind == "need")
        ]

    def proved(
        self,
        goals: Collection[str],
        kept: frozenset[str],
        will_do: Callable[[Proven], bool] = lambda _: True,
    ) -> list[tuple[Proven, tuple[str, ...]]]:
        """Proofs of some of the goals, of those that will do, and which goals each is for."""
        left = dict.fromkeys(goals)
        out = []
        for proof in self.proofs:
            if proof.follows(kept) and will_do(proof):
                those = tuple(g for g in proof.goals if g in left)
                if those:
                    out.append((proof, those))
                for goal in those:
                    del left[goal]
        return out

    def failing(self, goals: Iterable[str], kept: frozenset[str]) -> dict[str, str]:
        """Which of the goals do not follow, and why: of what was not asked, until it was."""
        out: dict[str, str] = {}
        for goal in goals:
            said = [why for o in self.open if (why := o.why(goal, kept)) is not None]
            if said:
                out[goal] = next((why for why in said if why != NOT_ASKED), NOT_ASKED)
        return out

    # -- answers ------------------------------------------------------------------------
    def check(self, path: str, kept: frozenset[str]) -> Found | None:
        """As ``StepProof.check``, if that is known; ``path`` is the name."""
        if self.claims is None:
            return None
        goals = self.wanted(kept, events=False)
        why = {g: w for g, w in self.failing(goals, kept).items() if w != NOT_ASKED}
        proofs = self.proved([g for g in goals if g not in why], kept)
        if len(why) + sum(len(those) for _, those in proofs) < len(goals):
            return None
        unknown = tuple(g for g, w in why.items() if w == UNKNOWN)
        needed = frozenset[str]().union(*(proof.needed for proof, _ in proofs))
        return Found(path, tuple(why), unknown, needed)

    def end(self, step: str, path: str, kept: frozenset[str], failed: set[str]) -> Proved | None:
        """The obligations of the path of that name, if they are known; ``failed`` as they go."""
        if self.claims is None:
            return None
        goals = self.wanted(kept, events=True)
        proofs = self.proved(goals, kept, written)
        proved = {g for _, those in proofs for g in those}
        left = [g for g in goals if g not in proved]
        why = settled(self.claims, self.failing(left, kept), failed)
        if len(why) < len(left):
            return None
        failed |= {conjunct(g) for g in why if self.claims[g] == "event"}
        out = Proved(step, path, parts(path, proofs))
        out.failing = tuple(g for g in why if self.claims[g] == "event")
        out.unsafe = any(self.claims[g] == "need" for g in why)
        out.unknown = tuple(g for g, w in why.items() if w == UNKNOWN)
        out.late = frozenset(g for p, those in proofs if p.late is not None for g in those)
        return out

    def witness(self, kept: frozenset[str], events: Collection[str]) -> dict[str, bool]:
        """Of these events those of which it is known whether their premise may be true."""
        out = dict[str, bool]()
        for w in self.witnessed:
            if kept <= w.kept:
                out |= dict.fromkeys(w.possible.intersection(events), True)
            if w.needed <= kept:
                out |= dict.fromkeys(w.excluded.intersection(events), False)
        return out


def written(proof: Proven) -> bool:
    """The text of a proof is there."""
    return proof.batch is not None


def settled(
    claims: Mapping[str, str], why: Mapping[str, str], failed: Collection[str]
) -> dict[str, str]:
    """Of goals that are open those that stay so.

    What was not asked is, unless its conjunct has ``failed``; in the order of the goals.
    """
    now = set(failed)
    out = {}
    for goal in (g for g in claims if g in why):
        if why[goal] != NOT_ASKED or conjunct(goal) in now:
            out[goal] = why[goal]
            now |= {conjunct(goal)} if claims[goal] == "event" else set()
    return out


def parts(path: str, proofs: Iterable[tuple[Proven, tuple[str, ...]]]) -> tuple[Batch, ...]:
    """The texts of some proofs, of each the goals that it is for."""
    out: list[Batch] = []
    for proof, those in proofs:
        assert proof.batch is not None
        name = f"{path}, part {len(out) + 1}" if out else path
        goals = tuple(g for g in proof.batch.goals if g.name in those)
        out.append(replace(proof.batch, name=name, goals=goals))
    return tuple(out)


@dataclass(frozen=True)
class Record:
    """Of a step: its paths that end, and that these are all."""

    paths: tuple[str, ...]
    coverage: Batch
    events: dict[str, tuple[str, ...]]  # by path, the conjuncts that its events are about
    prints: dict[str, str]  # by path, its fingerprint
