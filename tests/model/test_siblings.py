"""arm64 and RISC-V: what is said of them, and what exploring finds.

The rows are data: which designs violate a claim, in which step, in how many steps, with some
event families on; and where that was expected from.  A design that a row asks about and
does not name has no such run at the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from counterexamples import itf
from counterexamples.render import render_mermaid, render_text
from model.designs import DESIGNS, X86_DESIGNS, Design
from model.designs.arm64 import Arm64
from model.designs.arm64_6_13 import Arm64Merged
from model.kernel import STEPS
from model.state import Task
from model.world import World
from shstk.build import CLAIMS, Request, Tables, program
from shstk.cli import main
from shstk.engine import Engine
from shstk.errors import UserError
from shstk.reference import replay_on_reference
from shstk.replay import replay, shortest, step_outcomes, violation
from shstk.space import Bound, Space, Valuation
from shstk.table_cache import tables as tables_of
from shstk.views import view

SIBLINGS = ("arm64-6.13", "arm64", "riscv-v6", "riscv")
ALL = ("linux-6.12", *SIBLINGS)
ALONE, ONE, TWO = Bound(1, 2, 1), Bound(2, 1, 1), Bound(2, 1, 2)
MMS, FORKED = Bound(2, 2, 1), Bound(2, 2, 2)

Site = tuple[str, int]  # a step, and the length of a shortest run that ends in it
EXIT5: Site = ("exit_mm_release", 5)
LATE3: Site = ("late_clone_failure", 3)
INFERRED = "code reading: args->fn keeps the creator's bookkeeping, deactivate_mm() frees by it"


class WithoutMemcg(Arm64Merged):
    """delayed_free_task() of a kernel without CONFIG_MEMCG: free_task() at once."""

    name = "arm64-6.13-memcg"

    def arch_release_task_struct(self, k: World, tsk: Task) -> None:
        self.gcs_free(k, tsk)


@dataclass(frozen=True)
class Row:
    """Where designs violate a claim, of those asked about, with these families (and kernel)."""

    claim: str
    families: str
    at: Mapping[str, Site]
    source: str
    bound: Bound = ONE
    asked: tuple[str, ...] = SIBLINGS


ROWS = [
    # A kernel worker keeps its creator's base and size, and frees by them when it exits.
    Row(
        "not-in-use/nobody-else-on-it",
        "enable worker exit",
        {"arm64-6.13": EXIT5, "arm64": EXIT5, "riscv": EXIT5},
        INFERRED,
        asked=ALL,
    ),
    Row(
        "worker-frees-nothing/own-only",
        "enable worker exit",
        {"arm64-6.13": EXIT5, "arm64": EXIT5, "riscv": EXIT5},
        INFERRED,
        asked=ALL,
    ),
    # One that is never started does where the error exit frees.
    Row(
        "worker-frees-nothing/own-only",
        "enable worker late-clone-failure",
        {"arm64-6.13": LATE3, "riscv-v6": LATE3},
        "found by exploring",
        asked=ALL,
    ),
    # A vfork parent that is killed frees the stack under its child; v6 frees nothing at exit.
    Row(
        "not-in-use/nobody-else-on-it",
        "enable vfork sigkill vfork-abandon",
        {name: ("exit_mm_release", 6) for name in ("linux-6.12", "arm64-6.13", "arm64", "riscv")},
        "code reading: the same pattern as on x86, where a 6.12 kernel was seen to do it",
        asked=ALL,
    ),
    # A clone that fails late leaks the child's stack: there is no exit_thread().  In 6.13 it
    # does where free_task() comes from RCU, and only there (below).
    Row(
        "failed-clone-harmless/nothing-left-behind",
        "enable thread late-clone-failure",
        {"arm64-6.13": LATE3, "arm64": LATE3, "riscv": LATE3},
        "code reading: no HAVE_EXIT_THREAD; refutes the log of 75fdf823f94b",
        TWO,
    ),
    # One that fails in copy_thread() does not, as on x86 it can: the allocation comes last.
    Row(
        "failed-clone-harmless/nothing-left-behind",
        "enable thread tls-failure",
        {"linux-6.12": ("clone_thread", 2)},
        "copy_thread_gcs() is last in copy_thread(); RISC-V has nothing that fails after it",
        TWO,
        ALL,
    ),
    # One that fails early frees the task_struct with the caller's bookkeeping and mm in it.
    Row(
        "failed-clone-harmless/callers-stack-mapped",
        "enable early-clone-failure",
        {"arm64-6.13": ("early_clone_failure", 2)},
        "found by reading arch_release_task_struct() of 6.13; not reported",
        asked=ALL,
    ),
    # A vfork that fails late frees nothing: the child's base is 0 before exit_thread() runs.
    Row(
        "failed-clone-harmless/callers-stack-mapped",
        "enable vfork late-clone-failure",
        {},
        "expected of v6 by analogy with v1, and refuted: base 0 came with its first version",
    ),
    # v6: do_exit() has dropped the mm when exit_thread() runs, so no thread's stack is freed.
    Row(
        "freed-at-least-once/owner-there",
        "enable thread exit",
        {"riscv-v6": ("exit_mm_drop", 6)},
        "the change log of v7 takes HAVE_EXIT_THREAD away for this",
        TWO,
    ),
    # A fork child has base 0, so its own copy stays when its thread goes.
    Row(
        "freed-at-least-once/owner-there",
        "enable fork thread exit",
        {"arm64": ("exit_mm_drop", 11)},
        "copy_thread_gcs(): gcs_base = 0 for every child",
        FORKED,
        ("arm64", "riscv"),
    ),
    # flush_gcs() called gcs_free() in the new mm, but base is 0 by then, for vfork children too.
    Row(
        "own-mm/mm-of-the-record",
        "enable exec exec-failure vfork sigkill vfork-abandon thread disable",
        {},
        "expected of 6.13 as the stale base of v1, and refuted: d2be3270f40b calls it redundant",
        MMS,
        ("arm64-6.13",),
    ),
    # exec forgot the lock.
    Row(
        "exec-resets/bookkeeping-reset",
        "enable lock exec",
        {"arm64-6.13": ("start_thread", 5), "riscv-v6": ("start_thread", 6)},
        "98a97bf41528; v19 11/27 has no set_shstk_lock() in start_thread()",
        ALONE,
        ALL,
    ),
    # Sizes.
    Row(
        "size-explicit/clone3-path",
        "enable thread",
        {name: ("clone_thread", 2) for name in ALL},
        "code reading: only the RLIMIT_STACK path is capped; arm64's half is above 4 GiB from 16",
        TWO,
        ALL,
    ),
    Row(
        "size-explicit/a-page-more-at-most",
        "enable thread",
        {"arm64-6.13": ("clone_thread", 2), "arm64": ("clone_thread", 2)},
        "gcs_size(1 / 2): a stack_size of 1 gives half of RLIMIT_STACK",
        TWO,
        ALL,
    ),
    Row("size-default/rlimit-path", "enable thread", {}, "gcs_size(), calc_shstk_size()", TWO),
    # Disabling.
    Row(
        "not-in-use/nobody-else-on-it",
        "enable vfork disable",
        {},
        "arm64 frees nothing, RISC-V nothing of a vfork child's",
    ),
    Row(
        "off-is-noop/no-unmapping",
        "enable disable exit",
        {"arm64-6.13": EXIT5, "arm64": EXIT5},
        "gcs_free() does not ask whether GCS is on",
    ),
    Row(
        "inherited/wrss-implies-on",
        "enable disable wrss",
        {"arm64-6.13": ("shstk_disable", 3), "arm64": ("shstk_disable", 3)},
        "arch_set_shadow_stack_status(): the argument is the new mode, WRITE without ENABLE too",
    ),
    # Nobody warns when munmap fails, sealed or not.
    Row(
        "no-false-alarm/unmap-warning",
        "enable thread exit mseal sigkill munmap-eintr",
        {},
        "what vm_munmap() returns is not looked at",
        TWO,
    ),
    Row(
        "freed-at-least-once/owner-there",
        "enable thread exit mseal",
        {
            "arm64-6.13": ("exit_mm_drop", 7),
            "arm64": ("exit_mm_drop", 7),
            "riscv-v6": ("exit_mm_drop", 6),
            "riscv": ("exit_mm_drop", 7),
        },
        "the same",
        TWO,
    ),
]


def first(tables: Tables, families: str, claim: str) -> Site | None:
    """The first step a claim is violated in, and the length of the shortest run."""
    engine = Engine(program(tables, Request(frozenset(("kernel", *families.split())))))
    result = engine.explore(symmetry=True)
    assert result.trap is None and result.status == "complete"
    found = [
        (engine.depth(hit.state) + (hit.kind == "step"), hit.action // tables.space.bound.tasks)
        for hit in result.hits.values()
        if CLAIMS[hit.violation].name == claim
    ]
    if not found:
        return None
    length, step = min(found)
    return STEPS[step].name, length


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.claim} with {r.families}")
def test_what_is_expected_is_found(row: Row) -> None:
    """Exactly the designs named violate the claim, as early and where the row says."""
    found = {d: first(tables_of(DESIGNS[d], row.bound), row.families, row.claim) for d in row.asked}
    assert {name: site for name, site in found.items() if site} == row.at, row.source
    assert row.at.keys() <= set(row.asked)


def test_without_memcg_a_late_failure_leaks_nothing() -> None:
    """Without CONFIG_MEMCG, arch_release_task_struct() of 6.13 did free the child's stack."""
    tables = tables_of(WithoutMemcg(), TWO)
    claim = "failed-clone-harmless/nothing-left-behind"
    assert first(tables, "enable thread late-clone-failure", claim) is None
    premise = "freed-at-most-once/owned"
    assert first(tables, "enable early-clone-failure", premise) == ("early_clone_failure", 2)


