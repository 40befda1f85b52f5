"""What was seen on a real kernel (6.12.117 on a CPU with CET), reproduced by the machine."""

from __future__ import annotations

from typing import Any

import pytest

import model.reference.protocols  # noqa: F401 - registers the operations
from model.designs import DESIGNS
from model.kernel import errno
from model.reference import image
from model.reference.machine import (
    Died,
    Effect,
    Faulted,
    Machine,
    NotNow,
    Returned,
    Signalled,
    Warning_,
)
from model.reference.operations import do
from model.reference.vma import PAGE_SIZE, SZ_4G, Vma
from model.state import LEFT, Ctl

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
PF, CP, GP, UD = 14, 21, 13, 6
THREAD = "VM|THREAD|SIGHAND"


class Session:
    """A machine and a short way to tell its tasks what to do."""

    def __init__(self, design: str = "linux-6.12", on: bool = True, **boot: Any) -> None:
        self.machine = Machine.boot(DESIGNS[design], **boot)
        if on:
            self("P", "arch_prctl", "ENABLE", "SHSTK")

    def __call__(self, task: str, operation: str, *args: Any, **arguments: Any) -> int | None:
        self.done = do(self.machine, task, operation, *args, **arguments)
        return self.done.value

    def ssp(self, task: str = "P") -> int:
        return self.machine.thread(task).ssp

    def seen(self, kind: type[Effect]) -> list[Any]:
        """The effects of a kind that the last operation had."""
        return [e for e in self.done.effects if isinstance(e, kind)]

    def returned(self, task: str = "P") -> int:
        (value,) = [e.value for e in self.seen(Returned) if e.task == task]
        return int(value)

    def fault(self) -> tuple[int, int, int | None]:
        (fault,) = self.seen(Faulted)
        return fault.vector, fault.error_code, fault.address

    def stack(self, task: str = "P") -> Vma:
        """The area that a task's bookkeeping names."""
        thread = self.machine.thread(task)
        area = self.machine.system.space(thread).find(thread.base)
        assert area is not None and area.start == thread.base
        return area

    def stacks(self, task: str = "P") -> list[Vma]:
        space = self.machine.system.space(self.machine.thread(task))
        return [a for a in space.areas if a.shadow]


# -- sizes ---------------------------------------------------------------------------

SIZE_TABLE = [
    (16 << 10, 16 << 10),
    (5000, 8192),
    (8, 4096),
    (MIB, MIB),
    (4 * GIB + 4096, 4 * GIB + 4096),
    (8 * GIB, 8 * GIB),
    (32 * TIB, 32 * TIB),
    (64 * TIB, 64 * TIB),
]


@pytest.mark.parametrize(("asked", "got"), SIZE_TABLE)
def test_clone3_sizes_are_aligned_and_not_capped(asked: int, got: int) -> None:
    """clone3's stack_size is rounded up to pages, and nothing else happens to it."""
    s = Session()
    s("P", "clone3", "C", THREAD, asked, stack=1 << 16)
    assert s.stack("C").size == got
    assert s.ssp("C") == s.stack("C").end


@pytest.mark.parametrize(
    ("rlimit", "got"),
    [
        (64 << 10, 64 << 10),
        (100000, 102400),
        (GIB, GIB),
        (6 * GIB, 4 * GIB),
        ((1 << 64) - 1, 4 * GIB),
        (4096, 4096),
    ],
)
def test_clone_sizes_come_from_the_rlimit_up_to_4g(rlimit: int, got: int) -> None:
    """clone() has no size: min(RLIMIT_STACK, 4 GiB), rounded up to pages."""
    s = Session()
    s("P", "setrlimit", rlimit)
    s("P", "clone", "C", THREAD)
    assert s.stack("C").size == got


def test_no_rlimit_no_clone() -> None:
    """RLIMIT_STACK 0 makes a clone fail with EINVAL, and an enabling too."""
    s = Session()
    s("P", "setrlimit", 0)
    s("P", "clone", "C", THREAD)
    assert s.returned() == -errno.EINVAL
    s("P", "arch_prctl", "DISABLE")
    s("P", "arch_prctl", "ENABLE")
    assert s.returned() == -errno.EINVAL


