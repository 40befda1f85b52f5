"""Keeping solvers' answers between runs.

An answer belongs to a whole script, a solver with its version and settings, and a budget.
It is a line of a file, with a digest of itself: whatever is not exactly what was written is
not there, and is asked again.  A plan is the list of what a caller asks, by digests, so that
an unchanged caller need not write its scripts to know that all is answered.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from shstk.cache import directory
from shstk.proof.batch import Batch

VERSION = 2
TOO_BIG = 4 << 20  # bytes after which a file of answers starts over
STATUSES = ("unsat", "sat", "unknown")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Verdict:
    """A solver's answer: resource units used, its reason for not knowing, seconds it took."""

    status: str
    rlimit_used: int
    reason: str
    seconds: float


@dataclass(frozen=True)
class Planned:
    """An obligation of a plan: ``script`` is the digest of its text."""

    batch: str
    goal: str
    script: str


def script_digest(script: str) -> str:
    """A digest of a whole script."""
    return hashlib.sha256(script.encode()).hexdigest()


def goal_digests(batch: Batch) -> Iterator[str]:
    """A digest for each goal, of all that its script says: a path has other names elsewhere."""
    given = script_digest(batch.prelude)
    for goal in batch.goals:
        yield script_digest(f"{given}\0{goal.negated}")


def verdict_key(script: str, identity: str) -> str:
    """Under what an answer is kept; ``identity`` says solver, version, settings and budget."""
    return hashlib.sha256(f"{VERSION}\0{identity}\0{script}".encode()).hexdigest()


def _home() -> Path:
    return directory() / "proofs"


# -- answers ---------------------------------------------------------------------
def load(keys: Iterable[str]) -> dict[str, Verdict]:
    """The answers that are kept under these keys."""
    wanted = set(keys)
    found: dict[str, Verdict] = {}
    for shard in sorted({k[0] for k in wanted}):
        try:
            content = (_home() / f"{shard}.answers").read_bytes()
        except OSError:
            continue
        for line in content.split(b"\n"):
            key = line[:64].decode("ascii", "replace")
            if key in wanted:
                verdict = _read(line)
                if verdict is not None:
                    found[key] = verdict
    return found


def store(verdicts: Mapping[str, Verdict]) -> None:
    """Keep answers; where they cannot be kept is no error.

    One write appends all lines of a file, so that writers do not cut each other's lines; a
    line that a dead writer left unfinished ends where the next write begins.
    """
    shards: dict[str, list[bytes]] = {}
    for key, verdict in sorted(verdicts.items()):
        shards.setdefault(key[0], []).append(_line(key, verdict))
    try:
        _home().mkdir(parents=True, exist_ok=True)
        for shard, lines in shards.items():
            _append(_home() / f"{shard}.answers", b"\n" + b"\n".join(lines) + b"\n")
    except OSError:
        pass


def _append(path: Path, data: bytes) -> None:
    if path.exists() and path.stat().st_size > TOO_BIG:
        _replace(path, data)
        return
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def _line(key: str, verdict: Verdict) -> bytes:
    v = verdict
    body = f"{key} {json.dumps([v.status, v.rlimit_used, v.reason, v.seconds])}"
    return f"{body} {hashlib.sha256(body.encode()).hexdigest()}".encode()


def _read(line: bytes) -> Verdict | None:
    """The answer of a line, if the line is exactly as it was written."""
    body, digest = line[:-65], line[-64:]
    if line[-65:-64] != b" " or hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        status, used, reason, seconds = json.loads(body[65:])
    except ValueError:
        return None
    if status not in STATUSES or not isinstance(used, int) or not isinstance(reason, str):
        return None
    return Verdict(status, used, reason, float(seconds))


# -- plans -----------------------------------------------------------------------
def plan_store(key: str, plan: Sequence[Planned]) -> None:
    """Keep what is asked under a digest of all that it was made from."""
    body = json.dumps([VERSION, key, [astuple(p) for p in plan]]).encode()
    try:
        _home().mkdir(parents=True, exist_ok=True)
        _replace(_plan(key), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    except OSError:
        pass


def plan_load(key: str) -> list[Planned] | None:
    """What was asked under this key, or None if that is not known exactly."""
    try:
        content = _plan(key).read_bytes()
    except OSError:
        return None
    digest, body = content[:64], content[65:]
    if content[64:65] != b"\n" or hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        version, of, rows = json.loads(body)
        plan = [Planned(*row) for row in rows]
    except (ValueError, TypeError):
        return None
    if version != VERSION or of != key or not all(_HEX.fullmatch(p.script) for p in plan):
        return None
    return plan


def verdicts(plan_key: str, identity: str) -> list[tuple[Planned, Verdict]] | None:
    """The answers to everything that a plan asks, or None if one of them is missing."""
    plan = plan_load(plan_key)
    if plan is None:
        return None
    keys = [verdict_key(p.script, identity) for p in plan]
    known = load(keys)
    if not all(k in known for k in keys):
        return None
    return [(p, known[k]) for p, k in zip(plan, keys, strict=True)]


def plan_of(batches: Iterable[Batch]) -> list[Planned]:
    """Everything that these batches ask."""
    return [
        Planned(b.name, g.name, digest)
        for b in batches
        for g, digest in zip(b.goals, goal_digests(b), strict=True)
    ]


def answered(plan_key: str, identity: str, open_: Collection[tuple[str, str]] = ()) -> bool:
    """Everything that a plan asks is answered with unsat, but for ``open_``: batch and goal."""
    answers = verdicts(plan_key, identity)
    return bool(answers) and all(
        v.status == "unsat" or (p.batch, p.goal) in open_ for p, v in answers or []
    )


def _plan(key: str) -> Path:
    return _home() / f"{hashlib.sha256(key.encode()).hexdigest()}.plan"


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    try:
        os.replace(file.name, path)
    except OSError:
        os.unlink(file.name)
        raise
