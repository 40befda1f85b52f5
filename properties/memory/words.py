"""Words that the statements share, and their assumptions in words."""

from __future__ import annotations

from model.cpu.words import (
    MASK64,
    high32,
    noncanonical,
    restore_token_address,
)
from model.cpu.world import SH_STK_EN, Flag, Word
from model.kernel.mmap import TASK_SIZE_MAX
from model.world import PAGE_SIZE
from properties.memory.vocabulary import Step

WORD = 8  # bytes
BIT_63 = 1 << 63
SELECTORS = 0x40  # Linux's code segments are below
NEAR = 64  # bytes


def restores(at: Word, word: Word) -> Flag:
    """RSTORSSP accepts ``word`` at ``at``, in 64-bit or in compatibility mode."""
    long = (word & 3) == 1
    short = ((word & 3) == 0) & (high32(word) == 0) & (high32(at) == 0)
    return (long | short) & (restore_token_address(word) == at)


def marked(word: Word) -> Flag:
    """Bit 63 is set and no address has these bits: what 6.12's delivery pushes."""
    return ((word & BIT_63) != 0) & noncanonical(word)


def kept(s: Step, at: Word) -> Flag:
    """The byte at ``at`` is what it was."""
    return s.after.byte(at) == s.before.byte(at)


def from_user_mode(s: Step) -> Flag:
    """Begun at CPL 3 with shadow stacks on; Linux has no supervisor shadow stacks."""
    on = (s.before.cr4_cet == 1) & ((s.before.u_cet & SH_STK_EN) != 0)
    return (s.before.cpl == 3) & ((s.before.s_cet & SH_STK_EN) == 0) & on


def usual_ssp(s: Step) -> Flag:
    """SSP is a multiple of 4 in the user's address space; the first two pages are not a stack."""
    ssp = s.before.ssp
    return (
        (ssp & 3 == 0)
        & (2 * PAGE_SIZE <= ssp)
        & (ssp <= TASK_SIZE_MAX)
        & s.implies(s.no(s.before.long_mode), ssp <= (1 << 32) - PAGE_SIZE)
        & (s.before.cs < SELECTORS)
    )


def aligned_in_64_bit_mode(s: Step) -> Flag:
    """SSP is a multiple of 8 in 64-bit mode."""
    return s.implies(s.before.long_mode, s.before.ssp & 7 == 0)


def apart(address: Word, ssp: Word) -> Flag:
    """``address`` is not within 64 bytes of ``ssp``."""
    return 2 * NEAR <= ((address - ssp + NEAR) & MASK64)


def code_is_apart(s: Step) -> Flag:
    """Code, and the restorer, lie in the user's address space and not where SSP points."""
    rip, restorer = s.before.rip, s.any("restorer")
    low = s.implies(s.no(s.before.long_mode), rip < (1 << 32) - PAGE_SIZE)
    here = (rip < TASK_SIZE_MAX) & apart(rip, s.before.ssp) & low
    return here & (restorer < TASK_SIZE_MAX) & apart(restorer, s.before.ssp)


LINUX = "from user mode, shadow stacks on, none for the supervisor; user pages below TASK_SIZE_MAX"
USUAL = "SSP is a multiple of 4 between two pages and TASK_SIZE_MAX (below 4 GiB for 32-bit code)"
ALIGNED = "SSP is a multiple of 8 in 64-bit mode (INCSSPD, or 32-bit code, can make it otherwise)"
APART = "no code and no restorer within 64 bytes of SSP: code does not lie in a shadow stack"
NO_WRSS = "WRSS is off"
BY_THIS_TEXT = (
    "the machine delivers by this very text, from user mode with no supervisor shadow stacks; an "
    "SSP that an area, a token or a frame gives is canonical, and so it stays"
)
PAIRED = "SAVEPREVSSP is executed only right after its RSTORSSP"
