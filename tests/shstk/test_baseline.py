"""The recorded verdicts: the file, the README's matrix, and what check says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.designs import DESIGNS
from properties import PROPERTIES
from shstk import baseline, baseline_command
from shstk.assessment import assess
from shstk.baseline import Entry, Table
from shstk.cli import main
from shstk.errors import UserError
from shstk.expectations import property_of
from shstk.space import Bound
from shstk.verdicts import HOLDS, NOT_APPLICABLE, PROVED, UNKNOWN, VIOLATED

README = "# A project\n\n<!-- verdicts -->\nold\n<!-- /verdicts -->\n\nmore\n"
TABLE = Table(
    ("v1", "linux-6.12"),
    {
        "own-mm": {
            "v1": Entry(VIOLATED, 3, "nothing-else-hit in clone_commit"),
            "linux-6.12": Entry(PROVED),
        },
        "exec-resets": {"v1": Entry(NOT_APPLICABLE), "linux-6.12": Entry(HOLDS)},
        "vfork-frames/frames-kept (glibc 2.36)": {"v1": Entry(VIOLATED, 12)},
    },
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A baseline and a README of the test's own."""
    file, readme = tmp_path / "baseline" / "verdicts.txt", tmp_path / "README.md"
    readme.write_text(README)
    monkeypatch.setattr(baseline, "FILE", file)
    monkeypatch.setattr(baseline, "README", readme)
    yield file, readme


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`shstk baseline` at a bound and of properties that take a moment."""
    asked = {"bound": Bound(2, 1, 1), "wanted": frozenset({"own-mm", "inherited"})}

    def small(designs, **given):  # type: ignore[no-untyped-def]
        return assess(designs, **given, **asked, proofs=False)

    monkeypatch.setattr(baseline_command, "assess", small)


def test_what_is_rendered_is_read_back() -> None:
    """The file is the table: every status, conjunct, step and number."""
    assert baseline.parse(baseline.render(TABLE)) == TABLE


def test_a_row_for_each_property_a_column_for_each_design() -> None:
    """With a line below for each violation, so that a change of it shows in a review."""
    lines = baseline.render(TABLE).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("own-mm ")))
    assert lines[start].split() == ["own-mm", "V3", "P"]
    assert lines[start + 1 : start + 3] == [
        "    V3 v1: nothing-else-hit in clone_commit",
        f"{'exec-resets':<{baseline.WIDTH}}-    H",
    ]
    assert lines[-1].split()[-2:] == ["V12", "."]


@pytest.mark.parametrize(
    "line",
    [
        "own-mm",
        f"{'own-mm':<{baseline.WIDTH}}V3   P    P",
        f"{'own-mm':<{baseline.WIDTH}}V    P",
        f"{'own-mm':<{baseline.WIDTH}}X    P",
    ]
    + ["    V3 nosuch: somewhere in a_step", "    something else"],
)
def test_a_line_that_was_not_recorded_is_refused(line: str) -> None:
    """With its number, in one line: nobody edits the file by hand and gets away with it."""
    text = baseline.render(TABLE) + line + "\n"
    with pytest.raises(UserError, match=rf"verdicts.txt:{len(text.splitlines())}: "):
        baseline.parse(text)


def test_an_empty_file_is_refused() -> None:
    """A baseline that records nothing equals nothing."""
    with pytest.raises(UserError, match="records nothing"):
        baseline.parse(baseline.LEGEND)


def test_a_difference_is_a_line() -> None:
    """Another status or number of steps; a verdict that is new or gone; a new design."""
    found = Table(
        ("v1", "linux-6.12", "v3"),
        {
            "own-mm": {
                "v1": Entry(VIOLATED, 4, "nothing-else-hit in clone_commit"),
                "linux-6.12": Entry(HOLDS),
            },
            "exec-resets": {"linux-6.12": Entry(HOLDS), "v1": Entry(NOT_APPLICABLE)},
            "inherited": {"v1": Entry(PROVED)},
        },
    )
    assert baseline.differences(TABLE, found) == [
        "v1 own-mm: recorded violated: nothing-else-hit in clone_commit, 3 steps; "
        "found violated: nothing-else-hit in clone_commit, 4 steps",
        "v1 inherited: recorded no verdict; found proved",
        "v1 vfork-frames/frames-kept (glibc 2.36): recorded violated, 12 steps; found no verdict",
        "linux-6.12 own-mm: recorded proved; found holds",
        "v3: not recorded",
    ]
    assert baseline.differences(TABLE, TABLE) == []


def test_an_update_of_one_design_leaves_the_others() -> None:
    """Columns that were not found again stay; the order is the registry's; gone designs go."""
    found = Table(("v3",), {"own-mm": {"v3": Entry(PROVED)}, "new": {"v3": Entry(HOLDS)}})
    merged = baseline.merged(TABLE, found, ["v1", "v3"])
    assert merged.designs == ("v1", "v3")
    assert merged.rows["own-mm"] == {"v1": TABLE.rows["own-mm"]["v1"], "v3": Entry(PROVED)}
    assert merged.rows["new"] == {"v3": Entry(HOLDS)}
    assert "exec-resets" in merged.rows


