"""A line of a scenario as the guest reads it: addresses by what they are, code by its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from counterexamples.lines import Do
from model.reference import image
from model.reference.machine import Machine
from model.reference.operations import OPERATIONS, Address, NewTask
from model.reference.system import Thread
from model.reference.world import SH_STK_EN
from model.state import Ctl
from shstk.conform.causable import NotCausable
from shstk.conform.symbols import FAR, Symbols

NEAR_REGISTER = 1 << 16  # bytes: that far from SSP or RSP an address is told by them
SMALL = 1 << 16  # below vm.mmap_min_addr nothing is mapped: a number is a number
SITES = 1024  # how many call sites the guest has
CALL_LENGTH = 5  # bytes of CALL rel32


class Codes:
    """The machine's code addresses and the guest's places for them: equal ones have equal places.

    ``cN`` is what call site N pushes, ``entry`` where an image starts.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def name(self, address: int) -> str:
        """What the guest calls a code address of the machine's; '' where it has none."""
        if address in self._places:
            return f"c{self._places[address]}"
        return {image.ENTRY: "entry", image.RESTORER: "restorer"}.get(address, "")

    def site(self, back: int) -> int:
        """The call site for a return address; NotCausable where there are too many."""
        number = self._places.setdefault(back, len(self._places))
        if number >= SITES:
            raise NotCausable(f"more than {SITES} places that CALL returns to")
        return number


class Words:
    """Writes operations for the guest.  ``ranges``: the number of the step that made a range."""

    def __init__(self, machine: Machine, symbols: Symbols, codes: Codes) -> None:
        self.machine, self.symbols, self.codes = machine, symbols, codes
        self.ranges: dict[str, int] = {}

    def of(self, thread: Thread, line: Do, arguments: Mapping[str, object]) -> Iterator[str]:
        """The operation and its arguments; NotCausable where an address has no name there."""
        yield line.operation
        kinds = {p.name: p.kind for p in OPERATIONS[line.operation].parameters}
        if line.operation == "call" and thread.ctl is Ctl.USER:
            yield f"site={self.codes.site(thread.regs.rip + CALL_LENGTH)}"
        for name, value in arguments.items():
            if value is True:
                yield name
            elif kinds[name] is NewTask:
                yield f"{name}={self.machine.system.made['task']}"
            elif kinds[name] is Address:
                assert isinstance(value, int)
                yield f"{name}={self._address(thread, value)}"
            elif value is not False:
                yield f"{name}={value}"

    def _address(self, thread: Thread, value: int) -> str:
        """A number as the guest has it: by code place, range or register, else as it is."""
        code = self.codes.name(value)
        if value < SMALL or code:
            return code or str(value)
        mm = thread.mm if isinstance(thread.mm, int) else -1
        near = self._of_range(mm, value)
        if near:
            return near
        if thread.regs.u_cet & SH_STK_EN and abs(value - thread.ssp) < NEAR_REGISTER:
            return f"s{thread.tid}{_signed(value - thread.ssp)}"
        rsp = thread.rsp
        if abs(value - rsp) < NEAR_REGISTER:
            return f"p{thread.tid}{_signed(value - rsp)}"
        if image.ARENA <= value < image.ARENA + image.ARENA_SIZE:
            return f"arena{_signed(value - image.ARENA)}"
        return self._of_range(mm, value, FAR) or str(value)

    def _of_range(self, mm: int, value: int, far: int = 0) -> str:
        """An address by the step that made its range; a step's second range has no name there."""
        known = self.symbols.find(mm, value, far)
        if known is None:
            return ""
        number = self.ranges.get(known.name)
        if number is None:
            raise NotCausable(f"{known.name} is one of several ranges that a step made")
        if value >= known.end:
            return f"e{number}{_signed(value - known.end)}"
        return f"r{number}{_signed(value - known.start)}"


def _signed(distance: int) -> str:
    return f"{distance:+d}" if distance else ""
