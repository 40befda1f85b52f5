"""`shstk diff`: what a change of design does to verdicts and behaviour."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel import FAMILIES
from shstk import diff, diff_command
from shstk.build import CLAIMS
from shstk.diff import Asked, Change, Diff, compare, stages
from shstk.diff_json import as_json
from shstk.diff_text import known, text
from shstk.errors import UserError
from shstk.hooks import differing
from shstk.loader import load_design
from shstk.parting import on_trace
from shstk.search import Site
from shstk.space import Bound
from shstk.verdicts import HOLDS, PROVED, UNKNOWN, VIOLATED, Report, Verdict

ON = {"kernel", "enable", "vfork", "exit", "sigkill", "late-clone-failure", "vfork-abandon"}
WITHOUT = frozenset(f for f in FAMILIES if f not in ON)
ASKED = Asked(
    bound=Bound(2, 1, 1),
    without=WITHOUT,
    wanted=frozenset({"not-in-use", "freed-at-most-once"}),
    proofs=False,
)
HEAD = '''"""A design."""
from model.designs.linux_6_12 import Linux612
from model.kernel.fork import CLONE_VFORK
from model.state import NO, NULL


class Mine(Linux612):
    """{what}"""
'''
KEEPS = (
    HEAD.format(what="A vfork child keeps its parent's bookkeeping.")
    + """
    name = "keeps"

    def shstk_alloc_thread_stack(self, k, tsk, args):
        if args.flags & CLONE_VFORK != 0:
            return 0
        return super().shstk_alloc_thread_stack(k, tsk, args)
"""
)


class Renamed(Linux612):
    """The merged design."""

    name = "renamed"


@pytest.fixture(scope="module")
def keeps(tmp_path_factory: pytest.TempPathFactory) -> Diff:
    """The merged design, and one whose vfork child keeps the bookkeeping."""
    file = tmp_path_factory.mktemp("designs") / "keeps.py"
    file.write_text(KEEPS)
    return compare((DESIGNS["linux-6.12"], load_design(str(file))), ASKED)


@pytest.mark.parametrize("other", [DESIGNS["linux-6.12"], Renamed()], ids=["itself", "renamed"])
def test_nothing_differs_from_a_design_of_another_name(other: Design) -> None:
    """A design differs neither from itself nor from one that only has another name."""
    found = compare((DESIGNS["linux-6.12"], other), ASKED)
    assert (found.changed, found.complete, found.hooks) == (False, True, [])
    assert "behaviour  the same up to 2x1x1, ordinary environment" in text(found)
    assert "verdicts   the same in both, ordinary environment" in text(found)
    assert "explored up to 2x1x1 (tasks x mms x stacks), and may differ beyond" in text(found)


def test_a_violation_that_comes_earlier_is_shown_in_both(keeps: Diff) -> None:
    """Violated in both, but sooner and elsewhere in one: both lengths, and where they part."""
    change = next(c for c in keeps.changes if c.verdicts[0].property.id == "not-in-use")
    one, other = (v.trace for v in change.verdicts)
    assert one and other and (len(one.steps), len(other.steps)) == (6, 3)
    assert not change.status and change.elsewhere
    parting = change.partings[1]
    assert parting and (parting.length, parting.step) == (3, "late_clone_failure")
    assert "VIOLATED in 6 steps               VIOLATED in 3 steps" in text(keeps)


def test_a_verdict_that_changes_has_a_run_that_separates(keeps: Diff) -> None:
    """What only the second design violates is violated where its run parts from the first's."""
    change = next(c for c in keeps.changes if c.status)
    assert [v.status == VIOLATED for v in change.verdicts] == [False, True]
    parting, trace = change.partings[1], change.verdicts[1].trace
    assert parting and trace and parting.length <= len(trace.steps)
    run = [(s.task, s.step, s.picks) for s in trace.steps]
    assert [(s.task, s.step, s.picks) for s in parting.runs[1]] == run[: parting.length - 1]
    assert change.partings[0] is None