def test_a_limit_on_memory_gives_enomem() -> None:
    """Without overcommit, a size above memory fails with ENOMEM, and nothing is left."""
    s = Session(limit_bytes=512 * MIB)
    s("P", "clone3", "C", THREAD, 8 * GIB)
    assert s.returned() == -errno.ENOMEM
    assert len(s.stacks()) == 1


def test_v1_compat_threads_get_a_quarter() -> None:
    """v1: a clone through the 32-bit entry gets a quarter, before rounding; 6.12 does not."""
    for design, size in (("v1", 2 * MIB), ("linux-6.12", 8 * MIB)):
        s = Session(design)
        s("P", "clone", "C", THREAD, compat=True)
        assert s.stack("C").size == size
        assert s.stack("C").end <= SZ_4G


# -- findings --------------------------------------------------------------------------


def test_a_killed_vfork_parent_takes_the_stack_along() -> None:
    """The child of a killed vfork parent dies at its next CALL (0x46) or RET (0x44)."""
    for operation, code, below in (("call", 0x46, 8), ("ret", 0x44, 0)):
        s = Session()
        s("P", "call")
        s("P", "vfork", "C")
        s("P", "sigkill")
        assert not s.stacks("C")
        ssp = s.ssp("C")
        s("C", operation)
        assert s.fault() == (PF, code, ssp - below)
        assert "SIGSEGV" in s.seen(Died)[0].cause


@pytest.mark.parametrize("how", ["exit_group", "execve"])
def test_a_sibling_can_do_the_same(how: str) -> None:
    """exit_group or exec by another thread kills the waiting parent just so."""
    s = Session()
    s("P", "pthread_create", "D")
    s("P", "vfork", "C")
    s("D", how)
    s("C", "call")
    assert s.fault()[:2] == (PF, 0x46)


def test_without_shadow_stacks_the_child_survives() -> None:
    """A program without shadow stacks does not notice that its vfork parent was killed."""
    s = Session(on=False)
    s("P", "vfork", "C")
    s("P", "sigkill")
    s("C", "call")
    s("C", "ret")
    assert not s.seen(Faulted)


def test_a_failed_exec_warns_of_a_double_free() -> None:
    """exec that fails past its point of no return: the double-free WARN, nothing freed twice."""
    s = Session()
    s("P", "execve", "after-switch")
    assert ["double free" in w.text for w in s.seen(Warning_)] == [True]


def test_a_bad_tls_address_leaks_a_stack() -> None:
    """clone(VM, SETTLS) with a bad address: EPERM, and 8 MiB more each time."""
    s = Session()
    for count in (2, 3):
        s("P", "clone", "C", f"{THREAD}|SETTLS", tls="bad")
        assert s.returned() == -errno.EPERM
        assert [a.size for a in s.stacks()] == [8 * MIB] * count
        assert s.stacks()[0].owner is LEFT


def test_a_sealed_stack_stays() -> None:
    """mseal of one's own stack: at exit the munmap WARN, and the stack stays mapped."""
    s = Session()
    s("P", "pthread_create", "C")
    s("C", "mseal", s.stack("C").start, s.stack("C").size)
    s("C", "exit")
    assert ["munmap failed" in w.text for w in s.seen(Warning_)] == [True]
    assert len(s.stacks()) == 2


@pytest.mark.parametrize(
    ("fails", "error"),
    [("set_tid", errno.EEXIST), ("pidns", errno.ENOMEM), ("cgroup", errno.EAGAIN)],
)
@pytest.mark.parametrize("flags", ["VM|VFORK", "VM", "0"])
def test_late_failures_spare_the_callers_stack(fails: str, error: int, flags: str) -> None:
    """A clone that fails late returns its errno, and the caller's stack survives."""
    s = Session()
    s("P", "call")
    s("P", "clone", "C", flags, fails=fails)
    assert s.returned() == -error
    assert len(s.stacks()) == 1
    s("P", "ret")
    assert not s.seen(Faulted)


