"""What must hold of instructions and of the contents of stacks, on the reference machine."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from model.cpu.words import TOKEN_PREVIOUS, align8, noncanonical, previous_ssp
from model.cpu.world import ControlProtection, Vector
from model.kernel.mmap import TASK_SIZE_MAX
from model.reference import image
from model.reference.machine import Faulted
from model.reference.signals import describe
from model.reference.system import Thread
from model.reference.tokens import all_tokens, is_restore_token
from model.reference.vma import Vma
from model.state import Ctl, Special
from properties.machine import (
    MACHINE_PROPERTIES,
    Run,
    TaskAt,
    Words,
    declare,
    word,
    words,
)

WORD = 8  # bytes
BRANCHES = ("call", "ret", "incsspq", "incsspd", "longjmp")  # what moves SSP along a stack


# -- vfork: the parent's frames ------------------------------------------------------

vfork_frames = declare(
    "vfork-frames",
    "when the vfork parent resumes, every frame at or above its SSP is what it was",
    "v1 28/35, log: 'CET does not add any additional limitations for vfork()'",
)


@dataclass(frozen=True)
class Suspended:
    """A vfork parent that waits: its SSP, and what lies from there to the top of its stack."""

    tid: int
    mm: int | Special
    ssp: int
    top: int
    words: Words


@vfork_frames.remembers
def _(run: Run) -> Hashable:
    waiting = {t.tid: t for t in run.after.values() if t.ctl is Ctl.VFORK_WAIT}
    known = {s for s in run.memory if s.tid in waiting}
    new = [t for tid, t in waiting.items() if tid not in {s.tid for s in known}]
    return frozenset(known | {_suspended(run, t) for t in new if t.ssp is not None and t.stack})


def _suspended(run: Run, t: TaskAt) -> Suspended:
    assert t.ssp is not None and t.stack is not None
    there = words(run.space(t.mm), t.ssp, t.stack.end) or ()
    return Suspended(t.tid, t.mm, t.ssp, t.stack.end, there)


def _resumed(run: Run) -> Suspended | None:
    """The parent that the last move has let go on in user mode, with shadow stacks."""
    for s in run.memory:
        if s.tid == run.tid and s.tid in run.after and run.can_run(s.tid):
            return s  # type: ignore[no-any-return]
    return None


def _resumes(run: Run) -> bool:
    return _resumed(run) is not None


def popped_unread(thread: Thread) -> int:
    """Bytes that what a task's C library still has to do discards with INCSSP, unread."""
    count = 0
    for name, args, _ in thread.todo:
        if name != "incsspq":
            break
        count += int(str(args[0]))
    return WORD * count


@vfork_frames.whenever("frames-kept", _resumes)
def _(run: Run) -> str:
    s = _resumed(run)
    assert s is not None
    parent = run.after[s.tid]
    if parent.ssp != s.ssp:
        return f"SSP of {parent.name} is {parent.ssp or 0:#x}, was {s.ssp:#x}"
    first = s.ssp + popped_unread(run.system.threads[s.tid])
    now = words(run.space(s.mm), first, s.top)
    was = tuple(w for w in s.words if w[0] >= first)
    if now is None:
        return f"the shadow stack of {parent.name} at {s.ssp:#x} is not mapped any more"
    if now == was:
        return ""
    at = min(a for a, _ in set(now) ^ set(was))
    is_, was_ = (dict(each).get(at, 0) for each in (now, was))
    return f"the word at {at:#x} is {is_:#x}, was {was_:#x}"


# -- vfork: a child that returns -----------------------------------------------------

vfork_return_faults = declare(
    "vfork-return-faults",
    "a vfork child that returns from the function that called vfork() gets #CP",
    "glibc 2.36, vfork.S: 'Keep shadow stack mismatched so that child returns … will trigger "
    "SIGSEGV'",
)


@vfork_return_faults.remembers
def _(run: Run) -> Hashable:
    """Each child whose parent waits, and RSP as it was when it came out of the system call."""
    known = {(tid, rsp) for tid, rsp in run.memory if tid in run.after and run.after[tid].awaited}
    new = [t for t in run.after.values() if t.awaited and t.tid not in {tid for tid, _ in known}]
    return frozenset(known | {(t.tid, t.rsp) for t in new})


def _child_returns(run: Run) -> bool:
    """The frame that a vfork child's RET leaves is that of the function that called vfork()."""
    started = dict(run.memory).get(run.tid)
    return run.instruction == "ret" and started is not None and run.before[run.tid].rsp >= started


