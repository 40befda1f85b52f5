"""A design's tables, kept between runs, and pieces of them shared by designs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from model.designs import Design
from shstk.build import Piece, Share, Tables, extract
from shstk.cache import ROOT, digest, found, keep, shared_under
from shstk.collecting import seldom_collected
from shstk.space import Bound, Space

# Whose code says what is in a table.
MAKERS = (
    *("build", "engine/program", "finite", "finite_terms", "footprint"),
    *("identities", "loader", "running", "situations", "space", "tables"),
)

Names = dict[str, frozenset[str]]  # by step or claim: of the design, what its text asks for


def tables(
    design: Design,
    bound: Bound,
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """A design's tables, from the cache where they are there."""
    return tables_under(design, bound, progress)[0]


def tables_under(
    design: Design,
    bound: Bound,
    progress: Callable[[str], None] | None = None,
) -> tuple[Tables, Names]:
    """The same, and what each piece of its text has asked of the design."""
    name = key(design, bound)
    with seldom_collected():
        known = found(name, "tables")
        if known is not None:
            names, *parts = cast(tuple[Any, ...], known)
            return Tables(design, Space(bound), *parts), names
        names = {}
        made = extract(design, bound, progress=progress, share=_sharing(bound, names))
        whole = names, made.forest, made.steps, made.reports, made.state_claims, made.reads
        keep(name, "tables", whole)
    return made, names


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


def _sharing(bound: Bound, names: Names) -> Share:
    """Pieces that another design has given the same for are not made again.

    ``names`` is filled with what they have asked of the design.
    """
    text = digest(f"{bound}", sources(), None)

    def share(name: str, design: Design, make: Callable[[Design], Piece]) -> Piece:
        piece, asked = shared_under(f"{text} {name}", "piece", design, make)
        names[name] = frozenset(asked)
        return piece

    return share
