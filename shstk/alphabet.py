"""What tasks may do next, as lines of a scenario: letters, and abilities made of them.

A program is a sequence of such lines.  Whether a line is possible is asked of the machine
as it is; operations that can only fail are left out where that decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from model.cpu.concrete import USER_CS
from model.cpu.words import TOKEN_L, TOKEN_PREVIOUS, previous_ssp
from model.reference import image
from model.reference.instructions import on
from model.reference.signals import FRAME_WORDS
from model.reference.system import Thread
from model.reference.tokens import is_restore_token
from model.reference.values import Range
from model.reference.vma import (
    MMAP_BASE,
    PAGE_SIZE,
    SZ_4G,
    AddressSpace,
    Vma,
)
from properties.machine import word
from shstk.stage import Stage, perform

Lines = Callable[[Stage, Thread], Iterable[str]]  # what a task that can run may do next


@dataclass(frozen=True)
class Letter:
    """A kind of operation: in words, and as the lines that are possible for a task now."""

    words: str
    lines: Lines


def always(_stage: Stage) -> bool:
    """Every design has it."""
    return True


@dataclass(frozen=True)
class Ability:
    """Something more that tasks may do; ``phrase`` completes "… does not".

    ``possible``: the design has it, asked on a machine with shadow stacks on.
    """

    name: str
    phrase: str
    letters: tuple[Letter, ...]
    possible: Callable[[Stage], bool] = always


# -- asking a stage ------------------------------------------------------------------


def space_of(s: Stage, t: Thread) -> AddressSpace:
    """The address space of a task."""
    return s.system.space(t)


def stacks(s: Stage, t: Thread) -> list[Vma]:
    """The shadow stacks in a task's address space, upwards."""
    return [area for area in space_of(s, t).areas if area.shadow]


def fresh(s: Stage) -> str:
    """A name for a new range."""
    return f"N{1 + sum(name.startswith('N') for name in s.names)}"


def top(s: Stage, t: Thread) -> int:
    """The word on top of the data stack: where a RET would go."""
    return word(space_of(s, t), t.regs.rsp)


def shadow_top(s: Stage, t: Thread) -> int:
    """The word on top of the shadow stack."""
    return word(space_of(s, t), t.ssp & ~7)


def in_restorer(s: Stage, t: Thread) -> bool:
    """A handler has returned; sigreturn comes next."""
    return image.RESTORER <= t.regs.rip < image.RESTORER + 64


def data_frame(s: Stage, t: Thread) -> bool:
    """RSP is at what sigreturn takes for a frame: its last word is the user's CS."""
    return word(space_of(s, t), t.regs.rsp + 8 * (FRAME_WORDS - 2)) == USER_CS


def outermost(s: Stage, t: Thread) -> bool:
    """A vfork child is back in the function that called vfork(): a RET would return from it."""
    parent = s.system.threads.get(t.vfork_done)  # type: ignore[arg-type]
    return parent is not None and parent.frame is not None and t.regs.rsp >= parent.frame.rsp


def tokens(s: Stage, t: Thread) -> Iterator[int]:
    """Where a restore token lies, or what RSTORSSP has made of one."""
    space = space_of(s, t)
    there = stacks(s, t)
    for area in there:
        for a, value in space.find_words(area):
            if is_restore_token(a, value) or _is_used(value, there):
                yield a


def _is_used(value: int, there: list[Vma]) -> bool:
    """A previous-ssp token of 64-bit mode, that leads to one of the stacks."""
    flags = value & 7 == TOKEN_L | TOKEN_PREVIOUS
    return flags and any(area.start <= previous_ssp(value) <= area.end for area in there)


# -- letters -------------------------------------------------------------------------


def any_time(words: str, *operations: str) -> Letter:
    """Operations that are always possible."""
    return Letter(words, lambda s, t: [f"{t.name} {each}" for each in operations])


def when(words: str, condition: Callable[[Stage, Thread], bool], *operations: str) -> Letter:
    """Operations that are possible under a condition."""
    return Letter(
        words, lambda s, t: [f"{t.name} {each}" for each in operations] if condition(s, t) else []
    )


