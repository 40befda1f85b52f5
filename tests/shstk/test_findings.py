"""What the explorer finds in the two designs, by itself."""

from __future__ import annotations

import pytest

from model.designs import DESIGNS
from shstk.build import CLAIMS
from shstk.plan import Question, in_environment
from shstk.replay import drive, replay
from shstk.search import Answer, answer
from shstk.space import Bound, Space
from shstk.verdicts import Report, combine

BOUND = Bound(2, 2, 2)
BOTH = {name: DESIGNS[name] for name in ("v1", "linux-6.12")}

Found = dict[tuple[str, str], Report]


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    """Both designs, core claims, in the ordinary and in the hostile environment."""
    return [
        answer(Question(name, environment, BOUND, details="no"), design)
        for name, design in BOTH.items()
        for environment in ("ordinary", "ordinary+hostile")
    ]


@pytest.fixture(scope="module")
def reports(answers: list[Answer]) -> Found:
    """The reports, by design and environment."""
    return {(r.design, r.environment): r for r in combine(answers)}


def sites(reports: Found, design: str, prop: str, environment: str = "ordinary") -> set[str]:
    """The steps in which a property is violated."""
    report = reports[design, environment]
    verdict = next(v for v in report.verdicts if v.property.id == prop)
    return {s.step for s in verdict.sites}


@pytest.mark.parametrize(
    ("design", "prop", "step"),
    [
        # (a) a killed vfork parent: the child frees its stack
        ("v1", "freed-at-most-once", "exec_mm_release"),
        # (b) a vfork that fails late frees the caller's stack
        ("v1", "not-in-use", "late_clone_failure"),
        ("v1", "failed-clone-harmless", "late_clone_failure"),
        # (c) sizes asked for are not capped
        ("v1", "size-explicit", "clone_thread"),
        # (d) a failed exec frees a range of the old mm in the new one
        ("v1", "own-mm", "exit_mm_release"),
        # (e) the child runs on a stack that is gone
        ("v1", "not-in-use", "exit_mm_release"),
        # (h) a worker frees its creator's stack
        ("v1", "worker-frees-nothing", "exit_mm_release"),
        # (i) a vfork child that disables frees its parent's stack
        ("v1", "not-in-use", "shstk_disable"),
        ("linux-6.12", "no-false-alarm", "exit_mm_release"),  # (d)
        ("linux-6.12", "not-in-use", "exit_mm_release"),  # (e)
        ("linux-6.12", "failed-clone-harmless", "clone_thread"),  # (k1)
        ("linux-6.12", "worker-holds-none", "clone_commit"),  # (h)
        ("linux-6.12", "size-explicit", "clone_thread"),  # (c)
        ("linux-6.12", "size-compat", "clone_thread"),  # no quarter since v2
    ],
)
def test_known_bugs_are_found(reports: Found, design: str, prop: str, step: str) -> None:
    """Each bug of the designs' histories is violated in the step it happens in."""
    assert step in sites(reports, design, prop)


@pytest.mark.parametrize(
    ("design", "prop"),
    [
        ("v1", "no-dangling-ssp"),
        ("linux-6.12", "no-dangling-ssp"),
        ("linux-6.12", "freed-at-least-once"),
        ("linux-6.12", "no-orphan-copies"),
    ],
)
def test_known_bad_states_are_found(reports: Found, design: str, prop: str) -> None:
    """(e), (k1) and (f) are reachable."""
    assert sites(reports, design, prop)


@pytest.mark.parametrize(
    ("design", "prop"),
    [
        ("v1", "worker-holds-none"),
        ("v1", "size-default"),
        ("v1", "size-compat"),
        ("linux-6.12", "freed-at-most-once"),
        ("linux-6.12", "own-mm"),
        ("linux-6.12", "worker-frees-nothing"),
        ("linux-6.12", "size-default"),
    ],
)
def test_what_was_fixed_holds(reports: Found, design: str, prop: str) -> None:
    """What a design gets right is not violated, and is exercised."""
    report = reports[design, "ordinary"]
    verdict = next(v for v in report.verdicts if v.property.id == prop)
    assert (verdict.status, verdict.witness) == ("holds", True)


def test_off_is_noop_is_exercised_where_it_speaks_of_the_design(reports: Found) -> None:
    """All of it but what is about kernels without shadow stacks."""
    report = reports["linux-6.12", "ordinary"]
    verdict = next(v for v in report.verdicts if v.property.id == "off-is-noop")
    assert verdict.status == "holds"
    assert set(verdict.unexercised) == {"nothing-mapped", "as-at-first", "no-warning"}


def test_mseal_leaks_in_the_hostile_environment(reports: Found, answers: list[Answer]) -> None:
    """A sealed stack cannot be unmapped at exit: it stays, and its owner has gone."""
    without = frozenset({"munmap-eintr", "tls-failure", "munmap-shstk", "mremap-shstk"})
    only = Question(
        "linux-6.12",
        "ordinary+hostile",
        Bound(2, 1, 1),
        without,
        frozenset({"freed-at-least-once"}),
    )
    found = answer(only, DESIGNS["linux-6.12"]).sites
    assert any("mseal" in [s.step for s in site.trace.steps] for site in found)


@pytest.mark.parametrize("design", ["v1", "linux-6.12"])
def test_user_munmap_lets_the_kernel_hit_foreign_memory(reports: Found, design: str) -> None:
    """(k2): the kernel frees a range, whatever is there by now."""
    assert sites(reports, design, "freed-at-most-once", "ordinary+hostile")


def test_nested_vfork_frees_the_grandparents_stack() -> None:
    """(k9): P vforks C, C vforks G; C is killed waiting, and G's exit frees P's stack."""
    families = frozenset(
        f
        for f in Question("v1", "ordinary", Bound(1, 1, 1)).families
        if f not in ("kernel", "enable", "vfork", "sigkill", "exit")
    )
    bound = Bound(3, 1, 1)
    asked = Question(
        "v1", "ordinary", bound, families, frozenset({"freed-at-most-once"}), details="no"
    )
    design = DESIGNS["v1"]
    assert answer(asked, design).sites
    space = Space(bound)
    steps = drive(
        space,
        design,
        [
            ("enable", 0),
            ("vfork", 0, {"child": 1}),
            ("clone_commit", 0),
            ("vfork", 1, {"child": 2}),
            ("clone_commit", 1),
            ("sigkill", 1),
            ("vfork_abandoned", 1),
            ("exit", 2),
            ("exit_mm_release", 2),
        ],
    )
    assert "freed-at-most-once/owned" in steps[-1].violations
    assert "not-in-use/nobody-else-on-it" in steps[-1].violations


def test_zero_size_fails_cleanly() -> None:
    """RLIMIT_STACK 0 makes the clone fail, and changes nothing."""
    for design in BOTH.values():
        space = Space(Bound(2, 1, 2))
        steps = drive(
            space,
            design,
            [("enable", 0), ("clone_thread", 0, {"stack_size": 0, "RLIMIT_STACK": 0})],
        )
        assert steps[-1].state == steps[0].state
        assert not steps[-1].violations


def test_every_violation_replays(answers: list[Answer]) -> None:
    """Every trace is a run of its design that ends in its violation."""
    for found in answers:
        space = Space(found.question.bound)
        for site in found.sites:
            assert replay(site.trace, DESIGNS[found.question.design], space), CLAIMS[site.claim]


def test_default_questions_cover_every_claim() -> None:
    """The default plan asks about each property's conjuncts, details apart."""
    kinds = {q.details for q in in_environment("v1", "ordinary", None)}
    assert kinds == {"no", "only"}
