"""Far JMP, CALL and RET, and IRET to the same privilege level, by example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cpu_machine import (
    HERE,
    PAGE,
    SHSTK32_A,
    SHSTK_A,
    SS,
    STACK,
    STACK32,
    THERE,
    TOP,
    TOP32_A,
    TOP_A,
    Kind,
    Machine,
    U,
    W,
    faults,
    machine32,
    machine64,
)

from model.cpu import ControlProtection, Vector, call_far, iret, jmp_far, ret_far

USER, USER32, KERNEL = 0x33, 0x23, 0x10
NONCANONICAL = 1 << 47
SSP = TOP_A - 256


def called(**registers: int) -> Machine:
    """In a function that was called far."""
    c = machine64(**registers)
    call_far(c, USER, THERE)
    return c


def interrupted() -> Machine:
    """On the frame that IRETQ pops, and a far frame on the shadow stack."""
    c = called()
    c.rsp -= 24
    for n, word in enumerate((HERE + 3, USER, 1, TOP - 64, 0x2B)):
        c.memory.poke(c.rsp + 8 * n, word)
    return c


def test_a_far_jump_leaves_the_shadow_stack_alone() -> None:
    """Only RIP, CS and the mode change."""
    c = machine64(ssp=TOP32_A, rsp=STACK32)
    before = c.copy()
    jmp_far(c, USER32, 0x1_0000_0000 + THERE)
    assert (c.rip, c.cs, c.long_mode) == (THERE, USER32, False)
    jmp_far(c, USER, HERE)
    assert (c.copy(), c.memory.log) == (before, [])


def test_a_far_jump_to_32_bit_code_with_an_ssp_above_4_gib() -> None:
    """#GP(0), if shadow stacks are on: the test_32bit of Linux's selftests."""
    c = machine64()
    with faults(c, Vector.GP):
        jmp_far(c, USER32, THERE)
    c.u_cet = 0
    jmp_far(c, USER32, THERE)
    assert (c.rip, c.rsp) == (THERE, TOP - 256 & 0xFFFF_FFFF)


def test_a_far_jump_checks_segment_and_target() -> None:
    """As a far CALL does."""
    c = machine64()
    for selector in (0, 0x2B, KERNEL, KERNEL | 3):
        with faults(c, Vector.GP, selector & 0xFFFC):
            jmp_far(c, selector, THERE)
    with faults(c, Vector.GP):
        jmp_far(c, USER, NONCANONICAL)


def test_a_far_call_pushes_cs_lip_and_ssp() -> None:
    """Two words on the data stack, three on the shadow stack."""
    c = called()
    assert (c.rip, c.cs) == (THERE, USER)
    assert (c.rsp, c.memory.peek(c.rsp)) == (TOP - 256 - 16, HERE + 3)
    assert c.memory.peek(c.rsp + 8) == USER
    assert c.ssp == SSP - 24
    assert [c.memory.peek(c.ssp + 8 * n) for n in range(3)] == [SSP, HERE + 3, USER]


def test_a_far_ret_pops_them() -> None:
    """SSP becomes the one that was pushed; the parameters are released."""
    c = called()
    ret_far(c, 32)
    assert (c.rip, c.cs, c.rsp, c.ssp) == (HERE + 3, USER, TOP - 256 + 32, SSP)


def test_a_far_call_with_ssp_aligned_to_4() -> None:
    """The frame is aligned to 8, under 4 zero bytes; the far RET finds the old SSP."""
    c = machine64(ssp=SSP + 4)
    c.memory.poke(SSP, 0xFFFF_FFFF, 4)
    call_far(c, USER, THERE)
    assert (c.ssp, c.memory.peek(SSP, 4), c.memory.peek(c.ssp)) == (SSP - 24, 0, SSP + 4)
    ret_far(c)
    assert c.ssp == SSP + 4


def test_without_shadow_stacks_only_the_data_stack_counts() -> None:
    """SSP stays, and nothing is compared."""
    c = called(u_cet=0)
    assert c.ssp == SSP
    c.memory.poke(c.rsp, 0x666)
    ret_far(c)
    assert (c.rip, c.ssp) == (0x666, SSP)


