"""Theorems about one instruction, one signal or one sigreturn, on a stack of any size and contents.

A statement speaks of one move: registers and memory before and after it.  It is written with
``+ - & |``, ``== != < <=`` and ``s.implies``, ``s.no``, so that it can be asked of a solver's
terms and of the numbers of a concrete machine alike.  ``s.any("at")`` is an arbitrary word: what
is said of it is said of every one.  Flags and words are those of ``model.cpu.world``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from model.cpu.words import (
    MASK64,
    align8,
    high32,
    la_adjust,
    misaligned,
    noncanonical,
    restore_token_address,
)
from model.cpu.world import SH_STK_EN, WR_SHSTK_EN, ControlProtection, Flag, Vector, Word
from model.kernel.mmap import TASK_SIZE_MAX
from model.world import PAGE_SIZE

WORD = 8  # bytes
BIT_63 = 1 << 63
SELECTORS = 0x40  # Linux's code segments are below
NEAR = 64  # bytes


class Moment(Protocol):
    """Registers and memory at an instant.  Addresses are of bytes and wrap."""

    rip: Word
    rsp: Word
    ssp: Word  # of user mode, wherever it is kept: the register, or IA32_PL3_SSP in the kernel
    pl0_ssp: Word
    pl3_ssp: Word
    cs: Word
    cpl: Word
    cf: Word
    cr4_cet: Word
    u_cet: Word
    s_cet: Word
    long_mode: Flag

    def byte(self, address: Word) -> Word:
        """The byte there, whatever the page tables say."""

    def dword(self, address: Word) -> Word:
        """The 4 bytes there."""

    def word(self, address: Word) -> Word:
        """The 8 bytes there."""

    def shadow(self, address: Word) -> Flag:
        """User shadow-stack accesses to that byte are allowed."""

    def stack(self, address: Word) -> Flag:
        """That byte is in a shadow stack, be it one that user code cannot write to."""

    def readable(self, address: Word) -> Flag:
        """Ordinary user loads of that byte are allowed."""


class Step(Protocol):
    """One move."""

    guard_gaps: str  # the design's: "start" or "both"
    before: Moment
    after: Moment
    registers_kept: Flag  # every register is what it was
    faulted: Flag  # an exception has ended it
    error: Flag  # the kernel has, with an errno
    done: Flag  # neither
    kernel_on: Flag  # the kernel takes shadow stacks to be on
    killed: Flag  # a fatal signal is pending, and the mmap_lock contended
    later: Moment  # between delivery and sigreturn, where a move has both

    def any(self, name: str) -> Word:
        """An arbitrary word, or the move's operand of that name."""

    def raised(self, vector: Vector, code: int) -> Flag:
        """It has ended by that exception."""

    def no(self, what: Flag) -> Flag:
        """Not ``what``."""

    def implies(self, what: Flag, then: Flag) -> Flag:
        """``then``, if ``what``."""


Claim = Callable[[Step], Flag]


@dataclass(frozen=True)
class Statement:
    """What is true after every one of ``moves`` that satisfies ``premise``.

    ``property``, ``conjunct``: what it serves in ``properties.cpu``, '' for a lemma.
    ``remains``: what is between this and that conjunct, which stays bounded; '' if nothing, and
    then ``why`` says how the one implies the other.
    """

    id: str
    sentence: str
    source: str
    moves: tuple[str, ...]
    premise: Claim
    claim: Claim
    property: str = ""
    conjunct: str = ""
    assumptions: tuple[str, ...] = ()
    remains: str = ""
    why: str = ""
    asks_gaps: bool = False  # it depends on the design's guard gaps


STATEMENTS: dict[str, Statement] = {}

# -- moves ---------------------------------------------------------------------------

NEAR_BRANCHES = ("call_rel", "call_abs", "ret", "incsspd", "incsspq")
FAR_CALLS = ("call_far", "call_far/4")
FAR_RETURNS = ("ret_far", "ret_far/4", "iret", "iret/4")
NO_SSP = ("endbr32", "endbr64", "jmp_far", "rdsspd", "rdsspq")
WRITES = ("wrssd", "wrssq")
PRIVILEGED = (
    *("wrussd", "wrussq", "setssbsy", "clrssbsy", "rdmsr", "wrmsr"),
    *("sysret", "sysret/4", "sysexit", "sysexit/4", "iret_to_user"),
)
ENTRIES = ("syscall", "sysenter", "interrupt")
#: What user code can execute but WRSS, RSTORSSP and SAVEPREVSSP; at CPL 3 the privileged fault.
PLAIN = (*NEAR_BRANCHES, *FAR_CALLS, *FAR_RETURNS, *NO_SSP, *PRIVILEGED, *ENTRIES)
EVERY = (*PLAIN, *WRITES, "rstorssp", "saveprevssp")
SIGNALS = ("deliver", "sigreturn")


