"""Traces as a kernel engineer sees them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from counterexamples.named import size_text
from counterexamples.render import WIDTH, render_mermaid, render_text
from counterexamples.trace import Trace
from model.designs import DESIGNS
from shstk.replay import drive, shortest, violation
from shstk.space import Bound, Space

SPACE = Space(Bound(2, 2, 2))
V1, MERGED = DESIGNS["v1"], DESIGNS["linux-6.12"]


def found(claim: str, *families: str) -> Trace:
    """A shortest trace of v1 with these events."""
    wanted: Collection[str] = {"kernel", "vfork-abandon", "enable", *families}
    return violation(SPACE, V1, claim, shortest(SPACE, V1, claim, wanted))


@pytest.fixture(scope="module")
def failing_vfork() -> Trace:
    """A failing vfork unmaps its caller's stack."""
    return found("not-in-use/nobody-else-on-it", "vfork", "late-clone-failure")


@pytest.fixture(scope="module")
def killed_parent() -> Trace:
    """A killed vfork parent unmaps the stack its child is on."""
    return found("no-dangling-ssp/ssp-mapped", "vfork", "sigkill")


@pytest.fixture(scope="module")
def lasso() -> Trace:
    """A killed task retries munmap for ever."""
    contended = {"mmap_lock contended": True}
    path = [("enable", 0), ("disable", 0), ("sigkill", 0), ("shstk_disable", 0, contended)]
    steps = drive(SPACE, V1, path)  # type: ignore[arg-type]
    return violation(SPACE, V1, "unmap-terminates/gets-past", steps, loop=3)


def test_no_line_is_too_long(failing_vfork: Trace, killed_parent: Trace, lasso: Trace) -> None:
    """A terminal of 100 columns shows every line."""
    for trace in (failing_vfork, killed_parent, lasso):
        assert max(map(len, render_text(trace).splitlines())) <= WIDTH


def test_the_header_says_what_is_violated_where(failing_vfork: Trace) -> None:
    """Design and its citation, claim, conjunct with its line, environment, bound, length."""
    header = render_text(failing_vfork).split("\n\n")[0]
    for part in (
        V1.title,
        "20220130211838.8382-29-rick.p.edgecombe@intel.com",
        "no kernel path unmaps the stack that another task which can still run is on",
        f"not-in-use/nobody-else-on-it ({failing_vfork.where})",
        f"{len(failing_vfork.steps)} steps; environment: ordinary; bound: tasks 2, mms 2",
    ):
        assert part in header


def test_steps_name_task_function_and_source(failing_vfork: Trace) -> None:
    """Each step says who does what, in which function, read from which file."""
    text = render_text(failing_vfork)
    assert "  1  P  arch_prctl: enable shadow stacks" in text
    assert "arch_prctl() [arch/x86/kernel/shstk.c, v1 28/35]" in text


def test_only_changes_are_shown(failing_vfork: Trace) -> None:
    """Enabling changes the task and one mapping, and nothing else is said."""
    step = render_text(failing_vfork).split("\n\n")[2].splitlines()
    assert step[1:] == [
        "         P         base NULL → A, size 0 → nonzero, SSP off → at the top of A",
        "         A in mm0  nothing → shadow stack (arch_prctl) of P",
        "       * the stack at A is 8 MiB (RLIMIT_STACK 8 MiB)",
    ]


def test_creation_and_end_of_a_task_are_one_line_each(failing_vfork: Trace) -> None:
    """What a new task has is listed; that a dead one's fields are reset is not."""
    text = render_text(failing_vfork)
    assert "C  is created: mm0, base A, size nonzero, SSP at the top of A\n" in text
    assert "C         is gone\n" in text


def test_events_are_told_with_names(failing_vfork: Trace) -> None:
    """Objects have the same names in notes as elsewhere."""
    told = "the kernel unmaps A in mm0 on behalf of C: shadow stack (arch_prctl) of P; P is on it"
    text = render_text(failing_vfork)
    assert told in text
    assert "task0" not in text
    assert "address0" not in text