def test_a_far_call_to_32_bit_code_and_back() -> None:
    """The shadow frame has 8 bytes an element in either mode."""
    c = machine64(ssp=TOP32_A - 256)
    c.memory.map(SHSTK32_A, Kind.SHADOW, 2)
    c.memory.map(STACK32, Kind.RW)
    c.rsp = (1 << 32) + STACK32 + 64  # the data goes where 32-bit code has its stack
    call_far(c, USER32, THERE, width=4)
    assert (c.rip, c.cs, c.long_mode, c.ssp) == (THERE, USER32, False, TOP32_A - 280)
    assert c.rsp == STACK32 + 56
    assert (c.memory.peek(c.rsp, 4), c.memory.peek(c.rsp + 4, 4)) == (HERE + 3, USER)
    ret_far(c, width=4)
    assert (c.rip, c.cs, c.long_mode, c.ssp) == (HERE + 3, USER, True, TOP32_A - 256)


def test_32_bit_code_cannot_have_an_ssp_above_4_gib() -> None:
    """A far call to compatibility mode is #GP(0) then, with nothing pushed."""
    c = machine64()
    c.memory.map(STACK32, Kind.RW)
    c.rsp = STACK32 + 64
    with faults(c, Vector.GP):
        call_far(c, USER32, THERE)


def test_a_far_ret_to_32_bit_code_with_an_ssp_above_4_gib() -> None:
    """The SSP that was pushed is checked for the mode returned to: #GP(0)."""
    c = called()
    c.memory.poke(c.rsp + 8, USER32)
    c.memory.poke(c.ssp + 16, USER32)
    with faults(c, Vector.GP):
        ret_far(c)


def test_a_far_ret_with_an_ssp_that_is_not_canonical() -> None:
    """#GP(0)."""
    c = called()
    c.memory.poke(c.ssp, NONCANONICAL)
    with faults(c, Vector.GP):
        ret_far(c)


@pytest.mark.parametrize("selector", [0, 3, 0x18, 0x2B, 0x34])
def test_a_selector_that_names_no_code_segment(selector: int) -> None:
    """NULL, data segments and the LDT: #GP with the selector, RPL left out."""
    c = machine64()
    with faults(c, Vector.GP, selector & 0xFFFC):
        call_far(c, selector, THERE)
    c = called()
    c.memory.poke(c.rsp + 8, selector)
    with faults(c, Vector.GP, selector & 0xFFFC):
        ret_far(c)


@pytest.mark.parametrize("selector", [KERNEL, KERNEL | 3])
def test_the_kernels_code_segment_is_not_callable(selector: int) -> None:
    """DPL and RPL have to fit CPL: #GP(selector)."""
    c = machine64()
    with faults(c, Vector.GP, KERNEL):
        call_far(c, selector, THERE)
    c = called()
    c.memory.poke(c.rsp + 8, selector)
    with faults(c, Vector.GP, KERNEL):
        ret_far(c)


def test_rpl_cannot_exceed_cpl_in_a_call() -> None:
    """At CPL 0, a selector with RPL 3: #GP(selector)."""
    c = machine64(cpl=0, cs=KERNEL)
    with faults(c, Vector.GP, KERNEL):
        call_far(c, KERNEL | 3, THERE)


def test_a_far_call_at_cpl_0() -> None:
    """The supervisor's shadow stack is used, with accesses of supervisor type."""
    c = machine64(cpl=0, cs=KERNEL, s_cet=1)
    c.memory.map(STACK, Kind.KERNEL, 2)
    c.memory.map(SHSTK_A, Kind.KERNEL_SHADOW, 2)
    call_far(c, KERNEL, THERE)
    assert (c.cs, c.ssp) == (KERNEL, SSP - 24)
    ret_far(c)
    assert (c.rip, c.ssp) == (HERE + 3, SSP)


