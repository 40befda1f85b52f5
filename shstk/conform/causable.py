"""What user space cannot cause, or cannot cause in a way that can be predicted; with reasons.

The machine reduces two things: code (any address can be executed) and the frame of a signal on
the data stack (five words).  A kernel's frame is some kilobytes, so the words that it covers
are not predicted: a scenario that reads them is refused, and so is a return to where no code is.
The machine leaves out the growing of the main stack (``areas``): it has to stay out of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from counterexamples.interpret import Step
from counterexamples.lines import Do
from counterexamples.scenario import Scenario
from model.kernel.mmap import SZ_4G
from model.reference import image
from model.reference.machine import Faulted, Machine, Signalled
from model.reference.signals import FRAME_WORDS
from model.reference.system import Thread
from model.reference.vma import PageFault, page_align
from model.reference.world import SH_STK_EN
from model.state import Ctl

STARTS_WITH = 1 << 20  # bytes of RLIMIT_STACK with which execve can copy its arguments
FRAME = 8192  # bytes below the interrupted RSP that a signal frame can cover, XSAVE area included
# The real way to it has a process that shares files with the task, and is a copy of its mm: like
# any fork it write-protects what mprotect() would have left usable.
COPIED = "before-release"
SMALLEST = 2048  # bytes: MINSIGSTKSZ
WORD = 8
INTERRUPTED_RSP = 2 * WORD  # in the machine's frame (``signals``)
STACK_START = image.STACK_TOP - image.STACK_SIZE
NO_WAY = {
    "kernel": "the kernel goes on by itself: its steps cannot be taken one by one",
    "contend": "user space cannot make the kernel's own munmap find mmap_lock contended",
    "jmp_far": "32-bit code is left out",
    "call_far": "far branches are left out",
    "ret_far": "far branches are left out",
    "iret": "far branches are left out",
    "libc_vfork": "a C library's function: write the operations that it is made of",
    "pthread_create": "a C library's function: write the operations that it is made of",
    "setjmp": "a C library's function: write the operations that it is made of",
    "longjmp": "a C library's function: write the operations that it is made of",
    "makecontext": "a C library's function: write the operations that it is made of",
    "swapcontext": "a C library's function: write the operations that it is made of",
}
RELEASES = (0, 8, 16)  # bytes that the guest's RET can release


WORKER_FAILS = ("pids", "cgroup")
IN_REGISTERS = ("clone", "map_shadow_stack")  # clone3's arguments are in memory


class NotCausable(Exception):
    """A scenario cannot be run on a kernel, or what it does there is not predicted: why."""


class Unpredicted(NotCausable):
    """A step has happened on the machine, and a kernel may do something else."""


def check_scenario(scenario: Scenario) -> None:
    """NotCausable for what a scenario's headers ask."""
    if scenario.stepwise:
        raise NotCausable("`kernel: stepwise`: a real kernel goes on by itself")
    if scenario.limit is not None:
        raise NotCausable("`limit:`: how much an address space can hold is not limited there")


def check_operation(line: Do, arguments: Mapping[str, object]) -> None:
    """NotCausable for an operation that user space has no way to."""
    if line.operation in NO_WAY:
        raise NotCausable(f"{line.operation}: {NO_WAY[line.operation]}")
    fails = arguments.get("fails")
    flags = str(arguments.get("flags", "")).split("|")
    if fails == "pidns" and "THREAD" in flags:
        raise NotCausable("fails=pidns: a thread is not made for another pid namespace: -EINVAL")
    if line.operation == "io_uring_worker" and fails not in (None, *WORKER_FAILS):
        raise NotCausable(f"fails={fails}: a worker is made without any such argument")
    if line.operation in IN_REGISTERS and arguments.get("compat"):
        if any(type(value) is int and value >= SZ_4G for value in arguments.values()):
            raise NotCausable("compat: the arguments of int 0x80 have 32 bits")
    if line.operation == "ret" and arguments.get("imm", 0) not in RELEASES:
        raise NotCausable("ret: 0, 8 or 16 bytes can be released")


