"""Keeping extracted tables between runs.

The key is the text itself: every source the tables depend on, the bound and the
switched-off families.  Whatever cannot be read back exactly is extracted again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

from model.designs import Design
from shstk.build import Tables, extract
from shstk.loader import design_files
from shstk.space import Bound, Space

ROOT = Path(__file__).resolve().parent.parent
VERSION = 2


def directory() -> Path:
    """Where tables are kept: ``$XDG_CACHE_HOME/shstk``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "shstk"


def key(design: Design, bound: Bound, switched_off: frozenset[str]) -> str:
    """A digest of everything that extraction depends on."""
    digest = hashlib.sha256(f"{VERSION} {design.name} {bound} {sorted(switched_off)}".encode())
    # The CPU and the reference machine have no part in the tables.
    parts = ("model", "model/kernel", "model/designs", "properties")
    sources = [p for part in parts for p in (ROOT / part).glob("*.py")]
    sources += [ROOT / "shstk" / f"{n}.py" for n in ("finite", "tables", "build", "space")]
    for path in [*sorted(sources), *sorted(design_files(design))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def tables(
    design: Design,
    bound: Bound,
    switched_off: frozenset[str] = frozenset(),
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """A design's tables, from the cache where they are there."""
    path = directory() / f"{key(design, bound, switched_off)}.tables"
    try:
        digest, content = path.read_bytes()[:32], path.read_bytes()[32:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("damaged")
        forest, steps, reports, claims, reads = pickle.loads(content)
        return Tables(design, Space(bound), forest, steps, reports, claims, reads)
    except Exception:  # noqa: BLE001 - a damaged entry is an absent one
        pass
    made = extract(design, bound, switched_off, progress)
    _store(path, (made.forest, made.steps, made.reports, made.state_claims, made.reads))
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
