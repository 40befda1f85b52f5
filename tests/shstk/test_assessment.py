"""Assessing designs: one report per design and environment, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from shstk import assessment
from shstk.assessment import assess
from shstk.cache import directory
from shstk.loader import load_design
from shstk.proof.judge import prove_one
from shstk.search import answer_to
from shstk.space import Bound
from shstk.verdicts import HOLDS, UNKNOWN, VIOLATED, Report

WANTED = frozenset({"not-in-use"})
BEYOND = ("ordinary", "ordinary+hostile")


def small(*names: str, **more: object) -> tuple[list[Report], bool]:
    """A design, by name or file, at a bound that takes a moment; nothing is proved."""
    designs = [load_design(n) for n in names or ("v1",)]
    common = {"bound": Bound(2, 1, 1), "wanted": WANTED, "proofs": False}
    return assess(designs, **(common | more))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, exploring is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError("explored again")

    monkeypatch.setattr(assessment, "run", refuse)


def reports_kept() -> list[Path]:
    """The files of the reports that are kept."""
    return sorted(directory().glob("*.report"))


def test_a_kept_report_is_the_one_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again, nothing is explored and every field is the same, times too."""
    made, _ = small(environments=BEYOND)
    forbid(monkeypatch)
    again, interrupted = small(environments=BEYOND)
    assert again == made and not interrupted
    assert [r.environment for r in again] == list(BEYOND)
    (verdict,) = again[0].verdicts
    assert verdict.property is made[0].verdicts[0].property
    assert verdict.status == VIOLATED and verdict.trace is not None


@pytest.mark.parametrize(
    "other",
    [
        {"bound": Bound(1, 1, 1)},
        {"without": frozenset({"sigkill"})},
        {"wanted": frozenset({"own-mm"})},
        {"environments": ("ordinary+pivot",)},
        {"proofs": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_question_is_not_answered_with_what_is_kept(
    other: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound, switched-off families, properties, environment and proofs are part of the key."""
    small()
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match="explored again"):
        small(**other)


def test_an_edited_design_is_explored_again(tmp_path: Path) -> None:
    """The text of a design's own file is part of the key."""
    file = tmp_path / "mine.py"
    text = 'from model.designs.v1 import V1\n\nclass Mine(V1):\n    name = "mine"\n{}'
    hook = "\n    def shstk_free(self, k, tsk) -> int:\n        return 0\n"
    file.write_text(text.format(""))
    (before,), _ = small(str(file))
    file.write_text(text.format(hook))
    (after,), _ = small(str(file))
    assert (before.verdicts[0].status, after.verdicts[0].status) != (VIOLATED, VIOLATED)
    assert before.states != after.states and len(reports_kept()) == 2


def test_a_damaged_report_is_made_again() -> None:
    """What cannot be read back exactly is not there."""
    made, _ = small()
    (file,) = reports_kept()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    again, _ = small()
    assert again[0].verdicts[0].status == made[0].verdicts[0].status
    assert len(reports_kept()) == 1


def test_what_is_unknown_is_not_kept() -> None:
    """A report in which an exploration stopped early is for this time only."""
    (report,), _ = small(wanted=frozenset({"own-mm"}), bound=Bound(3, 1, 1), memory=400_000)
    assert [v.status for v in report.verdicts] == [UNKNOWN]
    assert reports_kept() == []


def test_after_ctrl_c_there_is_what_was_found_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted in the endless runs: what the explorations found is there."""
    monkeypatch.setattr(assessment, "liveness_verdicts", lambda *_: True)
    (report,), interrupted = small()
    assert interrupted and [v.status for v in report.verdicts] == [VIOLATED]
    assert reports_kept() == []


def test_only_what_is_not_kept_is_explored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One design is kept: the other alone is explored, and both are in the answer, in order."""
    small("v1")
    asked = []
    run = assessment.run

    def listen(task, arguments, meter):  # type: ignore[no-untyped-def]
        asked.extend(design.name for _, (_, design) in arguments)
        return run(task, arguments, meter)

    monkeypatch.setattr(assessment, "run", listen)
    reports, _ = small("linux-6.12", "v1")
    assert [r.design for r in reports] == ["linux-6.12", "v1"] and set(asked) == {"linux-6.12"}
    assert {v.status for r in reports for v in r.verdicts} <= {HOLDS, VIOLATED}


class Handed(Exception):
    """Instead of handing tasks out."""


def test_relatives_do_not_ask_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of designs that stand together in the registry none begins beside the other: neither the
    same question nor a proof.  Of each design the long questions come first."""
    tasks = []

    def hand(_task, arguments, _meter) -> None:  # type: ignore[no-untyped-def]
        tasks.extend(arguments)
        raise Handed

    monkeypatch.setattr(assessment, "run", hand)
    monkeypatch.setattr(assessment, "cores", lambda: 2)
    with pytest.raises(Handed):
        assess(list(DESIGNS.values()))
    orders: dict[object, list[Design]] = {}
    lengths: dict[str, list[int]] = {}
    for do, argument in tasks:
        if do is prove_one:
            orders.setdefault(do, []).append(argument[0])
        elif do is answer_to:
            question, design = argument
            orders.setdefault((question.bound, question.details), []).append(design)
            lengths.setdefault(design.name, []).append(question.bound.tasks)
    assert len(orders) == 6
    for order in orders.values():
        turns = [order.index(design) for design in DESIGNS.values()]
        assert sorted(turns) == list(range(len(DESIGNS)))
        apart = [abs(a - b) for n in (1, 2) for a, b in zip(turns, turns[n:], strict=False)]
        assert min(apart) > 2
    assert all(each == sorted(each, reverse=True) for each in lengths.values())
