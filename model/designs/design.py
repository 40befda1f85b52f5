"""What a design has to say: the hooks the shared kernel paths call.

Hooks return 0 for success, an errno otherwise.  ``deactivate_mm``, ``exit_thread`` and
``shstk_disable`` return non-zero when an unmapping is to be tried again; nothing may have
changed then.
"""

from __future__ import annotations

from model.designs.user_memory import UserMemoryDesign
from model.kernel.fork import CloneArgs
from model.kernel.mmap import STACK_SIZES
from model.kernel.prctl import SHSTK, WRSS
from model.state import NULL, Off, Task
from model.world import Cond, World


class OptionalHooks:
    """What a design need not say: most do nothing there, or always the same.

    What sibling architectures do where x86 has no hook, and what the clone3 series adds.
    """

    architecture = "x86"  # the reference machine is an x86
    prctl_call = "arch_prctl"  # the system call that switches features
    stack_sizes: tuple[int, ...] = STACK_SIZES  # clone3's, where only some can be tried
    has_wrss = True  # user space can switch writes to shadow stacks on and off
    lockable: tuple[str, ...] = (SHSTK, WRSS)
    has_clone_token = False  # clone3 takes a shstk_token (not merged)
    releases_with_task_struct = False  # arch_release_task_struct() gives up a stack

    def arch_release_task_struct(self, k: World, tsk: Task) -> None:
        """free_task() of the child of a failing clone: last, and ``tsk->mm`` is still set."""

    def can_lock(self, tsk: Task) -> Cond | bool:
        """Locking a feature succeeds."""
        return True

    def flush_thread(self, k: World, tsk: Task) -> None:
        """arch flush_thread(), in exec once ``tsk`` is on the new mm: the CPU's state."""
        tsk.ssp = NULL
        tsk.off = Off.TOP

    def shstk_validate_clone(self, k: World, child: Task, args: CloneArgs) -> int:
        """Right after copy_thread(): take the token that clone3 was given."""
        return 0


class Design(OptionalHooks, UserMemoryDesign):
    """One way to allocate, share and free user shadow stacks."""

    name: str
    title: str
    cite: str  # Message-ID or commit
    source: str  # the file and version that the hooks were read from
    configured = True  # the kernel is built with shadow stacks
    has_mseal = True
    signal_frame_is_token = False  # what signal delivery pushes would do for RSTORSSP
    map_above4g = True  # shadow stacks lie above 4 GiB, out of reach of 32-bit code
    huge_pages = True  # multiples of 2 MiB are placed at one (since 6.7)
    guard_gaps = "start"  # which ends of a shadow stack have a guard page: "start" or "both"
    gap_below_new = True  # where they are at the start: a new one is placed with its own (6.10)

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
