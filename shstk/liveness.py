"""Claims about endless runs: fair lassos of an unreduced exploration.

A liveness conjunct is violated by an endless run in which it stays false for one task
and which is *fair*: each task, again and again, either takes one of its fair steps or
is where none of them can happen.  In a finite graph such a run exists iff some strongly
connected component of the states where the conjunct is false is fair as a whole: from
each task's witness in it the run can go on to the next one's.  Doing nothing for ever is
a run too, where no fair step can happen.

A fair step that changes nothing is a retry.  With a fair lock it does not count as
taken: at some retry the lock is free.  With ``unfair-lock`` it does.

Symmetry is off, because a quotient forgets which task is which along a cycle.  A slice
may add runs, and a lasso is found again in the text before it is believed; whatever
decides if a fair step can happen stays in the slice, so no fair run is lost either.  A
fair step that cannot happen for want of room counts as possible: a larger bound has it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from counterexamples.trace import Trace, TraceStep
from model.designs import Design
from model.kernel import STEPS
from model.state import Task
from properties import PROPERTIES, LivenessConjunct
from properties.vocabulary import Claim
from shstk.build import Request, Tables, program
from shstk.engine import Engine, Progress, Result
from shstk.engine import program as engine_program
from shstk.engine.program import LEAF, MASK, NONE, TRAP, Program, Values
from shstk.fair import Graph
from shstk.finite import Outcome
from shstk.replay import Successor, replay, step_outcomes, violation
from shstk.running import runs
from shstk.slices import MERGES, Slice
from shstk.space import Space, Valuation
from shstk.tables import Choice, Forest, Leaf, Mask, Test, exchange_tasks, fold

UNFAIR_LOCK = "unfair-lock"
MAX_STATES = 3_000_000  # unreduced; about 100 bytes each here, besides the engine's
WIDTH = 24  # runs of the text kept per step of a path

PathStep = tuple[int, Values]  # action (-1: none yet), and the state it leads to


class LivenessError(RuntimeError):
    """The exploration and the text disagree."""


@dataclass(frozen=True)
class LivenessResult:
    """What was found about a conjunct for one task.

    ``prefix`` starts with the initial state; ``loop`` leads from its end back there.  An
    empty loop: nothing has to happen any more.  States are the slice's; the ``trace`` has
    them whole, and may go round the loop more than once.
    """

    conjunct: str  # property/conjunct
    task: int
    status: str  # "holds", "violated"; "unknown": not all states were visited
    prefix: tuple[PathStep, ...]
    loop: tuple[PathStep, ...]
    trace: Trace | None
    premise: bool  # reachable for the task
    slice: Slice
    states: int
    transitions: int
    saturated: bool  # some step found no room in the bound
    seconds: float  # of the exploration and all that was asked of it


# -- the program -------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A liveness conjunct, with the trees for task 0: where it is false, its premise."""

    name: str
    false: int
    premise: int


def conjuncts(properties: Collection[str] = ()) -> list[tuple[str, LivenessConjunct]]:
    """Every liveness conjunct (of some properties) by its name, ``property/conjunct``."""
    return [
        (f"{p.id}/{c.name}", c)
        for p in PROPERTIES.values()
        if not properties or p.id in properties
        for c in p.conjuncts
        if isinstance(c, LivenessConjunct)
    ]


def _tree(space: Space, forest: Forest, design: Design, text: Claim, wanted: bool) -> int:
    """Tree of a claim about task 0: a mask where its truth is the ``wanted`` one."""

    def evaluate(k: Any) -> None:
        k.require(bool(text(k, k.current)) == wanted)

    yes = forest.add(Mask(1, 0))
    ends = {"impossible": TRAP, "done": yes}

    def leaf(outcome: Outcome) -> int:
        return ends.get(outcome.status, NONE)

    return fold(forest, runs(space, design, 0, evaluate), leaf)


def _possible(forest: Forest, root: int, yes: int, memo: dict[int, int]) -> int:
    """The tree of whether a step can happen, where there is room for it."""
    if root < 0:
        return root
    if root not in memo:
        node = forest.nodes[root]
        if isinstance(node, (Leaf, Mask)):
            memo[root] = yes
        else:
            children = tuple(_possible(forest, c, yes, memo) for c in node.children)
            if isinstance(node, Test):
                memo[root] = forest.add(Test(node.cell, children))
            else:
                memo[root] = yes if yes in children else forest.add(Choice(children))
    return memo[root]


