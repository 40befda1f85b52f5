"""What a clone gives its child, and what a failing one leaves behind."""

from model.events import Allocated, CloneFailed, CloneStarted, Failed, Warned
from model.kernel.errno import EFAULT, EPERM
from model.state import NO, NULL, SHADOW_KINDS, YES, Ctl, Kind, Off, Task
from model.world import Cond
from properties.vocabulary import Judged, declare, on


def _wants_own(k: Judged, e: CloneStarted) -> Cond:
    """A user thread in its creator's mm, not a vfork child, of a creator with shadow stacks on."""
    return e.shares_mm & ~e.vfork & on(e.parent) & (e.child.worker != YES)


def _brought(k: Judged, parent: Task, child: Task) -> Cond | bool:
    """``child`` is on a stack that came with clone3's token: the kernel has no record of it."""
    if not k.design.has_clone_token:
        return False
    stack = child.mm.at(child.ssp)
    elsewhere = on(child) & (child.base == NULL) & (child.ssp != parent.ssp)
    return elsewhere & stack.kind.isin(SHADOW_KINDS)


def _sets_off_alone(k: Judged, e: CloneStarted) -> Cond | bool:
    """The child has brought its stack, and nobody else is on it."""
    child = e.child
    return _brought(k, e.parent, child) & ~k.exists_task(
        lambda t: (t != child) & (t.mm == child.mm) & (t.ssp == child.ssp)
    )


failed_clone_harmless = declare(
    "failed-clone-harmless",
    "a failing clone leaves the caller's stack, SSP and bookkeeping as they were, "
    "and nothing behind",
    "331955600ddf, log",
)


@failed_clone_harmless.whenever(CloneFailed, "nothing-left-behind")
def _(k: Judged, event: CloneFailed) -> Cond:
    return ~event.left_behind


@failed_clone_harmless.whenever(
    CloneFailed, "callers-stack-mapped", premise=lambda k, e: on(k.before(e.parent))
)
def _(k: Judged, event: CloneFailed) -> Cond:
    # Somebody else may have unmapped it before; the claim is about this step.
    before = k.before(event.parent)
    was_there: Cond = before.mm.at(before.ssp).kind.isin(SHADOW_KINDS)
    return ~event.stack_gone | ~was_there


@failed_clone_harmless.whenever(CloneFailed, "callers-bookkeeping")
def _(k: Judged, event: CloneFailed) -> Cond:
    now, before = event.parent, k.before(event.parent)
    same: Cond = (
        (now.base == before.base)
        & (now.size == before.size)
        & (now.ssp == before.ssp)
        & (now.shstk == before.shstk)
    )
    return same


@failed_clone_harmless.whenever(
    CloneFailed, "callers-token", premise=lambda k, e: _brought(k, e.parent, e.parent.child)
)
def _(k: Judged, event: CloneFailed) -> Cond | bool:
    if not k.design.has_clone_token:
        return True
    parent, child = event.parent, event.parent.child
    before = k.before(parent)
    # A fork takes the token of its copy, and that goes with the copy.
    ours = _brought(k, parent, child) & (child.mm == parent.mm)
    # Who gets past copy_process() had a token.
    was_there: Cond = (before.ctl != Ctl.USER) | (before.mm.at(child.ssp).token == YES)
    return ~(ours & was_there) | (child.mm.at(child.ssp).token == YES)


@failed_clone_harmless.whenever(Failed, "bad-tls", premise=lambda k, e: e.errno == EPERM)
def _(k: Judged, event: Failed) -> Cond | bool:
    # set_new_tls() has refused the address (a 32-bit caller's may be EFAULT), and nobody will
    # wake the child.  A worker has no TLS.
    if event.errno != EPERM and event.errno != EFAULT:
        return True
    child = event.task.child
    return (child.ctl == Ctl.NEW) & (child.worker != YES)


alloc_failure = declare(
    "alloc-failure-fails-clone",
    "a thread never starts without its own stack when shadow stacks are on",
    "review of v7 30/41: an application cannot handle a thread without a new shadow stack",
)


@alloc_failure.whenever(CloneStarted, "own-stack", premise=_wants_own)
def _(k: Judged, event: CloneStarted) -> Cond:
    return ~_wants_own(k, event) | event.own_stack | _sets_off_alone(k, event)


ssp_at_top = declare(
    "ssp-at-top",
    "a new thread starts at the top of its own, empty stack",
    "v1 28/35: PL3_SSP = addr + stack_size",
)


@ssp_at_top.whenever(CloneStarted, "top", premise=_wants_own)
def _(k: Judged, event: CloneStarted) -> Cond:
    return ~(_wants_own(k, event) & event.own_stack) | (event.child.off == Off.TOP)


