"""The state: every variable of the life-cycle model, its values and its meaning.

Four sorts of objects, all interchangeable among themselves (scalarsets): tasks,
thread groups, mms, and addresses.  An *address* is the identity of a page range;
the same address means a different mapping in each mm, so mappings are indexed by
(mm, address).  That is why a stale range is dangerous: munmap(range) takes
whatever is mapped there now.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from model.world import Cond, Term, World


class Sort(Enum):
    """The sorts a reference can point into."""

    TASK = "task"
    GROUP = "group"
    MM = "mm"
    ADDR = "address"


class Ctl(Enum):
    """Where a task is between two steps (control state)."""

    DEAD = "dead"  # a free slot: reaped, or never used
    NEW = "being created"  # inside its creator's copy_process()
    USER = "user mode"
    WORKER = "kernel worker"  # PF_IO_WORKER / PF_USER_WORKER: never returns to user mode
    CLONE_COPIED = "copy_process: copied"  # copy_thread() succeeded, later steps can still fail
    CLONE_FAILED = "bad_fork_cleanup_thread"  # error exit whose munmap is to be tried again
    VFORK_WAIT = "wait_for_vfork_done"
    PRCTL_DISABLE = "arch_prctl: disabling"
    EXEC_DE_THREAD = "begin_new_exec: de_thread"  # past the point of no return
    EXEC_RELEASED = "exec_mmap: old mm released"
    EXEC_SWITCHED = "exec: on the new mm"
    EXITING = "do_exit"  # by itself; who dies of a signal goes straight to exit_mm()
    EXIT_RELEASED = "exit_mm: released"


class Exit(Enum):
    """SIGNAL_GROUP_EXIT of a thread group, and what set it."""

    NO = "no"
    KILLED = "SIGKILL"  # from outside the group
    FAULTED = "SIGSEGV"  # a fatal signal the group's own task took
    EXITED = "exit_group"


class Kind(Enum):
    """What is mapped at an address of an mm."""

    FREE = "nothing"
    ORDINARY = "ordinary memory"
    CLONE = "shadow stack (clone)"
    SETUP = "shadow stack (arch_prctl)"
    MAP = "shadow stack (map_shadow_stack)"
    COPY = "shadow stack (fork's copy of the child's own)"
    ORPHAN = "shadow stack (fork's copy of another thread's)"


class Off(Enum):
    """The offset half of SSP, as far as the life cycle needs it."""

    TOP = "top"  # at base + size: empty
    INSIDE = "inside"


SHADOW_KINDS = (Kind.CLONE, Kind.SETUP, Kind.MAP, Kind.COPY, Kind.ORPHAN)
KERNEL_KINDS = (Kind.CLONE, Kind.SETUP, Kind.COPY)


class Special(Enum):
    """Reference values that point to no object."""

    NULL = "NULL"
    LEFT = "left"  # an owner that has left the mm the mapping is in


YES, NO = True, False  # what a flag is compared with
NULL = Special.NULL
LEFT = Special.LEFT

T = TypeVar("T")


class Field(Generic[T]):
    """A state variable of a record, read and written as an attribute.

    ``values`` is its finite domain for the worlds that need one, initial value
    first.  ``store`` maps a written 64-bit number to a domain member: the finite worlds
    keep less than was written.
    """

    name: str

    def __init__(self, *values: object, store: Any = None, ghost: bool = False) -> None:
        self.values = values
        self.sort: Sort | None = None
        self.store = store
        self.ghost = ghost

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, record: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, record: Record, owner: type) -> T: ...
    def __get__(self, record: Record | None, owner: type) -> Field[T] | T:
        if record is None:
            return self
        return record.world.read(record, self)  # type: ignore[return-value]  # asked for often

    def __set__(self, record: Record, value: object) -> None:
        record.world.write(record, self, value)


class Ref(Field[T]):
    """A state variable that points to an object of ``sort``, or is ``NULL``."""

    def __init__(self, sort: Sort, *extra: object, ghost: bool = False) -> None:
        super().__init__(NULL, *extra, ghost=ghost)
        self.sort = sort


class Record:
    """A handle on an object: the world it lives in and its index, a term or several."""

    sort: Sort | None = None

    def __init__(self, world: World, *index: Term) -> None:
        object.__setattr__(self, "world", world)
        object.__setattr__(self, "index", index)

    if TYPE_CHECKING:
        world: World
        index: tuple[Term, ...]

    def __setattr__(self, name: str, value: object) -> None:
        field = getattr(type(self), name, None)
        if not isinstance(field, Field):
            raise AttributeError(f"{type(self).__name__} has no state variable {name!r}")
        field.__set__(self, value)

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        return self.index[0] == (other.index[0] if isinstance(other, Record) else other)

    def __ne__(self, other: object) -> Cond:  # type: ignore[override]
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("compare a reference with NULL; its truth value is not defined")


class Addr(Record):
    """The identity of a page range (no fields of its own)."""

    sort = Sort.ADDR


class Mm(Record):
    """An mm_struct.  It has no fields of its own: it is its mappings."""

    sort = Sort.MM

    def at(self, addr: Addr) -> Mapping:
        """The mapping at ``addr`` in this mm."""
        return Mapping(self.world, self.index[0], addr.index[0])


class Group(Record):
    """A thread group (signal_struct)."""

    sort = Sort.GROUP

    exit: Field[Term] = Field(Exit.NO, Exit.KILLED, Exit.FAULTED, Exit.EXITED)
    exec_task: Ref[Task] = Ref(Sort.TASK)  # group_exec_task: who is in de_thread()


class Task(Record):
    """A task_struct, with its thread.shstk and the CPU's SSP."""

    sort = Sort.TASK

    ctl: Field[Term] = Field(*Ctl)
    group: Ref[Group] = Ref(Sort.GROUP)
    mm: Ref[Mm] = Ref(Sort.MM)
    base: Ref[Addr] = Ref(Sort.ADDR)  # thread.shstk.base
    # thread.shstk.size.  The finite worlds keep only whether it is zero: what the
    # kernel text asks of a stored size.  The number itself is in the Allocated event.
    size: Field[Term] = Field(0, 1, store=lambda v: 0 if v == 0 else 1)
    ssp: Ref[Addr] = Ref(Sort.ADDR)  # the stack SSP points into; NULL: off for the CPU
    off: Field[Term] = Field(Off.TOP, Off.INSIDE)
    shstk: Field[Term] = Field(False, True)  # features & ARCH_SHSTK_SHSTK
    wrss: Field[Term] = Field(False, True)  # features & ARCH_SHSTK_WRSS
    locked_shstk: Field[Term] = Field(False, True)  # features_locked
    locked_wrss: Field[Term] = Field(False, True)
    vfork_done: Ref[Task] = Ref(Sort.TASK)  # who waits on this task's completion
    child: Ref[Task] = Ref(Sort.TASK)  # the clone in flight, or the vfork child waited for
    clone_vfork: Field[Term] = Field(False, True)  # CLONE_VFORK of the clone in flight
    worker: Field[Term] = Field(False, True)  # PF_IO_WORKER / PF_USER_WORKER
    # exec has left the mm that `base` was recorded in; start_thread resets it.
    mm_switched: Field[Term] = Field(False, True, ghost=True)


class Mapping(Record):
    """A VMA, by (mm, address)."""

    kind: Field[Term] = Field(*Kind)
    owner: Ref[Task] = Ref(Sort.TASK, LEFT, ghost=True)  # the task it was allocated for
    sealed: Field[Term] = Field(False, True)  # mseal(2)
    token: Field[Term] = Field(False, True)  # a restore token lies at its top


RECORD_OF = {Sort.TASK: Task, Sort.GROUP: Group, Sort.MM: Mm, Sort.ADDR: Addr}


def fields(record: type[Record]) -> list[Field[Any]]:
    """The state variables of a record class, in declaration order."""
    return [f for f in vars(record).values() if isinstance(f, Field)]


# The initial state: one task with these, its group and its mm; all else as its first value says.
# Objects are numbered from 0.
FIRST_TASK: dict[str, object] = {"ctl": Ctl.USER, "group": 0, "mm": 0}
