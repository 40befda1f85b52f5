"""What C libraries do: short programs of instructions and system calls (KERNEL: glibc).

Where a program waits in the kernel, what is left of it is the task's ``todo``.
"""

from __future__ import annotations

from typing import Literal

from model.reference import far, image
from model.reference.calls import clone3, vfork
from model.reference.instructions import call, incsspq, jmp, on, pivot, pop, ret
from model.reference.machine import Machine, NotNow
from model.reference.memcalls import map_shadow_stack, mmap
from model.reference.memory import PAGE_SHIFT
from model.reference.operations import Address, Bytes, NewTask, operation
from model.reference.signals import rt_sigreturn
from model.reference.system import Context, Thread
from model.reference.tokens import is_restore_token
from model.reference.vma import PAGE_SIZE, AddressSpace, PageFault

LIBC = "C library"
Generation = Literal["2.36", "2019"]
PTHREAD = "VM|FS|FILES|SYSVSEM|SIGHAND|THREAD|SETTLS|PARENT_SETTID|CHILD_CLEARTID"
INCSSP_MAX = 255
WALK_MAX = 1 << 16  # words of a shadow stack that longjmp() walks over here; C has no limit
STACK, CONTEXT = Bytes(8 << 20), Bytes(64 << 10)
CONTEXT_EXTRA = 20 * 8  # bytes makecontext() adds for signal handlers


# -- vfork -------------------------------------------------------------------------


@operation(LIBC)
def libc_vfork(m: Machine, t: Thread, child: NewTask, generation: Generation = "2.36") -> None:
    """A CALL of glibc's vfork(), up to the return into the caller, in parent and child.

    ``2.36`` (sysdeps/unix/sysv/linux/x86_64/vfork.S): the parent returns by RET; the child
    jumps and leaves SSP below the caller's frame, so that its own RET there mismatches.
    ``2019``: both pop the slot with INCSSPQ and jump.
    """
    call(m, t)
    if not m.can_run(t):
        return
    back = pop(m, t)
    assert back is not None
    vfork(m, t, child)
    made = m.names().get(child)
    if generation == "2.36":
        t.todo.extend((("push", (back,), {}), ("ret", (), {})))
        if made is not None:
            made.todo.append(("jmp", (back,), {}))
        return
    leave: tuple[tuple[str, tuple[object, ...], dict[str, object]], ...] = (
        *((("incsspq", (1,), {}),) if on(t) else ()),
        ("jmp", (back,), {}),
    )
    t.todo.extend(leave)
    if made is not None:
        made.todo.extend(leave)


# -- threads -----------------------------------------------------------------------


@operation(LIBC)
def pthread_create(m: Machine, t: Thread, child: NewTask, size: Bytes = STACK) -> None:
    """pthread_create(): mmap a stack of ``size``, clone3 onto it; the child calls its function."""
    stack = mmap(m, t, size)
    if stack is None:
        return
    clone3(m, t, child, PTHREAD, size, Address(stack))
    made = m.names().get(child)
    if made is not None:
        made.todo.append(("call", (), {}))


# -- setjmp, longjmp ---------------------------------------------------------------


@operation(LIBC)
def setjmp(m: Machine, t: Thread, name: str) -> None:
    """setjmp(): remember SSP, RSP and RIP as ``name``, for longjmp()."""
    m.require_running(t)
    t.contexts[name] = Context(t.ssp if on(t) else 0, t.regs.rsp, t.regs.rip)


@operation(LIBC)
def longjmp(m: Machine, t: Thread, name: str) -> None:
    """longjmp(): unwind SSP to where setjmp() was (sysdeps/x86_64/__longjmp.S).

    From the target downwards it looks for a restore token, until the current SSP is met;
    if one is found it pivots there first.  Then INCSSPQ in steps of 255 at most.
    """
    m.require_running(t)
    target = t.contexts.get(name)
    if target is None:
        raise NotNow(f"{t.name} has no setjmp {name!r}")
    _go_to(m, t, target)


def _go_to(m: Machine, t: Thread, target: Context) -> None:
    """SSP to the target, by way of a token where it is on another stack; then RSP and RIP."""
    if on(t) and target.ssp and target.ssp != t.ssp:
        token = _token_below(m, t, target.ssp)
        if token is not None:
            pivot(m, t, Address(token))
        if not m.can_run(t) or not _unwind(m, t, target.ssp):
            return
    t.regs.rsp = target.rsp
    jmp(m, t, Address(target.rip))


def _token_below(m: Machine, t: Thread, target: int) -> int | None:
    """The address of a restore token on the target's stack, None: the current SSP comes first."""
    space = m.system.space(t)
    at = target
    while at != t.ssp:
        _walk(target - at)
        at -= 8
        try:
            word = space.load(at, 8, False, True)
        except PageFault:
            return None
        if is_restore_token(at, word):
            return at
        at = _over_zeros(space, at, t.ssp)
    return None


def _over_zeros(space: AddressSpace, at: int, end: int) -> int:
    """From a word that has been read, downwards over words that are 0: no token, and no fault.

    That is so in its page; who looks for ``end`` does not miss it.
    """
    if at % 8:
        return at
    page = first = at & -PAGE_SIZE
    if first <= end <= at and end % 8 == 0:
        first = end
    words = space.pages.present[page >> PAGE_SHIFT].words
    there = [page + o for o, value in words.items() if value and first <= page + o < at]
    return max(there) + 8 if there else first


def _walk(distance: int) -> None:
    if distance > 8 * WALK_MAX:
        raise NotNow(f"longjmp over more than {WALK_MAX} words of shadow stack takes too long here")


def _unwind(m: Machine, t: Thread, target: int) -> bool:
    """INCSSPQ until SSP is at the target; False: the task did not survive it."""
    left = (target - t.ssp) // 8
    _walk(target - t.ssp)
    while left > 0:
        incsspq(m, t, min(left, INCSSP_MAX))
        if not m.can_run(t):
            return False
        left -= INCSSP_MAX
    return True


# -- contexts ----------------------------------------------------------------------


@operation(LIBC)
def makecontext(m: Machine, t: Thread, name: str, size: Bytes = CONTEXT) -> int | None:
    """makecontext(): a shadow stack with a token for a new context ``name``; gives its base."""
    bytes_ = (size + CONTEXT_EXTRA) // 8 * 8
    base = map_shadow_stack(m, t, Bytes(bytes_), token=True)
    if base is not None:
        top = image.data_stack(m.system.made["task"] + 64 + len(t.contexts))
        t.contexts[name] = Context(base + bytes_, top, image.ENTRY)
    return base


@operation(LIBC)
def swapcontext(m: Machine, t: Thread, to: str, save: str = "") -> None:
    """swapcontext(): to the context ``to``, remembering this one as ``save``.

    The same stack: INCSSPQ.  Another: RSTORSSP to its token, and SAVEPREVSSP, which leaves
    one on this (sysdeps/unix/sysv/linux/x86_64/swapcontext.S).
    """
    m.require_running(t)
    target = t.contexts.get(to)
    if target is None:
        raise NotNow(f"{t.name} has no context {to!r}")
    if save:
        setjmp(m, t, save)
    _go_to(m, t, target)


# -- signal handlers ---------------------------------------------------------------


@operation(LIBC)
def handler_return(m: Machine, t: Thread) -> None:
    """A signal handler returns: RET to the restorer, which calls rt_sigreturn(2)."""
    ret(m, t)
    if m.can_run(t) and t.regs.rip == image.RESTORER:
        rt_sigreturn(m, t)


# Importing this module registers every operation there is.
__all__ = ["far"]
