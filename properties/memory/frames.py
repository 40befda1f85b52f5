"""What lies at or above a vfork child's start."""

from __future__ import annotations

from model.cpu.words import (
    align8,
)
from model.cpu.world import WR_SHSTK_EN, Flag
from properties.memory.vocabulary import PLAIN, SIGNALS, WRITES, Step, state
from properties.memory.words import (
    LINUX,
    NO_WRSS,
    PAIRED,
    USUAL,
    from_user_mode,
    kept,
    restores,
    usual_ssp,
)

ABOVE = "P is a multiple of 8, SSP is at or below P before and after: the child does not return"
FRAME_WORD = (
    "the word at P is no restore token, and no word at or above it is its own address plus 1: "
    "frames are return addresses"
)


def frames_premise(s: Step) -> Flag:
    """A child below P; ``at`` is a byte of the parent's stack at or above P."""
    at, p = s.any("at"), s.any("P")
    own = align8(at)
    return (
        from_user_mode(s)
        & usual_ssp(s)
        & ((s.before.u_cet & WR_SHSTK_EN) == 0)
        & (p & 7 == 0)
        & (s.before.ssp <= p)
        & (s.after.ssp <= p)
        & (p <= at)
        & s.before.shadow(at)
        & s.no(restores(p, s.before.word(p)))
        & (s.before.word(own) != own | 1)
    )


state(
    "frames-step",
    "what a task does with SSP at or below P leaves every word at or above P as it was",
    "v1 28/35, log: 'CET does not add any additional limitations for vfork()'",
    (*PLAIN, *WRITES, "rstorssp", "pivot", *SIGNALS),
    frames_premise,
    lambda s: kept(s, s.any("at")),
    serves="vfork-frames/frames-kept",
    assumptions=(LINUX, USUAL, NO_WRSS, PAIRED, ABOVE, FRAME_WORD),
    remains="bounded: what the kernel and other tasks do meanwhile, C libraries that pop frames "
    "unread, and that the parent's SSP is what it was",
)