# -- step by step --------------------------------------------------------------------


def do(design: Design, *steps: str, **numbers: int) -> Mapping[str, Any]:
    """The one task of a design after steps, each going its most ordinary way."""
    space = Space(ONE)
    at: Valuation = space.initial
    for name in steps:
        step = next(s for s in STEPS if s.name == name)
        outcomes = step_outcomes(space, design, at, 0, step, fixed=numbers)
        assert outcomes, f"{name} cannot happen"
        at = min(outcomes, key=lambda s: s.oddity).after
    return cast(Mapping[str, Any], view(space, at)["tasks"][0])


def test_only_arm64_refuses_to_enable_again() -> None:
    """Once off, GCS cannot be switched on again; Zicfiss can, on a new stack."""
    steps = ("enable", "disable", "shstk_disable", "enable")
    on = {name: do(DESIGNS[name], *steps)["shstk"] for name in ALL}
    assert on == {name: "arm64" not in name for name in ALL}


def test_a_vfork_child_on_arm64_neither() -> None:
    """Its base is 0, but GCSPR_EL0 is its parent's and stays when it switches GCS off."""
    space = Space(ONE)
    at: Valuation = space.initial
    todo = [("enable", 0), ("vfork", 0), ("clone_commit", 0)]
    todo += [(name, 1) for name in ("disable", "shstk_disable", "enable")]
    for name, task in todo:
        step = next(s for s in STEPS if s.name == name)
        at = min(step_outcomes(space, Arm64(), at, task, step), key=lambda s: s.oddity).after
    child = view(space, at)["tasks"][1]
    assert (child["shstk"], child["base"].name) == (False, "NULL")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("design", "on"), [("arm64", True), ("arm64-6.13", True), ("riscv", False), ("riscv-v6", False)]
)
def test_rlimit_stack_0(design: str, on: bool) -> None:
    """arm64 allocates a page at least; mmap of nothing is EINVAL elsewhere."""
    assert do(DESIGNS[design], "enable", RLIMIT_STACK=0)["shstk"] is on


