"""The largest inductive set of claims of a pool (Houdini), and its obligations.

A claim is kept if it holds initially and every step preserves it, given all that is kept.
Dropping one can take others with it, so it goes in rounds.  What the rounds find out is a
guess: it is the obligations, asked afterwards, that prove it.
"""

from __future__ import annotations

import gc
import multiprocessing
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

import z3

from model.designs import Design
from model.kernel import STEPS, Step
from shstk.collecting import SELDOM
from shstk.loader import design_files
from shstk.pool import cores
from shstk.proof.batch import Batch
from shstk.proof.hints import Hint, Hints, recorded
from shstk.proof.initial import initial_batch
from shstk.proof.invariants import Invariant
from shstk.proof.path_solver import Found, conjunct
from shstk.proof.proved import Proved
from shstk.proof.solvers import solve
from shstk.proof.step_proof import Shared
from shstk.proof.worker import Worker
from shstk.search import text_failure

Tell = Callable[[str], None]
# Steps that take long, by how much longer than the others: for an even share.
HEAVY = {"exit_mm_release": 30, "exec_mm_release": 30, "late_clone_failure": 20}
HEAVY |= {"clone_commit": 20, "clone_failed_again": 20, "clone_thread": 16, "clone_vm": 16}
HEAVY |= {"shstk_disable": 8, "exit_mm_drop": 8}


@dataclass(frozen=True)
class Dropped:
    """A claim that is not inductive: the path that does not preserve it, in which round.

    Round 0: it is false in the initial state already.
    """

    name: str
    path: str
    round: int
    unknown: bool  # the solver gave up


@dataclass
class Induction:
    """What is inductive, what is not, and the obligations."""

    kept: tuple[str, ...]
    dropped: list[Dropped]
    initial: Batch
    coverage: list[Batch]
    proved: list[Proved]
    missing: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def batches(self) -> list[Batch]:
        """All obligations."""
        return [self.initial, *self.coverage, *(b for p in self.proved for b in p.batches)]


@dataclass
class _Hand:
    """A worker process."""

    process: Any
    line: Connection


