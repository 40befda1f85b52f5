"""What an instruction may ask of the world it is executed in.

A world decides what a word is: a Python int, or a solver's 64-bit term.  The text only
uses ``+ - & | ^ << >> // %``, ``== !=`` and the unsigned ``< <=`` on words, wraps what
may leave 64 bits by an explicit mask, and combines conditions with ``& |``.

A world rolls nothing back.  That a faulting instruction changes nothing follows from the
order of the text: everything that can fault comes before the first thing that changes.
Where the last access that can fault is a store, that store is the first change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NoReturn, Protocol, TypeAlias

#: An unsigned 64-bit value.  The type checker takes it for an int; a world may use terms.
Word: TypeAlias = int

#: A condition: ``if`` on it may fork, ``& |`` combine without forking.
Flag: TypeAlias = bool


class Vector(IntEnum):
    """Exceptions an instruction here can raise (SDM Vol. 3A, table 6-1)."""

    UD = 6
    SS = 12
    GP = 13
    PF = 14
    CP = 21


class ControlProtection(IntEnum):
    """Error codes of #CP (SDM Vol. 3A, "Interrupt 21")."""

    NEAR_RET = 1
    FAR_RET_IRET = 2
    ENDBRANCH = 3
    RSTORSSP = 4
    SETSSBSY = 5


class PageFaultCode(IntFlag):
    """Bits of a page fault's error code (SDM Vol. 3A, "Interrupt 14")."""

    P = 1 << 0  # the page was present: a protection fault
    W = 1 << 1  # a write
    U = 1 << 2  # a user access
    SS = 1 << 6  # a shadow-stack access


#: IA32_U_CET and IA32_S_CET.
SH_STK_EN = 1 << 0
WR_SHSTK_EN = 1 << 1
ENDBR_EN = 1 << 2


@dataclass(frozen=True)
class Frame:
    """What an interrupt pushes on the kernel's stack and IRET pops again.

    The kernel's stack itself is not modelled, and RFLAGS is CF, the only flag that the
    shadow-stack instructions look at.
    """

    rip: Word
    cs: Word
    rsp: Word
    cf: Word


class Cpu(Protocol):
    """A logical processor with shadow stacks, in IA-32e mode (EFER.LMA = 1), flat segments.

    Registers hold unsigned 64-bit values; outside 64-bit mode ``rip`` and ``rsp`` are
    below 2**32.  Every memory primitive raises #PF by itself.  An address that is not
    canonical is #GP(0) in a shadow-stack access and #SS(0) in an ordinary one, since the
    only ordinary accesses here are to the data stack.

    There is no atomic read-modify-write among the primitives: an instruction is executed
    as a whole, so a locked compare and exchange is a load and a store.
    """

    rip: Word
    rsp: Word
    ssp: Word
    cs: Word  # the selector
    cpl: Word  # 0 to 3
    cf: Word  # RFLAGS.CF: 0 or 1
    long_mode: Flag  # IA32_EFER.LMA & CS.L: 64-bit mode; else compatibility mode

    cr4_cet: Word  # CR4.CET: 0 or 1
    u_cet: Word  # IA32_U_CET
    s_cet: Word  # IA32_S_CET
    pl0_ssp: Word  # IA32_PL0_SSP
    pl3_ssp: Word  # IA32_PL3_SSP

    # -- ordinary accesses, by CPL; width in bytes: 4 or 8 ---------------------------
    def load(self, address: Word, width: int, /) -> Word:
        """The value at ``address``, zero-extended."""

    def store(self, address: Word, width: int, value: Word, /) -> None:
        """The low ``width`` bytes of ``value`` to ``address``."""

    def probe_store(self, address: Word, width: int, /) -> None:
        """Fault as a store would; write nothing."""

    # -- shadow-stack accesses: of user type at CPL 3, of supervisor type below -------
    def shadow_load(self, address: Word, width: int, /) -> Word:
        """shadow_stack_load."""

    def shadow_store(self, address: Word, width: int, value: Word, /) -> None:
        """shadow_stack_store."""

    def probe_shadow_store(self, address: Word, width: int, /) -> None:
        """Fault as a shadow_stack_store would; write nothing."""

    # -- shadow-stack accesses of a type that CPL does not say ------------------------
    def user_shadow_store(self, address: Word, width: int, value: Word, /) -> None:
        """A shadow_stack_store of user type, whatever CPL is (WRUSS)."""

    def supervisor_shadow_load(self, address: Word, width: int, /) -> Word:
        """A shadow_stack_load of supervisor type, whatever CPL is (token management)."""

    def supervisor_shadow_store(self, address: Word, width: int, value: Word, /) -> None:
        """A shadow_stack_store of supervisor type, whatever CPL is (token management)."""

    def probe_supervisor_shadow_store(self, address: Word, width: int, /) -> None:
        """Fault as a supervisor_shadow_store would; write nothing."""

    # -- the descriptor tables ---------------------------------------------------------
    def code_segment_l(self, selector: Word, /) -> Flag:
        """CS.L of the descriptor; #GP where ``selector`` names no code segment."""

    def code_segment_dpl(self, selector: Word, /) -> Word:
        """The descriptor's DPL; #GP where ``selector`` names no code segment."""

    # -- faults ------------------------------------------------------------------------
    def fault(self, vector: Vector, error_code: Word = 0, /) -> NoReturn:
        """Abort the instruction with an exception.  What was written stays written."""
