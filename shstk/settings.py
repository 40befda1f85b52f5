"""Which programs are tried for which property: where they start, and what tasks may do.

A setting has a *base* alphabet, that of an ordinary program, and *abilities* that can be
added to it: what a property may have to assume that nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.reference import image
from model.reference.vma import PAGE_SIZE, TASK_SIZE_MAX
from shstk.alphabet import (
    CALL,
    DISABLE,
    DISABLE_LETTERS,
    EXECVE,
    EXIT,
    EXIT_OF_CHILD,
    FIXED,
    FULL,
    INCSSP,
    INCSSP_ENDS,
    INCSSPD,
    INCSSPD_ODD,
    KILL,
    LONGJMP,
    MREMAP,
    PIVOT,
    RAW_SIGRETURN,
    RET,
    RET_INSIDE,
    RET_MATCHING,
    RET_OUTERMOST,
    RETURN,
    RSTORSSP,
    SAVEPREVSSP,
    SIGNALS,
    SIGNALS_APART,
    SIGRETURN,
    VFORK,
    Ability,
    Letter,
    altstack,
    forged,
    map_stack,
    nested,
    new_thread,
    tokens,
    wrss,
)


@dataclass(frozen=True)
class Setting:
    """What is tried for a property.

    ``prelude``: lines, each with the ability that it is there for ('': always).  ``tasks``:
    who acts after it.  ``depths``: how many operations, by how many abilities they use: none,
    one, several.  ``probe``: what shows what comes of a violation.
    ``protocol``: of the C library, or what else the start is about.
    """

    property: str
    tasks: tuple[str, ...]
    prelude: tuple[tuple[str, str], ...]
    base: tuple[Letter, ...]
    abilities: tuple[Ability, ...]
    depths: tuple[int, int, int]
    protocol: str = ""
    probe: tuple[str, ...] = ()
    who: str = "the program"  # … does not have an ability: the assumption

    def opening(self, abilities: Iterable[str] | None = None) -> tuple[str, ...]:
        """The lines of the prelude that these abilities need; None: all."""
        wanted = {"", *(abilities or ())}
        return tuple(line for name, line in self.prelude if abilities is None or name in wanted)


ENABLE = ("", "A = P arch_prctl ENABLE SHSTK")
CALLS = ("", "P call")
SMALL = ("", "P setrlimit 4096")
HANDLER = ("signals", "P sigaction SIGUSR1")
SETJMP = (("longjmp", "P setjmp here"), ("longjmp", "P endbr64"))
WRSS_ON = ("WRSS", "P arch_prctl ENABLE WRSS")
FORGING = ("forged frames", WRSS_ON[1])
# Right, misaligned, beyond user space, and not in a shadow stack.
PLACES = ("ssp+8", "ssp+12", f"{TASK_SIZE_MAX:#x}", "rsp")
FORGED_FRAMES = forged("forged frames", "forge signal frames with WRSS", *PLACES)
GENERATIONS = ("2.36", "2019")


def _vfork(generation: str) -> tuple[tuple[str, str], ...]:
    """A function that a function has called calls glibc's vfork()."""
    vfork = f"P libc_vfork C generation={generation}"
    where_to = ("WRSS", "R = P load rsp")
    return (ENABLE, HANDLER, CALLS, *SETJMP, CALLS, where_to, ("", vfork))


def vfork_frames(generation: str) -> Setting:
    """The child calls functions, returns from those, and exits."""
    return Setting(
        "vfork-frames",
        tasks=("C", "D"),
        prelude=_vfork(generation),
        base=(CALL, RET_INSIDE, EXIT),
        abilities=(
            RETURN,
            EXECVE,
            SIGNALS,
            PIVOT,
            nested(generation),
            INCSSP,
            LONGJMP,
            wrss(lambda s, t: ["P.ssp+8 0x1000"]),
            DISABLE,
        ),
        depths=(7, 5, 4),
        protocol=f"glibc {generation}",
        probe=("P ret", "P ret"),
        who="the child",
    )


def vfork_return_faults(generation: str) -> Setting:
    """The child calls functions, returns from those, and from the one that called vfork()."""
    return Setting(
        "vfork-return-faults",
        tasks=("C", "D"),
        prelude=_vfork(generation),
        base=(CALL, RET_INSIDE, RET_OUTERMOST),
        abilities=(
            SIGNALS,
            PIVOT,
            nested(generation),
            INCSSP,
            LONGJMP,
            wrss(lambda s, t: ["ssp R"]),
            DISABLE,
        ),
        depths=(7, 6, 4),
        protocol=f"glibc {generation}",
        who="the child",
    )


