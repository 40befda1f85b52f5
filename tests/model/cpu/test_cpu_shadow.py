"""RDSSP, INCSSP, RSTORSSP, SAVEPREVSSP and WRSS, by example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cpu_machine import (
    HERE,
    PAGE,
    SHSTK_A,
    SHSTK_B,
    SS,
    STACK,
    TOP32_A,
    TOP32_B,
    TOP_A,
    TOP_B,
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
    SH_STK_EN,
    WR_SHSTK_EN,
    ControlProtection,
    Vector,
    call_rel,
    incsspd,
    incsspq,
    rdsspd,
    rdsspq,
    ret,
    rstorssp,
    saveprevssp,
    wrssd,
    wrssq,
)

TOKEN_B = TOP_B - 8  # where a restore token lies that makes stack B an empty stack


def with_token(c: Machine) -> Machine:
    """What map_shadow_stack(SHADOW_STACK_SET_TOKEN) leaves at the top of stack B."""
    c.memory.poke(TOKEN_B, TOP_B | 1)
    return c


# -- RDSSP -------------------------------------------------------------------------------


def test_rdssp_reads_ssp() -> None:
    """RDSSPQ gives SSP; RDSSPD its low half, zero-extended."""
    c = machine64()
    assert rdsspq(c, 1) == TOP_A - 256
    assert rdsspd(c, 1) == (TOP_A - 256) & 0xFFFF_FFFF
    assert c.rip == HERE + 5 + 4


@pytest.mark.parametrize("off", ["cr4_cet", "u_cet"])
def test_rdssp_is_a_nop_without_shadow_stacks(off: str) -> None:
    """The register keeps what was in it, all 64 bits."""
    c = machine64(**{off: 0})
    old = 0x1234_5678_9ABC_DEF0
    assert (rdsspq(c, old), rdsspd(c, old)) == (old, old)
    assert c.rip == HERE + 9


# -- INCSSP ------------------------------------------------------------------------------


def test_incssp_pops_elements() -> None:
    """INCSSPQ moves by 8 bytes an element, INCSSPD by 4, by the low 8 bits of the count."""
    c = machine64()
    incsspq(c, 3)
    assert (c.ssp, c.rip) == (TOP_A - 256 + 24, HERE + 5)
    incsspd(c, 0xFF01)
    assert (c.ssp, c.rip) == (TOP_A - 256 + 28, HERE + 9)


def test_incssp_touches_the_first_and_the_last_element() -> None:
    """Nothing between them is read."""
    c = machine64()
    incsspq(c, 32)
    loads = [("load", TOP_A - 256, 8, True), ("load", TOP_A - 8, 8, True)]
    assert c.memory.log == loads
    assert c.ssp == TOP_A


def test_incssp_by_0_touches_the_element_at_ssp() -> None:
    """On an empty stack even that is a page fault."""
    c = machine64()
    incsspq(c, 0x100)
    assert (c.ssp, c.memory.log) == (TOP_A - 256, [("load", TOP_A - 256, 8, True)])
    c.ssp = TOP_A
    with faults(c, Vector.PF, U | SS, TOP_A):
        incsspq(c, 0)


def test_incssp_beyond_the_top_is_a_page_fault() -> None:
    """The last element is not there."""
    c = machine64()
    with faults(c, Vector.PF, U | SS, TOP_A):
        incsspq(c, 33)


def test_incssp_in_compatibility_mode() -> None:
    """At the top of the 4 GiB SSP wraps, like every linear address there."""
    c = machine32(ssp=(1 << 32) - 8)
    c.memory.map(0xFFFF_F000, Kind.SHADOW)
    incsspd(c, 2)
    assert c.ssp == 0


@pytest.mark.parametrize("incssp", [incsspq, incsspd])
@pytest.mark.parametrize("off", ["cr4_cet", "u_cet"])
def test_incssp_without_shadow_stacks_is_undefined(
    incssp: Callable[[Machine, int], None], off: str
) -> None:
    """#UD if CR4.CET or U_CET.SH_STK_EN is off."""
    with faults(c := machine64(**{off: 0}), Vector.UD):
        incssp(c, 1)


