"""The system calls of the life cycle: clone in its flavours, execve, exit, kill, arch_prctl.

Each checks its arguments as Linux does and then takes the text's steps; what follows by
itself (the commit of a clone, the stages of an exit) is left to ``Machine.settle``.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from model.kernel import errno
from model.kernel.fork import CLONE_THREAD, CLONE_VFORK, CLONE_VM, LATE_FAILURES
from model.reference import image, tokens
from model.reference.machine import BY_NAME, Machine, Move, NotNow, Read, Returned
from model.reference.operations import Address, Bytes, NewTask, operation, user_code
from model.reference.system import Thread
from model.reference.uaccess import KernelAccess
from model.reference.vma import TASK_SIZE_MAX
from model.state import Ctl

CALL = "system calls"
NOT_GIVEN = Bytes(0)

CLONE_SIGHAND = 0x800
CLONE_PIDFD = 0x1000
CLONE_SETTLS = 0x80000
CLONE_PARENT_SETTID = 0x100000
# The flags a scenario can name.  Those with 0 change nothing that a shadow stack has.
FLAGS = {
    "VM": CLONE_VM,
    "VFORK": CLONE_VFORK,
    "THREAD": CLONE_THREAD,
    "SIGHAND": CLONE_SIGHAND,
    "PIDFD": CLONE_PIDFD,
    "SETTLS": CLONE_SETTLS,
    "PARENT_SETTID": CLONE_PARENT_SETTID,
    **dict.fromkeys(("FS", "FILES", "SYSVSEM", "CHILD_CLEARTID", "PARENT"), 0),
}
FLAVOURS = {
    CLONE_VM | CLONE_THREAD: "clone_thread",
    0: "fork",
    CLONE_VM | CLONE_VFORK: "vfork",
    CLONE_VFORK: "clone_vfork_copy",
    CLONE_VM | CLONE_VFORK | CLONE_THREAD: "clone_vfork_thread",
    CLONE_VM: "clone_vm",
}
# clone3 with a token; that it is used with other flags, too, is left out.
TOKEN_FLAVOURS = {
    CLONE_VM | CLONE_THREAD: "clone_token_thread",
    CLONE_VM | CLONE_VFORK: "clone_token_vfork",
    0: "clone_token_fork",
}
# How user space makes a clone fail after copy_thread(), in the order of LATE_FAILURES.
LateFailure = Literal["pids", "set_tid", "pidfd-limit", "pidfd-pointer", "cgroup", "pidns"]
LATE = dict(zip(LateFailure.__args__, LATE_FAILURES, strict=True))  # type: ignore[attr-defined]
ExecFailure = Literal["early", "before-release", "killed", "after-switch"]


def refuse(m: Machine, t: Thread, call: str, error: int) -> None:
    """The system call returns ``-error`` and has done nothing."""
    m.effects.append(Returned(t.name, call, -error))
    m.tell(Move(t.tid))


def returns(m: Machine, t: Thread, call: str, value: int = 0) -> None:
    """The system call returns ``value`` and has done nothing the life cycle sees."""
    m.effects.append(Returned(t.name, call, value))
    m.tell(Move(t.tid))


# -- clone -------------------------------------------------------------------------


def _new_name(m: Machine, name: str) -> None:
    if name in m.names():
        raise NotNow(f"there is a task {name} already")


def _start(
    m: Machine,
    t: Thread,
    call: str,
    step: str,
    child: str,
    given: dict[str, object],
    stack: int | None,
    fails: str | None = None,
    compat: bool = False,
) -> None:
    """Take a clone's first step; the rest of it is what follows by itself."""
    compat = compat or not t.regs.long_mode
    t.call, t.compat = call, compat
    if fails:
        t.plan[Ctl.CLONE_COPIED] = ("late_clone_failure", {"error": LATE[fails]})
    given["TLS errno"] = "EFAULT" if compat else "EPERM"
    m.step(t, step, {"name": child, "compat": compat, **given})
    made = m.system.threads.get(t.child) if isinstance(t.child, int) else None
    if made is None:
        t.plan.pop(Ctl.CLONE_COPIED, None)
        return
    if step in ("clone_thread", "clone_token_thread", "clone_vm"):
        made.altstack = None  # sas_ss_reset()
    if stack is not None:
        assert made.frame is not None
        made.frame = dataclasses.replace(made.frame, rsp=stack)


