"""Everything that a boot needs, fetched and built ahead of it."""

from __future__ import annotations

from collections.abc import Callable

from shstk.kernel import bochs as emulator
from shstk.kernel import kernels
from shstk.kernel.bochs import Bochs
from shstk.kernel.compiler import firmware
from shstk.kernel.kernels import Kernel


def prepare(say: Callable[[str], None], *, newest: bool = False) -> tuple[Kernel, Bochs]:
    """Fetch the kernel, build the emulator and its firmware; what is there already is kept.

    With ``newest`` the archive is asked for a newer kernel.  Raises Missing with what is in the
    way.
    """
    firmware()
    kernel = kernels.debian_kernel(say, newest=newest)
    return kernel, emulator.bochs(say)


def ready() -> bool:
    """Whether a boot would fetch and build nothing, and so needs no network."""
    return kernels.cached() is not None and emulator.cached() is not None
