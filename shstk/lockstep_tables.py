"""Decision tables of two designs in lockstep: where they agree, a step; where not, a report.

A pair of runs is decided by the state, by the choices of the leading design, and by choices
that are the other's alone.  The tree is first built over all three, then made one over states:
of the other's choices the best counts, of the leading design's all do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from model.designs import Design
from model.kernel import STEPS
from shstk.build import Tables
from shstk.engine.program import NONE, TRAP
from shstk.finite_terms import Source
from shstk.lockstep import Match, Pair, pairs
from shstk.product import Product
from shstk.space import Bound
from shstk.tables import REPORT, SATURATION_BIT, Choice, Forest, Leaf, Mask, Test

# The bit that is violated where one design does what the other does not, by the design.
BITS = (1, 2)


def extract(
    designs: Sequence[Design],
    bound: Bound,
    switched_off: frozenset[str] = frozenset(),
    progress: Callable[[str], None] | None = None,
) -> Tables:
    """The tables of two designs in lockstep, over their product, for ``build.program``."""
    space, forest = Product(bound), Forest()
    tables = Tables(designs[0], space, forest, {}, {}, [], [])
    for number, step in enumerate(STEPS):
        if step.family in switched_off:
            continue
        if progress:
            progress(f"{designs[0].name} and {designs[1].name}: reading {step.name}")
        action = number * bound.tasks
        build = _Step(space, forest, action)
        led = list(pairs(space, designs, 0, 0, step, None, switched_off))
        tree = build.tree(led)
        tables.steps[step.name] = build.only(tree, 0)
        reports = [build.only(tree, BITS[0]), build.only(tree, BITS[1])]
        if any(pair.alone for pair in led):
            # What one of them alone chooses looks different when the other leads.
            other = _Step(space, forest, action)
            led = list(pairs(space, designs, 1, 0, step, None, switched_off))
            reports[1] = other.only(other.tree(led, BITS[::-1]), BITS[1])
        tables.reports[step.name] = forest.add(Choice(tuple(reports)))
    return tables


class _Step:
    """The tree of one step, led by one design.

    An input is a variable like a cell until the tree is done: numbered after the cells.
    """

    def __init__(self, space: Product, forest: Forest, action: int) -> None:
        self.space = space
        self.forest = forest
        self.action = action
        self.cells = len(space.cells)
        self.inputs: dict[Source, int] = {}
        self.bits = BITS
        self._merged: dict[tuple[int, int], int] = {}

    def tree(self, found: list[Pair], bits: tuple[int, int] = BITS) -> int:
        """The tree over states of all pairs of runs.

        ``bits``: what is reported of the leading design, and of the other.
        """
        self.bits = bits
        return self._choices(self._grow(found, 0))

    def only(self, tree: int, bit: int) -> int:
        """A tree's reports of a bit and nothing else; 0: without any."""

        def end(node: Leaf | Mask) -> int:
            assert isinstance(node, Leaf)
            return self.forest.add(node) if node.violations == bit else NONE

        return self.forest.rewrite(tree, None, end)

    def _leaf(self, pair: Pair) -> int:
        match pair.match:
            case Match.NONE:
                return NONE
            case Match.TRAP:
                return TRAP
            case Match.DIFFERS:
                return self.forest.add(Leaf(self.action, (), self.bits[0], 0, REPORT))
            case Match.OTHER:
                return self.forest.add(Leaf(self.action, (), self.bits[1], 0, REPORT))
            case Match.UNKNOWN:
                assert pair.saturated is not None
                return self.forest.add(Leaf(self.action, saturated=SATURATION_BIT[pair.saturated]))
        updates = ((cell, *update) for cell, update in sorted(pair.updates.items()))
        return self.forest.add(Leaf(self.action, tuple(updates)))

    def _grow(self, found: list[Pair], at: int) -> int:
        """The tree of pairs that have their first ``at`` decisions in common."""
        if len(found[0].decisions) == at:
            assert len(found) == 1, "the text is not deterministic"
            return self._leaf(found[0])
        source, mask, _ = found[0].decisions[at]
        assert all(p.decisions[at][:2] == (source, mask) for p in found), "not deterministic"
        yes, no = (
            self._grow([p for p in found if p.decisions[at][2] is said], at + 1)
            for said in (True, False)
        )
        if source.kind == "cell":
            variable, count = source.number, len(self.space.domains[source.number])
        elif source in found[0].asked:
            variable = self.inputs.setdefault(source, self.cells + len(self.inputs))
            count = len(source.labels)
        else:
            return self._best(yes, no)
        return self.forest.add(
            Test(variable, tuple(yes if mask >> v & 1 else no for v in range(count)))
        )

    def _best(self, one: int, other: int) -> int:
        """Either may happen, whichever makes the designs agree."""
        if one == other:
            return one
        key = min(one, other), max(one, other)
        if key not in self._merged:
            self._merged[key] = self._merge(*key)
        return self._merged[key]

    def _merge(self, one: int, other: int) -> int:
        node, also = (self.forest.nodes[n] if n >= 0 else None for n in (one, other))
        tests = [n for n in (node, also) if isinstance(n, Test)]
        if not tests:
            # Each way to agree is one in which the run may go on.
            if self._rank(one) == self._rank(other) == 3:
                return self.forest.add(Choice((one, other)))
            return max(one, other, key=self._rank)
        cell = tests[0].cell
        return self.forest.add(
            Test(
                cell,
                tuple(
                    self._best(self._where(one, cell, v), self._where(other, cell, v))
                    for v in range(len(tests[0].children))
                ),
            )
        )

    def _rank(self, end: int) -> int:
        """Agreement, then nothing known, then none; -1 is for states that do not occur."""
        node = self.forest.nodes[end] if end >= 0 else None
        if isinstance(node, Leaf) and node.saturated:
            return 1 if node.saturated == REPORT else 2
        return -1 if node is None else 3

    def _where(self, tree: int, cell: int, value: int) -> int:
        """The tree where a variable has a value."""

        def test(node: Test, children: tuple[int, ...]) -> int:
            if node.cell == cell:
                return children[value]
            return self.forest.add(Test(node.cell, children))

        return self.forest.rewrite(tree, test)

    def _choices(self, tree: int) -> int:
        """The tree with its inputs as arbitrary choices."""

        def test(node: Test, children: tuple[int, ...]) -> int:
            if node.cell < self.cells:
                return self.forest.add(Test(node.cell, children))
            possible = tuple(c for c in children if c != TRAP)
            return self.forest.add(Choice(possible)) if possible else TRAP

        return self.forest.rewrite(tree, test)
