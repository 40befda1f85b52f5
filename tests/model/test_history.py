"""The bugs of the design's history: which versions have them, and which do not any more.

Each line says what is violated, by which events, from which version to which.  Whether it is
is found by exploring those events alone.  Letters as in ``tests/shstk/test_findings.py``.
Versions that are not among those explored have the life cycle of one that is
(``tests/model/designs/test_versions.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from model.designs import DESIGNS
from model.kernel import FAMILIES
from shstk.build import CLAIMS, extract
from shstk.liveness import check
from shstk.plan import Question, families_in
from shstk.pool import Meter, run
from shstk.replay import drive
from shstk.search import Answer, answer
from shstk.space import Bound, Space

#: In order; each has a life cycle of its own.
HISTORY = (
    *("v1", "v3", "linux-6.6-rc1"),
    *("fix-vfork-clone-failure", "fix-clone-error-handling"),
    *("linux-6.6", "linux-6.12"),
)
RC1, VFORK_FIX, CLEANUP_FIX, RELEASE, MSEAL = HISTORY[2:]
ORDINARY, HOSTILE = "ordinary", "ordinary+hostile"


def since(version: str) -> tuple[str, ...]:
    """That version and all later ones."""
    return HISTORY[HISTORY.index(version) :]


def before(version: str, first: str = "v1") -> tuple[str, ...]:
    """From ``first`` to the one before that version."""
    return HISTORY[HISTORY.index(first) : HISTORY.index(version)]


ALL, NEVER = HISTORY, ()
SMALL, TWO_MMS, TWO_STACKS = Bound(2, 1, 1), Bound(2, 2, 1), Bound(2, 1, 2)
ALONE = Bound(1, 2, 1)
KILL = "vfork sigkill vfork-abandon"  # a vfork parent dies while it waits


@dataclass(frozen=True)
class Line:
    """A claim, the events that are on beside enabling, and the versions it is violated in."""

    bug: str
    claim: str
    events: str
    broken: tuple[str, ...]
    source: str
    bound: Bound = SMALL
    environment: str = ORDINARY
    said: bool = True  # where it holds its premise is reached


OWNED, IN_USE = "freed-at-most-once/owned", "not-in-use/nobody-else-on-it"
CALLERS = "failed-clone-harmless/callers-stack-mapped"
LEAK = "freed-at-least-once/owner-there"
OLD_MM = "own-mm/mm-of-the-record"

# fmt: off
LINES = [
    # (a) the child of a killed vfork parent frees the parent's stack, too
    Line("a", OWNED, f"{KILL} exit", before(VFORK_FIX), "331955600ddf"),
    # (b) a vfork that fails late frees its caller's stack …
    Line("b", IN_USE, "vfork late-clone-failure exit", before(VFORK_FIX), "331955600ddf, log"),
    Line("b", CALLERS, "vfork late-clone-failure exit", before(VFORK_FIX), "331955600ddf, log"),
    Line("b", OWNED, "vfork late-clone-failure exit", before(VFORK_FIX), "331955600ddf, log"),
    # … and so does one that fails in copy_thread(), since that cleans up by itself
    Line("b", CALLERS, "vfork tls-failure", before(VFORK_FIX, "v3"),
         "v3 26/37, end of copy_thread()", TWO_STACKS),
    # (c) sizes
    Line("c", "size-default/rlimit-path", "thread compat", NEVER, "v1 28/35, log", TWO_STACKS),
    Line("c", "size-explicit/clone3-path", "thread compat", ALL,
         "adjust_shstk_size(): no cap", TWO_STACKS),
    Line("c", "size-compat/quarter", "thread compat", since("v3"),
         "v2 dropped 32-bit support, the log of b2926a36b97a did not", TWO_STACKS),
    # (d) a failed exec: a stale range of the old mm is freed in the new one, or again in the old
    Line("d", OLD_MM, "exec exec-failure", before(RELEASE, "v3"), "509ff51ee652: size = 0", ALONE),
    Line("d", OWNED, "exec sigkill", before(RELEASE, "v3"), "509ff51ee652, log", ALONE),
    Line("d", OLD_MM, "vfork exec exec-failure", before(RELEASE),
         "v1 28/35, deactivate_mm(): a vfork child keeps base and size", TWO_MMS),
    # … and with the warning, that warns where nothing is freed twice
    Line("d", "no-false-alarm/double-free-warning", "exec exec-failure", since(RELEASE),
         "509ff51ee652: WARN_ON(!size)", ALONE, said=False),
    # (e) a killed vfork parent frees the stack its child runs on
    Line("e", IN_USE, f"{KILL} exit", ALL, "exit_mm() frees by base"),
    Line("e", "no-dangling-ssp/ssp-mapped", f"{KILL} exit", ALL, "exit_mm() frees by base"),
    # (f) leaks
    Line("f", LEAK, "vm disable sigkill munmap-eintr", since(RC1),
         "83bc7940a701, log: takes the mm to be about to go; another process can have it"),
    Line("f", LEAK, "thread mseal exit", since(MSEAL), "mm/mseal.c, 6.10", SMALL, HOSTILE),
    # (g) the order of mm_release()
    Line("g", "freed-before-join/gone", "thread exit", NEVER, "kernel/fork.c mm_release()"),
    # (h) kernel workers: they free their creator's stack, or have a useless one
    Line("h", "worker-frees-nothing/own-only", "worker exit", ("v1",),
         "v1 28/35, copy_thread()", TWO_STACKS),
    Line("h", IN_USE, "worker late-clone-failure", ("v1",), "v1 28/35, copy_thread()", TWO_STACKS),
    Line("h", "worker-holds-none/none", "worker exit", since("v3"),
         "Message-ID 20250822153702.GA27153", TWO_STACKS),
    # (i) a vfork child that disables frees its parent's stack, and enabling again is a leak
    Line("i", IN_USE, "vfork disable", before(VFORK_FIX), "331955600ddf"),
    Line("i", LEAK, "vfork disable exit", before(VFORK_FIX), "v1 28/35, deactivate_mm()"),
    # (j) CLONE_VM without CLONE_THREAD
    Line("j", "separate-stacks/one-task-per-stack", "vm exit", NEVER, "v1 28/35", TWO_STACKS),
    # (k) others: copy_thread() leaks what it has allocated
    Line("k1", "failed-clone-harmless/nothing-left-behind", "thread tls-failure",
         since(CLEANUP_FIX), "748c90c69336", TWO_STACKS),
    # a range is freed, whatever user code has put there
    Line("k2", OWNED, "exit mmap munmap-shstk", ALL, "vm_munmap() of base, size", SMALL, HOSTILE),
    # exec of a vfork child in its parent's group kills the parent, and both free
    Line("k10", OWNED, "vfork-thread exec vfork-abandon", before(VFORK_FIX), "331955600ddf"),
]
# fmt: on

#: What the text asks for inside a step; other families are steps of their own.
ASKED = frozenset({"compat", "tls-failure", "munmap-eintr", "alloc-failure", "fault", "pivot"})


@dataclass(frozen=True)
class Partly(Question):
    """A question about some steps of tables that have more."""

    off: frozenset[str] = frozenset()

    @property
    def switched_off(self) -> frozenset[str]:
        return self.off


Key = tuple[str, str, Bound, str]  # design, environment, bound, events


def key(line: Line, design: str) -> Key:
    """Lines that one exploration answers."""
    return design, line.environment, line.bound, line.events


def tables_for(line: Line) -> tuple[Bound, frozenset[str]]:
    """Lines whose steps can be in the same tables."""
    return line.bound, ASKED & set(line.events.split())


def question(asked: Key, lines: list[Line]) -> Partly:
    """Only the properties of these lines, and only their events."""
    design, environment, bound, events = asked
    alike = [line for line in LINES if tables_for(line) == tables_for(lines[0])]
    on = {"kernel", "enable"}
    without = families_in(environment) - on - set(events.split())
    off = frozenset(FAMILIES) - on - {e for line in alike for e in line.events.split()}
    properties = frozenset(line.claim.split("/")[0] for line in lines)
    return Partly(design, environment, bound, without, properties, off=off)


def explored(questions: list[Partly], tell: Callable[[str], None]) -> list[Answer]:
    """A task for the pool: questions that share their tables."""
    return [answer(asked, DESIGNS[asked.design], tell) for asked in questions]


@pytest.fixture(scope="module")
def answers() -> dict[Key, Answer]:
    """One exploration for each version, bound and set of events."""
    wanted: dict[Key, list[Line]] = {}
    for line in LINES:
        for design in HISTORY:
            wanted.setdefault(key(line, design), []).append(line)
    tasks: dict[object, list[Key]] = {}
    for k, lines in wanted.items():
        tasks.setdefault((k[0], tables_for(lines[0])), []).append(k)
    work = [[question(k, wanted[k]) for k in keys] for keys in tasks.values()]
    found, interrupted = run(explored, work, Meter())
    assert not interrupted
    return {
        k: got
        for keys, group in zip(tasks.values(), found, strict=True)
        for k, got in zip(keys, group, strict=True)
    }


def violated(found: Answer, claim: str) -> bool:
    """Some run violates it; the exploration has to be complete to say that none does."""
    if any(CLAIMS[site.claim].name == claim for site in found.sites):
        return True
    assert {c.status for c in found.coverage} == {"complete"}
    return False


EACH = pytest.mark.parametrize("line", LINES, ids=lambda n: f"{n.bug}-{n.claim}-{n.events}")


@EACH
def test_who_has_a_bug(answers: dict[Key, Answer], line: Line) -> None:
    """A claim is violated in exactly the versions that have the bug."""
    assert tuple(d for d in HISTORY if violated(answers[key(line, d)], line.claim)) == line.broken


@EACH
def test_where_it_holds_it_was_asked(answers: dict[Key, Answer], line: Line) -> None:
    """A version without the bug has runs that make the claim's premise true."""
    bit = next(n for n, part in enumerate(CLAIMS) if part.name == line.claim)
    for design in set(HISTORY) - set(line.broken):
        seen = any(c.witnessed >> bit & 1 for c in answers[key(line, design)].coverage)
        assert seen == line.said, design