# -- RSTORSSP ----------------------------------------------------------------------------


def test_rstorssp_switches_to_the_stack_of_a_restore_token() -> None:
    """SSP becomes the token's address, and a previous-ssp token takes its place."""
    c = with_token(machine64(cf=1))
    rstorssp(c, TOKEN_B)
    assert (c.ssp, c.cf, c.rip) == (TOKEN_B, 0, HERE + 4)
    assert c.memory.peek(TOKEN_B) == (TOP_A - 256) | 3


def test_popping_the_previous_ssp_token_instead_of_saving() -> None:
    """INCSSPQ 1 after RSTORSSP: stack B is empty, and there is no way back to A."""
    c = with_token(machine64())
    rstorssp(c, TOKEN_B)
    incsspq(c, 1)
    assert c.ssp == TOP_B


BAD_TOKENS = {
    "none": 0,
    "of 32-bit code": TOP_B,
    "a previous-ssp token": TOP_B | 3,
    "of another place": (TOP_B + 8) | 1,
    "of a return address": HERE,
    "of a signal frame": TOP_B | 1 << 63,
}


@pytest.mark.parametrize("bad", BAD_TOKENS)
def test_rstorssp_without_a_token(bad: str) -> None:
    """#CP(RSTORSSP), and the word is still there."""
    c = machine64()
    c.memory.poke(TOKEN_B, BAD_TOKENS[bad])
    with faults(c, Vector.CP, ControlProtection.RSTORSSP):
        rstorssp(c, TOKEN_B)


def test_a_token_works_once() -> None:
    """A second RSTORSSP of the same token is #CP(RSTORSSP)."""
    c = with_token(machine64())
    rstorssp(c, TOKEN_B)
    with faults(c, Vector.CP, ControlProtection.RSTORSSP):
        rstorssp(c, TOKEN_B)
    saveprevssp(c)
    with faults(c, Vector.CP, ControlProtection.RSTORSSP):
        rstorssp(c, TOKEN_B)


def test_rstorssp_of_a_misaligned_address() -> None:
    """#GP(0) unless it is a multiple of 8."""
    c = machine64()
    with faults(c, Vector.GP):
        rstorssp(c, TOKEN_B + 4)


def test_rstorssp_of_memory_that_is_not_shadow_stack() -> None:
    """A locked access faults as a write, also where nothing is mapped."""
    c = machine64()
    with faults(c, Vector.PF, P | U | SS | W, STACK):
        rstorssp(c, STACK)
    with faults(c, Vector.PF, U | SS | W, TOP_B):
        rstorssp(c, TOP_B)
    with faults(c, Vector.GP):
        rstorssp(c, 1 << 63)


def test_the_switch_instructions_without_shadow_stacks_are_undefined() -> None:
    """#UD, before any operand is looked at."""
    c = machine64(u_cet=0)
    with faults(c, Vector.UD):
        rstorssp(c, 1)
    with faults(c, Vector.UD):
        saveprevssp(c)


# -- SAVEPREVSSP -------------------------------------------------------------------------


def test_saveprevssp_leaves_a_restore_token_on_the_old_stack() -> None:
    """RSTORSSP, then SAVEPREVSSP: a token below the old SSP, and stack B is empty."""
    c = with_token(machine64())
    old = c.ssp
    rstorssp(c, TOKEN_B)
    saveprevssp(c)
    assert (c.ssp, c.rip) == (TOP_B, HERE + 8)
    assert c.memory.peek(old - 8) == old | 1


def test_ping_pong_between_two_stacks() -> None:
    """RSTORSSP of the token that SAVEPREVSSP left brings the old SSP back."""
    c = with_token(machine64())
    call_rel(c, 0x100)
    old = c.ssp
    rstorssp(c, TOKEN_B)
    saveprevssp(c)
    call_rel(c, 0x200)
    there = c.ssp
    rstorssp(c, old - 8)
    saveprevssp(c)
    assert c.ssp == old
    assert c.memory.peek(there - 8) == there | 1
    c.rsp += 8
    ret(c)
    assert (c.rip, c.ssp) == (HERE + 5, TOP_A - 256)


