"""The program image of a task: text, data stack, and the code addresses scenarios use.

The layout is that of a static executable without randomisation.
"""

from __future__ import annotations

from model.cpu.concrete import Registers
from model.reference.vma import AddressSpace
from model.state import NULL, Kind

TEXT, TEXT_SIZE = 0x400000, 1 << 20
STACK_TOP = 0x7FFF_FFFF_F000
STACK_SIZE = 132 << 10  # what the kernel maps at first; it grows down to the rlimit
ARENA, ARENA_SIZE = 0x1000_0000, 1 << 28  # memory of the program's own: threads' data stacks
SLOT = 1 << 20  # each thread's part of the arena

ENTRY = TEXT + 0x1000
FUNCTIONS = TEXT + 0x10000  # CALL goes to a function of its own each time
HANDLERS = TEXT + 0x2000  # signal handlers, 16 bytes each
RESTORER = TEXT + 0x3000  # calls rt_sigreturn


def load(space: AddressSpace) -> None:
    """Map a program image into an empty address space."""
    for start, size, write, label in (
        (TEXT, TEXT_SIZE, False, "text"),
        (ARENA, ARENA_SIZE, True, "arena"),
        (STACK_TOP - STACK_SIZE, STACK_SIZE, True, "stack"),
    ):
        area = space.map(start, size, read=True, write=write, label=label)
        area.image, area.kind, area.owner = True, Kind.ORDINARY, NULL


def start(regs: Registers) -> None:
    """start_thread(): the registers of a new image."""
    regs.rip = ENTRY
    regs.rsp = STACK_TOP - 0x1000


def data_stack(tid: int) -> int:
    """The top of a thread's own data stack in the arena."""
    return ARENA + (tid % (ARENA_SIZE // SLOT - 1) + 1) * SLOT
