"""A state of the symbolic world: what each variable of each object holds.

A variable is a function of its index.  A write makes a new function from the old one; a
bulk copy is no more than that.  Nothing is stored: no arrays, and so no axioms about them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3

from model.state import Field
from shstk.proof import lowlevel
from shstk.proof.sorts import births

Read = Callable[..., Any]


class Heap:
    """The variables as they are now.  ``touched``: those that a write may have changed."""

    def __init__(self, base: dict[Field[Any], Any]) -> None:
        self._read: dict[Field[Any], Read] = {f: lowlevel.applied(g) for f, g in base.items()}
        self.touched: set[Field[Any]] = set()
        self.newborn: list[tuple[Any, Any]] = []  # tasks made, and when

    def copy(self) -> Heap:
        """This state, as it is now."""
        out = Heap({})
        out._read, out.touched = dict(self._read), set(self.touched)
        out.newborn = list(self.newborn)
        return out

    def read(self, field: Field[Any], index: tuple[Any, ...]) -> Any:
        """What the variable of the object at ``index`` holds."""
        return self._read[field](*index)

    def write(self, field: Field[Any], index: tuple[Any, ...], value: Any) -> None:
        """From now on the variable of that object holds ``value``."""
        self.update(field, lambda *at: _same(at, index), lambda *_at: value)

    def born(self, task: Any) -> Any:
        """When the task was made."""
        out = births()(task)
        for child, when in self.newborn:
            out = z3.If(_same((task,), (child,)), when, out)
        return out

    def update(
        self, field: Field[Any], where: Callable[..., z3.BoolRef], value: Callable[..., Any]
    ) -> None:
        """From now on, the variable is ``value`` of the index wherever ``where`` is true."""
        old = self._read[field]

        def read(*at: Any) -> Any:
            here = where(*at)
            known = lowlevel.value(here)
            if known is not None:
                return value(*at) if known else old(*at)
            new, kept = value(*at), old(*at)
            return new if lowlevel.same(new, kept) else lowlevel.choice(here, new, kept)

        self._read[field] = read
        self.touched.add(field)


def _same(at: tuple[Any, ...], index: tuple[Any, ...]) -> z3.BoolRef:
    """Equal, as far as the terms themselves show; otherwise a condition."""
    parts = []
    for a, b in zip(at, index, strict=True):
        if lowlevel.same(a, b):
            continue
        if _distinct(a, b):
            return z3.BoolVal(False)
        parts.append(lowlevel.equal(a, b))
    return (
        lowlevel.conjunction(*parts) if len(parts) > 1 else parts[0] if parts else z3.BoolVal(True)
    )


def _distinct(a: Any, b: Any) -> bool:
    """Two members of an enumeration that are not the same."""
    at = lowlevel.addresses((a, b))
    known = _DISTINCT.get(at)
    if known is None:
        constants = all(z3.is_app(x) and x.num_args() == 0 for x in (a, b))
        known = a, b, constants and bool(z3.is_false(z3.simplify(a == b)))
        if constants:
            _DISTINCT[at] = known
    return known[2]


_DISTINCT: dict[tuple[int, ...], tuple[Any, Any, bool]] = {}  # by address, with the constants
