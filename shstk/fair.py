"""Fair lassos of a finite graph: components that are fair as a whole, and a short loop in one.

What fairness means here is said in ``shstk.liveness``; this knows states, edges and whose
fair step an edge is, and nothing of designs.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass
class Graph:
    """An unreduced reachable graph, state by state, with what fairness asks about.

    The edges of state s are ``actions`` and ``targets`` from ``first[s]`` up to
    ``first[s + 1]``.  ``fair[action]`` is the task whose fair step it is, or -1.
    ``due[s]`` has the bit of each task with a fair step that can happen in s.
    """

    tasks: int
    fair: Sequence[int]
    first: array[int]
    actions: array[int]
    targets: array[int]
    due: array[int]

    @staticmethod
    def build(
        tasks: int, fair: Sequence[int], states: int, edges: Iterable[tuple[int, int, int]]
    ) -> Graph:
        """The graph of (source, action, target), which come in the order of the sources.

        Action -1 - t is no edge: task t has a fair step there that finds no room.
        """
        graph = Graph(tasks, fair, array("Q", [0]), array("I"), array("I"), array("Q"))
        graph.due.extend([0] * states)
        first, actions, targets, due = graph.first, graph.actions, graph.targets, graph.due
        for source, action, target in edges:
            while len(first) <= source:
                first.append(len(actions))
            if action < 0:
                due[source] |= 1 << (-1 - action)
                continue
            actions.append(action)
            targets.append(target)
            if fair[action] >= 0:
                due[source] |= 1 << fair[action]
        while len(first) <= states:
            first.append(len(actions))
        return graph

    def edges(self, state: int) -> Iterator[tuple[int, int]]:
        """(action, target) of a state."""
        start, end = self.first[state], self.first[state + 1]
        return zip(self.actions[start:end], self.targets[start:end], strict=True)

    def components(self, inside: Sequence[int]) -> Iterator[list[int]]:
        """Strongly connected components of the states s with ``inside[s]`` (Tarjan)."""
        first, targets = self.first, self.targets
        number = array("I", [0]) * len(inside)  # 0: not seen
        low = array("I", number)
        done = bytearray(len(inside))
        stack: list[int] = []
        count = 0
        for root, wanted in enumerate(inside):
            if not wanted or number[root]:
                continue
            count += 1
            number[root] = low[root] = count
            stack.append(root)
            walk = [(root, first[root])]
            while walk:
                at, edge = walk.pop()
                end = first[at + 1]
                while edge < end:
                    to = targets[edge]
                    edge += 1
                    if not inside[to] or done[to]:
                        continue
                    if number[to]:
                        low[at] = min(low[at], number[to])
                        continue
                    count += 1
                    number[to] = low[to] = count
                    stack.append(to)
                    walk += [(at, edge), (to, first[to])]
                    break
                else:
                    if low[at] == number[at]:
                        component: list[int] = []
                        while not component or component[-1] != at:
                            component.append(stack.pop())
                            done[component[-1]] = True
                        yield component
                    if walk:
                        above = walk[-1][0]
                        low[above] = min(low[above], low[at])

    def served(self, source: int, action: int, target: int, unfair_lock: bool) -> int:
        """The task that taking an edge is fair to, as a mask."""
        task = self.fair[action]
        if task < 0 or (source == target and not unfair_lock):
            return 0
        return 1 << task

    def fair_lasso(
        self, inside: Sequence[int], unfair_lock: bool = False
    ) -> tuple[int, list[tuple[int, int]]] | None:
        """The first state that a fair run can stay ``inside`` from, and a short loop of it.

        The loop is (action, state), back to that state; empty if the run just stops.
        """
        best: list[int] = []
        for component in self.components(inside):
            if not best or min(component) < min(best):
                if self._is_fair(component, unfair_lock):
                    best = component
        if not best:
            return None
        return min(best), self._loop(min(best), set(best), unfair_lock)

    def _is_fair(self, component: Collection[int], unfair_lock: bool) -> bool:
        everyone = (1 << self.tasks) - 1
        content = 0
        for state in component:
            content |= everyone & ~self.due[state]
        if content == everyone:
            return True
        members = set(component)
        for state in component:
            for action, target in self.edges(state):
                if target in members:
                    content |= self.served(state, action, target, unfair_lock)
            if content == everyone:
                return True
        return False

    def _loop(self, entry: int, members: set[int], unfair_lock: bool) -> list[tuple[int, int]]:
        """A walk through a fair component that is fair to every task, by nearest witnesses."""
        everyone = (1 << self.tasks) - 1
        at, content = entry, everyone & ~self.due[entry]
        loop: list[tuple[int, int]] = []

        def go(wanted: Callable[[int, int, int], bool]) -> bool:
            nonlocal at, content
            for action, target in self._walk(at, members, wanted) or ():
                content |= self.served(at, action, target, unfair_lock)
                content |= everyone & ~self.due[target]
                loop.append((action, target))
                at = target
            return bool(loop)

        def serves(source: int, action: int, target: int) -> bool:
            gain = self.served(source, action, target, unfair_lock) | ~self.due[target]
            return bool(gain & everyone & ~content)

        while content != everyone:
            go(serves)
        if at != entry or not loop:
            go(lambda _source, _action, target: target == entry)
        return loop

    def _walk(
        self, start: int, members: set[int], wanted: Callable[[int, int, int], bool]
    ) -> list[tuple[int, int]] | None:
        """A shortest non-empty walk among the members whose last edge is wanted."""
        came: dict[int, tuple[int, int]] = {}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            for action, target in self.edges(at):
                if target not in members:
                    continue
                if wanted(at, action, target):
                    walk = [(action, target)]
                    while at != start:
                        before, action = came[at]
                        walk.append((action, at))
                        at = before
                    return walk[::-1]
                if target not in came and target != start:
                    came[target] = (at, action)
                    queue.append(target)
        return None