@vfork_return_faults.whenever("near-ret-fault", _child_returns)
def _(run: Run) -> str:
    expected = (Vector.CP, ControlProtection.NEAR_RET)
    faults = [e for e in run.effects if isinstance(e, Faulted)]
    if any((e.vector, e.error_code) == expected for e in faults):
        return ""
    child = run.system.threads[run.tid]
    if not faults:
        return f"the RET of {child.name} returns to {child.regs.rip:#x}"
    what = describe(faults[0].vector, faults[0].error_code, faults[0].address)
    return f"the RET of {child.name} raises {what}, not #CP"


# -- tokens ------------------------------------------------------------------------

token_once = declare(
    "token-once",
    "what one write of a restore token allows is used by at most one task",
    "SDM vol. 2, RSTORSSP: the token is replaced in a locked access",
)

Place = tuple[int | Special, int]  # mm, address


@dataclass(frozen=True)
class Ledger:
    """Where restore tokens lie, and which of them have been used since they were written.

    ``taken``: by an RSTORSSP; ``users``: which task has used one, by RSTORSSP or sigreturn.
    """

    tokens: frozenset[Place] = frozenset()
    taken: frozenset[Place] = frozenset()
    users: frozenset[tuple[Place, int]] = frozenset()


def _ledger(run: Run) -> Ledger:
    return run.memory or Ledger()


@token_once.remembers
def _(run: Run) -> Hashable:
    known = _ledger(run)
    now = frozenset((mm, a) for mm, space in run.system.mms.items() for a in all_tokens(space))
    fresh = (now - known.tokens) | (now & frozenset(_written_again(run)))
    taken, used = _by_rstorssp(run), _used(run)
    all_taken = known.taken | ({taken} if taken else set())
    users = known.users | ({(used, run.tid)} if used else set())
    return Ledger(now, all_taken - fresh, frozenset(u for u in users if u[0] not in fresh))


def _written_again(run: Run) -> Iterator[Place]:
    """Where the last move has written a token, perhaps the one that was there before."""
    was = run.before.get(run.tid)
    ssp = run.ssp
    if was is None or ssp is None:
        return
    if run.signalled():
        yield from ((was.mm, a) for a in range(align8(ssp[1]), ssp[0], WORD))
    if run.instruction == "saveprevssp":
        space = run.space(was.mm)
        assert space is not None
        yield was.mm, align8(previous_ssp(word(space, align8(ssp[0])))) - WORD
    if run.instruction in ("wrssq", "wrssd"):
        yield was.mm, align8(int(str(run.arguments["addr"])))


def _by_rstorssp(run: Run) -> Place | None:
    """The token that the last move has used, if it is an RSTORSSP."""
    if not run.pivots or run.ssp is None:
        return None
    above = 0 if run.own == "rstorssp" else WORD  # a pivot is an RSTORSSP and a SAVEPREVSSP
    return run.after[run.tid].mm, run.ssp[1] - above


def _by_sigreturn(run: Run) -> Place | None:
    """The token that the last move has used, if it is a sigreturn and uses one."""
    if run.instruction != "rt_sigreturn" or run.ssp is None or run.ssp[0] == run.ssp[1]:
        return None
    at = (run.before[run.tid].mm, run.ssp[0])
    return at if at in _ledger(run).tokens else None


def _used(run: Run) -> Place | None:
    """The token that the last move has used in either way."""
    return _by_rstorssp(run) or _by_sigreturn(run)


@token_once.whenever("one-rstorssp", lambda run: _by_rstorssp(run) is not None)
def _(run: Run) -> str:
    at = _by_rstorssp(run)
    again = at is not None and at in _ledger(run).taken
    return f"a second RSTORSSP succeeds with the token at {at[1]:#x}" if again and at else ""


@token_once.whenever("one-user", lambda run: _used(run) is not None)
def _(run: Run) -> str:
    at = _used(run)
    others = [tid for place, tid in _ledger(run).users if place == at and tid != run.tid]
    return f"the token at {at[1]:#x} is used by a second task" if others and at else ""


@token_once.whenever("nobody-on-it", lambda run: run.pivots and run.ssp is not None)
def _(run: Run) -> str:
    me = run.after[run.tid]
    for other in run.after.values():
        same = other.tid != me.tid and (other.mm, other.stack) == (me.mm, me.stack)
        if same and other.ssp is not None and run.can_run(other.tid):
            return f"{me.name} is at {me.ssp or 0:#x}, on the stack that {other.name} runs on"
    return ""


# -- the ends of a stack -------------------------------------------------------------

