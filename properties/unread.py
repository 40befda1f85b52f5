"""What a task's bookkeeping may say where nobody asks: for comparing two designs.

None of it is assumed.  Where two designs are said to differ in nothing else, it is proved that
neither reads it.
"""

from model.state import NULL, Task
from model.world import Cond, World
from properties.vocabulary import UNREAD, Unread, on, unread


@unread(Task.base, "the base of a task with shadow stacks off")
def _(k: World, t: Task) -> Cond:
    return ~k.design.enabled(t)


@unread(Task.size, "the size that a task without a base has recorded")
def _(k: World, t: Task) -> Cond:
    return t.base == NULL


@unread(Task.size, "the size that a task with shadow stacks off has recorded")
def _(k: World, t: Task) -> Cond:
    return ~k.design.enabled(t)


@unread(Task.off, "the offset of an SSP that is off")
def _(k: World, t: Task) -> Cond:
    return ~on(t)


__all__ = ["UNREAD", "Unread"]
