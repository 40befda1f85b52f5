"""What happened inside a step, in words: the same for every world that the text runs in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from counterexamples.expected import ERRNO_NAMES
from counterexamples.named import size_text
from model.events import (
    Allocated,
    CloneFailed,
    CloneStarted,
    Event,
    ExecStarted,
    Failed,
    FeatureChanged,
    FutexWoken,
    Retried,
    Unmapped,
    Warned,
)
from model.state import LEFT, NULL, Kind
from model.world import Cond

Show = Callable[[object], str]
Plain = Callable[[object], object]


def note(event: Event, show: Show, plain: Plain, on_it: Sequence[str] = ()) -> str:
    """An event in words; empty where the step itself says it.

    ``show`` names a value of the world, ``plain`` gives it as Python has it; ``on_it`` are
    the names of who can still run on a stack that is unmapped.  To be asked in the moment
    of the event: its values are those of the world then.
    """
    match event:
        case Allocated():
            return f"the stack at {show(event.addr)} is {_sized(event, plain)}"
        case Unmapped():
            return _unmapped(event, show, plain, on_it)
        case Warned():
            cause = f": {event.cause}" if event.cause else ""
            return f"WARNING in {show(event.what)}{cause}, for {show(event.task)}"
        case Failed():
            return f"-{ERRNO_NAMES.get(event.errno, event.errno)} for {show(event.task)}"
        case CloneFailed():
            return f"the clone returns an error to {show(event.parent)}" + _also(
                ("a stack made for the child stays mapped", event.left_behind),
                ("the caller's own stack is not mapped any more", event.stack_gone),
            )
        case CloneStarted():
            return _started(event, show, plain)
        case FutexWoken():
            woken = f"the CLEARTID futex of {show(event.task)} is woken"
            return f"{woken}, and its stack is still mapped" if event.stack_mapped else ""
        case FeatureChanged():
            changed = f"a locked feature of {show(event.task)} is changed"
            return changed if event.locked else ""
        case ExecStarted():
            return ""  # the step says it
        case Retried():
            return f"munmap gives -EINTR; {show(event.task)} tries again, nothing is changed"
        case _:
            return type(event).__name__


def _started(event: CloneStarted, show: Show, plain: Plain) -> str:
    """Whether a new task has a stack of its own, where one could expect it either way."""
    child = event.child
    base = plain(child.base)
    if plain(child.worker):
        held = "no shadow stack" if base is NULL else f"the shadow stack {show(child.base)}"
        return f"{show(child)} starts as a kernel worker, with {held}"
    if event.vfork or plain(event.parent.ssp) is NULL:
        return ""
    own = "a" if event.own_stack else "no"
    return f"{show(child)} starts with {own} shadow stack of its own"


def _unmapped(event: Unmapped, show: Show, plain: Plain, on_it: Sequence[str]) -> str:
    where = f"the kernel unmaps {show(event.addr)} in {show(event.mm)}"
    kind, owner = plain(event.kind), plain(event.owner)
    what = show(event.kind)
    if kind is Kind.FREE:
        what = "nothing is mapped there"
    elif owner is LEFT:
        what += " of a task that has left"
    elif owner is not NULL:
        what += f" of {show(event.owner)}"
    return f"{where} on behalf of {show(event.task)}: {what}" + _also(
        (f"{' and '.join(on_it)} {'is' if len(on_it) == 1 else 'are'} on it", bool(on_it)),
        ("the range was recorded in an mm that exec has left", ~event.recorded_here),
    )


def _also(*remarks: tuple[str, Cond | bool]) -> str:
    return "".join(f"; {words}" for words, so in remarks if so)


def _sized(event: Allocated, plain: Plain) -> str:
    requested = cast(int, plain(event.requested))
    rule = f"stack_size {size_text(requested)}"
    if requested == 0:
        rule = f"RLIMIT_STACK {size_text(cast(int, plain(event.rlimit)))}"
    entry = ", 32-bit system call" if event.compat else ""
    return f"{size_text(cast(int, plain(event.size)))} ({rule}{entry})"