@pytest.mark.parametrize("element", [1, 2])
def test_a_far_frame_that_does_not_match(element: int) -> None:
    """Another LIP or CS on the shadow stack: #CP(FAR-RET/IRET)."""
    c = called()
    at = c.ssp + 8 * element
    c.memory.poke(at, c.memory.peek(at) | 1 << 40)
    with faults(c, Vector.CP, ControlProtection.FAR_RET_IRET):
        ret_far(c)


def test_a_far_frame_with_a_misaligned_ssp() -> None:
    """In it, or below it: #CP(FAR-RET/IRET)."""
    c = called()
    c.memory.poke(c.ssp, SSP | 2)
    with faults(c, Vector.CP, ControlProtection.FAR_RET_IRET):
        ret_far(c)
    c = called()
    c.ssp -= 4
    for n, word in enumerate((SSP, HERE + 3, USER)):
        c.memory.poke(c.ssp + 8 * n, word)
    with faults(c, Vector.CP, ControlProtection.FAR_RET_IRET):
        ret_far(c)


def test_a_far_ret_checks_its_target_before_the_shadow_stack() -> None:
    """Unlike the near RET: #GP(0) for an address that is not canonical."""
    c = called()
    c.memory.poke(c.rsp, NONCANONICAL)
    with faults(c, Vector.GP):
        ret_far(c)
    c = called()
    c.memory.poke(c.rsp, 1 << 32)
    c.memory.poke(c.rsp + 8, USER32)
    with faults(c, Vector.GP):
        ret_far(c)


def test_a_far_call_to_an_address_that_is_not_canonical() -> None:
    """#GP(0); for 32-bit code the upper half is dropped."""
    c = machine64()
    with faults(c, Vector.GP):
        call_far(c, USER, NONCANONICAL)


@pytest.mark.parametrize("room", [0, 4, 8, 16])
def test_a_far_call_without_room_on_the_shadow_stack(room: int) -> None:
    """A page fault, whichever of the three words has no room."""
    c = machine64(ssp=SHSTK_A + room)
    at = SHSTK_A - 8 if room else SHSTK_A - 4
    with faults(c, Vector.PF, U | SS | W, at):
        call_far(c, USER, THERE)


@pytest.mark.parametrize("room", [0, 8])
def test_a_far_call_without_room_on_the_data_stack(room: int) -> None:
    """A page fault, also where only the second push has no room."""
    c = machine64(rsp=STACK + room)
    with faults(c, Vector.PF, U | W, STACK - 8):
        call_far(c, USER, THERE)


def test_a_far_ret_on_an_empty_shadow_stack() -> None:
    """CS is read first, at SSP + 16."""
    c = called()
    c.ssp = TOP_A
    with faults(c, Vector.PF, U | SS, TOP_A + 16):
        ret_far(c)


def test_iretq_at_cpl_3_pops_five_words() -> None:
    """RIP, CS, RFLAGS, RSP and SS; the far frame on the shadow stack has to match."""
    c = interrupted()
    iret(c)
    assert (c.rip, c.cs, c.cf, c.rsp, c.ssp) == (HERE + 3, USER, 1, TOP - 64, SSP)


def test_iretq_of_a_wrong_address() -> None:
    """#CP(FAR-RET/IRET)."""
    c = interrupted()
    c.memory.poke(c.rsp, 0x666)
    with faults(c, Vector.CP, ControlProtection.FAR_RET_IRET):
        iret(c)


def test_iretq_without_shadow_stacks() -> None:
    """Nothing is compared, and SSP stays."""
    c = interrupted()
    c.u_cet = 0
    c.memory.poke(c.rsp, 0x666)
    iret(c)
    assert (c.rip, c.ssp) == (0x666, SSP - 24)


def test_iretq_to_an_address_that_is_not_canonical() -> None:
    """#GP(0), as for a far RET."""
    c = interrupted()
    c.memory.poke(c.rsp, NONCANONICAL)
    c.memory.poke(c.ssp + 8, NONCANONICAL)
    with faults(c, Vector.GP):
        iret(c)


