"""arm64-6.13: Guarded Control Stacks as merged.

Beside deactivate_mm() there are two more calls of gcs_free(), which later were taken for
redundant: flush_gcs() in exec made one in the new mm until d2be3270f40b (6.16), and
arch_release_task_struct() one for every task_struct until 75fdf823f94b (6.17).  The second is
not: a child whose clone fails still has an mm there.  exec left the lock alone until
98a97bf41528 (6.19).  task_gcs_el0_enabled() looked at current, whose mode the child's is a
copy of, so nothing comes of that.  Left out: that enabling took -ENOMEM for an address until
53c998527ffa (2026); the task dies of its next BL.
"""

from __future__ import annotations

from model.designs.arm64 import Arm64
from model.state import NULL, Off, Task
from model.world import World

# delayed_free_task(): with CONFIG_MEMCG free_task() runs from RCU, where current is whoever is
# interrupted.  That it may be somebody on this mm, where munmap must not sleep, is left out.
AT_ONCE, FROM_RCU = "at once: no CONFIG_MEMCG", "from RCU"


class Arm64Merged(Arm64):
    """GCS of 6.13, either way of freeing a task_struct."""

    name = "arm64-6.13"
    title = "arm64 GCS as merged in 6.13"
    cite = "506496bcbb42, before d2be3270f40b 75fdf823f94b 98a97bf41528 53c998527ffa"
    source = "arch/arm64/mm/gcs.c, 6.13"
    releases_with_task_struct = True

    def arch_release_task_struct(self, k: World, tsk: Task) -> None:
        if k.choose("free_task", (AT_ONCE, FROM_RCU)) == AT_ONCE:
            self.gcs_free(k, tsk)

    def flush_gcs(self, k: World, tsk: Task) -> None:
        self.gcs_free(k, tsk)
        tsk.ssp = NULL
        tsk.off = Off.TOP
        tsk.shstk = False
        tsk.wrss = False