def _flavour(flags: int) -> str:
    """The step for a set of flags; '' where copy_process() says -EINVAL (kernel/fork.c, 6.12)."""
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        return ""
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        return ""
    return FLAVOURS[flags & (CLONE_VM | CLONE_VFORK | CLONE_THREAD)]


def _token_flavour(flags: int) -> str:
    """The step for a set of flags with a token; NotNow where it is left out."""
    step = TOKEN_FLAVOURS.get(flags & (CLONE_VM | CLONE_VFORK | CLONE_THREAD))
    if step is None:
        raise NotNow("of clones with a token there are VM|THREAD|SIGHAND, VM|VFORK and 0")
    return step


def _flags(words: str) -> int:
    bits = 0
    for word in () if words == "0" else words.split("|"):
        if word not in FLAGS:
            raise NotNow(f"there is no clone flag {word!r}: 0, or of {', '.join(FLAGS)} with |")
        bits |= FLAGS[word]
    return bits


@operation(CALL)
def fork(m: Machine, t: Thread, child: NewTask, fails: LateFailure | None = None) -> None:
    """fork(2)."""
    m.require_running(t)
    _new_name(m, child)
    _start(m, t, "fork", "fork", child, {}, None, fails)


@operation(CALL)
def vfork(m: Machine, t: Thread, child: NewTask, fails: LateFailure | None = None) -> None:
    """vfork(2): CLONE_VM|CLONE_VFORK; the parent waits."""
    m.require_running(t)
    _new_name(m, child)
    _start(m, t, "vfork", "vfork", child, {}, None, fails)


@operation(CALL)
def clone(
    m: Machine,
    t: Thread,
    child: NewTask,
    flags: str,
    stack: Address | None = None,
    tls: Literal["good", "bad"] = "good",
    fails: LateFailure | None = None,
    compat: bool = False,
) -> None:
    """clone(2): no stack_size, so RLIMIT_STACK sizes a new shadow stack.

    ``flags`` like ``VM|THREAD|SIGHAND``, ``0`` for none; ``tls=bad`` with SETTLS: an address that
    set_new_tls() rejects; ``compat``: by int 0x80.
    """
    m.require_running(t)
    _new_name(m, child)
    bits = _flags(flags)
    step = _flavour(bits)
    both = CLONE_PIDFD | CLONE_PARENT_SETTID  # clone() has one pointer for them
    if not step or bits & both == both:
        return refuse(m, t, "clone", errno.EINVAL)
    bad = tls == "bad" and bits & CLONE_SETTLS != 0
    own = image.data_stack(m.system.made["task"]) if bits & CLONE_VM else None
    where = own if stack is None and not bits & CLONE_VFORK else stack
    _start(m, t, "clone", step, child, {"bad TLS": bad}, where, fails, compat)
    return None


