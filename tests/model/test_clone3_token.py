"""clone3 with a token: who runs on the stack, what a failing clone costs, what is never freed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from model.designs import DESIGNS
from model.kernel import STEPS
from model.kernel.errno import E2BIG, EAGAIN, EFAULT, EINVAL, EPERM
from model.reference.machine import Machine, NotNow, Returned
from model.reference.operations import do
from model.reference.tokens import restore_tokens
from model.state import NULL, Ctl, Kind, Off
from shstk.build import CLAIMS, Request, program
from shstk.engine import Engine
from shstk.reference import replay_on_reference
from shstk.refine import Follower
from shstk.replay import drive, shortest, step_outcomes, violation
from shstk.space import Bound, Space
from shstk.table_cache import tables as tables_of

TOKEN, MERGED = DESIGNS["clone3-token"], DESIGNS["linux-6.12"]
FLAVOURS = [step for step in STEPS if step.family == "clone3-token"]
TWO, FORKED = Bound(2, 1, 2), Bound(2, 2, 2)
MADE_READY = "enable map-shadow-stack clone3-token"
THREAD = "VM|THREAD|SIGHAND"
OWN_STACK, TOKEN_KEPT = "alloc-failure-fails-clone/own-stack", "failed-clone-harmless/callers-token"

# -- one run after another -----------------------------------------------------------

# P has shadow stacks on, at A (0), and a stack with a token at B (1).
READY = [
    ("enable", 0, {"addr": 0}),
    ("map_shadow_stack", 0, {"addr": 1, "SHADOW_STACK_SET_TOKEN": True}),
]


def after(*path: Any, bound: Bound = TWO) -> Mapping[str, Any]:
    """The state at the end of a run, each step going its most ordinary way."""
    state = drive(Space(bound), TOKEN, path)[-1].state
    return {"P": state["tasks"][0], "C": state["tasks"][1], "mms": state["mms"]}


def clone(flavour: str) -> tuple[str, int, dict[str, int]]:
    """P clones with the token of the stack at B."""
    return (f"clone_token_{flavour}", 0, {"addr": 1})


@pytest.mark.parametrize("flavour", ["thread", "vfork"])
def test_the_child_is_on_the_tokens_stack(flavour: str) -> None:
    """Its SSP is above the token, which is used up, and the kernel records no stack."""
    end = after(*READY, clone(flavour), ("clone_commit", 0))
    assert (end["C"]["ssp"], end["C"]["off"], end["C"]["ctl"]) == (1, Off.TOP, Ctl.USER)
    assert (end["C"]["base"], end["C"]["size"], end["P"]["ssp"]) == (NULL, 0, 0)
    assert (end["mms"][0][1]["kind"], end["mms"][0][1]["token"]) == (Kind.MAP, False)


def test_a_fork_takes_the_token_of_its_copy() -> None:
    """The token in the caller's mm is still there, and is good for another child."""
    end = after(*READY, clone("fork"), ("clone_commit", 0), bound=FORKED)
    assert (end["C"]["mm"], end["C"]["ssp"]) == (1, 1)
    assert [mm[1]["token"] for mm in end["mms"]] == [True, False]


@pytest.mark.parametrize("flavour", ["thread", "vfork"])
def test_a_clone_that_fails_late_has_used_the_token(flavour: str) -> None:
    """No thread runs on the stack and the token is gone; the kernel unmaps nothing."""
    end = after(*READY, clone(flavour), ("late_clone_failure", 0))
    assert (end["C"]["ctl"], end["P"]["ctl"], end["P"]["child"]) == (Ctl.DEAD, Ctl.USER, NULL)
    assert (end["mms"][0][1]["kind"], end["mms"][0][1]["token"]) == (Kind.MAP, False)


def test_a_fork_that_fails_late_has_not() -> None:
    """What it took went with the child's mm."""
    end = after(*READY, clone("fork"), ("late_clone_failure", 0), bound=FORKED)
    assert end["mms"][0][1]["token"] is True


@pytest.mark.parametrize(
    "path",
    [
        [("map_shadow_stack", 0, {"addr": 1, "SHADOW_STACK_SET_TOKEN": True})],  # off
        [("enable", 0, {"addr": 0})],  # nothing is mapped there
        [("enable", 0, {"addr": 0}), ("mmap", 0, {"addr": 1})],  # no shadow stack
        [
            ("enable", 0, {"addr": 0}),
            ("map_shadow_stack", 0, {"addr": 1, "SHADOW_STACK_SET_TOKEN": False}),
        ],
        [*READY, clone("vfork"), ("late_clone_failure", 0)],  # used up
    ],
)
@pytest.mark.parametrize("flavour", ["thread", "vfork", "fork"])
def test_without_a_token_there_is_no_child(path: list[Any], flavour: str) -> None:
    """The clone fails in one step, and that step leaves everything as it was."""
    space = Space(FORKED)
    before = drive(space, TOKEN, path)[-1].state
    last = drive(space, TOKEN, [*path, clone(flavour)])[-1].state
    assert last == before


@pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"clone3-token"}))
def test_only_this_design_has_these_clones(name: str) -> None:
    """In other designs the steps cannot happen: what is explored of them stays what it was."""
    design = DESIGNS[name]
    assert not any(step_outcomes(Space(TWO), design, Space(TWO).initial, 0, s) for s in FLAVOURS)
    at = Space(TWO).initial
    for step in (s for s in STEPS if s.name == "enable"):
        for on in step_outcomes(Space(TWO), design, at, 0, step):
            assert not any(step_outcomes(Space(TWO), design, on.after, 0, s) for s in FLAVOURS)


# -- all runs -------------------------------------------------------------------------


def violated(families: str, bound: Bound = TWO, name: str = "clone3-token") -> set[str]:
    """The claims that some run with these event families (and kernel) violates."""
    tables = tables_of(DESIGNS[name], bound)
    engine = Engine(program(tables, Request(frozenset(("kernel", *families.split())))))
    result = engine.explore(symmetry=True)
    assert result.trap is None and result.status == "complete"
    return {CLAIMS[hit.violation].name for hit in result.hits.values()}


def test_one_token_is_one_thread() -> None:
    """Where tokens come from map_shadow_stack only, nobody shares a stack or loses one."""
    events = "run exit exit-group fault sigkill vfork-abandon tls-failure"
    assert violated(f"{MADE_READY} {events} late-clone-failure") == {TOKEN_KEPT}
    # So does SIGKILL, where it comes between copy_process() and its end.
    assert violated(f"{MADE_READY} {events}") == {TOKEN_KEPT}
    assert (
        violated(f"{MADE_READY} {events}".replace("sigkill", "").replace("exit-group", "")) == set()
    )


def test_a_stack_that_is_brought_is_the_childs_own() -> None:
    """A thread on it is no thread without a stack, unless somebody else is on it."""
    assert OWN_STACK not in violated(f"{MADE_READY} thread pivot run")
    # A killed vfork parent leaves its child on nothing; a new stack there has two tasks on it.
    assert OWN_STACK in violated(f"{MADE_READY} vfork sigkill vfork-abandon")


def test_a_fork_that_fails_late_is_no_loss() -> None:
    """The token that it takes is its copy: the claim is about the caller's."""
    space = Space(FORKED)
    end = drive(space, TOKEN, [*READY, clone("fork"), ("late_clone_failure", 0)])[-1]
    assert end.violations == ()
    lost = drive(space, TOKEN, [*READY, clone("thread"), ("late_clone_failure", 0)])[-1]
    assert lost.violations == (TOKEN_KEPT,)


def test_a_vfork_child_that_brings_its_stack_keeps_it() -> None:
    """A killed parent takes its own stack with it, which is under the child of a plain vfork."""
    killed = "sigkill vfork-abandon"
    assert "not-in-use/nobody-else-on-it" in violated(f"enable vfork {killed}", name="linux-6.12")
    assert "not-in-use/nobody-else-on-it" not in violated(f"{MADE_READY} {killed}")


def test_a_token_left_on_the_kernels_stack() -> None:
    """SAVEPREVSSP leaves one on a stack that goes when its owner does, under the new thread."""
    found = violated(f"{MADE_READY} pivot run exit")
    assert {"not-in-use/nobody-else-on-it", "no-dangling-ssp/ssp-mapped"} <= found


def test_a_forked_child_with_a_token_loses_its_copy() -> None:
    """Its base is 0, so the copy of its creator's stack stays when its thread goes; fork's goes."""
    bound, claim = Bound(2, 2, 3), "freed-at-least-once/owner-there"
    assert claim in violated(f"{MADE_READY} thread exit", bound)
    assert claim not in violated("enable map-shadow-stack fork thread exit", bound, "linux-6.12")


# -- on the reference machine --------------------------------------------------------


def test_a_violation_replays_on_the_machine() -> None:
    """P moves away from its own stack, and a thread with the token left there outlives P."""
    space, claim = Space(TWO), "not-in-use/nobody-else-on-it"
    families = {"kernel", "pivot", "exit", *MADE_READY.split()}
    run = shortest(space, TOKEN, claim, families)
    assert [s.step for s in run][2:4] == ["rstorssp", "clone_token_thread"]
    assert replay_on_reference(violation(space, TOKEN, claim, run), TOKEN).reason == ""


def ready(name: str = "clone3-token", settled: bool = True) -> tuple[Machine, int]:
    """A machine whose task P is on a stack, followed by the model, and a token's address."""
    machine = Machine.boot(DESIGNS[name], settled=settled)
    Follower.of(machine)
    do(machine, "P", "arch_prctl", "ENABLE")
    start = do(machine, "P", "map_shadow_stack", 1 << 16, token=True).value
    assert start is not None
    return machine, start + (1 << 16) - 8


