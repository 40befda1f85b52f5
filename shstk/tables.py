"""Decision tables: a step's runs, folded into one tree of tests, choices and updates.

Trees are interned (equal subtrees are one node), so a tree is a number:

* ``Test(cell, children)``: one child per value of the cell;
* ``Choice(children)``: every child can happen;
* ``Granted(family, children)``: the first, or, where the event family is on, either;
* ``Leaf``: the step happens, with a parallel update.

``NONE``: the step cannot happen there.  ``TRAP``: no reachable state gets there.
A tree is extracted for task 0 only: tasks are interchangeable, so exchanging task 0
and task i in it, numbers and all, is the tree of task i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from model.designs import Design
from model.kernel import Step
from model.state import Sort, Task
from shstk.engine.program import NONE, TRAP
from shstk.finite import Finding, Outcome, Watch
from shstk.finite_terms import Decision, Source
from shstk.running import runs_step
from shstk.space import Space

Update = tuple[int, int | None, tuple[int, ...]]  # cell; constant, or table over a source cell


@dataclass(frozen=True)
class Test:
    """Follow the child of the cell's value."""

    cell: int
    children: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """Follow every child."""

    children: tuple[int, ...]


@dataclass(frozen=True)
class Granted(Choice):
    """Follow the first child, or either where the event family is on."""

    family: str


@dataclass(frozen=True)
class Leaf:
    """The step happens.

    ``saturated``: it does not, for want of an object of that sort; or, with REPORT, it
    is only said what its events violate and bear witness to.
    """

    action: int
    updates: tuple[Update, ...] = ()
    violations: int = 0
    witnesses: int = 0
    saturated: int = 0


@dataclass(frozen=True)
class Mask:
    """End of a predicate's tree: which conjuncts fail and which premises hold."""

    violations: int
    witnesses: int


Node = Test | Choice | Leaf | Mask

REPORT = 1 << 31
SATURATION_BIT = {sort: 1 << i for i, sort in enumerate(Sort)}