def test_fork_vfork_exec() -> None:
    """fork: same SSP, a copy; vfork: below the parent's SSP on the same stack; exec: nothing."""
    s = Session()
    s("P", "call")
    s("P", "fork", "F")
    assert s.ssp("F") == s.ssp()
    assert s.stack("F") is not s.stack() and s.stack("F").start == s.stack().start
    s("F", "exit")
    s("P", "vfork", "C")
    s("C", "call")
    assert s.ssp("C") == s.ssp() - 8
    s("C", "execve")
    assert s("C", "arch_prctl", "STATUS") == 0
    assert s("C", "rdsspq") == 0


def test_fork_copies_on_write() -> None:
    """What one side of a fork pushes, the other does not see."""
    s = Session()
    s("P", "call")
    s("P", "fork", "F")
    where = s.ssp() - 8
    s("F", "call")
    pushed = s("F", "load", where)
    assert pushed and s("P", "load", where) == 0


def test_a_thread_is_gone_before_its_join() -> None:
    """At a thread's exit its stack is unmapped, and its creator runs on."""
    s = Session()
    s("P", "pthread_create", "C")
    assert len(s.stacks()) == 2
    s("C", "exit")
    assert len(s.stacks()) == 1
    s("P", "call")
    assert not s.seen(Faulted)


# -- faults ----------------------------------------------------------------------------


def test_signal_delivery_pushes_16_bytes() -> None:
    """Delivery moves SSP by 16; the way back restores it."""
    s = Session()
    s("P", "sigaction", "SIGUSR1")
    s("P", "call")
    before = s.ssp()
    s("P", "kill", "SIGUSR1")
    assert s.seen(Signalled)
    assert s.ssp() == before - 16
    s("P", "handler_return")
    assert s.ssp() == before


def test_ret_to_a_wrong_address() -> None:
    """A return address that was overwritten: #CP, error 1."""
    s = Session()
    s("P", "call")
    s("P", "store", s.machine.thread("P").regs.rsp, 0x401234)
    s("P", "ret")
    assert s.fault() == (CP, 1, None)
    assert "#CP error 0x1" in s.seen(Died)[0].cause


def test_ret_on_an_empty_stack() -> None:
    """RET on an empty stack is a page fault at base + size, no #CP."""
    s = Session()
    top = s.stack().end
    s("P", "ret")
    assert s.fault() == (PF, 0x44, top)


def test_rstorssp_on_a_bad_token() -> None:
    """RSTORSSP where no token lies: #CP, error 4."""
    s = Session()
    base = s("P", "map_shadow_stack", 64 << 10)
    assert base is not None
    s("P", "rstorssp", base + (64 << 10) - 8)
    assert s.fault() == (CP, 4, None)


def test_rstorssp_misaligned() -> None:
    """RSTORSSP at an address that is no multiple of 8: #GP."""
    s = Session()
    base = s("P", "map_shadow_stack", 64 << 10, token=True)
    assert base is not None
    s("P", "rstorssp", base + (64 << 10) - 4)
    assert s.fault() == (GP, 0, None)


def test_wrss_when_it_is_off() -> None:
    """WRSS without ARCH_SHSTK_WRSS: #UD, which is SIGILL."""
    s = Session()
    s("P", "wrssq", s.ssp() - 8, 1)
    assert s.fault()[0] == UD
    assert "SIGILL" in s.seen(Died)[0].cause


def test_wrss_on_ordinary_memory() -> None:
    """WRSS to memory that is no shadow stack is a page fault."""
    s = Session()
    s("P", "arch_prctl", "ENABLE", "WRSS")
    s("P", "wrssq", s.machine.thread("P").regs.rsp - 8, 1)
    assert s.fault()[:2] in ((PF, 0x46), (PF, 0x47))


