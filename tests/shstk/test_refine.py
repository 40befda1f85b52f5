"""The reference machine refines the finite model: every move is one of its steps.

Random scenarios, all operations, several tasks, every design; the default profile makes a
few thousand moves, ``make nightly`` more than twenty thousand.  A failing run is shrunk and
left as a scenario file.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import model.reference.protocols  # noqa: F401 - registers the operations
from counterexamples import scenario
from model.cpu import branch
from model.designs import X86_DESIGNS
from model.reference import world
from model.reference.machine import Effect, Machine, Move, NotNow
from model.reference.operations import do
from model.reference.system import Thread
from model.reference.values import Range
from model.state import NULL, Sort
from model.world import PAGE_SIZE
from shstk.aftermath import aftermath
from shstk.cli import main
from shstk.generate import Planned, propose
from shstk.refine import Disagreement, Follower

FAILED = Path("refinement-failed.scn")
NIGHTLY = os.environ.get("SHSTK_PROFILE") == "nightly"

FOLLOWED = tuple(X86_DESIGNS) if NIGHTLY else ("linux-6.12", "proposed", "v1")


class Refinement(RuleBasedStateMachine):
    """A machine and what follows it in the finite model."""

    compared = 0  # moves, in all runs

    @initialize(name=st.sampled_from(FOLLOWED), settled=st.booleans(), pivots=st.booleans())
    def boot(self, name: str, settled: bool, pivots: bool) -> None:
        """One task in user mode."""
        self.machine = Machine.boot(X86_DESIGNS[name], settled=settled)
        self.follower = Follower.of(self.machine)
        self.machine.listeners.append(self.shows)
        self.pivots = pivots
        self.lines = [f"design: {name}", *([] if settled else ["kernel: stepwise"])]

    @precondition(lambda self: self.machine.system.threads and not self.follower.outside)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Something happens; what the model says of it, the machine does."""
        planned = propose(
            self.machine, lambda s: s[data.draw(st.integers(0, len(s) - 1))], self.pivots
        )
        note(planned.line)
        self.lines.append(planned.line)
        start = len(self.machine.effects)
        self.recent = start
        try:
            do(self.machine, planned.task, planned.operation, **planned.arguments)
        except NotNow:
            self.lines[-1] = f"# refused: {planned.line}"
        except Exception as error:
            FAILED.write_text("# " + str(error) + "\n" + "\n".join(self.lines) + "\n")
            error.add_note(f"as a scenario, in {FAILED}:\n" + "\n".join(self.lines))
            raise

    @precondition(lambda self: not self.machine.system.threads or self.follower.outside)
    @rule()
    def rest(self) -> None:
        """It is over: nobody is left, or the life-cycle model does not go any further."""

    def shows(self, machine: Machine, move: Move) -> None:
        """A violation is something that can be seen on the machine."""
        last: tuple[Effect, ...] = tuple(machine.effects[self.recent :])
        for claim in self.follower.violations:
            prop = claim.split("/")[0]
            assert aftermath(machine, prop, [last]), f"nothing is seen of {claim} after {move}"
        self.follower.violations = ()
        Refinement.compared += bool(move.steps)


