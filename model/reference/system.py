"""What the reference machine consists of: threads, thread groups, address spaces.

Plain data.  A thread holds what a task_struct does (``model.state.Task``), with real
numbers: 64-bit addresses, sizes in bytes, the CPU's registers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from model.cpu.concrete import ConcreteCpu
from model.cpu.world import Frame
from model.designs import Design
from model.reference.values import Range
from model.reference.vma import AddressSpace, GuardGaps
from model.state import NULL, Ctl, Exit, Special

Todo = tuple[str, tuple[object, ...], dict[str, object]]  # operation, arguments

DEFAULT_RLIMIT = 8 << 20  # RLIMIT_STACK, bytes
_new = object.__new__


@dataclass(frozen=True)
class Context:
    """What setjmp() and getcontext() remember: SSP (0: off), RSP, RIP."""

    ssp: int
    rsp: int
    rip: int


@dataclass(slots=True)
class Thread:
    """A task.  ``mm``, ``group``, ``vfork_done`` and ``child`` are numbers, or NULL."""

    tid: int
    name: str
    regs: ConcreteCpu
    ctl: Ctl = Ctl.DEAD
    group: int | Special = NULL
    mm: int | Special = NULL
    base: int = 0  # thread.shstk.base; 0 is NULL
    size: int = 0
    # The range that SSP belongs to, mapped or not any more: SSP alone does not tell, for at
    # the top of an empty stack it is the address of whatever lies above.
    stack: Range | Special = NULL
    shstk: bool = False
    wrss: bool = False
    locked_shstk: bool = False
    locked_wrss: bool = False
    locked_others: int = 0  # bits of features_locked that mean nothing
    vfork_done: int | Special = NULL
    child: int | Special = NULL
    clone_vfork: bool = False
    worker: bool = False
    mm_switched: bool = False
    frame: Frame | None = None  # where it returns to in user mode, while it is in the kernel
    altstack: Range | None = None  # sigaltstack(2)
    compat: bool = False  # the system call it is in came through int 0x80
    result: int | None = None  # what its last system call returned, -errno for an error
    cause: str = ""  # what it dies of, once that is certain
    call: str = ""  # the system call that it is in and that will return
    # What the kernel will find in a control state, where it is not the usual: the step that
    # is taken there, and its decisions.
    plan: dict[Ctl, tuple[str, dict[str, object]]] = field(default_factory=dict)
    contended: int = 0  # how often munmap will find the mmap_lock contended
    contexts: dict[str, Context] = field(default_factory=dict)  # in the program's memory
    todo: deque[Todo] = field(default_factory=deque)  # user code still to run

    @property
    def ssp(self) -> int:
        """SSP as user mode has it: in the register, or saved while the kernel runs."""
        return self.regs.ssp if self.regs.cpl == 3 else self.regs.pl3_ssp

    @ssp.setter
    def ssp(self, value: int) -> None:
        if self.regs.cpl == 3:
            self.regs.ssp = value
        else:
            self.regs.pl3_ssp = value

    @property
    def rsp(self) -> int:
        """RSP as user mode has it."""
        return self.frame.rsp if self.frame else self.regs.rsp

    def copy(self) -> Thread:
        """A thread that shares nothing with this one."""
        other = _new(Thread)  # written out, because it is done for every thread of every machine
        other.tid = self.tid
        other.name = self.name
        other.ctl = self.ctl
        other.group = self.group
        other.mm = self.mm
        other.base = self.base
        other.size = self.size
        other.stack = self.stack
        other.shstk = self.shstk
        other.wrss = self.wrss
        other.locked_shstk = self.locked_shstk
        other.locked_wrss = self.locked_wrss
        other.locked_others = self.locked_others
        other.vfork_done = self.vfork_done
        other.child = self.child
        other.clone_vfork = self.clone_vfork
        other.worker = self.worker
        other.mm_switched = self.mm_switched
        other.frame = self.frame
        other.altstack = self.altstack
        other.compat = self.compat
        other.result = self.result
        other.cause = self.cause
        other.call = self.call
        other.contended = self.contended
        other.regs = ConcreteCpu(self.regs, self.regs.memory)
        other.plan = self.plan.copy()
        other.contexts = self.contexts.copy()
        other.todo = self.todo.copy()
        return other


@dataclass(slots=True)
class Group:
    """A thread group (signal_struct and sighand_struct)."""

    exit: Exit = Exit.NO
    exec_task: int | Special = NULL
    rlimit_stack: int = DEFAULT_RLIMIT
    handlers: dict[int, int] = field(default_factory=dict)  # signal: address of its handler


@dataclass(frozen=True)
class Death:
    """How a task ended: the exit code, or the signal that its group died of."""

    name: str
    cause: str


class System:
    """The whole state of a machine.

    ``limit_bytes``: how much each address space may hold, None: no limit.
    """

    def __init__(self, design: Design, limit_bytes: int | None = None) -> None:
        self.design = design
        self.limit_bytes = limit_bytes
        self.threads: dict[int, Thread] = {}
        self.groups: dict[int, Group] = {}
        self.mms: dict[int, AddressSpace] = {}
        self.dead: dict[int, Death] = {}
        # Where the next mapping that the kernel places goes, None: where Linux puts it.  How
        # other mappings would have to lie for that is left out.
        self.place: int | None = None
        self.made = {"task": 0, "group": 0, "mm": 0}  # how many there have been

    def new_space(self) -> AddressSpace:
        """An empty address space with the design's guard gaps."""
        gaps = GuardGaps.v1 if self.design.guard_gaps == "both" else GuardGaps.merged
        if not self.design.gap_below_new:
            gaps = replace(gaps, placement=0)
        huge = self.design.huge_pages
        return AddressSpace(gaps=gaps, limit_bytes=self.limit_bytes, huge_pages=huge)

    def number(self, what: str) -> int:
        """The number of a new task, group or mm: never used before."""
        number = self.made[what]
        self.made[what] = number + 1
        return number

    def space(self, thread: Thread) -> AddressSpace:
        """The address space a thread uses; KeyError where it has none."""
        return self.mms[thread.mm]  # type: ignore[index]

    def copy(self, design: Design | None = None) -> System:
        """A system that goes its own way; page contents are shared until written.

        ``design``: whose text it runs from now on, None: the same.
        """
        other = _new(System)
        other.design = self.design if design is None else design
        other.limit_bytes, other.place = self.limit_bytes, self.place
        other.threads = {n: t.copy() for n, t in self.threads.items()}
        other.groups = {
            n: Group(g.exit, g.exec_task, g.rlimit_stack, g.handlers.copy())
            for n, g in self.groups.items()
        }
        other.mms = {n: space.copy() for n, space in self.mms.items()}
        other.dead = self.dead.copy()
        other.made = self.made.copy()
        return other
