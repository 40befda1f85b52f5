"""What a kernel has shown against what the machine predicts, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shstk.conform.compile import Asked, Case
from shstk.conform.observe import Start
from shstk.conform.quirks import on_bochs
from shstk.conform.seen import Seen, Warned
from shstk.conform.side import NOTHING, Side
from shstk.conform.symbols import Symbols

ONCE = "munmap failed"  # WARN_ON_ONCE() (unmap_shadow_stack(), shstk.c, 6.12)
# Not compared where the kernel's side does not say it.
IN_LOG = (": exception", "kernel log")  # rows that only the kernel's log can tell
OPTIONAL = "si_code"


@dataclass(frozen=True)
class Difference:
    """Something that is not as predicted."""

    what: str
    predicted: str
    observed: str


@dataclass(frozen=True)
class Divergence:
    """A step of a case after which something is not as predicted.

    ``step`` 0: the start of the scenario.  ``harness``: the guest could not do what it was
    asked, so this says nothing about the kernel.
    """

    case: Case
    step: int
    differences: tuple[Difference, ...]
    harness: bool = False

    @property
    def asked(self) -> Asked | None:
        """The step, as it was asked."""
        return self.case.asked[self.step - 1] if 0 < self.step <= len(self.case.asked) else None


@dataclass
class Places:
    """What the WARNs of a kernel mean, by where they are; the same in the whole campaign.

    ``said``: those that it has said, where a WARN_ON_ONCE stays said.
    """

    meaning: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def words(self, warned: Warned, predicted: str) -> str:
        """What a WARN means; one that is new means what was predicted for it."""
        known = self.meaning.get(warned.at)
        if known is None and predicted and predicted not in self.meaning.values():
            self.meaning[warned.at] = known = predicted
        return known or f"{warned.function} at {warned.at}"


class Comparison:
    """Follows one case.  ``places`` is the campaign's; ``emulated``: the CPU is Bochs."""

    def __init__(self, case: Case, start: Start, places: Places, emulated: bool = False) -> None:
        self.case, self.places, self.emulated = case, places, emulated
        self.side = Side(Symbols(start.code))
        self.start = start
        self._said: set[str] = set()

    def step(self, number: int, seen: Seen) -> Divergence | None:
        """Compare what was seen after a step."""
        if number == 0:
            return self._start(seen)
        asked = self.case.asked[number - 1]
        observed = self.side.rows(asked, seen)
        predicted = dict(asked.rows)
        if self.emulated:
            predicted = on_bochs(asked.seen, asked.names, predicted)
            # Nothing there is placed at random.
            predicted["addresses"], observed["addresses"] = _placed(asked.seen), _placed(seen)
        predicted["kernel log"], observed["kernel log"] = self._log(asked, seen)
        if not self.start.log:
            for rows in (predicted, observed):
                for what in [w for w in rows if w.endswith(IN_LOG)]:
                    del rows[what]
        found = tuple(differences(predicted, observed))
        return Divergence(self.case, number, found) if found else None

    def _start(self, seen: Seen) -> Divergence | None:
        """The first task is in user mode, with nothing."""
        expected = {0: "user"}
        states = {slot: task.state for slot, task in seen.tasks.items()}
        empty = not any(seen.areas.values()) and not seen.warnings and not seen.other
        fresh = all(not (t.ssp or t.features or t.locked or t.fault) for t in seen.tasks.values())
        if states == expected and empty and fresh:
            return None
        found = Difference("start", "P in user mode, no shadow stack", f"{states}, {seen.areas}")
        return Divergence(self.case, 0, (found,), harness=True)

    def _log(self, asked: Asked, seen: Seen) -> tuple[str, str]:
        """The kernel's warnings, predicted and observed."""
        predicted = []
        said = self._said if self.start.warn_once_reset else self.places.said
        for each in asked.seen.warnings:
            if each.at == ONCE and ONCE in said:
                continue
            said.add(each.at)
            predicted.append(each.at)
        words = []
        for number, warned in enumerate(seen.warnings):
            guess = predicted[number] if number < len(predicted) else ""
            words.append(self.places.words(warned, guess))
        predicted += asked.seen.other
        words += seen.other
        return "; ".join(predicted) or "nothing", "; ".join(words) or "nothing"


def _placed(seen: Seen) -> str:
    """The numbers behind the names: each mm's shadow stacks."""
    mms = [
        " ".join(f"{area.start:#x}-{area.end:#x}" for area in areas)
        for _, areas in sorted(seen.areas.items(), key=lambda each: sorted(each[0]))
    ]
    return "; ".join(mm or NOTHING for mm in mms) or NOTHING


def differences(predicted: Mapping[str, str], observed: Mapping[str, str]) -> Iterator[Difference]:
    """Rows that differ, in order; one that only one side has is one."""
    for what, words in predicted.items():
        if what not in observed:
            who, _, kind = what.partition(": ")
            # Of a fault that no handler has seen the log does not say it.
            if kind != OPTIONAL or observed.get(f"{who}: handlers entered") != NOTHING:
                yield Difference(what, words, "is not told")
        elif observed[what] != words:
            yield Difference(what, words, observed[what])
    for what, words in observed.items():
        if what not in predicted:
            yield Difference(what, "is not there", words)