def test_changes_are_where_the_verdicts_differ() -> None:
    """Between the patch and the merged design every other status is listed, and no equal one."""
    asked = Asked(bound=Bound(2, 1, 1), without=WITHOUT, proofs=False, wanted=ASKED.wanted)
    found = compare((DESIGNS["v1"], DESIGNS["linux-6.12"]), asked)
    assert found.changed
    for change in found.changes:
        assert change.status == (change.verdicts[0].status != change.verdicts[1].status)
    swapped = compare((DESIGNS["linux-6.12"], DESIGNS["v1"]), asked)
    statuses = [[v.status for v in c.verdicts] for c in found.changes]
    assert [[v.status for v in c.verdicts][::-1] for c in swapped.changes] == statuses


def test_a_trace_goes_the_same_way_in_its_own_design(keeps: Diff) -> None:
    """A trace replayed in lockstep with its own design parts nowhere."""
    trace = keeps.changes[0].verdicts[1].trace
    assert trace and on_trace(keeps.designs[1:] * 2, trace, WITHOUT) is None


def test_the_table_is_told_again_below_long_runs(keeps: Diff) -> None:
    """Who reads the end on a terminal sees what changed, as above."""
    above, _, below = text(keeps).partition("once more:\n")
    assert below.strip() and below.rstrip() in above


def test_of_a_claim_about_states_the_step_does_not_count(keeps: Diff) -> None:
    """Only the first run to such a state is known: another design may break it in another step."""
    trace = changed_in(keeps)[0].trace
    assert trace is not None
    for name, same in (
        ("freed-at-least-once/owner-there", True),
        ("own-mm/nothing-else-hit", False),
    ):
        (claim,) = (n for n, c in enumerate(CLAIMS) if c.name == name)
        one, other = (Site(claim, step, trace) for step in ("exit_mm_drop", "fork"))
        assert (diff._site(one) == diff._site(other)) == same


def test_after_ctrl_c_nothing_is_compared_with_what_was_not_explored(keeps: Diff) -> None:
    """A verdict that is unknown in one of them is no change, and is named."""
    violated = [replace(v, status=VIOLATED) for v in changed_in(keeps)]
    unknown = [replace(v, status=UNKNOWN, trace=None, sites=[]) for v in violated]
    reports = tuple(
        Report(d.name, "ordinary", verdicts, [], [])
        for d, verdicts in zip(keeps.designs, (violated, unknown), strict=True)
    )
    out = Diff(keeps.designs, [], interrupted=True)
    diff._add(out, (reports[0], reports[1]), WITHOUT)
    assert out.changes == [] and out.uncompared == [v.property.id for v in violated]


def changed_in(found: Diff) -> list[Verdict]:
    """The second design's verdicts that are other than the first's."""
    return [c.verdicts[1] for c in found.changes]


def test_the_text_that_differs_is_named(keeps: Diff) -> None:
    """Functions that differ are listed with their places; comments do not count."""
    assert [h.name for h in keeps.hooks] == ["shstk_alloc_thread_stack"]
    assert keeps.hooks[0].where[1] == "keeps.py:12"
    assert differing(DESIGNS["linux-6.12"], Renamed()) == []
    assert "has_mseal" in [h.name for h in differing(DESIGNS["v1"], DESIGNS["linux-6.12"])]


def test_what_is_known_is_told_at_once(keeps: Diff) -> None:
    """Text, then behaviour, then verdicts; what was told before stays as it was."""
    told: list[list[str]] = []
    for found in stages(keeps.designs, ASKED):
        told.append(known(found))
        assert len(told) < 2 or told[-1][: len(told[-2])] == told[-2]
    heads, behaviour, whole = ("\n".join(lines) for lines in told)
    assert "shstk_alloc_thread_stack" in heads and "behaviour" not in heads
    assert "behaviour  differs" in behaviour and "a shortest run after which" in behaviour
    assert "verdicts" not in behaviour and "verdicts that changed" in whole
    assert whole == text(keeps)


