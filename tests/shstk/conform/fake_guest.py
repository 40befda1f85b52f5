"""A guest in Python: a second reference machine that answers, with another layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import model.reference.protocols  # noqa: F401 - registers the operations
from counterexamples.interpret import Step
from counterexamples.lines import Do, make
from counterexamples.views import View, look
from model.designs import Design
from model.reference import image
from model.reference.machine import Machine, NotNow
from model.reference.operations import OPERATIONS, Address, NewTask, do
from model.reference.vma import AddressSpace, page_align
from shstk.conform.compile import CLONES, RANGES, READS
from shstk.conform.predict import Groups, Handlers, predict
from shstk.conform.seen import Seen, Task

SITES, DISTANCE, ENTRY, RESTORER = 0x700000, 16, 0x600000, 0x600100
PLACES = {"double free": "shstk.c:448", "munmap failed": "shstk.c:155"}
SHIFT = 0x0600_0000  # bytes that it places things below where the host's machine does
Lie = Callable[[dict[str, Any]], dict[str, Any] | None]
START = {
    "campaign": "start",
    "version": 1,
    "kernel": "6.12-fake",
    "shstk": True,
    "sites": [SITES, DISTANCE, 1024],
    "entry": ENTRY,
    "restorer": RESTORER,
    "log": True,
    "warn_once_reset": True,
    "cannot": {},
}


def boot(
    design: Design, shift: int = SHIFT, lie: Lie = lambda line: line, start: dict[str, Any] = START
) -> Callable[[bytes], Iterator[str]]:
    """What a campaign needs: it answers as ``design`` does; ``lie`` may change or drop lines."""

    def run(campaign: bytes) -> Iterator[str]:
        yield json.dumps(start)
        guest = None
        for text in campaign.decode().splitlines():
            words = text.split()
            if words[:1] == ["scenario"]:
                guest = Guest(design, int(words[1]), shift)
                said = guest.started()
            elif words == ["end"]:
                assert guest is not None
                said = {"scenario": guest.number, "done": True}
            else:
                assert guest is not None
                if guest.stopped:
                    continue
                said = guest.try_step(words)
            told = lie(said)
            if told is not None:
                yield json.dumps(told)
        yield json.dumps({"campaign": "done"})

    return run


@dataclass
class Guest:
    """One scenario."""

    design: Design
    number: int
    shift: int
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    warned: bool = False
    stopped: bool = False

    def __post_init__(self) -> None:
        self.machine = Machine.boot(self.design)
        system, new_space = self.machine.system, self.machine.system.new_space

        def elsewhere() -> AddressSpace:
            space = new_space()
            space.mmap_base -= self.shift
            return space

        system.new_space = elsewhere  # type: ignore[method-assign]
        for space in system.mms.values():
            space.mmap_base -= self.shift
        self.slots = {"P": 0}
        self.groups, self.handlers = Groups(), Handlers(self.machine)
        self.view = look(self.machine)
        self.groups.look(self.view, self.slots)
        self.told: dict[int, dict[str, Any]] = {}
        self.mms: dict[int, dict[str, Any]] = {}

    def started(self) -> dict[str, Any]:
        """The line of step 0."""
        task = {"slot": 0, "state": "user", "ssp": 0, "features": 0, "locked": 0}
        return {"scenario": self.number, "step": 0, "result": None, "tasks": [task]}

    def try_step(self, words: list[str]) -> dict[str, Any]:
        """The same; a step that cannot be done ends the scenario."""
        try:
            return self.step(words)
        except (NotNow, KeyError) as error:
            self.stopped = True
            return {"scenario": self.number, "step": int(words[0]), "cannot": str(error)}

    def step(self, words: list[str]) -> dict[str, Any]:
        """Do what a line asks, and the line that tells of it."""
        number, slot, name = int(words[0]), int(words[1]), words[2]
        task = self.machine.system.threads[slot].name
        said = dict(w.partition("=")[::2] for w in words[3:])
        thread = self.machine.thread(task)
        if "site" in said:
            site = int(said.pop("site"))
            back = thread.regs.rip + 5
            assert self.codes.setdefault(site, back) == back, "equal places are equal addresses"
        arguments = {
            p.name: self.value(p.kind, said[p.name])
            for p in OPERATIONS[name].parameters
            if p.name in said
        }
        before = self.view
        handlers = {
            name: frozenset(self.machine.system.groups[each.group].handlers)
            for name, each in self.machine.names().items()
        }
        done = do(self.machine, task, name, **arguments)
        self.view = after = look(self.machine)
        line = Do(task, name, make(task, name, {}).arguments if not arguments else ())
        for made in after.tasks.keys() - before.tasks.keys():
            self.slots[made] = self.machine.thread(made).tid
        size = int(arguments.get("new_size") or arguments.get("size") or 0)
        self.learn(number, name, done.value, size, before.tasks[task].mm, before)
        kind = "none"
        if name in RANGES:
            kind = "range"
        elif name in CLONES:
            kind = "task"
        elif name in READS or said.get("option") == "STATUS":
            kind = "value"
        elif any(type(e).__name__ == "Returned" and e.task == task for e in done.effects):
            kind = "status"
        step = Step(number, line, done, before, after, (), arguments)
        return self.report(
            number,
            predict(step, self.slots, kind, self.groups, handlers, self.handlers.told(step)),
            kind,
        )

    # -- reading ---------------------------------------------------------------------------
    def value(self, kind: Any, text: str) -> Any:
        """An argument as the machine takes it."""
        if kind is bool:
            return True
        if kind is NewTask:
            return f"T{text}"
        if kind is str:
            return text
        total = 0
        for sign, term in re.findall(r"([+-]?)([^+-]+)", text):
            total += (-1 if sign == "-" else 1) * self.term(term)
        return total % (1 << 64)

    def term(self, term: str) -> int:
        """A number, or what stands for an address."""
        if term[0].isdigit():
            return int(term, 0)
        if term in ("entry", "restorer", "arena"):
            return {"entry": image.ENTRY, "restorer": image.RESTORER, "arena": image.ARENA}[term]
        letter, number = term[0], int(term[1:])
        if letter in "re":
            return self.ranges[number][letter == "e"]
        if letter == "c":
            return self.codes[number]
        thread = self.machine.system.threads[number]
        if letter == "s":
            return thread.ssp
        assert letter == "p"
        return thread.frame.rsp if thread.frame else thread.regs.rsp

    def learn(
        self, number: int, name: str, value: int | None, size: int, mm: int, before: View
    ) -> None:
        """The range that a step has made."""
        space = self.machine.system.mms.get(mm)
        if space is None:
            return
        if name in RANGES and value is not None:
            self.ranges[number] = value, value + page_align(size)
            return
        old = {(area.start, area.end) for area in before.mms[mm]}
        new = [a for a in space.areas if a.shadow and (a.start, a.end) not in old]
        if len(new) == 1:
            self.ranges[number] = new[0].start, new[0].end

    # -- telling -----------------------------------------------------------------------------
    def report(self, number: int, seen: Seen, kind: str) -> dict[str, Any]:
        """The line of a step: what is different since the last one."""
        tasks = []
        for slot, task in seen.tasks.items():
            entry = {"slot": slot, **_entry(task)}
            if entry != self.told.get(slot):
                tasks.append(entry)
            self.told[slot] = {
                k: v for k, v in entry.items() if k not in ("fault", "handled", "returned")
            }
        result = seen.result
        if result is not None and kind == "value":
            back = {address: SITES + DISTANCE * site for site, address in self.codes.items()}
            back |= {image.ENTRY: ENTRY, image.RESTORER: RESTORER}
            result = back.get(result, result)
        line = {"scenario": self.number, "step": number, "result": result, "tasks": tasks}
        mms = self._mms(seen)
        if mms:
            line["mms"] = mms
        # WARN_ON_ONCE() says it once, until the next scenario.
        said = []
        for each in seen.warnings:
            if each.at == "double free" or not self.warned:
                said.append(each)
            self.warned = self.warned or each.at == "munmap failed"
        if seen.other:
            line["log"] = [f"init[7] {text} frame:(____ptrval____) ip:0" for text in seen.other]
        if said:
            line["warnings"] = [
                {"slot": None, "function": w.function, "at": PLACES[w.at]} for w in said
            ]
        return line

    def _mms(self, seen: Seen) -> list[dict[str, Any]]:
        now = {}
        for users, areas in seen.areas.items():
            mm = self.view.tasks[next(n for n, s in self.slots.items() if s in users)].mm
            shstk = [[a.start, a.end, " ".join(("mr", "mw", *a.flags))] for a in areas]
            now[mm] = {"mm": mm, "slots": sorted(users), "shstk": shstk}
        gone = [{"mm": mm, "slots": [], "shstk": []} for mm in self.mms.keys() - now.keys()]
        changed = [each for mm, each in now.items() if self.mms.get(mm) != each]
        self.mms = now
        return gone + changed


def _entry(task: Task) -> dict[str, Any]:
    entry: dict[str, Any] = {"state": task.state}
    if task.state in ("user", "blocked"):
        entry |= {"ssp": task.ssp, "features": task.features, "locked": task.locked}
    if task.exit:
        word, _, number = task.exit.partition(" ")
        entry["exit"] = {"signal" if word == "signal" else "code": int(number)}
    if task.fault:
        entry["fault"] = {"trapno": task.fault.trapno, "error": task.fault.error}
        if task.fault.address is not None:
            entry["fault"]["address"] = task.fault.address
        if task.fault.si_code is not None:
            entry["fault"]["si_code"] = task.fault.si_code
    if task.returned is not None:
        entry["returned"] = task.returned
    if task.handled:
        entry["handled"] = list(task.handled)
    return entry


__all__ = ["Address", "boot"]
