"""Steps that ask the same first are asked together.

The steps of a task are a choice of trees, and most of them begin alike: is the group dying, is
there a stack?  A walk through the choice would look at the same cells again for each step.
Put above the choice, a test is made once.  What fires in a state stays the same, in the same
order and as often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from shstk.engine.program import NONE
from shstk.tables import Choice, Forest, Test


class Factoring:
    """Choices of trees of a forest, with the tests that they share on top."""

    def __init__(self, forest: Forest, depth: int = 6) -> None:
        self.forest = forest
        self.depth = depth
        self._known: dict[tuple[tuple[int, ...], int], int] = {}

    def choice(self, trees: Sequence[int]) -> int:
        """A tree that has every leaf of these."""
        return self._choice(self._flat(trees), self.depth)

    def _choice(self, trees: tuple[int, ...], depth: int) -> int:
        if len(trees) < 2:
            return trees[0] if trees else NONE
        key = trees, depth
        if key not in self._known:
            self._known[key] = self._made(trees, depth)
        return self._known[key]

    def _made(self, trees: tuple[int, ...], depth: int) -> int:
        nodes = self.forest.nodes
        tests = {t: node for t in trees if t >= 0 and isinstance(node := nodes[t], Test)}
        shared = Counter(tests[t].cell for t in trees if t in tests)
        cell, number = max(shared.items(), key=lambda s: s[1], default=(0, 0))
        if not depth or number < 2:
            return self.forest.raw(Choice(trees))
        width = next(len(t.children) for t in tests.values() if t.cell == cell)
        children = []
        for value in range(width):
            there = [
                tests[t].children[value] if t in tests and tests[t].cell == cell else t
                for t in trees
            ]
            children.append(self._choice(self._flat(there), depth - 1))
        return self.forest.test(cell, tuple(children))

    def _flat(self, trees: Sequence[int]) -> tuple[int, ...]:
        """The trees without those that are none, and with the children of choices instead."""
        out: list[int] = []
        for tree in trees:
            node = self.forest.nodes[tree] if tree >= 0 else None
            if isinstance(node, Choice):
                out += self._flat(node.children)
            elif tree != NONE:
                out.append(tree)
        return tuple(out)