def test_nothing_is_held_back_on_a_pipe(tmp_path: Path) -> None:
    """The heads are there before behaviour and verdicts are found, and the end is complete."""
    file = tmp_path / "keeps.py"
    file.write_text(KEEPS)
    words = ["diff", "linux-6.12", str(file), "--bounded", "--tasks", "2", "--mms", "1"]
    words += ["--stacks", "1", "--property", "not-in-use", "--without", ",".join(sorted(WITHOUT))]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-m", "shstk", *words], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        first = os.read(process.stdout.fileno(), 1 << 16).decode()
        rest = process.stdout.read().decode()
    assert first.endswith("keeps.py:12\n") and "behaviour" not in first
    assert rest.index("behaviour  differs") < rest.index("verdicts")
    assert process.returncode == 1


def test_proved_beside_explored_is_explained(keeps: Diff) -> None:
    """Where only one design is proved, up to where the other one was explored, and what of it."""
    kept = next(v for c in keeps.changes for v in c.verdicts if v.status == HOLDS)
    change = Change("ordinary", (replace(kept, status=PROVED), kept), (None, None), ([], []))
    shown = text(replace(keeps, changes=[change]))
    assert "PROVED                            HOLDS to 2x1x1" in shown
    assert "neither design violates it up to 2x1x1" in " ".join(shown.split())
    assert "neither design violates it" not in text(keeps)


def test_json_has_what_the_text_has(keeps: Diff) -> None:
    """The document names the designs, the changes and the first difference of each step."""
    document = json.loads(as_json(keeps))
    assert [d["name"] for d in document["designs"]] == ["linux-6.12", "keeps"]
    assert document["changed"] and document["complete"]
    assert {c["property"] for c in document["verdicts"]} == {"not-in-use", "freed-at-most-once"}
    first = document["behaviour"][0]
    assert (first["step"], first["steps"], len(first["run"])) == ("late_clone_failure", 3, 2)


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Designs that call themselves the same are A and B."""
    files = [tmp_path / "old.py", tmp_path / "new.py"]
    files[0].write_text(KEEPS)
    files[1].write_text(KEEPS.replace("return super()", "return 0 + super()"))
    asked = Asked(bound=Bound(1, 1, 1), without=WITHOUT, proofs=False, wanted=ASKED.wanted)
    one, other = (load_design(str(f)) for f in files)
    found = compare((one, other), asked)
    assert [d.name for d in found.designs] == ["keeps.A", "keeps.B"]
    assert not found.changed and [h.name for h in found.hooks] == ["shstk_alloc_thread_stack"]


@pytest.mark.parametrize("first", [True, False])
def test_what_a_hook_raises_is_told_of_its_own_design(tmp_path: Path, first: bool) -> None:
    """The file and line of the design whose text it is, be it the first or the second."""
    file = tmp_path / "keeps.py"
    file.write_text(KEEPS.replace("            return 0\n", "            return 1 // 0\n"))
    designs = load_design(str(file)), DESIGNS["linux-6.12"]
    with pytest.raises(UserError, match="design keeps: keeps.py:14, in shstk_alloc_thread_stack"):
        compare(designs if first else designs[::-1], ASKED)


def test_the_exit_status_says_whether_anything_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where nothing does, 1 where something does."""
    file = tmp_path / "keeps.py"
    file.write_text(KEEPS)
    parser = argparse.ArgumentParser()
    diff_command.add_parser(parser.add_subparsers())
    options = ["--bounded", "--tasks", "2", "--mms", "1", "--stacks", "1"]
    options += ["--property", "not-in-use", "--without", ",".join(sorted(WITHOUT))]
    for other, status in (("linux-6.12", 0), (str(file), 1)):
        arguments = parser.parse_args(["diff", "linux-6.12", other, *options])
        assert diff_command.run(arguments) == status
    assert "A  linux-6.12: the merged design as of 6.12" in capsys.readouterr().out
