"""Cases as text, what the generator makes, and how instructions are encoded."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from shstk.conform.instructions import layout
from shstk.conform.instructions.ahead import inside
from shstk.conform.instructions.cases import read_cases
from shstk.conform.instructions.generate import generate, one
from shstk.conform.instructions.predict import predict
from shstk.conform.instructions.table import INSTRUCTIONS
from shstk.errors import UserError

SEED, MANY = 4, 1500
#: Instructions as an assembler knows them, in 64-bit and in 32-bit code ('': there is none).
ASSEMBLY: dict[tuple[str, tuple[int, ...]], tuple[str, str]] = {
    ("call_rel", (0x1000,)): ("call .+0x1005", "call .+0x1005"),
    ("call_rel", (-16,)): ("call .-11", "call .-11"),
    ("call_abs", ()): ("call *%rax", "call *%eax"),
    ("ret", ()): ("ret", "ret"),
    ("ret", (0xFFFF,)): ("ret $0xffff", "ret $0xffff"),
    ("endbr64", ()): ("endbr64", "endbr64"),
    ("endbr32", ()): ("endbr32", "endbr32"),
    ("jmp_far", (4,)): ("ljmpl *(%rdi)", "ljmp *(%edi)"),
    ("jmp_far", (8,)): ("rex.w ljmp *(%rdi)", ""),
    ("call_far", (4,)): ("lcall *(%rdi)", "lcall *(%edi)"),
    ("call_far", (8,)): ("rex.w lcall *(%rdi)", ""),
    ("ret_far", (4,)): ("lretl", "lret"),
    ("ret_far", (8,)): ("lretq", ""),
    ("ret_far", (4, 8)): ("lretl $8", "lret $8"),
    ("ret_far", (8, 0xFFFF)): ("lretq $0xffff", ""),
    ("iret", (4,)): ("iretl", "iret"),
    ("iret", (8,)): ("iretq", ""),
    ("rdsspd", ()): ("rdsspd %eax", "rdsspd %eax"),
    ("rdsspq", ()): ("rdsspq %rax", ""),
    ("incsspd", ()): ("incsspd %ecx", "incsspd %ecx"),
    ("incsspq", ()): ("incsspq %rcx", ""),
    ("rstorssp", ()): ("rstorssp (%rdi)", "rstorssp (%edi)"),
    ("saveprevssp", ()): ("saveprevssp", "saveprevssp"),
    ("wrssd", ()): ("wrssd %eax, (%rdi)", "wrssd %eax, (%edi)"),
    ("wrssq", ()): ("wrssq %rax, (%rdi)", ""),
    ("wrussd", ()): ("wrussd %eax, (%rdi)", "wrussd %eax, (%edi)"),
    ("wrussq", ()): ("wrussq %rax, (%rdi)", ""),
    ("setssbsy", ()): ("setssbsy", "setssbsy"),
    ("clrssbsy", ()): ("clrssbsy (%rdi)", "clrssbsy (%edi)"),
    ("store", ()): ("mov %rax, (%rdi)", ""),
    ("load", ()): ("mov (%rdi), %rax", ""),
    ("push", ()): ("push %rax", ""),
    ("pop", ()): ("pop %rax", ""),
    ("map_shadow_stack", ()): ("syscall", ""),
}


def test_cases_are_read_back_from_their_text() -> None:
    """What the guest reads is the case, the whole of it."""
    cases = list(generate(SEED, 200))
    text = layout.header() + "".join(case.text() for case in cases)
    again = read_cases(text)
    assert [case.text() for case in again] == [case.text() for case in cases]
    assert [predict(case) for case in again] == [predict(case) for case in cases]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("case 1 wrss 0\ndo c3 ret", "no end"),
        ("case 1 some 0\nend", "some"),
        ("case 1 wrss 0\ndo c4 ret\nend", "c4"),
        ("case 1 wrss 0\nput x\nend", "put"),
        ("case 1 wrss 0\nset rip\nend", "case"),
    ],
)
def test_wrong_cases_are_refused(text: str, word: str) -> None:
    """A wrong file is an error of the user's, with its line."""
    with pytest.raises(UserError, match="line 1") as caught:
        read_cases(text)
    assert word in str(caught.value)


