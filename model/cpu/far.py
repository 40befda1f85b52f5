"""Far JMP, CALL and RET, and IRET, to the same privilege level (SDM Vol. 2A "CALL", "IRET",
"JMP"; Vol. 2B "RET").

A far CALL pushes CS, LIP and the old SSP on the shadow stack, 8 bytes each in every mode,
below the next multiple of 8.  Segments are flat (CSBASE = 0), so LIP is RIP.  Gates, task
switches and returns to an outer level are not here; ``transitions`` has what user mode
meets.  ``width`` is the operand size in bytes, 4 or 8.
"""

from __future__ import annotations

from model.cpu.mode import address_mask, check_rip, check_ssp, next_rip, shadow_stack_enabled
from model.cpu.words import TOKEN_BUSY, align8, high32, misaligned
from model.cpu.world import ControlProtection, Cpu, Flag, Vector, Word

_SELECTOR = 0xFFFF
_RPL = 3
_NOT_RPL = 0xFFFC


def jmp_far(c: Cpu, selector: Word, offset: Word) -> None:
    """JMP far m16:64 or m16:32 to a code segment of this privilege level (SDM Vol. 2A, JMP).

    It leaves the shadow stack alone, and yet asks whether the target can live with SSP.
    """
    to_long = target_segment(c, selector)
    target = offset & address_mask(to_long)  # "target mode = Compatibility mode"
    check_rip(c, target, to_long)
    if shadow_stack_enabled(c):
        check_low_ssp(c, to_long)
    c.rsp = c.rsp & address_mask(to_long)
    c.rip = target
    c.cs = (selector & _NOT_RPL) | c.cpl  # "CS(RPL) := CPL"
    c.long_mode = to_long


def call_far(c: Cpu, selector: Word, offset: Word, width: int = 8, length: int = 3) -> None:
    """CALL far m16:64 or m16:32 to a code segment of this privilege level.

    The #GP for an SSP above 4 GiB comes after the pushes on the data stack, as in the
    manual; those are only probed until then.  The data stack is the target mode's: the manual
    does not say so, and CPUs do it.
    """
    to_long = target_segment(c, selector)
    target = offset & address_mask(to_long)  # "target mode = Compatibility mode"
    check_rip(c, target, to_long)
    back = next_rip(c, length)
    old_cs = c.cs
    mask = address_mask(to_long)
    at_cs = (c.rsp - width) & mask
    at_rip = (at_cs - width) & mask
    c.probe_store(at_cs, width)
    c.probe_store(at_rip, width)
    if shadow_stack_enabled(c):
        check_low_ssp(c, to_long)
        push_far(c, old_cs, back, mask)
    c.store(at_cs, width, old_cs)  # "Padded with 48 high-order bits"
    c.store(at_rip, width, back)
    c.rsp = at_rip
    c.rip = target
    c.cs = (selector & _NOT_RPL) | c.cpl  # "CS(RPL) := CPL"
    c.long_mode = to_long


def target_segment(c: Cpu, selector: Word) -> Flag:
    """Check the segment jumped to; its L bit."""
    to_long = c.code_segment_l(selector)
    if c.cpl < (selector & _RPL):  # "(RPL > CPL) or (DPL ≠ CPL)"
        c.fault(Vector.GP, selector & _NOT_RPL)
    if c.code_segment_dpl(selector) != c.cpl:
        c.fault(Vector.GP, selector & _NOT_RPL)
    return to_long


def check_low_ssp(c: Cpu, to_long: Flag) -> None:
    """#GP(0) for an SSP that is not "in low 4GB" where the target is compatibility mode."""
    if to_long:
        return
    if high32(c.ssp) != 0:
        c.fault(Vector.GP)


def push_far(c: Cpu, old_cs: Word, back: Word, mask: Word) -> None:
    """Push CS, LIP and SSP, over 4 bytes of 0 if SSP is not "already aligned"."""
    ssp = c.ssp
    hole = (ssp - 4) & mask
    at_cs = (align8(ssp) - 8) & mask
    at_lip = (at_cs - 8) & mask
    at_ssp = (at_lip - 8) & mask
    c.probe_shadow_store(hole, 4)
    c.probe_shadow_store(at_cs, 8)
    c.probe_shadow_store(at_lip, 8)
    c.probe_shadow_store(at_ssp, 8)
    c.shadow_store(hole, 4, 0)  # overwritten by CS if SSP is aligned to 8
    c.shadow_store(at_cs, 8, old_cs)
    c.shadow_store(at_lip, 8, back)
    c.shadow_store(at_ssp, 8, ssp)
    c.ssp = at_ssp


