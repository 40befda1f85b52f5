"""What a design has to say: the hooks the shared kernel paths call.

Hooks return 0 for success, an errno otherwise.  ``deactivate_mm``, ``exit_thread`` and
``shstk_disable`` return non-zero when an unmapping is to be tried again; nothing may have
changed then.
"""

from __future__ import annotations

from model.designs.user_memory import UserMemoryDesign
from model.kernel.fork import CloneArgs
from model.state import Task
from model.world import Cond, World


class Design(UserMemoryDesign):
    """One way to allocate, share and free user shadow stacks."""

    name: str
    title: str
    cite: str  # Message-ID or commit
    source: str  # the file and version that the hooks were read from
    has_mseal = True
    signal_frame_is_token = False  # what signal delivery pushes would do for RSTORSSP
    map_above4g = True  # shadow stacks lie above 4 GiB, out of reach of 32-bit code
    huge_pages = True  # multiples of 2 MiB are placed at one (since 6.7)
    guard_gaps = "start"  # which ends of a shadow stack have a guard page: "start" or "both"

    def enabled(self, tsk: Task) -> Cond:
        """The kernel takes shadow stacks to be on for ``tsk``."""
        raise NotImplementedError

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        """arch copy_thread(): the child's registers, SSP and bookkeeping."""
        raise NotImplementedError

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        """arch deactivate_mm(), from mm_release()."""
        raise NotImplementedError

    def exit_thread(self, k: World, tsk: Task) -> int:
        """arch exit_thread(): last in do_exit(), and in copy_process()'s error exit."""
        raise NotImplementedError

    def shstk_setup(self, k: World) -> int:
        """Enable shadow stacks for current."""
        raise NotImplementedError

    def shstk_disable(self, k: World) -> int:
        """Disable shadow stacks for current."""
        raise NotImplementedError

    def start_thread(self, k: World, tsk: Task) -> None:
        """A new image starts: reset what the old one had."""
        raise NotImplementedError