def while_on(words: str, *operations: str) -> Letter:
    """Operations that are #UD where shadow stacks are off."""
    return when(words, lambda s, t: on(t), *operations)


CALL = any_time("CALL", "call")
RET = any_time("RET", "ret")
RET_MATCHING = when("RET where the stacks agree", lambda s, t: top(s, t) == shadow_top(s, t), "ret")
RET_INSIDE = when("RET from what was called since", lambda s, t: not outermost(s, t), "ret")
RET_OUTERMOST = when("RET from the function that called vfork()", outermost, "ret")
INCSSP_ENDS = while_on("INCSSPQ 1 and 255", "incsspq 1", "incsspq 255")
INCSSPD_ODD = while_on("INCSSPD 1", "incsspd 1")
EXIT = any_time("exit", "exit")
EXIT_OF_CHILD = when("exit of a vfork child", lambda s, t: t.name == "C", "exit")
KILL = any_time("a signal with a handler", "kill SIGUSR1")
SIGRETURN = when("sigreturn", in_restorer, "rt_sigreturn")
HANDLER_RETURNS = when(
    "a handler returns", lambda s, t: top(s, t) == image.RESTORER, "handler_return"
)
RSTORSSP = Letter(
    "RSTORSSP to any token, used or not",
    lambda s, t: [f"{t.name} rstorssp {s.symbol(a)}" for a in tokens(s, t)] if on(t) else [],
)
SAVEPREVSSP = when(
    "SAVEPREVSSP on a previous-ssp token",
    lambda s, t: on(t) and shadow_top(s, t) & TOKEN_PREVIOUS != 0,
    "saveprevssp",
)
DISABLE_LETTERS = (
    when("disable", lambda s, t: on(t), "arch_prctl DISABLE SHSTK"),
    when("enable", lambda s, t: not on(t), "arch_prctl ENABLE SHSTK"),
)


def map_stack(size: int, at_most: int) -> Letter:
    """map_shadow_stack with a token, while there are fewer than so many shadow stacks."""
    return Letter(
        f"map_shadow_stack of {size} bytes with a token, up to {at_most} stacks",
        lambda s, t: (
            [f"{fresh(s)} = {t.name} map_shadow_stack {size} token"]
            if len(stacks(s, t)) < at_most
            else []
        ),
    )


def new_thread(name: str, at_most: int) -> Letter:
    """A thread, while there are fewer than so many shadow stacks."""
    return Letter(
        f"a new thread, up to {at_most} stacks",
        lambda s, t: (
            [f"{fresh(s)} = {t.name} clone {name} VM|THREAD|SIGHAND"]
            if s.is_free(name) and len(stacks(s, t)) < at_most
            else []
        ),
    )


def altstack(words: str, operation: str) -> Letter:
    """sigaltstack(2), once."""
    return when(words, lambda s, t: t.altstack is None, operation)


# -- abilities: instructions and calls -----------------------------------------------

RETURN = Ability("return", "return from the function that called vfork()", (RET_OUTERMOST,))
EXECVE = Ability("execve", "call execve()", (any_time("execve", "execve"),))
SIGNALS = Ability("signals", "take signals", (KILL, HANDLER_RETURNS))
SIGNALS_APART = Ability("signals", "take signals", (KILL, SIGRETURN))
PIVOT = Ability("pivot", "switch stacks", (map_stack(PAGE_SIZE, 2), RSTORSSP, SAVEPREVSSP))
INCSSP = Ability("INCSSP", "use INCSSP", (while_on("INCSSPQ 1 and 2", "incsspq 1", "incsspq 2"),))
INCSSPD = Ability("INCSSPD", "use INCSSPD with an odd count", (INCSSPD_ODD,))
DISABLE = Ability("disable", "disable shadow stacks", DISABLE_LETTERS)
LONGJMP = Ability(
    "longjmp",
    "call longjmp()",
    (when("longjmp", lambda s, t: "here" in t.contexts, "longjmp here"),),
)
RAW_SIGRETURN = Ability(
    "raw sigreturn",
    "call sigreturn but by RET to the restorer",
    (
        when("POP of the restorer", lambda s, t: top(s, t) == image.RESTORER, "pop"),
        when("sigreturn with a frame on the data stack", data_frame, "rt_sigreturn"),
    ),
)
VFORK = Ability(
    "vfork",
    "call vfork() and switch stacks in the child",
    (when("vfork", lambda s, t: s.is_free("C"), "vfork C"),),
)