def returned(machine: Machine, *arguments: Any, **options: Any) -> int:
    """What P's clone3 returns."""
    effects = do(machine, "P", "clone3", *arguments, **options).effects
    return next(e.value for e in effects if isinstance(e, Returned) and e.task == "P")


def token_at(machine: Machine, address: int) -> bool:
    """A restore token lies there, in P's memory."""
    space = machine.system.space(machine.thread("P"))
    area = space.find(address)
    return area is not None and address in restore_tokens(space, area)


def test_the_machines_thread_starts_above_the_token() -> None:
    """SSP is token + 8, where CALL and RET work; the token is zero, and not to be had again."""
    machine, token = ready()
    assert returned(machine, "T", THREAD, shstk_token=token) > 0
    assert machine.thread("T").ssp == token + 8
    assert not token_at(machine, token)
    for name in ("call", "ret"):
        do(machine, "T", name)
    assert machine.thread("T").ssp == token + 8
    assert returned(machine, "U", THREAD, shstk_token=token) == -EINVAL


def test_the_machines_fork_takes_its_own() -> None:
    """The parent's page keeps the token, the child's has lost it."""
    machine, token = ready()
    returned(machine, "C", "0", shstk_token=token)
    assert machine.thread("C").ssp == token + 8
    assert token_at(machine, token)
    child = machine.system.space(machine.thread("C"))
    assert child.load(token, 8, shadow=False, user=False) == 0


def test_the_machines_vfork_child_leaves_the_stack_behind() -> None:
    """The kernel does not unmap what was brought, and the parent's stack is untouched."""
    machine, token = ready()
    ssp = machine.thread("P").ssp
    do(machine, "P", "clone3", "C", "VM|VFORK", shstk_token=token)
    do(machine, "C", "exit")
    assert machine.thread("P").ssp == ssp
    assert machine.system.space(machine.thread("P")).find(token) is not None


def test_the_machines_late_failure() -> None:
    """EAGAIN costs the token: the next clone with it is EINVAL."""
    machine, token = ready()
    assert returned(machine, "T", THREAD, shstk_token=token, fails="pids") == -EAGAIN
    assert not token_at(machine, token)
    assert returned(machine, "T", THREAD, shstk_token=token) == -EINVAL


@pytest.mark.parametrize(
    ("offset", "errno"), [(1, EINVAL), (4, EINVAL), (-8, EINVAL), (8, EFAULT), (1 << 30, EFAULT)]
)
@pytest.mark.parametrize("flags", [THREAD, "VM|VFORK", "0"])
def test_the_machines_wrong_addresses(offset: int, errno: int, flags: str) -> None:
    """Misaligned, no token there though its stack has one, beyond the stack: the token stays."""
    machine, token = ready()
    assert returned(machine, "T", flags, shstk_token=token + offset) == -errno
    assert token_at(machine, token) and "T" not in machine.names()


def test_a_bad_tls_comes_first() -> None:
    """CLONE_SETTLS fails in copy_thread(), where the token is not yet taken."""
    machine, token = ready()
    flags = f"{THREAD}|SETTLS"
    assert returned(machine, "T", flags, tls="bad", shstk_token=token) == -EPERM
    assert token_at(machine, token)


def test_a_read_only_stack_is_refused() -> None:
    """What mprotect has made read-only cannot be written by cmpxchg: EFAULT."""
    machine, token = ready()
    do(machine, "P", "mprotect", token + 8 - (1 << 16), 1 << 16, "r")
    assert returned(machine, "T", THREAD, shstk_token=token) == -EFAULT


def test_a_kernel_without_the_series() -> None:
    """It does not know that part of clone_args, which must then be zero."""
    machine, token = ready("linux-6.12")
    assert returned(machine, "T", THREAD, shstk_token=token) == -E2BIG


def test_flags_that_are_left_out() -> None:
    """The operation says which flavours there are."""
    machine, token = ready()
    with pytest.raises(NotNow, match="VM.THREAD"):
        do(machine, "P", "clone3", "T", "VM", shstk_token=token)


def test_a_token_in_the_middle_of_a_stack() -> None:
    """Left by SAVEPREVSSP where P was: the thread starts inside the stack, on P's frames."""
    machine, token = ready()
    for _ in range(3):
        do(machine, "P", "call")
    left = machine.thread("P").ssp - 8
    do(machine, "P", "pivot", token)
    assert token_at(machine, left)
    returned(machine, "T", THREAD, shstk_token=left)
    assert machine.thread("T").ssp == left + 8
    do(machine, "T", "incsspq", 1)
    assert machine.thread("T").ssp == left + 16
