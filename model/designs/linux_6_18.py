"""linux-6.18: 6.18.y as of May 2026.

Nothing of the life cycle differs from 6.12: clone_flags is 64 bits wide, x86_task_fpu() has a
new form, uprobes push and pop by shstk_push() and shstk_pop().  What differs is sigreturn
(9874b2917b9f, April 2026; also in 6.12.y, later than the 6.12 here): the area that SSP is in is
looked at before the word is read, and the mmap_lock is not held while it is read.  Where areas
change in between it starts again.  Read from arch/x86/kernel/shstk.c.

Later trees (2026) map by vm_mmap_shadow_stack() and take the area's own lock, so that a
contended mmap_lock cannot end a sigreturn; both locks are only told by the errno, and any errno
is SIGSEGV.
"""

from __future__ import annotations

from model.designs.linux_6_12 import Linux612
from model.designs.user_memory import misaligned
from model.kernel.errno import EINVAL
from model.kernel.uaccess import UserMemory, u64


class Linux618(Linux612):
    """6.12's design with a sigreturn that does not hold the mmap_lock over a page fault."""

    name = "linux-6.18"
    title = "the merged design as of 6.18.y, May 2026"
    cite = "b2926a36b97a, with 9874b2917b9f and 52f657e34d7b (6.18.y)"
    source = "arch/x86/kernel/shstk.c, 6.18.y"

    def shstk_pop_sigframe(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        if misaligned(ssp, 8):
            return 0, EINVAL
        err = u.mmap_read_lock_killable()
        if err != 0:
            return 0, err
        if u.vma_is_shadow_stack(ssp):
            token_addr, err = self.get_shstk_data(u, ssp)
            if err != 0:
                return 0, err
            return self.restore_to(token_addr)
        return 0, EINVAL