guard_gap = declare(
    "guard-gap",
    "no CALL, RET or INCSSP steps from one shadow stack into another",
    "v1 18/35; alloc_shstk() (6.12), comment on the guard gap",
)


def _on(run: Run) -> Vma | None:
    """The shadow stack that who has moved belonged to, as large as it is now."""
    was = run.before[run.tid]
    space = run.space(was.mm)
    if space is None or was.ssp is None or was.stack is None:
        return None
    area = space.find(was.stack.start)
    return area if area is not None and area.shadow else None


def _near_the_end(run: Run) -> bool:
    """CALL, RET or INCSSP within 2040 bytes of an end, and there is another shadow stack."""
    if run.own not in BRANCHES or run.pivots:
        return False
    was, area = run.before[run.tid], _on(run)
    space = run.space(was.mm)
    if area is None or was.ssp is None or space is None:
        return False
    near = min(was.ssp - area.start, area.end - was.ssp) <= 255 * WORD
    return near and sum(each.shadow for each in space.areas) > 1


@guard_gap.whenever("stays-on-its-stack", _near_the_end)
def _(run: Run) -> str:
    area, ssp, space = _on(run), run.ssp, run.space(run.before[run.tid].mm)
    if area is None or ssp is None or space is None or area.start <= ssp[1] <= area.end:
        return ""
    there = [space.find(a) for a in (ssp[1], ssp[1] - WORD)]
    into = any(each is not None and each.shadow for each in there)
    return f"SSP goes from {ssp[0]:#x} to {ssp[1]:#x}, in another shadow stack" if into else ""


ssp_in_bounds = declare(
    "ssp-in-bounds",
    "while a task has not pivoted, its SSP stays within the stack it started on",
    "KERNEL: base <= SSP <= base + size, and SSP == base + size means empty",
)


@dataclass(frozen=True)
class Started:
    """A task that is on the stack it started on: it has not pivoted."""

    tid: int
    start: int
    end: int
    pivoted: bool = False


@ssp_in_bounds.remembers
def _(run: Run) -> Hashable:
    return frozenset(_started(run))


def _started(run: Run) -> Iterator[Started]:
    known = {s.tid: s for s in run.memory}
    for tid, t in run.after.items():
        if t.ssp is None or t.stack is None:
            continue
        was_on = tid in run.before and run.before[tid].ssp is not None
        new = Started(tid, t.stack.start, t.stack.end)
        s = known.get(tid, new) if was_on else new
        moved = tid == run.tid and run.pivots
        yield Started(s.tid, s.start, s.end, s.pivoted or moved)


def _moves_along(run: Run) -> bool:
    """SSP has moved, and not to a token."""
    return run.ssp is not None and run.ssp[0] != run.ssp[1] and not run.pivots


@ssp_in_bounds.whenever("in-bounds", _moves_along)
def _(run: Run) -> str:
    for s in _started(run):
        ssp = run.after[s.tid].ssp
        if ssp is not None and not s.pivoted and not s.start <= ssp <= s.end:
            name = run.after[s.tid].name
            return f"SSP of {name} is {ssp:#x}, not between {s.start:#x} and {s.end:#x}"
    return ""


# -- signals -----------------------------------------------------------------------

sigreturn_round_trip = declare(
    "sigreturn-round-trip",
    "SSP after sigreturn is SSP before delivery; a frame word is no return address and no token",
    "v1 30/35; 31255e072b2e, log; shstk.rst: the frame has bit 63 set",
)


@dataclass(frozen=True)
class Delivery:
    """A word that signal delivery has pushed and that leads back to ``ssp``.

    ``rsp``: where sigreturn finds the frame on the data stack.
    """

    mm: int | Special
    at: int
    word: int
    ssp: int
    rsp: int


def _delivers(run: Run) -> bool:
    return run.ssp is not None and run.ssp[0] != run.ssp[1] and run.signalled()


def _frame_words(run: Run) -> Words:
    """What delivery has pushed beside the restorer, which is a return address."""
    assert run.ssp is not None
    space = run.space(run.after[run.tid].mm)
    there = words(space, align8(run.ssp[1]), align8(run.ssp[0])) or ()
    return tuple((at, value) for at, value in there if value != image.RESTORER)


@sigreturn_round_trip.remembers
def _(run: Run) -> Hashable:
    new: set[Delivery] = set()
    if _delivers(run) and run.ssp is not None:
        now = run.after[run.tid]
        rsp = now.rsp + WORD  # RET to the restorer comes first
        new = {Delivery(now.mm, at, v, run.ssp[0], rsp) for at, v in _frame_words(run)}
    places = {(d.mm, d.at) for d in new}
    return frozenset(
        {d for d in run.memory if (d.mm, d.at) not in places and _intact(run, d)} | new
    )


