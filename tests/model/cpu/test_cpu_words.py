"""Words: canonical addresses and the formats of tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.cpu import words

WORD = st.integers(0, words.MASK64)
L_BIT = st.integers(0, 1)


def test_which_addresses_are_canonical() -> None:
    """The lower and the upper half of a 48-bit space."""
    canonical = (0, 1, (1 << 47) - 1, 0xFFFF_8000_0000_0000, words.MASK64)
    assert not any(words.noncanonical(a) for a in canonical)
    assert all(words.noncanonical(a) for a in (1 << 47, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63))


@given(WORD)
def test_la_adjust_makes_canonical_and_keeps_what_is(address: int) -> None:
    """It changes no canonical address, and none that it has made."""
    adjusted = words.la_adjust(address)
    assert not words.noncanonical(adjusted)
    assert (adjusted == address) == (not words.noncanonical(address))


@given(WORD.map(words.align8), L_BIT)
def test_a_restore_token_fits_its_own_place_only(address: int, l_bit: int) -> None:
    """The address that a token is for is where it was made."""
    token = words.restore_token(address, l_bit)
    assert words.restore_token_address(token) == address
    assert token & 3 == l_bit


@given(WORD.map(lambda a: a & ~3), L_BIT)
def test_a_previous_ssp_token_holds_an_ssp(ssp: int, l_bit: int) -> None:
    """Any multiple of 4; and it is no restore token, wherever it lies."""
    token = words.previous_ssp_token(ssp, l_bit)
    assert words.previous_ssp(token) == ssp
    assert token & words.TOKEN_PREVIOUS
    assert all(token & 3 != other for other in (0, 1))


@given(WORD, st.sampled_from([4, 8]))
def test_alignment(address: int, size: int) -> None:
    """Masks agree with remainders."""
    assert words.misaligned(address, size) == (address % size != 0)
    assert words.align8(address) == address - address % 8


@given(WORD)
def test_a_supervisor_stack_starts_at_the_end_of_a_32_byte_line(ssp: int) -> None:
    """24 bytes of frame and the token share a line only there."""
    assert words.crosses_32(ssp) == (ssp % 32 < 24)
