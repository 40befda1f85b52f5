"""What comes of a violation on the machine: something an engineer recognises.

Found out on copies of the machine: the kernel carries on, and the tasks concerned make a
CALL or a RET.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from counterexamples.named import size_text
from model.reference.machine import (
    Died,
    Effect,
    Faulted,
    KernelUnmaps,
    Machine,
    NotNow,
    Warning_,
)
from model.reference.operations import do
from model.reference.signals import describe
from model.reference.system import Thread
from model.reference.vma import Vma
from model.reference.world import SH_STK_EN, stack_is_mapped
from model.state import LEFT, NULL, Ctl, Kind

Seen = Sequence[tuple[Effect, ...]]
# Past mm_release(): the task does not come back to this mm.
LEAVING = (Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED)


def aftermath(machine: Machine, prop: str, effects: Seen) -> list[str]:
    """What is seen after a violation of ``prop``, each in a line; what the steps showed first."""
    last = effects[-1] if effects else ()
    out = [f"WARN: {e.text}" for e in last if isinstance(e, Warning_)]
    out += [
        f"{e.task} is gone: {e.cause}" for e in last if isinstance(e, Died) and e.cause[:3] == "SIG"
    ]
    if prop in ABOUT_MUNMAP:
        out += [_munmap(e) for e in last if isinstance(e, KernelUnmaps)]
    for probe in PROBES.get(prop, (dangling, shared, leaked)):
        out += probe(machine)
    return list(dict.fromkeys(out))


def _munmap(effect: KernelUnmaps) -> str:
    """What the kernel's munmap for a task hit."""
    where = f"{effect.start:#x}-{effect.start + effect.size:#x}"
    there = [
        f"{start:#x}-{end:#x}, {kind}{f' of {owner}' if owner else ', of nobody here'}"
        for start, end, kind, owner in effect.there
    ]
    hit = " and ".join(there) or "nothing"
    return f"the kernel's munmap of {where} for {effect.task} hits {hit}"


def fork(machine: Machine) -> Machine:
    """A copy of a machine, that nobody watches and whose kernel carries on by itself."""
    return Machine(machine.system.copy(), settled=True)


def _on(machine: Machine) -> Iterator[Thread]:
    """Tasks that have shadow stacks on and an address space."""
    for thread in list(machine.system.threads.values()):
        if thread.regs.u_cet & SH_STK_EN and thread.mm is not NULL and not thread.worker:
            yield thread


def _let_run(machine: Machine, name: str) -> bool:
    """The kernel carries on with everything until that task is in user mode."""
    try:
        machine.settle(1000)
    except NotNow:
        pass
    return name in machine.names() and machine.can_run(machine.thread(name))


def _try(machine: Machine, name: str, *operations: str) -> str:
    """The exception that a task's instructions end in, '' if none."""
    for operation in operations:
        try:
            done = do(machine, name, operation)
        except NotNow:  # something goes on for ever
            return ""
        for effect in done.effects:
            if isinstance(effect, Faulted):
                words = describe(effect.vector, effect.error_code, effect.address)
                return f"{name}'s next {effect.instruction}: {words}"
    return ""


# -- probes ------------------------------------------------------------------------


def dangling(machine: Machine) -> list[str]:
    """Who is on a stack that is not mapped faults at the next CALL and RET."""
    out = []
    for thread in _on(machine):
        if stack_is_mapped(machine.system.space(thread), thread):
            continue
        seen = []
        for instruction in ("call", "ret"):
            copy = fork(machine)
            if _let_run(copy, thread.name):
                seen.append(_try(copy, thread.name, instruction))
        out += [line for line in seen if line]
        if not any(seen) and thread.ctl not in LEAVING:
            out.append(f"SSP of {thread.name}, {thread.ssp:#x}, is in no shadow stack any more")
    return out


def shared(machine: Machine) -> list[str]:
    """Two tasks on one stack: what one pushes, the other does not expect."""
    threads = list(_on(machine))
    for one in threads:
        for other in threads:
            same = other is not one and other.mm == one.mm and other.stack == one.stack
            if not same or not stack_is_mapped(machine.system.space(one), one):
                continue
            if not (machine.can_run(one) and machine.can_run(other)):
                continue
            copy = fork(machine)
            copy.settled = False
            seen = _collide(copy, one.name, other.name)
            if seen:
                return [f"{one.name} and {other.name} run on one stack: {seen}"]
    return []


def _collide(machine: Machine, one: str, other: str) -> str:
    """One calls, the other calls, the first returns; data stacks apart, as in two threads."""
    a, b = machine.thread(one), machine.thread(other)
    if a.regs.rsp == b.regs.rsp:
        b.regs.rsp -= 0x4000
    b.regs.rip += 0x100
    low = min(a.ssp, b.ssp)
    a.regs.ssp = b.regs.ssp = low if low > a.stack.start else a.ssp  # type: ignore[union-attr]
    seen = _try(machine, one, "call")
    seen = seen or _try(machine, other, "call")
    return seen or _try(machine, one, "ret")


