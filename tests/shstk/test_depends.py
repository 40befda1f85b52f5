"""What violations depend on: sets of event families that are enough, and no larger than needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.designs import DESIGNS
from model.designs.linux_6_12 import Linux612
from model.kernel import FAMILIES
from model.state import Task
from model.world import World
from shstk import assessment, depends
from shstk.assessment import assess
from shstk.cli import main
from shstk.depends import Asked, attach_depends, hitting
from shstk.plan import Question
from shstk.pool import Meter
from shstk.replay import drive
from shstk.report import depends_text
from shstk.search import answer
from shstk.space import Bound, Space
from shstk.used import used
from shstk.verdicts import NOT_APPLICABLE, VIOLATED, Report, Verdict, combine

BOUND = Bound(2, 1, 1)
MERGED = DESIGNS["linux-6.12"]
PROPERTIES = frozenset({"not-in-use", "freed-at-least-once", "no-false-alarm", "size-compat"})
Families = frozenset[str]


class Forgetful(Linux612):
    """Now and then a dying task keeps its stack."""

    name = "forgetful"

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        if k.may("worker", "forgets"):
            return 0
        return self.shstk_free(k, tsk)


def explored(without: Families = frozenset(), properties: Families = PROPERTIES) -> Report:
    """The report of an exploration without some families, as `check --without` makes it."""
    question = Question("linux-6.12", "ordinary", BOUND, without, properties)
    (report,) = combine([answer(question, MERGED)], properties)
    return report


@pytest.fixture(scope="module")
def report() -> Report:
    """Four violated properties of the merged design, and what they depend on."""
    out = explored()
    assert not attach_depends([out], [MERGED], Asked(BOUND, frozenset(), None), Meter())
    return out


@pytest.fixture(scope="module")
def status() -> Callable[[str, Families], str]:
    """The status of a property without some families, each set explored once."""
    known: dict[Families, dict[str, str]] = {}

    def ask(prop: str, without: Families) -> str:
        if without not in known:
            known[without] = {v.property.id: v.status for v in explored(without).verdicts}
        return known[without][prop]

    return ask


def verdict(report: Report, prop: str) -> Verdict:
    """The verdict of a property."""
    return next(v for v in report.verdicts if v.property.id == prop)


def answers(report: Report, prop: str) -> list[set[str]]:
    """The sets that a property's violation depends on, in their order."""
    return [set(s) for s in verdict(report, prop).depends_on or ()]


# -- hitting sets --------------------------------------------------------------------
@given(st.lists(st.frozensets(st.sampled_from(list(FAMILIES)[:7])), max_size=8))
def test_hitting_sets_are_all_the_minimal_ones(runs: list[Families]) -> None:
    """Against all sets there are: each hits every run, and nothing smaller within it does."""
    every = sorted(frozenset().union(*runs))
    sets = [frozenset(s) for n in range(4) for s in combinations(every, n)]
    hits = [s for s in sets if all(s & r for r in runs)]
    minimal = {s for s in hits if s and not any(h < s for h in hits)}
    assert set(hitting(runs)) == minimal
    assert [len(s) for s in hitting(runs)] == sorted(len(s) for s in minimal)


def test_hitting_sets_come_in_the_order_of_the_families() -> None:
    """Of one size, as model/kernel/steps.py lists them."""
    runs = [frozenset({"sigkill", "fork", "vfork-abandon", "thread"})]
    assert [*chain(*hitting(runs))] == ["thread", "fork", "sigkill", "vfork-abandon"]


# -- what a run uses -----------------------------------------------------------------
def test_a_run_uses_the_families_of_its_steps_and_of_what_is_granted() -> None:
    """The bad TLS address of a vfork is a choice, not a step; the kernel is no family of a run."""
    space = Space(BOUND)
    plain = [("enable", 0), ("vfork", 0, {"bad TLS": False}), ("clone_commit", 0)]
    assert used(space, MERGED, drive(space, MERGED, plain)) == {"enable", "vfork"}
    bad = [("enable", 0), ("vfork", 0, {"bad TLS": True})]
    assert used(space, MERGED, drive(space, MERGED, bad)) == {"enable", "vfork", "tls-failure"}


def test_a_failing_allocation_is_used_too() -> None:
    """-ENOMEM is asked for by the world itself, not by the text."""
    space = Space(BOUND)
    steps = drive(space, MERGED, [("enable", 0, {"ENOMEM": True})])
    assert used(space, MERGED, steps) == {"enable", "alloc-failure"}


# -- the sets ------------------------------------------------------------------------
def test_the_vfork_parent_has_to_abandon_its_wait(report: Report) -> None:
    """Of not-in-use, first what takes least away; without shadow stacks it says nothing."""
    assert answers(report, "not-in-use")[0] == {"vfork-abandon"}
    assert {"vfork"} in answers(report, "not-in-use")
    assert verdict(report, "not-in-use").not_met == (("enable",),)
    assert answers(report, "not-in-use")[-1] == {"enable"}


def test_a_choice_can_be_what_is_needed(report: Report) -> None:
    """A compat clone is a choice within a clone."""
    assert {"compat"} in answers(report, "size-compat")


@pytest.mark.parametrize("prop", ["not-in-use", "freed-at-least-once"])
def test_sets_are_enough_and_no_part_of_them_is(
    report: Report, status: Callable[[str, Families], str], prop: str
) -> None:
    """An exploration of its own finds no violation without a set, and one without any part."""
    found = verdict(report, prop).depends_on
    assert found
    for families in found[:2]:
        assert status(prop, frozenset(families)) != VIOLATED
        parts = chain(*(combinations(families, n) for n in range(len(families))))
        assert {status(prop, frozenset(part)) for part in parts} == {VIOLATED}


