"""Events that happen where others have: what was asked of one need not be asked of the next.

Two runs part at a decision, and later emit the same event, with the same written before it.
What a watch asks of it has the same answers where the decisions have left the same to all that
the answers depend on, and most decisions are about something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.events import Event
from model.state import Record
from shstk.finite_terms import FiniteCond, FiniteTerm, Source

Overlay = dict[int, FiniteTerm]


class Noting(dict[Source, int]):
    """What is left to sources; notes which of them somebody wants to know of."""

    def __init__(self, left: Mapping[Source, int], wanted: dict[Source, None]) -> None:
        super().__init__(left)
        self.wanted = wanted

    def get(self, source: Source, default: Any = None) -> Any:
        self.wanted[source] = None
        return super().get(source, default)

    def copy(self) -> Noting:
        return Noting(self, self.wanted)


@dataclass
class Situation:
    """An event and what was written before it, as often as it was met.

    ``answered``: the findings by the sources that they depend on, and what was left to these.
    """

    answered: dict[tuple[Source, ...], dict[tuple[int | None, ...], Any]] = field(
        default_factory=dict
    )

    def recall(self, restricted: Mapping[Source, int]) -> Any:
        """What was found where as much was left as now."""
        for sources, findings in self.answered.items():
            found = findings.get(tuple([restricted.get(s) for s in sources]))
            if found is not None:
                return found
        return None

    def learn(self, sources: tuple[Source, ...], allowed: Mapping[Source, int], found: Any) -> None:
        """What was found, and on which sources it depends."""
        left = tuple([allowed.get(s) for s in sources])
        self.answered.setdefault(sources, {})[left] = found


class Situations:
    """Those of all runs of a text."""

    def __init__(self) -> None:
        self._known: dict[object, Situation] = {}
        self._written: dict[object, int] = {}
        # By the overlay's identity, which it keeps as long as it is kept.
        self._overlays: dict[int, tuple[Overlay, int]] = {}
        self._kept: list[Event] = []  # whose values' identities are in keys

    def of(self, who: str, event: Event, overlay: Overlay) -> Situation:
        """The situation of an event, for one who looks; the overlay stays as it is from now on."""
        key = who, type(event), self.written(overlay), *map(self._key, vars(event).values())
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Situation()
            self._kept.append(event)
        return known

    def written(self, overlay: Overlay) -> int:
        """A number for what an overlay says."""
        known = self._overlays.get(id(overlay))
        if known is None:
            content = tuple(overlay), tuple([term.key(self) for term in overlay.values()])
            number = self._written.setdefault(content, len(self._written))
            known = self._overlays[id(overlay)] = overlay, number
        return known[1]

    def _key(self, value: object) -> object:
        if isinstance(value, Record):
            return type(value), *[term.key(self) for term in value.index]  # type: ignore[attr-defined]
        if isinstance(value, (FiniteTerm, FiniteCond)):
            return value.key(self)
        return type(value), value
