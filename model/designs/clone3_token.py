"""clone3-token: 6.12's design with the clone3 series, whose user brings the child's stack.

A clone that is given a token runs on the stack under it, and the kernel keeps no record of
that stack: it never frees it.  The token is taken after copy_thread(), in the child's mm;
what fails afterwards does not put it back.  Read from v23 of the series, and from what
linux-next had of it (arch/x86/kernel/shstk.c).
"""

from __future__ import annotations

from model.designs.linux_6_12 import Linux612
from model.kernel.errno import EFAULT, EINVAL
from model.kernel.fork import CloneArgs
from model.state import NO, NULL, SHADOW_KINDS, Off, Task
from model.world import World


class Clone3Token(Linux612):
    """The merged design, where clone3 can be given a restore token."""

    name = "clone3-token"
    title = "the clone3 series, v23 (not merged): the caller brings the child's stack"
    cite = "Message-ID 20251218-clone3-shadow-stack-v23-4"
    source = "arch/x86/kernel/shstk.c, clone3 series v23"
    has_clone_token = True

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.shstk_token == NULL:
            return super().shstk_alloc_thread_stack(k, tsk, args)
        if k.current.shstk == NO:
            return EINVAL
        tsk.base = NULL
        tsk.size = 0
        tsk.ssp = args.shstk_token
        # Above the token: at the top of a new stack, inside of one that was left.
        tsk.off = k.choose("SSP after", (Off.TOP, Off.INSIDE))
        return 0

    def shstk_validate_clone(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.shstk_token == NULL:
            return 0
        mapping = child.mm.at(args.shstk_token)
        if ~mapping.kind.isin(SHADOW_KINDS):
            return EFAULT
        if mapping.token == NO:
            return EINVAL
        mapping.token = False  # cmpxchg of the token and 0
        return 0
