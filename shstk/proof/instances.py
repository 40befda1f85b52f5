"""At which terms universals are instantiated: at all that are near, or where hints say."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from model.state import Sort
from shstk.proof import lowlevel
from shstk.proof.ground import Grounder, Instance, Place, Universal
from shstk.proof.sorts import INDEX, NAMES

Found = tuple[tuple[int, ...], Place]  # terms, with their addresses before them
Only = Mapping[str, Collection[tuple[str, ...]]]  # by lemma, terms as text


class Terms:
    """The terms that universals are instantiated at, by how far they are from the claims."""

    def __init__(self, grounder: Grounder) -> None:
        self._nodes = grounder.nodes
        sorts = grounder.universe.sorts
        self._sorts = {lowlevel.address(sorts[sort]): sort for sort in NAMES}
        self._known: set[tuple[int, ...]] = set()
        self._at: list[dict[tuple[Sort, ...], list[Found]]] = []

    def add(self, places: Iterable[Place]) -> None:
        """The next level; terms that are known already belong to an earlier one."""
        new: dict[tuple[Sort, ...], list[Found]] = {}
        for place in places:
            at = lowlevel.addresses(place)
            found = [(at, place)]
            if len(place) > 1:
                found += [((a,), (t,)) for a, t in zip(at, place, strict=True)]
            for key, part in found:
                if key not in self._known:
                    self._known.add(key)
                    sorts = tuple([self._sorts[self._nodes.sort(a)] for a in key])
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

    def singles(self, level: int) -> Iterator[tuple[Sort, int, Any]]:
        """The terms of a level one by one, with their sorts and addresses."""
        for sorts, found in self._at[level].items():
            if len(sorts) == 1:
                yield from ((sorts[0], at[0], place[0]) for at, place in found)


class _Named:
    """The terms by their sort and text, for hints; ``tag`` is what only this path's names have."""

    def __init__(self, grounder: Grounder, tag: str) -> None:
        self._grounder = grounder
        self._tag = tag
        self._terms: dict[tuple[Sort, str], tuple[int, Any]] = {}

    def add(self, singles: Iterable[tuple[Sort, int, Any]]) -> None:
        """More terms."""
        for sort, at, term in singles:
            self._terms[sort, plain(self._grounder.text(term), self._tag)] = at, term

    def tuples(self, sorts: Sequence[Sort], wanted: Iterable[tuple[str, ...]]) -> Iterator[Found]:
        """Those of the wanted tuples whose terms are all there."""
        for texts in wanted:
            found = [self._terms.get(key) for key in zip(sorts, texts, strict=False)]
            there = [each for each in found if each]
            if len(there) == len(texts) == len(sorts):
                yield tuple([at for at, _ in there]), tuple([term for _, term in there])


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
    terms, named = Terms(grounder), _Named(grounder, tag)
    known = list(universals)
    done: set[tuple[Any, ...]] = set()
    todo: Iterable[Place] = places
    earlier = 0  # as many universals have been at the terms of earlier levels
    for level in (0, 1):
        if level > 0 and not todo:
            break
        terms.add(todo)
        if only is not None:
            named.add(terms.singles(level))
        found: dict[tuple[int, ...], Place] = {}
        at = 0
        while at < len(known):
            universal = known[at]
            levels = range(level if at < earlier else 0, level + 1)
            at += 1
            brings = universal.schema is None and universal.guard is None
            if brings and level > 0:
                continue
            for ids, objects in _tuples(universal, terms, named, levels, only):
                key = (*universal.key, *ids)
                if key in done:
                    continue
                done.add(key)
                made = grounder.instance(universal, objects, key)
                yield universal.name, made
                known += made.universals
                if brings:
                    found.update([(lowlevel.addresses(p), p) for p in made.places])
        todo, earlier = list(found.values()), len(known)


def _tuples(
    universal: Universal, terms: Terms, named: _Named, levels: range, only: Only | None
) -> Iterator[Found]:
    if only is not None and universal.guard is None:
        yield from named.tuples(universal.sorts, only.get(universal.name, ()))
        return
    for level in levels:
        yield from terms.tuples(universal.sorts, level)