@pytest.mark.parametrize(
    ("stack_size", "rlimit", "size"),
    [
        (0, 8 << 20, 4 << 20),
        (0, 0, 4096),
        (0, 1, 4096),
        (0, 100_000, 53_248),
        (0, 6 << 30, 2 << 30),
        (0, (1 << 64) - 1, 2 << 30),
        (1, 8 << 20, 4 << 20),
        (2, 8 << 20, 4096),
        (5_000, 8 << 20, 4096),
        (16_384, 8 << 20, 8192),
        (16 << 30, 8 << 20, 8 << 30),
    ],
)
def test_gcs_size(stack_size: int, rlimit: int, size: int) -> None:
    """Half of what was asked for, or of RLIMIT_STACK within a page and 2 GiB."""
    assert Arm64().gcs_size(stack_size // 2, cast(Any, rlimit)) == size


# -- what only an x86 has --------------------------------------------------------------


def worker_frees(design: Design) -> Any:
    """The shortest run in which a worker frees its creator's stack."""
    space, claim = Space(ONE), "not-in-use/nobody-else-on-it"
    run = shortest(space, design, claim, {"kernel", "enable", "worker", "exit"})
    return violation(space, design, claim, run)


def test_traces_name_the_architectures_functions() -> None:
    """The steps of prctl(2) are in its functions, in text, mermaid and ITF."""
    trace = worker_frees(DESIGNS["riscv"])
    assert replay(trace, DESIGNS["riscv"], Space(ONE))
    text = render_text(trace)
    assert "P  prctl: enable shadow stacks" in text
    assert "arch_set_shadow_stack_status() [arch/riscv/kernel/usercfi.c, " in text
    for shown in (text, render_mermaid(trace), itf.dumps(trace)):
        assert "prctl: enable" in shown and "arch_prctl:" not in shown


def test_there_is_no_reference_machine_for_them() -> None:
    """A trace of theirs is refused on it, not run on another architecture's."""
    trace = worker_frees(DESIGNS["arm64"])
    with pytest.raises(UserError, match="arm64 is a design for arm64: .* x86"):
        replay_on_reference(trace, DESIGNS["arm64"])
    assert set(DESIGNS) - set(X86_DESIGNS) == set(SIBLINGS)


SCENARIO = "design: {}\nA = P arch_prctl ENABLE SHSTK => ok\n"
CPU_LEVEL = ["--property", "vfork-frames"]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "FILE"],
        ["run", "--design", "arm64", "OTHER"],
        ["replay", "--on", "reference", "TRACE"],
        ["programs", "arm64"],
        ["prove", "arm64", *CPU_LEVEL],
        ["trace", "arm64", "vfork-frames"],
    ],
    ids=lambda c: " ".join(c),
)
def test_the_cpu_level_is_refused_in_a_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for the machine or for instructions is told why not; status 2."""
    files = {name: tmp_path / f"{name}.itf.json" for name in ("FILE", "OTHER", "TRACE")}
    files["FILE"].write_text(SCENARIO.format("arm64"))
    files["OTHER"].write_text(SCENARIO.format("linux-6.12"))
    itf.write(worker_frees(DESIGNS["arm64"]), files["TRACE"])
    assert main([str(files.get(word, word)) for word in command]) == 2
    said = capsys.readouterr().err
    assert "x86" in said and said.startswith("shstk: ") and said.count("\n") == 1


def test_check_says_what_is_not_applicable(capsys: pytest.CaptureFixture[str]) -> None:
    """In a check the rows of the machine are replaced by one that says so."""
    small = ["--tasks", "1", "--mms", "1", "--stacks", "1"]
    assert main(["check", "riscv", "--bounded", *small]) in (0, 1)
    assert "not applicable: the machine is an x86" in capsys.readouterr().out
