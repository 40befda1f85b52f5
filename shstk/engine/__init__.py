"""Exhaustive exploration of programs over decision tables, in C.

``Engine(program).explore()`` visits all states breadth first.  With symmetry
it keeps one state of each orbit under renamings of tasks, groups, mms and
addresses; the program must not tell ids apart, and nothing checks that here.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from shstk.engine.lower import Lowered, lower
from shstk.engine.program import Layout, Leaf, Program, Values

__all__ = [
    "Engine",
    "Hit",
    "Layout",
    "Leaf",
    "Program",
    "Progress",
    "Result",
    "Trap",
    "TrapError",
    "Witness",
]

_STATUS: Final = ("running", "complete", "memory", "states", "depth", "interrupted", "trap")
_TRAPS: Final = ("", "transition tree", "update table", "state predicate tree")
_HIT_KINDS: Final = ("", "step", "state")

_MAX_WORDS: Final = 16
_VIOLATIONS: Final = 64
_SATURATIONS: Final = 32
_VIA_INITIAL: Final = 0x7FFFFFFF
_NO_STATE: Final = 0xFFFFFFFF
_NO_LIMIT: Final = (1 << 64) - 1
_POLL_SECONDS: Final = 0.1
_EDGE_BLOCK: Final = 1 << 16


class TrapError(RuntimeError):
    """A table has no entry for a value that it met: an error in the program."""


@dataclass(frozen=True)
class Progress:
    """Counters of an exploration under way; the frontier is found but not expanded."""

    states: int
    transitions: int
    depth: int
    frontier: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Hit:
    """The first violation of a property by an action.

    Kind "step": the transition from the state by the leaf violates it.  Kind
    "state": the state does, and the leaf (-1 for an initial state) first led there.
    """

    kind: str
    violation: int
    action: int
    state: int
    leaf: int


@dataclass(frozen=True)
class Witness:
    """The first time a witness predicate held: in a state (leaf -1) or on a step from it."""

    witness: int
    state: int
    leaf: int


@dataclass(frozen=True)
class Trap:
    """Where exploration met an impossible value; the leaf is -1 unless one was at work."""

    kind: str
    state: int
    leaf: int
    values: Values


@dataclass(frozen=True)
class Result:
    """What an exploration found.

    ``transitions`` are leaf firings that have a successor, self-loops included,
    saturated and ``pruned`` ones excluded.  ``expanded`` is the number of states
    whose successors have all been entered.  ``levels`` has the number of states at each
    depth; the last one is partial if the run was cut short.  ``hits`` has the
    first one for each (violation, action), where the action of a hit in an
    initial state is n_actions.  ``saturated`` counts firings per bound; those of leaves
    that only report (bit 31) are counted while there is something new that they may say.
    """

    status: str
    symmetry: bool
    states: int
    transitions: int
    pruned: int
    expanded: int
    levels: tuple[int, ...]
    violations: int
    witnessed: int
    hits: Mapping[tuple[int, int], Hit]
    witnesses: Mapping[int, Witness]
    saturated: Mapping[int, int]
    peak_bytes: int
    seconds: float
    trap: Trap | None

    @property
    def complete(self) -> bool:
        """Whether all reachable states (that are not pruned away) have been found."""
        return self.status == "complete"


# The structures mirror those of the same names in engine.c.


class _Tables(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("words", "n_pool", "n_step_pool")),
        *((name, ctypes.c_uint32) for name in ("n_roots", "n_state_roots")),
        *((name, ctypes.c_uint32) for name in ("n_actions", "stack", "fan")),
        *((name, ctypes.c_void_p) for name in ("pool", "roots", "state_roots")),
        *((name, ctypes.c_void_p) for name in ("rows", "ops", "tabs", "masks")),
        *((name, ctypes.c_void_p) for name in ("action", "saturated")),
        *((name, ctypes.c_void_p) for name in ("violations", "witnesses")),
        ("ids", ctypes.c_uint32 * 5),
        ("kinds", ctypes.c_void_p * 3),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("prune_mask", "max_states")),
        *((name, ctypes.c_uint64) for name in ("max_bytes", "max_depth")),
        ("symmetry", ctypes.c_uint32),
    ]


class _Hit(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("kind", "state", "leaf")]


class _Report(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("states", "transitions", "pruned")),
        *((name, ctypes.c_uint64) for name in ("expanded", "depth", "bytes", "peak")),
        ("saturated", ctypes.c_uint64 * _SATURATIONS),
        *((name, ctypes.c_uint64) for name in ("violations", "witnesses")),
        *((name, ctypes.c_uint32) for name in ("interrupt", "status", "trap")),
        *((name, ctypes.c_uint32) for name in ("trap_state", "trap_leaf")),
    ]


_U32P: Final = ctypes.POINTER(ctypes.c_uint32)
_U64P: Final = ctypes.POINTER(ctypes.c_uint64)

_SIGNATURES: Final[Mapping[str, tuple[type | None, tuple[type, ...]]]] = {
    "shstk_new": (ctypes.c_void_p, (ctypes.POINTER(_Tables),)),
    "shstk_free": (None, (ctypes.c_void_p,)),
    "shstk_report": (ctypes.POINTER(_Report), (ctypes.c_void_p,)),
    "shstk_reset": (None, (ctypes.c_void_p, ctypes.POINTER(_Options))),
    "shstk_explore": (None, (ctypes.c_void_p, _U64P, ctypes.c_uint32)),
    "shstk_levels": (ctypes.c_uint64, (ctypes.c_void_p, ctypes.POINTER(_U64P))),
    "shstk_hits": (ctypes.POINTER(_Hit), (ctypes.c_void_p,)),
    "shstk_witnesses": (ctypes.POINTER(_Hit), (ctypes.c_void_p,)),
    "shstk_state": (_U64P, (ctypes.c_void_p, ctypes.c_uint32)),
    "shstk_parent": (ctypes.c_uint32, (ctypes.c_void_p, ctypes.c_uint32)),
    "shstk_leaf": (ctypes.c_uint32, (ctypes.c_void_p, ctypes.c_uint32)),
    "shstk_canonical": (None, (ctypes.c_void_p, _U64P, _U64P)),
    "shstk_find": (ctypes.c_uint32, (ctypes.c_void_p, _U64P)),
    "shstk_judge": (ctypes.c_bool, (ctypes.c_void_p, _U64P, _U64P)),
    "shstk_successors": (ctypes.c_int, (ctypes.c_void_p, _U64P, _U32P, _U64P)),
    "shstk_edges": (ctypes.c_uint32, (ctypes.c_void_p, _U32P, _U32P, ctypes.c_uint32)),
}


def _load() -> ctypes.CDLL:
    """The compiled engine, which lies next to this file."""
    found = sorted(Path(__file__).parent.glob("_engine*.so"))
    if not found:
        raise RuntimeError("the C engine is not built: run `make check`")
    library = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _tables(lowered: Lowered) -> _Tables:
    """The C structure that points into the arrays; they must outlive it."""
    tables = _Tables(
        words=lowered.words,
        n_pool=len(lowered.pool),
        n_step_pool=lowered.step_pool,
        n_roots=len(lowered.roots),
        n_state_roots=len(lowered.state_roots),
        n_actions=lowered.n_actions,
        stack=lowered.stack,
        fan=lowered.fan,
        ids=lowered.ids,
    )
    for name, value in vars(lowered).items():
        if isinstance(value, array):
            setattr(tables, name, value.buffer_info()[0])
    tables.kinds = (ctypes.c_void_p * 3)(*(kind.buffer_info()[0] for kind in lowered.kinds))
    return tables


class Engine:
    """Explores one program; what it has found stays until the next exploration."""

    def __init__(self, program: Program) -> None:
        order = program.validate()
        self._program = program
        self._layout = program.layout
        self._library = _load()
        # The C side keeps pointers into these arrays.
        self._lowered = lower(program, order)
        self._handle = self._library.shstk_new(ctypes.byref(_tables(self._lowered)))
        if not self._handle:
            raise MemoryError("no memory for the engine")
        weakref.finalize(self, self._library.shstk_free, self._handle)
        self._report: _Report = self._library.shstk_report(self._handle).contents

    # Exploration.

    def explore(
        self,
        *,
        symmetry: bool = False,
        prune: bool = False,
        prune_mask: int = _NO_LIMIT,
        max_states: int | None = None,
        max_bytes: int | None = None,
        max_depth: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Find all states reachable from the initial ones, breadth first.

        With ``prune``, transitions that violate a property in ``prune_mask`` are
        recorded but not followed, and states that violate one are not expanded.
        ``progress`` is called about ten times a second.  Interrupting from the
        keyboard ends the exploration with what it has found.
        """
        options = _Options(
            prune_mask=prune_mask if prune else 0,
            max_states=_NO_LIMIT if max_states is None else max_states,
            max_bytes=_NO_LIMIT if max_bytes is None else max_bytes,
            max_depth=_NO_LIMIT if max_depth is None else max_depth,
            symmetry=symmetry,
        )
        self._library.shstk_reset(self._handle, ctypes.byref(options))
        start = time.perf_counter()
        self._run(start, progress)
        return self._result(symmetry, time.perf_counter() - start)

    def _run(self, start: float, progress: Callable[[Progress], None] | None) -> None:
        """Run the C code in a thread, so that this one can look after it."""
        initial = self._program.initial
        words = [word for values in initial for word in self._layout.pack(values)]
        packed = (ctypes.c_uint64 * len(words))(*words)
        worker = threading.Thread(
            target=self._library.shstk_explore, args=(self._handle, packed, len(initial))
        )
        worker.start()
        try:
            while worker.is_alive():
                try:
                    worker.join(_POLL_SECONDS)
                    if progress is not None and worker.is_alive():
                        progress(self._progress(start))
                except KeyboardInterrupt:
                    self._report.interrupt = 1
        finally:
            # If progress() raises, the thread must not outlive this call.
            self._report.interrupt = 1
            worker.join()

    def _progress(self, start: float) -> Progress:
        """The counters as they are now."""
        report = self._report
        return Progress(
            states=report.states,
            transitions=report.transitions,
            depth=report.depth,
            frontier=max(0, report.states - report.expanded),
            bytes=report.bytes,
            seconds=time.perf_counter() - start,
        )

    def _result(self, symmetry: bool, seconds: float) -> Result:
        """Everything the C side has recorded."""
        report = self._report
        levels = _U64P()
        n_levels = self._library.shstk_levels(self._handle, ctypes.byref(levels))
        saturated = enumerate(report.saturated)
        return Result(
            status=_STATUS[report.status],
            symmetry=symmetry,
            states=report.states,
            transitions=report.transitions,
            pruned=report.pruned,
            expanded=report.expanded,
            levels=tuple(levels[:n_levels]) if n_levels else (),
            violations=report.violations,
            witnessed=report.witnesses,
            hits=self._hits(),
            witnesses=self._witnesses(),
            saturated={bit: count for bit, count in saturated if count},
            peak_bytes=report.peak,
            seconds=seconds,
            trap=self._trap(),
        )

    def _hits(self) -> dict[tuple[int, int], Hit]:
        """The first hits, by violation and action."""
        hits: dict[tuple[int, int], Hit] = {}
        if not self._report.violations:
            return hits
        table = self._library.shstk_hits(self._handle)
        for action in range(self._program.n_actions + 1):
            for bit in range(_VIOLATIONS):
                hit = table[action * _VIOLATIONS + bit]
                if hit.kind:
                    leaf = -1 if hit.leaf == _VIA_INITIAL else hit.leaf
                    hits[bit, action] = Hit(_HIT_KINDS[hit.kind], bit, action, hit.state, leaf)
        return dict(sorted(hits.items()))

    def _witnesses(self) -> dict[int, Witness]:
        """The first witnesses, by bit."""
        table = self._library.shstk_witnesses(self._handle)
        return {
            bit: Witness(bit, table[bit].state, table[bit].leaf if table[bit].kind == 1 else -1)
            for bit in range(_VIOLATIONS)
            if table[bit].kind
        }

    def _trap(self) -> Trap | None:
        """Where the exploration trapped, if it did."""
        report = self._report
        if not report.trap:
            return None
        kind = _TRAPS[report.trap]
        leaf = report.trap_leaf if kind == "update table" else -1
        return Trap(kind, report.trap_state, leaf, self.state(report.trap_state))

    # What has been found.

    def _check(self, state: int) -> int:
        """The number of a state, if there is such a state."""
        if not 0 <= state < self._report.states:
            raise IndexError(f"no state {state}")
        return state

    def state(self, state: int) -> Values:
        """The values of a state that was found."""
        words = self._library.shstk_state(self._handle, self._check(state))
        return self._layout.unpack(words[: self._layout.words])

    def parent(self, state: int) -> int:
        """The state from which a state was first reached; -1 for initial states."""
        parent: int = self._library.shstk_parent(self._handle, self._check(state))
        return -1 if parent == _NO_STATE else parent

    def leaf(self, state: int) -> int:
        """The leaf by which a state was first reached; -1 for initial states."""
        leaf: int = self._library.shstk_leaf(self._handle, self._check(state))
        return -1 if leaf == _VIA_INITIAL else leaf

    def action(self, leaf: int) -> int:
        """The action a leaf is an outcome of."""
        return self._program.leaves[leaf].action

    def depth(self, state: int) -> int:
        """The number of steps of a shortest path to a state."""
        levels = _U64P()
        n_levels = self._library.shstk_levels(self._handle, ctypes.byref(levels))
        return bisect_right(list(accumulate(levels[:n_levels])), self._check(state))

    def path(self, state: int) -> list[tuple[int, int]]:
        """A shortest path to a state as (leaf, state), the first one being (-1, initial).

        With symmetry, ids in each state are renamed independently of the others.
        """
        path = [(self.leaf(state), state)]
        while (state := self.parent(state)) >= 0:
            path.append((self.leaf(state), state))
        return path[::-1]

    def lookup(self, values: Sequence[int]) -> int | None:
        """The number of a state, or of its canonical form if symmetry was on."""
        state: int = self._library.shstk_find(self._handle, self._pack(values))
        return None if state == _NO_STATE else state

    def edges(self) -> Iterator[tuple[int, int, int]]:
        """All (source, leaf, target) between states, for sources that were expanded.

        They come in the order of the sources, then of the leaves as they fire;
        pruned and saturated transitions are left out, self-loops are not.
        """
        space = _EDGE_BLOCK + self._lowered.fan
        block = (ctypes.c_uint32 * (3 * space))()
        source = ctypes.c_uint32(0)
        while source.value < self._report.expanded:
            count = self._library.shstk_edges(self._handle, ctypes.byref(source), block, space)
            flat = block[: 3 * count]
            yield from zip(flat[::3], flat[1::3], flat[2::3], strict=True)

    # Single states.

    def _pack(self, values: Sequence[int]) -> ctypes.Array[ctypes.c_uint64]:
        """A packed state as a C array."""
        return (ctypes.c_uint64 * self._layout.words)(*self._layout.pack(values))

    def successors(self, values: Sequence[int]) -> list[tuple[int, Values]]:
        """The leaves that fire in a state, and where they lead, as they are (not canonical)."""
        words, fan = self._layout.words, self._lowered.fan
        leaves = (ctypes.c_uint32 * max(1, fan))()
        out = (ctypes.c_uint64 * max(1, fan * words))()
        count = self._library.shstk_successors(self._handle, self._pack(values), leaves, out)
        if count < 0:
            raise TrapError(f"no transition table entry for a value in state {tuple(values)}")
        return [
            (leaves[i], self._layout.unpack(out[i * words : (i + 1) * words])) for i in range(count)
        ]

    def violations(self, values: Sequence[int]) -> tuple[int, int]:
        """The state predicates that hold: (violations, witnesses)."""
        mask = (ctypes.c_uint64 * 2)()
        if not self._library.shstk_judge(self._handle, self._pack(values), mask):
            raise TrapError(f"no predicate table entry for a value in state {tuple(values)}")
        return mask[0], mask[1]

    def canonical(self, values: Sequence[int]) -> Values:
        """The canonical form of a state: the same for all renamings of its ids."""
        out = (ctypes.c_uint64 * _MAX_WORDS)()
        self._library.shstk_canonical(self._handle, self._pack(values), out)
        return self._layout.unpack(out[: self._layout.words])
