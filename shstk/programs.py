"""Verdicts on instructions and stack contents: over all programs up to a length, per design.

A verdict says what a program may do, how long programs were tried, and what has to be
assumed; a violation is a scenario that a person can read and ``shstk run`` executes.
"""

from __future__ import annotations

import builtins
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from counterexamples.expected import ERRNO_NAMES
from counterexamples.render import WIDTH
from model.designs import DESIGNS, Design
from model.reference.machine import (
    Died,
    Effect,
    Faulted,
    KernelUnmaps,
    Returned,
    Signalled,
    Warning_,
)
from model.reference.signals import NAMES as SIGNAL_NAMES
from model.reference.signals import describe
from model.reference.world import SH_STK_EN
from properties.cpu import MACHINE_PROPERTIES
from properties.machine import MachineConjunct
from shstk.alphabet import Ability
from shstk.places import play
from shstk.program_search import Explored, Progress, Within, anywhere, explore_all
from shstk.settings import SETTINGS, Setting
from shstk.stage import Performed, Stage, perform
from shstk.verdicts import HOLDS, NOT_APPLICABLE, UNKNOWN, VIOLATED


@dataclass(frozen=True)
class ProgramVerdict:
    """What is known of a conjunct where programs may use some abilities, and no others.

    ``depth``: all programs of so many operations were tried; or so many has the shortest
    that violates it.  ``alphabet``: what they are made of.  ``scenario``: that program, with
    what comes before it; ``seen``: what is wrong, and what an engineer would see.
    ``witness``: some program made the premise true.
    """

    property: str
    conjunct: str
    where: str
    protocol: str
    abilities: tuple[str, ...]
    assumption: str
    status: str
    depth: int
    states: int
    alphabet: tuple[str, ...]
    scenario: tuple[str, ...] = ()
    seen: str = ""
    witness: bool = True

    @builtins.property
    def claim(self) -> str:
        """For example ``guard-gap/stays-on-its-stack``."""
        return f"{self.property}/{self.conjunct}"


def check_programs(
    design: Design,
    wanted: frozenset[str] = frozenset(),
    depth: int | None = None,
    progress: Progress | None = None,
) -> list[ProgramVerdict]:
    """Verdicts of a design, for the properties wanted (none: all of them).

    ``depth``: how many operations a program without abilities has at most, None: as many as
    are good for each property.  Ctrl-C gives what was found; the rest is unknown.
    """
    return check_all((design,), wanted, depth, progress)[0]


def check_all(
    designs: Sequence[Design],
    wanted: frozenset[str] = frozenset(),
    depth: int | None = None,
    progress: Progress | None = None,
    within: Within = anywhere,
) -> list[list[ProgramVerdict]]:
    """The same of several designs, which share what they have in common.

    ``within``: what a design's text is executed in.
    """
    out: list[list[ProgramVerdict]] = [[] for _ in designs]
    complete = True
    for setting in SETTINGS:
        if wanted and setting.property not in wanted:
            continue
        found: list[list[ProgramVerdict]] = []
        try:
            if complete:
                every = explore_all(designs, setting, depth, progress, within)
                complete = all(explored.complete for explored in every)
                for design, explored in zip(designs, every, strict=True):
                    with within(design):
                        found.append(verdicts(design, explored))
        except KeyboardInterrupt:
            complete = False
        unknown = [_unknown(setting, conjunct) for conjunct in _conjuncts(setting)]
        found += [unknown] * (len(designs) - len(found))
        for known, more in zip(out, found, strict=True):
            known += more
    return out


def _conjuncts(setting: Setting) -> list[MachineConjunct]:
    return MACHINE_PROPERTIES[setting.property].conjuncts


def _unknown(setting: Setting, conjunct: MachineConjunct) -> ProgramVerdict:
    """Of a setting that was not explored at all."""
    return ProgramVerdict(
        setting.property,
        conjunct.name,
        conjunct.where,
        setting.protocol,
        (),
        "",
        UNKNOWN,
        0,
        0,
        tuple(letter.words for letter in setting.base),
        witness=False,
    )


# -- from what was explored to verdicts ------------------------------------------------


def verdicts(design: Design, explored: Explored) -> list[ProgramVerdict]:
    """Each conjunct with no ability, with each by itself, with what breaks it together, …

    … and with all that do not break it.
    """
    out = []
    for conjunct in _conjuncts(explored.setting):
        judge = _Verdicts(design, explored, conjunct)
        out += [judge.verdict(abilities) for abilities in judge.sets()]
    return out