@operation(CALL)
def clone3(
    m: Machine,
    t: Thread,
    child: NewTask,
    flags: str,
    stack_size: Bytes = NOT_GIVEN,
    stack: Address | None = None,
    tls: Literal["good", "bad"] = "good",
    fails: LateFailure | None = None,
    compat: bool = False,
    shstk_token: Address | None = None,
) -> None:
    """clone3(2).

    Without ``stack`` the program's own memory is used, so that the data stack ends where
    the task's part of it does.  ``shstk_token``: where the token of the child's shadow stack is.
    """
    m.require_running(t)
    _new_name(m, child)
    bits = _flags(flags)
    if shstk_token and not m.design.has_clone_token:
        # copy_struct_from_user(): not zero beyond what it knows.
        return refuse(m, t, "clone3", errno.E2BIG)
    top = image.data_stack(m.system.made["task"])
    if stack is None:
        # What a program that has mapped that much would pass; only the top is used.
        stack = Address((top - stack_size) % (1 << 64) if stack_size < top else 1 << 16)
        if stack_size == 0:
            stack = Address(0)
    if (stack == 0) != (stack_size == 0) or stack + stack_size > TASK_SIZE_MAX:
        return refuse(m, t, "clone3", errno.EINVAL)  # clone3_stack_valid()
    step = _flavour(bits)
    if not step:
        return refuse(m, t, "clone3", errno.EINVAL)
    bad = tls == "bad" and bits & CLONE_SETTLS != 0
    given: dict[str, object] = {"stack_size": stack_size, "bad TLS": bad}
    if shstk_token:
        space = m.system.space(t)
        # clone3_args_valid() asks for its alignment.
        error = errno.EINVAL if shstk_token % 8 else 0
        error = error or (not bad and tokens.unseen_error(space, shstk_token))
        if error:
            return refuse(m, t, "clone3", error)
        step = _token_flavour(bits)
        given |= tokens.choices(space, shstk_token)
    where = stack + stack_size if stack else None
    _start(m, t, "clone3", step, child, given, where, fails, compat)
    return None


@operation(CALL)
def io_uring_worker(
    m: Machine, t: Thread, worker: NewTask, fails: LateFailure | None = None
) -> None:
    """The kernel makes a worker for the task (io_uring): create_io_thread()."""
    m.require_running(t)
    _new_name(m, worker)
    _start(m, t, "io_uring_enter", "create_io_thread", worker, {}, None, fails)


# -- exec, exit, kill --------------------------------------------------------------


@operation(CALL)
def execve(m: Machine, t: Thread, fails: ExecFailure | None = None) -> None:
    """execve(2); ``fails`` says where: ``early`` returns ENOENT, the others are fatal."""
    m.require_running(t)
    if fails == "early":
        return refuse(m, t, "execve", errno.ENOENT)
    if fails == "before-release":
        t.plan[Ctl.EXEC_DE_THREAD] = ("exec_fails_before_release", {})
    if fails == "after-switch":
        t.plan[Ctl.EXEC_SWITCHED] = ("exec_fails_after_switch", {})
    if fails == "killed":
        t.plan[Ctl.EXEC_RELEASED] = ("exec_mmap_killed", {})
    t.call = "execve"
    m.step(t, "execve")
    return None


@operation(CALL)
def exit(m: Machine, t: Thread, code: int = 0) -> None:
    """exit(2) of this thread; a kernel worker ends the same way."""
    t.cause = f"exit({code})"
    m.step(t, "exit")


@operation(CALL)
def exit_group(m: Machine, t: Thread, code: int = 0) -> None:
    """exit_group(2)."""
    m.step(t, "exit_group")
    for each in m.system.threads.values():
        if each.group == t.group and each.cause in ("", "exit_group"):
            each.cause = f"exit_group({code})"


@operation(CALL)
def sigkill(m: Machine, t: Thread) -> None:
    """The task is sent SIGKILL from outside its thread group."""
    m.step(t, "sigkill")


# Families of what the kernel does to a task, but does not have to.
NOT_BY_ITSELF = ("kernel", "late-clone-failure", "exec-failure")


@operation("the kernel")
def kernel(m: Machine, t: Thread, step: str = "") -> None:
    """One step of what the kernel does with the task by itself, or the step of that name.

    For a task in user mode: the next of what a C library's function still has to do there.
    """
    if not step:
        if not user_code(m, t):
            m.kernel(t)
    elif step not in BY_NAME:
        raise NotNow(f"there is no step {step!r}")
    elif not BY_NAME[step].fair and BY_NAME[step].family not in NOT_BY_ITSELF:
        raise NotNow(f"{step} is no step of the kernel's own")
    else:
        m.step(t, step)


