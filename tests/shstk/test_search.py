"""What is found in the finite world is found once for all designs with the same text there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from shstk import search
from shstk.cache import directory
from shstk.engine import Engine, Result
from shstk.loader import load_design
from shstk.plan import Question
from shstk.reference import ReferenceReplay
from shstk.replay import replay
from shstk.search import Answer, TextFailure, answer
from shstk.space import Bound, Space

MERGED = DESIGNS["linux-6.12"]
BOUND = Bound(2, 1, 1)
WANTED = frozenset({"freed-at-least-once", "not-in-use", "no-false-alarm"})
SIGRETURN = """from model.designs.linux_6_12 import Linux612
from model.kernel.errno import EINVAL
from model.kernel.uaccess import UserMemory, u64


class Mine(Linux612):
    def shstk_pop_sigframe(self, u: UserMemory, ssp: u64) -> tuple[u64, int]:
        return 0, EINVAL
"""
FREE = """from model.designs.linux_6_12 import Linux612
from model.state import Task
from model.world import World


class Mine(Linux612):
    def shstk_free(self, k: World, tsk: Task) -> int:
        return 0
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of our own, where tables stay from one test to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def forget() -> Callable[[], None]:
    """No answer is kept; and none any more, when called."""

    def forget() -> None:
        for file in kept():
            file.unlink()

    forget()
    return forget


@pytest.fixture
def explored(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """An engine for every slice that is explored from here on."""
    made: list[Engine] = []

    class Listed(Engine):
        def __init__(self, program) -> None:  # type: ignore[no-untyped-def]
            super().__init__(program)
            made.append(self)

    monkeypatch.setattr(search, "Engine", Listed)
    return made


def mine(folder: Path, text: str) -> Design:
    """A design of one's own."""
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return load_design(str(path))


def ask(design: Design, environment: str = "ordinary", memory: int | None = None) -> Answer:
    """Some properties at a bound that takes a moment."""
    question = Question(design.name, environment, BOUND, properties=WANTED, memory=memory)
    return answer(question, design)


def told(found: Answer) -> object:
    """All of an answer but how long it took."""
    coverage = [replace(c, seconds=0, peak_bytes=0) for c in found.coverage]
    return found.question, coverage, found.sites, found.refined


def kept() -> list[Path]:
    """The answers that are kept."""
    return sorted(directory().glob("*.explored"))


def test_a_design_with_another_sigreturn_is_not_explored_again(
    tmp_path: Path, explored: list[Engine], forget: Callable[[], None]
) -> None:
    """A hook that only the reference machine runs is none of the finite world's; its answer is
    the one that it would have got by itself."""
    ask(MERGED)
    assert explored
    explored.clear()
    design = mine(tmp_path, SIGRETURN)
    shared = ask(design)
    assert not explored and shared.sites
    forget()
    assert told(ask(design)) == told(shared) and explored


def test_a_design_with_another_life_cycle_has_an_answer_of_its_own(
    tmp_path: Path, explored: list[Engine], forget: Callable[[], None]
) -> None:
    """A hook that frees nothing is seen, whatever is kept of its base."""
    base = ask(MERGED)
    explored.clear()
    design = mine(tmp_path, FREE)
    found = ask(design)
    assert explored
    where = [{(s.claim, s.step) for s in each.sites} for each in (base, found)]
    assert where[0] != where[1]
    forget()
    assert told(ask(design)) == told(found)


def test_a_shared_trace_is_the_design_s_own(tmp_path: Path, explored: list[Engine]) -> None:
    """It has the name of the design that asks, goes in its text, and says what comes of it."""
    ask(MERGED)
    explored.clear()
    design = mine(tmp_path, SIGRETURN)
    traces = [site.trace for site in ask(design).sites]
    assert not explored
    assert {trace.design for trace in traces} == {"mine"}
    assert all(replay(trace, design, Space(BOUND)) for trace in traces)
    assert any(trace.aftermath for trace in traces)


def test_steps_of_other_environments_do_not_part_designs(explored: list[Engine]) -> None:
    """mseal(2) came with 6.10: 6.6 is like 6.12 where nobody calls it, and only there."""
    older = DESIGNS["linux-6.6"]
    for environment, same in (("ordinary", True), ("ordinary+hostile", False)):
        states = []
        for design in (MERGED, older):
            explored.clear()
            states.append([c.states for c in ask(design, environment).coverage])
        assert (not explored) == (states[0] == states[1]) == same


def test_what_was_cut_short_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for want of memory, nor in the search for a run without an earlier violation."""
    ask(MERGED, memory=200_000)
    assert not kept()
    explore = Engine.explore

    def cut(self: Engine, *, prune: bool = False, **more: object) -> Result:
        found = explore(self, prune=prune, **more)  # type: ignore[arg-type]
        return replace(found, status="interrupted") if prune else found

    monkeypatch.setattr(Engine, "explore", cut)
    ask(MERGED)
    assert not kept()


def test_how_much_memory_there_is_does_not_change_a_whole_answer(explored: list[Engine]) -> None:
    """With a limit that it did not need the answer is the same."""
    found = ask(MERGED)
    explored.clear()
    limited = ask(MERGED, memory=1 << 30)
    assert not explored and limited.sites == found.sites


def test_the_reference_machine_has_to_go_along_with_each_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared answer whose traces do not go on the machine of the design that asks is an error
    of ours, as an own one's would be."""
    ask(MERGED)
    monkeypatch.setattr(search, "replay_on_reference", lambda *_: ReferenceReplay("no way", []))
    with pytest.raises(TextFailure, match="InternalError: .* on the reference machine: no way"):
        ask(mine(tmp_path, SIGRETURN))
