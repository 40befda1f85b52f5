"""Asking solvers: every goal of every batch, on all cores.

A goal is proved when a solver says *unsat* to the goal's own script.  Budgets are resource
units of the solver, never seconds, and seeds are fixed: the same batch has the same answers.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from shstk.errors import UserError
from shstk.pool import Meter, cores
from shstk.proof import proof_cache
from shstk.proof.batch import Batch, Goal, forms
from shstk.proof.engines import (
    CVC5_ATTEMPTS,
    NO_CVC5,
    QUICK,
    SETTINGS,
    SOLVERS,
    ScriptError,
    installed,
)
from shstk.proof.proof_cache import Verdict

PACKAGES = {"z3": "z3-solver", "cvc5": "cvc5"}
# z3 spends some 2.5 million units a second, cvc5 0.3 to 1 million.
RLIMIT = {"z3": 20_000_000, "cvc5": 2_000_000}
PREMISES_RLIMIT = {"z3": 100_000, "cvc5": 50_000}
PREMISES = "(premises)"  # the name of the goal that asks about the premises alone
CHUNK = 100  # goals that one process is given at a time
COMMANDS = {
    *("declare-sort", "declare-datatypes", "declare-fun", "declare-const"),
    *("define-sort", "define-fun", "assert", "set-info"),
}


@dataclass(frozen=True)
class Result:
    """What a solver said to a goal.  ``status`` is "unsat" (proved), "sat" or "unknown".

    ``rlimit_used`` is in the solver's resource units; ``seconds`` of a cached answer are
    those it took when it was found.
    """

    batch: str
    goal: str
    solver: str
    status: str
    rlimit_used: int
    reason: str
    seconds: float
    cached: bool = False


def identity(solver: str, rlimit: int | None = None) -> str:
    """The solver, its exact version, settings and budget: what an answer depends on."""
    budget = _budget(solver, rlimit)
    try:
        version = importlib.metadata.version(PACKAGES[solver])
    except importlib.metadata.PackageNotFoundError:
        raise UserError(NO_CVC5 if solver == "cvc5" else "z3-solver is not installed") from None
    return f"{solver} {version} {SETTINGS[solver]} {CVC5_ATTEMPTS} {QUICK} {budget}"


def _budget(solver: str, rlimit: int | None) -> int:
    if solver not in PACKAGES:
        raise UserError(f"--solver {solver}: no such solver; there are z3 and cvc5")
    if rlimit is not None and rlimit < 1:
        raise UserError(f"a budget of {rlimit} resource units: it has to be at least 1")
    return RLIMIT[solver] if rlimit is None else rlimit


def solve(
    batches: Sequence[Batch],
    solver: str = "z3",
    rlimit: int | None = None,
    progress: Meter | None = None,
    cache: bool = True,
) -> tuple[list[Result], bool]:
    """The answers to all goals in order, and whether Ctrl-C cut it short.

    ``rlimit`` is the budget of one goal, in the solver's own units.  After Ctrl-C, what was
    found until then is there (and kept).  Raises ``ScriptError`` for a script that the
    solver rejects, ``UserError`` for a solver that is not there.
    """
    whole = identity(solver, rlimit)
    budget = _budget(solver, rlimit)
    at = [(b, g) for b in range(len(batches)) for g in range(len(batches[b].goals))]
    digests = [digest for one in batches for digest in proof_cache.goal_digests(one)]
    keys = dict(zip(at, (proof_cache.verdict_key(d, whole) for d in digests), strict=True))
    known = proof_cache.load(keys.values()) if cache else {}
    chunks: list[_Chunk] = []
    for number, one in enumerate(batches):
        asked = [g for g in range(len(one.goals)) if keys[number, g] not in known]
        for n in range(0, len(asked), CHUNK):
            part = tuple(asked[n : n + CHUNK])
            chunks.append(_Chunk(number, one, part, solver, budget))
    fresh: dict[tuple[int, int], Verdict] = {}
    interrupted = False
    if chunks:
        installed(solver)
        fresh, interrupted = _ask(chunks, progress or Meter())
        if cache:
            proof_cache.store({keys[place]: v for place, v in fresh.items()})
    return list(_results(batches, solver, at, keys, known, fresh)), interrupted


def _check_form(batch: Batch) -> None:
    """The texts are commands and terms that solvers do not pass over.

    z3 takes no offence at a command that it does not know, and neither solver at a goal that
    goes on behind its own end.
    """
    try:
        others = {c.lstrip("( ").split()[0].rstrip(")") for c in forms(batch.prelude)} - COMMANDS
    except ValueError as error:
        raise ScriptError(f"{batch.name}: {error}") from None
    if others:
        raise ScriptError(f"{batch.name}: no command of a prelude: {', '.join(sorted(others))}")
    for goal in batch.goals:
        try:
            terms = len(forms(goal.negated))
        except ValueError as error:
            raise ScriptError(f"{batch.name}: {goal.name}: {error}") from None
        if terms != 1:
            raise ScriptError(f"{batch.name}: {goal.name}: {terms} terms instead of one")


def _results(
    batches: Sequence[Batch],
    solver: str,
    at: list[tuple[int, int]],
    keys: dict[tuple[int, int], str],
    known: dict[str, Verdict],
    fresh: dict[tuple[int, int], Verdict],
) -> Iterator[Result]:
    for b, g in at:
        verdict = fresh.get((b, g)) or known.get(keys[b, g])
        if verdict is not None:
            v, name = verdict, batches[b].goals[g].name
            yield Result(
                batches[b].name,
                name,
                solver,
                v.status,
                v.rlimit_used,
                v.reason,
                v.seconds,
                (b, g) not in fresh,
            )


def vacuous(
    batches: Sequence[Batch],
    solver: str = "z3",
    rlimit: int | None = None,
    progress: Meter | None = None,
    cache: bool = True,
) -> tuple[list[Result], bool]:
    """What a solver says to the premises of each batch alone.

    *unsat*: they contradict each other, and everything follows from them.  *unknown* says
    nothing: the budget is small, since quantified premises seldom get a *sat*.
    """
    alone = [Batch(b.name, b.prelude, (Goal(PREMISES, "true"),)) for b in batches]
    return solve(alone, solver, rlimit or PREMISES_RLIMIT.get(solver), progress, cache)


def premises_consistent(batch: Batch, solver: str = "z3", rlimit: int | None = None) -> Result:
    """What a solver says to the premises of one batch; *unsat* is a vacuous batch."""
    answers, interrupted = vacuous([batch], solver, rlimit, cache=False)
    if interrupted or not answers:
        raise KeyboardInterrupt
    return answers[0]


# -- processes -------------------------------------------------------------------
@dataclass(frozen=True)
class _Chunk:
    number: int
    batch: Batch
    goals: tuple[int, ...]
    solver: str
    rlimit: int


class _Asking:
    """A process that answers chunks goal by goal; solvers do not hear Ctrl-C, so it is killed."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_answer, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, chunk: _Chunk) -> None:
        """The next chunk."""
        self.chunk = chunk
        self.left = list(chunk.goals)
        self.pipe.send(chunk)

    @property
    def goal(self) -> str:
        """What is being asked."""
        return f"{self.chunk.batch.name}: {self.chunk.batch.goals[self.left[0]].name}"

    def receive(self) -> dict[tuple[int, int], Verdict]:
        """The next answers, by batch and goal."""
        where = f"{self.goal}: {self.chunk.solver}"
        try:
            said = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise ScriptError(f"{where} died (status {self.process.exitcode})") from None
        if isinstance(said, str):
            raise ScriptError(f"{where}: {said}")
        return {(self.chunk.number, self.left.pop(0)): verdict for verdict in said}

    def end(self) -> None:
        """Now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _ask(chunks: list[_Chunk], meter: Meter) -> tuple[dict[tuple[int, int], Verdict], bool]:
    """The answers by batch and goal, and whether Ctrl-C cut it short."""
    found: dict[tuple[int, int], Verdict] = {}
    waiting = chunks[::-1]
    running: dict[Any, _Asking] = {}
    total = sum(len(c.goals) for c in chunks)
    try:
        for _ in range(min(cores(), len(chunks))):
            _start(running)
        for asking in running.values():
            asking.ask(waiting.pop())
        while running:
            for pipe in connection.wait(list(running)):
                asking = running[pipe]
                meter.show(f"[{len(found)}/{total}] {asking.goal}")
                found |= asking.receive()
                if not asking.left and waiting:
                    asking.ask(waiting.pop())
                elif not asking.left:
                    del running[pipe]
                    asking.end()
    except KeyboardInterrupt:
        return found, True
    finally:
        for asking in running.values():
            asking.end()
        meter.clear()
    return found, False


def _start(running: dict[Any, _Asking]) -> None:
    """Begin a process that Ctrl-C does not reach."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        asking = _Asking()
        running[asking.pipe] = asking
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(pipe: connection.Connection) -> None:
    """A process's life: it ends when the other end is closed."""
    while True:
        try:
            chunk = pipe.recv()
        except EOFError:
            return
        try:
            _check_form(chunk.batch)
            asked = [chunk.batch.goals[g] for g in chunk.goals]
            for verdicts in SOLVERS[chunk.solver](chunk.batch, asked, chunk.rlimit):
                pipe.send(verdicts)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not an answer
            pipe.send(f"{type(error).__name__}: {_plain(error)}")


def _plain(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(text.split())[:300]