def test_iretq_to_32_bit_code() -> None:
    """The frame's CS says which mode; SSP has to be below 4 GiB."""
    c = interrupted()
    c.memory.poke(c.rsp + 8, USER32)
    c.memory.poke(c.ssp + 16, USER32)
    with faults(c, Vector.GP):
        iret(c)
    c.memory.poke(c.ssp, TOP32_A)
    iret(c)
    assert (c.cs, c.long_mode, c.ssp, c.rsp) == (USER32, False, TOP32_A, TOP - 64 & 0xFFFF_FFFF)


def test_iretd_in_32_bit_code_pops_three_words() -> None:
    """At the same privilege level, compatibility mode has no RSP and SS in the frame."""
    c = machine32()
    for n, word in enumerate((THERE, USER32, 0)):
        c.memory.poke(c.rsp + 4 * n, word, 4)
    c.memory.poke(c.ssp - 24, c.ssp)
    c.memory.poke(c.ssp - 16, THERE)
    c.memory.poke(c.ssp - 8, USER32)
    rsp, ssp = c.rsp, c.ssp
    c.ssp -= 24
    iret(c, width=4)
    assert (c.rip, c.rsp, c.ssp) == (THERE, rsp + 12, ssp)


def test_iret_from_one_stack_to_another_frees_a_token() -> None:
    """A busy token above the frame is freed where SSP moves elsewhere."""
    c = interrupted()
    c.memory.poke(c.ssp, SSP + 64)
    c.memory.poke(SSP, SSP | 1)
    iret(c)
    assert (c.ssp, c.memory.peek(SSP)) == (SSP + 64, SSP)


def test_iret_from_one_stack_to_another_without_a_token() -> None:
    """Whatever else is there stays."""
    c = interrupted()
    c.memory.poke(c.ssp, SSP + 64)
    c.memory.poke(SSP, HERE)
    iret(c)
    assert (c.ssp, c.memory.peek(SSP)) == (SSP + 64, HERE)


def test_iret_when_the_token_cannot_be_looked_at() -> None:
    """A page fault, and nothing is popped."""
    c = interrupted()
    base = TOP_A - 24
    for n, word in enumerate((SSP, HERE + 3, USER)):
        c.memory.poke(base + 8 * n, word)
    c.ssp = base
    with faults(c, Vector.PF, U | SS | W, TOP_A):
        iret(c)


@pytest.mark.parametrize("start", range(0, 48, 4))
@pytest.mark.parametrize("machine", [machine64, machine32])
def test_a_far_call_and_ret_on_stacks_around_address_0(
    machine: Callable[[], Machine], start: int
) -> None:
    """Addresses wrap: at 2**64 in 64-bit mode, at 4 GiB in compatibility mode."""
    end, width = (1 << 64, 8) if machine is machine64 else (1 << 32, 4)
    for kind in (Kind.RW, Kind.SHADOW):
        c = machine()
        c.memory.map(0, kind)
        c.memory.map(end - PAGE, kind)
        if kind == Kind.RW:
            c.rsp = start & -width
        else:
            c.ssp = start
        before = c.copy()
        call_far(c, c.cs, THERE, width)
        ret_far(c, end - 2 * width & 0xFFFF, width)
        assert (c.rip, c.ssp) == (HERE + 3, before.ssp)
        assert c.rsp == (before.rsp + (end - 2 * width & 0xFFFF)) % end


@pytest.mark.parametrize("words", range(6))
@pytest.mark.parametrize("machine", [machine64, machine32])
def test_an_iret_on_a_stack_around_address_0(machine: Callable[[], Machine], words: int) -> None:
    """Wherever the end of the address space lies in the frame."""
    end, width = (1 << 64, 8) if machine is machine64 else (1 << 32, 4)
    c = machine()
    c.u_cet = 0
    c.memory.map(0, Kind.RW)
    c.memory.map(end - PAGE, Kind.RW)
    c.rsp = -words * width % end
    for n, word in enumerate((THERE, c.cs, 1, 0x1234, 0x2B)):
        c.memory.poke((c.rsp + n * width) % end, word, width)
    after = 0x1234 if machine is machine64 else (c.rsp + 3 * width) % end
    iret(c, width)
    assert (c.rip, c.cf, c.rsp) == (THERE, 1, after)
