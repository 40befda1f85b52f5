"""``make bench``: extraction, raw and canonical exploration, symmetry, slicing.

Every figure is of this run on this machine; ratios compare what ran in the same run.
The peer is a set of tuples in Python over the same tables.
"""

from __future__ import annotations

import time

from model.designs import DESIGNS
from model.kernel import STEPS
from shstk.build import CLAIMS, ORDINARY, Request, Tables, extract, program
from shstk.engine import Engine, Result
from shstk.slices import DETAILS, MERGES, WHOLE, Slice
from shstk.space import Bound
from shstk.tables import apply, exchange_tasks

SLICE = Slice(frozenset(MERGES))
BOUND = Bound(2, 2, 1)
PEER_BOUND = Bound(1, 2, 2)


def explore(tables: Tables, slice_: Slice, symmetry: bool) -> Result:
    """One exploration without claims."""
    engine = Engine(program(tables, Request(ORDINARY, 0, slice_)))
    result = engine.explore(symmetry=symmetry, max_states=30_000_000)
    per_state = result.peak_bytes / result.states
    print(
        f"  {'canonical' if symmetry else 'raw':<10} {str(slice_)[:44]:<44} "
        f"{result.states:>12,} states {result.states / result.seconds / 1e6:6.2f} M states/s "
        f"{result.transitions / result.seconds / 1e6:6.1f} M transitions/s "
        f"{per_state:5.0f} B/state  {result.status}"
    )
    return result


def peer(tables: Tables) -> tuple[int, float]:
    """States and seconds of the plain way: a Python set, the same trees, no packing."""
    space, forest = tables.space, tables.forest
    roots = [
        exchange_tasks(space, forest, tables.steps[s.name], task, {})
        for s in STEPS
        if s.family in ORDINARY
        for task in range(space.bound.tasks)
    ]
    start = time.perf_counter()
    known = {space.initial}
    frontier = [space.initial]
    while frontier:
        found = []
        for state in frontier:
            for root in roots:
                for leaf, after in apply(forest, root, state):
                    key = tuple(after)
                    if not leaf.saturated and key not in known:
                        known.add(key)
                        found.append(key)
        frontier = found
    return len(known), time.perf_counter() - start


def main() -> None:
    """Print the table."""
    for design in DESIGNS.values():
        start = time.perf_counter()
        tables = extract(design, BOUND)
        extraction = time.perf_counter() - start
        start = time.perf_counter()
        mask = sum(1 << b for b in range(len(CLAIMS)) if not tables.reads[b] & DETAILS)
        lowered = program(tables, Request(ORDINARY, mask, SLICE))
        lowering = time.perf_counter() - start
        start = time.perf_counter()
        Engine(lowered)
        loading = time.perf_counter() - start
        print(
            f"{design.name}, {BOUND.tasks} tasks, {BOUND.mms} mms, {BOUND.stacks} stack: "
            f"extraction {extraction:.2f} s, program {lowering:.2f} s, loading {loading:.2f} s"
        )
        whole = explore(tables, WHOLE, True)
        sliced = explore(tables, SLICE, True)
        raw = explore(tables, SLICE, False)
        print(f"  gain from symmetry {raw.states / sliced.states:.1f}x fewer states")
        print(f"  gain from slicing  {whole.states / sliced.states:.1f}x fewer states")
        small = extract(design, PEER_BOUND)
        states, seconds = peer(small)
        mine = Engine(program(small, Request(ORDINARY, 0, WHOLE))).explore()
        assert mine.states == states, (mine.states, states)
        ratio = (mine.states / mine.seconds) / (states / seconds)
        print(f"  against a Python set over the same tables, raw, {states:,} states: {ratio:.0f}x")


if __name__ == "__main__":
    main()
