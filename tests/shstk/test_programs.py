"""Verdicts over all programs up to a length: what they are, that they replay, and can fail."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from counterexamples.interpret import Run
from counterexamples.scenario import parse
from model.cpu import branch, shadow
from model.cpu.world import Cpu, Word
from model.designs import DESIGNS, X86_DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.kernel.uaccess import UserMemory
from model.reference import protocols
from model.reference.machine import Machine
from model.reference.operations import OPERATIONS, NewTask, do
from model.reference.system import Death, System, Thread
from model.reference.values import Range
from model.reference.vma import GuardGaps
from properties.cpu import MACHINE_PROPERTIES
from shstk import places, program_search, programs
from shstk.places import Asking, Places, play
from shstk.program_search import explore, explore_all
from shstk.programs import ProgramVerdict, check_all, check_programs, scenario_text, table
from shstk.settings import INSTALLED_SSP, SETTINGS, TOKEN_ONCE, Setting, vfork_frames
from shstk.stage import Stage, boot, canonical, is_over, perform, uncanonical
from shstk.verdicts import HOLDS, NOT_APPLICABLE, UNKNOWN, VIOLATED

Found = dict[str, list[ProgramVerdict]]
LINUX, V1 = "linux-6.12", "v1"
BOTH = (LINUX, V1)  # what is expected below is of these
OLD, NEW = "glibc 2019", "glibc 2.36"


@pytest.fixture(scope="module")
def found() -> Found:
    """All verdicts of both designs, at the default depths."""
    return {name: check_programs(DESIGNS[name]) for name in BOTH}


@pytest.fixture(scope="module", params=BOTH)
def design(request: pytest.FixtureRequest) -> Design:
    """Each of them in turn."""
    return DESIGNS[request.param]


def of(
    verdicts: list[ProgramVerdict], claim: str, protocol: str = ""
) -> dict[tuple[str, ...], ProgramVerdict]:
    """The verdicts of a conjunct by abilities."""
    return {v.abilities: v for v in verdicts if (v.claim, v.protocol) == (claim, protocol)}


def broken(verdicts: list[ProgramVerdict], claim: str, protocol: str = "") -> dict[str, int]:
    """What breaks a conjunct, and in how many operations."""
    row = of(verdicts, claim, protocol)
    return {"+".join(a): v.depth for a, v in row.items() if v.status == VIOLATED}


# -- what the machine says -------------------------------------------------------------

FRAMES = "vfork-frames/frames-kept"
RETURNS = "vfork-return-faults/near-ret-fault"
CHILD_ALWAYS = {"INCSSP": 3, "longjmp": 3, "WRSS": 3}
V1_ONLY = {"disable": 2, "signals+pivot+nested vfork": 4}
RETURN_BROKEN = {"pivot": 4, "INCSSP": 2, "longjmp": 2, "WRSS": 3, "disable": 2}
BOUNDS = {"fixed address": 2, "mremap": 2, "full address space": 3, "forged frames": 4}

EXPECTED = [
    (LINUX, FRAMES, NEW, CHILD_ALWAYS),
    (LINUX, FRAMES, OLD, {**CHILD_ALWAYS, "return": 3}),
    (V1, FRAMES, NEW, {**CHILD_ALWAYS, **V1_ONLY}),
    (V1, FRAMES, OLD, {**CHILD_ALWAYS, **V1_ONLY, "return": 3}),
    (LINUX, RETURNS, NEW, RETURN_BROKEN),
    (LINUX, RETURNS, OLD, {"": 1}),
    (V1, RETURNS, NEW, RETURN_BROKEN),
    (V1, RETURNS, OLD, {"": 1}),
    (LINUX, "token-once/one-rstorssp", "", {}),
    (LINUX, "token-once/one-user", "", {}),
    (LINUX, "token-once/nobody-on-it", "", {"vfork": 5, "WRSS": 4}),
    (V1, "token-once/one-rstorssp", "", {}),
    (V1, "token-once/one-user", "", {"signals": 4}),
    (V1, "token-once/nobody-on-it", "", {"signals": 2, "vfork": 5, "WRSS": 4}),
    (
        LINUX,
        "guard-gap/stays-on-its-stack",
        "",
        {"fixed address": 2, "mremap": 3, "full address space": 3},
    ),
    (V1, "guard-gap/stays-on-its-stack", "", {"mremap": 3}),
    (LINUX, "sigreturn-round-trip/restores-ssp", "", {}),
    (LINUX, "sigreturn-round-trip/only-a-frame", "", {"WRSS": 4}),
    (LINUX, "sigreturn-round-trip/word-is-no-token", "", {}),
    (LINUX, "sigreturn-round-trip/word-is-no-return-address", "", {}),
    (LINUX, "sigreturn-round-trip/failed-delivery-keeps-ssp", "", {}),
    (V1, "sigreturn-round-trip/restores-ssp", "", {}),
    (V1, "sigreturn-round-trip/only-a-frame", "", {"WRSS": 5}),
    (V1, "sigreturn-round-trip/word-is-no-token", "", {"": 1}),
    (V1, "sigreturn-round-trip/word-is-no-return-address", "", {"": 1}),
    (V1, "sigreturn-round-trip/failed-delivery-keeps-ssp", "", {"bad altstack": 2}),
    (LINUX, "ssp-in-bounds/in-bounds", "", BOUNDS),
    (LINUX, "ssp-in-bounds/in-bounds", "a full stack", {"fixed address": 3}),
    (V1, "ssp-in-bounds/in-bounds", "", {"mremap": 2}),
    (V1, "ssp-in-bounds/in-bounds", "a full stack", {}),
    *((d, f"installed-ssp/{c}", "", {}) for d in BOTH for c in ("aligned", "below-task-size")),
]


@pytest.mark.parametrize(("design", "claim", "protocol", "what"), EXPECTED)
def test_what_breaks_a_claim(
    found: Found, design: str, claim: str, protocol: str, what: dict[str, int]
) -> None:
    """These sets of abilities break the claim in so many operations, and no others."""
    assert broken(found[design], claim, protocol) == what


def test_every_claim_is_judged(found: Found) -> None:
    """Each conjunct has a verdict for every setting of its property, on both designs."""
    wanted = {
        (s.property, c.name, s.protocol)
        for s in SETTINGS
        for c in MACHINE_PROPERTIES[s.property].conjuncts
    }
    for design in BOTH:
        assert {(v.property, v.conjunct, v.protocol) for v in found[design]} == wanted
        assert {(d, c, p) for d, c, p, _ in EXPECTED if d == design} == {
            (design, f"{prop}/{conjunct}", protocol) for prop, conjunct, protocol in wanted
        }


def test_nothing_is_unknown_or_never_asked(found: Found) -> None:
    """Every premise is reached; that of a failing delivery needs an ability that makes one fail."""
    for verdicts in found.values():
        assert not [v for v in verdicts if v.status == UNKNOWN]
        vain = {v.claim for v in verdicts if not v.witness and not v.abilities}
        assert vain == {"sigreturn-round-trip/failed-delivery-keeps-ssp"}
        for claim, protocol in {(v.claim, v.protocol) for v in verdicts}:
            assert any(v.witness for v in of(verdicts, claim, protocol).values())


def test_depths(found: Found) -> None:
    """What holds does so over at least 5 operations without abilities, 4 with one, 3 with more."""
    for verdicts in found.values():
        for v in verdicts:
            if v.status in (HOLDS, NOT_APPLICABLE):
                assert v.depth >= (5, 4, 3)[min(len(v.abilities), 2)]


def test_harmless_abilities_are_tried_together(found: Found) -> None:
    """What does not break the frames by itself does not break them together."""
    row = of(found[LINUX], FRAMES, NEW)
    together = ("return", "execve", "signals", "pivot", "nested vfork", "disable")
    assert row[together].status == HOLDS and row[together].depth == 4


def test_assumptions(found: Found) -> None:
    """What holds says what must not be done: exactly what breaks it."""
    assert of(found[LINUX], FRAMES, NEW)[()].assumption == (
        "the child does not use INCSSP, call longjmp() or use WRSS"
    )
    v1 = of(found[V1], FRAMES, NEW)[()].assumption
    assert v1.endswith("take signals, switch stacks and call vfork() itself in one program")
    assert of(found[LINUX], "installed-ssp/aligned")[()].assumption == ""
    assert all(not v.assumption for vs in found.values() for v in vs if v.status == VIOLATED)


def test_a_design_without_an_address_has_no_such_ability(found: Found) -> None:
    """v1's map_shadow_stack takes no address, so nothing is said about choosing one."""
    claim = "guard-gap/stays-on-its-stack"
    assert ("fixed address",) in of(found[LINUX], claim)
    assert ("fixed address",) not in of(found[V1], claim)