def _areas(machine: Machine) -> Iterator[tuple[int, Vma]]:
    for number, space in machine.system.mms.items():
        for area in space.areas:
            if not area.image:
                yield number, area


def _left_over(mm: int, area: Vma, whose: str) -> str:
    where = f"{area.start:#x}-{area.end:#x}"
    return f"left behind in mm{mm}: {where}, {size_text(area.size)}, {whose}"


def joined(machine: Machine) -> list[str]:
    """A thread whose futex has been woken while its stack is mapped: a joiner may reuse it."""
    return [
        f"the CLEARTID futex of {thread.name} is woken, {area.start:#x}-{area.end:#x} still mapped"
        for thread in machine.system.threads.values()
        for mm, area in _areas(machine)
        if thread.ctl in LEAVING and mm == thread.mm and area.owner == thread.tid
    ]


def leaked(machine: Machine) -> list[str]:
    """Shadow stacks whose owner has left are still mapped."""
    return [
        _left_over(mm, area, "a shadow stack whose owner has left")
        for mm, area in _areas(machine)
        if area.shadow and area.owner is LEFT and area.kind is not Kind.ORPHAN
    ]


def orphans(machine: Machine) -> list[str]:
    """fork's copies of other threads' stacks stay mapped."""
    return [
        _left_over(mm, area, "fork's copy of another thread's shadow stack")
        for mm, area in _areas(machine)
        if area.kind is Kind.ORPHAN
    ]


def sizes(machine: Machine) -> list[str]:
    """How large each kernel-made stack is."""
    names = {tid: t.name for tid, t in machine.system.threads.items()}
    return [
        f"{area.start:#x}-{area.end:#x} of {names.get(area.owner, 'nobody')}, {area.kind.value}: "  # type: ignore[call-overload]
        f"{area.size:#x} bytes, {size_text(area.size)}"
        for _, area in _areas(machine)
        if area.kind in (Kind.CLONE, Kind.SETUP)
    ]


def workers(machine: Machine) -> list[str]:
    """Stacks that kernel workers hold."""
    held = {t.tid: t.name for t in machine.system.threads.values() if t.worker}
    return [
        f"worker {held[area.owner]} holds {area.start:#x}-{area.end:#x}, {size_text(area.size)}"
        for _, area in _areas(machine)
        if not isinstance(area.owner, (bool, type(NULL))) and area.owner in held
    ]


def unprotected(machine: Machine) -> list[str]:
    """Tasks in user mode whose CPU has shadow stacks off, or that are on another's stack."""
    off = [
        f"{t.name} runs with SSP off"
        for t in machine.system.threads.values()
        if not t.regs.u_cet & SH_STK_EN and t.ctl is Ctl.USER
    ]
    return off + shared(machine)


def spins(machine: Machine) -> list[str]:
    """A task that tries munmap for ever, while the lock stays contended."""
    out = []
    for thread in machine.system.threads.values():
        copy = fork(machine)
        same = copy.system.threads[thread.tid]
        same.contended = 1 << 30
        try:
            copy.settle(300)
        except NotNow:
            if thread.tid in copy.system.threads:
                left = (1 << 30) - copy.system.threads[thread.tid].contended
                out.append(f"{thread.name} has called munmap {left} times and got -EINTR")
    return out


def waits(machine: Machine) -> list[str]:
    """Tasks that stay in the vfork wait, whatever goes on by itself."""
    copy = fork(machine)
    _let_run(copy, "")
    return [
        f"{t.name} stays in {t.ctl.value}"
        for t in copy.system.threads.values()
        if t.ctl is Ctl.VFORK_WAIT
    ]


Probe = Callable[[Machine], list[str]]

PROBES: dict[str, tuple[Probe, ...]] = {
    "freed-at-least-once": (leaked,),
    "failed-clone-harmless": (leaked, dangling),
    "no-orphan-copies": (orphans,),
    "freed-at-most-once": (dangling,),
    "own-mm": (dangling,),
    "worker-frees-nothing": (dangling,),
    "worker-holds-none": (workers,),
    "size-default": (sizes,),
    "size-explicit": (sizes,),
    "size-compat": (sizes,),
    "alloc-failure-fails-clone": (unprotected, dangling),
    "unmap-terminates": (spins,),
    "vfork-resumes": (waits, spins),
    "freed-before-join": (joined,),
}

ABOUT_MUNMAP = (
    *("freed-at-most-once", "own-mm", "not-in-use", "worker-frees-nothing"),
    # Where the clone fails, its stack is gone in the same step.
    *("size-default", "size-explicit", "size-compat"),
)
