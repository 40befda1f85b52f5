"""Near CALL and RET, and ENDBR (SDM Vol. 2A "CALL", "ENDBR64"; Vol. 2B "RET").

The near branches have the operand size of the mode: 64 bits in 64-bit mode, else 32.
16-bit operands are not modelled.  Indirect branch tracking is not either: Linux never
sets ENDBR_EN for user mode, so ENDBR is a NOP and no CALL waits for one.
"""

from __future__ import annotations

from model.cpu.mode import next_rip, shadow_stack_enabled
from model.cpu.words import MASK32, MASK64, noncanonical
from model.cpu.world import ControlProtection, Cpu, Flag, Vector, Word


def call_rel(c: Cpu, displacement: Word, length: int = 5) -> None:
    """CALL rel32: near, relative, ``displacement`` sign-extended (SDM Vol. 2A, CALL).

    A displacement of 0 pushes nothing on the shadow stack: it is how position-independent
    code gets its own address, and nothing returns from it.
    """
    tracked = shadow_stack_enabled(c) & (displacement != 0)  # "AND DEST != 0"
    if c.long_mode:
        back = (c.rip + length) & MASK64
        call64(c, (back + displacement) & MASK64, back, tracked)
        return
    back = (c.rip + length) & MASK32
    call32(c, (back + displacement) & MASK32, back, tracked)


def call_abs(c: Cpu, target: Word, length: int = 2) -> None:
    """CALL r/m64 or r/m32: near, absolute, indirect (SDM Vol. 2A, CALL)."""
    tracked = shadow_stack_enabled(c)
    if c.long_mode:
        call64(c, target, (c.rip + length) & MASK64, tracked)
        return
    call32(c, target & MASK32, (c.rip + length) & MASK32, tracked)


def call64(c: Cpu, target: Word, back: Word, tracked: Flag) -> None:
    """OperandSize = 64.

    The target is checked first, as the manual does in its 32-bit and far forms; the
    64-bit form only lists the #GP.
    """
    if noncanonical(target):
        c.fault(Vector.GP)
    rsp = (c.rsp - 8) & MASK64
    if tracked:
        ssp = (c.ssp - 8) & MASK64
        c.probe_store(rsp, 8)
        c.shadow_store(ssp, 8, back)  # "ShadowStackPush8B(RIP)"
        c.ssp = ssp
    c.store(rsp, 8, back)  # "Push(RIP)"
    c.rsp = rsp
    c.rip = target


def call32(c: Cpu, target: Word, back: Word, tracked: Flag) -> None:
    """OperandSize = 32.  Every target is within the limit of a flat segment."""
    rsp = (c.rsp - 4) & MASK32
    if tracked:
        ssp = (c.ssp - 4) & MASK32
        c.probe_store(rsp, 4)
        c.shadow_store(ssp, 4, back)  # "ShadowStackPush4B(EIP)"
        c.ssp = ssp
    c.store(rsp, 4, back)  # "Push(EIP)"
    c.rsp = rsp
    c.rip = target


def ret(c: Cpu, imm16: Word = 0) -> None:
    """RET near, releasing ``imm16`` bytes of parameters (SDM Vol. 2B, RET)."""
    if c.long_mode:
        ret64(c, imm16)
        return
    ret32(c, imm16)


def ret64(c: Cpu, imm16: Word) -> None:
    """OperandSize = 64.

    The manual compares the stacks where it pops them and lists the #GP for a return
    address that is not canonical apart: a mismatch is #CP, whatever the address.
    """
    ssp = c.ssp
    back = c.load(c.rsp, 8)  # "RIP := Pop()"
    if shadow_stack_enabled(c):
        if c.shadow_load(ssp, 8) != back:  # "ShadowStackPop8B()"
            c.fault(Vector.CP, ControlProtection.NEAR_RET)
        ssp = (ssp + 8) & MASK64
    if noncanonical(back):
        c.fault(Vector.GP)
    c.ssp = ssp
    c.rsp = (c.rsp + 8 + imm16) & MASK64
    c.rip = back


def ret32(c: Cpu, imm16: Word) -> None:
    """OperandSize = 32."""
    ssp = c.ssp
    back = c.load(c.rsp, 4)  # "EIP := Pop()"
    if shadow_stack_enabled(c):
        if c.shadow_load(ssp & MASK32, 4) != back:  # "ShadowStackPop4B()"
            c.fault(Vector.CP, ControlProtection.NEAR_RET)
        ssp = (ssp + 4) & MASK32
    c.ssp = ssp
    c.rsp = (c.rsp + 4 + imm16) & MASK32
    c.rip = back


def endbr64(c: Cpu, length: int = 4) -> None:
    """ENDBR64: a NOP (SDM Vol. 2A, ENDBR64)."""
    c.rip = next_rip(c, length)


def endbr32(c: Cpu, length: int = 4) -> None:
    """ENDBR32: a NOP (SDM Vol. 2A, ENDBR32)."""
    c.rip = next_rip(c, length)