# -- scenarios -------------------------------------------------------------------------


def violations(found: Found) -> Iterator[tuple[Design, ProgramVerdict]]:
    """All violated verdicts, with their designs."""
    for name, verdicts in found.items():
        yield from ((DESIGNS[name], v) for v in verdicts if v.status == VIOLATED)


def test_violations_show_on_a_fresh_machine(found: Found) -> None:
    """Each scenario violates its conjunct in its last line, and in none before."""
    for design, verdict in violations(found):
        prop = MACHINE_PROPERTIES[verdict.property]
        _, judge = play(design, prop, verdict.scenario)
        assert verdict.conjunct in judge.wrong
        _, judge = play(design, prop, verdict.scenario[:-1])
        assert verdict.conjunct not in judge.wrong


def test_scenario_files_run(found: Found) -> None:
    """``shstk run`` executes each scenario, to the same end, and all it expects is met."""
    for design, verdict in violations(found):
        run = Run(parse(scenario_text(verdict, design)), design)
        for _ in run.steps():
            pass
        ends = run.verdicts()
        assert ends and all(each.met for each in ends)
        done, _ = play(design, MACHINE_PROPERTIES[verdict.property], verdict.scenario)
        assert canonical(run.machine.system) == canonical(done.stage.system)


def test_scenarios_have_only_what_they_need(found: Found) -> None:
    """Lines of the prelude that serve other abilities are left out."""
    for verdict in (v for v in found[LINUX] if v.status == VIOLATED):
        text = "\n".join(verdict.scenario)
        if "longjmp" not in verdict.abilities:
            assert "setjmp" not in text
        if verdict.property == "vfork-frames" and "signals" not in verdict.abilities:
            assert "sigaction" not in text


