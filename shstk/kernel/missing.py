"""What can stand in the way of booting a kernel, in one line each."""

from __future__ import annotations

from collections.abc import Sequence

from shstk.errors import UserError


class Missing(UserError):
    """Something is not here and cannot be made; the message says how to get it."""


# What a kernel says in the line that matters most.
TELLING = ("Kernel panic", "BUG:", "Oops:", "watchdog:")


class Hung(UserError):
    """The guest stopped without ending; ``console`` is the end of the kernel's console."""

    def __init__(self, why: str, console: Sequence[str]) -> None:
        """``why`` in a few words; ``console``: the last lines, oldest first, possibly none."""
        self.console = tuple(console)
        telling = [line for line in console if any(word in line for word in TELLING)]
        last = [*console[-1:], *telling][-1:]
        super().__init__("; the console says: ".join([why, *last]))
