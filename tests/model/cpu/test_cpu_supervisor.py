"""WRUSS, SETSSBSY and CLRSSBSY, by example."""

from __future__ import annotations

import pytest
from cpu_machine import (
    HERE,
    SHSTK_B,
    SS,
    STACK,
    Kind,
    Machine,
    P,
    U,
    W,
    faults,
    machine64,
)

from model.cpu import (
    ControlProtection,
    Vector,
    clrssbsy,
    setssbsy,
    wrussd,
    wrussq,
)

KERNEL_SHSTK = 0xFFFF_8880_0001_0000
TOKEN0 = KERNEL_SHSTK + 0xFF8


def kernel(**registers: int) -> Machine:
    """At CPL 0, with a supervisor shadow stack and a free token at its top."""
    c = machine64(**{"cpl": 0, "cs": 0x10, "s_cet": 1, "ssp": 0, "pl0_ssp": TOKEN0} | registers)
    c.memory.map(KERNEL_SHSTK, Kind.KERNEL_SHADOW)
    c.memory.poke(TOKEN0, TOKEN0)
    return c


def test_wruss_writes_to_a_users_shadow_stack() -> None:
    """Neither U_CET nor S_CET has to allow it."""
    c = kernel(u_cet=0, s_cet=0)
    wrussq(c, SHSTK_B, 0x1122_3344_5566_7788)
    wrussd(c, SHSTK_B + 4, 0xAAAA_BBBB_CCCC_DDDD)
    assert c.memory.peek(SHSTK_B) == 0xCCCC_DDDD_5566_7788
    assert c.rip == HERE + 6 + 5


def test_wruss_is_privileged() -> None:
    """#GP(0) above CPL 0, #UD first without CR4.CET."""
    c = machine64(u_cet=3)
    with faults(c, Vector.GP):
        wrussq(c, SHSTK_B, 1)
    c.cr4_cet = 0
    with faults(c, Vector.UD):
        wrussq(c, SHSTK_B, 1)


def test_wruss_of_a_misaligned_address() -> None:
    """#GP(0)."""
    c = kernel()
    with faults(c, Vector.GP):
        wrussq(c, SHSTK_B + 4, 1)
    with faults(c, Vector.GP):
        wrussd(c, SHSTK_B + 1, 1)


def test_wruss_of_memory_that_is_no_users_shadow_stack() -> None:
    """The page fault has the user bit set, as if user code had stored."""
    c = kernel()
    with faults(c, Vector.PF, P | U | SS | W, STACK):
        wrussq(c, STACK, 1)
    with faults(c, Vector.PF, P | U | SS | W, KERNEL_SHSTK):
        wrussq(c, KERNEL_SHSTK, 1)
    with faults(c, Vector.PF, U | SS | W, 0x1000):
        wrussd(c, 0x1000, 1)
    with faults(c, Vector.GP):
        wrussd(c, 1 << 60, 1)


def test_setssbsy_switches_to_the_stack_of_pl0_ssp() -> None:
    """Its token becomes busy."""
    c = kernel()
    setssbsy(c)
    assert (c.ssp, c.memory.peek(TOKEN0), c.rip) == (TOKEN0, TOKEN0 | 1, HERE + 4)


def test_a_stack_can_be_taken_once() -> None:
    """A busy token: #CP(SETSSBSY)."""
    c = kernel()
    setssbsy(c)
    with faults(c, Vector.CP, ControlProtection.SETSSBSY):
        setssbsy(c)


def test_setssbsy_in_compatibility_mode() -> None:
    """A token above 4 GiB: #CP(SETSSBSY)."""
    c = kernel(long_mode=False, cs=0x08)
    with faults(c, Vector.CP, ControlProtection.SETSSBSY):
        setssbsy(c)


def test_clrssbsy_gives_the_stack_back() -> None:
    """The token is free, CF is 0, and SSP is 0."""
    c = kernel(cf=1)
    setssbsy(c)
    clrssbsy(c, TOKEN0)
    assert (c.ssp, c.cf, c.memory.peek(TOKEN0), c.rip) == (0, 0, TOKEN0, HERE + 8)


def test_clrssbsy_without_a_busy_token() -> None:
    """CF is 1, the word stays, and SSP is 0 all the same."""
    c = kernel(ssp=64)
    clrssbsy(c, TOKEN0)
    assert (c.ssp, c.cf, c.memory.peek(TOKEN0)) == (0, 1, TOKEN0)


def test_misaligned_supervisor_stacks() -> None:
    """#GP(0)."""
    c = kernel(pl0_ssp=TOKEN0 - 4)
    with faults(c, Vector.GP):
        setssbsy(c)
    with faults(c, Vector.GP):
        clrssbsy(c, TOKEN0 - 4)


def test_supervisor_stacks_are_privileged() -> None:
    """#GP(0) above CPL 0."""
    c = kernel(cpl=3, cs=0x33)
    with faults(c, Vector.GP):
        setssbsy(c)
    with faults(c, Vector.GP):
        clrssbsy(c, TOKEN0)


@pytest.mark.parametrize("off", ["cr4_cet", "s_cet"])
def test_supervisor_stacks_have_to_be_on(off: str) -> None:
    """#UD, at every CPL: so in Linux, which has no supervisor shadow stacks."""
    for cpl in (0, 3):
        c = kernel(**{off: 0, "cpl": cpl})
        with faults(c, Vector.UD):
            setssbsy(c)
        with faults(c, Vector.UD):
            clrssbsy(c, TOKEN0)


def test_a_users_shadow_stack_is_no_supervisor_stack() -> None:
    """A page fault of supervisor type."""
    c = kernel(pl0_ssp=SHSTK_B)
    with faults(c, Vector.PF, P | SS | W, SHSTK_B):
        setssbsy(c)
    with faults(c, Vector.PF, P | SS | W, SHSTK_B):
        clrssbsy(c, SHSTK_B)
