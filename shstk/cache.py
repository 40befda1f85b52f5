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
from shstk.build import Tables, extract
from shstk.loader import design_files
from shstk.space import Bound, Space

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
VERSION = 2


def directory() -> Path:
    """Where tables are kept: ``$XDG_CACHE_HOME/shstk``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "shstk"


def digest(what: str, sources: Iterable[Path], design: Design) -> str:
    """A digest of a question and of every source that its answer depends on."""
    out = hashlib.sha256(f"{VERSION} {what}".encode())
    for path in [*sorted(sources), *sorted(design_files(design))]:
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


def key(design: Design, bound: Bound, switched_off: frozenset[str]) -> str:
    """A digest of everything that extraction depends on."""
    # The CPU and the reference machine have no part in the tables.
    parts = ("model", "model/kernel", "model/designs", "properties")
    sources = [p for part in parts for p in (ROOT / part).glob("*.py")]
    sources += [ROOT / "shstk" / f"{n}.py" for n in ("finite", "tables", "build", "space")]
    return digest(f"{design.name} {bound} {sorted(switched_off)}", sources, design)


def tables(
    design: Design,
    bound: Bound,
    switched_off: frozenset[str] = frozenset(),
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """A design's tables, from the cache where they are there."""
    name = key(design, bound, switched_off)
    known = found(name, "tables")
    if known is not None:
        forest, steps, reports, claims, reads = cast(tuple[Any, ...], known)
        return Tables(design, Space(bound), forest, steps, reports, claims, reads)
    made = extract(design, bound, switched_off, progress)
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
