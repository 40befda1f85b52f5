"""Starting a guest: a kernel in Bochs, or this machine's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from shstk.conform.campaign import Boot, Ended
from shstk.errors import UserError
from shstk.kernel.boot import Hung, Kernel, debian_kernel, guest_program, own_kernel, run

Say = Callable[[str], None]
On = Literal["bochs", "host"]
SILENCE = 60.0  # seconds without a line: the guest is taken for hung
CPUINFO, FLAG = Path("/proc/cpuinfo"), "user_shstk"


@dataclass(frozen=True)
class Place:
    """Where guests run.  ``kernel`` is None for this machine's own."""

    kernel: Kernel | None
    on: On
    say: Say

    @property
    def boot(self) -> Boot:
        """Runs a campaign file; Ended where the guest stops before its end."""
        return partial(self.lines, "guest")

    def lines(self, program: str, campaign: bytes) -> Iterator[str]:
        """What a guest program writes for a campaign file; Ended where it stops before its end."""
        lines = run(
            self.kernel,
            guest_program(program),
            {"scenarios": campaign},
            say=self.say,
            timeout=SILENCE,
            mode=self.on,
        )
        try:
            yield from lines
        except Hung as hung:
            raise Ended("; ".join((str(hung), *hung.console[-3:]))) from None
        finally:
            lines.close()  # type: ignore[attr-defined]


def place(on: On, kernel: str | None, say: Say) -> Place:
    """Where a campaign is to run; UserError where it cannot."""
    if on == "host":
        if kernel is not None:
            raise UserError("--kernel FILE is for --on bochs: the host has its own kernel")
        if not _has_shadow_stacks():
            raise UserError(
                f"--on host: no {FLAG} in {CPUINFO}, so this machine's CPU or kernel has no user "
                "shadow stacks; leave --on out"
            )
        return Place(None, on, say)
    return Place(own_kernel(Path(kernel)) if kernel else debian_kernel(say), on, say)


def _has_shadow_stacks() -> bool:
    try:
        return any(FLAG in line.split() for line in CPUINFO.read_text().splitlines())
    except OSError:
        return False
