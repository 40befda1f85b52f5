"""What entering the kernel and returning do to SSP, by example."""

from __future__ import annotations

import pytest
from cpu_machine import (
    HERE,
    PAGE,
    SHSTK_A,
    SS,
    TOP,
    TOP32_A,
    TOP_A,
    Kind,
    Machine,
    P,
    U,
    W,
    faults,
    machine32,
    machine64,
)

from model.cpu import (
    ControlProtection,
    Frame,
    Vector,
    call_rel,
    incsspd,
    interrupt,
    iret_to_user,
    ret,
    ret_far,
    saveprevssp,
    syscall,
    sysenter,
    sysexit,
    sysret,
)

KERNEL_CS, USER_CS, USER32_CS = 0x10, 0x33, 0x23
ENTRY = 0xFFFF_FFFF_8100_0000
STACK0 = 0xFFFF_8880_0000_4000
KERNEL_SHSTK = 0xFFFF_8880_0001_0000
TOKEN0 = KERNEL_SHSTK + 0xFF8
NONCANONICAL = 1 << 47
SSP = TOP_A - 256


def supervisor(**registers: int) -> Machine:
    """A machine whose kernel has a shadow stack too, with a free token at its top."""
    c = machine64(s_cet=1, pl0_ssp=TOKEN0, **registers)
    c.memory.map(KERNEL_SHSTK, Kind.KERNEL_SHADOW)
    c.memory.poke(TOKEN0, TOKEN0)
    return c


def test_syscall_saves_ssp_in_pl3_ssp() -> None:
    """RCX gets the return address; the user's RSP and, in Linux, SSP stay where they are."""
    c = machine64()
    assert syscall(c, ENTRY, KERNEL_CS) == HERE + 2
    assert (c.rip, c.cs, c.cpl, c.rsp) == (ENTRY, KERNEL_CS, 0, TOP - 256)
    assert (c.pl3_ssp, c.ssp) == (SSP, SSP)


def test_sysret_loads_ssp_from_pl3_ssp() -> None:
    """What the kernel has written there meanwhile."""
    c = machine64(cf=1)
    rcx = syscall(c, ENTRY, KERNEL_CS)
    c.pl3_ssp = TOP_A
    sysret(c, rcx, 0, USER_CS)
    assert (c.rip, c.cs, c.cpl, c.cf, c.ssp) == (HERE + 2, USER_CS, 3, 0, TOP_A)


def test_a_system_call_that_changes_nothing_returns_to_the_same_state() -> None:
    """SYSCALL and SYSRET: only RIP and IA32_PL3_SSP differ."""
    c = machine64(cf=1)
    before = c.copy()
    rcx = syscall(c, ENTRY, KERNEL_CS)
    sysret(c, rcx, 1, USER_CS)
    before.rip, before.pl3_ssp = HERE + 2, SSP
    assert c.copy() == before


def test_syscall_without_user_shadow_stacks() -> None:
    """PL3_SSP and SSP keep their values."""
    c = machine64(u_cet=0, pl3_ssp=64)
    syscall(c, ENTRY, KERNEL_CS)
    assert (c.pl3_ssp, c.ssp) == (64, SSP)
    sysret(c, HERE, 0, USER_CS)
    assert c.ssp == SSP


def test_syscall_clears_ssp_for_a_kernel_with_shadow_stacks() -> None:
    """Until SETSSBSY there is none."""
    c = supervisor()
    syscall(c, ENTRY, KERNEL_CS)
    assert (c.pl3_ssp, c.ssp) == (SSP, 0)


def test_an_ssp_that_is_not_canonical_is_made_so() -> None:
    """LA_adjust, on every entry: INCSSP can leave an SSP of 2**47."""
    c = machine64(ssp=NONCANONICAL)
    syscall(c, ENTRY, KERNEL_CS)
    assert c.pl3_ssp == 0xFFFF_8000_0000_0000
    c = machine64(ssp=NONCANONICAL)
    interrupt(c, ENTRY, KERNEL_CS, STACK0)
    assert c.pl3_ssp == 0xFFFF_8000_0000_0000


def test_syscall_and_sysret_are_for_64_bit_code() -> None:
    """#UD in compatibility mode."""
    c = machine32()
    with faults(c, Vector.UD):
        syscall(c, ENTRY, KERNEL_CS)
    c.cpl = 0
    with faults(c, Vector.UD):
        sysret(c, HERE, 0, USER_CS)


def test_returns_are_privileged() -> None:
    """SYSRET and SYSEXIT at CPL 3: #GP(0)."""
    c = machine64()
    with faults(c, Vector.GP):
        sysret(c, HERE, 0, USER_CS)
    with faults(c, Vector.GP):
        sysexit(c, HERE, TOP, USER_CS)


