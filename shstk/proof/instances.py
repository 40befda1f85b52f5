"""At which terms universals are instantiated: at all that are near, or where hints say."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from model.state import Sort
from shstk.proof.ground import Grounder, Instance, Place, Universal
from shstk.proof.sorts import INDEX, NAMES

Found = tuple[tuple[int, ...], Place]  # terms, with their ids before them
Only = Mapping[str, Collection[tuple[str, ...]]]  # by lemma, terms as text


class Terms:
    """The terms that universals are instantiated at, by how far they are from the claims."""

    def __init__(self) -> None:
        self._sorts = {name: sort for sort, name in NAMES.items()}
        self._known: set[tuple[int, ...]] = set()
        self._at: list[dict[tuple[Sort, ...], list[Found]]] = []

    def add(self, places: Iterable[Place]) -> None:
        """The next level; terms that are known already belong to an earlier one."""
        new: dict[tuple[Sort, ...], list[Found]] = {}
        for place in places:
            for part in dict.fromkeys((place, *((t,) for t in place))):
                key = tuple(t.get_id() for t in part)
                if key not in self._known:
                    self._known.add(key)
                    sorts = tuple(self._sorts[str(t.sort())] for t in part)
                    new.setdefault(sorts, []).append((key, part))
        self._at.append(new)

    def tuples(self, sorts: tuple[Sort, ...], level: int) -> Iterator[Found]:
        """Tuples at a level: of one variable or a mapping all, of several only the nearest."""
        if len(sorts) == 1 or sorts in INDEX.values():
            yield from self._at[level].get(sorts, [])
        elif level == 0:
            ranges = [self._at[0].get((s,), []) for s in sorts]
            for chosen in itertools.product(*ranges):
                yield tuple(i[0] for i, _ in chosen), tuple(t[0] for _, t in chosen)

    def singles(self, level: int) -> Iterator[tuple[Sort, Any]]:
        """The terms of a level one by one, with their sorts."""
        for sorts, found in self._at[level].items():
            if len(sorts) == 1:
                yield from ((sorts[0], place[0]) for _, place in found)


class _Named:
    """The terms by their sort and text, for hints; ``tag`` is what only this path's names have."""

    def __init__(self, grounder: Grounder, tag: str) -> None:
        self._grounder = grounder
        self._tag = tag
        self._terms: dict[tuple[Sort, str], Any] = {}

    def add(self, singles: Iterable[tuple[Sort, Any]]) -> None:
        """More terms."""
        for sort, term in singles:
            self._terms[sort, plain(self._grounder.text(term), self._tag)] = term

    def tuples(self, sorts: Sequence[Sort], wanted: Iterable[tuple[str, ...]]) -> Iterator[Found]:
        """Those of the wanted tuples whose terms are all there."""
        for texts in wanted:
            keys = list(zip(sorts, texts, strict=False))
            if len(texts) == len(sorts) and all(key in self._terms for key in keys):
                there = tuple(self._terms[key] for key in keys)
                yield tuple(t.get_id() for t in there), there


def plain(text: str, tag: str) -> str:
    """A term's text without what tells the constants of one path from those of others."""
    return text.replace(f".{tag}.", ".") if tag else text


def instantiate(
    grounder: Grounder,
    universals: Sequence[Universal],
    places: Iterable[Place],
    only: Only | None = None,
    tag: str = "",
) -> Iterator[tuple[str, Instance]]:
    """Instances of all universals at some terms, by the name of the claim.

    A claim with an existential of its own brings a witness; at that, and where its claim
    looks, the others are instantiated too, but no more witnesses are asked for.  ``only``:
    instances of lemmas where it says, and no others; ``tag`` is the path's in names.
    """
    terms, named = Terms(), _Named(grounder, tag)
    known = list(universals)
    done: set[tuple[Any, ...]] = set()
    todo: Iterable[Place] = places
    for level in (0, 1):
        terms.add(todo)
        if only is not None:
            named.add(terms.singles(level))
        found: dict[tuple[int, ...], Place] = {}
        at = 0
        while at < len(known):
            universal = known[at]
            at += 1
            brings = universal.schema is None and universal.guard is None
            if brings and level > 0:
                continue
            for ids, objects in _tuples(universal, terms, named, level, only):
                key = (*universal.key, *ids)
                if key in done:
                    continue
                done.add(key)
                made = grounder.instance(universal, objects, key)
                yield universal.name, made
                known += made.universals
                if brings:
                    found.update((tuple(t.get_id() for t in p), p) for p in made.places)
        todo = list(found.values())


def _tuples(
    universal: Universal, terms: Terms, named: _Named, level: int, only: Only | None
) -> Iterator[Found]:
    if only is not None and universal.guard is None:
        yield from named.tuples(universal.sorts, only.get(universal.name, ()))
        return
    for each in range(level + 1):
        yield from terms.tuples(universal.sorts, each)
