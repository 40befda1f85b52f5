"""Freeing: at most once, at least once, in the right mm, under nobody's feet."""

from model.events import FutexWoken, Unmapped, Warned, Warning
from model.state import KERNEL_KINDS, LEFT, NULL, Kind
from model.world import Cond
from properties.vocabulary import Judged, declare

at_most_once = declare(
    "freed-at-most-once",
    "the kernel unmaps a task's stack only while that task owns it",
    "748c90c69336, log: a second unmap could hit a newly mapped region",
)


@at_most_once.whenever(Unmapped, "owned")
def _(k: Judged, event: Unmapped) -> Cond:
    return event.own


at_least_once = declare(
    "freed-at-least-once",
    "no shadow stack of a live mm has an owner that has left that mm",
    "v1 28/35, log: 'Free the shadow stack on thread exit by doing it in mm_release()'",
)


@at_least_once.always(
    "owner-there",
    premise=lambda k: k.exists_mm(
        lambda m: k.exists_addr(lambda a: m.at(a).kind.isin(KERNEL_KINDS) & (m.at(a).owner != NULL))
    ),
)
def _(k: Judged) -> Cond:
    return ~k.exists_mm(
        lambda m: k.exists_addr(lambda a: m.at(a).kind.isin(KERNEL_KINDS) & (m.at(a).owner == LEFT))
    )


no_orphan_copies = declare(
    "no-orphan-copies",
    "no mm holds fork's copies of other threads' stacks",
    "331955600ddf, log, documents the copies that nobody frees as existing behaviour",
)


@no_orphan_copies.always(
    "no-orphan",
    premise=lambda k: k.exists_mm(
        lambda m: k.exists_addr(lambda a: m.at(a).kind.isin((Kind.COPY, Kind.ORPHAN)))
    ),
)
def _(k: Judged) -> Cond:
    return ~k.exists_mm(lambda m: k.exists_addr(lambda a: m.at(a).kind == Kind.ORPHAN))


own_mm = declare(
    "own-mm",
    "the kernel unmaps a shadow stack only in the mm it was recorded in, and only the task's own",
    "v1 28/35, comment in shstk_free()",
)


@own_mm.whenever(Unmapped, "mm-of-the-record")
def _(k: Judged, event: Unmapped) -> Cond:
    return event.recorded_here


@own_mm.whenever(Unmapped, "nothing-else-hit")
def _(k: Judged, event: Unmapped) -> Cond:
    return event.own | (event.kind == Kind.FREE)


not_in_use = declare(
    "not-in-use",
    "no kernel path unmaps the stack that another task which can still run is on",
    "v1 28/35, log: 'Skip this when exiting a vfork() child since the stack is shared'",
)


@not_in_use.whenever(Unmapped, "nobody-else-on-it")
def _(k: Judged, event: Unmapped) -> Cond:
    return ~event.still_used


no_false_alarm = declare(
    "no-false-alarm",
    "the double-free warning fires only for a double free, the unmap warning only for a "
    "failure the kernel did not cause",
    "509ff51ee652, log",
)


@no_false_alarm.whenever(
    Warned, "double-free-warning", premise=lambda k, e: e.what == Warning.DOUBLE_FREE
)
def _(k: Judged, event: Warned) -> bool:
    # The warning returns before munmap, so where it fires nothing is freed twice.
    return event.what != Warning.DOUBLE_FREE


@no_false_alarm.whenever(
    Warned, "unmap-warning", premise=lambda k, e: e.what == Warning.MUNMAP_FAILED
)
def _(k: Judged, event: Warned) -> bool:
    return event.what != Warning.MUNMAP_FAILED or event.cause == "EPERM"


worker_frees_nothing = declare(
    "worker-frees-nothing",
    "a kernel worker never unmaps another's stack",
    "KERNEL: PF_IO_WORKER keeps its creator's bookkeeping (v1); arm64, RISC-V likewise",
)


@worker_frees_nothing.whenever(Unmapped, "own-only", premise=lambda k, e: e.for_worker)
def _(k: Judged, event: Unmapped) -> Cond:
    return ~event.for_worker | event.own


before_join = declare(
    "freed-before-join",
    "a thread's stack is gone before its CLEARTID futex is woken",
    "kernel/fork.c mm_release(): deactivate_mm() comes first",
)


@before_join.whenever(FutexWoken, "gone")
def _(k: Judged, event: FutexWoken) -> Cond:
    return ~event.stack_mapped
