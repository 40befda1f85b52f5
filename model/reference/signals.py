"""Signals: exceptions that become one, handlers entered and left.

The frame on the user's stack is reduced to what sigreturn needs: the restorer as return
address, RIP, RSP and CF.  What lies on the shadow stack is the design's own text.
"""

from __future__ import annotations

import dataclasses

from model.cpu import transitions
from model.cpu.concrete import USER32_CS, USER_CS, CpuFault
from model.cpu.words import noncanonical
from model.cpu.world import Vector
from model.kernel.errno import EFAULT, EINVAL, ENOMEM, EPERM
from model.reference import image
from model.reference.calls import refuse, returns
from model.reference.machine import (
    KERNEL_CS,
    KERNEL_ENTRY,
    Faulted,
    Machine,
    Move,
    NotNow,
    Signalled,
)
from model.reference.memcalls import range_of
from model.reference.operations import Address, Bytes, operation
from model.reference.system import Thread
from model.reference.tokens import is_restore_token
from model.reference.uaccess import KernelAccess
from model.reference.values import Range
from model.reference.vma import TASK_SIZE_MAX, PageFault
from model.reference.world import SH_STK_EN, offset

SIGNALS = {"SIGILL": 4, "SIGBUS": 7, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGTERM": 15}
NAMES = {number: name for name, number in SIGNALS.items()}
SIGILL, SIGBUS, SIGSEGV = 4, 7, 11
FETCH = 0x15  # of a page fault's error code: I/D, U, and P, which sanitize_error_code() sets
SYNCHRONOUS = (4, 7, 11)  # of those here: SYNCHRONOUS_MASK (kernel/signal.c, 6.12)
COREDUMP = (4, 7, 11)  # of those here: SIG_KERNEL_COREDUMP_MASK (signal.h, 6.12)
RED_ZONE = 128
FRAME_WORDS = 5  # restorer, rip, rsp, cf, cs


# -- what comes of an exception ----------------------------------------------------


def signal_of(vector: int) -> int:
    """The signal that an exception becomes (arch/x86/kernel/traps.c, 6.12)."""
    return {6: SIGILL, 12: SIGBUS}.get(vector, SIGSEGV)


def exception(m: Machine, t: Thread, instruction: str, fault: CpuFault, step: str) -> None:
    """An instruction has raised an exception.

    ``step``: the life cycle's name for dying of it.
    """
    vector, code = int(fault.vector), fault.error_code
    m.effects.append(Faulted(t.name, instruction, vector, code, fault.address))
    signal = signal_of(vector)
    cause = f"{NAMES[signal]} ({describe(vector, code, fault.address)})"
    m.tell(Move(t.tid))
    force(m, t, signal, cause, step)


def fetched(m: Machine, t: Thread) -> bool:
    """The instruction at RIP can be fetched; else it has raised a page fault.

    Below TASK_SIZE_MAX anything can be code here.
    """
    rip = t.regs.rip
    if rip < TASK_SIZE_MAX:
        return True
    exception(m, t, "instruction fetch", CpuFault(Vector.PF, FETCH, rip), "fault")
    return False


def describe(vector: int, code: int, address: int | None) -> str:
    """An exception in a few words: ``#PF error 0x46 at 0x7ffff7800ff8``."""
    name = {6: "#UD", 12: "#SS", 13: "#GP", 14: "#PF", 21: "#CP"}.get(vector, f"vector {vector}")
    where = "" if address is None else f" at {address:#x}"
    return name if vector == 6 else f"{name} error {code:#x}{where}"


def force(m: Machine, t: Thread, signal: int, cause: str, step: str = "fault") -> None:
    """force_sig(): to the handler if there is one and it can be entered, else fatal."""
    group = m.system.groups[t.group]  # type: ignore[index]
    if signal in group.handlers:
        if enter_handler(m, t, signal):
            return
        if signal != SIGSEGV:  # signal_setup_done(): force_sig(SIGSEGV), which may be handled
            cause = f"SIGSEGV (the frame of {NAMES[signal]} cannot be written)"
            force(m, t, SIGSEGV, cause, step)
            return
    die(m, t, cause, step)


def die(m: Machine, t: Thread, cause: str, step: str = "fault") -> None:
    """A signal that nobody handles takes the whole group; ``step``: what the life cycle says."""
    t.cause = cause
    m.step(t, "fault", told=step)


# -- delivery ----------------------------------------------------------------------


def enter_handler(m: Machine, t: Thread, signal: int) -> bool:
    """handle_signal(): push both frames and go to the handler; False: that failed."""
    group = m.system.groups[t.group]  # type: ignore[index]
    regs = t.regs
    interrupted = regs.copy()
    back = transitions.interrupt(m.cpu(t), KERNEL_ENTRY, KERNEL_CS, 0)
    u = KernelAccess(m.system, t)
    on, before = regs.u_cet & SH_STK_EN, t.ssp
    overwritten = bool(on) and token_below(m, t, 2)
    sp = back.rsp - RED_ZONE
    if t.altstack and not on_sig_stack(t, sp):
        sp = t.altstack.end
    frame = ((sp - 8 * FRAME_WORDS) & ~15) - 8
    words = (image.RESTORER, back.rip, back.rsp, back.cf, back.cs)

    def put_frame() -> int:
        return EFAULT if u.copy_to_user(frame, words) else 0

    error = m.design.x64_setup_rt_frame(u, image.RESTORER, put_frame)
    if error:
        # It never gets back to user mode; what is seen of it there is where it was.
        ssp = t.ssp
        regs.assign(interrupted)
        t.ssp = ssp if on else regs.ssp
    else:
        handler = group.handlers[signal]
        back = dataclasses.replace(back, rip=handler, rsp=frame, cs=USER_CS)
        transitions.iret_to_user(regs, back)
        m.effects.append(Signalled(t.name, signal))
    # A design that moves SSP before all else has succeeded leaves it moved.
    if not on or t.ssp == before:
        m.tell(Move(t.tid))
    elif m.design.signal_frame_is_token:
        m.tell(Move(t.tid, (("signal_with_token", {}),)))
    else:
        m.tell(Move(t.tid, (("call", {"token after": not overwritten}),)))
    return not error


def on_sig_stack(t: Thread, sp: int) -> bool:
    """``sp`` is on the alternate stack (__on_sig_stack(), include/linux/sched/signal.h, 6.12)."""
    return t.altstack is not None and t.altstack.start < sp <= t.altstack.end


def token_below(m: Machine, t: Thread, words: int) -> bool:
    """A restore token lies in the ``words`` below SSP: what is pushed there overwrites it."""
    space = m.system.space(t)
    for number in range(1, words + 1):
        address = (t.ssp - 8 * number) % (1 << 64)
        if not space.populated(address):
            continue
        try:
            # An ordinary load: to look is no access that the page table would remember.
            word = space.load(address, 8, False, True)
        except PageFault:
            continue
        if is_restore_token(address, word):
            return True
    return False


@operation("signals")
def kill(m: Machine, t: Thread, signal: str) -> None:
    """The task is sent a signal; one that it has no handler for is fatal to its group."""
    if signal == "SIGKILL":
        m.step(t, "sigkill")
        return
    if signal not in SIGNALS:
        raise NotNow(f"there is no signal {signal!r}: known are SIGKILL, {', '.join(SIGNALS)}")
    number = SIGNALS[signal]
    if t.worker:  # all but SIGKILL and SIGSTOP are blocked (create_io_thread(), 6.12)
        m.tell(Move(t.tid))
        return
    handled = number in m.system.groups[t.group].handlers  # type: ignore[index]
    if not m.can_run(t) and not handled and (number in COREDUMP or _pending(t)):
        # complete_signal(): no SIGKILL for the group, and no killable wait is woken; where
        # something is pending already wants_signal() says no.
        _pend(t, signal)
        m.tell(Move(t.tid))
        return
    if not handled:
        for mate in m.system.threads.values():
            if mate.group == t.group and not m.dying(mate):
                mate.cause = mate.cause or signal
        m.step(t, "sigkill")  # complete_signal(): a fatal signal is SIGKILL for all
        return
    if m.can_run(t):
        force(m, t, number, f"SIGSEGV (the frame of {signal} cannot be written)")
        return
    _pend(t, signal)


def _pending(t: Thread) -> set[str]:
    """The signals that wait until the task is back in user mode."""
    return {str(args[0]) for name, args, _ in t.todo if name == "kill"}


def _pend(t: Thread, signal: str) -> None:
    """One more is pending.  They are a set, and are dequeued in the order of next_signal():
    synchronous ones first, then by number; each pushes its frame on the last one's."""
    names = sorted(
        _pending(t) | {signal}, key=lambda s: (SIGNALS[s] not in SYNCHRONOUS, SIGNALS[s])
    )
    rest = [each for each in t.todo if each[0] != "kill"]
    t.todo.clear()
    t.todo.extend([*(("kill", (name,), {}) for name in names), *rest])


@operation("signals")
def sigaction(m: Machine, t: Thread, signal: str, default: bool = False) -> None:
    """sigaction(2): install a handler (with SA_ONSTACK, SA_RESTORER), or SIG_DFL."""
    m.require_running(t)
    if signal not in SIGNALS:
        return refuse(m, t, "sigaction", EINVAL)
    number = SIGNALS[signal]
    handlers = m.system.groups[t.group].handlers  # type: ignore[index]
    if default:
        handlers.pop(number, None)
    else:
        handlers[number] = image.HANDLERS + 16 * number
    returns(m, t, "sigaction")
    return None


@operation("signals")
def sigaltstack(m: Machine, t: Thread, addr: Address, size: Bytes) -> None:
    """sigaltstack(2): handlers run on that data stack; the shadow stack stays the same."""
    m.require_running(t)
    if on_sig_stack(t, t.regs.rsp):
        return refuse(m, t, "sigaltstack", EPERM)
    if size < 2048:
        return refuse(m, t, "sigaltstack", ENOMEM)
    t.altstack = Range(addr, size)
    returns(m, t, "sigaltstack")
    return None


# -- sigreturn ---------------------------------------------------------------------


@operation("signals")
def rt_sigreturn(m: Machine, t: Thread) -> None:
    """rt_sigreturn(2), as the restorer calls it: RSP is just above the return address."""
    m.require_running(t)
    before = t.ssp
    m.enter_kernel(t)
    assert t.frame is not None
    u = KernelAccess(m.system, t)
    words = [u.get_user(t.frame.rsp + 8 * i) for i in range(FRAME_WORDS - 1)]
    rip, rsp, cf, cs = (word for word, _ in words)
    error = any(e for _, e in words) or cs not in (USER_CS, USER32_CS)
    error = error or m.design.restore_signal_shadow_stack(u) != 0
    if not error:
        t.frame = dataclasses.replace(t.frame, rsp=rsp, cf=cf & 1, cs=cs)
    try:
        m.leave_kernel(t)
    except CpuFault as fault:  # IRET to 32-bit code with an SSP above 4 GiB
        t.frame = dataclasses.replace(t.frame, cs=USER_CS)
        m.leave_kernel(t)
        m.tell(moved(m, t, before))
        exception(m, t, "IRET", fault, "fault")
        return
    if error:
        m.tell(Move(t.tid))
        force(m, t, SIGSEGV, "SIGSEGV (bad frame in sigreturn)")
        return
    t.regs.rip = rip
    m.tell(moved(m, t, before))
    if noncanonical(rip):  # fixup_bad_iret(): as if user mode had raised it
        exception(m, t, "IRET", CpuFault(Vector.GP), "fault")
    else:
        fetched(m, t)


def moved(m: Machine, t: Thread, before: int) -> Move:
    """The move of something that has set SSP, which was ``before``, by other means than CALL."""
    if not t.regs.u_cet & SH_STK_EN or t.ssp == before:
        return Move(t.tid)
    assert isinstance(t.stack, Range)
    if not t.stack.start <= t.ssp <= t.stack.end:
        area = m.system.space(t).find(t.ssp)
        if area is not None:
            t.stack = range_of(area)
        return Move(t.tid, outside="SSP goes to another stack without a token")
    if t.ssp < before:
        return Move(t.tid, outside="SSP goes down without CALL")
    return Move(t.tid, (("ret", {"SSP after": offset(t)}),))