class _Verdicts:
    """The verdicts of one conjunct.  Sets of abilities are masks."""

    def __init__(self, design: Design, explored: Explored, conjunct: MachineConjunct) -> None:
        self.design, self.explored, self.conjunct = design, explored, conjunct
        self.setting = explored.setting
        known = explored.violations.get(conjunct.name, [])
        masks = {v.abilities for v in known}
        minimal = [m for m in masks if not any(m != n and not n & ~m for n in masks)]
        self.breaking = sorted(minimal, key=lambda mask: (mask.bit_count(), mask))

    def sets(self) -> list[int]:
        """The sets of abilities that there is something to say about."""
        if 0 in self.breaking:
            return [0]
        single = [1 << bit for bit in range(len(self.setting.abilities))]
        single = [mask for mask in single if mask & self.explored.possible]
        together = [mask for mask in self.breaking if mask.bit_count() > 1]
        harmless = sum(mask for mask in single if mask not in self.breaking)
        several = [harmless] if harmless.bit_count() > 1 else []
        return [0, *single, *together, *several]

    def verdict(self, abilities: int) -> ProgramVerdict:
        """The verdict for programs that use these abilities, or some of them."""
        if abilities in self.breaking:
            return self._violated(abilities)
        explored, name = self.explored, self.conjunct.name
        witness = explored.was_reached(name, abilities)
        status = HOLDS if witness else NOT_APPLICABLE
        return ProgramVerdict(
            self.setting.property,
            name,
            self.conjunct.where,
            self.setting.protocol,
            tuple(a.name for a in self._named(abilities)),
            self._assumption(),
            status if explored.complete else UNKNOWN,
            explored.depth(abilities),
            explored.states_with(abilities),
            self._alphabet(abilities),
            witness=witness,
        )

    def _violated(self, abilities: int) -> ProgramVerdict:
        violation = self.explored.violation(self.conjunct.name, abilities)
        assert violation is not None
        named = self._named(abilities)
        scenario, seen = self._scenario(violation.program, [a.name for a in named])
        return ProgramVerdict(
            self.setting.property,
            self.conjunct.name,
            self.conjunct.where,
            self.setting.protocol,
            tuple(a.name for a in named),
            "",
            VIOLATED,
            len(violation.program),
            self.explored.states_with(abilities),
            self._alphabet(abilities),
            scenario,
            seen,
        )

    def _named(self, abilities: int) -> list[Ability]:
        return [a for bit, a in enumerate(self.setting.abilities) if abilities >> bit & 1]

    def _alphabet(self, abilities: int) -> tuple[str, ...]:
        letters = [*self.setting.base, *(x for a in self._named(abilities) for x in a.letters)]
        return tuple(dict.fromkeys(letter.words for letter in letters))

    def _assumption(self) -> str:
        """What must not be done, in words; '' where everything may be."""
        single = [self._named(m)[0].phrase for m in self.breaking if m.bit_count() == 1]
        several = [self._named(m) for m in self.breaking if m.bit_count() > 1]
        together = [f"{_list([a.phrase for a in each], 'and')} in one program" for each in several]
        words = _list(single + together, "or")
        return f"{self.setting.who} does not {words}" if words else ""

    # -- the scenario ------------------------------------------------------------------
    def _scenario(self, program: tuple[str, ...], used: list[str]) -> tuple[tuple[str, ...], str]:
        """The program after no more of the prelude than it needs; and what is seen."""
        for opening in (self.setting.opening(used), self.setting.opening()):
            lines = (*opening, *program)
            try:
                done, judge = play(self.design, MACHINE_PROPERTIES[self.setting.property], lines)
            except (ValueError, KeyError, AssertionError):
                continue
            words = judge.wrong.get(self.conjunct.name)
            if words:
                return lines, _symbols(done.stage, _seen(self.setting, words, done))
        raise AssertionError(f"{self.conjunct.name}: {'; '.join(program)} does not replay")


def _list(words: Sequence[str], last: str) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


# -- what is seen ----------------------------------------------------------------------


def _seen(setting: Setting, words: str, done: Performed) -> str:
    shown = [text for text in map(effect_words, done.effects) if text]
    if not any(isinstance(e, Faulted) for e in done.effects):
        shown += _probed(setting, done.stage)
    return "; ".join([words, *shown])


def _probed(setting: Setting, stage: Stage) -> list[str]:
    """What the first of the probe's lines that raises something shows."""
    for line in setting.probe:
        if stage.thread(line.split()[0]) is None:
            return []
        done = perform(stage, line, to_the_end=True)
        if done is None:
            return []
        faults = [e for e in done.effects if isinstance(e, Faulted)]
        if faults:
            return [f"then {effect_words(faults[0])}"]
        stage = done.stage
    return [f"then {', '.join(setting.probe)} raise nothing"] if setting.probe else []


def effect_words(effect: Effect) -> str:
    """An effect that an engineer would notice, in a few words; else ''."""
    match effect:
        case Faulted():
            what = describe(effect.vector, effect.error_code, effect.address)
            return f"{effect.task}'s {effect.instruction} raises {what}"
        case Died() if effect.cause.startswith("SIG"):
            return f"{effect.task} dies of {effect.cause}"
        case Returned() if effect.value < 0:
            error = ERRNO_NAMES.get(-effect.value, str(-effect.value))
            return f"{effect.call} returns -{error} to {effect.task}"
        case Signalled():
            return f"{effect.task} enters the handler of {SIGNAL_NAMES[effect.signal]}"
        case KernelUnmaps() if effect.there:
            return f"the kernel unmaps {effect.start:#x} for {effect.task}"
        case Warning_():
            return f"WARN {effect.text}"
    return ""


