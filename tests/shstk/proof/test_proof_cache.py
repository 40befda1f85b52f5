"""Keeping answers: only what is exactly as it was written is an answer."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from shstk.proof import proof_cache as cache
from shstk.proof.proof_cache import Planned, Verdict

PROVED = Verdict("unsat", 123, "", 0.5)
IDENTITY = "z3 1.2.3 20000000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "shstk" / "proofs"


def _key(text: str, identity: str = IDENTITY) -> str:
    return cache.verdict_key(cache.script_digest(text), identity)


def test_what_is_stored_is_found() -> None:
    """Each answer under its own key, with its reason and numbers."""
    unknown = Verdict("unknown", 7, 'a "reason"\nof two lines', 1.25)
    cache.store({_key("a"): PROVED, _key("b"): unknown})
    assert cache.load([_key("a"), _key("b"), _key("c")]) == {
        _key("a"): PROVED,
        _key("b"): unknown,
    }


def test_another_version_or_budget_is_another_question() -> None:
    """Nothing is taken over from another solver, version, budget or script."""
    cache.store({_key("a"): PROVED})
    assert not cache.load([_key("a", "z3 1.2.4 20000000"), _key("a", "z3 1.2.3 1"), _key("a ")])


def test_no_flipped_bit_is_believed(home: Path) -> None:
    """Whatever bit of a kept answer flips, there is no answer, or the very same one."""
    key = _key("a")
    cache.store({key: Verdict("unknown", 1, "x", 0.5)})
    path = home / f"{key[0]}.answers"
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            assert cache.load([key]) in ({}, {key: Verdict("unknown", 1, "x", 0.5)})


def test_an_answer_cannot_be_edited(home: Path) -> None:
    """Writing unsat over unknown makes the answer disappear."""
    key = _key("a")
    cache.store({key: Verdict("unknown", 1, "", 0.5)})
    path = home / f"{key[0]}.answers"
    path.write_bytes(path.read_bytes().replace(b"unknown", b"unsat"))
    assert cache.load([key]) == {}


def test_an_answer_cannot_be_moved_to_another_key(home: Path) -> None:
    """A line belongs to its key."""
    key, other = _key("a"), _key("b")
    cache.store({key: PROVED})
    path = home / f"{key[0]}.answers"
    line = path.read_bytes().replace(key.encode(), other.encode())
    (home / f"{other[0]}.answers").write_bytes(line)
    assert cache.load([other]) == {}


def test_a_torn_line_costs_no_other_line(home: Path) -> None:
    """What a dead writer left unfinished is not there; what is stored next is."""
    key = _key("a")
    cache.store({key: PROVED})
    path = home / f"{key[0]}.answers"
    path.write_bytes(path.read_bytes()[:-20])
    assert cache.load([key]) == {}
    cache.store({key: PROVED})
    assert cache.load([key]) == {key: PROVED}


def test_foreign_files_are_no_answers(home: Path) -> None:
    """Rubbish, an empty file, a folder."""
    key = _key("a")
    home.mkdir(parents=True)
    path = home / f"{key[0]}.answers"
    for content in (b"", b"\0\xff\n\n" * 100, key.encode() + b" unsat\n"):
        path.write_bytes(content)
        assert cache.load([key]) == {}
    path.unlink()
    path.mkdir()
    assert cache.load([key]) == {}
    cache.store({key: PROVED})


def test_nowhere_to_write_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache below a file keeps nothing, and says nothing."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.store({_key("a"): PROVED})
    cache.plan_store("k", [Planned("b", "g", cache.script_digest("a"))])
    assert cache.load([_key("a")]) == {} and cache.plan_load("k") is None


def _write(number: int) -> None:
    for n in range(100):
        cache.store({_key(f"{number}/{n}"): Verdict("unsat", n, "", 0.5)})


def test_writers_do_not_disturb_each_other() -> None:
    """Four processes that write at the same time: every answer is there."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    keys = [_key(f"{m}/{n}") for m in range(4) for n in range(100)]
    assert len(cache.load(keys)) == 400


def test_a_file_that_is_too_big_starts_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is kept, and what is old is asked again."""
    monkeypatch.setattr(cache, "TOO_BIG", 10)
    key = _key("a")
    cache.store({key: PROVED})
    path = home / f"{key[0]}.answers"
    path.write_bytes(path.read_bytes() * 3)
    cache.store({key: PROVED})
    assert path.read_bytes().count(key.encode()) == 1


def test_a_plan_is_answered_only_as_a_whole() -> None:
    """One answer missing, and nothing is known of the plan."""
    plan = [Planned("b", f"g{n}", cache.script_digest(str(n))) for n in range(3)]
    cache.plan_store("sources", plan)
    cache.store({cache.verdict_key(p.script, IDENTITY): PROVED for p in plan[:2]})
    assert cache.verdicts("sources", IDENTITY) is None
    cache.store({cache.verdict_key(plan[2].script, IDENTITY): PROVED})
    assert cache.verdicts("sources", IDENTITY) == [(p, PROVED) for p in plan]
    assert cache.verdicts("sources", "cvc5 1") is None
    assert cache.verdicts("other sources", IDENTITY) is None


def test_a_damaged_plan_is_no_plan(home: Path) -> None:
    """A shorter list of obligations must never pass for the whole one."""
    plan = [Planned("b", f"g{n}", cache.script_digest(str(n))) for n in range(3)]
    cache.plan_store("sources", plan)
    (path,) = home.glob("*.plan")
    whole = path.read_bytes()
    assert cache.plan_load("sources") == plan
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert cache.plan_load("sources") is None
        path.write_bytes(whole[:at])
        assert cache.plan_load("sources") is None
    path.write_bytes(whole.replace(b'"b"', b'"c"'))
    assert cache.plan_load("sources") is None


def test_a_plan_of_another_key_is_no_plan(home: Path) -> None:
    """A plan's file under another plan's name is not taken for it."""
    cache.plan_store("one", [])
    (path,) = home.glob("*.plan")
    cache.plan_store("two", [Planned("b", "g", cache.script_digest(""))])
    (other,) = set(home.glob("*.plan")) - {path}
    other.write_bytes(path.read_bytes())
    assert cache.plan_load("two") is None


def test_three_thousand_answers_are_found_at_once() -> None:
    """A design of 3,000 obligations that has not changed: well under 0.3 s."""
    plan = [Planned("batch", f"goal {n}", cache.script_digest(str(n))) for n in range(3000)]
    cache.plan_store("sources", plan)
    cache.store({cache.verdict_key(p.script, IDENTITY): PROVED for p in plan})
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        known = cache.verdicts("sources", IDENTITY)
        best = min(best, time.perf_counter() - start)
    assert known is not None and len(known) == 3000 and best < 0.3
