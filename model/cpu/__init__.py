"""The CPU: what shadow-stack instructions do, as text that several worlds execute.

One short function per instruction, ``instruction(c, operands, length)``, where ``c`` is
the world (``world.Cpu``); it advances RIP by ``length`` or branches, and an instruction
that faults leaves registers and memory as they were.  An instruction with a result
returns it.  Every file but ``concrete`` is text; ``concrete`` executes it on Python ints.

Phrases in quotation marks are the manual's (Intel SDM), the rest is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model.cpu.branch import call_abs, call_rel, endbr32, endbr64, ret
from model.cpu.far import call_far, iret, jmp_far, ret_far
from model.cpu.msr import rdmsr, wrmsr
from model.cpu.shadow import (
    incsspd,
    incsspq,
    rdsspd,
    rdsspq,
    rstorssp,
    saveprevssp,
    wrssd,
    wrssq,
)
from model.cpu.supervisor import clrssbsy, setssbsy, wrussd, wrussq
from model.cpu.transitions import interrupt, iret_to_user, syscall, sysenter, sysexit, sysret
from model.cpu.world import (
    ENDBR_EN,
    SH_STK_EN,
    WR_SHSTK_EN,
    ControlProtection,
    Cpu,
    Flag,
    Frame,
    PageFaultCode,
    Vector,
    Word,
)

#: Every instruction and transition, by family.
INSTRUCTIONS: tuple[Callable[..., Any], ...] = (
    *(call_rel, call_abs, ret, endbr32, endbr64),
    *(jmp_far, call_far, ret_far, iret),
    *(rdsspd, rdsspq, incsspd, incsspq, rstorssp, saveprevssp, wrssd, wrssq),
    *(wrussd, wrussq, setssbsy, clrssbsy),
    *(syscall, sysenter, sysret, sysexit, interrupt, iret_to_user),
    *(rdmsr, wrmsr),
)

__all__ = [
    "ENDBR_EN",
    "INSTRUCTIONS",
    "SH_STK_EN",
    "WR_SHSTK_EN",
    "ControlProtection",
    "Cpu",
    "Flag",
    "Frame",
    "PageFaultCode",
    "Vector",
    "Word",
    "call_abs",
    "call_far",
    "call_rel",
    "clrssbsy",
    "endbr32",
    "endbr64",
    "incsspd",
    "incsspq",
    "interrupt",
    "iret",
    "iret_to_user",
    "jmp_far",
    "rdmsr",
    "rdsspd",
    "rdsspq",
    "ret",
    "ret_far",
    "rstorssp",
    "saveprevssp",
    "setssbsy",
    "syscall",
    "sysenter",
    "sysexit",
    "sysret",
    "wrmsr",
    "wrssd",
    "wrssq",
    "wrussd",
    "wrussq",
]
