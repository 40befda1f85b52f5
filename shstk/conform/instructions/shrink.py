"""Shrinking a divergence: less set, fewer steps, the same kind of difference; a boot a round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from shstk.conform.instructions.ahead import inside
from shstk.conform.instructions.campaign import Boot, Strayed, run
from shstk.conform.instructions.cases import Case, Step
from shstk.conform.instructions.judge import Verdict
from shstk.conform.instructions.predict import Texts
from shstk.conform.instructions.table import GENERAL, INSTRUCTIONS

ROUNDS = 8
T = TypeVar("T")


def shrink(
    found: Verdict,
    boot: Boot,
    say: Callable[[str], None],
    texts: Texts = INSTRUCTIONS,
    emulated: bool = True,
) -> Verdict:
    """The smallest case with a divergence of its kind that leaving things out leads to."""
    best = replace(found, case=cut(found))
    for number in range(1, ROUNDS + 1):
        say(f"shrinking: round {number}, {size(best.case)} things are set or done")
        fit = filter(inside, candidates(best.case))
        cases = [replace(case, number=n) for n, case in enumerate(fit)]
        verdicts = []
        with suppress(Strayed):  # after the last verdict
            for verdict in run(cases, boot, texts, emulated):
                if verdict.unexplained:
                    verdicts.append(verdict)
        same = [replace(v, case=cut(v)) for v in verdicts if kind_of(v) == kind_of(best)]
        smaller = [v for v in same if size(v.case) < size(best.case)]
        if not smaller:
            break
        best = min(smaller, key=lambda v: size(v.case))
    return best


def cut(verdict: Verdict) -> Case:
    """The case up to the step that diverges."""
    return replace(verdict.case, steps=verdict.case.steps[: verdict.agreed + 1])


def kind_of(verdict: Verdict) -> tuple[str, str]:
    """The instruction, and what differs first: a register, memory, the exception."""
    name = verdict.rows()[0][0]
    return verdict.case.steps[verdict.agreed].name, "memory" if name.startswith("[") else name


def size(case: Case) -> int:
    """How many things a case sets or does; a zero in a general register does not count."""
    return sum(
        1 + len(step.words) + sum(v != 0 or n not in GENERAL for n, v in step.registers.items())
        for step in case.steps
    )


def candidates(case: Case) -> Iterator[Case]:
    """A case with less: without earlier instructions, words or registers, one or all of them."""
    steps = case.steps
    last = len(steps) - 1
    changes = [_without_instructions(steps, range(last))] if last > 1 else []
    changes += [_without_instructions(steps, (n,)) for n in range(last)]
    changes.append([replace(step, words={}) for step in steps])
    for n, step in enumerate(steps):
        less = [replace(step, words=_less(step.words, at)) for at in step.words]
        if n:
            less += [replace(step, registers=_less(step.registers, r)) for r in step.registers]
        else:
            zero = [name for name in GENERAL if step.registers.get(name)]
            less += [replace(step, registers={**step.registers, name: 0}) for name in zero]
        changes += [[*steps[:n], each, *steps[n + 1 :]] for each in less]
    for change in changes:
        yield replace(case, steps=tuple(change))


def _less(things: dict[T, int], one: T) -> dict[T, int]:
    return {name: value for name, value in things.items() if name != one}


def _without_instructions(steps: Sequence[Step], gone: Sequence[int]) -> list[Step]:
    """What they set, the next one sets."""
    kept: list[Step] = []
    registers: dict[str, int] = {}
    words: dict[int, int] = {}
    for number, step in enumerate(steps):
        registers, words = {**registers, **step.registers}, {**words, **step.words}
        if number not in gone:
            kept.append(replace(step, registers=registers, words=words))
            registers, words = {}, {}
    return kept
