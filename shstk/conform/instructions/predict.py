"""Executing cases by the CPU's text, on the reference machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from model.cpu.concrete import ConcreteCpu, CpuFault, Registers
from model.cpu.world import SH_STK_EN
from model.designs import DESIGNS
from model.reference.instructions import execute
from model.reference.machine import Faulted, Machine
from model.reference.memory import Page
from model.reference.signals import SIGNALS
from model.reference.vma import PAGE_SIZE, AddressSpace, PageFault
from shstk.conform.instructions import layout
from shstk.conform.instructions.cases import MODES, Case, Step
from shstk.conform.instructions.outcomes import Fault, Outcome
from shstk.conform.instructions.table import GENERAL, INSTRUCTIONS, Instruction

DESIGN = "linux-6.12"
Texts = Mapping[str, Instruction]


@cache
def _template() -> Machine:
    """A machine with the pages of the layout, which nobody changes."""
    machine = Machine.boot(DESIGNS[DESIGN])
    space = machine.system.new_space()
    layout.build(space)
    machine.system.mms[machine.thread("P").mm] = space  # type: ignore[index]
    return machine


class Run:
    """A case on the reference machine, step by step.  ``texts``: what instructions do."""

    def __init__(self, mode: str, texts: Texts = INSTRUCTIONS) -> None:
        template = _template()
        self.texts = texts
        self.machine = Machine(template.system.copy(), settled=False)
        self.thread = self.machine.thread("P")
        self.thread.regs.u_cet = MODES[mode]
        self.thread.shstk, self.thread.wrss = mode != "off", mode == "wrss"
        self.general = dict.fromkeys(GENERAL, 0)
        self.faulted = False
        self.mapped = False  # map_shadow_stack has succeeded
        base = template.system.space(template.thread("P"))
        self._base: dict[int, Page] = base.pages.present
        self._seen: dict[int, dict[int, int]] = {}

    @property
    def regs(self) -> ConcreteCpu:
        """The registers that the text knows."""
        return self.thread.regs

    @property
    def space(self) -> AddressSpace:
        """The task's memory."""
        return self.machine.system.space(self.thread)

    def peek(self, address: int) -> int | None:
        """The aligned word at ``address``; None where nothing can be read."""
        try:
            return self.space.load(address, 8, False, False)
        except PageFault:
            return None

    def can_plant(self, address: int) -> bool:
        """A case can set the aligned word at ``address``: it is on writable memory or a stack."""
        area = self.space.find(address)
        return area is not None and area.write and not address & 7

    def step(self, step: Step) -> Outcome:
        """Set what the step sets, execute its instruction by the text."""
        self._set(step)
        self._changed()
        before = self.regs.copy()
        start = len(self.machine.effects)
        instruction = self.texts[step.name]
        left, rax = self._execute(instruction, step, before)
        faults = [e for e in self.machine.effects[start:] if isinstance(e, Faulted)]
        if not faults:
            left = self.regs
        if rax is not None:
            self.general["rax"] = rax
        return Outcome(
            rip=left.rip,
            rsp=left.rsp,
            ssp=left.ssp if left.u_cet & SH_STK_EN else None,
            cs=left.cs,
            cf=left.cf,
            rax=rax,
            words=self._changed(),
            fault=self._fault(faults[0]) if faults else None,
        )

    def _set(self, step: Step) -> None:
        for name, value in step.registers.items():
            if name in self.general:
                self.general[name] = value
            else:
                setattr(self.regs, name, value)
        self.regs.long_mode = self.regs.code_segment_l(self.regs.cs)
        for address, value in step.words.items():
            area = self.space.find(address)
            self.space.store(address, 8, value, area is not None and area.shadow, False)

    def _execute(
        self, instruction: Instruction, step: Step, before: Registers
    ) -> tuple[Registers, int | None]:
        """The registers that a fault leaves; what RAX gets."""
        length = len(step.code)
        if instruction.text is None:
            assert instruction.operation is not None
            rax = instruction.operation(self.machine, self.thread, self.general)
            if self.thread.regs.cpl == 3 and not self.thread.cause:
                self.regs.rip += length
            if step.name == "map_shadow_stack":
                self.general["rcx"] = self.regs.rip  # SYSCALL puts it there
                self._look_at_new(rax or 0)
            return before, rax
        text, left, rax = instruction.text, before, None

        def run(c: ConcreteCpu) -> None:
            nonlocal left, rax
            try:
                rax = text(c, self.general, step.arguments, length)
            except CpuFault:
                left = c.copy()
                raise

        execute(self.machine, self.thread, step.name, run)
        return left, rax

    def _look_at_new(self, start: int) -> None:
        """The guest reads what is mapped, and so populates it."""
        area = self.space.find(start)
        if area is not None:
            self.mapped = True
            for at in range(area.start, area.end, PAGE_SIZE):
                self.peek(at)

    def _changed(self) -> dict[int, int]:
        """The words that have changed since the last time this was asked.

        Of code the guest does not tell.
        """
        changed = {}
        for number, page in self.space.pages.present.items():
            original = self._base.get(number)
            if page is original or layout.is_code(number * PAGE_SIZE):
                continue
            seen = self._seen.get(number, original.words if original else {})
            for offset, word in page.words.items():
                if seen.get(offset, 0) != word:
                    changed[number * PAGE_SIZE + offset] = word
            self._seen[number] = dict(page.words)
        return changed

    def _fault(self, effect: Faulted) -> Fault:
        self.faulted = True
        signal = SIGNALS[self.thread.cause.split()[0]]
        return Fault(effect.vector, int(effect.error_code), effect.address, signal)


def predict(case: Case, texts: Texts = INSTRUCTIONS) -> list[Outcome]:
    """The outcomes of a case's steps, up to the first fault."""
    run = Run(case.mode, texts)
    outcomes = []
    for step in case.steps:
        outcomes.append(run.step(step))
        if run.faulted:
            break
    return outcomes
