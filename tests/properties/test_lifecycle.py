"""Claims about the life cycle: what makes each false, and where it says nothing."""

from __future__ import annotations

from functools import cache

import pytest

from model.designs import DESIGNS, Design
from model.designs.linux_6_12 import Linux612
from model.designs.not_configured import NotConfigured
from model.events import Warned, Warning
from model.kernel.errno import EOPNOTSUPP
from model.kernel.fork import CLONE_VFORK, CLONE_VM, CloneArgs
from model.kernel.mmap import mmap_shadow_stack, page_align, rlimit_stack
from model.state import NULL, Kind, Off, Task
from model.world import Term, World
from shstk.build import CLAIMS, ORDINARY, Request, extract, program
from shstk.engine import Engine
from shstk.space import Bound

ALONE, TWO, FORKED = Bound(1, 1, 1), Bound(2, 1, 2), Bound(2, 2, 1)
NAMES = [part.name for part in CLAIMS]


@cache
def explored(design: Design, families: str, bound: Bound = ALONE) -> tuple[set[str], set[str]]:
    """The claims that some run violates, and those whose premise some run makes true."""
    asked = frozenset(("kernel", *families.split()))
    engine = Engine(program(extract(design, bound, ORDINARY - asked), Request(asked)))
    result = engine.explore(symmetry=True)
    assert result.trap is None and result.status == "complete"
    violated = {NAMES[hit.violation] for hit in result.hits.values()}
    return violated, {n for bit, n in enumerate(NAMES) if result.witnessed >> bit & 1}


# -- switching -----------------------------------------------------------------------
class SaysSo(Linux612):
    """Enabling returns 0 where nothing could be mapped."""

    def shstk_setup(self, k: World) -> int:
        super().shstk_setup(k)
        return 0


class Halfway(Linux612):
    """Enabling has noted that shadow stacks are on when it finds that there is no memory."""

    def shstk_setup(self, k: World) -> int:
        k.current.shstk = True
        return super().shstk_setup(k)


class InTheMiddle(Linux612):
    """Enabling leaves SSP somewhere in the stack."""

    def shstk_setup(self, k: World) -> int:
        err = super().shstk_setup(k)
        if err == 0:
            k.current.off = Off.INSIDE
        return err


class StaysOn(Linux612):
    """Disabling leaves SSP."""

    def shstk_disable(self, k: World) -> int:
        ssp = k.current.ssp
        err = super().shstk_disable(k)
        k.current.ssp = ssp
        return err


class KeepsOffset(Linux612):
    """Disabling leaves the low half of SSP."""

    def shstk_disable(self, k: World) -> int:
        off = k.current.off
        err = super().shstk_disable(k)
        k.current.off = off
        return err


class ServesAll(Linux612):
    """A 32-bit caller is told that it was refused, and was not."""

    def shstk_setup(self, k: World) -> int:
        if k.may("compat", "compat"):
            k.current.shstk = True
            return EOPNOTSUPP
        return super().shstk_setup(k)


SWITCHED = "enable disable run compat alloc-failure"


@pytest.mark.parametrize(
    ("wrong", "conjunct"),
    [
        (SaysSo, "on-its-own"),
        (Halfway, "nothing-changed"),
        (InTheMiddle, "at-the-top"),
        (StaysOn, "off"),
        (KeepsOffset, "no-offset"),
        (ServesAll, "unsupported"),
    ],
)
def test_a_switch_that_does_not_do_what_it_says(wrong: type[Design], conjunct: str) -> None:
    """Each conjunct is false of the design that gets this wrong, and of nothing that is right."""
    claim = f"switch-takes-effect/{conjunct}"
    assert claim in explored(wrong(), SWITCHED)[0]
    violated, witnessed = explored(DESIGNS["linux-6.12"], SWITCHED)
    assert claim not in violated
    assert claim in witnessed


def test_arm64_keeps_its_pointer() -> None:
    """GCSPR_EL0 stays where GCS is disabled: that is no offset of a stack that is off."""
    violated, witnessed = explored(DESIGNS["arm64"], "enable disable run")
    assert "switch-takes-effect/off" in witnessed
    assert not {c for c in violated if c.startswith("switch-takes-effect")}
    assert "switch-takes-effect/no-offset" not in witnessed


