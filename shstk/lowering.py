"""Laying trees out in the engine's pool of nodes."""

from __future__ import annotations

from shstk.engine import program as engine
from shstk.space import Valuation
from shstk.tables import Choice, Forest, Leaf, Mask, Node, Test


class _Pool:
    """Nodes, leaves, masks and tables as they are placed."""

    def __init__(self, forest: Forest, actions: int) -> None:
        self.forest = forest
        self.actions = actions
        self.nodes: list[int] = []
        self.where: dict[int, int] = {}
        self.leaves: list[engine.Leaf] = []
        self.masks: list[tuple[int, int]] = []
        self.tables: dict[tuple[int, ...], int] = {}

    def place(self, root: int) -> int:
        """Place a tree, children first; its offset."""
        stack = [root]
        while stack:
            at = stack[-1]
            if at < 0 or at in self.where:
                stack.pop()
                continue
            node = self.forest.nodes[at]
            if isinstance(node, (Test, Choice)):
                todo = [c for c in node.children if c >= 0 and c not in self.where]
                if todo:
                    stack.extend(todo)
                    continue
            self.where[at] = len(self.nodes)
            self.nodes.extend(self.encode(node))
            stack.pop()
        return self.where.get(root, root)

    def encode(self, node: Node) -> list[int]:
        """A node in the engine's form."""
        if isinstance(node, (Test, Choice)):
            children = [self.where.get(c, c) for c in node.children]
            if isinstance(node, Test):
                return [engine.TEST, node.cell, len(children), *children]
            return [engine.CHOICE, len(children), *children]
        if isinstance(node, Mask):
            self.masks.append((node.violations, node.witnesses))
            return [engine.MASK, len(self.masks) - 1]
        self.leaves.append(self.leaf(node))
        return [engine.LEAF, len(self.leaves) - 1]

    def leaf(self, node: Leaf) -> engine.Leaf:
        """A leaf's update as moves and constants."""
        moves, consts = [], []
        for cell, source, table in node.updates:
            if source is None:
                consts.append((cell, table[0]))
            else:
                number = self.tables.setdefault(table, len(self.tables))
                moves.append((cell, source, number))
        return engine.Leaf(
            node.action,
            node.violations,
            node.witnesses,
            node.saturated,
            tuple(moves),
            tuple(consts),
        )


def lower(
    forest: Forest,
    layout: engine.Layout,
    initial: Valuation,
    roots: list[int],
    predicates: list[int],
    actions: int,
) -> engine.Program:
    """The program of some transition trees and state predicates."""
    pool = _Pool(forest, actions)
    placed = tuple(pool.place(r) for r in roots)
    judged = tuple(pool.place(p) for p in predicates if p != engine.NONE)
    return engine.Program(
        layout=layout,
        initial=(initial,),
        nodes=pool.nodes,
        roots=placed,
        leaves=tuple(pool.leaves),
        n_actions=actions,
        tables=tuple(pool.tables),
        state_roots=judged,
        masks=tuple(pool.masks),
    )
