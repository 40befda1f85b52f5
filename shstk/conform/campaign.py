"""A campaign: cases given to a guest in one boot, its lines compared as they come."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model.designs import Design
from model.reference.areas import PMD_SIZE
from shstk.conform.compare import Comparison, Difference, Divergence, Places
from shstk.conform.compile import Case
from shstk.conform.observe import Cannot, Done, Error, Garbled, Reader, Report, Start
from shstk.errors import UserError

Boot = Callable[[bytes], Iterator[str]]  # the lines that a guest writes, for a campaign file
# A page, and below it something large, which is unaligned unless the kernel takes care.
PROBE, PROBE_STEP = b"scenario 1\n1 0 mmap size=4096\n2 0 mmap size=2097152\nend\n", 2
BOOTS = 4  # how often a boot is tried again from the scenario after one that ended it


class Ended(Exception):
    """A guest has stopped before its end: what the console said last."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    ``steps``: how many were compared.  ``left_out``: why the rest was not, where the kernel has
    no way to a step; '' else.
    """

    case: Case
    steps: int
    divergence: Divergence | None = None
    left_out: str = ""


class Campaign:
    """Runs cases on a guest.  ``start`` is what it said of itself, once it has.

    ``emulated``: its CPU is Bochs, with what Bochs does differently (``quirks``).
    """

    def __init__(self, boot: Boot, emulated: bool = False) -> None:
        self.boot, self.emulated = boot, emulated
        self.start: Start | None = None
        self.places = Places()

    def aligns(self) -> bool:
        """Whether a kernel places what is a multiple of 2 MiB at one, found out on it."""
        reader = Reader()
        for text in self.boot(PROBE):
            line = reader.read(text)
            if isinstance(line, Report) and line.step == PROBE_STEP:
                if line.seen.result is None or line.seen.result < 0:
                    raise UserError("the kernel maps no memory for the guest")
                return line.seen.result % PMD_SIZE == 0
        raise UserError("the guest does not answer")

    def run(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        """The outcomes in order, as they come; Garbled and UserError where there is no guest.

        A kernel that stops within a scenario is a divergence of it, and is booted again for
        those behind it.
        """
        rest = list(cases)
        for _ in range(BOOTS):
            told = 0
            try:
                for outcome in self._boot(rest):
                    told += 1
                    yield outcome
            except Ended as ended:
                if told == len(rest) or self.start is None:
                    raise UserError(f"the guest has stopped: {ended}") from None
                yield Outcome(rest[told], 0, _stopped(rest[told], str(ended)))
                told += 1
            rest = rest[told:]
            if not rest:
                return
        raise UserError(f"the guest has stopped {BOOTS} times")

    def _boot(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        """One boot: an outcome for each case until it ends."""
        expected = iter(cases)
        current: _Current | None = _Current(self, next(expected))
        reader = Reader()
        for text in self.boot(campaign_file(cases)):
            line = reader.read(text)
            if isinstance(line, Start):
                self.start = line
                if not line.shstk:
                    raise UserError("the kernel has no user shadow stacks (user_shstk)")
            elif self.start is None:
                raise Garbled(f"the guest begins with {text[:120]!r}")
            elif isinstance(line, Done) and line.scenario is None:
                if current is not None:
                    raise Garbled(f"the guest ends before scenario {current.case.number} does")
                return
            elif isinstance(line, Error):
                raise Garbled(line.message)
            elif current is None:
                raise Garbled(f"behind the last scenario: {text[:120]!r}")
            elif isinstance(line, Done):
                current.is_(line.scenario)
                current.done(line)
                yield current.outcome()
                following = next(expected, None)
                current = None if following is None else _Current(self, following)
            elif isinstance(line, Report):
                current.is_(line.scenario)
                current.report(line)
            elif isinstance(line, Cannot):
                current.is_(line.scenario)
                current.cannot(line, self.start)
        raise Ended("it wrote no more")


class _Current:
    """The case whose lines come now."""

    def __init__(self, campaign: Campaign, case: Case) -> None:
        self.campaign, self.case = campaign, case
        self._comparison: Comparison | None = None
        self._next = 0
        self._compared = 0
        self._divergence: Divergence | None = None
        self._left_out = ""

    def is_(self, scenario: int | None) -> None:
        """Garbled unless the guest speaks of this case."""
        if scenario != self.case.number:
            raise Garbled(f"the guest tells of scenario {scenario}, not {self.case.number}")

    def report(self, line: Report) -> None:
        """Compare a step, unless an earlier one differs already."""
        if self._divergence is not None or self._left_out:
            return
        if line.step != self._next:
            raise Garbled(f"scenario {line.scenario}: step {line.step}, not {self._next}")
        if self._comparison is None:
            assert self.campaign.start is not None
            self._comparison = Comparison(
                self.case, self.campaign.start, self.campaign.places, self.campaign.emulated
            )
        self._divergence = self._comparison.step(line.step, line.seen)
        self._compared += line.step > 0
        self._next += 1

    def cannot(self, line: Cannot, start: Start) -> None:
        """A step that the guest cannot do: this kernel has no way to it, or something is wrong."""
        if self._divergence is not None or self._left_out:
            return
        asked = self.case.asked[line.step - 1]
        words = {"io_uring"} if asked.line.operation == "io_uring_worker" else set()
        words |= {str(value) for name, value in asked.line.arguments if name == "fails"}
        if words & start.cannot.keys():
            self._left_out = line.reason
            return
        found = Difference("the step", "can be done", f"the guest cannot: {line.reason}")
        self._divergence = Divergence(self.case, line.step, (found,), harness=True)

    def done(self, line: Done) -> None:
        """What was left has been killed: nothing is said of that but WARNs."""
        if self._divergence is None and line.other:
            found = Difference("kernel log at the end", "nothing", "; ".join(line.other))
            self._divergence = Divergence(self.case, self._next - 1, (found,))

    def outcome(self) -> Outcome:
        """What has become of it, at its end."""
        missing = len(self.case.asked) + 1 - self._next
        if self._divergence is None and not self._left_out and missing:
            found = Difference("the scenario", f"{len(self.case.asked)} steps", "fewer")
            self._divergence = Divergence(self.case, self._next, (found,), harness=True)
        return Outcome(self.case, self._compared, self._divergence, self._left_out)


def _stopped(case: Case, console: str) -> Divergence:
    found = Difference("the kernel", "goes on", f"says nothing any more: {console}")
    return Divergence(case, 0, (found,), harness=True)


def campaign_file(cases: Sequence[Case]) -> bytes:
    """What a guest reads."""
    return "".join(case.text for case in cases).encode()


def configured(design: Design, campaign: Campaign) -> Design:
    """The design as it is on a kernel whose configuration is not Debian's: without huge pages."""
    if not design.huge_pages or campaign.aligns():
        return design
    other = copy.copy(design)
    other.huge_pages = False
    return other
