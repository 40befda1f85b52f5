"""Two designs' reports as tests, made once, and what tests change in them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from model.designs import DESIGNS
from shstk.assessment import assess
from shstk.expectations import Expectations, found
from shstk.formats.cases import Suite, suites
from shstk.space import Bound
from shstk.verdicts import Report

SMALL = Bound(2, 1, 1)
WANTED = ("not-in-use", "inherited", "exec-resets", "vfork-return-faults", "vfork-resumes")


@cache
def reports() -> list[Report]:
    """Two designs, with verdicts of every kind but unknown."""
    designs = [DESIGNS["v1"], DESIGNS["linux-6.12"]]
    return assess(designs, bound=SMALL, wanted=frozenset(WANTED), proofs=False)[0]


@cache
def plain() -> list[Suite]:
    """They as tests, with nothing expected."""
    return suites(reports(), DESIGNS, None)


@cache
def known() -> list[Suite]:
    """They as tests, with everything expected as it is."""
    return suites(reports(), DESIGNS, Expectations("FILE", _table()))


def expecting(**other: str) -> Suite:
    """The first design with all verdicts expected as they are, but for these."""
    table = _table()
    table["v1"] |= {name.replace("_", "-"): status for name, status in other.items()}
    return suites(reports(), DESIGNS, Expectations("FILE", table))[0]


def strange() -> Suite:
    """A suite whose texts have what a format may not be able to write."""
    words = 'a\x1b[1m\x00<&>"\ud800 # not ok 9\nok 9 x'
    case = next(c for c in plain()[0].cases if c.violations)
    first = replace(case.violations[0], why=words)
    case = replace(case, name=f"odd{words}", note=words, details=words, violations=(first,))
    return replace(plain()[0], cases=(case,))


def _table() -> dict[str, dict[str, str]]:
    return {r.design: found(r) for r in reports()}