class Predictable:
    """Watches a machine for what a kernel would not do in the same way."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # Per mm: what signal frames have covered.
        self.covered: list[tuple[object, int, int]] = []
        self.written: dict[tuple[object, int], int] = {}  # by whom, since
        self.nexts: set[tuple[object, int]] = set()  # words that a CALL to the next has pushed
        self.frames: dict[int, list[int]] = {}  # per task: RSP at which rt_sigreturn finds one
        self.interrupted: dict[int, int] = {}  # RSP by task, before the step
        self.makers: dict[int, int] = {}  # of workers
        self.floor: dict[str, int] = {}  # by task: what the main stack can grow to
        self.sighand_shared = False  # by a clone with SIGHAND and without THREAD
        self.done: set[str] = set()  # of what ``check`` asks below

    # -- before --------------------------------------------------------------------
    def check(self, thread: Thread, line: Do, arguments: Mapping[str, object]) -> None:
        """NotCausable where what follows is not predicted."""
        group = self.machine.system.groups[thread.group]  # type: ignore[index]
        name = line.operation
        if name == "execve" and group.rlimit_stack < STARTS_WITH:
            raise NotCausable("execve: RLIMIT_STACK leaves no room for its arguments")
        if name == "execve" and arguments.get("fails") == COPIED and "mprotect" in self.done:
            raise NotCausable("fails=before-release: its cause copies the mm, and mprotect shows")
        if name == "mprotect" and COPIED in self.done:
            raise NotCausable(
                "mprotect: shows that the cause of fails=before-release copied the mm"
            )
        if group.handlers and _shares_handlers(name, arguments):
            raise NotCausable(f"{name}: handlers would be shared: CLONE_SIGHAND, no CLONE_THREAD")
        if name in ("sigaction", "kill") and self.sighand_shared:
            raise NotCausable(f"{name}: handlers are shared by CLONE_SIGHAND without CLONE_THREAD")
        if name == "exit" and thread.worker:
            self._check_worker(thread)
        if thread.ctl is not Ctl.USER:
            return
        if name == "sigaltstack" and SMALLEST <= int(str(arguments["size"])) < FRAME:
            raise NotCausable("sigaltstack: how large a signal frame is, is the CPU's affair")
        if name == "mremap":
            self._check_border(thread, arguments)
        rsp = thread.regs.rsp
        if name in ("ret", "handler_return"):
            self._check_return(thread, name)
        if name == "pop":
            self._read(thread, rsp)
        if name == "load":
            self._read(thread, int(arguments["addr"]) & -WORD)  # type: ignore[call-overload]
        if name == "rt_sigreturn":
            self._check_sigreturn(thread, rsp)
        if name in ("call", "push"):
            self._wrote(thread, rsp - WORD)
            if arguments.get("next"):
                self.nexts.add((thread.mm, rsp - WORD))
        if name == "store":
            self._wrote(thread, int(arguments["addr"]) & -WORD)  # type: ignore[call-overload]

    def _check_border(self, thread: Thread, arguments: Mapping[str, object]) -> None:
        """NotCausable for mremap() across neighbours, which Linux may have merged (``Vma``)."""
        start, size = arguments["addr"], arguments["size"]
        assert isinstance(start, int) and isinstance(size, int)
        space = self.machine.system.space(thread)
        areas = space.overlapping(start, start + page_align(size))
        for lower, upper in zip(areas, areas[1:], strict=False):
            if lower.end == upper.start:
                raise NotCausable("mremap: across two areas, which Linux may have merged")

    def _check_worker(self, worker: Thread) -> None:
        """A worker ends when a task of its group closes its io_uring, and who made it can run.

        The latter has to (io_ring_exit_work(), io_uring/io_uring.c, 6.12), if it is there.
        """
        threads = self.machine.system.threads
        maker = threads.get(self.makers[worker.tid])
        mates = [t for t in threads.values() if t.group == worker.group]
        if not any(self.machine.can_run(t) for t in mates):
            raise NotCausable("exit: nobody can close the worker's io_uring")
        if maker is not None and not self.machine.can_run(maker):
            raise NotCausable("exit: a worker does not end while who made it is blocked")

    def _check_return(self, thread: Thread, name: str) -> None:
        rsp = thread.regs.rsp
        if (thread.mm, rsp) in self.nexts and thread.regs.u_cet & SH_STK_EN:
            return  # the guest's is none that lies on a shadow stack (``Compiler``)
        self._read(thread, rsp)
        space = self.machine.system.space(thread)
        try:
            target = space.load(rsp, WORD, False, True) if space.populated(rsp) else 0
        except PageFault:
            return
        if name == "handler_return" and target == image.RESTORER:
            self._check_sigreturn(thread, rsp + WORD)

    def _check_sigreturn(self, thread: Thread, rsp: int) -> None:
        words = [rsp + WORD * number for number in range(FRAME_WORDS - 1)]
        if rsp in self.frames.get(thread.tid, ()):
            if any((thread.mm, word) in self.written for word in words):
                raise NotCausable("rt_sigreturn: something was written over the signal frame")
            return
        if not thread.regs.u_cet & SH_STK_EN:
            raise NotCausable("rt_sigreturn: no signal frame is there, and none is wanted")
        for word in words:
            self._read(thread, word)

    def _read(self, thread: Thread, address: int) -> None:
        """NotCausable where a word that a signal frame has covered is read."""
        if (thread.mm, address) in self.nexts:
            raise NotCausable("what a CALL to the next instruction has pushed is read")
        if self.written.get((thread.mm, address)) == thread.tid:
            return
        for mm, start, end in self.covered:
            if mm == thread.mm and start <= address < end:
                raise NotCausable("what a signal frame has left on the data stack is read")

    def _wrote(self, thread: Thread, address: int) -> None:
        self.nexts.discard((thread.mm, address))
        self.written[thread.mm, address] = thread.tid

    # -- after -----------------------------------------------------------------------
    def look(self) -> None:
        """Remember where the stacks of tasks are, in case a signal interrupts them."""
        threads = self.machine.system.threads
        self.interrupted = {tid: thread.rsp for tid, thread in threads.items()}
        self.floor = {t.name: self._grows_to(t) for t in threads.values() if not t.worker}

    def _grows_to(self, thread: Thread) -> int:
        """The lowest address to which an access lets the main stack grow (expand_stack())."""
        areas = self.machine.system.space(thread).areas
        below = max((area.end for area in areas if area.end < image.STACK_TOP), default=0)
        limit = self.machine.system.groups[thread.group].rlimit_stack  # type: ignore[index]
        return max(below, image.STACK_TOP - limit)

    def saw(self, step: Step) -> None:
        """What a step has made unpredictable; NotCausable where it is so itself."""
        assert step.done is not None and isinstance(step.line, Do)
        line, effects = step.line, step.done.effects
        for effect in effects:
            if isinstance(effect, Faulted) and effect.address is not None:
                if self.floor[effect.task] <= effect.address < STACK_START:
                    raise Unpredicted("the main stack grows to where a page fault is")
        for name, thread in self.machine.names().items():
            count = sum(isinstance(e, Signalled) and e.task == name for e in effects)
            if count and line.operation in ("rt_sigreturn", "handler_return"):
                if not any(isinstance(e, Faulted) for e in effects):
                    raise Unpredicted("rt_sigreturn fails and a handler starts on what it restored")
            if count:
                self._signalled(thread, count)
        self.done |= {line.operation, str(step.arguments.get("fails"))}
        if _shares_handlers(line.operation, step.arguments):
            self.sighand_shared = True

    def made(self, parent: Thread, child: Thread) -> None:
        """A task is new: it starts with its parent's data stack, or with a copy of it."""
        self.makers[child.tid] = parent.tid
        self.frames[child.tid] = list(self.frames.get(parent.tid, ()))
        if child.mm == parent.mm:
            return
        self.nexts |= {(child.mm, address) for mm, address in self.nexts if mm == parent.mm}
        self.covered += [(child.mm, s, e) for mm, s, e in self.covered if mm == parent.mm]
        for (mm, address), tid in list(self.written.items()):
            if mm == parent.mm and tid == parent.tid:
                self.written[child.mm, address] = child.tid

    def _signalled(self, thread: Thread, count: int) -> None:
        """So many signal frames have been pushed, one below the other."""
        rsp = thread.rsp
        top = self.interrupted.get(thread.tid, rsp)
        other = thread.altstack
        if other is not None and other.start <= rsp < other.end:
            if not other.start <= top < other.end:
                top = other.end
        self.covered.append((thread.mm, top - FRAME, top))
        for mm, address in list(self.written):
            if mm == thread.mm and top - FRAME <= address < top:
                del self.written[mm, address]
        space = self.machine.system.space(thread)
        for _ in range(count):
            self._wrote(thread, rsp)  # the restorer
            self.frames.setdefault(thread.tid, []).append(rsp + WORD)
            rsp = space.load(rsp + INTERRUPTED_RSP, WORD, False, True)


def _shares_handlers(operation: str, arguments: Mapping[str, object]) -> bool:
    """A clone that shares signal handlers between thread groups, which the machine leaves out."""
    flags = str(arguments.get("flags", "")).split("|")
    return operation in ("clone", "clone3") and "SIGHAND" in flags and "THREAD" not in flags
