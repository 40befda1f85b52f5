"""Restore tokens: used up, and not made by accident."""

from __future__ import annotations

from model.cpu.world import WR_SHSTK_EN, Flag
from properties.memory.vocabulary import PLAIN, SIGNALS, WRITES, Step, state
from properties.memory.words import (
    ALIGNED,
    APART,
    LINUX,
    NO_WRSS,
    USUAL,
    aligned_in_64_bit_mode,
    code_is_apart,
    from_user_mode,
    restores,
    usual_ssp,
)

state(
    "token-consumed",
    "the word where RSTORSSP found its token is no restore token any more",
    "SDM vol. 2, RSTORSSP: the token is replaced in a locked access",
    ("rstorssp",),
    lambda s: from_user_mode(s) & (s.before.ssp & 3 == 0) & s.done,
    lambda s: s.no(restores(s.after.ssp, s.after.word(s.after.ssp))),
    serves="token-once/one-rstorssp",
    assumptions=(LINUX, "SSP is a multiple of 4"),
    remains="with no-new-token; bounded: mapping, unmapping and moving of stacks",
)

state(
    "token-not-twice",
    "of two RSTORSSP in a row with the same operand the second faults",
    "SDM vol. 2, RSTORSSP",
    ("rstorssp-twice",),
    lambda s: from_user_mode(s) & (s.before.ssp & 3 == 0),
    lambda s: s.no(s.done),
    serves="token-once/one-rstorssp",
    assumptions=(LINUX, "SSP is a multiple of 4"),
    remains="with token-consumed and no-new-token",
)


def word_on_a_stack(s: Step) -> Flag:
    """``at`` is where a word of a shadow stack lies."""
    at = s.any("at")
    return (at & 7 == 0) & s.before.shadow(at)


def ordinary_premise(s: Step) -> Flag:
    """User code as it is compiled, WRSS off."""
    usual = from_user_mode(s) & usual_ssp(s) & aligned_in_64_bit_mode(s) & code_is_apart(s)
    return usual & word_on_a_stack(s) & ((s.before.u_cet & WR_SHSTK_EN) == 0)


def no_new_token(s: Step) -> Flag:
    at = s.any("at")
    return s.implies(restores(at, s.after.word(at)), restores(at, s.before.word(at)))


state(
    "no-new-token",
    "nothing but SAVEPREVSSP, WRSS and the kernel makes a restore token of a word that is none",
    "SDM vol. 1, 'Shadow Stacks'",
    (*PLAIN, *WRITES, "rstorssp", *SIGNALS),
    ordinary_premise,
    no_new_token,
    serves="token-once/one-rstorssp",
    assumptions=(LINUX, USUAL, ALIGNED, APART, NO_WRSS),
    remains="with token-consumed; bounded: mapping, unmapping and moving of stacks",
)
