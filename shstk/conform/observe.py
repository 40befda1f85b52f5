"""What a guest reports: its lines, checked and put together.

A line tells only what has changed since the last one of its scenario (guest/README.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shstk.conform.seen import BAD_FRAME, FLAGS, Area, Fault, Seen, Task, Warned, joined

VERSION = 1
STATES = ("user", "blocked", "dead", "worker")


class Garbled(Exception):
    """A line that is no report: what is wrong with it."""


@dataclass(frozen=True)
class Start:
    """The first line.  ``sites``: the first return address, bytes between two, how many.

    ``log``: the guest can read the kernel's log, and so tells exceptions and warnings.
    ``cannot``: what this kernel has no way to, with reasons.
    """

    kernel: str
    shstk: bool
    sites: tuple[int, int, int]
    entry: int
    restorer: int
    log: bool
    warn_once_reset: bool
    cannot: Mapping[str, str]

    def code(self, address: int) -> str:
        """The name of a code address of the guest's, or ''."""
        first, distance, count = self.sites
        number, rest = divmod(address - first, distance)
        if rest == 0 and 0 <= number < count:
            return f"c{number}"
        return {self.entry: "entry", self.restorer: "restorer"}.get(address, "")


@dataclass(frozen=True)
class Report:
    """What was seen after a step of a scenario; step 0: its first task has started."""

    scenario: int
    step: int
    seen: Seen


@dataclass(frozen=True)
class Cannot:
    """A step that the guest could not carry out."""

    scenario: int
    step: int
    reason: str


@dataclass(frozen=True)
class Done:
    """A scenario is over; None: the campaign is.

    ``other``: lines of the kernel's log, no WARNs, from when what was left of it was killed.
    """

    scenario: int | None
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Error:
    """What the guest did not understand, or could not do at all."""

    message: str


Line = Start | Report | Cannot | Done | Error


@dataclass
class Reader:
    """Reads a campaign's lines in order."""

    _scenario: int | None = None
    _tasks: dict[int, Task] = field(default_factory=dict)
    _mms: dict[int, tuple[frozenset[int], tuple[Area, ...]]] = field(default_factory=dict)

    def read(self, text: str) -> Line:
        """What a line says; Garbled."""
        try:
            said = json.loads(text)
            if not isinstance(said, dict):
                raise Garbled(f"no object: {text[:120]!r}")
            return self._line(said)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Garbled(f"{type(error).__name__} {error} in {text[:200]!r}") from None

    def _line(self, said: Mapping[str, Any]) -> Line:
        if said.get("campaign") == "start":
            return _start(said)
        if said.get("campaign") == "done":
            return Done(None)
        if "error" in said:
            return Error(str(said["error"]))
        scenario = _number(said["scenario"])
        if said.get("done"):
            return Done(scenario, tuple(_other(said)))
        step = _number(said["step"])
        if "cannot" in said:
            return Cannot(scenario, step, str(said["cannot"]))
        if scenario != self._scenario:
            self._scenario = scenario
            self._tasks.clear()
            self._mms.clear()
        return Report(scenario, step, self._seen(said))

    def _seen(self, said: Mapping[str, Any]) -> Seen:
        for slot, task in self._tasks.items():
            self._tasks[slot] = replace(task, fault=None, returned=None, handled=())
        for entry in said.get("tasks", ()):
            self._tasks[_number(entry["slot"])] = _task(entry)
        for entry in said.get("mms", ()):
            slots = frozenset(_number(slot) for slot in entry["slots"])
            self._mms[_number(entry["mm"])] = slots, joined(_area(a) for a in entry["shstk"])
        running = {n for n, task in self._tasks.items() if task.state in ("user", "blocked")}
        areas = {slots & running: areas for slots, areas in self._mms.values() if slots & running}
        result = said["result"]
        return Seen(
            result=None if result is None else _number(result),
            tasks=dict(self._tasks),
            areas=areas,
            warnings=tuple(
                Warned(str(w["function"]), str(w["at"])) for w in said.get("warnings", ())
            ),
            other=tuple(_other(said)),
        )


def _other(said: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the kernel's log, without those of the WARNs that ``warnings`` tells of."""
    places = [str(warned["at"]) for warned in said.get("warnings", ())]
    for line in said.get("log", ()):
        if BAD_FRAME in str(line):
            yield BAD_FRAME  # of whom, and with which registers, is another matter
        elif not any(place in str(line) for place in places):
            yield str(line)


def _number(value: object) -> int:
    if type(value) is not int:
        raise Garbled(f"{value!r} is no whole number")
    return value


def _start(said: Mapping[str, Any]) -> Start:
    if said.get("version") != VERSION:
        raise Garbled(f"the guest speaks version {said.get('version')}, this is for {VERSION}")
    first, distance, count = (_number(n) for n in said["sites"])
    return Start(
        str(said["kernel"]),
        bool(said["shstk"]),
        (first, distance, count),
        _number(said["entry"]),
        _number(said["restorer"]),
        bool(said["log"]),
        bool(said["warn_once_reset"]),
        {str(k): str(v) for k, v in said.get("cannot", {}).items()},
    )


def _task(entry: Mapping[str, Any]) -> Task:
    state = entry["state"]
    if state not in STATES:
        raise Garbled(f"{state!r} is none of {', '.join(STATES)}")
    return Task(
        state,
        _optional(entry, "ssp", _number),
        _optional(entry, "features", _number),
        _optional(entry, "locked", _number),
        _optional(entry, "exit", _exit) or "",
        _optional(entry, "fault", _fault),
        _optional(entry, "returned", _number),
        tuple(_number(signal) for signal in entry.get("handled", ())),
    )


def _optional(entry: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    value = entry.get(name)
    return None if value is None else read(value)


def _exit(said: Mapping[str, Any]) -> str:
    if "signal" in said:
        return f"signal {_number(said['signal'])}"
    return f"exit {_number(said['code'])}"


def _fault(said: Mapping[str, Any]) -> Fault:
    return Fault(
        _number(said["trapno"]),
        _number(said["error"]),
        _optional(said, "address", _number),
        _optional(said, "si_code", _number),
    )


def _area(said: Any) -> Area:
    start, end, flags = said
    words = str(flags).split()
    return Area(_number(start), _number(end), tuple(flag for flag in FLAGS if flag in words))