def test_saveprevssp_of_an_ssp_aligned_to_4() -> None:
    """The hole gets 4 zero bytes, and the token lies below the next multiple of 8."""
    c = with_token(machine64(ssp=TOP_A - 252))
    c.memory.poke(TOP_A - 256, 0xFFFF_FFFF, 4)
    rstorssp(c, TOKEN_B)
    assert c.memory.peek(TOKEN_B) == (TOP_A - 252) | 3
    saveprevssp(c)
    assert c.memory.peek(TOP_A - 264) == (TOP_A - 252) | 1
    assert c.memory.peek(TOP_A - 256, 4) == 0
    rstorssp(c, TOP_A - 264)
    assert (c.ssp, c.cf) == (TOP_A - 264, 1)


def test_saveprevssp_without_a_previous_ssp_token() -> None:
    """Bit 1 of the word at SSP is 0: #GP(0)."""
    c = machine64()
    c.memory.poke(c.ssp, HERE & ~2)
    with faults(c, Vector.GP):
        saveprevssp(c)


def test_saveprevssp_at_a_misaligned_ssp() -> None:
    """#GP(0) unless SSP is a multiple of 8."""
    c = machine64(ssp=TOP_A - 252)
    c.memory.poke(c.ssp, TOP_B | 3)
    with faults(c, Vector.GP):
        saveprevssp(c)


def test_saveprevssp_with_carry_in_64_bit_mode() -> None:
    """CF says there is an alignment hole, which 64-bit code does not have: #GP(0)."""
    c = with_token(machine64())
    rstorssp(c, TOKEN_B)
    c.cf = 1
    with faults(c, Vector.GP):
        saveprevssp(c)


