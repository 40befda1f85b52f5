"""The real guest program: on this machine's own CPU as far as that goes, and on a booted kernel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import pytest

from model.cpu.words import MASK64
from shstk.conform.boots import place
from shstk.conform.instructions.campaign import DONE, file_of, run
from shstk.conform.instructions.cases import Case, Step
from shstk.conform.instructions.command import PROGRAM, boot_of
from shstk.conform.instructions.deviations import PUSHED, TARGET_LAST
from shstk.conform.instructions.generate import generate
from shstk.conform.instructions.table import INSTRUCTIONS, General
from shstk.errors import UserError
from shstk.kernel.boot import guest_program
from shstk.kernel.boot import run as start
from shstk.kernel.prepare import ready

SEED, MANY, BOOTED = 3, 1500, 300
#: The same on every 64-bit CPU whose shadow stacks are off.
ORDINARY = (
    *("call_rel", "call_abs", "ret", "push", "pop", "load", "store", "endbr64", "rdsspq"),
    *("incsspd", "incsspq", "saveprevssp", "wrssq", "wrssd", "setssbsy"),
)


def quiet(text: str) -> None:
    """Say nothing."""


def ordinary() -> list[Case]:
    """The steps of cases that need no shadow stack."""
    cases = []
    for case in generate(SEED, MANY):
        steps = takewhile(lambda step: step.name in ORDINARY and step.long_mode, case.steps)
        cases.append(replace(case, mode="off", steps=tuple(map(without_ssp, steps))))
    return [case for case in cases if case.steps]


def without_ssp(step: Step) -> Step:
    """Shadow stacks are off."""
    return replace(step, registers={n: v for n, v in step.registers.items() if n != "ssp"})


def native(cases: bytes) -> Iterator[str]:
    """This machine's CPU; shadow stacks are there to be read, as pages that are read-only."""
    for kind in (b"shadow", b"frozen", b"used"):
        cases = cases.replace(b" %s " % kind, b" ro ")
    program = guest_program(PROGRAM)
    yield from start(None, program, {"scenarios": cases}, say=quiet, timeout=60, mode="host")


@pytest.fixture(scope="module")
def traced() -> None:
    """Skip where the guest program cannot be made or may not trace."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    try:
        lines = list(native(file_of(ordinary()[:1])))
    except UserError as error:
        pytest.skip(f"no task can be traced here: {error}")
    if any("failed" in line for line in lines):
        pytest.skip(f"no task can be traced here: {lines[-1]}")


@pytest.mark.usefixtures("traced")
def test_this_machine_s_cpu_agrees_where_no_shadow_stack_is_needed() -> None:
    """Branches, stacks, memory, and shadow-stack instructions while they are off.

    The manual has CALL check its target first. Some CPUs (family 6, model 207) have pushed by
    then, and leave the word below RSP, as Bochs does.
    """
    cases = ordinary()
    verdicts = list(run(cases, native))
    early = {TARGET_LAST, PUSHED}
    unknown = [v for v in verdicts if v.diverged and not (v.explained and {*v.explained} <= early)]
    assert not unknown
    assert sum(verdict.agreed for verdict in verdicts) > 300


@pytest.mark.usefixtures("traced")
def test_a_wrong_text_is_caught_by_this_machine_s_cpu() -> None:
    """A CALL that leaves RSP diverges."""

    def wrong(c: object, r: General, a: tuple[int, ...], n: int) -> None:
        text = INSTRUCTIONS["call_abs"].text
        assert text is not None
        text(c, r, a, n)  # type: ignore[arg-type]
        c.rsp = (c.rsp + 8) & MASK64  # type: ignore[attr-defined]

    texts = {**INSTRUCTIONS, "call_abs": replace(INSTRUCTIONS["call_abs"], text=wrong)}
    verdicts = list(run(ordinary(), native, texts))
    assert any(verdict.unexplained for verdict in verdicts)


booted = pytest.mark.skipif(not ready(), reason="no kernel in the cache: run `make kernel` first")


@booted
def test_the_booted_cpu_agrees_but_for_what_bochs_does_otherwise() -> None:
    """A campaign on the emulated CPU leaves nothing unexplained."""
    cases = list(generate(SEED, BOOTED))
    verdicts = list(run(cases, boot_of(place("bochs", None, quiet))))
    assert len(verdicts) == BOOTED
    assert not [verdict for verdict in verdicts if verdict.unexplained]
    assert sum(verdict.agreed for verdict in verdicts) > BOOTED


@booted
def test_two_boots_see_the_same() -> None:
    """The lines of the guest are the same, every one."""
    boot = boot_of(place("bochs", None, quiet))
    cases = file_of(generate(SEED + 1, 60))
    first, second = list(boot(cases)), list(boot(cases))
    assert first == second and first[-1] == DONE
