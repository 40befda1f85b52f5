"""The text of a batch: what is declared, and what counts as one command."""

from __future__ import annotations

from contextlib import suppress

import pytest
import z3
from hypothesis import example, given
from hypothesis import strategies as st

from shstk.proof import batch as texts
from shstk.proof.batch import batch, forms


def declared(prelude: str) -> list[str]:
    """The declarations of a prelude."""
    return [line for line in prelude.splitlines() if line.startswith("(declare")]


def test_a_batch_declares_what_it_says_and_no_more() -> None:
    """Sorts come before what has them; what only another batch speaks of is not there."""
    colour, (red, green) = z3.EnumSort("Colour", ["Red", "a green"])
    of = z3.Function("of", colour, z3.BitVecSort(8))
    x, y = z3.Consts("x y", colour)
    both = batch("b", [x == red, of(y) == 3], {"g": x == y})
    assert declared(both.prelude) == [
        "(declare-datatypes ((Colour 0)) (((Red) (|a green|))))",
        "(declare-fun x () Colour)",
        "(declare-fun of (Colour) (_ BitVec 8))",
        "(declare-fun y () Colour)",
    ]
    assert declared(batch("b", [x == red], {}).prelude) == declared(both.prelude)[:2]
    # Nothing has a name here but members of the sort.
    assert len(declared(batch("b", [], {"g": red == green}).prelude)) == 1


def test_a_datatype_with_parts_is_declared_after_their_sorts() -> None:
    """Also one that is a part of itself."""
    element = z3.DeclareSort("Element")
    chain = z3.Datatype("Chain")
    chain.declare("nil")
    chain.declare("link", ("first", element), ("rest", chain))
    made = chain.create()
    claim = made.first(z3.Const("c", made)) == z3.Const("e", element)
    assert [line.split()[1] for line in declared(batch("b", [claim], {}).prelude)] == [
        *("Element", "((Chain", "c", "e")
    ]


def test_a_name_for_two_things_is_in_each_batch_what_it_is_there() -> None:
    """Formulas that were made text together do not have each other's symbols later."""
    word, flag = z3.BitVec("two", 8) == 1, z3.Bool("two")
    batch("both", [word, flag], {})
    assert declared(batch("b", [flag], {}).prelude) == ["(declare-fun two () Bool)"]
    assert declared(batch("b", [word], {}).prelude) == ["(declare-fun two () (_ BitVec 8))"]


def test_a_bound_name_is_not_that_of_a_constant() -> None:
    """A formula with a quantifier declares its own symbols."""
    x = z3.Int("bound")
    quantified = z3.Exists([x], x > z3.Int("free"))
    batch("both", [x > 1, quantified], {})
    assert declared(batch("b", [quantified], {}).prelude) == ["(declare-fun free () Int)"]


def test_texts_do_not_depend_on_those_that_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batch again, when no text is kept."""
    x, y = z3.FreshInt("n"), z3.FreshInt("n")
    first = batch("b", [x > y], {"g": x > 1})
    monkeypatch.setattr(texts, "MANY", -1)
    assert batch("b", [x > y], {"g": x > 1}) == first


pieces = st.lists(st.sampled_from([*'()|";\n ', "a", "(b)", "and"])).map("".join)


@given(pieces)
@example("(a ;)\n)")
@example('(a ")\n(b ")')
@example("(a |)\n(b |)")
@example("(a))((b)")
def test_lines_that_are_forms_are_the_forms(text: str) -> None:
    """What is found line by line is what is found token by token."""
    whole: list[str] | None = None
    with suppress(ValueError):
        whole = texts._forms(text)
    if whole is not None:
        assert forms(text) == whole
    else:
        with pytest.raises(ValueError, match=r"\)"):
            forms(text)