goes_on = declare(
    "child-goes-on",
    "the child of a fork or vfork goes on where its parent is, on the same stack or its copy",
    "v1 28/35, log: vfork() shares the parent's shadow stack, fork() copies it",
)


def _goes_on(k: Judged, e: CloneStarted) -> Cond:
    """A user task, no thread, of a creator with shadow stacks on; it has not brought a stack."""
    child = e.child
    plain = (~e.shares_mm | e.vfork) & on(e.parent) & (child.worker != YES)
    if not k.design.has_clone_token:
        return plain
    # The kernel notes nothing of a stack that is brought, but nor does it of any vfork child's.
    return plain & ((child.base != NULL) | (child.ssp == e.parent.ssp))


@goes_on.whenever(CloneStarted, "same-stack", premise=_goes_on)
def _(k: Judged, event: CloneStarted) -> Cond:
    return ~_goes_on(k, event) | (event.child.ssp == event.parent.ssp)


@goes_on.whenever(CloneStarted, "same-place", premise=_goes_on)
def _(k: Judged, event: CloneStarted) -> Cond:
    # Its token may have been on the very stack that its parent is on.
    brought = (event.child.base == NULL) & k.design.has_clone_token
    return ~_goes_on(k, event) | brought | (event.child.off == event.parent.off)


worker_holds_none = declare(
    "worker-holds-none",
    "a kernel worker never has a shadow stack of its own",
    "Message-ID 20250822153702.GA27153 (not merged)",
)


@worker_holds_none.whenever(CloneStarted, "none", premise=lambda k, e: e.child.worker == YES)
def _(k: Judged, event: CloneStarted) -> Cond:
    child = event.child
    return (child.worker != YES) | (child.base == NULL) | (child.mm.at(child.base).owner != child)


@worker_holds_none.whenever(
    CloneStarted, "ssp-off", premise=lambda k, e: _gets_init_state(k) & (e.child.worker == YES)
)
def _(k: Judged, event: CloneStarted) -> Cond | bool:
    return ~(_gets_init_state(k) & (event.child.worker == YES)) | ~on(event.child)


def _gets_init_state(k: Judged) -> Cond | bool:
    """fpu_clone() gives a worker the init state, where SSP is part of the FPU's: on x86."""
    return k.design.architecture == "x86"


inherited = declare(
    "inherited",
    "enablement and lock are inherited at clone, locked bits never change, "
    "WRSS implies shadow stacks on",
    "Documentation/arch/x86/shstk.rst, 6.12",
)


@inherited.whenever(CloneStarted, "on-like-the-parent", premise=lambda k, e: on(e.parent))
def _(k: Judged, event: CloneStarted) -> Cond:
    return (
        (event.child.worker == YES)
        | (on(event.child) & on(event.parent))
        | (~on(event.child) & ~on(event.parent))
    )


@inherited.whenever(
    CloneStarted, "locked-like-the-parent", premise=lambda k, e: e.parent.locked_shstk == YES
)
def _(k: Judged, event: CloneStarted) -> Cond:
    return (event.child.locked_shstk == event.parent.locked_shstk) & (
        event.child.locked_wrss == event.parent.locked_wrss
    )


off_is_noop = declare(
    "off-is-noop",
    "with shadow stacks off for a task, its clones and exit do nothing",
    "v1 28/35, comment in shstk_alloc_thread_stack()",
)


@off_is_noop.whenever(Allocated, "no-allocation", premise=lambda k, e: e.kind == Kind.CLONE)
def _(k: Judged, event: Allocated) -> Cond | bool:
    if event.kind != Kind.CLONE:
        return True
    return k.design.enabled(k.before(k.current))


@off_is_noop.whenever(
    CloneStarted, "child-off", premise=lambda k, e: ~k.design.enabled(k.before(e.parent))
)
def _(k: Judged, event: CloneStarted) -> Cond:
    return k.design.enabled(k.before(event.parent)) | ~on(event.child)


@off_is_noop.always("nothing-mapped", premise=lambda k: not k.design.configured)
def _(k: Judged) -> Cond | bool:
    if k.design.configured:
        return True
    return ~k.exists_mm(lambda m: k.exists_addr(lambda a: m.at(a).kind.isin(SHADOW_KINDS)))


@off_is_noop.every_task("as-at-first", premise=lambda k, t: not k.design.configured)
def _(k: Judged, t: Task) -> Cond | bool:
    if k.design.configured:
        return True
    off = (t.base == NULL) & (t.size == 0) & (t.ssp == NULL) & (t.off == Off.TOP)
    unlocked = (t.locked_shstk == NO) & (t.locked_wrss == NO)
    return off & (t.shstk == NO) & (t.wrss == NO) & unlocked


@off_is_noop.whenever(Warned, "no-warning", premise=lambda k, e: not k.design.configured)
def _(k: Judged, event: Warned) -> bool:
    return k.design.configured