def test_returns_to_an_address_that_is_not_canonical() -> None:
    """#GP(0), still at CPL 0."""
    c = machine64(cpl=0, cs=KERNEL_CS)
    with faults(c, Vector.GP):
        sysret(c, NONCANONICAL, 0, USER_CS)
    with faults(c, Vector.GP):
        sysexit(c, NONCANONICAL, TOP, USER_CS)
    with faults(c, Vector.GP):
        sysexit(c, HERE, NONCANONICAL, USER_CS)
    with faults(c, Vector.GP):
        iret_to_user(c, Frame(NONCANONICAL, USER_CS, TOP, 0))


def test_sysenter_and_sysexit() -> None:
    """32-bit code gets its SSP back from IA32_PL3_SSP."""
    c = machine32()
    sysenter(c, ENTRY, KERNEL_CS, STACK0)
    assert (c.rip, c.cpl, c.long_mode, c.rsp) == (ENTRY, 0, True, STACK0)
    assert c.pl3_ssp == TOP32_A - 256
    c.ssp = 0
    sysexit(c, HERE, 0x3000_0000, USER32_CS, width=4)
    assert (c.rip, c.rsp, c.cs, c.cpl) == (HERE, 0x3000_0000, USER32_CS, 3)
    assert (c.long_mode, c.ssp) == (False, TOP32_A - 256)
    sysenter(c, ENTRY, KERNEL_CS, STACK0)
    sysexit(c, HERE, TOP, USER_CS)
    assert (c.long_mode, c.rsp) == (True, TOP)


def test_sysret_does_not_check_ssp() -> None:
    """The manual has no #GP for an SSP above 4 GiB there, unlike IRET."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=SSP)
    sysret(c, HERE, 0, USER32_CS, width=4)
    assert (c.long_mode, c.cs, c.ssp) == (False, USER32_CS, SSP)


def test_32_bit_code_has_the_lower_half_of_rsp() -> None:
    """Of whatever the kernel leaves there."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=TOP32_A, rsp=STACK0)
    sysret(c, HERE, 0, USER32_CS, width=4)
    assert c.rsp == 0x4000
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=TOP32_A)
    iret_to_user(c, Frame(HERE, USER32_CS, STACK0, 0))
    assert c.rsp == 0x4000


def test_32_bit_code_with_an_ssp_above_4_gib_has_no_shadow_stack() -> None:
    """Its accesses are 32-bit linear addresses, modulo 4 GiB: a page fault on either side."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=SSP, rsp=0x3000_0100)
    sysret(c, HERE, 0, USER32_CS, width=4)
    c.memory.map(0x3000_0000, Kind.RW)
    low = SSP & 0xFFFF_FFFF
    with faults(c, Vector.PF, U | SS | W, low - 4):
        call_rel(c, 0x100)
    with faults(c, Vector.PF, U | SS, low):
        ret(c)
    with faults(c, Vector.PF, U | SS, low):
        incsspd(c, 0)
    with faults(c, Vector.PF, U | SS, low):
        saveprevssp(c)


def test_a_far_ret_of_32_bit_code_with_an_ssp_above_4_gib() -> None:
    """It reads CS, LIP and SSP modulo 4 GiB."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=0x7F00_3000_0FF8, rsp=0x2000_0000)
    c.memory.map(c.rsp, Kind.RW)
    c.memory.poke(c.rsp, HERE | USER32_CS << 32)
    sysret(c, HERE, 0, USER32_CS, width=4)
    with faults(c, Vector.PF, U | SS, 0x3000_1008):
        ret_far(c, width=4)
    c.memory.map(0x3000_1000, Kind.SHADOW)
    with faults(c, Vector.PF, U | SS, 0x3000_0FF8):
        ret_far(c, width=4)


def test_an_interrupt_saves_ssp_in_pl3_ssp_and_iret_restores_it() -> None:
    """Nothing is pushed on the user's shadow stack."""
    c = machine64(cf=1)
    before, memory = c.copy(), c.memory.snapshot()
    frame = interrupt(c, ENTRY, KERNEL_CS, STACK0)
    c.cf = 0
    assert frame == Frame(HERE, USER_CS, TOP - 256, 1)
    assert (c.rip, c.rsp, c.cs, c.cpl, c.pl3_ssp) == (ENTRY, STACK0, KERNEL_CS, 0, SSP)
    iret_to_user(c, frame)
    before.pl3_ssp = SSP
    assert (c.copy(), c.memory.snapshot()) == (before, memory)