def test_a_case_depends_on_seed_and_number_alone() -> None:
    """A case can be made again without those before it, and seeds differ."""
    assert [one(SEED, n) for n in range(20, 30)] == list(generate(SEED, 10, first=20))
    assert list(generate(SEED, 10)) != list(generate(SEED + 1, 10))


def test_generated_cases_reach_everything() -> None:
    """Every instruction succeeds and faults in each way that is its own, in both modes."""
    met = defaultdict(set)
    modes = set()
    for case in generate(SEED, MANY):
        for step, outcome in zip(case.steps, predict(case), strict=True):
            fault = outcome.fault
            met[step.name].add((fault.vector, fault.error) if fault else None)
            modes.add((step.name, step.long_mode))
    unprivileged = INSTRUCTIONS.keys() - {"wrussd", "wrussq", "setssbsy", "clrssbsy"}
    assert all(None in met[name] for name in unprivileged)
    assert (21, 1) in met["ret"] and (13, 0) in met["ret"] and (14, 0x44) in met["ret"]
    assert {(21, 2)} <= met["ret_far"] & met["iret"]
    assert {(21, 4), (13, 0), (14, 0x46), (14, 0x47), (6, 0)} <= met["rstorssp"]
    assert {(13, 0), (14, 0x44), (14, 0x46), (6, 0)} <= met["saveprevssp"]
    assert {(13, 0), (14, 0x46), (14, 0x47), (6, 0)} <= met["wrssq"]
    assert {(14, 0x44), (14, 0x45), (6, 0)} <= met["incsspq"] & met["incsspd"]
    assert {(14, 6), (14, 7), (14, 0x46), (14, 0x47)} <= met["call_abs"]
    assert {(14, 6), (14, 7)} <= met["store"] and {(14, 4)} <= met["load"]
    assert met["setssbsy"] == met["clrssbsy"] == {(6, 0)}
    assert met["wrussd"] | met["wrussq"] == {(13, 0)}
    both = {name for name in INSTRUCTIONS if ASSEMBLY.get((name, ()), ("", "-"))[1]}
    assert {(name, mode) for name in both for mode in (True, False)} <= modes


def test_generated_cases_are_about_what_somebody_says() -> None:
    """No step is one of which neither the text nor the manual says what it does."""
    assert all(inside(case) for case in generate(SEED, 300))


def test_areas_do_not_overlap() -> None:
    """Every page is of one area, and the slots for map_shadow_stack are free."""
    areas = sorted(layout.AREAS, key=lambda area: area.start)
    assert all(low.end <= high.start for low, high in pairwise(areas))
    for base in (layout.LOW, layout.HIGH):
        slot = layout.slot(base)
        assert not any(area.start <= slot < area.end for area in areas)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("long_mode", (True, False))
def test_an_assembler_encodes_instructions_the_same(tmp_path: Path, long_mode: bool) -> None:
    """The bytes are those of the instruction that the text is of."""
    forms = {key: pair[0 if long_mode else 1] for key, pair in ASSEMBLY.items()}
    assert {name for name, _ in forms} == INSTRUCTIONS.keys()
    there = {key: form for key, form in forms.items() if form}
    for (name, arguments), form in forms.items():
        assert bool(form) == bool(INSTRUCTIONS[name].encode(long_mode, *arguments))
    source, target = tmp_path / "all.S", tmp_path / "all.o"
    code = "".join(f'.section s{n}, "ax"\n{form}\n' for n, form in enumerate(there.values()))
    source.write_text(code)
    subprocess.run(
        ["gcc", "-m64" if long_mode else "-m32", "-c", source, "-o", target],
        check=True,
        capture_output=True,
    )
    for n, (name, arguments) in enumerate(there):
        section = tmp_path / "section"
        subprocess.run(
            ["objcopy", "-O", "binary", f"--only-section=s{n}", target, section], check=True
        )
        assert section.read_bytes() == INSTRUCTIONS[name].encode(long_mode, *arguments), name
