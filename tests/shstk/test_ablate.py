"""Ablation: what catches a mutant, what is proved equivalent, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from shstk.ablate import Ablation
from shstk.ablate_finding import Finding, Status
from shstk.ablate_text import as_json, text
from shstk.ablation import IDLE, VIOLATED, Base, Catch, Seen, base_of, missing, seen, violates
from shstk.behaviour import Comparison as Lockstep
from shstk.behaviour import explore
from shstk.cli import main
from shstk.mutants import Mutant, directory, hooks_reaching, mutants, mutated
from shstk.mutations import ALWAYS, DROPPED, NEGATED, NEVER, SUCCESS, SWAPPED
from shstk.plan import Question
from shstk.pool import Meter
from shstk.proof.equivalence import Comparison, Equivalence
from shstk.space import Bound, Space

LINUX = DESIGNS["linux-6.12"]
BOUND = Bound(2, 1, 1)
QUESTION = Question(LINUX.name, "ordinary", BOUND)


def _silent(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the mutants of these tests are."""
    with directory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def find(folder: Path) -> Callable[[str, str], tuple[Mutant, Design]]:
    """A mutant by its kind and by a part of the text that changes."""
    every = mutants(LINUX)

    def found(kind: str, part: str) -> tuple[Mutant, Design]:
        mutant = next(m for m in every if m.kind == kind and part in m.original[0])
        return mutant, mutated(LINUX, mutant, folder)

    return found


@pytest.fixture(scope="module")
def base() -> Base:
    """What the merged design violates at a small bound."""
    return base_of(QUESTION, LINUX, _silent)


@pytest.fixture(scope="module")
def compare(
    find: Callable[[str, str], tuple[Mutant, Design]],
) -> Callable[[str, str], Comparison]:
    """Is a mutant equivalent?  Without any invariant."""
    equivalence = Equivalence(LINUX, ())

    def compared(kind: str, part: str) -> Comparison:
        mutant, design = find(kind, part)
        return equivalence.compare(design, hooks_reaching(LINUX, mutant.owner, mutant.method))

    return compared


Find = Callable[[str, str], tuple[Mutant, Design]]
Compare = Callable[[str, str], Comparison]


# -- equivalence -----------------------------------------------------------------------
def test_the_order_of_two_choices_is_proved_to_be_nothing(compare: Compare) -> None:
    """Choices are told apart by name: asking for RLIMIT_STACK first makes no difference."""
    assert compare(SWAPPED, 'k.may("compat", "compat")')


def test_who_asks_for_more_may_choose_as_it_likes(compare: Compare) -> None:
    """A fork that asks for a size which it does not use can always be given one that will do."""
    assert compare(SWAPPED, "if args.flags & CLONE_VM == 0:")


def test_a_moment_counts_only_for_what_is_said_of_it(compare: Compare) -> None:
    """SSP's offset is written before or after the unmapping: no claim asks for it there."""
    assert compare(SWAPPED, "current.off = Off.TOP")


def test_a_lost_write_is_a_difference(compare: Compare) -> None:
    """A mutant that leaves a variable as it was is not equivalent."""
    found = compare(DROPPED, "current.shstk = True")
    assert found.differs == "enable: the state after it differs"


def test_a_difference_of_events_alone_is_seen(compare: Compare) -> None:
    """Where both write the same, but another warning fires, they are not equivalent."""
    found = compare(NEVER, "if tsk.size == 0:")
    assert found.differs == "exit_mm_release: what happens in it differs"


def test_what_cannot_happen_any_more_is_a_difference(compare: Compare) -> None:
    """An error that is not returned leaves another state."""
    assert not compare(SUCCESS, "return args.set_new_tls(k)")


def test_another_answer_about_features_is_a_difference(compare: Compare) -> None:
    """Properties ask ``enabled``, so that has to be the same, too."""
    assert compare(ALWAYS, "return tsk.shstk == YES").differs.startswith("enabled")


# -- exploring -------------------------------------------------------------------------
def test_a_forgotten_free_is_caught(find: Find, base: Base) -> None:
    """Without the free in deactivate_mm a task leaves its stack behind."""
    _, design = find(SUCCESS, "return self.shstk_free(k, tsk)")
    found = seen(QUESTION, base, LINUX, design, _silent)
    by = {c.property: c for c in found.catches}
    assert by["freed-before-join"].how == VIOLATED
    trace = by["freed-before-join"].trace
    assert trace is not None
    assert not violates(LINUX, trace, Space(BOUND))