def test_the_lines_are_about_every_bug() -> None:
    """No letter is left out; of k, those that are about the life cycle are here (k9 below)."""
    assert {line.bug for line in LINES} == {*"abcdefghij", "k1", "k2", "k10"}


# -- longer runs -------------------------------------------------------------------------

Moves = list[tuple[str, int] | tuple[str, int, dict[str, int]]]
NESTED: Moves = [
    *(("enable", 0), ("vfork", 0, {"child": 1}), ("clone_commit", 0)),
    *(("vfork", 1, {"child": 2}), ("clone_commit", 1), ("sigkill", 1), ("vfork_abandoned", 1)),
    *(("exit", 2), ("exit_mm_release", 2)),
]
SIBLING: Moves = [
    *(("enable", 0), ("clone_thread", 0, {"child": 1}), ("clone_commit", 0)),
    *(("vfork", 0, {"child": 2}), ("clone_commit", 0), ("exit_group", 1)),
    *(("vfork_abandoned", 0), ("exit_mm_release", 0)),
]
PRIVATE_COPY: Moves = [
    *(("enable", 0), ("clone_vfork_copy", 0, {"child": 1}), ("clone_commit", 0)),
    *(("clone_thread", 1, {"child": 2}), ("clone_commit", 1)),
    *(("exit", 1), ("exit_mm_release", 1), ("exit_mm_drop", 1)),
]
ORPHAN: Moves = [
    *(("enable", 0), ("clone_thread", 0, {"child": 1}), ("clone_commit", 0)),
    *(("fork", 0, {"child": 2}), ("clone_commit", 0)),
]


