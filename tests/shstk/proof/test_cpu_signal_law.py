"""The law of the symbolic user memory: its paths are what the text does on numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cpu.concrete import REGISTERS, USER32_CS, USER_CS
from model.designs import X86_DESIGNS
from shstk.proof.cpu_moves import MOVES
from shstk.proof.cpu_numbers import Numbers, NumberStep
from shstk.proof.cpu_paths import Paths, paths_of
from shstk.proof.forking import Stop
from shstk.proof.memory import Kind
from shstk.proof.user_world import FLAGS, WORDS

TOP = 0x7FFF_F000_2000  # of a stack, of which what is below and above is drawn
OPERANDS = "handler restorer data_frame data_word rip_after rsp_after cs_after".split()
MOVED = ("deliver", "deliver-x32", "sigreturn", "round-trip")


@cache
def paths(move: str, design: str) -> Paths:
    """Of a move with kernel text."""
    return paths_of(move, MOVES[move], X86_DESIGNS[design])


@st.composite
def states(draw: st.DrawFn, move: str, design: str) -> dict[str, int]:
    """Numbers such that most moves go through, and now and then one does not."""

    def mostly(*values: int) -> int:
        return draw(st.sampled_from((values[0],) * 4 + values))

    ssp = TOP - mostly(64, 0, 8, 16, 4, 4096, 1 << 47)
    bits = X86_DESIGNS[design].prctl.shstk
    numbers: dict[str, int] = {}
    for when, at in (("", ssp), ("later_", ssp - 16)):
        numbers |= {
            **{f"{when}ssp": at % (1 << 64), f"{when}rip": 0x40_1000, f"{when}cs": USER_CS},
            **{f"{when}rsp": 0x7000_0000_0800 + mostly(0, 4, 4096), f"{when}cpl": mostly(3, 0)},
            **{f"{when}cr4_cet": 1, f"{when}u_cet": mostly(1, 0, 3), f"{when}long_mode": 1},
            **{f"{when}s_cet": mostly(0, 1), f"{when}pl3_ssp": mostly(0, TOP)},
            **{f"{when}features": mostly(bits, 0), f"{when}shstk_size": mostly(4096, 0)},
            **{f"{when}missing": mostly(0, 1), f"{when}ia32": mostly(0, 1)},
            f"{when}killed": mostly(0, 1),
        }
        for page in (TOP - 8192, TOP - 4096, TOP, 0x7000_0000_0000, 0x7000_0000_1000):
            usual = Kind.ORDINARY if page < TOP - 8192 else Kind.SHADOW
            kind = mostly(usual, *(k for k in Kind if k < Kind.KERNEL))
            numbers[f"{when}kind[{page >> 12:#x}]"] = kind
    numbers |= {
        **{"handler": 0x40_2000, "restorer": mostly(0x40_3000, 0), "data_word": 7},
        **{"data_frame": 0x7000_0000_0100 + mostly(0, 0xEFC, 4), "rip_after": 0x40_1008},
        **{"rsp_after": 0x7000_0000_0800, "cs_after": mostly(USER_CS, USER32_CS)},
    }
    frames = {"linux-6.12": ssp % (1 << 64) | 1 << 63, "v1": ssp % (1 << 64) | 1}
    frame = mostly(frames[design], 0, ssp % (1 << 64), (ssp + 8) % (1 << 64) | 1 << 63)
    if move == "sigreturn":
        numbers["ssp"] = (ssp - 8) % (1 << 64)
    for when in ("", "later_"):
        numbers[f"{when}mem[{(ssp - 8) % (1 << 64) >> 3:#x}]"] = frame
        numbers[f"{when}mem[{(ssp - 16) % (1 << 64) >> 3:#x}]"] = numbers["restorer"]
        numbers[f"{when}mem[{numbers['later_rsp'] >> 3:#x}]"] = numbers["restorer"]
    return numbers


def evaluate(numbers: Numbers, term: Any) -> Any:
    """A term on numbers, by substitution; what they do not name is 0."""
    constants, functions = [], []
    for when in ("", "later_"):
        words = [*(r for r in REGISTERS if r != "long_mode"), *WORDS, *OPERANDS]
        constants += [
            (z3.BitVec(n, 64), z3.BitVecVal(numbers.get(n, 0), 64))
            for n in (when + w for w in words)
        ]
        flags = (when + f for f in ("long_mode", *FLAGS))
        constants += [(z3.Bool(n), z3.BoolVal(bool(numbers.get(n, 0)))) for n in flags]
        for name, of, to in (("kind", 52, 3), ("mem", 61, 64)):
            body = z3.BitVecVal(0, to)
            for key, value in numbers.items():
                if key.startswith(f"{when}{name}["):
                    index = int(key.partition("[")[2].rstrip("]"), 16)
                    body = z3.If(
                        z3.Var(0, z3.BitVecSort(of)) == index, z3.BitVecVal(value, to), body
                    )
            functions.append((z3.Function(when + name, z3.BitVecSort(of), z3.BitVecSort(to)), body))
        above = z3.Function(f"{when}above_is_shadow", z3.BitVecSort(64), z3.BoolSort())
        functions.append((above, z3.BoolVal(False)))
    value = z3.simplify(z3.substitute_funs(z3.substitute(term, *constants), *functions))
    if z3.is_bool(value):
        assert z3.is_true(value) or z3.is_false(value), value
        return z3.is_true(value)
    return value.as_long()


@pytest.mark.parametrize("design", ("linux-6.12", "v1"))
@pytest.mark.parametrize("move", MOVED)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_path_on_numbers_is_what_the_text_does(
    data: st.DataObject, move: str, design: str
) -> None:
    """Registers, errno, exception and the words around SSP; or both are outside."""
    numbers = data.draw(states(move, design))
    found = paths(move, design)
    ways = [p for p in found.paths if evaluate(numbers, p.condition)]
    try:
        step = NumberStep(MOVES[move], X86_DESIGNS[design], numbers)
    except Stop:
        assert ways == [] and any(evaluate(numbers, o) for o in found.outside)
        return
    [way] = ways
    assert (way.error != 0) == step.error
    assert (way.fault is not None) == step.faulted
    now = way.after.registers
    for name in REGISTERS:
        term = now.long_mode if name == "long_mode" else now.words[name]
        assert evaluate(numbers, term) == getattr(step.after.registers, name), name
    for address in range(numbers["ssp"] - 32, numbers["ssp"] + 16, 8):
        at = z3.BitVecVal(address % (1 << 64), 64)
        word = evaluate(numbers, way.after.memory.load(at, 8))
        assert word == step.after.word(address % (1 << 64))


@pytest.mark.parametrize("design", ("linux-6.12", "v1"))
def test_the_law_is_about_round_trips_that_succeed(design: str) -> None:
    """The usual numbers are of a signal that is delivered and returned from."""
    ssp = TOP - 64
    frame = ssp | (1 << 63 if design == "linux-6.12" else 1)
    numbers = {
        **{w + n: v for w in ("", "later_") for n, v in USUAL.items()},
        **{"ssp": ssp, "later_ssp": ssp - 16, "restorer": 0x40_3000, "handler": 0x40_2000},
        **{"data_frame": 0x7000_0000_0100, "later_rsp": 0x7000_0000_0800},
        **{f"{w}features": X86_DESIGNS[design].prctl.shstk for w in ("", "later_")},
        f"later_mem[{ssp - 8 >> 3:#x}]": frame,
        f"later_mem[{ssp - 16 >> 3:#x}]": 0x40_3000,
        f"later_mem[{0x7000_0000_0800 >> 3:#x}]": 0x40_3000,
    }
    step = NumberStep(MOVES["round-trip"], X86_DESIGNS[design], numbers)
    assert step.done and step.after.ssp == ssp


USUAL = {
    **{"cpl": 3, "cr4_cet": 1, "u_cet": 1, "long_mode": 1, "shstk_size": 4096},
    f"kind[{TOP - 4096 >> 12:#x}]": Kind.SHADOW,
    f"kind[{0x7000_0000_0000 >> 12:#x}]": Kind.ORDINARY,
}
