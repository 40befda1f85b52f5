"""fix-vfork-clone-failure: the first fix of September 2023.

"x86/shstk: Handle vfork clone failure correctly", 331955600ddf: a CLONE_VFORK child gets
base = size = 0, and a task without base frees nothing.  That a vfork child can be told by its
vfork_done was wrong in a clone that fails (it is not set yet) and, not said in the log, when
the parent is killed while it waits (it is cleared).

What 748c90c69336 then removed is here as it was before: copy_thread() frees the child's stack
where it fails.
"""

from __future__ import annotations

from model.designs.fix_clone_error_handling import FixCloneErrorHandling
from model.kernel.fork import CloneArgs
from model.state import NULL, Off, Task
from model.world import World


class FixVforkCloneFailure(FixCloneErrorHandling):
    """6.6-rc2 with the first fix."""

    name = "fix-vfork-clone-failure"
    title = "6.6-rc2 with base 0 for vfork children (first fix of September 2023)"
    cite = "331955600ddf"
    source = "arch/x86/kernel/shstk.c, 331955600ddf"

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        err = self.shstk_alloc_thread_stack(k, child, args)
        if err != 0:
            return err
        if args.worker:
            # fpu_clone(minimal): the init state.  The new stack is never run on.
            child.ssp = NULL
            child.off = Off.TOP
            return 0
        err = args.set_new_tls(k)
        if err != 0:
            # Nobody who clones has a fatal signal pending: there is nothing to be retried.
            self.shstk_free(k, child)
        return err