def state(
    id: str,
    sentence: str,
    source: str,
    moves: tuple[str, ...],
    premise: Claim,
    claim: Claim,
    serves: str = "",
    assumptions: tuple[str, ...] = (),
    remains: str = "",
    why: str = "",
    asks_gaps: bool = False,
) -> Statement:
    """A new statement, in the registry; ``serves``: property/conjunct."""
    property, _, conjunct = serves.partition("/")
    made = Statement(
        *(id, sentence, source, moves, premise, claim, property, conjunct),
        *(assumptions, remains, why, asks_gaps),
    )
    STATEMENTS[id] = made
    return made


@dataclass(frozen=True)
class Share:
    """What statements say of a conjunct of ``properties.cpu``, if all of them are proved.

    Lemmas that are needed for it are among ``statements``.

    ``complete``: together they imply it for every run of the reference machine; else
    ``sentence`` says what is between, and stays bounded.
    """

    statements: tuple[str, ...]
    complete: bool
    sentence: str


def conjuncts_proved() -> dict[tuple[str, str], Share]:
    """By property and conjunct.  One that is not here is not spoken of at all."""
    served: dict[tuple[str, str], list[Statement]] = {}
    for s in STATEMENTS.values():
        if s.property:
            served.setdefault((s.property, s.conjunct), []).append(s)
    return {key: _share(statements) for key, statements in served.items()}


def _share(statements: list[Statement]) -> Share:
    ids = tuple(s.id for s in statements)
    if any(CANONICAL in s.assumptions for s in statements):
        # A signal can follow an instruction that faults: SSP has to be what it was before that.
        ids = (*ids, "ssp-canonical", "fault-changes-nothing")
    open = [s.remains for s in statements if s.remains]
    said = open or [s.why for s in statements]
    return Share(ids, not open, "; ".join(dict.fromkeys(said)))


# -- words they share ------------------------------------------------------------------


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
CANONICAL = "SSP is canonical, which ssp-canonical shows to last"
PAIRED = "SAVEPREVSSP is executed only right after its RSTORSSP"


# -- every instruction -------------------------------------------------------------------

state(
    "fault-changes-nothing",
    "an instruction that faults leaves every register and every byte as it was",
    "SDM vol. 3, a fault: the state 'prior to the beginning of execution of the faulting "
    "instruction'",
    EVERY,
    lambda s: s.faulted,
    lambda s: s.registers_kept & kept(s, s.any("at")),
)


def multiples_of_4(m: Moment) -> Flag:
    return (m.ssp & 3 == 0) & (m.pl3_ssp & 3 == 0)


def canonical_ssp(m: Moment) -> Flag:
    """``la_adjust``, which is what entering the kernel does with SSP, changes nothing."""
    return (la_adjust(m.ssp) == m.ssp) & (la_adjust(m.pl3_ssp) == m.pl3_ssp)


state(
    "ssp-multiple-of-4",
    "SSP and IA32_PL3_SSP stay multiples of 4",
    "SDM vol. 1, 'Shadow Stacks'; vol. 4, IA32_PL3_SSP",
    (*EVERY, *SIGNALS),
    lambda s: multiples_of_4(s.before) & from_user_mode(s),
    lambda s: multiples_of_4(s.after),
    assumptions=(LINUX,),
)

state(
    "ssp-canonical",
    "SSP stays a canonical address",
    "SDM vol. 1, 'Shadow Stacks'; vol. 2, RET and IRET; vol. 4, IA32_PL3_SSP",
    (*EVERY, *SIGNALS),
    lambda s: from_user_mode(s) & canonical_ssp(s.before),
    lambda s: canonical_ssp(s.after),
    assumptions=(LINUX,),
)

# -- vfork -------------------------------------------------------------------------------

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

# -- tokens --------------------------------------------------------------------------------

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

# -- the ends of a stack ---------------------------------------------------------------------

STACK = "SSP is in [lo, hi] of a shadow stack with the design's guard gaps, its last page mapped"


def on_a_stack(s: Step) -> Flag:
    """SSP is in [lo, hi], the ends of a stack with the design's guard gaps."""
    lo, hi = s.any("lo"), s.any("hi")
    pages = (lo & (PAGE_SIZE - 1) == 0) & (hi & (PAGE_SIZE - 1) == 0) & (lo < hi)
    room = (2 * PAGE_SIZE <= lo) & (hi <= TASK_SIZE_MAX) & s.before.shadow(hi - 1)
    inside = (lo <= s.before.ssp) & (s.before.ssp <= hi)
    return pages & room & inside & s.no(s.before.shadow(lo - 1)) & gap_above(s, hi)