TOKEN_ONCE = Setting(
    "token-once",
    tasks=("P", "T", "C"),
    prelude=(
        ENABLE,
        HANDLER,
        CALLS,
        ("", "S = P clone T VM|THREAD|SIGHAND"),
        ("", "B = P map_shadow_stack 4096 token"),
    ),
    base=(EXIT_OF_CHILD, RSTORSSP, SAVEPREVSSP, CALL, RET_MATCHING),
    abilities=(
        SIGNALS_APART,
        INCSSP,
        VFORK,
        wrss(lambda s, t: (f"{s.symbol(a)} {s.symbol(a + 8)}+1" for a in tokens(s, t))),
    ),
    depths=(5, 5, 3),
    probe=("P call", "T call", "P call", "T ret", "P ret", "P ret", "P ret"),
)

GUARD_GAP = Setting(
    "guard-gap",
    tasks=("P", "T"),
    prelude=(SMALL, ENABLE, CALLS),
    base=(
        CALL,
        RET,
        INCSSP_ENDS,
        map_stack(8, 3),  # its token is at the bottom, a page below the top
        map_stack(PAGE_SIZE, 3),
        new_thread("T", 3),
        RSTORSSP,
    ),
    abilities=(FIXED, MREMAP, FULL),
    depths=(5, 5, 3),
)

SIGRETURN_ROUND_TRIP = Setting(
    "sigreturn-round-trip",
    tasks=("P",),
    prelude=(ENABLE, WRSS_ON, ("", HANDLER[1]), CALLS, *SETJMP, CALLS),
    base=(KILL, CALL, RET, SIGRETURN),
    abilities=(
        Ability(
            "altstack",
            "use sigaltstack()",
            (altstack("sigaltstack", f"sigaltstack {image.data_stack(8) - 8192:#x} 8192"),),
        ),
        Ability(
            "bad altstack",
            "give sigaltstack() what is not mapped",
            (altstack("sigaltstack of nothing", "sigaltstack 0x10000 8192"),),
        ),
        INCSSP,
        INCSSPD,
        LONGJMP,
        PIVOT,
        RAW_SIGRETURN,
        forged("WRSS", "use WRSS", "ssp+8", "ssp+16"),
    ),
    depths=(7, 5, 3),
)

SSP_IN_BOUNDS = Setting(
    "ssp-in-bounds",
    tasks=("P", "T"),
    prelude=(SMALL, ENABLE, FORGING, HANDLER, ("forged frames", HANDLER[1]), *SETJMP, CALLS),
    base=(CALL, RET, INCSSP_ENDS, new_thread("T", 2)),
    abilities=(
        INCSSPD,
        LONGJMP,
        SIGNALS_APART,
        PIVOT,
        DISABLE,
        FIXED,
        MREMAP,
        FULL,
        FORGED_FRAMES,
    ),
    depths=(6, 4, 3),
)

FULL_STACK = Setting(
    "ssp-in-bounds",
    tasks=("P",),
    prelude=(SMALL, ENABLE, HANDLER, *(CALLS,) * (PAGE_SIZE // 8 - 1)),
    base=(CALL, RET),
    abilities=(SIGNALS_APART, FIXED, MREMAP, FULL),
    depths=(6, 5, 3),
    protocol="a full stack",
)

INSTALLED_SSP = Setting(
    "installed-ssp",
    tasks=("P", "T"),
    prelude=(ENABLE, FORGING, ("", HANDLER[1]), CALLS),
    base=(KILL, RET_MATCHING, SIGRETURN, INCSSPD_ODD, new_thread("T", 2), *DISABLE_LETTERS),
    abilities=(PIVOT, RAW_SIGRETURN, FORGED_FRAMES),
    depths=(5, 4, 3),
)

SETTINGS = (
    *(vfork_frames(g) for g in GENERATIONS),
    *(vfork_return_faults(g) for g in GENERATIONS),
    TOKEN_ONCE,
    GUARD_GAP,
    SIGRETURN_ROUND_TRIP,
    SSP_IN_BOUNDS,
    FULL_STACK,
    INSTALLED_SSP,
)
