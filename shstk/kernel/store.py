"""Where fetched and built things are kept, each whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shstk import cache
from shstk.kernel.missing import Missing

MAKING, PROGRAM = ".making-", "program-"  # how the names of entries begin
DAY = 24 * 3600  # seconds
# Half-made entries that an earlier end left behind, and programs whose text has changed since.
KEPT = {MAKING: DAY, PROGRAM: 30 * DAY}


def directory() -> Path:
    """``$XDG_CACHE_HOME/shstk/kernel``, made if it is not there.

    Raises Missing where it cannot be written.
    """
    path = cache.directory() / "kernel"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Missing(
            f"the cache {path} cannot be made: {error.strerror}; set XDG_CACHE_HOME"
        ) from None
    return path


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Nobody else fetches or builds meanwhile; what is too old to be of use goes."""
    with (directory() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for prefix, seconds in KEPT.items():
            for entry in directory().glob(f"{prefix}*"):
                if time.time() - entry.stat().st_mtime > seconds:
                    shutil.rmtree(entry, ignore_errors=True)
        yield


@contextmanager
def made(name: str) -> Iterator[Path]:
    """A new folder to fill, which becomes the entry ``name`` if all goes well.

    Where somebody else was faster, theirs stays.
    """
    work = Path(tempfile.mkdtemp(prefix=MAKING, dir=directory()))
    target = directory() / name
    try:
        yield work
        work.chmod(0o755)
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, wanted: str) -> None:
    """Raises Missing unless the file has the SHA-256 that the archive's index names."""
    found = sha256(path)
    if found != wanted:
        path.unlink()
        raise Missing(
            f"{path.name} is not what the archive's index names (SHA-256 {found[:12]}… instead of "
            f"{wanted[:12]}…): try again"
        )
