"""cvc5 on every obligation about single moves."""

from __future__ import annotations

import pytest
from cpu_answers import REFUTED, refuted

from model.designs import DESIGNS


@pytest.mark.parametrize("name", sorted(REFUTED))
def test_cvc5_proves_and_refutes_the_same(name: str) -> None:
    """Goal by goal, all of what z3 was asked."""
    pytest.importorskip("cvc5")
    assert refuted(DESIGNS[name], "cvc5") == REFUTED[name]