@dataclass
class Prover:
    """The workers of a design's proof; use it in a ``with``."""

    design: Design
    steps: Sequence[Step]
    switched_off: frozenset[str]
    pool: Sequence[Invariant]
    tell: Tell = lambda _text: None
    hints: Hints = field(default_factory=recorded)
    shared: Shared | None = None
    hands: list[_Hand] = field(default_factory=list)
    needed: dict[str, frozenset[str]] = field(default_factory=dict)  # lemmas, by path

    def __enter__(self) -> Prover:
        context = multiprocessing.get_context("fork")
        count = max(1, min(cores(), len(self.steps)))
        for share in _shares(self.steps, count):
            ours, theirs = context.Pipe()
            about = (self.design, share, self.switched_off, self.pool, self.hints, self.shared)
            process = context.Process(target=_serve, args=(theirs, about), daemon=True)
            process.start()
            theirs.close()
            self.hands.append(_Hand(process, ours))
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self.hands:
            hand.line.close()
            hand.process.terminate()
            hand.process.join()

    def _all(self, request: tuple[Any, ...]) -> list[Any]:
        """The answers of all workers to a request; what a worker raises is raised here."""
        for hand in self.hands:
            hand.line.send(request)
        out = []
        for hand in self.hands:
            try:
                answer = hand.line.recv()
            except EOFError:
                raise RuntimeError("a process of the proof died; is there memory left?") from None
            if isinstance(answer, Exception):
                raise answer
            out += answer
        return out

    def largest(self, kept: Collection[str]) -> tuple[list[str], list[Dropped]]:
        """The largest subset that every step preserves, and why the others are not in it."""
        names = [i.name for i in self.pool if i.name in kept]
        dropped: list[Dropped] = []
        paths: frozenset[str] | None = None
        while True:
            round_ = len({d.round for d in dropped}) + 1
            self.tell(f"{self.design.name}: round {round_}, {len(names)} claims")
            found: list[Found] = self._all(("check", frozenset(names), paths))
            gone: dict[str, Dropped] = {}
            for f in found:
                self.needed[f.path] = f.needed
                for name in f.failing:
                    if name in names:
                        new = Dropped(name, f.path, round_, name in f.unknown)
                        gone.setdefault(name, new)
            if not gone:
                return names, dropped
            dropped += gone.values()
            names = [n for n in names if n not in gone]
            paths = frozenset(p for p, needed in self.needed.items() if needed & gone.keys())

    def obligations(self, kept: Sequence[str], explain: bool) -> list[Proved]:
        """The obligations of every path, in the order of the steps."""
        self.tell(f"{self.design.name}: {len(kept)} inductive claims, writing obligations")
        found: list[Proved] = self._all(("obligations", frozenset(kept), explain))
        failed = {conjunct(goal) for p in found for goal in p.failing}
        for p in found:
            # Which of these were asked depends on how the steps were shared out.
            _give_up(p, {goal for goal in p.late if conjunct(goal) in failed})
        order = {s.name: n for n, s in enumerate(self.steps)}
        return sorted(found, key=lambda p: (order[p.step], int(p.path.rsplit(" ", 1)[1])))

    def missing(self, kept: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        """What each claim is good for: without it, the claims and paths that are not proved."""
        out = {}
        for name in kept:
            self.tell(f"{self.design.name}: without {name}")
            out[name] = tuple(self._all(("missing", frozenset(kept), name)))
        return out

    def used(self) -> set[tuple[str, Hint]]:
        """The instances of lemmas that the proofs use, by the step."""
        return set(self._all(("used",)))

    def coverage(self) -> list[Batch]:
        """For each step, that its paths are all there are."""
        found: list[Batch] = self._all(("coverage",))
        return sorted(found, key=lambda b: b.name)


def induction(
    design: Design,
    steps: Sequence[Step],
    switched_off: frozenset[str],
    pool: Sequence[Invariant],
    tell: Tell = lambda _text: None,
    explain: bool = False,
    shared: Shared | None = None,
) -> Induction:
    """Everything that is to be proved of a design, with what is taken to be inductive.

    ``shared``: what is known of steps, and kept for others; not where the proofs are explained.

    Raises what the design's text raises.
    """
    initial = initial_batch(design, pool)
    answers, interrupted = solve([initial])
    if interrupted:
        raise KeyboardInterrupt
    false = [
        Dropped(a.goal, initial.name, 0, a.status == "unknown")
        for a in answers
        if a.status != "unsat"
    ]
    holding = {i.name for i in pool} - {d.name for d in false}
    with Prover(
        design, steps, switched_off, pool, tell, shared=None if explain else shared
    ) as prover:
        kept, dropped = prover.largest(holding)
        proved = prover.obligations(kept, explain)
        missing = prover.missing(kept) if explain else {}
        coverage = prover.coverage()
    goals = tuple(g for g in initial.goals if g.name in kept)
    initial = Batch(initial.name, initial.prelude, goals, initial.about)
    return Induction(tuple(kept), [*false, *dropped], initial, coverage, proved, missing)


def _give_up(proved: Proved, goals: Collection[str]) -> None:
    """Do not prove some goals of a path."""
    if goals:
        proved.batches = tuple(
            replace(b, goals=tuple(g for g in b.goals if g.name not in goals))
            for b in proved.batches
        )
        proved.failing += tuple(sorted(goals))


def enabled_steps(families: Collection[str]) -> list[Step]:
    """The steps of these event families."""
    return [s for s in STEPS if s.family in families]


def _shares(steps: Sequence[Step], count: int) -> list[list[Step]]:
    shares: list[list[Step]] = [[] for _ in range(count)]
    loads = [0] * count
    for step in sorted(steps, key=lambda s: -HEAVY.get(s.name, 1)):
        least = loads.index(min(loads))
        shares[least].append(step)
        loads[least] += HEAVY.get(step.name, 1)
    return shares


def _serve(line: Connection, about: tuple[Any, ...]) -> None:
    """A worker's life: build, then answer until the line is closed."""
    gc.set_threshold(*SELDOM)  # terms are many, live long, and know no cycles
    vars(z3.z3)["Z3_DEBUG"] = False  # z3 itself looks at sorts, its Python layer need not
    worker: Worker | None = None
    try:
        while True:
            request = line.recv()
            try:
                if worker is None:
                    worker = Worker(*about)
                line.send(getattr(worker, request[0])(*request[1:]))
            except KeyboardInterrupt:
                raise
            except Exception as error:  # noqa: BLE001 - the master raises it again
                line.send(_placed(error, about[0]))
    except (EOFError, OSError, KeyboardInterrupt):
        pass


def _placed(error: Exception, design: Design) -> Exception:
    """What the design's own text has raised, with the place: another process cannot see that."""
    files = {str(path) for path in design_files(design)}
    frames = traceback.extract_tb(error.__traceback__)
    return text_failure(error, design) if any(f.filename in files for f in frames) else error