def test_what_is_seen(found: Found) -> None:
    """An engineer is told what is wrong, and which exception comes of it."""
    frames = of(found[LINUX], FRAMES, NEW)
    assert "P dies of SIGSEGV (#CP error 0x1)" in frames["INCSSP",].seen
    assert "P's RET raises #CP error 0x1" in frames["WRSS",].seen
    assert "raise nothing" in of(found[LINUX], FRAMES, OLD)["return",].seen
    assert "#PF error 0x44" in of(found[V1], FRAMES, NEW)["disable",].seen
    token = of(found[V1], "token-once/nobody-on-it")["signals",].seen
    assert token.startswith("T is at A.end-16, on the stack that P runs on; ")
    assert "is A.end-24|1" not in token


def test_a_design_of_ones_own_is_named(found: Found) -> None:
    """A scenario of an unregistered design says how to run it, and its header is one that reads."""

    class Mine(Linux612):
        name = "mine"

    verdict = of(found[LINUX], FRAMES, NEW)["INCSSP",]
    text = scenario_text(verdict, Mine())
    assert "To be run with --design and the file of mine." in text
    assert parse(text).designs[0] in DESIGNS


def test_table_fits_a_terminal(found: Found) -> None:
    """A row per conjunct and protocol, no line wider than 100 columns."""
    for verdicts in found.values():
        text = table(verdicts)
        assert max(map(len, text.splitlines())) <= 100
        rows = [line for line in text.splitlines() if line[2] != " "]
        assert len(rows) == len({(v.claim, v.protocol) for v in verdicts})
    linux = table(found[LINUX])
    assert "broken by INCSSP (3 operations), longjmp (3 operations), WRSS (3 operations)" in linux
    assert "if the child does not use INCSSP, call longjmp() or use WRSS" in linux
    assert table([]) == ""


