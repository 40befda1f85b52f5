"""Laws of the CPU text, on random machines and over every instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cpu_machine import (
    PAGE,
    SHSTK32_A,
    SHSTK_A,
    TOP32_A,
    TOP_A,
    TOP_B,
    Kind,
    Machine,
    machine32,
    machine64,
)
from cpu_random import Case, cases
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from term_world import TermCpu, lift, lower

from model.cpu import (
    INSTRUCTIONS,
    ControlProtection,
    Vector,
    call_abs,
    call_far,
    call_rel,
    incsspd,
    incsspq,
    ret,
    ret_far,
    rstorssp,
    saveprevssp,
    sysexit,
    sysret,
)
from model.cpu.concrete import CpuFault
from model.cpu.mode import shadow_stack_enabled
from model.cpu.words import MASK64

EVERY_INSTRUCTION = pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda f: f.__name__)
Instruction = Callable[..., Any]
SEARCH = settings(max_examples=5000, deadline=None, database=None, phases=[Phase.generate])

#: They return to 32-bit code without a check of SSP.
UNCHECKED = (sysret, sysexit)


def execute(c: Any, instruction: Instruction, operands: dict[str, Any]) -> Any:
    """Its result, or how it faulted."""
    try:
        return instruction(c, **operands)
    except CpuFault as fault:
        return (fault.vector, fault.error_code, fault.address)


def faulted(outcome: Any) -> bool:
    """The outcome is a fault."""
    return isinstance(outcome, tuple)


def changes_something_by_a_fault(case: Case) -> bool:
    """The instruction faults, and registers or memory are not what they were."""
    c = case.machine()
    before = c.memory.snapshot()
    if not faulted(execute(c, case.instruction, case.operands)):
        return False
    return (c.copy(), c.memory.snapshot()) != (case.registers, before)


@EVERY_INSTRUCTION
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_faulting_instruction_changes_nothing(data: st.DataObject, instruction: Any) -> None:
    """Nothing is rolled back: it follows from the order of the text."""
    assert not changes_something_by_a_fault(data.draw(cases(instruction)))


@EVERY_INSTRUCTION
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_text_asks_nothing_else_of_a_word(data: st.DataObject, instruction: Any) -> None:
    """On words that can only do what ``model.cpu.world`` names, it does the same."""
    case = data.draw(cases(instruction))
    c, d = case.machine(), case.machine()
    terms = TermCpu(d, d.memory)
    operands = {n: v if n == "width" else lift(v) for n, v in case.operands.items()}
    assert lower(execute(terms, instruction, operands)) == execute(c, instruction, case.operands)
    assert terms.below.copy() == c.copy()
    assert d.memory.snapshot() == c.memory.snapshot()


@settings(max_examples=500, deadline=None)
@given(case=st.sampled_from(INSTRUCTIONS).flatmap(cases))
def test_ssp_stays_a_multiple_of_4(case: Case) -> None:
    """Whatever is executed; and IA32_PL0_SSP and IA32_PL3_SSP with it."""
    c = case.machine()
    execute(c, case.instruction, case.operands)
    assert (c.ssp % 4, c.pl0_ssp % 4, c.pl3_ssp % 4) == (0, 0, 0)


@settings(max_examples=500, deadline=None)
@given(case=st.sampled_from([f for f in INSTRUCTIONS if f not in UNCHECKED]).flatmap(cases))
def test_32_bit_code_keeps_its_pointers_below_4_gib(case: Case) -> None:
    """RIP, RSP and, with shadow stacks on, SSP; wherever it jumps, calls and returns to."""
    c = case.machine()
    execute(c, case.instruction, case.operands)
    ssp = c.ssp if shadow_stack_enabled(c) else 0
    assert c.long_mode or max(c.rip, c.rsp, ssp) < 1 << 32


@EVERY_INSTRUCTION
def test_the_laws_are_about_something(instruction: Any) -> None:
    """Among the random cases there are some where the instruction does not fault."""

    def succeeds(case: Case) -> bool:
        return not faulted(execute(case.machine(), instruction, case.operands))

    assert find(cases(instruction), succeeds, settings=SEARCH)


# -- the law has teeth: orders of the text that would break it -------------------------------


def ret_that_pops_first(c: Machine) -> None:
    """Wrong: SSP moves before the comparison."""
    back = c.load(c.rsp, 8)
    c.ssp += 8
    if c.shadow_load(c.ssp - 8, 8) != back:
        c.fault(Vector.CP, ControlProtection.NEAR_RET)
    c.rip = back
    c.rsp += 8


def call_that_pushes_first(c: Machine, target: int) -> None:
    """Wrong: the data stack is written before the shadow stack is known to have room."""
    c.store((c.rsp - 8) & MASK64, 8, c.rip)
    c.shadow_store((c.ssp - 8) & MASK64, 8, c.rip)
    c.rsp, c.ssp, c.rip = c.rsp - 8, c.ssp - 8, target


@pytest.mark.parametrize("wrong", [ret_that_pops_first, call_that_pushes_first])
def test_a_wrong_order_is_found(wrong: Instruction) -> None:
    """The random cases tell an instruction that commits too early."""
    try:
        find(cases(wrong), changes_something_by_a_fault, settings=SEARCH)
    except NoSuchExample:
        pytest.fail("not found")


# -- CALL and RET ------------------------------------------------------------------------------


def near(c: Machine, target: int) -> int:
    call_abs(c, target)
    return 2


def relative(c: Machine, target: int) -> int:
    call_rel(c, (target - c.rip - 5) & MASK64)
    return 5


def far(c: Machine, target: int) -> int:
    call_far(c, c.cs, target, width=8 if c.long_mode else 4)
    return 3


def ret_near(c: Machine) -> None:
    ret(c)


def ret_from_far(c: Machine) -> None:
    ret_far(c, width=8 if c.long_mode else 4)


@pytest.mark.parametrize("machine", [machine64, machine32])
@pytest.mark.parametrize(
    ("call", "back"), [(near, ret_near), (relative, ret_near), (far, ret_from_far)]
)
@given(
    target=st.integers(0, (1 << 32) - 1),
    offset=st.integers(0, 64).map(lambda n: 4 * n),
    room=st.integers(64, 512).map(lambda n: 4 * n),
)
def test_call_then_ret_is_the_identity(
    machine: Callable[[], Machine],
    call: Callable[[Machine, int], int],
    back: Callable[[Machine], None],
    target: int,
    offset: int,
    room: int,
) -> None:
    """On SSP, RSP and RIP, which is then that of the next instruction."""
    c = machine()
    c.rsp += offset
    c.ssp += offset % 252 - room
    before = c.copy()
    length = call(c, target)
    if call is relative and target == before.rip + 5:
        return
    assert c.rip == target and c.ssp < before.ssp
    back(c)
    before.rip += length
    assert c.copy() == before


# -- INCSSP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("incssp", "width"), [(incsspq, 8), (incsspd, 4)])
@given(count=st.integers(0, MASK64), ssp=st.integers(0, 2 * PAGE // 4))
def test_incssp_moves_by_its_low_byte_and_touches_both_ends(
    incssp: Instruction, width: int, count: int, ssp: int
) -> None:
    """At most 255 elements; the first is loaded even if there is none, and the last."""
    c = machine64(ssp=SHSTK_A + 4 * ssp)
    start, elements = c.ssp, count & 0xFF
    if faulted(execute(c, incssp, {"count": count})):
        assert start + max(elements, 1) * width > TOP_A
        return
    assert c.ssp == start + elements * width <= start + 255 * 8
    touched = {(address, w) for _, address, w, _ in c.memory.log}
    assert touched == {(start, width), (start + max(elements - 1, 0) * width, width)}


# -- guard gaps --------------------------------------------------------------------------------

WALKS = st.lists(
    st.tuples(
        st.sampled_from(("near", "relative", "far", "ret", "incsspq", "incsspd")),
        st.integers(0, 255),
    ),
    max_size=60,
)


@settings(deadline=None)
@pytest.mark.parametrize("machine", [machine64, machine32])
@given(walk=WALKS, start=st.integers(0, 3 * PAGE // 4))
def test_no_walk_leaves_a_shadow_stack_over_a_gap(
    machine: Callable[[], Machine], walk: list[tuple[str, int]], start: int
) -> None:
    """CALL, RET and INCSSP step over no 4096 bytes that are not shadow stack.

    Whatever they do on the way, SSP stays between the bottom and the top of its stack:
    with the next stack one page above, and an SSP that may start in the gap already.
    """
    c = machine()
    bottom, top = (SHSTK_A, TOP_A) if c.long_mode else (SHSTK32_A, TOP32_A)
    c.ssp = bottom + 4 * start
    entered = bottom <= c.ssp <= top
    steps: dict[str, Callable[[int], Any]] = {
        "near": lambda n: near(c, 0x40_0000 + n),
        "relative": lambda n: relative(c, 0x40_0000 + n),
        "far": lambda n: far(c, 0x40_0000 + n),
        "ret": lambda n: matching_ret(c),
        "incsspq": lambda n: incsspq(c, n) if c.long_mode else None,
        "incsspd": lambda n: incsspd(c, n),
    }
    for name, count in walk:
        try:
            steps[name](count)
        except CpuFault:
            continue
        if entered:
            assert bottom <= c.ssp <= top
        else:  # in the gap above the stack: only down onto the stack, by a CALL near its top
            entered = c.ssp <= top
            assert entered or c.ssp > top


def matching_ret(c: Machine) -> None:
    """A RET to whatever the shadow stack says."""
    width = 8 if c.long_mode else 4
    if c.memory.mapped(c.ssp, width):
        c.memory.poke(c.rsp, c.memory.peek(c.ssp, width), width)
    ret(c)


@pytest.mark.parametrize("ssp", range(SHSTK_A, SHSTK_A + 64, 4))
def test_a_call_at_the_bottom_touches_the_gap(ssp: int) -> None:
    """It either fits above the gap, or faults in it; it never lands below it."""
    for call in (near, relative, far):
        c = machine64(ssp=ssp)
        c.memory.map(SHSTK_A - 2 * PAGE, Kind.SHADOW)  # another stack, below the gap
        try:
            call(c, 0x40_0000)
        except CpuFault as fault:
            assert fault.vector == Vector.PF
            assert fault.address is not None and SHSTK_A - PAGE <= fault.address < SHSTK_A
        else:
            assert c.ssp >= SHSTK_A


# -- tokens ------------------------------------------------------------------------------------


@given(
    depth_a=st.integers(1, 500).map(lambda n: 4 * n),
    depth_b=st.integers(1, 500).map(lambda n: 8 * n),
)
def test_switching_leaves_one_token_and_switching_back_restores_ssp(
    depth_a: int, depth_b: int
) -> None:
    """RSTORSSP and SAVEPREVSSP there and back: the same SSP, up to an alignment hole.

    The token that was used is used up, the one on the old stack works, once.
    """
    old, token_b = TOP_A - depth_a, TOP_B - depth_b
    c = machine64(ssp=old)
    c.memory.poke(token_b, (token_b + 8) | 1)
    rstorssp(c, token_b)
    saveprevssp(c)
    assert c.ssp == token_b + 8
    token_a = (old & ~7) - 8
    assert c.memory.peek(token_a) == old | 1
    used = (Vector.CP, ControlProtection.RSTORSSP, None)
    assert execute(c, rstorssp, {"operand": token_b}) == used
    rstorssp(c, token_a)
    assert (c.ssp, c.cf) == (token_a, old >> 2 & 1)
    if c.cf == 0:
        saveprevssp(c)
        assert c.ssp == old
        assert execute(c, rstorssp, {"operand": token_a}) == used


@given(words=st.lists(st.integers(0, MASK64), min_size=8, max_size=8), at=st.integers(0, 7))
def test_only_its_own_token_restores_a_stack(words: list[int], at: int) -> None:
    """RSTORSSP succeeds exactly on the two words that are tokens for that address."""
    base = SHSTK_A + 64
    c = machine64()
    for n, word in enumerate(words):
        c.memory.poke(base + 8 * n, word)
    operand = base + 8 * at
    good = words[at] in ((operand + 8) | 1, (operand + 12) | 1)
    assert faulted(execute(c, rstorssp, {"operand": operand})) == (not good)
