"""The theorems about single moves: which are proved of which design, and what that comes to."""

from __future__ import annotations

import pytest
from cpu_answers import REFUTED, named, refuted

from model.designs import DESIGNS
from properties.cpu import MACHINE_PROPERTIES
from properties.memory import STATEMENTS, conjuncts_proved
from shstk.proof.cpu_counterexamples import confirm, counterexample
from shstk.proof.cpu_theorems import cpu_theorems

LINUX = DESIGNS["linux-6.12"]


@pytest.mark.parametrize("name", sorted(REFUTED))
def test_z3_proves_all_that_is_true_of_a_design(name: str) -> None:
    """And refutes the rest; that the paths of every move are all there are is among it."""
    assert refuted(DESIGNS[name], "z3") == REFUTED[name]


@pytest.mark.parametrize("name", sorted(REFUTED))
def test_what_is_refuted_happens_on_the_concrete_cpu(name: str) -> None:
    """A solver's numbers, executed, make the premise true and the claim false."""
    design = DESIGNS[name]
    shown = set()
    for one in cpu_theorems(design):
        for batch in one.batches:
            for goal in batch.goals:
                if (one.name, goal.name.partition(":")[0]) in REFUTED[name]:
                    numbers = counterexample(batch, goal)
                    if numbers is not None:
                        assert confirm(one, goal, numbers, design)
                        shown.add((one.name, goal.name.partition(":")[0]))
    assert shown == REFUTED[name]


def test_numbers_that_show_nothing_are_not_confirmed() -> None:
    """A state in which delivery succeeds is no counterexample to a claim about failed ones."""
    one = named(LINUX, "failed-x32-delivery")
    goal = one.batches[0].goals[0]
    assert not confirm(one, goal, {"cpl": 3, "cr4_cet": 1, "u_cet": 1, "long_mode": 1}, LINUX)


# -- what it comes to ------------------------------------------------------------------------------


def test_only_these_conjuncts_are_implied_completely() -> None:
    """Everything else says what stays bounded."""
    complete = {key for key, share in conjuncts_proved().items() if share.complete}
    assert complete == {
        ("sigreturn-round-trip", "word-is-no-token"),
        ("sigreturn-round-trip", "word-is-no-return-address"),
        ("sigreturn-round-trip", "failed-delivery-keeps-ssp"),
    }
    assert all(share.sentence for share in conjuncts_proved().values())


def test_every_conjunct_that_is_served_exists() -> None:
    """By the names of ``properties.cpu``."""
    known = {(p.id, c.name) for p in MACHINE_PROPERTIES.values() for c in p.conjuncts}
    assert set(conjuncts_proved()) <= known


def test_every_statement_has_a_sentence_and_a_source() -> None:
    """And a lemma serves nothing."""
    for s in STATEMENTS.values():
        assert s.sentence and s.source and s.moves
        assert bool(s.property) == bool(s.conjunct) == bool(s.remains or s.why)
