"""Near CALL and RET, and ENDBR, by example."""

from __future__ import annotations

import pytest
from cpu_machine import (
    HERE,
    PAGE,
    SHSTK_A,
    SS,
    STACK,
    THERE,
    TOP,
    TOP32,
    TOP32_A,
    TOP_A,
    Kind,
    P,
    U,
    W,
    faults,
    machine32,
    machine64,
)

from model.cpu import (
    ControlProtection,
    Vector,
    call_abs,
    call_rel,
    endbr32,
    endbr64,
    ret,
)

NONCANONICAL = 1 << 47


def test_a_call_pushes_its_return_address_on_both_stacks() -> None:
    """CALL rel32 pushes the address of the next instruction on data and shadow stack."""
    c = machine64()
    call_rel(c, THERE - HERE - 5)
    assert c.rip == THERE
    assert (c.rsp, c.memory.peek(c.rsp)) == (TOP - 256 - 8, HERE + 5)
    assert (c.ssp, c.memory.peek(c.ssp)) == (TOP_A - 256 - 8, HERE + 5)


def test_a_call_can_go_backwards() -> None:
    """A negative displacement is a word, sign-extended."""
    c = machine64()
    call_rel(c, -0x1005 & (1 << 64) - 1)
    assert c.rip == HERE - 0x1000


def test_an_indirect_call_takes_its_target_from_an_operand() -> None:
    """CALL r/m64 has the length of its encoding, 2 bytes at least."""
    c = machine64()
    call_abs(c, THERE, length=3)
    assert (c.rip, c.memory.peek(c.rsp), c.memory.peek(c.ssp)) == (THERE, HERE + 3, HERE + 3)


def test_a_call_to_the_next_instruction_leaves_the_shadow_stack_alone() -> None:
    """CALL with displacement 0 pushes on the data stack only."""
    c = machine64()
    call_rel(c, 0)
    assert (c.rip, c.rsp, c.memory.peek(c.rsp)) == (HERE + 5, TOP - 256 - 8, HERE + 5)
    assert c.ssp == TOP_A - 256


def test_an_indirect_call_to_the_next_instruction_pushes_on_both() -> None:
    """Only the relative form with displacement 0 is special."""
    c = machine64()
    call_abs(c, HERE + 2)
    assert (c.rip, c.ssp) == (HERE + 2, TOP_A - 256 - 8)


@pytest.mark.parametrize("off", ["cr4_cet", "u_cet"])
def test_without_shadow_stacks_a_call_pushes_once(off: str) -> None:
    """CR4.CET and U_CET.SH_STK_EN both have to be on."""
    c = machine64(**{off: 0})
    call_rel(c, 0x100)
    assert (c.rsp, c.ssp) == (TOP - 256 - 8, TOP_A - 256)
    ret(c)
    assert (c.rip, c.rsp, c.ssp) == (HERE + 5, TOP - 256, TOP_A - 256)


def test_the_supervisor_has_a_switch_of_its_own() -> None:
    """Below CPL 3 it is IA32_S_CET that counts, not IA32_U_CET."""
    c = machine64(cpl=0, cs=0x10)
    call_rel(c, 0x100)
    assert c.ssp == TOP_A - 256


def test_ret_pops_both_stacks_and_releases_parameters() -> None:
    """RET imm16 adds to RSP, not to SSP."""
    c = machine64()
    call_rel(c, 0x100)
    ret(c, 16)
    assert (c.rip, c.rsp, c.ssp) == (HERE + 5, TOP - 256 + 16, TOP_A - 256)


def test_a_ret_to_a_wrong_address_is_a_control_protection_fault() -> None:
    """A return address that was overwritten: #CP(NEAR-RET)."""
    c = machine64()
    call_rel(c, 0x100)
    c.memory.poke(c.rsp, 0x666)
    with faults(c, Vector.CP, ControlProtection.NEAR_RET):
        ret(c)


def test_a_wrong_address_that_is_not_canonical_is_a_control_protection_fault_too() -> None:
    """The comparison comes before the check of the address."""
    c = machine64()
    call_rel(c, 0x100)
    c.memory.poke(c.rsp, NONCANONICAL)
    with faults(c, Vector.CP, ControlProtection.NEAR_RET):
        ret(c)


def test_a_ret_to_an_address_that_is_not_canonical() -> None:
    """Where both stacks agree on it: #GP(0)."""
    c = machine64()
    c.memory.poke(c.rsp, NONCANONICAL)
    c.memory.poke(c.ssp, NONCANONICAL)
    with faults(c, Vector.GP):
        ret(c)


def test_a_call_to_an_address_that_is_not_canonical() -> None:
    """#GP(0), and neither stack has the return address."""
    c = machine64()
    with faults(c, Vector.GP):
        call_abs(c, NONCANONICAL)