def _below(forest: Forest, root: int) -> Iterator[Test | Choice | Leaf | Mask]:
    """All nodes of a tree."""
    seen, stack = {root}, [root]
    while stack:
        at = stack.pop()
        if at < 0:
            continue
        node = forest.nodes[at]
        yield node
        if isinstance(node, (Test, Choice)):
            new = [c for c in node.children if c not in seen]
            seen.update(new)
            stack += new


def _tells_apart(space: Space, forest: Forest, root: int) -> set[str]:
    """The variables of which a tree distinguishes values that a slice would merge."""
    names = set()
    for node in _below(forest, root):
        if not isinstance(node, Test):
            continue
        name = space.cells[node.cell].field.name
        if name in MERGES:
            classes: dict[int, set[int]] = {}
            for child, number in zip(node.children, MERGES[name], strict=True):
                if child != TRAP:
                    classes.setdefault(number, set()).add(child)
            if any(len(children) > 1 for children in classes.values()):
                names.add(name)
    return names


def _retries_only_by_slice(space: Space, forest: Forest, root: int, at: set[int]) -> set[str]:
    """The variables that are all a leaf may change, so that a slice could see a retry there.

    ``at``: the indices of the control states the step starts in.
    """
    ctl = space.number(Task, (0,), "ctl")
    names: set[str] = set()
    for node in _below(forest, root):
        if isinstance(node, Leaf):
            moves_on = any(
                cell == ctl and source is None and table[0] not in at
                for cell, source, table in node.updates
            )
            if not moves_on:
                names.update(space.cells[u[0]].field.name for u in node.updates)
    return names & MERGES.keys()


def slice_for(tables: Tables, part: Part, families: Collection[str]) -> Slice:
    """Everything merged that neither the conjunct nor a fair step's guard depends on."""
    space, forest = tables.space, tables.forest
    needed = _tells_apart(space, forest, part.false) | _tells_apart(space, forest, part.premise)
    memo: dict[int, int] = {}
    scratch = Forest(forest)
    yes = scratch.add(Mask(1, 0))
    domain = space.domain(Task.ctl)
    for step in STEPS:
        if step.fair and step.family in families and step.name in tables.steps:
            root = tables.steps[step.name]
            at = {domain.index(c) for c in step.at}
            needed |= _tells_apart(space, scratch, _possible(scratch, root, yes, memo))
            needed |= _retries_only_by_slice(space, forest, root, at)
    return Slice(frozenset(MERGES) - needed)


def _extended(
    tables: Tables, wanted: Sequence[tuple[str, LivenessConjunct]]
) -> tuple[Tables, list[Part]]:
    """The tables with the trees of some liveness conjuncts."""
    space, forest = tables.space, Forest(tables.forest)
    parts = [
        Part(
            name,
            _tree(space, forest, tables.design, c.holds, False),
            _tree(space, forest, tables.design, c.premise, True),
        )
        for name, c in wanted
    ]
    return replace(tables, forest=forest), parts


@dataclass
class Marked:
    """A program whose self-loops also say what is so in a state.

    ``marks`` has, for each leaf that is no transition, the task whose fair step finds no
    room (or -1) and the questions answered yes.
    """

    program: Program
    marks: list[tuple[int, int] | None]


