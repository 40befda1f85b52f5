"""Wrong texts and wrong guests are found, and what Bochs does otherwise is told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from instruction_guest import BOCHS, guest

from model.cpu import shadow
from model.cpu.concrete import ConcreteCpu, CpuFault
from model.cpu.words import MASK64
from model.cpu.world import Vector
from shstk.conform.instructions import deviations
from shstk.conform.instructions.campaign import Strayed, run
from shstk.conform.instructions.command import instructions_campaign
from shstk.conform.instructions.generate import generate
from shstk.conform.instructions.shrink import shrink, size
from shstk.conform.instructions.table import INSTRUCTIONS, General, Instruction, Text
from shstk.errors import UserError
from shstk.pool import Meter

SEED, FEW = 7, 200
Change = Callable[[ConcreteCpu], None]


def changed(name: str, after: Change, before: Change | None = None) -> Instruction:
    """An instruction that does something else, too, where it succeeds."""
    instruction = INSTRUCTIONS[name]
    text = instruction.text
    assert text is not None

    def wrong(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> int | None:
        if before is not None:
            before(c)
        result = text(c, r, a, n)
        after(c)
        return result

    return replace(instruction, text=wrong)


def off_by(count: int) -> Change:
    """SSP is elsewhere."""

    def after(c: ConcreteCpu) -> None:
        c.ssp = (c.ssp + count) & MASK64

    return after


def no_hole(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    """SAVEPREVSSP that writes no zero below an old SSP that is aligned to 4 only."""

    class Cpu(ConcreteCpu):
        def shadow_store(self, address: int, width: int, value: int, /) -> None:
            if width != 4:
                super().shadow_store(address, width, value)

    cpu = Cpu(c, c.memory)
    shadow.saveprevssp(cpu, n)
    c.assign(cpu)


def only_first(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    """INCSSPQ that looks at no element but the first."""
    shadow.incsspq(c, 0, n)
    c.ssp += (r["rcx"] & 0xFF) * 8


def any_token(c: ConcreteCpu, r: General, a: tuple[int, ...], n: int) -> None:
    """RSTORSSP that takes #CP for #GP."""
    try:
        shadow.rstorssp(c, r["rdi"], n)
    except CpuFault as fault:
        if fault.vector == Vector.CP:
            c.fault(Vector.GP)
        raise


def text(name: str, wrong: Text) -> Instruction:
    """The instruction with another text."""
    return replace(INSTRUCTIONS[name], text=wrong)


def clear_cf(c: ConcreteCpu) -> None:
    """CF is 0."""
    c.cf = 0


def misplaced(c: ConcreteCpu) -> None:
    """A stray word is written."""
    c.shadow_store(c.ssp & ~7, 8, 0)