class Forest:
    """All trees of a model, interned."""

    def __init__(self, other: Forest | None = None) -> None:
        self.nodes: list[Node] = list(other.nodes) if other else []
        self._number: dict[Node, int] = dict(other._number) if other else {}
        # Most nodes are tests, and most of those are there: to know that takes no object.
        self._tests: dict[tuple[int, tuple[int, ...]], int] = dict(other._tests) if other else {}

    def add(self, node: Node) -> int:
        """The number of a node; a test or choice without effect is its only child."""
        if isinstance(node, Test):
            return self.test(node.cell, node.children)
        if isinstance(node, Granted):
            if len(set(node.children)) == 1:
                return node.children[0]
        elif isinstance(node, Choice):
            children = tuple(dict.fromkeys(c for c in node.children if c != NONE))
            if not children:
                return NONE
            if len(children) == 1:
                return children[0]
            node = Choice(children)
        return self.raw(node)

    def test(self, cell: int, children: tuple[int, ...]) -> int:
        """The number of a test, or of its only child."""
        # TRAP is for states that do not occur: any answer is right there.
        if children.count(children[0]) == len(children):
            return children[0]
        number = self._tests.get((cell, children))
        if number is None:
            number = self._tests[cell, children] = len(self.nodes)
            self.nodes.append(Test(cell, children))
        return number

    def raw(self, node: Node) -> int:
        """The number of a node, no test, as it is."""
        number = self._number.get(node)
        if number is None:
            number = self._number[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def graft(self, nodes: Sequence[Node], roots: Iterable[int]) -> list[int]:
        """Another forest's trees, whose nodes come after their children; their numbers here."""
        numbers: list[int] = []
        for node in nodes:
            if isinstance(node, (Test, Choice)):
                children = tuple([numbers[c] if c >= 0 else c for c in node.children])
                node = replace(node, children=children)
            numbers.append(self.add(node))
        return [numbers[r] if r >= 0 else r for r in roots]

    def rewrite(
        self,
        root: int,
        test: Callable[[Test, tuple[int, ...]], int] | None = None,
        end: Callable[[Leaf | Mask], int] | None = None,
        memo: dict[int, int] | None = None,
        families: frozenset[str] | None = None,
    ) -> int:
        """Rebuild a tree bottom-up, with ``test`` and ``end`` in place of their nodes.

        With ``families``, those that are on: what is granted is a choice, or never so.
        """
        memo = {} if memo is None else memo
        memo[NONE], memo[TRAP] = NONE, TRAP
        nodes, stack = self.nodes, [root]
        while stack:
            at = stack[-1]
            if at in memo:
                stack.pop()
                continue
            node = nodes[at]
            if isinstance(node, (Leaf, Mask)):
                memo[at] = end(node) if end else at
                continue
            todo = [c for c in node.children if c not in memo]
            if todo:
                stack += todo
                continue
            children = tuple([memo[c] for c in node.children])
            if isinstance(node, Test):
                memo[at] = test(node, children) if test else self.test(node.cell, children)
            elif not isinstance(node, Granted):
                memo[at] = self.add(Choice(children))
            elif families is None:
                memo[at] = self.add(Granted(children, node.family))
            else:
                memo[at] = self.add(Choice(children)) if node.family in families else children[0]
        return memo[root]


class _Trie:
    """Decisions of all runs, merged: inner nodes split a source's values by a mask."""

    __slots__ = ("source", "mask", "yes", "no", "leaf")
    yes: _Trie
    no: _Trie

    def __init__(self) -> None:
        self.source: Source | None = None
        self.mask = 0
        self.leaf = NONE


def fold(forest: Forest, outcomes: Iterable[Outcome], leaf: Callable[[Outcome], int]) -> int:
    """The tree of all runs of a text."""
    return _fold(forest, ((o.decisions, leaf(o)) for o in outcomes), {})


def _fold(
    forest: Forest,
    paths: Iterable[tuple[list[Decision], int]],
    allowed: Mapping[Source, int],
) -> int:
    root = _Trie()
    for decisions, leaf in paths:
        at = root
        for source, mask, answer in decisions:
            if at.source is None:
                at.source, at.mask, at.yes, at.no = source, mask, _Trie(), _Trie()
            assert at.source is source and at.mask == mask, "the text is not deterministic"
            at = at.yes if answer else at.no
        at.leaf = leaf
    return _spread(forest, root, dict(allowed)) if root.source else root.leaf


def _spread(forest: Forest, trie: _Trie, allowed: dict[Source, int]) -> int:
    """Turn splits by mask into tests with a child per value."""
    source = trie.source
    if source is None:
        return trie.leaf
    is_cell = source.kind == "cell"
    count = len(source.labels)
    before = allowed.get(source)
    left = (1 << count) - 1 if before is None else before
    targets: dict[_Trie, int] = {}
    children: list[_Trie | None] = []
    for value in range(count):
        bit = 1 << value
        if not left & bit:
            children.append(None)
            continue
        at = trie
        while at.source is source:
            at = at.yes if at.mask & bit else at.no
        children.append(at)
        targets[at] = targets.get(at, 0) | bit
    numbers: dict[_Trie | None, int] = {None: TRAP}
    for at, values in targets.items():
        if at.source is None:
            numbers[at] = at.leaf
        else:
            allowed[source] = values
            numbers[at] = _spread(forest, at, allowed)
    if before is None:
        allowed.pop(source, None)
    else:
        allowed[source] = before
    folded = tuple([numbers[child] for child in children])
    if is_cell:
        return forest.test(source.number, folded)
    if source.family and len(folded) == 2:
        return forest.add(Granted(folded, source.family))
    return forest.add(Choice(tuple(c for c in folded if c != TRAP)))


def step_trees(
    space: Space,
    forest: Forest,
    design: Design,
    step: Step,
    action: int,
    watch: Watch,
    switched_off: frozenset[str] = frozenset(),
) -> tuple[int, int]:
    """The tree of a step for task 0, and the tree of what its events report.

    The watch's questions are (violation mask, witness mask), reported where the answer
    is yes.
    """
    ends = {"disabled": NONE, "impossible": TRAP}

    def leaf(outcome: Outcome) -> int:
        if outcome.status in ends:
            return ends[outcome.status]
        if outcome.saturated is not None:
            return forest.add(Leaf(action, saturated=SATURATION_BIT[outcome.saturated]))
        updates = tuple(
            (cell, source, table) for cell, (source, table) in sorted(outcome.updates.items())
        )
        return forest.add(Leaf(action, updates))

    def report(outcome: Outcome) -> int:
        if outcome.status in ends:
            return ends[outcome.status]
        said = dict.fromkeys(map(known, outcome.findings))
        return forest.add(Choice(tuple(said)))

    told: dict[int, int] = {}  # runs share findings
    alike: dict[object, int] = {}  # and most findings say what others have said
    yes: dict[object, int] = {}

    def known(finding: Finding) -> int:
        number = told.get(id(finding))
        if number is None:
            number = told[id(finding)] = answer(finding)
        return number

    def answer(finding: Finding) -> int:
        question, answers = finding.question, finding.answers
        if question not in yes:
            violations, witnesses = cast(tuple[int, int], question)
            yes[question] = forest.add(Leaf(action, (), violations, witnesses, REPORT))
        ends = {True: yes[question], False: NONE, None: TRAP}
        if len(answers) == 1:  # nothing was decided
            return ends[answers[0][1]]
        left = [finding.allowed.get(d[0]) for decisions, _ in answers for d in decisions]
        key = question, tuple([(*decisions, said) for decisions, said in answers]), tuple(left)
        if key not in alike:
            paths = [(decisions, ends[said]) for decisions, said in answers]
            alike[key] = _fold(forest, paths, finding.allowed)
        return alike[key]

    outcomes = list(runs_step(space, design, 0, step, None, switched_off, watch))
    return fold(forest, outcomes, leaf), fold(forest, outcomes, report)


def exchange_tasks(space: Space, forest: Forest, root: int, i: int, memo: dict[int, int]) -> int:
    """The tree with tasks 0 and i exchanged, in cells and in values."""
    if i == 0:
        return root
    tasks = space.bound.tasks
    cells = list(range(len(space.cells)))
    for number, cell in enumerate(space.cells):
        if cell.record is Task and cell.index in ((0,), (i,)):
            cells[number] = space.number(Task, (i - cell.index[0],), cell.field.name)
    swaps = [
        _swap(len(cell.domain), i) if cell.field.sort is Sort.TASK else None for cell in space.cells
    ]

    def through(cell: int, values: Sequence[Any]) -> tuple[Any, ...]:
        """Values indexed by a cell's domain, reindexed."""
        swap = swaps[cell]
        return tuple(values) if swap is None else tuple(values[s] for s in swap)

    def image(cell: int, value: int) -> int:
        swap = swaps[cell]
        return value if swap is None else swap[value]

    def test(node: Test, children: tuple[int, ...]) -> int:
        return forest.test(cells[node.cell], through(node.cell, children))

    def end(node: Leaf | Mask) -> int:
        if isinstance(node, Mask):
            return forest.add(node)
        updates: list[Update] = []
        for cell, source, table in node.updates:
            values = tuple(image(cell, v) for v in table)
            if source is not None:
                values = through(source, values)
                updates.append((cells[cell], cells[source], values))
            else:
                updates.append((cells[cell], None, values))
        done = tuple(sorted(updates, key=lambda u: u[0]))
        action = node.action - node.action % tasks + i
        return forest.add(replace(node, updates=done, action=action))

    return forest.rewrite(root, test, end, memo)


def _swap(size: int, i: int) -> list[int]:
    """Exchange of references to task 0 and task i; index 0 is NULL."""
    values = list(range(size))
    values[1], values[i + 1] = values[i + 1], values[1]
    return values


def apply(forest: Forest, root: int, valuation: Sequence[int]) -> list[tuple[Leaf, list[int]]]:
    """All leaves a valuation reaches, with the successor each gives (not for the search)."""
    out: list[tuple[Leaf, list[int]]] = []
    stack = [root]
    while stack:
        at = stack.pop()
        if at == TRAP:
            raise AssertionError("a state that the text calls impossible")
        if at < 0:
            continue
        node = forest.nodes[at]
        if isinstance(node, Test):
            stack.append(node.children[valuation[node.cell]])
        elif isinstance(node, Choice):
            stack.extend(reversed(node.children))
        elif isinstance(node, Leaf):
            after = list(valuation)
            for cell, source, table in node.updates:
                after[cell] = table[0 if source is None else valuation[source]]
            out.append((node, after))
    return out
