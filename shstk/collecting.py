"""Reading a text and exploring make millions of small objects, most of which live on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects between two looks for garbage, and looks until the older ones are looked at, too.
SELDOM = (200_000, 20, 100)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Cycles of garbage are looked for seldom in here; looking takes longer than the work."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