@pytest.mark.parametrize(("populated", "code"), [(False, 6), (True, 7)])
def test_a_plain_store_to_a_shadow_stack(populated: bool, code: int) -> None:
    """An ordinary store to a shadow stack: #PF error 6, 7 where the page is present."""
    s = Session()
    if populated:
        s("P", "call")
    s("P", "store", s.stack().end - 8, 1)
    assert s.fault() == (PF, code, s.stack().end - 8 if s.machine.names() else s.fault()[2])


def test_32_bit_calls() -> None:
    """Enabling by int 0x80 is EINVAL; map_shadow_stack by it lies below 4 GiB and can be run on."""
    s = Session()
    s("P", "arch_prctl", "ENABLE", "WRSS", compat=True)
    assert s.returned() == -errno.EINVAL
    base = s("P", "map_shadow_stack", 64 << 10, token=True, compat=True)
    assert base is not None and base + (64 << 10) <= SZ_4G
    s("P", "pivot", base + (64 << 10) - 8)
    s("P", "call")
    assert not s.seen(Faulted) and s.ssp() < SZ_4G


def test_a_call_to_the_next_instruction() -> None:
    """CALL with displacement 0 pushes nothing on the shadow stack."""
    s = Session()
    before = s.ssp()
    s("P", "call", next=True)
    assert s.ssp() == before
    s("P", "call")
    assert s.ssp() == before - 8


def test_incssp_is_stopped_by_the_end() -> None:
    """INCSSP touches its last element: it does not leave the stack."""
    s = Session()
    s("P", "call")
    s("P", "incsspq", 2)
    assert s.fault() == (PF, 0x44, s.fault()[2]) and not s.machine.names()


def test_a_full_stack_is_a_page_fault() -> None:
    """CALL below the base touches the guard page."""
    s = Session(on=False)
    s("P", "setrlimit", PAGE_SIZE)
    s("P", "arch_prctl", "ENABLE")
    base = s.stack().start
    for _ in range(PAGE_SIZE // 8):
        s("P", "call")
        assert not s.seen(Faulted)
    assert s.ssp() == base
    s("P", "call")
    assert s.fault() == (PF, 0x46, base - 8)


# -- system calls ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (("clone", "C", "THREAD"), errno.EINVAL),
        (("clone", "C", "VM|THREAD"), errno.EINVAL),
        (("clone", "C", "SIGHAND"), errno.EINVAL),
        (("clone3", "C", "VM", 4096, 0), errno.EINVAL),
        (("clone3", "C", "VM", 1 << 62, 1 << 16), errno.EINVAL),
        (("execve", "early"), errno.ENOENT),
        (("arch_prctl", "ENABLE", "other"), errno.EINVAL),
        (("arch_prctl", "ENABLE", "SHSTK|WRSS"), errno.EINVAL),
        (("map_shadow_stack", 4, None, True), errno.ENOSPC),
        (("map_shadow_stack", 4096, 0x10000), errno.ERANGE),
        (("map_shadow_stack", (1 << 64) - 1), errno.EOVERFLOW),
        (("map_shadow_stack", 4096, None, False, 2), errno.EINVAL),
        (("map_shadow_stack", 0), errno.EINVAL),
        (("map_shadow_stack", 4096, (1 << 64) - 4), 4),
        (("munmap", 0x1001, 4096), errno.EINVAL),
        (("munmap", 0x1000, 0), errno.EINVAL),
        (("mmap", 0), errno.EINVAL),
        (("mseal", 0x1000_0000_0000, 4096), errno.ENOMEM),
        (("mprotect", 0x1000_0000_0000, 4096, "r"), errno.ENOMEM),
        (("mremap", 0x1000_0000_0000, 4096), errno.EFAULT),
        (("sigaltstack", 0x1000, 100), errno.ENOMEM),
    ],
    ids=str,
)
def test_wrong_uses_have_linuxs_errno(operation: tuple[Any, ...], error: int) -> None:
    """Each wrong use of a system call returns what Linux returns, and changes nothing."""
    s = Session()
    before = [(a.start, a.end) for a in s.stacks()]
    s("P", *operation)
    assert s.returned() == -error
    assert [(a.start, a.end) for a in s.stacks()] == before
    assert set(s.machine.names()) == {"P"}