def _symbols(stage: Stage, text: str) -> str:
    """With addresses of the stacks as a scenario writes them; flags in the low bits apart."""

    def symbol(match: re.Match[str]) -> str:
        value = int(match[0], 16)
        name = stage.symbol(value & ~7)
        if name.startswith("0x"):
            return match[0]
        return f"{name}|{value & 7}" if value & 7 else name

    return re.sub(r"0x[0-9a-f]{9,16}\b", symbol, text)


# -- text ------------------------------------------------------------------------------


def scenario_text(verdict: ProgramVerdict, design: Design) -> str:
    """A violated verdict as a scenario file, with what is to be expected at its end."""
    using = f", with {_list(verdict.abilities, 'and')}" if verdict.abilities else ""
    protocol = f" ({verdict.protocol})" if verdict.protocol else ""
    head = f"{verdict.claim}{protocol} is violated on {design.name}{using}."
    if verdict.abilities:
        head += " Programs that do without that were not seen to violate it."
    prop = MACHINE_PROPERTIES[verdict.property]
    story = [head, f"The claim: {prop.claim} ({verdict.where}).", *verdict.seen.split("; ")]
    known = design.name if design.name in DESIGNS else next(iter(DESIGNS))
    if known != design.name:
        story.append(f"To be run with --design and the file of {design.name}.")
    lines = [line for text in story for line in textwrap.wrap(text, WIDTH - 2)]
    expected = _expected(verdict, design)
    return "\n".join(
        [*(f"# {line}" for line in lines), f"design: {known}", *expected, "", *verdict.scenario, ""]
    )


def _expected(verdict: ProgramVerdict, design: Design) -> Iterator[str]:
    done, _ = play(design, MACHINE_PROPERTIES[verdict.property], verdict.scenario)
    for death in done.stage.system.dead.values():
        yield f"expect: {death.name} dies of {death.cause}"
    for thread in done.stage.system.threads.values():
        yield f"expect: {thread.name} is alive"
        if thread.regs.u_cet & SH_STK_EN and not thread.worker:
            yield f"expect: {thread.name}'s ssp is {done.stage.symbol(thread.ssp)}"
        if thread.regs.cpl == 3:
            yield f"expect: {thread.name}'s rip is {thread.regs.rip:#x}"


def table(found: Sequence[ProgramVerdict]) -> str:
    """Verdicts for a terminal: what holds, under which assumption, and what breaks it."""
    rows: dict[tuple[str, str, str], list[ProgramVerdict]] = {}
    for verdict in found:
        rows.setdefault((verdict.property, verdict.conjunct, verdict.protocol), []).append(verdict)
    return "\n".join(line for row in rows.values() for line in _row(row))


def _row(row: Sequence[ProgramVerdict]) -> Iterator[str]:
    """Of one conjunct and protocol: the first verdict is that without abilities."""
    base = row[0]
    name = base.claim + (f" ({base.protocol})" if base.protocol else "")
    if base.status in (VIOLATED, UNKNOWN):
        yield _line(base.status.upper(), name, base)
        yield from _indented("", base.seen)
        return
    held = [v for v in row if v.status == HOLDS]
    yield _line("HOLDS", name, held[0]) if held else _line("NOT MET", name, base)
    yield from _indented("if ", base.assumption)
    broken = [
        f"{' + '.join(v.abilities)} ({_operations(v.depth)})" for v in row if v.status == VIOLATED
    ]
    yield from _indented("broken by ", ", ".join(broken))
    yield from _indented("kept with ", _kept([v for v in held if v.abilities]))


def _line(word: str, name: str, v: ProgramVerdict) -> str:
    many = _operations(v.depth)
    if v.status != VIOLATED:
        rest = f" with {v.abilities[0]}" if v.abilities else f", {v.states:,} states"
        many = f"up to {many}{rest}"
    return f"  {word:<9} {name:<48} {many}"


def _operations(number: int) -> str:
    return f"{number} operation{'' if number == 1 else 's'}"


def _kept(held: Sequence[ProgramVerdict]) -> str:
    """Abilities that break nothing, by themselves and all together."""
    single = [v for v in held if len(v.abilities) == 1]
    several = [v for v in held if len(v.abilities) > 1]
    words = ", ".join(v.abilities[0] for v in single)
    if single:
        words += f" (up to {_operations(single[0].depth)})"
    return words + "".join(f", together up to {v.depth}" for v in several)


def _indented(label: str, words: str) -> list[str]:
    if not words:
        return []
    margin = " " * 12
    return textwrap.wrap(
        label + words, WIDTH, initial_indent=margin, subsequent_indent=margin + " " * len(label)
    )
