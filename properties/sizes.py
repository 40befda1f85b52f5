"""Sizes of what the kernel allocates, in bytes."""

from model.events import Allocated
from model.kernel.mmap import SZ_4G, page_align
from model.world import PAGE_SIZE, Cond, Term
from properties.vocabulary import Judged, declare


def _sane(size: Term) -> Cond:
    """Non-zero, page multiple, at most 4 GiB."""
    return (size != 0) & (size % PAGE_SIZE == 0) & (size <= SZ_4G)


def _given(event: Allocated) -> Cond | bool:
    return event.requested != 0


def _is_compat(event: Allocated) -> Cond | bool:
    return event.compat


def _in_full(k: Judged, event: Allocated) -> bool:
    """A clone's, through the 64-bit entry, where what is asked for is what is mapped.

    Not on arm64: gcs_size() halves it, since an entry is half of the smallest frame.
    """
    if event.kind.name != "CLONE" or k.design.architecture == "arm64":
        return False
    return not _is_compat(event)


size_default = declare(
    "size-default",
    "a stack sized from RLIMIT_STACK is all of it up to 4 GiB, a page multiple, not empty",
    "v1 28/35, log: 'use RLIMIT_STACK size and cap to 4 GB'",
)


@size_default.whenever(Allocated, "rlimit-path", premise=lambda k, e: e.requested == 0)
def _(k: Judged, event: Allocated) -> Cond:
    return (event.requested != 0) | _sane(event.size)


@size_default.whenever(Allocated, "a-page-more-at-most", premise=lambda k, e: e.requested == 0)
def _(k: Judged, event: Allocated) -> Cond:
    room = event.size <= event.rlimit + PAGE_SIZE
    return (event.requested != 0) | ~(event.rlimit < SZ_4G) | room


@size_default.whenever(
    Allocated, "all-of-it", premise=lambda k, e: _in_full(k, e) and e.requested == 0
)
def _(k: Judged, event: Allocated) -> Cond | bool:
    if not _in_full(k, event):
        return True
    return (event.requested != 0) | (event.size >= event.rlimit) | (event.size == SZ_4G)


size_explicit = declare(
    "size-explicit",
    "a stack sized from clone3's stack_size is all of it up to 4 GiB, a page multiple, not empty",
    "v1 28/35, log (cap), KERNEL: explicit sizes are not capped",
)


@size_explicit.whenever(Allocated, "clone3-path", premise=lambda k, e: _given(e))
def _(k: Judged, event: Allocated) -> Cond:
    return (event.requested == 0) | (event.size <= SZ_4G)


@size_explicit.whenever(Allocated, "page-multiple", premise=lambda k, e: _given(e))
def _(k: Judged, event: Allocated) -> Cond:
    return (event.requested == 0) | (event.size % PAGE_SIZE == 0)


@size_explicit.whenever(Allocated, "not-empty", premise=lambda k, e: _given(e))
def _(k: Judged, event: Allocated) -> Cond:
    return (event.requested == 0) | (event.size != 0)


@size_explicit.whenever(Allocated, "a-page-more-at-most", premise=lambda k, e: _given(e))
def _(k: Judged, event: Allocated) -> Cond:
    return (event.requested == 0) | (event.size <= event.requested + PAGE_SIZE)


@size_explicit.whenever(Allocated, "all-of-it", premise=lambda k, e: _in_full(k, e) and _given(e))
def _(k: Judged, event: Allocated) -> Cond | bool:
    if not _in_full(k, event):
        return True
    return (event.requested == 0) | (event.size >= event.requested) | (event.size == SZ_4G)


size_compat = declare(
    "size-compat",
    "a stack made through the 32-bit system call entry is a quarter of the rule's size",
    "v1 28/35, log: 'A compat-mode thread shadow stack size is further reduced to 1/4'",
)


@size_compat.whenever(
    Allocated, "quarter", premise=lambda k, e: _is_compat(e) and e.kind.name == "CLONE"
)
def _(k: Judged, event: Allocated) -> Cond | bool:
    if event.kind.name != "CLONE" or not _is_compat(event):
        return True
    if event.requested == 0:
        if event.rlimit < SZ_4G:
            return event.size == page_align(event.rlimit // 4)
        return event.size == SZ_4G // 4
    capped = (event.requested > SZ_4G) & (event.size == SZ_4G // 4)  # where the rule has a cap
    return (event.size == page_align(event.requested // 4)) | capped
