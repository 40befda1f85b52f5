"""proposed: the merged design with its holes closed.  Ours; posted nowhere.

thread.shstk.base becomes a reference to a small object { base, size, refcount }, allocated
with the mapping: whoever may run on a stack holds it, and the last one to let go unmaps it.
In this text the count is not a variable: it is how many tasks of the mm have that base.
The count is touched where stacks are made, shared and given up, and nowhere else: no cost
for threads that run, no global state.

What each change is for:

* a vfork child holds its parent's stack (``shstk_alloc_thread_stack``), so that a parent
  which dies in its wait, or whoever else lets go first, does not unmap it under the others
  (not-in-use, no-dangling-ssp);
* a copy made by CLONE_VFORK without CLONE_VM is the child's own, as any fork's
  (freed-at-least-once);
* whoever lets go forgets the base, so that a failed exec finds nothing to free twice and
  nothing to warn of (no-false-alarm);
* the TLS is set before the stack is mapped, so that a clone that fails there leaves none
  (failed-clone-harmless);
* a worker never returns to user mode and gets no stack (worker-holds-none), as proposed in
  Message-ID 20250822153702.GA27153;
* mmap_lock is taken as exit_mm() takes it, not killable: -EINTR would leave the stack mapped
  in an mm that others go on using (freed-at-least-once, freed-before-join);
* one rule for all sizes: at most 4 GiB, also what clone3 asks for, and a quarter through the
  32-bit entry, as the log of the merged patch says (size-explicit, size-compat).

What it does not close, because user space would see it:

* separate-stacks, where vforks are nested and the one in the middle is killed: its parent
  resumes while its child still runs on the parent's stack.  So it does on the ordinary
  stack, with and without shadow stacks.  The parent would have to wait for the grandchild, or
  the grandchild to die with its parent: either way vfork() would be another system call.
* no-orphan-copies: a copy of another thread's stack can have a restore token on it, left by
  a context that moved away, and the child may go on with that context.
"""

from __future__ import annotations

from model.designs.linux_6_12 import Linux612
from model.events import Warned, Warning
from model.kernel.fork import CLONE_VFORK, CLONE_VM, CloneArgs
from model.kernel.mmap import (
    OK,
    do_munmap,
    mmap_shadow_stack,
    page_align,
    rlimit_stack,
    rlimit_stack_max_4g,
)
from model.state import NO, NULL, Kind, Off, Task
from model.world import Cond, Term, World


class Proposed(Linux612):
    """A stack belongs to all who may run on it."""

    name = "proposed"
    title = "the merged design with its holes closed: stacks are counted"
    cite = "not posted"
    source = "model/designs/proposed.py"

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.worker:
            child.base = NULL
            child.size = 0
            child.ssp = NULL
            child.off = Off.TOP
            return 0
        err = args.set_new_tls(k)
        if err != 0:
            return err
        return self.shstk_alloc_thread_stack(k, child, args)

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if k.current.shstk == NO:
            return 0
        if args.flags & CLONE_VM == 0:
            return 0  # a copy, in an mm of its own
        if args.flags & CLONE_VFORK != 0:
            return 0  # one more holds the parent's
        requested = args.stack_size(k)
        rlimit = rlimit_stack(k)
        compat = args.in_compat_syscall(k)
        size = self.thread_stack_size(k, requested, rlimit, compat)
        addr, err = mmap_shadow_stack(k, tsk, size, Kind.CLONE, requested, rlimit, compat)
        if err != 0:
            return err
        tsk.base = addr
        tsk.size = size
        tsk.ssp = addr
        tsk.off = Off.TOP
        return 0

    def thread_stack_size(self, k: World, requested: Term, rlimit: Term, compat: Cond) -> Term:
        """One rule: at most 4 GiB, a quarter through the 32-bit entry, whole pages."""
        size = rlimit_stack_max_4g(k, rlimit)
        if requested != 0:
            size = rlimit_stack_max_4g(k, requested)
        if compat:
            return page_align(size // 4)
        return page_align(size)

    def shstk_free(self, k: World, tsk: Task) -> int:
        """Let go of the stack; who is the last unmaps it."""
        if tsk.base == NULL:
            return 0
        if (tsk.mm == NULL) | (tsk.mm != k.current.mm):
            return 0
        mapping = tsk.mm.at(tsk.base)
        if k.exists_task(lambda t: (t != tsk) & (t.mm == tsk.mm) & (t.base == tsk.base)):
            if mapping.owner == tsk:  # ghost: the stack is now one of the others'
                mapping.owner = k.some_task(
                    lambda t: (t != tsk) & (t.mm == tsk.mm) & (t.base == tsk.base)
                )
        else:
            self.unmap_shadow_stack(k, tsk)
        tsk.base = NULL
        tsk.size = 0
        return 0

    def unmap_shadow_stack(self, k: World, tsk: Task) -> None:
        err = do_munmap(k, tsk, tsk.base, tsk.size)
        if err != OK:
            k.emit(Warned(tsk, Warning.MUNMAP_FAILED, err))