def test_any_bit_can_be_locked() -> None:
    """LOCK takes bits that mean nothing, too: EPERM instead of EINVAL, until a new image starts."""
    s = Session()
    for error in (errno.EINVAL, errno.EPERM):
        s("P", "arch_prctl", "DISABLE", "other")
        assert s.returned() == -error
        s("P", "arch_prctl", "LOCK", "other")
    s("P", "execve")
    s("P", "arch_prctl", "DISABLE", "other")
    assert s.returned() == -errno.EINVAL


def test_pending_signals_are_a_set() -> None:
    """Sent twice and delivered once, synchronous ones first, each frame on the last one's."""
    s = Session()
    for name in ("SIGUSR1", "SIGSEGV"):
        s("P", "sigaction", name)
    s("P", "vfork", "C")
    for name in ("SIGUSR1", "SIGSEGV", "SIGUSR1"):
        s("P", "kill", name)
    s("C", "exit")
    assert [e.signal for e in s.machine.effects if isinstance(e, Signalled)] == [11, 10]
    assert s.machine.thread("P").regs.rip == image.HANDLERS + 16 * 10


def test_a_pending_signal_keeps_a_fatal_one_waiting() -> None:
    """wants_signal(): nobody is woken for SIGTERM where the task has a signal pending already."""
    s = Session()
    s("P", "vfork", "C")
    s("P", "kill", "SIGSEGV")
    s("P", "kill", "SIGTERM")
    assert s.machine.thread("P").ctl is Ctl.VFORK_WAIT
    s("C", "exit")
    assert "P" not in s.machine.names()
    other = Session()
    other("P", "vfork", "C")
    other("P", "kill", "SIGTERM")
    assert "P" not in other.machine.names()


def test_an_alternate_stack_in_use_stays() -> None:
    """sigaltstack() on the alternate stack itself: EPERM, whatever is asked for."""
    s = Session()
    s("P", "sigaltstack", image.ARENA, 1 << 16)
    s("P", "sigaction", "SIGUSR1")
    s("P", "kill", "SIGUSR1")
    for size in (1 << 16, 100):
        s("P", "sigaltstack", image.ARENA, size)
        assert s.returned() == -errno.EPERM
    s("P", "handler_return")
    s("P", "sigaltstack", image.ARENA, 1 << 17)
    assert s.returned() == 0


def test_an_unknown_token_argument_is_refused_first() -> None:
    """clone3 with more than the kernel knows is E2BIG, however wrong the rest is."""
    s = Session()
    s("P", "clone3", "C", "VM|THREAD", (1 << 47) - 1, shstk_token=0x1000)
    assert s.returned() == -errno.E2BIG


def test_locked_features_are_refused() -> None:
    """A locked feature cannot be changed: EPERM, in the task and in those it makes."""
    s = Session()
    s("P", "arch_prctl", "LOCK", "SHSTK")
    s("P", "arch_prctl", "DISABLE")
    assert s.returned() == -errno.EPERM
    s("P", "pthread_create", "C")
    s("C", "arch_prctl", "DISABLE")
    assert s.returned("C") == -errno.EPERM
    s("P", "execve")
    s("P", "arch_prctl", "ENABLE")
    assert s.returned() == 0


def test_what_cannot_happen_is_said() -> None:
    """A task that waits cannot make a system call."""
    s = Session()
    s("P", "vfork", "C")
    with pytest.raises(NotNow, match="P is not in user mode but in wait_for_vfork_done"):
        s("P", "call")


# -- 32-bit code, far branches -----------------------------------------------------------


def test_32_bit_code_cannot_be_entered_with_a_high_ssp() -> None:
    """A far JMP to a 32-bit segment with SSP above 4 GiB is #GP: what keeps 32-bit code out."""
    s = Session()
    s("P", "jmp_far", "32")
    assert s.fault() == (GP, 0, None)


