"""``python -m shstk.kernel``."""

from __future__ import annotations

from pathlib import Path

import pytest

from shstk.kernel import __main__ as command
from shstk.kernel.bochs import Bochs
from shstk.kernel.kernels import Kernel


def test_what_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and on standard error one line that says what is missing."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert command.main([]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and error.startswith("shstk: no C compiler")


def test_what_there_is_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel's version is on standard output, and no progress where there is no terminal."""
    asked = []

    def prepare(say: object, *, newest: bool) -> tuple[Kernel, Bochs]:
        asked.append(newest)
        return Kernel(Path("k"), "6.12.9"), Bochs(Path("b"))

    monkeypatch.setattr(command, "prepare", prepare)
    assert command.main(["--newest"]) == 0
    assert asked == [True]
    assert capsys.readouterr() == ("Linux 6.12.9: k\nBochs: b\n", "")
