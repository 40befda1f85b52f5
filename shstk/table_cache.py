"""A design's tables, kept between runs, and pieces of them shared by designs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from model.designs import Design
from shstk.build import Piece, Share, Tables, extract
from shstk.cache import ROOT, digest, found, keep, shared
from shstk.collecting import seldom_collected
from shstk.space import Bound, Space

# Whose code says what is in a table.
MAKERS = (
    *("build", "engine/program", "finite", "finite_terms", "footprint"),
    *("identities", "loader", "space", "tables"),
)


def tables(
    design: Design,
    bound: Bound,
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """A design's tables, from the cache where they are there."""
    name = key(design, bound)
    with seldom_collected():
        known = found(name, "tables")
        if known is not None:
            forest, steps, reports, claims, reads = cast(tuple[Any, ...], known)
            return Tables(design, Space(bound), forest, steps, reports, claims, reads)
        made = extract(design, bound, progress=progress, share=_sharing(bound))
        parts = made.forest, made.steps, made.reports, made.state_claims, made.reads
        keep(name, "tables", parts)
    return made


def key(design: Design, bound: Bound) -> str:
    """A digest of everything that extraction depends on."""
    return digest(f"{design.name} {bound}", [*sources(), *_python("model/designs")], design)


def sources() -> list[Path]:
    """What extraction depends on besides the design: not the CPU, nor the reference machine."""
    text = [p for part in ("model", "model/kernel", "properties") for p in _python(part)]
    return [*text, *(ROOT / "shstk" / f"{name}.py" for name in MAKERS)]


def _python(part: str) -> list[Path]:
    """The Python files of a folder of the project."""
    return list((ROOT / part).glob("*.py"))


def _sharing(bound: Bound) -> Share:
    """Pieces that another design has given the same for are not made again."""
    text = digest(f"{bound}", sources(), None)

    def share(name: str, design: Design, make: Callable[[Design], Piece]) -> Piece:
        return shared(f"{text} {name}", "piece", design, make)

    return share
