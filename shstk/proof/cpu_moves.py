"""What statements speak of: instructions, and what they make up together with kernel text.

A move runs on a bench, which has a CPU, the kernel's view of the same memory, and operands; it
may be one of terms or one of numbers.  A move gives an errno, or ends by an exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from model.cpu import INSTRUCTIONS
from model.cpu.branch import ret
from model.cpu.concrete import KERNEL_CS, USER32_CS, USER_CS
from model.cpu.shadow import rstorssp, saveprevssp
from model.cpu.transitions import interrupt, iret_to_user
from model.cpu.world import SH_STK_EN, Frame
from model.designs.user_memory import UserMemoryDesign
from model.kernel.errno import EFAULT
from model.kernel.mmap import TASK_SIZE_MAX

ENTRY = 0xFFFF_8880_0000_0000  # where the kernel is entered


class Bench(Protocol):
    """What a move runs on."""

    design: UserMemoryDesign
    cpu: Any
    user: Any

    def operand(self, name: str) -> Any:
        """The operand of that name."""

    def require(self, condition: Any) -> None:
        """The move is only about runs where this is true …"""

    def outside(self) -> NoReturn:
        """… and not about those that come here."""

    def handler(self, ssp: Any) -> None:
        """User code runs, and leaves anything but what is on the shadow stack since the move began.

        It ends with that SSP.
        """


Move = Callable[[Bench], int]


def single(instruction: Callable[..., Any], width: int = 8) -> Move:
    """One instruction, with arbitrary operands; ``width`` only where the instruction has it."""
    parameters = [p for p in list(inspect.signature(instruction).parameters)[1:] if p != "length"]

    def move(b: Bench) -> int:
        operands = {p: width if p == "width" else _operand(b, p) for p in parameters}
        instruction(b.cpu, **operands)
        return 0

    return move


def _operand(b: Bench, name: str) -> Any:
    if name == "frame":
        return Frame(*(b.operand(f"frame.{part}") for part in ("rip", "cs", "rsp", "cf")))
    return b.operand(name)


def pivot(b: Bench) -> int:
    """RSTORSSP, and SAVEPREVSSP right after it."""
    rstorssp(b.cpu, b.operand("operand"))
    saveprevssp(b.cpu)
    return 0


def rstorssp_twice(b: Bench) -> int:
    """RSTORSSP, and again with the same operand."""
    rstorssp(b.cpu, b.operand("operand"))
    rstorssp(b.cpu, b.operand("operand"))
    return 0


# -- signals -------------------------------------------------------------------------


def _enter(b: Bench, length: int) -> Frame:
    """From user mode with shadow stacks on to the kernel, which has none of its own."""
    c = b.cpu
    b.require((c.cpl == 3) & ((c.s_cet & SH_STK_EN) == 0))
    b.require((c.cr4_cet == 1) & ((c.u_cet & SH_STK_EN) != 0))
    return interrupt(c, ENTRY, KERNEL_CS, 0, length)


def deliver(b: Bench, setup: str = "x64_setup_rt_frame") -> int:
    """A signal is delivered: the frame on the data stack is one word, anywhere."""

    def put_frame() -> int:
        words = (b.operand("data_word"),)
        return EFAULT if b.user.copy_to_user(b.operand("data_frame"), words) else 0

    handler = b.operand("handler")
    b.require(handler < TASK_SIZE_MAX)
    frame = _enter(b, 0)
    error: int = getattr(b.design, setup)(b.user, b.operand("restorer"), put_frame)
    if error:
        return error
    to = replace(frame, rip=handler, rsp=b.operand("data_frame"), cs=USER_CS)
    iret_to_user(b.cpu, to)
    return 0


def sigreturn(b: Bench) -> int:
    """rt_sigreturn(2) to wherever the frame on the data stack says, in either mode."""
    cs = b.operand("cs_after")
    b.require((cs == USER_CS) | (cs == USER32_CS))
    return _sigreturn(b, cs)


def _sigreturn(b: Bench, cs: Any) -> int:
    rip = b.operand("rip_after")
    b.require(rip < TASK_SIZE_MAX)
    frame = _enter(b, 2)
    error = b.design.restore_signal_shadow_stack(b.user)
    if error:
        return error
    iret_to_user(b.cpu, replace(frame, rip=rip, cs=cs, rsp=b.operand("rsp_after")))
    return 0


def round_trip(b: Bench) -> int:
    """Delivery that succeeds, the handler, RET to the restorer, and a 64-bit sigreturn."""
    if deliver(b) != 0:
        b.outside()
    b.handler(b.cpu.ssp)
    b.require((b.cpu.cpl == 3) & b.cpu.long_mode)
    if b.user.in_ia32_syscall():
        b.outside()
    ret(b.cpu)
    return _sigreturn(b, USER_CS)


PAIRS: Mapping[str, Move] = {"pivot": pivot, "rstorssp-twice": rstorssp_twice}

MOVES: Mapping[str, Move] = {
    **{f.__name__: single(f) for f in INSTRUCTIONS},
    **{
        f"{f.__name__}/4": single(f, 4)
        for f in INSTRUCTIONS
        if "width" in inspect.signature(f).parameters
    },
    **PAIRS,
    "deliver": deliver,
    "deliver-x32": lambda b: deliver(b, "x32_setup_rt_frame"),
    "sigreturn": sigreturn,
    "round-trip": round_trip,
}
