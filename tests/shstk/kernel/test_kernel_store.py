"""The cache, and compiling into it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from shstk.kernel import compiler, store
from shstk.kernel.missing import Missing

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_whole_or_not_there() -> None:
    """What fails half-way leaves nothing, not even a temporary folder."""
    with pytest.raises(RuntimeError), store.made("thing") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(store.directory().iterdir()) == []
    with store.made("thing") as folder:
        (folder / "whole").write_text("x")
    assert [p.name for p in store.directory().iterdir()] == ["thing"]


def test_who_was_faster_stays() -> None:
    """An entry that somebody else has made meanwhile is not replaced."""
    with store.made("thing") as slow:
        (slow / "by").write_text("slow")
        with store.made("thing") as fast:
            (fast / "by").write_text("fast")
    assert (store.directory() / "thing" / "by").read_text() == "fast"
    assert len(list(store.directory().iterdir())) == 1


def test_what_is_too_old_goes() -> None:
    """A half-made entry of the day before yesterday is removed, one of today is another's work."""
    old, new = (store.directory() / f"{store.MAKING}{name}" for name in ("old", "new"))
    program = store.directory() / f"{store.PROGRAM}x"
    for folder, days in ((old, 2), (new, 0), (program, 2)):
        folder.mkdir()
        os.utime(folder, (time.time() - days * store.DAY,) * 2)
    with store.one_at_a_time():
        assert not old.exists() and new.exists() and program.exists()


def test_a_cache_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which variable to set."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(Missing, match="set XDG_CACHE_HOME"):
        store.directory()


@needs_compiler
def test_a_program_is_compiled_once_for_each_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text and headers give the kept program; a changed header a new one."""
    monkeypatch.setattr(compiler, "GUESTS", tmp_path / "guest")
    folder = tmp_path / "guest" / "sample"
    folder.mkdir(parents=True)
    (folder / "sample.c").write_text('#include "n.h"\nint main(void) { return N; }\n')
    (folder / "n.h").write_text("#define N 1\n")
    first = compiler.guest_program("sample")
    assert first == compiler.guest_program("sample")
    (folder / "n.h").write_text("#define N 2\n")
    second = compiler.guest_program("sample")
    assert second != first and second.exists() and first.exists()
    (folder / "cflags").write_text("# why\n-DX=1\n")
    assert compiler.guest_program("sample") != second


@needs_compiler
def test_a_program_that_does_not_compile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's first error is the message, and nothing is kept."""
    source = tmp_path / "wrong.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(Missing, match="'nothing' undeclared|nothing.*undeclared"):
        compiler.program("wrong", [source])
    assert list(store.directory().iterdir()) == []
    with pytest.raises(Missing, match="there is no guest program nowhere"):
        compiler.guest_program("nowhere")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Missing, match="install gcc"):
        compiler.program("wrong", [source])


@needs_compiler
def test_the_firmware_is_a_page_that_ends_in_the_reset_vector() -> None:
    """An x86 CPU starts 16 bytes before the end: a far jump to the page's start is there."""
    page = compiler.firmware()
    assert len(page) == 4096
    assert page[-16:-11] == bytes([0xEA, 0, 0, 0, 0xFF])
    assert page[0] == 0xFA