# -- mutants -----------------------------------------------------------------------------


def base(design: Design, prop: str, protocol: str = "") -> dict[str, ProgramVerdict]:
    """The verdicts without abilities, by conjunct."""
    verdicts = check_programs(design, frozenset({prop}))
    return {v.conjunct: v for v in verdicts if v.protocol == protocol and not v.abilities}


Incssp = Callable[[Cpu, Word, Word, int, int], None]


def incssp_that_touches(elements: int) -> Incssp:
    """INCSSP that loads only the first of what it pops, or nothing at all."""

    def incssp(c: Cpu, count: Word, width: Word, scale: int, length: int) -> None:
        if elements:
            c.shadow_load(c.ssp, width)
        c.ssp += count << scale
        c.rip += length

    return incssp


def test_incssp_must_touch_the_last_element(
    design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An INCSSP that does not leaves the stack at its top."""
    monkeypatch.setattr(shadow, "incssp", incssp_that_touches(1))
    verdict = base(design, "ssp-in-bounds")["in-bounds"]
    assert verdict.status == VIOLATED and verdict.depth == 1


def test_incssp_must_touch_something(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    """An INCSSP that touches nothing walks over the gap into the next stack."""
    monkeypatch.setattr(shadow, "incssp", incssp_that_touches(0))
    assert base(design, "guard-gap")["stays-on-its-stack"].status == VIOLATED


def test_ret_must_compare(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RET that does not compare lets the vfork child return."""

    def ret64(c: Cpu, imm16: Word) -> None:
        c.rip = c.load(c.rsp, 8)
        c.rsp += 8 + imm16
        c.ssp += 8

    monkeypatch.setattr(branch, "ret64", ret64)
    verdict = base(design, "vfork-return-faults", NEW)["near-ret-fault"]
    assert verdict.status == VIOLATED and verdict.depth == 1


def test_the_child_must_not_pop(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a child that pops vfork's slot and a parent that returns by it, a CALL ends it."""

    def pops(m: Machine, t: Thread, child: str, generation: str = "2.36") -> None:
        protocols.libc_vfork(m, t, NewTask(child), "2.36")
        made = m.names().get(child)
        if made is not None:
            made.todo.appendleft(("incsspq", (1,), {}))

    mutant = replace(OPERATIONS["libc_vfork"], run=pops)
    monkeypatch.setitem(OPERATIONS, "libc_vfork", mutant)
    frames = base(design, "vfork-frames", NEW)["frames-kept"]
    assert frames.status == VIOLATED and frames.scenario[-2:] == ("C call", "C exit")
    assert base(design, "vfork-return-faults", NEW)["near-ret-fault"].status == VIOLATED


def test_rstorssp_must_replace_the_token(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    """An RSTORSSP that leaves the token lets a second one succeed."""
    replaces = shadow.rstorssp

    def keeps(c: Cpu, operand: Word, length: int = 4) -> None:
        token = c.load(operand, 8) if c.cpl == 3 else 0
        replaces(c, operand, length)
        c.shadow_store(operand, 8, token)

    monkeypatch.setattr(shadow, "rstorssp", keeps)
    verdicts = base(design, "token-once")
    assert verdicts["one-rstorssp"].status == VIOLATED
    assert verdicts["one-user"].status == VIOLATED
    assert verdicts["nobody-on-it"].status == VIOLATED


class Unmarked(Linux612):
    """Frames without bit 63."""

    def put_shstk_data(self, u: UserMemory, addr: int, data: int) -> int:
        return u.write_user_shstk_64(addr, data)

    def get_shstk_data(self, u: UserMemory, addr: int) -> tuple[int, int]:
        return u.get_user(addr)


class Unchecked(Linux612):
    """sigreturn that takes any value."""

    def restore_to(self, token_addr: int) -> tuple[int, int]:
        return token_addr, 0


class Astray(Linux612):
    """sigreturn that sets SSP to the frame, not above it."""

    def restore_to(self, token_addr: int) -> tuple[int, int]:
        return token_addr - 8, 0


def test_frames_must_be_marked() -> None:
    """A frame word without bit 63 is an address that RET would go to."""
    verdicts = base(Unmarked(), "sigreturn-round-trip")
    assert verdicts["word-is-no-return-address"].status == VIOLATED
    assert verdicts["word-is-no-token"].status == HOLDS


def test_sigreturn_must_check() -> None:
    """Without its checks a forged frame gives SSP a misaligned value, or one beyond user space."""
    found = check_programs(Unchecked(), frozenset({"installed-ssp"}))
    assert broken(found, "installed-ssp/aligned") == {"forged frames": 4}
    assert broken(found, "installed-ssp/below-task-size") == {"forged frames": 4}


def test_sigreturn_must_restore() -> None:
    """SSP that is not what it was is found where a handler just returns."""
    verdict = base(Astray(), "sigreturn-round-trip")["restores-ssp"]
    assert verdict.status == VIOLATED
    assert verdict.scenario[-3:] == ("P kill SIGUSR1", "P ret", "P rt_sigreturn")


# -- the search ----------------------------------------------------------------------------


def test_deterministic() -> None:
    """The same question has the same answer, to the last word."""
    wanted = frozenset({"vfork-frames", "vfork-return-faults"})
    one, other = (check_programs(DESIGNS[V1], wanted, depth=5) for _ in range(2))
    assert one == other and one


def test_only_what_is_wanted() -> None:
    """Properties that are not asked for are not explored."""
    found = check_programs(DESIGNS[LINUX], frozenset({"vfork-return-faults"}), depth=1)
    assert {v.property for v in found} == {"vfork-return-faults"}
    assert check_programs(DESIGNS[LINUX], frozenset({"no such"})) == []


def test_depth_is_the_number_of_operations() -> None:
    """A depth is that of programs without abilities; with abilities it changes by as much."""
    shallow = explore(DESIGNS[LINUX], vfork_frames("2.36"), 2)
    assert shallow.depths == [2, 1, 1] and not shallow.violations
    middle = explore(DESIGNS[LINUX], vfork_frames("2.36"), 5)
    assert middle.depths == [5, 3, 2]


def test_smaller_sets_of_abilities_are_not_missed() -> None:
    """Each violation with several abilities needs all of them, up to that length."""
    found = explore(DESIGNS[V1], vfork_frames("2.36"))
    for known in found.violations.values():
        for violation in known:
            others = [v for v in known if v is not violation]
            assert not any(v.abilities & violation.abilities == v.abilities for v in others)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C keeps what was found; what was not finished is unknown, not held."""
    calls = 0
    really = perform

    def some(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 300:
            raise KeyboardInterrupt
        return really(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "perform", some)
    found = check_programs(DESIGNS[V1])
    assert {v.property for v in found} == set(MACHINE_PROPERTIES)
    assert broken(found, FRAMES, NEW)["disable"] == 2
    assert {v.status for v in found} == {VIOLATED, UNKNOWN}
    text = table(found)
    assert "UNKNOWN" in text and max(map(len, text.splitlines())) <= 100


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told how far it is."""
    monkeypatch.setattr(program_search, "REPORT_EVERY", 100)
    told: list[str] = []
    check_programs(DESIGNS[LINUX], frozenset({"vfork-frames"}), progress=told.append)
    assert told[0].startswith("linux-6.12: vfork-frames glibc 2.36: 100 states")


# -- several designs at once -----------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.property} {s.protocol}".strip())
def test_together_designs_have_what_each_has_alone(setting: Setting) -> None:
    """Whatever they share: every state, premise, violation and its program."""
    depth = setting.depths[0] - 2
    together = explore_all([*X86_DESIGNS.values()], setting, depth)
    for design, found in zip(X86_DESIGNS.values(), together, strict=True):
        assert found == explore(design, setting, depth)


def test_a_search_leaves_no_garbage() -> None:
    """What it has made is gone with it: no cycle holds a machine."""
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = sum(type(each) is System for each in gc.get_objects())
        explore_all([DESIGNS[name] for name in (LINUX, V1)], vfork_frames("2.36"), 4)
        assert sum(type(each) is System for each in gc.get_objects()) == before
    finally:
        if collecting:
            gc.enable()


def test_what_designs_have_in_common_is_executed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two designs that give the same cost no more than one; others cost what they change."""
    calls = 0
    really = perform

    def counted(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        return really(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "perform", counted)

    def cost(*names: str) -> int:
        nonlocal calls
        calls = 0
        explore_all([DESIGNS[name] for name in names], INSTALLED_SSP)
        return calls

    same = cost("linux-6.6", "fix-double-unmap-warning")
    assert same <= cost("linux-6.6")
    assert same < cost("linux-6.6", "fix-double-unmap-warning", "linux-6.12") < 2.1 * same
    assert cost("linux-6.12", "linux-6.18") < 1.1 * cost("linux-6.12")


def test_a_line_that_asks_for_a_hook_is_executed_for_each_that_gives_another() -> None:
    """Designs that differ in sigreturn go the same way up to it, and not further."""
    shared = Places(MACHINE_PROPERTIES["installed-ssp"])
    one, other = (Asking(DESIGNS[name], alone=False) for name in ("linux-6.12", "linux-6.18"))
    lines = (*INSTALLED_SSP.opening(), "P kill SIGUSR1", "P ret")
    place = shared.after(one, lines)
    assert shared.after(other, lines) is place
    assert len(place.tried) == 0
    ended = [shared.tried(who, place, "P rt_sigreturn") for who in (one, other, one, other)]
    assert len(place.tried["P rt_sigreturn", False]) == 2
    assert ended[0] is ended[2] and ended[1] is ended[3]


def test_nobody_asks_the_design_between_lines() -> None:
    """The machine of a place is several designs': whoever asks it for a hook is told so."""
    shared = Places(MACHINE_PROPERTIES["installed-ssp"])
    place = shared.after(Asking(DESIGNS[LINUX], alone=False), INSTALLED_SSP.opening())
    with pytest.raises(AssertionError, match="must not depend on the design's guard_gaps"):
        place.stage.system.new_space()


def test_verdicts_of_several_designs_are_each_ones_own() -> None:
    """Scenarios and words included, in the order of the designs."""
    wanted = frozenset({"sigreturn-round-trip"})
    both = check_all([DESIGNS[name] for name in BOTH], wanted, 4)
    assert both == [check_programs(DESIGNS[name], wanted, 4) for name in BOTH]


Change = Callable[[System], object]
HIDDEN: dict[str, Change] = {
    "a name": lambda s: setattr(s.threads[0], "name", "Q"),
    "a result": lambda s: setattr(s.threads[0], "result", 1),
    "a cause": lambda s: setattr(s.threads[0], "cause", "exit"),
    "the end of a stack": lambda s: setattr(s.threads[0], "stack", Range(_start(s), 1)),
    "SSP where it is not looked for": lambda s: setattr(s.threads[0].regs, "pl3_ssp", 1),
    "a populated anonymous area": lambda s: setattr(s.mms[0].areas[-1], "anon", None),
    "a label": lambda s: setattr(s.mms[0].areas[-1], "label", "mine"),
    "the image": lambda s: setattr(s.mms[0].areas[0], "write", None),
    "the gaps": lambda s: setattr(s.mms[0], "gaps", GuardGaps(1, 2, 3)),
    "where areas are placed": lambda s: setattr(s.mms[0], "mmap_base", 1),
    "shadow pages": lambda s: s.mms[0].pages.shadow.add(1),
    "a death": lambda s: s.dead.update({7: Death("Q", "exit")}),
    "a number": lambda s: s.made.update(mm=7),
}


def _start(system: System) -> int:
    stack = system.threads[0].stack
    assert isinstance(stack, Range)
    return stack.start


@pytest.mark.parametrize("what", HIDDEN)
def test_two_machines_are_one_only_where_everything_is_equal(what: str) -> None:
    """Also what nothing that can still happen depends on."""
    done, _ = play(DESIGNS[LINUX], MACHINE_PROPERTIES["installed-ssp"], INSTALLED_SSP.opening())
    other = Stage(done.stage.system.copy(), done.stage.names)
    assert uncanonical(other) == uncanonical(done.stage)
    HIDDEN[what](other.system)
    assert canonical(other.system) == canonical(done.stage.system)
    assert uncanonical(other) != uncanonical(done.stage)


# -- a line on a stage -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_what_goes_on_by_itself_is_not_missed(design: Design, seed: int) -> None:
    """A line on a stage does what the operation does, settled, on a machine of its own."""
    rng = random.Random(f"{design.name} {seed}")
    setting = rng.choice(SETTINGS[:-1])
    stage = boot(design)
    machine = Machine.boot(design)
    letters = [*setting.base, *(x for a in setting.abilities for x in a.letters)]

    def step(line: str) -> bool:
        nonlocal stage
        arguments: dict[str, object] = {}
        done = perform(stage, line, lambda m, do_, given: arguments.update(given) or _deaf)
        if done is None:
            return False
        words = line.split("= ", 1)[-1].split() if " = " in line else line.split()
        do(machine, words[0], words[1], **arguments)
        stage = done.stage
        assert canonical(stage.system) == canonical(machine.system)
        return True

    for line in setting.opening():
        assert step(line)
    for _ in range(12):
        there = [t for n in setting.tasks if (t := stage.thread(n)) and _runs(stage, t)]
        lines = [line for t in there for x in letters for line in x.lines(stage, t)]
        if not lines or is_over(stage.system):
            break
        step(rng.choice(lines))


@pytest.mark.parametrize("seed", range(6))
def test_the_kernel_goes_on_the_same_way_with_and_without_trials(design: Design, seed: int) -> None:
    """A machine that is watched tries each step before it is done; one that is not does it."""
    rng = random.Random(f"trials {design.name} {seed}")
    tried, done = Machine.boot(design), Machine.boot(design)
    tried.watch = lambda _world, _event: None
    calls = {
        "clone": ("VM|THREAD|SIGHAND", "VM", "VM|VFORK", "VFORK", "FS"),
        "arch_prctl": (("ENABLE", "SHSTK"), ("DISABLE", "SHSTK")),
    }
    for number in range(14):
        names = [t.name for t in done.system.threads.values() if done.can_run(t)]
        if not names:
            break
        name = rng.choice(["clone", "clone", "arch_prctl", "call", "ret", "exit", "execve"])
        more = rng.choice(calls.get(name, ((),)))
        args = (f"T{number}", more) if name == "clone" else more
        task = rng.choice(names)
        effects = [do(machine, task, name, *args).effects for machine in (tried, done)]
        assert effects[0] == effects[1]
        assert canonical(tried.system) == canonical(done.system)


def _deaf(_machine: Machine, _move: object) -> None:
    """Listen to nothing."""


def _runs(stage: Stage, thread: Thread) -> bool:
    return Machine(stage.system).can_run(thread)


def test_the_machine_is_not_touched_by_a_line(design: Design) -> None:
    """Performing a line leaves the stage it starts from as it was."""
    _, judge = play(design, MACHINE_PROPERTIES["token-once"], TOKEN_ONCE.opening())
    done, _ = play(design, MACHINE_PROPERTIES["token-once"], TOKEN_ONCE.opening())
    before = canonical(done.stage.system)
    for line in ("P rstorssp B.end-8", "P call", "T ret", "P vfork C"):
        assert perform(done.stage, line) is not None
        assert canonical(done.stage.system) == before
    assert judge.memory


def test_effects_in_words() -> None:
    """What is no news to an engineer has no words."""
    done, _ = play(DESIGNS[LINUX], MACHINE_PROPERTIES["installed-ssp"], ("P call",))
    assert [programs.effect_words(e) for e in done.effects] == []
    done, _ = play(
        DESIGNS[LINUX], MACHINE_PROPERTIES["installed-ssp"], ("P map_shadow_stack 4 token",)
    )
    assert [programs.effect_words(e) for e in done.effects] == [
        "map_shadow_stack returns -ENOSPC to P"
    ]
