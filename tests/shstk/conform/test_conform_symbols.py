"""Names of addresses, and what is joined before areas are compared."""

from __future__ import annotations

import doctest

from shstk.conform import predict, seen, shrink, symbols
from shstk.conform.seen import Area, joined
from shstk.conform.symbols import Symbols

BASE = 0x7FFF_0000_0000


def table() -> Symbols:
    """A at BASE, a page of B above it."""
    known = Symbols(lambda address: "c3" if address == 0x700000 else "")
    known.learn(0, "A", BASE, BASE + 0x8000)
    known.learn(0, "B", BASE + 0x8000, BASE + 0x9000)
    return known


def test_the_newest_range_that_an_address_is_in() -> None:
    """A range that lies where an older one was takes its addresses over."""
    known = table()
    assert known.address(0, BASE + 8) == "A+8"
    known.learn(0, "C", BASE, BASE + 0x1000)
    assert known.address(0, BASE + 8) == "C+8"
    assert known.address(0, BASE + 0x7FF8) == "A.end-8"


def test_an_end_is_no_start() -> None:
    """Where one range ends and another begins, an address is in the other."""
    assert table().address(0, BASE + 0x8000) == "B"
    assert table().address(0, BASE + 0x9000) == "B.end"
    assert table().address(0, BASE - 8) == "A-8"


def test_far_addresses_are_told_by_their_distance() -> None:
    """But numbers below 4 GiB are numbers."""
    assert table().address(0, BASE - (1 << 36)) == "B-0x1000008000"
    assert table().address(0, 0x1234) == "0x1234"
    assert table().address(1, BASE) == f"{BASE:#x}"


def test_fork_copies_names() -> None:
    """And what is made in the copy afterwards is not known in the original."""
    known = table()
    known.copy(0, 1)
    known.learn(1, "C", BASE + 0x20000, BASE + 0x21000)
    assert known.address(1, BASE + 16) == "A+16"
    assert known.address(1, BASE + 0x20000) == "C"
    assert known.address(0, BASE + 0x20000) == "B.end+0x17000"


def test_words_of_memory() -> None:
    """Code by its place, a signal frame by the address in it, tokens as addresses."""
    known = table()
    assert known.value(0, 0x700000) == "c3"
    assert known.value(0, 1 << 63 | BASE + 0x10) == "frame bit + A+16"
    assert known.value(0, BASE + 0x8001) == "B+1"
    assert known.value(0, (1 << 64) - 1) == "0xffffffffffffffff"


def test_only_neighbours_with_equal_flags_are_joined() -> None:
    """And a hole stays one."""
    rw, r = ("rd", "wr", "ss"), ("rd", "ss")
    areas = [Area(3, 4, r), Area(0, 1, rw), Area(1, 2, rw), Area(2, 3, r), Area(5, 6, r)]
    assert joined(areas) == (Area(0, 2, rw), Area(2, 4, r), Area(5, 6, r))


def test_the_docstrings_examples() -> None:
    """They are what the functions give."""
    for module in (predict, seen, shrink, symbols):
        assert doctest.testmod(module).failed == 0