def ret_far(c: Cpu, imm16: Word = 0, width: int = 8) -> None:
    """RET far to the same privilege level, releasing ``imm16`` bytes of parameters.

    The manual checks the return address before the shadow stack: #GP(0) for one that is
    not canonical, even where the shadow stack would give #CP.
    """
    mask = address_mask(c.long_mode)
    rip = c.load(c.rsp, width)
    selector = c.load((c.rsp + width) & mask, width) & _SELECTOR
    rsp = (c.rsp + width + width + imm16) & mask
    to_long = return_segment(c, selector)
    check_rip(c, rip, to_long)
    ssp = c.ssp
    if shadow_stack_enabled(c):
        ssp = far_ssp(c, selector, rip, to_long)
    c.ssp = ssp
    c.rsp = rsp & address_mask(to_long)
    c.rip = rip
    c.cs = selector
    c.long_mode = to_long


def return_segment(c: Cpu, selector: Word) -> Flag:
    """Check the segment returned to; its L bit."""
    to_long = c.code_segment_l(selector)
    if (selector & _RPL) < c.cpl:  # "return code segment selector RPL < CPL"
        c.fault(Vector.GP, selector & _NOT_RPL)
    if c.code_segment_dpl(selector) != (selector & _RPL):
        c.fault(Vector.GP, selector & _NOT_RPL)
    return to_long


def far_ssp(c: Cpu, selector: Word, rip: Word, to_long: Flag) -> Word:
    """Compare the far frame on the shadow stack; the SSP in it."""
    if misaligned(c.ssp, 8):
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    mask = address_mask(c.long_mode)
    shadow_cs = c.shadow_load((c.ssp + 16) & mask, 8)
    shadow_lip = c.shadow_load((c.ssp + 8) & mask, 8)
    ssp = c.shadow_load(c.ssp & mask, 8)
    if shadow_cs != selector:  # "64 bit compare"
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    if shadow_lip != rip:  # "64 bit compare"
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    if misaligned(ssp, 4):
        c.fault(Vector.CP, ControlProtection.FAR_RET_IRET)
    check_ssp(c, ssp, to_long)
    return ssp


def iret(c: Cpu, width: int = 8) -> None:
    """IRETQ or IRETD to the same privilege level (SDM Vol. 2A, IRET).

    Begun in 64-bit mode it pops RSP and SS too; of RFLAGS only CF is modelled, and NT is 0.
    """
    mask = address_mask(c.long_mode)
    at_cs = (c.rsp + width) & mask
    at_flags = (at_cs + width) & mask
    rsp = (at_flags + width) & mask
    rip = c.load(c.rsp, width)
    selector = c.load(at_cs, width) & _SELECTOR
    flags = c.load(at_flags, width)
    if c.long_mode:  # "instruction began in 64-Bit Mode"
        at_ss = (rsp + width) & mask
        rsp = c.load(rsp, width)
        c.load(at_ss, width)
    to_long = return_segment(c, selector)
    check_rip(c, rip, to_long)
    if shadow_stack_enabled(c):
        ssp = far_ssp(c, selector, rip, to_long)
        free_token(c, (c.ssp + 24) & mask, ssp)
        c.ssp = ssp
    c.rsp = rsp & address_mask(to_long)
    c.rip = rip
    c.cs = selector
    c.cf = flags & 1
    c.long_mode = to_long


def free_token(c: Cpu, popped: Word, ssp: Word) -> None:
    """Clear the busy bit of a token above the frame, if the stack is another one.

    "If the tempSSP was not to same stack then there was a stack switch".  The manual asks
    for it at every CPL; an alignment hole above the far frame also looks like a switch.
    """
    if popped == ssp:
        return
    c.probe_shadow_store(popped, 8)  # the compare and exchange is locked
    if c.shadow_load(popped, 8) == (popped | TOKEN_BUSY):
        c.shadow_store(popped, 8, popped)