def nested(generation: str) -> Ability:
    """The child calls vfork() itself."""
    line = f"libc_vfork D generation={generation}"
    again = when("vfork again", lambda s, t: s.is_free("D"), line)
    return Ability("nested vfork", "call vfork() itself", (again,))


def wrss(stores: Lines) -> Ability:
    """WRSS, once it is enabled; a store says ``ADDRESS VALUE``."""

    def lines(s: Stage, t: Thread) -> Iterator[str]:
        if not on(t):
            return
        if not t.wrss:
            yield f"{t.name} arch_prctl ENABLE WRSS"
            return
        yield from (f"{t.name} wrssq {store}" for store in stores(s, t))

    return Ability("WRSS", "use WRSS", (Letter("enable WRSS, WRSSQ", lines),))


def forged(name: str, phrase: str, *places: str) -> Ability:
    """WRSSQ, when sigreturn comes next, of what it could take for a frame that leads there."""
    flags = (f"{1 << 63:#x}", "1")  # as 6.12 marks a frame, and v1
    lines = [f"wrssq ssp {place}+{flag}" for place in places for flag in flags]
    store = when("WRSSQ of a signal frame", in_restorer, *lines)
    return Ability(name, phrase, (KILL, RET_MATCHING, store, SIGRETURN))


# -- abilities: where stacks lie -----------------------------------------------------


def _beside(s: Stage, t: Thread) -> Iterator[int]:
    """Free pages directly above and below the shadow stacks."""
    space = space_of(s, t)
    for area in stacks(s, t):
        for start in (area.end, area.start - PAGE_SIZE):
            if not space.overlapping(start, start + PAGE_SIZE):
                yield start


def _map_beside(s: Stage, t: Thread) -> Iterator[str]:
    if len(stacks(s, t)) < 3:
        for start in _beside(s, t):
            yield f"{fresh(s)} = {t.name} map_shadow_stack 4096 addr={s.symbol(start)} token"


def takes_an_address(s: Stage) -> bool:
    """map_shadow_stack(2) has an address, and maps there."""
    there = stacks(s, s.system.threads[0])
    if not there:
        return False
    start = there[0].start - 16 * PAGE_SIZE
    done = perform(s, f"X = P map_shadow_stack 4096 addr={start:#x}")
    return done is not None and done.stage.names.get("X") == Range(start, PAGE_SIZE)


def _move_beside(s: Stage, t: Thread) -> Iterator[str]:
    for area in stacks(s, t):
        where = f"{t.name} mremap {s.symbol(area.start)} {area.size}"
        yield f"{where} new_size={area.size + PAGE_SIZE}"
        for start in _beside(s, t):
            if start not in (area.end, area.start - PAGE_SIZE):
                yield f"{where} to={s.symbol(start)}"


def _map_all(s: Stage, t: Thread) -> Iterator[str]:
    """The largest hole in which a search downwards would find a place."""
    space = space_of(s, t)
    there = [a for a in space.areas if SZ_4G <= a.start < MMAP_BASE]
    lows = [SZ_4G, *(space.gaps.vm_end_gap(a) for a in there)]
    highs = [*(space.gaps.vm_start_gap(a) for a in there), MMAP_BASE]
    size = max(high - low for low, high in zip(lows, highs, strict=True))
    if size >= PAGE_SIZE:
        yield f"{t.name} mmap {size:#x} prot=none"


FIXED = Ability(
    "fixed address",
    "map a shadow stack at an address of its choice",
    (Letter("map_shadow_stack directly above or below another", _map_beside),),
    takes_an_address,
)
MREMAP = Ability(
    "mremap", "mremap a shadow stack", (Letter("mremap next to another, or larger", _move_beside),)
)
FULL = Ability(
    "full address space",
    "fill the address space",
    (Letter("mmap of the largest hole there is", _map_all),),
)