def test_what_the_design_violates_is_no_catch(find: Find, base: Base) -> None:
    """An equivalent mutant violates what the design violates, and nothing catches it."""
    _, design = find(SWAPPED, 'k.may("compat", "compat")')
    found = seen(QUESTION, base, LINUX, design, _silent)
    assert (found.catches, missing([(base, found)]), found.complete) == ([], [], True)


def test_a_premise_that_nothing_makes_true_any_more_tells(find: Find, base: Base) -> None:
    """If enabling always fails nothing is violated anew, but nobody clones with a stack either."""
    _, design = find(ALWAYS, 'if k.may("compat", "compat"):')
    found = seen(QUESTION, base, LINUX, design, _silent)
    assert found.catches == []
    told = {c.claim: c.how for c in missing([(base, found)])}
    assert told["inherited/on-like-the-parent"] == IDLE


def test_a_design_is_followed_by_the_same_choices_only(find: Find) -> None:
    """A clone that fails late leaves a stack behind only without the free in exit_thread.

    The design leaves one behind in another run, where the TLS address is bad: not the same.
    """
    question = Question(LINUX.name, "ordinary", Bound(2, 1, 2))
    mutant = next(m for m in mutants(LINUX) if m.method == "exit_thread")
    with directory() as name:
        design = mutated(LINUX, mutant, Path(name))
        found = seen(question, base_of(question, LINUX, _silent), LINUX, design, _silent)
    late = [c for c in found.catches if c.step == "late_clone_failure"]
    assert "failed-clone-harmless/nothing-left-behind" in {c.claim for c in late}


def _run(design: Design, folder: Path, kind: str, part: str, *stages: str) -> Finding:
    """What some stages find out about a mutant."""
    mutant = next(m for m in mutants(design) if m.kind == kind and part in m.original[0])
    ablation = Ablation(design, [mutant], folder, Meter())
    for stage in stages:
        assert getattr(ablation, stage)() is None and not ablation.interrupted
    return ablation.findings[mutant.number]


def test_one_choice_taken_for_the_other_tells(folder: Path) -> None:
    """Who serves 32-bit callers only enables shadow stacks all the same, but not without them."""
    found = _run(LINUX, folder, NEGATED, 'if k.may("compat", "compat"):', "granted")
    assert found.status is Status.CAUGHT
    assert {c.how for c in found.catches} == {IDLE}
    assert {c.without for c in found.catches} == {("compat",)}
    assert "switch-takes-effect/on-its-own" in {c.claim for c in found.catches}


def test_what_violates_less_is_told_by_that(folder: Path) -> None:
    """A copy that fork made is freed where CLONE_VM is asked for first, and not by the design."""
    mutant = next(
        m
        for m in mutants(LINUX)
        if m.kind == SWAPPED and "CLONE_VFORK" in m.original[0] and "CLONE_VM" in m.original[4]
    )
    ablation = Ablation(LINUX, [mutant], folder, Meter())
    found = ablation.findings[mutant.number]
    found.status = Status.SURVIVES
    ablation.less()
    assert found.status is Status.LESS and found.explained
    assert {c.claim for c in found.cured} == {"freed-at-least-once/owner-there"}
    assert "violates less: the design violates, and it does not, freed-at-least-once" in text(
        LINUX, [found]
    )


def test_what_the_machine_cannot_do_is_said(base: Base) -> None:
    """SSP that is off has no offset on the machine, so the mutant's run does not go there."""
    mutant = [m for m in mutants(LINUX) if m.method == "shstk_disable" and m.kind == DROPPED][1]
    assert mutant.original == ("    current.off = Off.TOP",)
    with directory() as name:
        found = seen(QUESTION, base, LINUX, mutated(LINUX, mutant, Path(name)), _silent)
    assert found.failure.startswith("it violates switch-takes-effect/no-offset, and the machine")


# -- what is said ------------------------------------------------------------------------
def _finding(find: Find, status: Status, catches: list[Catch]) -> Finding:
    return Finding(*find(DROPPED, "tsk.size = 0"), status, catches)


def test_each_property_is_named_once_by_its_shortest_run(find: Find) -> None:
    """Of two conjuncts of a property the one that is violated comes before the idle one."""
    catches = [Catch("own-mm/b", "", IDLE), Catch("own-mm/a", "exit_mm_drop", VIOLATED)]
    said = text(LINUX, [_finding(find, Status.CAUGHT, catches)])
    assert "caught by own-mm (0 steps: a in exit_mm_drop)\n" in said
    assert "- tsk.size = 0" in said
    assert said.splitlines()[-1] == "1 mutants: 1 caught"