def test_other_violations_on_the_way_are_marked(failing_vfork: Trace) -> None:
    """One bug can violate several properties; the reader sees which."""
    assert "! violates freed-at-most-once/owned" in render_text(failing_vfork)


def test_a_state_claim_is_explained(killed_parent: Trace) -> None:
    """The end says what is wrong with the last state."""
    tail = render_text(killed_parent).split("\n\n")[-1].splitlines()
    assert tail == [
        f"VIOLATED no-dangling-ssp/ssp-mapped ({killed_parent.where})",
        "         C can run, SSP is in A in mm0: nothing mapped",
    ]


def test_signals_are_shown_by_group(killed_parent: Trace) -> None:
    """A group is spoken of when something happens to it, and only then."""
    text = render_text(killed_parent)
    assert text.count("SIGNAL_GROUP_EXIT by SIGKILL") == 1
    assert "group" not in text.replace("SIGNAL_GROUP_EXIT", "").replace("the group", "")


def test_a_slot_used_again_gets_a_new_name() -> None:
    """A task that reuses a dead one's place is another task."""
    path = [("fork", 0), ("clone_commit", 0), ("exit", 1)]
    path += [("exit_mm_release", 1), ("exit_mm_drop", 1), ("fork", 0)]
    steps = drive(SPACE, V1, path)
    text = render_text(violation(SPACE, V1, "own-mm/nothing-else-hit", steps))
    assert "C  is created: mm1 (new, a copy of mm0)" in text
    assert "mm1  is gone, with all that was mapped in it" in text
    assert "D  is created: mm2 (new, a copy of mm0)" in text


def test_a_child_that_never_lives_is_the_child() -> None:
    """A clone that fails within its step creates nobody who needs a name."""
    path = [("enable", 0), ("clone_thread", 0, {"bad TLS": True})]
    steps = drive(SPACE, MERGED, path)  # type: ignore[arg-type]
    trace = violation(SPACE, MERGED, "failed-clone-harmless/nothing-left-behind", steps)
    text = render_text(trace)
    assert "C  " not in text
    assert "a stack made for the child stays mapped" in text


def test_a_lasso_says_where_it_repeats(lasso: Trace) -> None:
    """The start of the loop is marked, and the end says what never happens."""
    text = " ".join(render_text(lasso).split())
    assert "-- from here, step 4, the run repeats for ever --" in text
    assert "the run repeats from step 4 for ever" in text
    assert "mmap_lock contended" in text
    assert "P, with a fatal signal pending, is in arch_prctl: disabling for ever" in text


def test_designs_outside_the_registry(failing_vfork: Trace) -> None:
    """A design of the user's own is named, and cited when it is given."""
    trace = replace(failing_vfork, design="mine")
    assert "design    mine\n" in render_text(trace)
    assert f"design    mine: {V1.title}\n" in render_text(trace, V1)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (5000, "5000 bytes"),
        (4096, "4 KiB"),
        ((4 << 30) + 4096, "4 GiB + 4 KiB"),
        ((1 << 64) - 1, "unlimited"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """Sizes are exact, in the largest units that fit."""
    assert size_text(size) == text


def test_mermaid(failing_vfork: Trace, lasso: Trace) -> None:
    """A diagram declares its tasks, creates the child by an arrow, and marks the loop."""
    lines = render_mermaid(failing_vfork).splitlines()
    assert lines[0] == "sequenceDiagram"
    assert lines[2:4] == ["    participant P", "    participant C"]
    assert any(line.startswith("    P->>C: 2. vfork") for line in lines)
    assert render_mermaid(lasso).count("\n    loop for ever\n") == 1
    assert render_mermaid(lasso).count("\n    end\n") == 1


def test_mermaid_escapes_its_own_signs(failing_vfork: Trace) -> None:
    """A semicolon would end a statement, a # start an entity."""
    for line in render_mermaid(failing_vfork).splitlines():
        assert ";" not in line.replace("#59;", "").replace("#gt;", "").replace("#lt;", "")
