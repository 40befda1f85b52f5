"""Lemmas: each says something, and each is true of every reachable state of some design."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import z3

import properties.lemmas
from model.designs import DESIGNS, Design
from properties.lemmas import LEMMAS, Lemma
from shstk.build import ORDINARY, Request, Tables, program
from shstk.engine import Engine
from shstk.engine.program import NONE
from shstk.finite import Outcome
from shstk.proof.heap import Heap
from shstk.proof.invariants import named
from shstk.proof.sorts import bounded, functions
from shstk.running import runs
from shstk.space import Bound, Space
from shstk.tables import Forest, Mask, fold
from shstk.text import check_source

# One bound with two tasks, one with two mms (fork and exec need another) and two addresses.
BOUNDS = (Bound(2, 1, 1), Bound(1, 2, 2))
NO_VFORK = ORDINARY - {"vfork", "vfork-copy", "vfork-thread", "vfork-abandon"}
FAMILIES = {"ordinary": ORDINARY, "without vfork": NO_VFORK}
SOME = tuple(DESIGNS[name] for name in ("v1", "linux-6.12", "proposed"))
BITS = 60  # claims that one exploration can be asked for

# The lemmas that are false in a reachable state of the small bounds.
FALSE = {
    ("v1", "ordinary"): {
        "held-by-its-owner",
        "held-is-mapped",
        "nobody-has-left",
        "released-holds-nothing",
        "thread-to-be-shares-nothing",
        "worker-holds-nothing",
        "off-has-no-size",
        "on-is-enabled",
        "on-its-own",
        "record-is-owned",
        "released-has-no-size",
        "runs-on-mapped",
        "wrss-is-enabled",
    },
    ("v1", "without vfork"): {
        "held-by-its-owner",
        "held-is-mapped",
        "thread-to-be-shares-nothing",
        "worker-holds-nothing",
        "off-has-no-size",
        "on-is-enabled",
        "on-its-own",
        "record-is-owned",
        "runs-on-mapped",
        "wrss-is-enabled",
    },
    ("linux-6.12", "ordinary"): {
        "nobody-has-left",
        "on-holds-its-stack",
        "owner-holds",
        "worker-holds-nothing",
        "no-features",
        "no-size-no-base",
        "on-is-recorded",
        "on-its-own",
        "runs-on-mapped",
        "worker-has-no-stack",
        "worker-owns-nothing",
    },
    ("linux-6.12", "without vfork"): {
        "no-features",
        "no-size-no-base",
        "nobody-has-left",
        "on-holds-its-stack",
        "owner-holds",
        "worker-holds-nothing",
    },
}

FalseIn = Callable[[Design, str], set[str]]


@pytest.fixture(scope="session")
def false_in(tables_of: Callable[[Design, Bound], Tables]) -> FalseIn:
    """The lemmas that are false in some state that a design reaches, with these families."""

    @cache
    def prepared(design: Design, bound: Bound, first: int) -> Tables:
        lemmas = [*LEMMAS.values()][first : first + BITS]
        return asking(tables_of(design, bound), lemmas)

    @cache
    def found(design: Design, families: str) -> set[str]:
        names, out = [*LEMMAS], set()
        for bound, first in itertools.product(BOUNDS, range(0, len(LEMMAS), BITS)):
            request = Request(FAMILIES[families], (1 << BITS) - 1)
            engine = Engine(program(prepared(design, bound, first), request))
            result = engine.explore(symmetry=True)
            assert result.status == "complete" and result.states > 500
            out |= {names[first + bit] for bit, _ in result.hits}
        return out

    return found


def asking(tables: Tables, lemmas: Sequence[Lemma]) -> Tables:
    """The tables of a design with lemmas, of all objects, in place of the properties' claims."""
    space, forest, trees = tables.space, Forest(tables.forest), []
    for bit, lemma in enumerate(lemmas):
        false = forest.add(Mask(1 << bit, 0))

        def end(outcome: Outcome, false: int = false) -> int:
            # Where a lemma looks through NULL it is as good as false.
            return NONE if outcome.status == "disabled" else false

        for objects in itertools.product(*(range(space.bound.size(s)) for s in lemma.sorts)):

            def text(k: Any, lemma: Lemma = lemma, objects: tuple[int, ...] = objects) -> None:
                k.require(not said(k, lemma, objects))

            trees.append((bit, fold(forest, runs(space, tables.design, 0, text), end)))
    silent = {name: NONE for name in tables.reports}
    return replace(tables, forest=forest, reports=silent, state_claims=trees)