@operation("the kernel")
def contend(m: Machine, t: Thread, times: int = 1) -> None:
    """``times`` times the mmap_lock is contended when the task unmaps with SIGKILL pending."""
    t.contended = times


# -- arch_prctl --------------------------------------------------------------------


@operation(CALL)
def arch_prctl(
    m: Machine,
    t: Thread,
    option: Literal["ENABLE", "DISABLE", "LOCK", "UNLOCK", "STATUS"],
    feature: Literal["SHSTK", "WRSS", "SHSTK|WRSS", "other", "none"] = "SHSTK",
    compat: bool = False,
) -> int | None:
    """arch_prctl(ARCH_SHSTK_…); STATUS gives the features that are on.

    UNLOCK is what ptrace would use; by the task itself.  ``other``: a bit that means nothing.
    """
    m.require_running(t)
    numbers = m.design.prctl
    words = {"SHSTK": numbers.shstk, "WRSS": numbers.wrss, "other": 1 << 20, "none": 0}
    bits = sum(words[word] for word in feature.split("|"))
    which = {
        "ENABLE": numbers.enable,
        "DISABLE": numbers.disable,
        "LOCK": numbers.lock,
        "STATUS": numbers.status,
        "UNLOCK": UNLOCK,
    }[option]
    t.compat = compat or not t.regs.long_mode
    u = KernelAccess(m.system, t)
    said = _bits(t)

    def switch(step: str) -> int:
        nonlocal said
        _tell_changes(m, t, said)
        error = _switch(m, t, step)
        said = _bits(t)
        return error

    where = image.ARENA if option == "STATUS" else bits
    value, error = m.design.arch_prctl(
        u, which, where, lambda: switch("enable"), lambda: switch("disable")
    )
    _tell_changes(m, t, said)
    if t.ctl is not Ctl.USER:
        t.call = "arch_prctl"  # the rest of it is still to come
        return None
    t.compat = False
    m.effects.append(Returned(t.name, "arch_prctl", -error or value))
    if option != "STATUS" or error or value:  # v1: how many bytes could not be copied
        return None
    features = m.system.space(t).load(image.ARENA, 8, False, False)
    m.effects.append(Read(t.name, "features", features))
    return features


UNLOCK = 0x5004  # v1 has none of that number
PRCTL_STEPS: tuple[tuple[str, dict[str, object]], ...] = (
    ("wrss_control", {}),
    ("lock", {"feature": "SHSTK"}),
    ("lock", {"feature": "WRSS"}),
)


def _bits(t: Thread) -> tuple[bool, bool, bool]:
    return (t.wrss, t.locked_shstk, t.locked_wrss)


def _tell_changes(m: Machine, t: Thread, before: tuple[bool, bool, bool]) -> None:
    """The bits that arch_prctl() has changed by itself are steps of the life cycle."""
    if t.tid in m.system.threads:
        now = zip(PRCTL_STEPS, before, _bits(t), strict=True)
        m.tell(Move(t.tid, tuple(step for step, old, new in now if old != new)))


def _switch(m: Machine, t: Thread, step: str) -> int:
    """The design's hook for switching shadow stacks, as the step that calls it: its errno."""
    t.result = None
    m.step(t, step, {"compat": t.compat})
    if t.ctl is Ctl.PRCTL_DISABLE and m.settled:
        m.kernel(t)
    return -(t.result or 0)


@operation(CALL)
def setrlimit(m: Machine, t: Thread, stack: Bytes) -> None:
    """setrlimit(RLIMIT_STACK), of the whole thread group."""
    m.require_running(t)
    m.system.groups[t.group].rlimit_stack = stack  # type: ignore[index]
    returns(m, t, "setrlimit")