def test_sets_without_which_nothing_is_said_are_marked(
    report: Report, status: Callable[[str, Families], str]
) -> None:
    """`check --without` calls the property not applicable there, and nowhere else."""
    for prop in ("not-in-use", "no-false-alarm"):
        found = verdict(report, prop)
        for families in (found.depends_on or ())[:2]:
            idle = status(prop, frozenset(families)) == NOT_APPLICABLE
            assert idle is (families in found.not_met)


@pytest.mark.parametrize("prop", sorted(PROPERTIES))
def test_the_order_of_the_sets(report: Report, prop: str) -> None:
    """Where the property still says something first, then the smaller ones; at most five."""
    found = verdict(report, prop)
    assert found.depends_on is not None and len(found.depends_on) <= 5
    ranks = [(s in found.not_met, len(s)) for s in found.depends_on]
    assert ranks == sorted(ranks)


def test_of_what_is_off_already_nothing_depends() -> None:
    """Without sigkill, not-in-use is not violated, and so depends on nothing."""
    off = frozenset({"sigkill"})
    out = explored(off, frozenset({"no-false-alarm", "freed-at-least-once"}))
    assert not attach_depends([out], [MERGED], Asked(BOUND, off, None), Meter())
    for each in out.verdicts:
        assert (each.depends_on is not None) is (each.status == VIOLATED)
        assert not any("sigkill" in s for s in each.depends_on or ())
    assert out.violated


def test_a_violation_that_the_kernel_is_enough_for_has_no_set(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    """Where no set of three helps, that is what is said."""
    out = explored(properties=frozenset({"no-false-alarm"}))
    monkeypatch.setattr(depends, "used", lambda *_: frozenset())
    assert not attach_depends([out], [MERGED], Asked(BOUND, frozenset(), None), Meter())
    (found,) = out.verdicts
    assert found.depends_on == ()
    assert depends_text(found) == ["no few events that it needs"]


def test_ctrl_c_leaves_the_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of what a violation depends on, and the report can be asked again."""
    out = explored(properties=frozenset({"no-false-alarm"}))
    monkeypatch.setattr(depends, "run", lambda *_: ([], True))
    assert attach_depends([out], [MERGED], Asked(BOUND, frozenset(), None), Meter())
    assert not out.depends
    assert [(v.status, v.depends_on) for v in out.verdicts] == [(VIOLATED, None)]


def test_a_bound_beyond_the_default_ones_is_cut_to_them() -> None:
    """The explorations that make sure end within minutes whatever is asked for."""
    small = depends._within(Bound(4, 1, 1))
    assert small == (Bound(3, 1, 1), Bound(2, 1, 1))
    assert depends._within(Bound(2, 1, 1)) == (Bound(2, 1, 1),)
    assert depends._within(None) == ()


def test_a_kept_report_is_asked_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once explored, only this is searched for; once found, it is kept with the report."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def asked(*environments: str) -> Verdict:
        (report,), interrupted = assess(
            [MERGED],
            bound=BOUND,
            wanted=frozenset({"no-false-alarm"}),
            proofs=False,
            depends=environments,
        )
        assert not interrupted
        return report.verdicts[0]

    def refuse(*_: object) -> None:
        raise AssertionError("done already")

    assert asked().depends_on is None
    assert asked("ordinary+hostile").depends_on is None
    monkeypatch.setattr(assessment, "run", refuse)
    found = asked("ordinary").depends_on
    assert found
    monkeypatch.setattr(depends, "run", refuse)
    assert asked("ordinary").depends_on == found == asked().depends_on


# -- on the command line -------------------------------------------------------------
def test_check_says_it(capsys: pytest.CaptureFixture[str], report: Report) -> None:
    """In words below the verdict, in JSON as lists; not with --no-depends."""
    words = ["check", "linux-6.12", "--tasks", "2", "--mms", "1", "--stacks", "1"]
    words += ["--bounded", "--property", "not-in-use"]
    assert main([*words, "--no-depends", "--format", "json"]) == 1
    (plain,) = json.loads(capsys.readouterr().out)["designs"]
    assert plain["verdicts"][0]["depends_on"] is None
    assert main([*words, "--format", "json"]) == 1
    (design,) = json.loads(capsys.readouterr().out)["designs"]
    expected = verdict(report, "not-in-use")
    assert design["verdicts"][0]["depends_on"] == [list(s) for s in expected.depends_on or ()]
    assert design["verdicts"][0]["not_met_without"] == [["enable"]]
    assert main(words) == 1
    assert "holds without vfork-abandon; or without vfork" in capsys.readouterr().out


def test_a_design_that_asks_for_more_is_asked_about_it() -> None:
    """A choice in a design's own hook is one that its violations can depend on."""
    design = Forgetful()
    asked = frozenset({"freed-at-least-once"})
    off = frozenset({"tls-failure", "munmap-eintr", "thread", "vm", "exec"})
    question = Question("forgetful", "ordinary", BOUND, off, asked, details="no")
    (report,) = combine([answer(question, design)], asked)
    assert not attach_depends([report], [design], Asked(BOUND, off, None), Meter())
    assert {"worker"} in answers(report, "freed-at-least-once")