def test_every_move_is_a_step_of_the_model() -> None:
    """Thousands of moves, all of them steps of the model, violating what the model says."""
    Refinement.compared = 0
    wanted = 20_000 if NIGHTLY else 2_000
    run_state_machine_as_test(
        Refinement,
        settings=settings(
            max_examples=wanted // 8,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Refinement.compared >= wanted


# -- the check can fail --------------------------------------------------------------


def random_runs(count: int = 60, length: int = 40) -> None:
    """Random scenarios from fixed seeds, followed; Disagreement where one is found."""
    for seed in range(count):
        chance = random.Random(seed)
        machine = Machine.boot(X86_DESIGNS[chance.choice(FOLLOWED)], settled=seed % 2 == 0)
        follower = Follower.of(machine)
        for _ in range(length):
            if not machine.system.threads or follower.outside:
                break
            planned = propose(machine, chance.choice)
            try:
                do(machine, planned.task, planned.operation, **planned.arguments)
            except NotNow:
                pass


def forget_to_unmap(patch: pytest.MonkeyPatch) -> None:
    """munmap of a recorded range does nothing."""
    reset = world.ConcreteWorld.reset

    def broken(self: Any, record: Any) -> None:
        if type(record).__name__ != "Mapping":
            reset(self, record)

    patch.setattr(world.ConcreteWorld, "reset", broken)


def forget_owner(patch: pytest.MonkeyPatch) -> None:
    """Who leaves an mm keeps what it owned there."""
    patch.setattr(world.ConcreteWorld, "replace_owner", lambda self, mm, old, new: None)


def keep_ssp(patch: pytest.MonkeyPatch) -> None:
    """A thread with a stack of its own starts one word below its top."""
    set_ssp = world._set_ssp

    def broken(thread: Thread, stack: Any) -> None:
        set_ssp(thread, stack)
        if stack is not NULL:
            thread.ssp -= 8

    patch.setattr(world, "_set_ssp", broken)


def orphans_are_kept(patch: pytest.MonkeyPatch) -> None:
    """fork gives all copies to the child."""
    copy = world.ConcreteWorld.copy_mappings

    def broken(
        self: Any, src: Any, dst: Any, own: Any, owner: Any, own_kind: Any, other_kind: Any
    ) -> None:
        copy(self, src, dst, own, owner, own_kind, own_kind)

    patch.setattr(world.ConcreteWorld, "copy_mappings", broken)


def short_stacks(patch: pytest.MonkeyPatch) -> None:
    """The kernel maps a page less than it records."""
    fresh = world.ConcreteWorld.fresh_addr

    def broken(self: Any, mm: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        addr = fresh(self, mm, name, *args, **kwargs)
        whole = addr.index[0].value
        shorter = Range(whole.start, whole.size - PAGE_SIZE)
        return self.handle(Sort.ADDR, shorter) if shorter.size else addr

    patch.setattr(world.ConcreteWorld, "fresh_addr", broken)


def every_ret_faults(patch: pytest.MonkeyPatch) -> None:
    """RET raises #CP whatever lies on the stacks."""
    patch.setattr(branch, "ret", lambda c, imm: c.fault(21, 1))


def nobody_waits(patch: pytest.MonkeyPatch) -> None:
    """A vfork child does not know who waits for it."""
    set_field = world._set_task_field

    def broken(thread: Thread, name: str, value: Any) -> None:
        if name != "vfork_done":
            set_field(thread, name, value)

    patch.setattr(world, "_set_task_field", broken)


@pytest.mark.parametrize(
    "mutate",
    [
        forget_to_unmap,
        forget_owner,
        keep_ssp,
        orphans_are_kept,
        nobody_waits,
        short_stacks,
        every_ret_faults,
    ],
    ids=lambda f: f.__name__,
)
def test_a_wrong_machine_is_found_out(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fault of the machine makes a random run disagree with the model."""
    mutate(monkeypatch)
    with pytest.raises((Disagreement, AssertionError)):
        random_runs()


def test_a_failing_run_is_left_as_a_scenario(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is found is left as a file that `shstk run` takes (here without being shrunk)."""
    monkeypatch.setattr(sys.modules[__name__], "FAILED", tmp_path / "failed.scn")
    forget_owner(monkeypatch)
    quick = settings(
        max_examples=200,
        stateful_step_count=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(BaseException, match="owner"):
        run_state_machine_as_test(Refinement, settings=quick)
    found = scenario.read(tmp_path / "failed.scn")
    assert 1 <= len(found.lines) <= 20
    assert main(["run", str(tmp_path / "failed.scn")]) == 0


# -- cases found by it -----------------------------------------------------------------


def follow(design: str, *lines: tuple[str, str, dict[str, object]]) -> Follower:
    """A scenario, followed to its end."""
    machine = Machine.boot(X86_DESIGNS[design])
    follower = Follower.of(machine)
    for task, operation, arguments in lines:
        do(machine, task, operation, **arguments)
    assert not follower.outside
    return follower


ON: tuple[str, str, dict[str, object]] = ("P", "arch_prctl", {"option": "ENABLE"})
BOTH = ("linux-6.12", "v1")


@pytest.mark.parametrize("design", BOTH)
def test_rstorssp_needs_no_old_stack(design: str) -> None:
    """A task whose stack was unmapped gets away from it by RSTORSSP."""
    follower = follow(
        design,
        ON,
        ("P", "map_shadow_stack", {"size": 8 << 20, "token": True}),
        ("P", "vfork", {"child": "C"}),
        ("P", "sigkill", {}),
    )
    machine = follower.machine
    thread = machine.thread("C")
    space = machine.system.space(thread)
    (token,) = [a.end - 8 for a in space.areas if a.shadow]
    do(machine, "C", "rstorssp", addr=token)
    assert machine.can_run(thread) and thread.ssp == token
    assert follower.moves["rstorssp"] == 1


def test_disabling_shadow_stacks_takes_wrss_with_it() -> None:
    """One step, not two: WRSS goes where SHSTK goes."""
    wrss: dict[str, object] = {"option": "ENABLE", "feature": "WRSS"}
    off: dict[str, object] = {"option": "DISABLE"}
    follower = follow("linux-6.12", ON, ("P", "arch_prctl", wrss), ("P", "arch_prctl", off))
    assert not follower.machine.thread("P").wrss
    assert follower.moves["wrss_control"] == 1


def test_a_counted_stack_that_is_gone_is_nobodys() -> None:
    """Letting go of a stack that user space has unmapped hands nothing over to the others."""
    machine = Machine.boot(X86_DESIGNS["proposed"])
    follower = Follower.of(machine)
    do(machine, "P", "arch_prctl", option="ENABLE")
    do(machine, "P", "vfork", child="C")
    stack = machine.thread("P").stack
    assert isinstance(stack, Range)
    do(machine, "C", "munmap", addr=stack.start, size=stack.end - stack.start)
    do(machine, "C", "call")  # faults, and C gives up the base it shares with P
    assert not follower.outside
    assert follower.moves["exit_mm_release"] == 1


def test_a_size_is_seen_even_where_the_clone_fails() -> None:
    """The stack that is too large is unmapped in the same step: that munmap shows its size."""
    machine = Machine.boot(X86_DESIGNS["fix-vfork-clone-failure"])
    follower = Follower.of(machine)
    do(machine, "P", "arch_prctl", option="ENABLE")
    flags = "VM|THREAD|SIGHAND|SETTLS"
    size = (4 << 30) + PAGE_SIZE
    done = do(machine, "P", "clone3", child="C", flags=flags, tls="bad", stack_size=size)
    assert follower.violations == ("size-explicit/clone3-path",)
    seen = aftermath(machine, "size-explicit", [done.effects])
    assert any("shadow stack (clone) of C" in line for line in seen)


def test_a_failed_delivery_leaves_v1s_ssp_moved() -> None:
    """v1 moves SSP before it writes the frame; the merged design after it."""
    moved = {}
    for design in BOTH:
        follower = follow(design, ON, ("P", "sigaction", {"signal": "SIGUSR1"}))
        machine = follower.machine
        machine.settled = False
        thread = machine.thread("P")
        thread.regs.rsp = 0x1000
        before = thread.ssp
        do(machine, "P", "kill", signal="SIGUSR1")
        moved[design] = before - thread.ssp
        assert machine.dying(thread)
    assert moved == {"v1": 16, "linux-6.12": 0}


def test_planned_lines_are_readable() -> None:
    """A proposed operation is written as a scenario file has it."""
    line = Planned("P", "clone3", {"child": "C", "stack_size": 8 << 20, "compat": False}).line
    assert line == "P clone3 child=C stack_size=0x800000"


def test_proposals_cover_the_operations() -> None:
    """The generator proposes every kind of operation before long."""
    from model.reference.operations import OPERATIONS

    seen = set()
    for seed in range(400):
        chance = random.Random(seed)
        machine = Machine.boot(X86_DESIGNS["linux-6.12"], settled=seed % 2 == 0)
        for _ in range(40):
            if not machine.system.threads:
                break
            planned = propose(machine, chance.choice)
            seen.add(planned.operation)
            try:
                do(machine, planned.task, planned.operation, **planned.arguments)
            except NotNow:
                pass
    assert seen == set(OPERATIONS)


def test_ranges_are_told_apart_by_their_start() -> None:
    """A recorded range and what is mapped there now are the same address."""
    assert Range(0x1000, 0) == Range(0x1000, 0x2000)
    assert Range(0x1000, 0x2000) != Range(0x2000, 0x1000)