def gap_above(s: Step, hi: Word) -> Flag:
    """What the design promises of the page above a stack that ends at ``hi``."""
    if s.guard_gaps == "both":
        return s.no(s.before.shadow(hi))
    # A stack that began at hi would have its own gap below.
    return s.implies(s.before.shadow(hi), s.no(s.before.shadow(hi - 1)))


def in_bounds(s: Step) -> Flag:
    return (s.any("lo") <= s.after.ssp) & (s.after.ssp <= s.any("hi"))


state(
    "no-step-over-a-gap",
    "CALL, RET and INCSSP that do not fault leave SSP on the stack it is on",
    "v1 18/35; alloc_shstk() (6.12), comment on the guard gap; SDM vol. 1, 'Shadow Stacks'",
    NEAR_BRANCHES,
    lambda s: from_user_mode(s) & usual_ssp(s) & on_a_stack(s) & s.done,
    in_bounds,
    serves="guard-gap/stays-on-its-stack",
    assumptions=(LINUX, USUAL, STACK),
    asks_gaps=True,
    remains="bounded: that the gaps are there, which a chosen address (6.12) can undo",
)


state(
    "ssp-in-bounds-step",
    "a far CALL or signal delivery leaves SSP on the stack it is on",
    "KERNEL: base <= SSP <= base + size, and SSP == base + size means empty",
    (*FAR_CALLS, "deliver"),
    lambda s: from_user_mode(s) & usual_ssp(s) & on_a_stack(s) & s.no(s.faulted),
    in_bounds,
    serves="ssp-in-bounds/in-bounds",
    assumptions=(LINUX, USUAL, STACK),
    asks_gaps=True,
    remains="with no-step-over-a-gap for CALL, RET and INCSSP, and round-trip for sigreturn; "
    "bounded: far RET, IRET, what the kernel installs, and that the gaps are there",
)

# -- signals -----------------------------------------------------------------------------------


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

# -- what the kernel installs ---------------------------------------------------------------------


def installs(s: Step) -> Flag:
    """The kernel has set SSP to a value of its own."""
    return from_user_mode(s) & usual_ssp(s) & (s.after.ssp != s.before.ssp)


NOT_PRCTL = "arch_prctl and clone install the end of a fresh area; that is bounded"
state(
    "installed-aligned",
    "every SSP that delivery or sigreturn sets is a multiple of 8",
    "shstk_pop_sigframe() (6.12); v1 30/35 shstk_check_rstor_token()",
    SIGNALS,
    installs,
    lambda s: s.no(misaligned(s.after.ssp, WORD)),
    serves="installed-ssp/aligned",
    assumptions=(LINUX, USUAL),
    remains=NOT_PRCTL,
)
state(
    "installed-below-task-size",
    "every SSP that delivery or sigreturn sets is below TASK_SIZE_MAX",
    "shstk_pop_sigframe() (6.12); v1 30/35 shstk_check_rstor_token()",
    SIGNALS,
    installs,
    lambda s: s.after.ssp < TASK_SIZE_MAX,
    serves="installed-ssp/below-task-size",
    assumptions=(LINUX, USUAL),
    remains=NOT_PRCTL,
)

# -- RET -------------------------------------------------------------------------------------------


def stacks_disagree(s: Step) -> Flag:
    """Both stacks can be read, and what RET would pop is not the same."""
    m = s.before
    last = m.long_mode
    long = last & (m.word(m.rsp) != m.word(m.ssp)) & m.readable(m.rsp + 7) & m.shadow(m.ssp + 7)
    short = s.no(last) & (m.dword(m.rsp) != m.dword(m.ssp))
    short = short & m.readable(m.rsp + 3) & m.shadow(m.ssp + 3)
    return from_user_mode(s) & usual_ssp(s) & m.readable(m.rsp) & m.shadow(m.ssp) & (long | short)


state(
    "ret-mismatch",
    "a RET whose two stacks disagree is #CP(NEAR-RET), and changes nothing",
    "SDM vol. 2, RET",
    ("ret",),
    stacks_disagree,
    lambda s: (
        s.raised(Vector.CP, ControlProtection.NEAR_RET) & s.registers_kept & kept(s, s.any("at"))
    ),
    serves="vfork-return-faults/near-ret-fault",
    assumptions=(LINUX, USUAL, "both stacks can be read where RET pops"),
    remains="bounded: that the child's stacks disagree, which is the C library's protocol",
)