def marked(
    tables: Tables, families: frozenset[str], slice_: Slice, questions: Sequence[int]
) -> Marked:
    """The program for some families, with trees of questions: bit i is ``questions[i]``."""
    tasks = tables.space.bound.tasks
    forest = Forest(tables.forest)
    claims = []
    for bit, root in enumerate(questions):
        yes = forest.add(Mask(1 << bit, 0))
        claims.append((bit, forest.rewrite(root, None, lambda _end, to=yes: to)))  # type: ignore[misc]
    asking = replace(
        tables, forest=forest, reports=dict.fromkeys(tables.steps, NONE), state_claims=claims
    )
    plain = program(asking, Request(families, (1 << len(questions)) - 1, slice_))
    leaves: list[engine_program.Leaf] = []
    marks: list[tuple[int, int] | None] = []
    for leaf in plain.leaves:
        step, task = STEPS[leaf.action // tasks], leaf.action % tasks
        no_room = bool(leaf.saturated) and step.fair
        leaves.append(engine_program.Leaf(leaf.action) if no_room else leaf)
        marks.append((task, 0) if no_room else None)
    nodes = list(plain.nodes)
    for node in plain.postorder(plain.state_roots, {engine_program.TEST, MASK}):
        if nodes[node] == MASK:
            marks.append((-1, plain.masks[nodes[node + 1]][0]))
            nodes[node : node + 2] = [LEAF, len(leaves)]
            leaves.append(engine_program.Leaf(0))
    altered = replace(
        plain,
        nodes=nodes,
        leaves=tuple(leaves),
        roots=plain.roots + plain.state_roots,
        state_roots=(),
        masks=(),
    )
    return Marked(altered, marks)


def read(
    engine: Engine, result: Result, marked: Marked, tasks: int
) -> tuple[Graph, array[int], bool]:
    """The explored graph; for each state the questions answered yes; was there no room?"""
    answers = array("Q", [0]) * result.states
    actions = [leaf.action for leaf in marked.program.leaves]
    marks = marked.marks
    full = bool(result.saturated)

    def edges() -> Iterator[tuple[int, int, int]]:
        nonlocal full
        for source, leaf, target in engine.edges():
            mark = marks[leaf]
            if mark is None:
                yield source, actions[leaf], target
            elif mark[0] < 0:
                answers[source] |= mark[1]
            else:
                full = True
                yield source, -1 - mark[0], target

    fair = [a % tasks if STEPS[a // tasks].fair else -1 for a in range(len(STEPS) * tasks)]
    return Graph.build(tasks, fair, result.states, edges()), answers, full


# -- the search --------------------------------------------------------------------


def check(
    tables: Tables,
    families: frozenset[str],
    properties: Collection[str] = (),
    *,
    environment: str = "ordinary",
    switched_off: frozenset[str] = frozenset(),
    max_states: int = MAX_STATES,
    slices: Callable[[Tables, Part, Collection[str]], Slice] = slice_for,
    progress: Callable[[str], None] | None = None,
) -> list[LivenessResult]:
    """Every liveness conjunct (of some properties), for every task.

    The lock is fair unless ``unfair-lock`` is among the families.  A lasso that no run of
    the text has is the slice's own: the conjunct is explored again with more variables.
    Tasks are judged one by one; only the initial state tells them apart.
    """
    extended, parts = _extended(tables, conjuncts(properties))
    groups: dict[Slice, list[Part]] = {}
    for part in parts:
        groups.setdefault(slices(extended, part, families), []).append(part)
    results: list[LivenessResult] = []
    todo = list(groups.items())
    while todo:
        slice_, group = todo.pop(0)
        search = _Search(extended, families, environment, switched_off, max_states, slice_)
        coarse: list[Part] = []
        for part, found in search.run(group, progress):
            if found is None:
                coarse.append(part)
            else:
                results += found
        if coarse:
            todo.append((_finer(slice_), coarse))
    order = {part.name: number for number, part in enumerate(parts)}
    return sorted(results, key=lambda r: (order[r.conjunct], r.task))


def _finer(slice_: Slice) -> Slice:
    """One more variable whole, in a fixed order."""
    if not slice_.merged:
        raise LivenessError("a lasso of the whole model has no run of the text")
    return Slice(slice_.merged - {min(slice_.merged)})


@dataclass
class _Search:
    """The search for lassos in one slice."""

    tables: Tables
    families: frozenset[str]
    environment: str
    switched_off: frozenset[str]
    max_states: int
    slice: Slice

    def run(
        self, parts: Sequence[Part], progress: Callable[[str], None] | None
    ) -> Iterator[tuple[Part, list[LivenessResult] | None]]:
        """The results of each conjunct; None where a lasso has no run of the text."""
        start = time.perf_counter()
        tables, tasks = self.tables, self.tables.space.bound.tasks
        forest = Forest(tables.forest)
        questions = [
            exchange_tasks(tables.space, forest, tree, task, {})
            for part in parts
            for tree in (part.false, part.premise)
            for task in range(tasks)
        ]
        program = marked(replace(tables, forest=forest), self.families, self.slice, questions)
        engine = Engine(program.program)

        def report(p: Progress) -> None:
            if progress:
                progress(f"{tables.design.name}: liveness, {p.states:,} states")

        result = engine.explore(max_states=self.max_states, progress=report)
        if result.trap is not None:
            raise LivenessError(f"an impossible state was reached: {result.trap}")
        graph, answers, full = read(engine, result, program, tasks)
        base = LivenessResult(
            "", 0, "", (), (), None, False, self.slice, result.states, len(graph.actions), full, 0.0
        )
        for number, part in enumerate(parts):
            found: list[LivenessResult] | None = []
            for task in range(tasks):
                if progress:
                    progress(f"{tables.design.name}: {part.name}, task {task}")
                bit = 1 << (2 * number * tasks + task)
                premise = bit << tasks
                # A state that was not expanded says nothing about endless runs.
                inside = bytearray(
                    bool(a & bit) and s < result.expanded for s, a in enumerate(answers)
                )
                lasso = graph.fair_lasso(inside, UNFAIR_LOCK in self.families)
                one = replace(
                    base,
                    conjunct=part.name,
                    task=task,
                    status="holds" if result.complete else "unknown",
                    premise=any(a & premise for a in answers),
                )
                if lasso is not None:
                    seen = self._shown(one, engine, *lasso)
                    if seen is None:
                        found = None
                        break
                    one = seen
                assert found is not None
                found.append(replace(one, seconds=time.perf_counter() - start))
            yield part, found

    def _shown(
        self, one: LivenessResult, engine: Engine, entry: int, loop: Sequence[tuple[int, int]]
    ) -> LivenessResult | None:
        """The result of a lasso, or None where the text has no run like it."""
        prefix = tuple(
            (-1 if leaf < 0 else engine.action(leaf), engine.state(state))
            for leaf, state in engine.path(entry)
        )
        around = tuple((action, engine.state(state)) for action, state in loop)
        trace = self._trace(one.conjunct, prefix, around)
        if trace is None:
            return None
        return replace(one, status="violated", prefix=prefix, loop=around, trace=trace)

    # -- the run of the text -------------------------------------------------------
    def _trace(
        self, claim: str, prefix: Sequence[PathStep], loop: Sequence[PathStep]
    ) -> Trace | None:
        """A run of the text along a lasso, once or more often round the loop."""
        space, design = self.tables.space, self.tables.design
        runs_to: dict[Valuation, tuple[Successor, ...]] = {space.initial: ()}
        for part in prefix[1:]:
            further: dict[Valuation, tuple[Successor, ...]] = {}
            for state, before in runs_to.items():
                for successor in self._along(state, part):
                    further.setdefault(successor.after, (*before, successor))
            runs_to = dict(list(further.items())[:WIDTH])
        for state, before in runs_to.items():
            around = self._round(state, loop)
            if around is not None:
                path = (*before, *around[0], *around[1])
                steps: list[TraceStep] = [s.traced(space) for s in path]
                back_to = len(before) + len(around[0]) if loop else None
                trace = violation(space, design, claim, steps, self.environment, back_to)
                if loop and not (verdict := replay(trace, design, space)):
                    raise LivenessError(f"{claim}: the trace does not replay: {verdict.reason}")
                return trace
        return None

    def _along(self, state: Valuation, step: PathStep) -> list[Successor]:
        """How the text takes a step of a path, the least special way first."""
        action, wanted = step
        tasks = self.tables.space.bound.tasks
        found = step_outcomes(
            self.tables.space,
            self.tables.design,
            state,
            action % tasks,
            STEPS[action // tasks],
            self.switched_off,
        )
        fitting = [s for s in found if self.slice.project(self.tables.space, s.after) == wanted]
        return sorted(fitting, key=lambda s: s.oddity)

    def _round(
        self, start: Valuation, loop: Sequence[PathStep]
    ) -> tuple[list[Successor], list[Successor]] | None:
        """From a state round a loop for ever: the way to the first repetition, and the cycle."""
        if not loop:
            return [], []
        path: list[Successor] = []
        index = {(0, start): 0}  # (place in the loop, state) on the path, and how far along
        dead: set[tuple[int, Valuation]] = set()
        walk = [((0, start), iter(self._along(start, loop[0])))]
        while walk:
            here, ways = walk[-1]
            successor = next(ways, None)
            if successor is None:
                dead.add(here)
                del index[here]
                walk.pop()
                if path:
                    path.pop()
                continue
            there = ((here[0] + 1) % len(loop), successor.after)
            if there in index:
                path.append(successor)
                return path[: index[there]], path[index[there] :]
            if there not in dead:
                path.append(successor)
                index[there] = len(path)
                walk.append((there, iter(self._along(there[1], loop[there[0]]))))
        return None


__all__ = [
    "Graph",
    "LivenessError",
    "LivenessResult",
    "Marked",
    "Part",
    "check",
    "conjuncts",
    "marked",
    "read",
    "slice_for",
]
