"""Random scenarios for a real kernel, as scenario files: addresses by name, so that they shrink.

Most steps are what ``shstk.generate`` proposes, the others are those of ``rare``.
"""

from __future__ import annotations

import random
from dataclasses import replace

from counterexamples.expressions import Wrong
from counterexamples.lines import MAKERS, MAPPINGS, Do, make
from counterexamples.scenario import FIRST, Scenario
from model.cpu.concrete import CpuFault
from model.designs import Design
from model.reference.machine import Machine, NotNow
from model.reference.operations import OPERATIONS, Address
from model.reference.system import Thread
from model.reference.world import SH_STK_EN
from shstk.conform.causable import NO_WAY, NotCausable, Unpredicted
from shstk.conform.compile import Case, Compiler
from shstk.conform.rare import FAMILIES, Dice
from shstk.conform.symbols import FAR
from shstk.conform.words import NEAR_REGISTER, SMALL
from shstk.generate import Planned, propose

LENGTHS = (10, 12, 14, 16, 18, 20)
TRIES = 30  # proposals that cannot be done before a scenario ends
PAGE = 4096
OWN = 0.45  # the part of the steps that are of ``rare``
FEATURES_FIRST = 0.8  # the part of the scenarios that begin with shadow stacks switched on


def random_case(design: Design, seed: int, number: int, name: int | None = None) -> Case:
    """Scenario ``number`` of a seed, with what the machine predicts: always the same.

    ``name``: its number in a campaign, where that is another.
    """
    dice = Dice(random.Random(f"{seed} {number}"))
    empty = Scenario((design.name,), (), path=f"seed {seed}, scenario {number}")
    compiler = Compiler(empty, design, number if name is None else name)
    lines: list[Do] = []
    length, tries = dice.choose(LENGTHS), 0
    if dice.chance(FEATURES_FIRST):
        enable = make(FIRST, "arch_prctl", {"option": "ENABLE", "feature": "SHSTK"})
        lines.append(replace(enable, bind="R1"))
        compiler.take(lines[0])
    while len(lines) < length and tries < TRIES and compiler.machine.system.threads:
        try:
            line = _line(compiler, _proposal(compiler.machine, dice), len(lines) + 1)
            compiler.take(line)
        except (Unpredicted, CpuFault):
            break
        except (NotNow, NotCausable, Wrong):
            tries += 1
            continue
        tries = 0
        if line.bind and compiler.run.bound(line.bind) is None:
            line = replace(line, bind="")
        lines.append(line)
    scenario = replace(empty, lines=tuple(lines))
    return replace(compiler.case, scenario=scenario)


def _proposal(machine: Machine, dice: Dice) -> Planned:
    """What a task could do next; NotCausable where user space has no way to it."""
    threads = sorted(machine.system.threads.values(), key=lambda t: t.tid)
    ready = [t for t in threads if machine.can_run(t)]
    planned = None
    if ready and dice.chance(OWN):
        thread = dice.choose(ready)
        planned = dice.choose(FAMILIES)(machine, thread, dice)
    if planned is None:
        planned = propose(machine, dice.choose)
    if planned.operation in NO_WAY:
        raise NotCausable(NO_WAY[planned.operation])
    return planned


# -- as a line -----------------------------------------------------------------------------
def _line(compiler: Compiler, planned: Planned, number: int) -> Do:
    """A proposal as a line of a scenario: what it makes gets a name, addresses have theirs."""
    thread = compiler.run.thread(planned.task)
    kinds = {p.name: p.kind for p in OPERATIONS[planned.operation].parameters}
    arguments = {
        name: _address(compiler, thread, value)
        if kinds[name] is Address and type(value) is int
        else value
        for name, value in planned.arguments.items()
    }
    line = make(planned.task, planned.operation, arguments)
    makes = planned.operation in (*MAPPINGS, *MAKERS)
    return replace(line, bind=f"R{number}") if makes else line


def _address(compiler: Compiler, thread: Thread, value: int) -> object:
    """An address by the nearest range that has a name, or by SSP or RSP."""
    if value < SMALL:
        return value
    mm = thread.mm if isinstance(thread.mm, int) else -1
    for far in (PAGE, FAR):
        known = compiler.symbols.find(mm, value, far)
        if known is not None and compiler.run.bound(known.name) is not None:
            if value >= known.end:
                return f"{known.name}.end{_signed(value - known.end)}"
            return f"{known.name}{_signed(value - known.start)}"
        if thread.regs.u_cet & SH_STK_EN and abs(value - thread.ssp) < NEAR_REGISTER:
            return f"ssp{_signed(value - thread.ssp)}"
        if abs(value - thread.regs.rsp) < NEAR_REGISTER:
            return f"rsp{_signed(value - thread.regs.rsp)}"
    return value


def _signed(distance: int) -> str:
    return f"{'-' if distance < 0 else '+'}{abs(distance):#x}" if distance else ""
