"""What happens inside a step that a property can speak about.

Events are emitted by the kernel text at the place where Linux does the thing,
with the values they have there; step properties read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.state import Addr, Kind, Mm, Task
    from model.world import Cond, Term


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happened inside a step."""


@dataclass(frozen=True, eq=False)
class Allocated(Event):
    """A shadow stack was mapped for ``task``: ``size`` bytes, from these inputs."""

    task: Task
    addr: Addr
    kind: Kind
    size: Term
    requested: Term | int  # clone3's stack_size, 0 when it was not given
    rlimit: Term  # RLIMIT_STACK
    compat: Cond | bool  # in_compat_syscall()


@dataclass(frozen=True, eq=False)
class Unmapped(Event):
    """The kernel called munmap on ``task``'s recorded range and it succeeded.

    ``kind`` and ``owner`` are those of what was mapped there, just before.
    """

    task: Task
    mm: Mm
    addr: Addr
    kind: Term
    owner: Task
    still_used: Cond  # another task that can still run is on it
    own: Cond  # owner == task
    recorded_here: Cond  # exec has not left the mm that the range was recorded in
    for_worker: Cond  # task is a kernel worker


class Warning(Enum):
    """The kernel warnings that the designs can print."""

    DOUBLE_FREE = "shstk_free: size is zero (double free)"
    MUNMAP_FAILED = "unmap_shadow_stack: munmap failed"


@dataclass(frozen=True, eq=False)
class Warned(Event):
    """WARN fired.  ``cause`` says for MUNMAP_FAILED which errno, else ''."""

    task: Task
    what: Warning
    cause: str = ""


@dataclass(frozen=True, eq=False)
class Failed(Event):
    """The system call that ``task`` is in will return ``-errno``."""

    task: Task
    errno: int


@dataclass(frozen=True, eq=False)
class CloneFailed(Event):
    """A clone returns an error to ``parent``.

    ``left_behind``: a mapping of the child's is still there.
    """

    parent: Task
    left_behind: Cond
    stack_gone: Cond  # the caller has shadow stacks on and its stack is not mapped any more


@dataclass(frozen=True, eq=False)
class CloneStarted(Event):
    """The child of a clone is woken for the first time."""

    parent: Task
    child: Task
    shares_mm: Cond
    vfork: Cond
    own_stack: Cond  # SSP points to a shadow stack that belongs to the child


@dataclass(frozen=True, eq=False)
class ExecStarted(Event):
    """A new image starts in ``task``."""

    task: Task


@dataclass(frozen=True, eq=False)
class FutexWoken(Event):
    """``task``'s CLEARTID futex is woken; ``stack_mapped``: its own stack is still mapped."""

    task: Task
    stack_mapped: Cond


@dataclass(frozen=True, eq=False)
class FeatureChanged(Event):
    """arch_prctl switched a feature on or off; ``locked`` says if it was locked."""

    task: Task
    locked: Cond


@dataclass(frozen=True, eq=False)
class Retried(Event):
    """munmap returned -EINTR and is tried again: the step has changed nothing."""

    task: Task