@pytest.mark.parametrize("design", HISTORY)
@pytest.mark.parametrize(
    ("moves", "claim", "broken"),
    [
        # (k9) C, a vfork child, vforks G and is killed: G's exit frees P's stack
        (NESTED, IN_USE, before(VFORK_FIX)),
        # (e) one thread waits for its vfork child, another ends the group
        (SIBLING, IN_USE, ALL),
        # (f) CLONE_VFORK without CLONE_VM: the child's own copy stays
        (PRIVATE_COPY, LEAK, ALL),
        # (f) fork of a threaded process
        (ORPHAN, "no-orphan-copies/no-orphan", ALL),
    ],
)
def test_three_tasks(design: str, moves: Moves, claim: str, broken: tuple[str, ...]) -> None:
    """Bugs that need three tasks, as runs of the text."""
    steps = drive(Space(Bound(3, 2, 2)), DESIGNS[design], moves)
    assert any(claim in step.violations for step in steps) == (design in broken)


# -- endless runs ------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["v1", "v3", RC1])
@pytest.mark.parametrize("claim", ["unmap-terminates", "vfork-resumes"])
def test_retrying_on_eintr_need_not_end(design: str, claim: str) -> None:
    """Up to 83bc7940a701 a dying task can try for ever, where the lock stays contended.

    So can a vfork child that disables, whose parent then waits for ever.
    """
    events = frozenset(
        {
            *("kernel", "enable", "disable", "exit", "vfork", "sigkill"),
            *("munmap-eintr", "unfair-lock"),
        }
    )
    off = frozenset(FAMILIES) - events
    tables = extract(DESIGNS[design], SMALL, off)
    found = check(tables, events, [claim], environment=HOSTILE, switched_off=off)
    assert any(result.premise for result in found)
    assert any(result.status == "violated" for result in found) == (design not in since(RC1))
