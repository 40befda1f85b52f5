"""The law of the symbolic world: on any numbers, its paths are what the concrete CPU does."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import z3
from hypothesis import find, given, settings
from hypothesis import strategies as st

from model.cpu import INSTRUCTIONS, Frame
from model.cpu.concrete import REGISTERS, CpuFault
from model.cpu.shadow import incssp, incsspq
from shstk.proof import memory
from shstk.proof.cpu_moves import single
from shstk.proof.cpu_paths import Path as Way
from shstk.proof.cpu_paths import Paths, paths_of
from shstk.proof.memory import Pages

sys.path.insert(0, str(Path(__file__).parents[2] / "model" / "cpu"))
from cpu_machine import NOISE, PAGE, Kind, SparseMemory  # noqa: E402
from cpu_random import Case, cases  # noqa: E402

KINDS = {
    Kind.RW: memory.Kind.ORDINARY,
    Kind.RO: memory.Kind.READ_ONLY,
    Kind.SHADOW: memory.Kind.SHADOW,
    Kind.KERNEL: memory.Kind.KERNEL,
    Kind.KERNEL_SHADOW: memory.Kind.KERNEL_SHADOW,
}
PER_INSTRUCTION = 12


@cache
def paths(name: str, width: int) -> Paths:
    """The CPU's own rules: user pages may lie in the upper half."""
    instruction = next(f for f in INSTRUCTIONS if f.__name__ == name)
    return paths_of(name, single(instruction, width), None, Pages(below=None))


class Evaluation:
    """Terms on the numbers of a case, by substitution: no solver has a part in it."""

    def __init__(self, case: Case) -> None:
        self.constants: list[tuple[Any, Any]] = []
        for register in REGISTERS:
            value = getattr(case.registers, register)
            self._set(register, bool(value) if register == "long_mode" else value)
        for name, value in case.operands.items():
            if isinstance(value, Frame):
                for part in ("rip", "cs", "rsp", "cf"):
                    self._set(f"frame.{part}", getattr(value, part))
            elif name != "width":
                self._set(name, value)
        page = z3.BitVecSort(52)
        index = z3.BitVecSort(61)
        self.functions = [
            (z3.Function("kind", page, z3.BitVecSort(3)), self._kinds(case.memory)),
            (z3.Function("mem", index, z3.BitVecSort(64)), self._words(case.memory)),
        ]

    def _set(self, name: str, value: int | bool) -> None:
        if isinstance(value, bool):
            self.constants.append((z3.Bool(name), z3.BoolVal(value)))
        else:
            self.constants.append((z3.BitVec(name, 64), z3.BitVecVal(value, 64)))

    def _kinds(self, there: SparseMemory) -> Any:
        at, body = z3.Var(0, z3.BitVecSort(52)), z3.BitVecVal(0, 3)
        for page, kind in there.kinds.items():
            body = z3.If(at == page, z3.BitVecVal(int(KINDS[kind]), 3), body)
        return body

    def _words(self, there: SparseMemory) -> Any:
        at, body = z3.Var(0, z3.BitVecSort(61)), z3.BitVecVal(NOISE, 64)
        for page in there.kinds:
            for address in range(page * PAGE, (page + 1) * PAGE, 8):
                word = there.peek(address)
                if word != NOISE:
                    body = z3.If(at == address >> 3, z3.BitVecVal(word, 64), body)
        return body

    def __call__(self, term: Any) -> Any:
        """The value: a bool or a number."""
        value = z3.simplify(
            z3.substitute_funs(z3.substitute(term, *self.constants), *self.functions)
        )
        if z3.is_bool(value):
            assert z3.is_true(value) or z3.is_false(value), value
            return z3.is_true(value)
        return value.as_long()


def taken(case: Case, of: Evaluation) -> Way:
    """The one path whose condition is true."""
    found = paths(case.instruction.__name__, case.operands.get("width", 8))
    ways = [p for p in found.paths if of(p.condition)]
    assert len(ways) == 1 and of(found.covered)
    return ways[0]


def concrete(case: Case) -> tuple[Any, Any]:
    """The machine afterwards, and how it faulted."""
    machine = case.machine()
    try:
        case.instruction(machine, **case.operands)
    except CpuFault as fault:
        return machine, fault
    return machine, None


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda f: f.__name__)
@settings(max_examples=PER_INSTRUCTION, deadline=None)
@given(data=st.data())
def test_a_path_on_numbers_is_what_the_concrete_cpu_does(
    data: st.DataObject, instruction: Any
) -> None:
    """Registers, every byte of memory, and vector, error code and address of a fault."""
    case = data.draw(cases(instruction))
    of = Evaluation(case)
    way = taken(case, of)
    machine, fault = concrete(case)
    now = way.after.registers
    for name in REGISTERS:
        term = now.long_mode if name == "long_mode" else now.words[name]
        assert of(term) == getattr(machine, name), name
    there = case.machine().memory
    for write in way.after.memory.writes:
        there.poke(of(write.address), of(write.value) % (1 << 8 * write.width), write.width)
    assert there.snapshot() == machine.memory.snapshot()
    assert (way.fault is None) == (fault is None)
    if way.fault is not None:
        assert of(way.fault.vector) == fault.vector
        assert of(way.fault.code) == fault.error_code
        if fault.address is not None:
            assert of(way.fault.address) == fault.address


@settings(max_examples=40, deadline=None)
@given(case=st.sampled_from(INSTRUCTIONS).flatmap(cases), low=st.integers(0, 15), at=st.booleans())
def test_memory_read_as_terms_is_what_has_been_written(case: Case, low: int, at: bool) -> None:
    """Words, half words and bytes at any alignment around what an instruction has written."""
    of = Evaluation(case)
    way = taken(case, of)
    machine, _ = concrete(case)
    base = case.registers.ssp if at else case.registers.rsp
    where = (base - 8 + low) % (1 << 64)
    for width in (8, 4, 1):
        if machine.memory.mapped(where, width):
            address = z3.BitVecVal(where, 64)
            found = of(way.after.memory.load(address, width))
            assert found == machine.memory.peek(where, width)


def pops_too_little(c: Any, count: Any, length: int = 5) -> None:
    """Wrong: INCSSPQ that counts in steps of 4 bytes."""
    incssp(c, count & 0xFF, 4, 2, length)


def test_the_law_has_teeth() -> None:
    """Paths of another text are not what the CPU does, and a random case shows it."""
    wrong = paths_of("incsspq", single(pops_too_little), None, Pages(below=None))

    def differs(case: Case) -> bool:
        of = Evaluation(case)
        way = next(p for p in wrong.paths if of(p.condition))
        machine, fault = concrete(case)
        same = (way.fault is None) == (fault is None)
        return not same or of(way.after.registers.words["ssp"]) != machine.ssp

    assert find(cases(incsspq), differs, settings=settings(max_examples=500, database=None))
