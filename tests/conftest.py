"""What tests share: tables, which take seconds to extract."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache

import pytest

from model.designs import DESIGNS, Design
from shstk.build import Tables, extract
from shstk.space import Bound

# A shell that starts the tests in the background has Ctrl-C ignored, and so would all children.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tables_of() -> Callable[[Design, Bound], Tables]:
    """The tables of a design at a bound, extracted once."""
    return cache(lambda design, bound: extract(design, bound))


@pytest.fixture(scope="session", params=("linux-6.12", "v1"))
def design(request: pytest.FixtureRequest) -> Design:
    """Each registered design in turn."""
    return DESIGNS[request.param]