WRONG = {
    "INCSSPQ is off by one": changed("incsspq", off_by(8)),
    "INCSSPD is off by one": changed("incsspd", off_by(-4)),
    "INCSSPQ looks at one element": text("incsspq", only_first),
    "SAVEPREVSSP makes no hole": text("saveprevssp", no_hole),
    "SAVEPREVSSP leaves SSP": changed("saveprevssp", off_by(-8)),
    "RSTORSSP: another exception": text("rstorssp", any_token),
    "RSTORSSP clears CF": changed("rstorssp", clear_cf),
    "RSTORSSP goes above the token": changed("rstorssp", off_by(8)),
    "CALL pushes twice": changed("call_abs", off_by(-8)),
    "RET pops nothing": changed("ret", off_by(-8)),
    "far CALL pushes a word less": changed("call_far", off_by(8)),
    "far RET pops a word more": changed("ret_far", off_by(8)),
    "WRSSQ writes twice": changed("wrssq", misplaced),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_text_is_caught(what: str) -> None:
    """Within 200 cases, though Bochs has its own ways."""
    wrong = WRONG[what]
    verdicts = run(list(generate(SEED, FEW)), guest(BOCHS), {**INSTRUCTIONS, wrong.name: wrong})
    found = [verdict for verdict in verdicts if verdict.unexplained]
    assert {verdict.case.steps[verdict.agreed].name for verdict in found} == {wrong.name}


def test_the_text_agrees_with_itself() -> None:
    """No divergence, and every step compared."""
    cases = list(generate(SEED, FEW))
    verdicts = list(run(cases, guest()))
    assert not any(verdict.diverged for verdict in verdicts)
    assert [verdict.agreed for verdict in verdicts] == [len(case.steps) for case in cases]


def test_what_bochs_does_otherwise_is_explained() -> None:
    """Nearly every deviation is met, each in the same words, and nothing is left unexplained."""
    verdicts = list(run(list(generate(SEED, 3000)), guest(BOCHS)))
    assert not any(verdict.unexplained for verdict in verdicts)
    met = {each for verdict in verdicts for each in verdict.explained}
    known = {v for n, v in vars(deviations).items() if n.isupper() and isinstance(v, str)}
    assert met <= known and len(known - met) <= 2


def test_a_deviation_excuses_nothing_else() -> None:
    """A processor that does one thing more than Bochs does is not explained."""
    wrong = changed("saveprevssp", off_by(8))
    verdicts = list(run(list(generate(SEED, FEW)), guest({**BOCHS, "saveprevssp": wrong})))
    assert any(verdict.unexplained for verdict in verdicts)


def _no_ssp(report: dict[str, Any]) -> None:
    report.pop("ssp", None)


def _no_words(report: dict[str, Any]) -> None:
    report["words"] = []


def _no_cr2(report: dict[str, Any]) -> None:
    report.get("fault", {})["address"] = 0


def _other_signal(report: dict[str, Any]) -> None:
    report.get("fault", {})["signal"] = 10


@pytest.mark.parametrize("spoil", (_no_ssp, _no_words, _no_cr2, _other_signal))
def test_a_broken_guest_is_caught(spoil: Callable[[dict[str, Any]], None]) -> None:
    """A report without SSP, words, CR2 or the right signal diverges."""
    verdicts = list(run(list(generate(SEED, FEW)), guest(spoil=spoil)))
    assert sum(verdict.unexplained for verdict in verdicts) > 10


def test_a_guest_that_stops_is_caught() -> None:
    """Cases that it does not get to diverge."""

    def boot(cases: bytes) -> Any:
        lines = list(guest()(cases))
        return iter(lines[: len(lines) // 2])

    verdicts = list(run(list(generate(SEED, 20)), boot))
    assert any(v.diverged and v.rows() and "did not get here" in v.rows()[0][2] for v in verdicts)


@pytest.mark.parametrize(
    "line", ("no json", '{"failed":"no task","case":1}', '{"case":1,"step":"x"}', "[]")
)
def test_a_guest_that_cannot_be_understood_is_an_error(line: str) -> None:
    """What it says is in the message."""
    with pytest.raises(UserError, match="guest"):
        list(run(list(generate(SEED, 2)), lambda cases: iter((line,))))


def test_a_stray_write_is_told_after_the_verdicts() -> None:
    """A page that changed unseen is an error at the end, when all cases are judged."""

    def boot(cases: bytes) -> Any:
        lines = list(guest()(cases))
        return iter([*lines[:-1], '{"stray":4096}', lines[-1]])

    verdicts = []
    with pytest.raises(Strayed, match="0x1000"):
        verdicts.extend(run(list(generate(SEED, 5)), boot))
    tally, _, _ = instructions_campaign(5, SEED, boot, meter=Meter())
    assert tally.cases == 5 and tally.strayed and not tally.unexplained


def test_a_divergence_is_shrunk() -> None:
    """To an instruction with what it needs, of the same kind."""
    texts = {**INSTRUCTIONS, "rstorssp": WRONG["RSTORSSP clears CF"]}
    found = [v for v in run(list(generate(SEED, FEW)), guest(BOCHS), texts) if v.unexplained]
    largest = max(found, key=lambda verdict: size(verdict.case))
    best = shrink(largest, guest(BOCHS), lambda text: None, texts)
    assert best.unexplained and len(best.case.steps) == 1
    assert list(best.case.steps[0].words) == [best.case.steps[0].registers["rdi"]]
    assert [row[0] for row in best.rows()] == ["cf"]


def test_a_campaign_counts_and_shrinks() -> None:
    """What agrees, what is Bochs', and one shrunk divergence of each kind."""
    texts = {**INSTRUCTIONS, "incsspq": WRONG["INCSSPQ is off by one"]}
    tally, shrunk, interrupted = instructions_campaign(
        FEW, SEED, guest(BOCHS), meter=Meter(), texts=texts
    )
    assert tally.cases == FEW and not interrupted and tally.explained_cases > 0
    assert len(tally.unexplained) >= 1 and len(shrunk) == 1
