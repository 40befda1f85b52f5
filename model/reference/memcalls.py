"""The system calls on memory: mmap and its like, and map_shadow_stack.

What they do to the areas is in ``vma``; here is which steps of the life cycle that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from model.kernel.errno import ENOSYS
from model.reference.calls import CALL
from model.reference.machine import Machine, Move, Returned
from model.reference.operations import Address, Bytes, operation
from model.reference.system import Thread
from model.reference.tokens import restore_tokens
from model.reference.uaccess import KernelAccess
from model.reference.values import Range
from model.reference.vma import PROT_READ, PROT_WRITE, Vma, page_align
from model.reference.world import areas_in
from model.state import NULL, Kind

Protection = Literal["none", "r", "rw"]
PROT = {"none": 0, "r": PROT_READ, "rw": PROT_READ | PROT_WRITE}
Steps = tuple[tuple[str, Mapping[str, object]], ...]


def range_of(area: Vma) -> Range:
    """The range that an area is."""
    return Range(area.start, area.end - area.start)


def _returned(m: Machine, t: Thread, call: str, value: int, steps: Steps, outside: str) -> None:
    m.effects.append(Returned(t.name, call, value))
    m.tell(Move(t.tid, steps if value >= 0 else (), outside if value >= 0 else ""))


def _gone(m: Machine, t: Thread, start: int, length: int) -> tuple[Steps, str]:
    """Which steps it is to unmap a range, asked before it is done."""
    where = Range(start, page_align(length))
    steps = []
    for area in areas_in(m.system.space(t), where):
        if area.start < where.start or area.end > where.end:
            return (), "part of a mapping is unmapped"
        name = "munmap_shadow_stack" if area.shadow else "munmap"
        steps.append((name, {"addr": range_of(area)}))
    return tuple(steps), ""


@operation(CALL)
def mmap(
    m: Machine,
    t: Thread,
    size: Bytes,
    addr: Address | None = None,
    prot: Protection = "rw",
    fixed: bool = False,
    noreplace: bool = False,
) -> int | None:
    """mmap(2) of private anonymous memory."""
    m.require_running(t)
    gone: Steps = ()
    outside = ""
    if fixed and addr is not None:
        gone, outside = _gone(m, t, addr, size)
    start = m.system.space(t).mmap(
        addr or 0,
        size,
        PROT[prot],
        fixed=fixed,
        noreplace=noreplace,
        label="memory",
        kind=Kind.ORDINARY,
        owner=NULL,
    )
    steps = (*gone, ("mmap", {"addr": Range(start, page_align(size))}))
    _returned(m, t, "mmap", start, steps, outside)
    return start if start >= 0 else None


@operation(CALL)
def munmap(m: Machine, t: Thread, addr: Address, size: Bytes) -> None:
    """munmap(2)."""
    m.require_running(t)
    steps, outside = _gone(m, t, addr, size)
    _returned(m, t, "munmap", m.system.space(t).munmap(addr, size), steps, outside)


@operation(CALL)
def mprotect(m: Machine, t: Thread, addr: Address, size: Bytes, prot: Protection) -> None:
    """mprotect(2); of a shadow stack ``r`` makes shadow accesses fault, of pages yet untouched.

    Pages that have been written or read through SSP stay usable until a fork.
    """
    m.require_running(t)
    space = m.system.space(t)
    there = areas_in(space, Range(addr, page_align(size)))
    shadow = any(area.shadow for area in there)
    split = any(a.start < addr or a.end > addr + page_align(size) for a in there)
    error = space.mprotect(addr, size, PROT[prot])
    outside = "a shadow stack is protected" if shadow else "a mapping is split" if split else ""
    # A call that fails at a hole has changed what lies before it.
    m.effects.append(Returned(t.name, "mprotect", error))
    m.tell(Move(t.tid, (), outside))


@operation(CALL)
def mremap(
    m: Machine,
    t: Thread,
    addr: Address,
    size: Bytes,
    new_size: Bytes | None = None,
    to: Address | None = None,
    maymove: bool = False,
) -> int | None:
    """mremap(2); ``to``: MREMAP_FIXED (and MAYMOVE), to there."""
    m.require_running(t)
    space = m.system.space(t)
    new = size if new_size is None else new_size
    old = [a for a in areas_in(space, Range(addr, page_align(size)))]
    whole = len(old) == 1 and range_of(old[0]) == Range(addr, 0) and old[0].size == page_align(size)
    gone: Steps = ()
    outside = "" if whole and new == size else "a mapping is resized or moved in part"
    if whole and old[0].shadow and restore_tokens(space, old[0]):
        outside = "a stack with a token moves"
    if to is not None:
        gone, other = _gone(m, t, to, new)
        outside = outside or other
    flags = (1 if maymove or to is not None else 0) | (2 if to is not None else 0)
    shadow = bool(old) and old[0].shadow
    start = space.mremap(addr, size, new, flags, to or 0)
    steps: Steps = ()
    if start >= 0 and start != addr:
        there = {"addr": Range(addr, size), "to": Range(start, page_align(new))}
        move = (("munmap", {"addr": there["addr"]}), ("mmap", {"addr": there["to"]}))
        steps = (*gone, *((("mremap_shadow_stack", there),) if shadow else move))
    _returned(m, t, "mremap", start, steps, outside)
    return start if start >= 0 else None


@operation(CALL)
def mseal(m: Machine, t: Thread, addr: Address, size: Bytes) -> None:
    """mseal(2): nobody can unmap, move or protect it any more, the kernel at exit neither."""
    m.require_running(t)
    space = m.system.space(t)
    where = Range(addr, page_align(size))
    there = areas_in(space, where)
    whole = all(where.start <= a.start and a.end <= where.end for a in there)
    shadow = all(a.shadow for a in there)
    outside = "" if whole and shadow else "part of a mapping, or ordinary memory, is sealed"
    steps = tuple(("mseal", {"addr": range_of(a)}) for a in there if not a.sealed)
    error = space.mseal(addr, size) if m.design.has_mseal else -ENOSYS
    _returned(m, t, "mseal", error, steps, outside)


@operation(CALL)
def map_shadow_stack(
    m: Machine,
    t: Thread,
    size: Bytes,
    addr: Address | None = None,
    token: bool = False,
    flags: int = 0,
    compat: bool = False,
) -> int | None:
    """map_shadow_stack(2); ``token``: SHADOW_STACK_SET_TOKEN, ``flags``: more flags."""
    m.require_running(t)
    t.compat = compat or not t.regs.long_mode
    u = KernelAccess(m.system, t)
    start, error = m.design.map_shadow_stack(u, addr or 0, size, flags | token)
    t.compat = False
    steps = (("map_shadow_stack", _mapped(m, t, start)),) if not error else ()
    _returned(m, t, "map_shadow_stack", -error or start, steps, "")
    return None if error else start


def _mapped(m: Machine, t: Thread, start: int) -> dict[str, object]:
    space = m.system.space(t)
    area = space.find(start)
    assert area is not None
    has_token = bool(restore_tokens(space, area))
    return {"addr": range_of(area), "SHADOW_STACK_SET_TOKEN": has_token}