def said(k: Any, lemma: Lemma, objects: Sequence[int]) -> bool:
    """What a lemma says of some objects, by number."""
    handles = [k._objects[s][o] for s, o in zip(lemma.sorts, objects, strict=True)]
    return bool(lemma.holds(k, *handles))


@pytest.mark.parametrize("families", sorted(FAMILIES))
def test_the_lemmas_that_are_false(false_in: FalseIn, design: Design, families: str) -> None:
    """In all reachable states of small bounds every lemma is true but these."""
    assert false_in(design, families) == FALSE[design.name, families]


def test_every_lemma_is_true_of_some_design(false_in: FalseIn) -> None:
    """A lemma that is true of no design, with vfork or without, is of no use."""
    useless = set(LEMMAS)
    for design, families in itertools.product(SOME, FAMILIES):
        useless &= false_in(design, families)
    assert useless == set()


@pytest.mark.parametrize("name", sorted(LEMMAS))
def test_every_lemma_says_something(design: Design, name: str) -> None:
    """A lemma is false in some state, reachable or not."""
    universe = bounded(Bound(2, 1, 2))
    (lemma,) = named([name])
    solver = z3.Solver()
    solver.add(z3.Not(lemma.formula(universe, design, Heap(functions(universe)))))
    assert solver.check() == z3.sat


def test_every_lemma_is_true_at_the_start(design: Design) -> None:
    """A lemma that is false in the initial state is true of no design."""
    space, answers = Space(Bound(2, 2, 2)), {}
    for lemma in LEMMAS.values():
        for objects in itertools.product(*(range(space.bound.size(s)) for s in lemma.sorts)):

            def ask(k: Any, lemma: Lemma = lemma, objects: tuple[int, ...] = objects) -> None:
                answers[lemma.name, objects] = said(k, lemma, objects)

            (outcome,) = runs(space, design, 0, ask, space.initial)
            assert outcome.status == "done", f"{lemma.name} looks through NULL"
    assert [at for at, answer in answers.items() if not answer] == []


def test_lemmas_are_about_as_many_objects_as_they_say() -> None:
    """A lemma takes the world and one object of each of its sorts."""
    for lemma in LEMMAS.values():
        assert len(inspect.signature(lemma.holds).parameters) == 1 + len(lemma.sorts), lemma.name


def test_lemmas_are_known_by_name_and_sentence() -> None:
    """No lemma takes another's name or sentence, and each is where it says it is."""
    assert len({m.sentence for m in LEMMAS.values()}) == len(LEMMAS)
    root = Path(properties.lemmas.__file__).parents[2]
    written = 0
    for path in sorted((root / "properties" / "lemmas").glob("*.py")):
        written += path.read_text().count("\n@lemma(")
    assert written == len(LEMMAS), "one lemma has replaced another of the same name"
    for lemma in LEMMAS.values():
        file, _, line = lemma.where.partition(":")
        source = (root / "properties" / file).read_text().splitlines()
        assert any("lemma(" in text for text in source[int(line) - 1 : int(line) + 7]), lemma.where


@pytest.mark.parametrize(
    "path", sorted(Path(properties.lemmas.__file__).parent.glob("*.py")), ids=lambda p: p.name
)
def test_lemmas_are_text(path: Path, tmp_path: Path) -> None:
    """Lemmas are written by the rules of text, except that they may use properties' words."""
    lines = path.read_text().splitlines()
    ours = [line for line in lines if not line.startswith("from properties")]
    text = tmp_path / path.name
    text.write_text("\n".join(ours))
    check_source(text)
