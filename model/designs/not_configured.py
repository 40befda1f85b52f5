"""not-configured: a kernel built without CONFIG_X86_USER_SHADOW_STACK.

The hooks are the stubs of asm/shstk.h, map_shadow_stack(2) is not built (kernel/sys_ni.c).  A
bad TLS address still fails a clone.  Read from 6.12.117.
"""

from __future__ import annotations

from collections.abc import Callable

from model.designs.linux_6_12 import Linux612
from model.kernel.errno import EINVAL, ENOSYS
from model.kernel.fork import CloneArgs
from model.kernel.uaccess import UserMemory, u64
from model.state import Task
from model.world import Cond, World


class NotConfigured(Linux612):
    """6.12 without shadow stacks."""

    name = "not-configured"
    title = "6.12 built without CONFIG_X86_USER_SHADOW_STACK"
    cite = "b2926a36b97a, the stubs"
    source = "arch/x86/include/asm/shstk.h, 6.12"
    configured = False

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        return 0

    def shstk_free(self, k: World, tsk: Task) -> int:
        return 0

    def shstk_setup(self, k: World) -> int:
        """shstk_prctl()'s stub; do_arch_prctl_common() then knows no such option either."""
        return EINVAL

    def shstk_disable(self, k: World) -> int:
        """Not called: shadow stacks are never on."""
        return 0

    def can_lock(self, tsk: Task) -> Cond | bool:
        return False

    def start_thread(self, k: World, tsk: Task) -> None:
        """reset_thread_features() is empty, and there is nothing to reset."""

    # -- user memory -------------------------------------------------------------------
    def setup_signal_shadow_stack(self, u: UserMemory, restorer: u64) -> int:
        return 0

    def restore_signal_shadow_stack(self, u: UserMemory) -> int:
        return 0

    def map_shadow_stack(self, u: UserMemory, addr: u64, size: u64, flags: u64) -> tuple[u64, int]:
        return 0, ENOSYS

    def arch_prctl_check(self, u: UserMemory, option: int, features: u64) -> int:
        return EINVAL

    def wrss_control(self, u: UserMemory, enable: bool) -> int:
        """Not called."""
        return EINVAL

    def arch_prctl(
        self,
        u: UserMemory,
        option: int,
        arg2: u64,
        shstk_setup: Callable[[], int],
        shstk_disable: Callable[[], int],
    ) -> tuple[u64, int]:
        return 0, EINVAL