def test_32_bit_code_runs_on_a_low_shadow_stack() -> None:
    """map_shadow_stack by int 0x80 opens the door that the documentation says is shut."""
    s = Session()
    base = s("P", "map_shadow_stack", 64 << 10, token=True, compat=True)
    assert base is not None
    s("P", "pivot", base + (64 << 10) - 8)
    s("P", "mov_rsp", 0x1010_0000)
    s("P", "jmp_far", "32")
    before = s.ssp()
    s("P", "call")
    assert not s.seen(Faulted) and s.ssp() == before - 4
    s("P", "arch_prctl", "ENABLE")
    assert s.returned() == -errno.EINVAL
    s("P", "jmp_far", "64")
    assert s.machine.thread("P").regs.long_mode


def test_far_call_and_return() -> None:
    """A far CALL pushes CS, the return address and SSP; far RET takes them back."""
    s = Session()
    s("P", "call")
    before = s.ssp()
    s("P", "call_far")
    assert s.ssp() == before - 24
    assert s("P", "load", before - 24) == before
    s("P", "ret_far")
    assert s.ssp() == before and not s.seen(Faulted)


def test_a_far_return_needs_a_far_frame() -> None:
    """far RET where a near CALL was made: #CP, error 2."""
    s = Session()
    for _ in range(3):
        s("P", "call")
    s("P", "push", 0x33)
    s("P", "push", 0x401000)
    s("P", "ret_far")
    assert s.fault() == (CP, 2, None)


def test_a_signal_interrupts_32_bit_code() -> None:
    """The handler is 64-bit code; sigreturn goes back to 32-bit code."""
    s = Session()
    s("P", "sigaction", "SIGUSR1")
    base = s("P", "map_shadow_stack", 64 << 10, token=True, compat=True)
    assert base is not None
    s("P", "pivot", base + (64 << 10) - 8)
    s("P", "mov_rsp", 0x1010_0000)
    s("P", "jmp_far", "32")
    s("P", "kill", "SIGUSR1")
    assert s.machine.thread("P").regs.long_mode
    s("P", "handler_return")
    assert not s.machine.thread("P").regs.long_mode and not s.seen(Faulted)


# -- found by readers of the kernel's source --------------------------------------------


def test_a_core_dumping_signal_does_not_end_the_vfork_wait() -> None:
    """complete_signal() makes no SIGKILL of SIGSEGV: the parent dies when it is back."""
    s = Session()
    s("P", "vfork", "C")
    s("P", "kill", "SIGSEGV")
    assert "P" in s.machine.names()
    s("C", "call")
    assert not s.seen(Faulted)
    s("C", "exit")
    assert "P" not in s.machine.names()


def test_a_frame_that_cannot_be_written_is_sigsegv() -> None:
    """signal_setup_done(): force_sigsegv(), whatever the signal was."""
    s = Session()
    s("P", "sigaction", "SIGUSR1")
    s("P", "mov_rsp", 0x1000)
    s("P", "kill", "SIGUSR1")
    assert s.seen(Died)[0].cause.startswith("SIGSEGV")


def test_exec_is_killed_while_it_switches() -> None:
    """A plan for a control state outlives a SIGKILL from outside."""
    s = Session(settled=False)
    s("P", "execve", "killed")
    s("P", "kernel")
    s("P", "sigkill")
    s("P", "kernel", "exec_mmap_killed")
    assert s.machine.dying(s.machine.thread("P"))


def test_clone_has_one_pointer_for_two() -> None:
    """clone(PIDFD|PARENT_SETTID) is EINVAL; clone3 has a pointer for each."""
    s = Session()
    s("P", "clone", "C", f"{THREAD}|PIDFD|PARENT_SETTID")
    assert s.returned() == -errno.EINVAL
    s("P", "clone3", "C", f"{THREAD}|PIDFD|PARENT_SETTID", 1 << 20)
    assert "C" in s.machine.names()
