"""Keeping extracted tables between runs.

The key is the text itself: every source the tables depend on, the bound and the
switched-off families.  Whatever cannot be read back exactly is extracted again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from model.designs import Design
from shstk.build import Piece, Share, Tables, extract
from shstk.footprint import Observed, footprint
from shstk.loader import design_files
from shstk.space import Bound, Space

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
VERSION = 2


def directory() -> Path:
    """Where tables are kept: ``$XDG_CACHE_HOME/shstk``."""
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


def key(design: Design, bound: Bound) -> str:
    """A digest of everything that extraction depends on."""
    return digest(f"{design.name} {bound}", [*_sources(), *design_sources()], design)


def _sources() -> list[Path]:
    """What extraction depends on besides the design: not the CPU, nor the reference machine."""
    sources = [p for part in ("model", "model/kernel", "properties") for p in python_in(part)]
    makers = ("finite", "tables", "build", "space", "identities", "footprint")
    return [*sources, *(ROOT / "shstk" / f"{name}.py" for name in makers)]


def design_sources() -> list[Path]:
    """The designs' files, which each of them may import."""
    return python_in("model/designs")


def python_in(part: str) -> list[Path]:
    """The Python files of a folder of the project."""
    return list((ROOT / part).glob("*.py"))


def _sharing(bound: Bound) -> Share:
    """Pieces that another design has given the same for are not made again."""
    text = digest(f"{bound}", _sources(), None)

    def share(name: str, design: Design, make: Callable[[Design], Piece]) -> Piece:
        return shared(f"{text} {name}", "piece", design, make)

    return share


def shared(what: str, kind: str, design: Design, make: Callable[[Design], T]) -> T:
    """What a design gives ``make``, kept for all designs that give it the same.

    ``what`` says what else it depends on.  First the names are kept that were asked for; who
    gives the same under them has the same.
    """
    first = hashlib.sha256(f"{VERSION} shared {what}".encode()).hexdigest()
    known = found(first, "asked")
    sets: set[tuple[str, ...]] = set(known) if isinstance(known, set) else set()
    for names in sorted(sets):
        content = found(_with(first, design, names), kind)
        if content is not None:
            return cast(T, content)
    observed = Observed(design)
    made = make(observed.design)
    names = tuple(sorted(observed.asked))
    keep(_with(first, design, names), kind, made)
    keep(first, "asked", sets | {names})
    return made


def _with(first: str, design: Design, names: tuple[str, ...]) -> str:
    words = f"{first} {names} {footprint(design, names)}"
    return hashlib.sha256(words.encode()).hexdigest()


def tables(
    design: Design,
    bound: Bound,
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """A design's tables, from the cache where they are there."""
    name = key(design, bound)
    known = found(name, "tables")
    if known is not None:
        forest, steps, reports, claims, reads = cast(tuple[Any, ...], known)
        return Tables(design, Space(bound), forest, steps, reports, claims, reads)
    made = extract(design, bound, progress=progress, share=_sharing(bound))
    keep(name, "tables", (made.forest, made.steps, made.reports, made.state_claims, made.reads))
    return made


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
