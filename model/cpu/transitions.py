"""Entering the kernel from CPL 3 and returning: what becomes of SSP (SDM Vol. 2A "INT n",
"IRET"; Vol. 2B "SYSCALL", "SYSENTER", "SYSEXIT", "SYSRET").

On entry SSP goes to IA32_PL3_SSP, on return it is loaded from there; nothing is pushed on
a user shadow stack.  The kernel's data stack is not modelled (see ``world.Frame``), kernel
code is 64-bit code, and what MSRs and the IDT say about entry points is an argument.
"""

from __future__ import annotations

from model.cpu.far import return_segment
from model.cpu.mode import (
    address_mask,
    check_rip,
    check_ssp,
    next_rip,
    shadow_stack_enabled,
    supervisor_shadow_stack_enabled,
    user_shadow_stack_enabled,
)
from model.cpu.words import MASK32, TOKEN_BUSY, crosses_32, la_adjust, misaligned
from model.cpu.world import ControlProtection, Cpu, Flag, Frame, Vector, Word

_RPL = 3
_NOT_RPL = 0xFFFC


def syscall(c: Cpu, entry: Word, selector: Word, length: int = 2) -> Word:
    """SYSCALL to ``entry`` (IA32_LSTAR); what RCX gets (SDM Vol. 2B, SYSCALL).

    RSP stays the user's.
    """
    if c.long_mode:
        back = next_rip(c, length)
        fast_entry(c, entry, selector)
        return back
    c.fault(Vector.UD)


def sysenter(c: Cpu, entry: Word, selector: Word, stack: Word) -> None:
    """SYSENTER to ``entry`` (SDM Vol. 2B, SYSENTER).  The user's RIP and RSP are not saved."""
    fast_entry(c, entry, selector)
    c.rsp = stack


def fast_entry(c: Cpu, entry: Word, selector: Word) -> None:
    """SYSCALL and SYSENTER: to CPL 0, with no supervisor shadow stack yet."""
    if shadow_stack_enabled(c):
        c.pl3_ssp = la_adjust(c.ssp)
    if supervisor_shadow_stack_enabled(c):
        c.ssp = 0  # SETSSBSY gives it a stack
    c.rip = entry
    c.cs = selector & _NOT_RPL
    c.cpl = 0
    c.long_mode = True


def sysret(c: Cpu, rcx: Word, r11: Word, selector: Word, width: int = 8) -> None:
    """SYSRET to ``rcx``: 64-bit mode (``width`` 8) or compatibility mode (``width`` 4).

    Unlike IRET it checks SSP for neither mode (SDM Vol. 2B, SYSRET).
    """
    if c.long_mode:
        fast_return(c, rcx, selector, width == 8)
        c.cf = r11 & 1
        return
    c.fault(Vector.UD)


def sysexit(c: Cpu, rdx: Word, rcx: Word, selector: Word, width: int = 8) -> None:
    """SYSEXIT to ``rdx`` with the stack ``rcx``; as SYSRET for SSP (SDM Vol. 2B, SYSEXIT)."""
    if width == 8:
        check_rip(c, rcx, True)  # "If RCX or RDX contains a non-canonical address"
        fast_return(c, rdx, selector, True)
        c.rsp = rcx
        return
    fast_return(c, rdx, selector, False)
    c.rsp = rcx & MASK32


def fast_return(c: Cpu, rip: Word, selector: Word, to_long: Flag) -> None:
    """SYSRET and SYSEXIT: to CPL 3."""
    if c.cpl != 0:
        c.fault(Vector.GP)
    if to_long:
        check_rip(c, rip, True)
        c.rip = rip
    else:
        c.rip = rip & MASK32
        c.rsp = c.rsp & MASK32
    if user_shadow_stack_enabled(c):
        c.ssp = c.pl3_ssp
    c.cs = (selector & _NOT_RPL) | _RPL
    c.cpl = 3
    c.long_mode = to_long


def interrupt(c: Cpu, entry: Word, selector: Word, stack: Word, length: int = 0) -> Frame:
    """An interrupt, exception or INT n at CPL 3, through a gate without IST to CPL 0.

    ``length`` is that of INT n; a fault returns to the instruction itself.  The frame is
    what IRET gets back (SDM Vol. 2A, "INT n", INTER-PRIVILEGE-LEVEL-INTERRUPT).
    """
    frame = Frame(next_rip(c, length), c.cs, c.rsp, c.cf)
    user_ssp = c.ssp
    if supervisor_shadow_stack_enabled(c):
        c.ssp = claim_supervisor_stack(c)
    if user_shadow_stack_enabled(c):
        c.pl3_ssp = la_adjust(user_ssp)
    c.rip = entry
    c.rsp = stack
    c.cs = selector & _NOT_RPL
    c.cpl = 0
    c.long_mode = True
    return frame


def claim_supervisor_stack(c: Cpu) -> Word:
    """Check the token at IA32_PL0_SSP and set its busy bit; the new SSP."""
    ssp = c.pl0_ssp
    if misaligned(ssp, 8):
        c.fault(Vector.GP)
    if crosses_32(ssp):  # "contained in a naturally aligned 32-byte region"
        c.fault(Vector.GP)
    c.probe_supervisor_shadow_store(ssp, 8)  # the compare and exchange is locked
    if c.supervisor_shadow_load(ssp, 8) != ssp:  # "busy bit ... must be clear"
        c.fault(Vector.GP)
    c.supervisor_shadow_store(ssp, 8, ssp | TOKEN_BUSY)
    return ssp


def iret_to_user(c: Cpu, frame: Frame) -> None:
    """IRET from CPL 0 to CPL 3 (SDM Vol. 2A, IRET, RETURN-TO-OUTER-PRIVILEGE-LEVEL)."""
    to_long = return_segment(c, frame.cs)
    check_rip(c, frame.rip, to_long)
    if supervisor_shadow_stack_enabled(c):
        if misaligned(c.ssp, 8):
            c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    ssp = c.ssp
    if user_shadow_stack_enabled(c):
        ssp = c.pl3_ssp
        check_ssp(c, ssp, to_long)
    if supervisor_shadow_stack_enabled(c):
        free_supervisor_stack(c)  # "Now past all faulting points"
    c.ssp = ssp
    c.rip = frame.rip
    c.rsp = frame.rsp & address_mask(to_long)
    c.cs = frame.cs
    c.cf = frame.cf
    c.cpl = 3
    c.long_mode = to_long


def free_supervisor_stack(c: Cpu) -> None:
    """Clear the busy bit of the token at SSP; no token there is not an error."""
    c.probe_supervisor_shadow_store(c.ssp, 8)  # the compare and exchange is locked
    if c.supervisor_shadow_load(c.ssp, 8) == (c.ssp | TOKEN_BUSY):
        c.supervisor_shadow_store(c.ssp, 8, c.ssp)