def test_int_n_returns_behind_itself() -> None:
    """INT 0x80 has 2 bytes."""
    c = machine32()
    frame = interrupt(c, ENTRY, KERNEL_CS, STACK0, length=2)
    assert (frame.rip, frame.cs, c.long_mode) == (HERE + 2, USER32_CS, True)
    iret_to_user(c, frame)
    assert (c.rip, c.long_mode, c.ssp) == (HERE + 2, False, TOP32_A - 256)


def test_iret_to_32_bit_code_with_an_ssp_above_4_gib() -> None:
    """#GP(0): the kernel cannot return there."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=SSP)
    with faults(c, Vector.GP):
        iret_to_user(c, Frame(HERE, USER32_CS, 0x3000_0000, 0))
    c.u_cet = 0
    iret_to_user(c, Frame(HERE, USER32_CS, 0x3000_0000, 0))
    assert c.ssp == SSP


def test_iret_with_an_ssp_that_is_not_canonical() -> None:
    """#GP(0)."""
    c = machine64(cpl=0, cs=KERNEL_CS, pl3_ssp=NONCANONICAL)
    with faults(c, Vector.GP):
        iret_to_user(c, Frame(HERE, USER_CS, TOP, 0))


@pytest.mark.parametrize("selector", [0, 0x2B, KERNEL_CS | 3])
def test_iret_to_a_segment_that_is_no_user_code(selector: int) -> None:
    """#GP(selector)."""
    c = machine64(cpl=0, cs=KERNEL_CS)
    with faults(c, Vector.GP, selector & 0xFFFC):
        iret_to_user(c, Frame(HERE, selector, TOP, 0))


# -- a kernel with shadow stacks of its own --------------------------------------------------


def test_an_interrupt_takes_the_supervisor_stack_and_iret_gives_it_back() -> None:
    """The token at IA32_PL0_SSP is busy in between."""
    c = supervisor()
    frame = interrupt(c, ENTRY, KERNEL_CS, STACK0)
    assert (c.ssp, c.memory.peek(TOKEN0), c.pl3_ssp) == (TOKEN0, TOKEN0 | 1, SSP)
    iret_to_user(c, frame)
    assert (c.ssp, c.memory.peek(TOKEN0)) == (SSP, TOKEN0)


def test_iret_from_a_stack_without_a_token() -> None:
    """What lies there stays; no error."""
    c = supervisor(cpl=0, cs=KERNEL_CS, ssp=TOKEN0, pl3_ssp=SSP)
    iret_to_user(c, Frame(HERE, USER_CS, TOP, 0))
    assert (c.ssp, c.memory.peek(TOKEN0)) == (SSP, TOKEN0)


def test_iret_from_what_is_no_supervisor_stack() -> None:
    """The compare and exchange of the token page-faults, as a write."""
    c = supervisor(cpl=0, cs=KERNEL_CS, ssp=SSP, pl3_ssp=SSP)
    with faults(c, Vector.PF, P | W | SS, SSP):
        iret_to_user(c, Frame(HERE, USER_CS, TOP, 0))


def test_iret_from_a_misaligned_supervisor_stack() -> None:
    """#CP(FAR-RET/IRET)."""
    c = supervisor(cpl=0, cs=KERNEL_CS, ssp=TOKEN0 + 4, pl3_ssp=SSP)
    with faults(c, Vector.CP, ControlProtection.FAR_RET_IRET):
        iret_to_user(c, Frame(HERE, USER_CS, TOP, 0))


@pytest.mark.parametrize("pl0_ssp", [TOKEN0 + 4, TOKEN0 - 8, TOKEN0 - 32])
def test_an_interrupt_with_a_bad_supervisor_stack(pl0_ssp: int) -> None:
    """Misaligned, not at the end of a 32-byte line, or without a token: #GP(0)."""
    c = supervisor()
    c.pl0_ssp = pl0_ssp
    if pl0_ssp != TOKEN0 - 32:
        c.memory.map(KERNEL_SHSTK + PAGE, Kind.KERNEL_SHADOW)
        c.memory.poke(pl0_ssp, pl0_ssp)
    with faults(c, Vector.GP):
        interrupt(c, ENTRY, KERNEL_CS, STACK0)


def test_an_interrupt_with_a_busy_supervisor_stack() -> None:
    """#GP(0)."""
    c = supervisor()
    c.memory.poke(TOKEN0, TOKEN0 | 1)
    with faults(c, Vector.GP):
        interrupt(c, ENTRY, KERNEL_CS, STACK0)


def test_a_users_shadow_stack_is_no_supervisor_stack() -> None:
    """A page fault of supervisor type."""
    c = supervisor()
    c.pl0_ssp = SHSTK_A + 0x18
    c.memory.poke(c.pl0_ssp, c.pl0_ssp)
    with faults(c, Vector.PF, P | W | SS, SHSTK_A + 0x18):
        interrupt(c, ENTRY, KERNEL_CS, STACK0)
