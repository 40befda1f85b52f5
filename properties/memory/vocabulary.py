"""What the statements can ask of a move, and how they are declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from model.cpu.world import Flag, Vector, Word


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

CANONICAL = "SSP is canonical, which ssp-canonical shows to last"


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