def test_saveprevssp_when_the_old_stack_is_gone() -> None:
    """A page fault at the old stack; SSP stays at the previous-ssp token."""
    c = with_token(machine64())
    rstorssp(c, TOKEN_B)
    del c.memory.kinds[SHSTK_A // PAGE + 1]
    with faults(c, Vector.PF, U | SS | W, TOP_A - 260):
        saveprevssp(c)


def test_saveprevssp_on_an_empty_stack() -> None:
    """A page fault where the token would be."""
    c = machine64(ssp=TOP_A)
    with faults(c, Vector.PF, U | SS, TOP_A):
        saveprevssp(c)


def test_saveprevssp_when_the_old_stack_was_full() -> None:
    """No room for the token: a page fault below the old stack."""
    c = with_token(machine64(ssp=SHSTK_A))
    rstorssp(c, TOKEN_B)
    with faults(c, Vector.PF, U | SS | W, SHSTK_A - 4):
        saveprevssp(c)


def test_saveprevssp_when_only_the_hole_has_room() -> None:
    """Then the hole is not cleared either."""
    c = with_token(machine64(ssp=SHSTK_A + 4))
    c.memory.poke(SHSTK_A, 0xFFFF_FFFF, 4)
    rstorssp(c, TOKEN_B)
    with faults(c, Vector.PF, U | SS | W, SHSTK_A - 8):
        saveprevssp(c)


# -- compatibility mode ------------------------------------------------------------------


def test_tokens_of_32_bit_code_have_no_l_bit() -> None:
    """RSTORSSP, SAVEPREVSSP and back, in compatibility mode."""
    c = machine32()
    c.memory.poke(TOP32_B - 8, TOP32_B)
    old = c.ssp
    rstorssp(c, TOP32_B - 8)
    assert (c.ssp, c.memory.peek(TOP32_B - 8)) == (TOP32_B - 8, old | 2)
    saveprevssp(c)
    assert (c.ssp, c.memory.peek(old - 8)) == (TOP32_B, old)
    rstorssp(c, old - 8)
    saveprevssp(c)
    assert c.ssp == old


def test_a_hole_that_32_bit_code_leaves_and_finds_again() -> None:
    """An SSP aligned to 4 is restored in full: CF tells SAVEPREVSSP of the hole."""
    c = machine32(ssp=TOP32_A - 252)
    c.memory.poke(TOP32_B - 8, TOP32_B)
    rstorssp(c, TOP32_B - 8)
    saveprevssp(c)
    rstorssp(c, TOP32_A - 264)
    assert c.cf == 1
    saveprevssp(c)
    assert c.ssp == TOP32_A - 252


def test_a_hole_that_is_not_zero() -> None:
    """#GP(0)."""
    c = machine32(cf=1)
    c.memory.poke(c.ssp, (TOP32_B - 64) | 2)
    c.memory.poke(c.ssp + 8, 1, 4)
    with faults(c, Vector.GP):
        saveprevssp(c)


def test_64_bit_tokens_are_none_for_32_bit_code() -> None:
    """The L bit, or an SSP of 4 GiB or more."""
    c = machine32()
    for token in (TOP32_B | 1, TOP32_B | 1 << 32):
        c.memory.poke(TOP32_B - 8, token)
        with faults(c, Vector.CP, ControlProtection.RSTORSSP):
            rstorssp(c, TOP32_B - 8)
    c.memory.poke(c.ssp, TOP32_B | 2 | 1 << 32)
    with faults(c, Vector.GP):
        saveprevssp(c)


def test_a_token_at_the_end_of_the_4_gib_is_none() -> None:
    """The SSP in it would be 4 GiB: #CP(RSTORSSP), though it fits its place."""
    c = machine32()
    c.memory.map(0xFFFF_F000, Kind.SHADOW)
    c.memory.poke(0xFFFF_FFF8, 1 << 32)
    with faults(c, Vector.CP, ControlProtection.RSTORSSP):
        rstorssp(c, 0xFFFF_FFF8)


# -- WRSS --------------------------------------------------------------------------------


def test_wrss_writes_to_a_shadow_stack() -> None:
    """8 or 4 bytes, anywhere on any shadow stack of the task."""
    c = machine64(u_cet=SH_STK_EN | WR_SHSTK_EN)
    wrssq(c, SHSTK_B, 0x1122_3344_5566_7788)
    wrssd(c, SHSTK_B + 4, 0xAAAA_BBBB_CCCC_DDDD)
    assert c.memory.peek(SHSTK_B) == 0xCCCC_DDDD_5566_7788
    assert c.rip == HERE + 9


@pytest.mark.parametrize("cet", [0, SH_STK_EN, WR_SHSTK_EN])
def test_wrss_has_to_be_enabled(cet: int) -> None:
    """#UD unless SH_STK_EN and WR_SHSTK_EN are both on."""
    c = machine64(u_cet=cet)
    with faults(c, Vector.UD):
        wrssq(c, SHSTK_B, 1)
    c = machine64(cpl=0, u_cet=SH_STK_EN | WR_SHSTK_EN, s_cet=cet)
    with faults(c, Vector.UD):
        wrssd(c, SHSTK_B, 1)


def test_wrss_without_cr4_cet_is_undefined() -> None:
    """#UD whatever U_CET says."""
    c = machine64(cr4_cet=0, u_cet=SH_STK_EN | WR_SHSTK_EN)
    with faults(c, Vector.UD):
        wrssq(c, SHSTK_B, 1)


def test_wrss_of_a_misaligned_address() -> None:
    """#GP(0) unless a multiple of the operand size."""
    c = machine64(u_cet=SH_STK_EN | WR_SHSTK_EN)
    with faults(c, Vector.GP):
        wrssq(c, SHSTK_B + 4, 1)
    with faults(c, Vector.GP):
        wrssd(c, SHSTK_B + 2, 1)


def test_wrss_of_memory_that_is_not_shadow_stack() -> None:
    """Ordinary memory is refused, and so is a hole."""
    c = machine64(u_cet=SH_STK_EN | WR_SHSTK_EN)
    with faults(c, Vector.PF, P | U | SS | W, STACK):
        wrssq(c, STACK, 1)
    with faults(c, Vector.PF, U | SS | W, TOP_B):
        wrssd(c, TOP_B, 1)


def test_a_hand_made_token_is_as_good_as_any() -> None:
    """WRSSQ of a restore token, then RSTORSSP of it."""
    c = machine64(u_cet=SH_STK_EN | WR_SHSTK_EN)
    wrssq(c, SHSTK_B, (SHSTK_B + 8) | 1)
    rstorssp(c, SHSTK_B)
    assert c.ssp == SHSTK_B