def test_a_ret_on_an_empty_shadow_stack_is_a_page_fault_at_its_top() -> None:
    """Error code 0x44: a user shadow-stack read of a page that is not there."""
    c = machine64(ssp=TOP_A)
    with faults(c, Vector.PF, U | SS, TOP_A):
        ret(c)


def test_a_call_on_a_full_shadow_stack_is_a_page_fault_in_the_gap() -> None:
    """Error code 0x46: a user shadow-stack write of a page that is not there."""
    c = machine64(ssp=SHSTK_A)
    with faults(c, Vector.PF, U | SS | W, SHSTK_A - 8):
        call_rel(c, 0x100)


def test_a_call_on_a_full_data_stack_is_an_ordinary_page_fault() -> None:
    """The data stack comes first."""
    c = machine64(rsp=STACK, ssp=SHSTK_A)
    with faults(c, Vector.PF, U | W, STACK - 8):
        call_rel(c, 0x100)


def test_a_shadow_stack_that_is_not_one_is_refused() -> None:
    """SSP in ordinary memory: a protection fault with the shadow-stack bit."""
    c = machine64(ssp=STACK + 64)
    with faults(c, Vector.PF, P | U | SS | W, STACK + 56):
        call_rel(c, 0x100)
    with faults(c, Vector.PF, P | U | SS, STACK + 64):
        ret(c)


def test_a_data_stack_on_a_shadow_stack_is_refused() -> None:
    """An ordinary store to a shadow stack is error code 7; an ordinary load is allowed."""
    c = machine64(rsp=SHSTK_A + 64)
    with faults(c, Vector.PF, P | U | W, SHSTK_A + 56):
        call_rel(c, 0x100)
    c.memory.poke(c.rsp, THERE)
    c.memory.poke(c.ssp, THERE)
    ret(c)
    assert c.rip == THERE


def test_a_push_may_straddle_two_pages() -> None:
    """An 8-byte access at page offset 4092 faults on the page that is missing."""
    c = machine64(ssp=TOP_A + 4)
    with faults(c, Vector.PF, U | SS | W, TOP_A):
        call_rel(c, 0x100)
    c.ssp = SHSTK_A + PAGE + 4
    call_rel(c, 0x100)
    assert c.memory.peek(SHSTK_A + PAGE - 4) == HERE + 5


def test_a_read_only_data_stack_is_refused() -> None:
    """A store to a read-only page is error code 7."""
    c = machine64()
    c.memory.map(STACK, Kind.RO, 2)
    with faults(c, Vector.PF, P | U | W, TOP - 256 - 8):
        call_rel(c, 0x100)


def test_a_stack_at_an_address_that_is_not_canonical() -> None:
    """#SS(0) for the data stack, #GP(0) for the shadow stack."""
    c = machine64(rsp=NONCANONICAL + 64)
    with faults(c, Vector.SS):
        call_rel(c, 0x100)
    with faults(c, Vector.SS):
        ret(c)
    c = machine64(ssp=NONCANONICAL + 64)
    with faults(c, Vector.GP):
        call_rel(c, 0x100)
    with faults(c, Vector.GP):
        ret(c)


def test_32_bit_code_pushes_4_bytes() -> None:
    """In compatibility mode both stacks have elements of 4 bytes."""
    c = machine32()
    call_rel(c, 0x100)
    assert (c.rsp, c.memory.peek(c.rsp, 4)) == (TOP32 - 260, HERE + 5)
    assert (c.ssp, c.memory.peek(c.ssp, 4)) == (TOP32_A - 260, HERE + 5)
    ret(c, 8)
    assert (c.rip, c.rsp, c.ssp) == (HERE + 5, TOP32 - 256 + 8, TOP32_A - 256)
    call_rel(c, 0)
    assert (c.rsp, c.ssp) == (TOP32 - 256 + 4, TOP32_A - 256)


def test_a_32_bit_ret_to_a_wrong_address() -> None:
    """4 bytes are compared: #CP(NEAR-RET)."""
    c = machine32()
    call_abs(c, THERE)
    c.memory.poke(c.rsp, 0x666, 4)
    with faults(c, Vector.CP, ControlProtection.NEAR_RET):
        ret(c)


def test_32_bit_addresses_wrap() -> None:
    """A 32-bit target is taken modulo 4 GiB, and is never out of the flat segment."""
    c = machine32()
    call_rel(c, -HERE - 5 - 16 & (1 << 64) - 1)
    assert c.rip == 0xFFFF_FFF0


@pytest.mark.parametrize("endbr", [endbr32, endbr64])
def test_endbr_is_a_nop(endbr) -> None:  # type: ignore[no-untyped-def]
    """ENDBR advances RIP by 4 and does nothing else."""
    c = machine64()
    before = c.copy()
    endbr(c)
    assert c.rip == HERE + 4
    c.rip = HERE
    assert c.copy() == before