def test_of_many_that_are_idle_a_few_are_named(find: Find) -> None:
    """Where nothing happens any more every premise is idle, and a list of all says little."""
    catches = [Catch(f"{p}/c", "", IDLE, None, ("compat",)) for p in ("a", "b", "c", "d", "e")]
    said = " ".join(text(LINUX, [_finding(find, Status.CAUGHT, catches)]).split())
    assert "c (c: no run makes its premise true any more, without compat), and 2 more" in said


def test_what_differs_unread_is_said(find: Find) -> None:
    """An equivalent mutant that is not the same is shown with what it notes otherwise."""
    finding = _finding(find, Status.EQUIVALENT, [])
    finding.unread = ("a base", "a size", "an offset")
    said = " ".join(text(LINUX, [finding]).split())
    assert "read by nobody: a base, a size and an offset" in said
    assert json.loads(as_json(LINUX, [finding]))["mutants"][0]["unread"] == [*finding.unread]


def test_what_the_model_does_not_look_at_is_said(find: Find) -> None:
    """A difference that no property of the model could tell is explained, and not called equal."""
    finding = _finding(find, Status.BLIND, [])
    finding.unread = ("how large a size is",)
    said = text(LINUX, [finding])
    assert "it differs only in how large a size is" in said
    assert "equivalent" not in said
    assert said.splitlines()[-1] == "1 mutants: 1 beyond the model"


def test_a_survivor_is_shown_where_it_differs(find: Find) -> None:
    """Beside a mutant that no property tells stands what the design does, and what it does."""
    mutant, design = find(NEVER, 'k.may("compat", "compat")')
    found = explore(Lockstep((LINUX, design), "ordinary", Bound(1, 1, 1)))
    finding = Finding(mutant, design, Status.SURVIVES, parting=found.partings[0])
    said = text(LINUX, [finding])
    assert "SURVIVES: no property tells\n     the shortest run after which it differs" in said
    assert "within 1x1x1\n" in said
    assert "original: P  arch_prctl: enable shadow stacks; through the 32-bit" in said
    assert "-EOPNOTSUPP for P" in said
    assert "mutant: P  arch_prctl: enable shadow stacks\n" in said


def test_what_is_not_explained_is_listed(find: Find) -> None:
    """The summary ends with the survivors, and the JSON says which they are."""
    finding = _finding(find, Status.SURVIVES, [])
    number = finding.mutant.number
    assert text(LINUX, [finding]).splitlines()[-1].split()[:2] == [str(number), "survives:"]
    data = json.loads(as_json(LINUX, [finding]))
    assert data["mutants"][0]["status"] == "survives"
    assert data["summary"]["survive"] == 1


def test_interrupted_work_is_not_called_explained(find: Find, folder: Path) -> None:
    """What has not been checked is unknown, whatever else is."""
    mutant, _ = find(DROPPED, "tsk.size = 0")
    ablation = Ablation(LINUX, [mutant], folder, Meter())
    assert [f.status for f in ablation.open()] == [Status.UNKNOWN]


def test_ctrl_c_ends_it_with_what_is_known(
    find: Find, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its first stage, it begins no other, and calls nothing explained."""
    mutant, _ = find(DROPPED, "tsk.size = 0")
    ablation = Ablation(LINUX, [mutant], folder, Meter())
    asked: list[object] = []

    def interrupted(task: object, _jobs: object, _meter: object) -> tuple[list[object], bool]:
        asked.append(task)
        return [], True

    monkeypatch.setattr("shstk.ablate.run", interrupted)
    assert ablation.run()
    assert len(asked) == 1
    assert not ablation.open()[0].explained


def test_a_text_that_fails_is_caught(find: Find, folder: Path) -> None:
    """A mutant that cannot be executed needs no property."""
    mutant, _ = find(DROPPED, "tsk.size = 0")
    ablation = Ablation(LINUX, [mutant], folder, Meter())
    ablation.note(ablation.open()[0], QUESTION, Seen(failure="it dereferences NULL"))
    assert ablation.open() == []


def test_a_mutant_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Mutants are numbered from 1."""
    assert main(["ablate", "v1", "--mutant", "0"]) == 2
    assert "numbered 1 to" in capsys.readouterr().err


def test_mutants_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--list`` names every mutant and checks none."""
    assert main(["ablate", "v1", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(mutants(DESIGNS["v1"]))
