"""What a clone gives its child, and what a failing one leaves behind."""

from model.events import Allocated, CloneFailed, CloneStarted
from model.state import NULL, SHADOW_KINDS, YES, Kind, Off
from model.world import Cond
from properties.vocabulary import Judged, declare, on


def _wants_own(k: Judged, e: CloneStarted) -> Cond:
    """A user thread in its creator's mm, not a vfork child, of a creator with shadow stacks on."""
    return e.shares_mm & ~e.vfork & on(e.parent) & (e.child.worker != YES)


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


alloc_failure = declare(
    "alloc-failure-fails-clone",
    "a thread never starts without its own stack when shadow stacks are on",
    "review of v7 30/41: an application cannot handle a thread without a new shadow stack",
)


@alloc_failure.whenever(CloneStarted, "own-stack", premise=_wants_own)
def _(k: Judged, event: CloneStarted) -> Cond:
    return ~_wants_own(k, event) | event.own_stack


ssp_at_top = declare(
    "ssp-at-top",
    "a new thread starts at the top of its own, empty stack",
    "v1 28/35: PL3_SSP = addr + stack_size",
)


@ssp_at_top.whenever(CloneStarted, "top", premise=_wants_own)
def _(k: Judged, event: CloneStarted) -> Cond:
    return ~(_wants_own(k, event) & event.own_stack) | (event.child.off == Off.TOP)


worker_holds_none = declare(
    "worker-holds-none",
    "a kernel worker never has a shadow stack of its own",
    "Message-ID 20250822153702.GA27153 (not merged)",
)


@worker_holds_none.whenever(CloneStarted, "none", premise=lambda k, e: e.child.worker == YES)
def _(k: Judged, event: CloneStarted) -> Cond:
    child = event.child
    return (child.worker != YES) | (child.base == NULL) | (child.mm.at(child.base).owner != child)


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