def _intact(run: Run, d: Delivery) -> bool:
    space = run.space(d.mm)
    return space is not None and word(space, d.at) == d.word


def _frame(run: Run) -> Delivery | None:
    """The frame that sigreturn finds at SSP, if delivery has left it there."""
    was = run.before[run.tid]
    for d in run.memory:
        if (d.mm, d.at) == (was.mm, was.ssp):
            return d  # type: ignore[no-any-return]
    return None


def _sigreturn_succeeds(run: Run) -> bool:
    return run.instruction == "rt_sigreturn" and run.ssp is not None and run.ssp[0] != run.ssp[1]


def _finds_both_frames(run: Run) -> bool:
    """sigreturn with SSP at a frame, and either RSP at its frame too or no objection."""
    if run.instruction != "rt_sigreturn" or run.ssp is None:
        return False
    frame = _frame(run)
    there = frame is not None and frame.rsp == run.before[run.tid].rsp
    return frame is not None and (there or run.ssp[0] != run.ssp[1])


@sigreturn_round_trip.whenever("restores-ssp", _finds_both_frames)
def _(run: Run) -> str:
    frame = _frame(run)
    assert frame is not None and run.ssp is not None
    if run.ssp[1] == frame.ssp:
        return ""
    return f"SSP is {run.ssp[1]:#x} after sigreturn, was {frame.ssp:#x} before the signal"


@sigreturn_round_trip.whenever("only-a-frame", _sigreturn_succeeds)
def _(run: Run) -> str:
    if _frame(run) is not None or run.ssp is None:
        return ""
    return f"sigreturn takes SSP from {run.ssp[0]:#x}, where no signal has left a frame"


@sigreturn_round_trip.whenever("word-is-no-token", _delivers)
def _(run: Run) -> str:
    for at, value in _frame_words(run):
        if is_restore_token(at, value):
            return f"the word {value:#x} at {at:#x} is a restore token"
        if value & TOKEN_PREVIOUS:
            return f"the word {value:#x} at {at:#x} is a previous-ssp token"
    return ""


@sigreturn_round_trip.whenever("word-is-no-return-address", _delivers)
def _(run: Run) -> str:
    for at, value in _frame_words(run):
        if not noncanonical(value):
            return f"the word {value:#x} at {at:#x} is an address that RET can go to"
    return ""


def _not_delivered(run: Run) -> bool:
    return run.instruction == "kill" and run.ssp is not None and not run.signalled()


@sigreturn_round_trip.whenever("failed-delivery-keeps-ssp", _not_delivered)
def _(run: Run) -> str:
    assert run.ssp is not None
    was, now = run.ssp
    return "" if was == now else f"SSP is {now:#x}, was {was:#x} before a delivery that failed"


# -- what the kernel installs ----------------------------------------------------------

installed_ssp = declare(
    "installed-ssp",
    "every SSP the kernel installs is 8-aligned and below TASK_SIZE_MAX",
    "shstk_pop_sigframe() (6.12); v1 30/35 shstk_check_rstor_token()",
)


def installed(run: Run) -> Iterator[tuple[str, int]]:
    """Tasks whose SSP the kernel has set to a value of its own, and that.

    A child of fork or vfork has its parent's, which is nothing new.
    """
    me = run.before.get(run.tid)
    for tid, t in run.after.items():
        if t.ssp is None or me is None:
            continue
        if tid not in run.before:
            if t.ssp != me.ssp:
                yield t.name, t.ssp
        elif tid == run.tid and t.ssp != me.ssp:
            if run.own in ("arch_prctl", "rt_sigreturn") or run.signalled():
                yield t.name, t.ssp


def _installs(run: Run) -> bool:
    return any(True for _ in installed(run))


@installed_ssp.whenever("aligned", _installs)
def _(run: Run) -> str:
    wrong = [f"SSP of {name} is {ssp:#x}" for name, ssp in installed(run) if ssp % WORD]
    return ", ".join(wrong)


@installed_ssp.whenever("below-task-size", _installs)
def _(run: Run) -> str:
    wrong = [f"SSP of {name} is {ssp:#x}" for name, ssp in installed(run) if ssp >= TASK_SIZE_MAX]
    return ", ".join(wrong)


# Importing this module fills the registry.
__all__ = ["MACHINE_PROPERTIES"]
