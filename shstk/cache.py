"""Keeping what can be made again between runs.

A key is the text itself: every source that what is kept depends on.  Whatever cannot be read
back exactly is made again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from model.designs import Design
from shstk.footprint import Observed, footprint
from shstk.loader import design_files

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
VERSION = 3
# What an exploration's answer depends on in the finite world, besides what it asks of a design;
# what it depends on with the designs and the reference machine; and, with all in them, a proof's
# besides.
FINITE = ("model", "model/kernel", "properties", "counterexamples", "shstk", "shstk/engine")
EXPLORED = (*FINITE, "model/designs", "model/cpu", "model/reference")
PROVED = ("properties", "shstk/proof")


def explored_sources(parts: Iterable[str] = EXPLORED) -> list[Path]:
    """Every file in these parts that an exploration's answer depends on."""
    built = [p for end in ("c", "so") for p in (ROOT / "shstk" / "engine").glob(f"*.{end}")]
    return [*built, *(p for part in parts for p in (ROOT / part).glob("*.py"))]


@cache
def whole_text() -> str:
    """A digest of every file that explorations and proofs depend on.

    Taken once: what is edited later is not what this process runs.
    """
    proofs = {p for part in PROVED for p in (ROOT / part).rglob("*.py")}
    out = hashlib.sha256()
    for path in sorted(proofs.union(explored_sources())):
        content = path.read_bytes()
        out.update(f"{path.relative_to(ROOT)} {len(content)}\0".encode() + content)
    return out.hexdigest()


def directory() -> Path:
    """Where things are kept: ``$XDG_CACHE_HOME/shstk``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "shstk"


def digest(what: str, sources: Iterable[Path], design: Design | None) -> str:
    """A digest of a question and of every source that its answer depends on."""
    out = hashlib.sha256(f"{VERSION} {what}".encode())
    files = design_files(design) if design is not None else ()
    for path in [*sorted(sources), *sorted(files)]:
        out.update(path.name.encode() + b"\0" + path.read_bytes())
    return out.hexdigest()


def found(key: str, kind: str) -> object:
    """What was kept under a key; None if nothing is there that can be read back exactly."""
    try:
        return _load(directory() / f"{key}.{kind}")
    except Exception:  # noqa: BLE001 - a damaged entry is an absent one
        return None


def keep(key: str, kind: str, content: object) -> None:
    """Keep something under a key; a cache that cannot be written is no error."""
    _store(directory() / f"{key}.{kind}", content)


def kept(key: str, kind: str, make: Callable[[], T], whole: Callable[[T], bool]) -> T:
    """What was kept under a key, or is made now, and kept if it is whole."""
    known = found(key, kind)
    if known is not None:
        return cast(T, known)
    made = make()
    if whole(made):
        keep(key, kind, made)
    return made


def _load(path: Path) -> object:
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError("damaged")
    return pickle.loads(content[32:])


def shared(what: str, kind: str, design: Design, make: Callable[[Design], T]) -> T:
    """What a design gives ``make``, kept for all designs that give it the same.

    ``what`` says what else it depends on.  First the names are kept that were asked for; who
    gives the same under them has the same.
    """
    return shared_under(what, kind, design, make)[0]


def shared_under(
    what: str, kind: str, design: Design, make: Callable[[Design], T]
) -> tuple[T, Collection[str]]:
    """The same, and the names that it depends on."""
    known = _found_under(what, kind, design)
    if known is not None:
        return cast(T, known[0]), known[1]
    observed = Observed(design)
    made = make(observed.design)
    put_shared(what, kind, design, observed.asked, made)
    return made, observed.asked


def shared_by(what: str, kind: str, design: Design) -> object:
    """What was kept by ``put_shared`` for a design that gives the same; None if nothing."""
    known = _found_under(what, kind, design)
    return None if known is None else known[0]


def _found_under(what: str, kind: str, design: Design) -> tuple[object, Collection[str]] | None:
    first = _first(what)
    known = found(first, "asked")
    sets: set[tuple[str, ...]] = set(known) if isinstance(known, set) else set()
    for names in sorted(sets):
        content = found(_with(first, design, names), kind)
        if content is not None:
            return content, names
    return None


def put_shared(what: str, kind: str, design: Design, asked: Iterable[str], content: object) -> None:
    """Keep something for all designs that give the same under the names that it has asked for."""
    first, names = _first(what), tuple(sorted(asked))
    keep(_with(first, design, names), kind, content)
    known = found(first, "asked")
    sets: set[tuple[str, ...]] = set(known) if isinstance(known, set) else set()
    if names not in sets:
        keep(first, "asked", sets | {names})


def _first(what: str) -> str:
    return hashlib.sha256(f"{VERSION} shared {what}".encode()).hexdigest()


def _with(first: str, design: Design, names: tuple[str, ...]) -> str:
    words = f"{first} {names} {footprint(design, names)}"
    return hashlib.sha256(words.encode()).hexdigest()


def _store(path: Path, content: object) -> None:
    """Write an entry whole or not at all; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(file.name, path)
    except OSError:
        pass