# -- sizes ---------------------------------------------------------------------------
class Unaligned(Linux612):
    """What clone3 asked for, to the byte."""

    def adjust_shstk_size(self, k: World, size: Term, rlimit: Term) -> Term:
        if size != 0:
            return size
        return super().adjust_shstk_size(k, size, rlimit)


def test_a_size_in_bytes_is_told_from_one_that_is_too_large() -> None:
    """The merged design has no cap, so only a claim of its own sees that pages are not whole."""
    violated = explored(Unaligned(), "enable thread", TWO)[0]
    merged, witnessed = explored(DESIGNS["linux-6.12"], "enable thread", TWO)
    assert violated - merged == {"size-explicit/page-multiple"}
    assert "size-explicit/clone3-path" in merged
    assert {"size-explicit/page-multiple", "size-explicit/not-empty"} <= witnessed


class QuartersAll(Linux612):
    """Everybody gets what v1 gave to 32-bit callers."""

    def adjust_shstk_size(self, k: World, size: Term, rlimit: Term) -> Term:
        return page_align(super().adjust_shstk_size(k, size, rlimit) // 4)


class DefaultsFail(Linux612):
    """A size that was not given is 0 bytes, and mapping fails."""

    def adjust_shstk_size(self, k: World, size: Term, rlimit: Term) -> Term:
        return page_align(size)


def test_a_stack_is_as_large_as_was_asked() -> None:
    """Less is told of clone3's size as of RLIMIT_STACK, but arm64 halves both."""
    claims = {"size-explicit/all-of-it", "size-default/all-of-it"}
    violated, witnessed = explored(QuartersAll(), "enable thread compat", TWO)
    assert claims <= violated and claims <= witnessed
    for name in ("linux-6.12", "v1", "proposed", "riscv"):
        violated, witnessed = explored(DESIGNS[name], "enable thread compat", TWO)
        assert not claims & violated and claims <= witnessed
    violated, witnessed = explored(DESIGNS["arm64"], "enable thread", TWO)
    assert not claims & (violated | witnessed)


def test_that_no_default_is_ever_mapped_is_told() -> None:
    """Enabling maps one all the same, so the claim about clones is apart."""
    witnessed = explored(DefaultsFail(), "enable thread", TWO)[1]
    assert "size-default/rlimit-path" in witnessed
    assert "size-default/all-of-it" not in witnessed


# -- where a child goes on -------------------------------------------------------------
class OneEach(Linux612):
    """A vfork child gets a stack of its own, on which the caller's frames are not."""

    def shstk_alloc_thread_stack(self, k: World, tsk: Task, args: CloneArgs) -> int:
        if args.flags & (CLONE_VFORK | CLONE_VM) == CLONE_VFORK | CLONE_VM:
            return super().shstk_alloc_thread_stack(k, tsk, CloneArgs(CLONE_VM))
        return super().shstk_alloc_thread_stack(k, tsk, args)


class Rewinds(Linux612):
    """A fork child finds its copy empty."""

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        if args.flags & CLONE_VM == 0:
            child.off = Off.TOP
        return super().copy_thread(k, child, args)


def test_a_child_finds_its_parents_frames() -> None:
    """What vfork() and fork() return to lies on the parent's stack."""
    assert "child-goes-on/same-stack" in explored(OneEach(), "enable vfork", TWO)[0]
    assert "child-goes-on/same-place" in explored(Rewinds(), "enable fork run", FORKED)[0]
    for name in ("linux-6.12", "arm64", "riscv", "clone3-token"):
        for families, bound in (("enable vfork run", TWO), ("enable fork run", FORKED)):
            violated, witnessed = explored(DESIGNS[name], families, bound)
            assert not {c for c in violated if c.startswith("child-goes-on")}
            assert {c for c in witnessed if c.startswith("child-goes-on")}


# -- workers and TLS -----------------------------------------------------------------
class RunsOn(Linux612):
    """A worker keeps the SSP of its creator."""

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        err = super().copy_thread(k, child, args)
        if args.worker:
            child.ssp = k.current.ssp
        return err


def test_a_worker_has_the_init_state() -> None:
    """On x86 its SSP is 0; elsewhere the pointer is no part of what fpu_clone() resets."""
    claim = "worker-holds-none/ssp-off"
    assert claim in explored(RunsOn(), "enable worker", TWO)[0]
    assert claim not in explored(DESIGNS["linux-6.12"], "enable worker", TWO)[0]
    assert claim in explored(DESIGNS["linux-6.12"], "enable worker", TWO)[1]
    for name in ("arm64", "riscv"):
        assert claim not in explored(DESIGNS[name], "enable worker", TWO)[1]


class ChecksFirst(Linux612):
    """The TLS is set for workers, too."""

    def copy_thread(self, k: World, child: Task, args: CloneArgs) -> int:
        err = args.set_new_tls(k)
        return err if err != 0 else super().copy_thread(k, child, args)


def test_a_worker_is_not_refused_for_its_tls() -> None:
    """It has none: create_io_thread() passes no CLONE_SETTLS."""
    claim = "failed-clone-harmless/bad-tls"
    assert claim in explored(ChecksFirst(), "worker tls-failure", TWO)[0]
    assert claim not in explored(DESIGNS["linux-6.12"], "worker tls-failure", TWO)[0]


@pytest.mark.parametrize(("name", "refused"), [("linux-6.12", True), ("riscv", False)])
def test_a_bad_tls_address_is_refused_where_it_is_looked_at(name: str, refused: bool) -> None:
    """EPERM comes of a bad TLS address alone, and only on x86."""
    claim = "failed-clone-harmless/bad-tls"
    assert (claim in explored(DESIGNS[name], "thread tls-failure", TWO)[1]) is refused
    assert claim not in explored(DESIGNS[name], "enable thread exec", TWO)[1]


# -- not configured --------------------------------------------------------------------
class MapsOne(NotConfigured):
    """A stub that maps a stack."""

    def shstk_setup(self, k: World) -> int:
        rlimit = rlimit_stack(k)
        mmap_shadow_stack(k, k.current, rlimit, Kind.SETUP, 0, rlimit, False)
        return super().shstk_setup(k)


class Notes(NotConfigured):
    """A stub that leaves a note in thread.shstk."""

    def shstk_setup(self, k: World) -> int:
        k.current.size = 4096
        return super().shstk_setup(k)


class Complains(NotConfigured):
    """A stub that warns."""

    def shstk_free(self, k: World, tsk: Task) -> int:
        if (tsk.base == NULL) & (tsk.mm != NULL):
            k.emit(Warned(tsk, Warning.DOUBLE_FREE))
        return 0


@pytest.mark.parametrize(
    ("wrong", "conjunct"),
    [(MapsOne, "nothing-mapped"), (Notes, "as-at-first"), (Complains, "no-warning")],
)
def test_a_kernel_without_shadow_stacks_does_nothing(wrong: type[Design], conjunct: str) -> None:
    """Whatever a stub does beside returning is told."""
    claim = f"off-is-noop/{conjunct}"
    assert claim in explored(wrong(), "enable exit")[0]
    assert claim not in explored(DESIGNS["not-configured"], "enable exit")[0]


def test_the_claims_about_such_a_kernel_are_about_no_other() -> None:
    """Where shadow stacks are configured, they are mapped and noted as the design likes."""
    names = {f"off-is-noop/{c}" for c in ("nothing-mapped", "as-at-first", "no-warning")}
    for name in ("linux-6.12", "v1"):
        violated, witnessed = explored(DESIGNS[name], "enable exit exec exec-failure")
        assert not names & (violated | witnessed)
    every = explored(DESIGNS["not-configured"], " ".join(sorted(ORDINARY - {"kernel"})), TWO)
    assert every[0] == set()
    assert names & every[1] == {"off-is-noop/nothing-mapped", "off-is-noop/as-at-first"}