@pytest.mark.usefixtures("quick")
def test_recorded_verdicts_are_compared(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """--update records; then nothing differs; then a changed file does: a line, status 1."""
    file, readme = files
    assert main(["baseline", "v1"]) == 2  # nothing recorded yet
    assert main(["baseline", "--update", "v1"]) == 0
    assert "| `own-mm` | **V3** |" in readme.read_text()
    assert readme.read_text().startswith("# A project\n") and readme.read_text().endswith("more\n")
    assert main(["baseline", "v1"]) == 0
    file.write_text(
        file.read_text().replace(
            f"{'inherited':<{baseline.WIDTH}}H", f"{'inherited':<{baseline.WIDTH}}P"
        )
    )
    capsys.readouterr()
    assert main(["baseline", "v1"]) == 1
    assert capsys.readouterr().out == "v1 inherited: recorded proved; found holds\n"


def test_what_is_unknown_is_not_recorded(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exploration that stopped early leaves the file as it was."""
    found = Table(("v1",), {"own-mm": {"v1": Entry(UNKNOWN)}})
    monkeypatch.setattr(baseline_command, "assess", lambda *_, **__: ([], False))
    monkeypatch.setattr(baseline, "table", lambda _reports: found)
    assert main(["baseline", "--update"]) == 1
    assert "v1 own-mm" in capsys.readouterr().err
    assert not files[0].exists() and files[1].read_text() == README


def test_a_readme_without_the_marks_is_refused() -> None:
    """The matrix has its place."""
    with pytest.raises(UserError, match="has no <!-- verdicts -->"):
        baseline.with_matrix("# A project\n", TABLE)


# -- the one in the repository -------------------------------------------------------
def test_the_readme_has_the_recorded_verdicts() -> None:
    """The matrix in the README is the rendering of the recorded table."""
    readme = baseline.README.read_text(encoding="utf-8")
    assert readme == baseline.with_matrix(readme, baseline.read())


def test_what_is_violated_at_a_small_bound_is_recorded_as_violated() -> None:
    """Of two designs, every property that is about states and steps."""
    recorded = baseline.read()
    designs = [DESIGNS[name] for name in ("v1", "linux-6.12")]
    wanted = frozenset(p.id for p in PROPERTIES.values() if p.kind != "liveness")
    reports, _ = assess(designs, bound=Bound(2, 1, 1), wanted=wanted, proofs=False)
    violated = {(r.design, v.property.id) for r in reports for v in r.violated}
    assert len(violated) > 15
    for design, name in violated:
        entry = recorded.entry(name, design)
        assert entry is not None and entry.status == VIOLATED


def test_the_recorded_verdicts_are_what_check_says() -> None:
    """Two properties of a design, at the default bounds, with its proof: equal in all."""
    wanted = frozenset({"worker-holds-none", "own-mm"})
    found = baseline.table(assess([DESIGNS["linux-6.12"]], wanted=wanted)[0])
    recorded = baseline.read()
    rows = {name: row for name, row in recorded.rows.items() if property_of(name) in wanted}
    assert baseline.differences(Table(recorded.designs, rows), found) == []
    assert {e.status for row in found.rows.values() for e in row.values()} == {PROVED, VIOLATED}
