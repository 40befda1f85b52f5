"""Signal delivery and sigreturn, and the frame between them."""

from __future__ import annotations

from model.cpu.words import (
    align8,
    noncanonical,
)
from model.cpu.world import SH_STK_EN, Flag, Word
from model.kernel.mmap import TASK_SIZE_MAX
from properties.memory.instructions import canonical_ssp
from properties.memory.tokens import ordinary_premise
from properties.memory.vocabulary import CANONICAL, PLAIN, WRITES, Step, state
from properties.memory.words import (
    ALIGNED,
    APART,
    BY_THIS_TEXT,
    LINUX,
    NO_WRSS,
    PAIRED,
    USUAL,
    WORD,
    from_user_mode,
    marked,
    restores,
    usual_ssp,
)


def signal_premise(s: Step) -> Flag:
    usual = from_user_mode(s) & usual_ssp(s) & (s.before.ssp < TASK_SIZE_MAX)
    return usual & s.kernel_on


def comes_back(s: Step) -> Flag:
    """The handler ends where it began, and the stack is still mapped and has shadow stacks on."""
    m = s.later
    data = (m.word(m.rsp) == s.any("restorer")) & m.readable(m.rsp) & m.readable(m.rsp + 7)
    mode = (m.cpl == 3) & m.long_mode & (m.cr4_cet == 1) & ((m.u_cet & SH_STK_EN) != 0)
    code = s.no(noncanonical(s.any("restorer"))) & ((m.s_cet & SH_STK_EN) == 0)
    return data & mode & code & m.shadow(m.ssp) & m.shadow(m.ssp + WORD)


state(
    "round-trip",
    "delivery, a handler that leaves both words and returns, and sigreturn restore SSP",
    "v1 30/35; shstk_pop_sigframe() (6.12)",
    ("round-trip",),
    lambda s: signal_premise(s) & comes_back(s) & s.no(s.killed),
    lambda s: s.done & (s.after.ssp == s.before.ssp),
    serves="sigreturn-round-trip/restores-ssp",
    assumptions=(
        *(LINUX, USUAL, "the kernel takes shadow stacks to be on, too, throughout"),
        "SSP is below TASK_SIZE_MAX, and the stack is still mapped at sigreturn",
        "no fatal signal cuts sigreturn short; it returns to 64-bit code",
        "memory is otherwise arbitrary when the handler returns",
    ),
    remains="bounded: handlers that do not return, and frames that are taken more than once",
)


def a_pushed_word(s: Step) -> Flag:
    """``at`` is where a word lies that delivery has pushed, other than the restorer."""
    at = s.any("at")
    below = (align8(s.after.ssp) <= at) & (at < align8(s.before.ssp)) & (at & 7 == 0)
    pushed = below & (s.after.word(at) != s.any("restorer"))
    return from_user_mode(s) & canonical_ssp(s.before) & s.done & pushed


def _pushed(s: Step) -> Word:
    return s.after.word(s.any("at"))


state(
    "frame-is-no-token",
    "the word that delivery pushes is neither a restore token nor a previous-ssp token",
    "31255e072b2e, log; shstk.rst: the frame has bit 63 set",
    ("deliver",),
    a_pushed_word,
    lambda s: s.no(restores(s.any("at"), _pushed(s))) & (_pushed(s) & 2 == 0),
    serves="sigreturn-round-trip/word-is-no-token",
    assumptions=(LINUX, CANONICAL),
    why=BY_THIS_TEXT,
)

state(
    "frame-is-no-address",
    "the word that delivery pushes is no canonical address, so RET cannot go to it",
    "shstk.rst: the frame has bit 63 set",
    ("deliver",),
    a_pushed_word,
    lambda s: noncanonical(_pushed(s)),
    serves="sigreturn-round-trip/word-is-no-return-address",
    assumptions=(LINUX, CANONICAL),
    why=BY_THIS_TEXT,
)

KEEPS_SSP = "a delivery that fails leaves SSP as it was"
state(
    "failed-delivery",
    KEEPS_SSP,
    "31255e072b2e, log",
    ("deliver",),
    lambda s: from_user_mode(s) & canonical_ssp(s.before) & s.error,
    lambda s: s.after.ssp == s.before.ssp,
    serves="sigreturn-round-trip/failed-delivery-keeps-ssp",
    assumptions=(LINUX, CANONICAL),
    why=f"{BY_THIS_TEXT}; a signal that is not delivered at all changes no register",
)
state(
    "failed-x32-delivery",
    f"{KEEPS_SSP}, with a handler installed by an x32 syscall",
    "x32_setup_rt_frame() (6.12)",
    ("deliver-x32",),
    lambda s: from_user_mode(s) & canonical_ssp(s.before) & s.error,
    lambda s: s.after.ssp == s.before.ssp,
    assumptions=(LINUX, CANONICAL),
)


def takes_a_frame(s: Step) -> Flag:
    """sigreturn has moved SSP."""
    usual = from_user_mode(s) & usual_ssp(s) & s.no(s.error)
    return usual & (s.after.ssp != s.before.ssp)


state(
    "only-a-frame",
    "sigreturn takes SSP only from a word on a shadow stack that is no token and no address",
    "shstk_pop_sigframe() (6.12)",
    ("sigreturn",),
    takes_a_frame,
    lambda s: marked(s.before.word(s.before.ssp)) & s.before.stack(s.before.ssp),
    serves="sigreturn-round-trip/only-a-frame",
    assumptions=(LINUX, USUAL),
    remains="with only-delivery-marks; bounded: moving of stacks",
)

state(
    "only-delivery-marks",
    "in 64-bit mode, nothing but WRSS and delivery makes a word with bit 63 that is no address",
    "shstk.rst: the frame has bit 63 set",
    (*PLAIN, *WRITES, "rstorssp", "pivot", "sigreturn"),
    lambda s: ordinary_premise(s) & s.before.long_mode,
    lambda s: s.implies(
        marked(s.after.word(s.any("at"))),
        s.after.word(s.any("at")) == s.before.word(s.any("at")),
    ),
    serves="sigreturn-round-trip/only-a-frame",
    assumptions=(LINUX, USUAL, ALIGNED, APART, NO_WRSS, PAIRED),
    remains="with only-a-frame; bounded: moving of stacks",
)
