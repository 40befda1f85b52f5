"""The finite world: the text run over a bound, with state read lazily or given.

Every value comes from one *source*: a constant, a state cell that has not been read
yet, or an input (an arbitrary choice).  A condition on a source that both outcomes
are possible for is a *decision*: the text is run again for each outcome, and the
decisions of all runs form the step's decision tree.  With a given state, cells are
constants and only inputs are decided: that is the explicit execution used by replay
and by the oracle in the tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from model.designs import Design
from model.events import Event
from model.kernel import Step
from model.state import (
    LEFT,
    NULL,
    RECORD_OF,
    Addr,
    Field,
    Mm,
    Record,
    Sort,
    Special,
    Task,
)
from model.world import Cond, copied_kind, copied_owner
from shstk.finite_terms import (
    Decision,
    FiniteCond,
    FiniteTerm,
    Source,
    cell_source,
    input_source,
)
from shstk.identities import Identities
from shstk.space import Space, Valuation


class Disabled(Exception):
    """The step cannot happen on this path."""


class Saturated(Exception):
    """The step needs an object and the bound has none left."""

    def __init__(self, sort: Sort) -> None:
        self.sort = sort


class Impossible(Exception):
    """The path dereferences NULL: no reachable state may take it."""


Answers = list[tuple[list["Decision"], bool | None]]


@dataclass
class Finding:
    """What a watch asked at an event, and every answer with the decisions it takes.

    ``allowed`` is what the run had decided before it was asked.
    """

    question: object
    answers: Answers
    allowed: dict[Source, int]


Watch = Callable[["Run", Event], list[tuple[object, Callable[[], bool]]]]
# The findings of an event, by the outcomes of the decisions before it and its number: runs that
# part later have the same event.
Known = dict[tuple[tuple[bool, ...], int], list[Finding]]


@dataclass
class Outcome:
    """What one run of a step did.

    ``updates``: new value of each written cell as (None, index) or (source cell, table).
    ``inputs``: the choices shown in traces, by name.
    """

    decisions: list[Decision]
    status: str  # "done", "disabled", "saturated", "impossible"
    updates: dict[int, tuple[int | None, tuple[int, ...]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    inputs: dict[str, object] = field(default_factory=dict)
    saturated: Sort | None = None
    findings: list[Finding] = field(default_factory=list)


class Run(Identities):
    """One execution of a text: a world, a prefix of decisions to follow, and a record.

    ``switched_off`` are the event families that ``may`` never grants; ``fixed`` are inputs
    that are known, by name, and no choice any more.  ``known`` is what other runs of the
    same text have asked at their events.
    """

    def __init__(
        self,
        space: Space,
        design: Design,
        current: int,
        prefix: Sequence[bool],
        state: Valuation | None = None,
        switched_off: frozenset[str] = frozenset(),
        watch: Watch | None = None,
        fixed: Mapping[str, object] | None = None,
        known: Known | None = None,
    ) -> None:
        self.fixed = fixed or {}
        self.known = {} if known is None else known
        self.space = space
        self.design = design
        self.prefix = prefix
        self.state = state
        self.switched_off = switched_off
        self.watch = watch
        self.findings: list[Finding] = []
        self.asking = False  # a watch's question is being answered
        self.read_fields: set[str] | None = None  # collects, while a claim is evaluated
        self.decisions: list[Decision] = []
        self.restricted: dict[Source, int] = {}
        self.overlay: dict[int, FiniteTerm] = {}
        self.events: list[Event] = []
        self.inputs: list[tuple[str, Source]] = []
        self._me = current
        self._objects = {
            sort: [self._handle(sort, n) for n in range(space.bound.size(sort))] for sort in Sort
        }

    # -- values ------------------------------------------------------------------
    def const(self, value: object) -> FiniteTerm:
        """A constant."""
        return FiniteTerm(self, (None, (value,)))

    def _handle(self, sort: Sort, index: int) -> Record:
        return RECORD_OF[sort](cast(Any, self), self.const(index))

    @property
    def current(self) -> Task:
        """The task whose step this is."""
        return cast(Task, self._objects[Sort.TASK][self._me])

    def allowed(self, source: Source) -> int:
        """The domain indices that the decisions so far leave to a source."""
        known = self.restricted.get(source)
        if known is not None:
            return known
        if source.kind == "cell":
            return self.space.full[source.number]
        return (1 << len(source.labels)) - 1

    def decide(self, source: Source, mask: int) -> bool:
        """Is the source's value in ``mask``?  Splits the path when it can be either."""
        allowed = self.allowed(source)
        if allowed & mask == allowed:
            return True
        if not allowed & mask:
            return False
        if self.read_fields is not None and source.kind == "cell":
            self.read_fields.add(self.space.cells[source.number].field.name)
        at = len(self.decisions)
        outcome = self.prefix[at] if at < len(self.prefix) else True
        self.decisions.append((source, mask, outcome))
        self.restricted[source] = allowed & mask if outcome else allowed & ~mask
        return outcome

    # -- state -------------------------------------------------------------------
    def _cell(self, record: Record, name: str) -> int:
        index = []
        for term in cast(tuple[FiniteTerm, ...], record.index):
            value = term.force() if term.number is None else term.number
            if not isinstance(value, int):
                raise Impossible(f"{type(record).__name__}.{name} through {value}")
            index.append(value)
        return self.space.number(type(record), tuple(index), name)

    def _load(self, overlay: dict[int, FiniteTerm], cell: int) -> FiniteTerm:
        term = overlay.get(cell)
        if term is not None:
            return term
        domain = self.space.domains[cell]
        if self.state is not None:
            return self.const(domain[self.state[cell]])
        return FiniteTerm(self, (cell_source(cell), domain))

    def read(self, record: Record, field: Field[Any]) -> object:
        """The value now; found out later when the record itself is not known yet."""
        return self._read(self.overlay, record, field)

    def _read(self, overlay: dict[int, FiniteTerm], record: Record, field: Field[Any]) -> object:
        if None not in [cast(FiniteTerm, t).number for t in record.index]:
            term = self._load(overlay, self._cell(record, field.name))
        else:
            # Which cell it is will be decided when the value is; what it held is fixed now.
            then = dict(overlay)
            term = FiniteTerm(
                self, lambda: self._load(then, self._cell(record, field.name)).resolve()
            )
        if field.sort is None:
            return term
        return RECORD_OF[field.sort](cast(Any, self), term)

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""
        return type(record)(cast(Any, _Before(self)), *record.index)

    def write(self, record: Record, field: Field[Any], value: object) -> None:
        cell = self._cell(record, field.name)
        if isinstance(value, Record):
            value = value.index[0]
        if not isinstance(value, FiniteTerm):
            value = self.const(value)
        if field.store is not None:
            value = value._map(field.store)
        self.overlay[cell] = value

    # -- quantifiers -------------------------------------------------------------
    def _exists(self, sort: Sort, predicate: Callable[[Any], Cond]) -> Cond:
        conditions = [predicate(o) for o in self._objects[sort]]
        return FiniteCond(self, lambda: any(bool(c) for c in conditions), conditions)

    # -- choices -----------------------------------------------------------------
    def require(self, condition: Cond | bool) -> None:
        if not condition:
            raise Disabled

    def choose(self, name: str, values: Sequence[object], family: str = "") -> FiniteTerm:
        if name in self.fixed:
            values = (self.fixed[name],)
        source = input_source(len(self.inputs), tuple(values), family)
        self.inputs.append((name, source))
        return FiniteTerm(self, (source, tuple(values)))

    def number(self, name: str, samples: Sequence[int]) -> FiniteTerm:
        return self.choose(name, samples)

    def _flag(self, name: str, family: str) -> Cond:
        return self.choose(name, (False, True), family) == True  # noqa: E712 - a term

    def _never(self) -> Cond:
        return FiniteCond(self, lambda: False)

    def _any(self, sort: Sort, name: str) -> Any:
        values = range(self.space.bound.size(sort))
        return RECORD_OF[sort](cast(Any, self), self.choose(name, tuple(values)))

    def _fresh(self, sort: Sort, name: str, free: Callable[[Any], Cond]) -> Any:
        # The choice comes first, so that each candidate's path asks only about itself.
        objects = self._objects[sort]
        number = self.choose(name, (*range(len(objects)), None)).force()
        if number is None:
            self.require(~self._exists(sort, free))
            raise Saturated(sort)
        self.require(free(objects[number]))
        return objects[number]

    # -- bulk --------------------------------------------------------------------
    def copy_mappings(
        self,
        src: Mm,
        dst: Mm,
        own: Sequence[Addr],
        owner: Task,
        own_kind: dict[Any, Any],
        other_kind: dict[Any, Any],
    ) -> None:
        owner_id = cast(FiniteTerm, owner.index[0]).force()
        for addr in cast(list[Addr], self._objects[Sort.ADDR]):
            mine = any(bool(a == addr) for a in own)
            table, heir = (own_kind, owner_id) if mine else (other_kind, LEFT)
            old, new = src.at(addr), dst.at(addr)
            kind = cast(FiniteTerm, old.kind)
            self.copy_fields(old, new)
            new.kind = kind._map(functools.partial(copied_kind, table))
            new.owner = kind._map(functools.partial(copied_owner, table, heir))

    def clear_mappings(self, mm: Mm) -> None:
        for addr in cast(list[Addr], self._objects[Sort.ADDR]):
            self.reset(mm.at(addr))

    def replace_owner(self, mm: Mm, old: Task, new: Special) -> None:
        old_id = cast(FiniteTerm, old.index[0]).force()
        for addr in cast(list[Addr], self._objects[Sort.ADDR]):
            mapping = mm.at(addr)
            term = cast(FiniteTerm, mapping.owner.index[0])
            mapping.owner = term._map(lambda v: new if v == old_id and v is not True else v)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self.watch:
            key = tuple(d[2] for d in self.decisions), len(self.events)
            if key not in self.known:
                self.known[key] = self._found(self.watch(self, event))
            self.findings += self.known[key]

    def _found(self, questions: list[tuple[object, Callable[[], bool]]]) -> list[Finding]:
        allowed = dict(self.restricted)
        return [Finding(q, self._every_answer(evaluate), allowed) for q, evaluate in questions]

    def counterparts(self, claim: Callable[[], Cond | bool]) -> Sequence[Cond]:
        """Conditions each of which makes the claim false, or none where it is no negated
        disjunction that can be written down without a decision."""
        count, restricted = len(self.decisions), self.restricted
        self.asking, self.restricted = True, dict(restricted)
        try:
            condition = claim()
        except Impossible:
            condition = True
        self.asking, self.restricted = False, restricted
        decided = len(self.decisions) > count
        del self.decisions[count:]
        if decided or not isinstance(condition, FiniteCond):
            return ()
        return condition.none_of

    def _every_answer(self, evaluate: Callable[[], bool]) -> Answers:
        """Evaluate a condition for every decision it can take, without splitting the run."""
        outer, restricted, prefix = (
            tuple(d[2] for d in self.decisions),
            self.restricted,
            self.prefix,
        )
        self.asking = True
        answers: Answers = []
        stack: list[tuple[bool, ...]] = [()]
        while stack:
            inner = stack.pop()
            self.prefix, self.restricted = outer + inner, dict(restricted)
            try:
                answer = evaluate()
            except Impossible:
                answer = None
            taken = self.decisions[len(outer) :]
            del self.decisions[len(outer) :]
            answers.append((taken, answer))
            for at in range(len(taken) - 1, len(inner) - 1, -1):
                stack.append((*(d[2] for d in taken[:at]), False))
        self.asking, self.prefix, self.restricted = False, prefix, restricted
        return answers

    # -- the result ----------------------------------------------------------------
    def updates(self) -> dict[int, tuple[int | None, tuple[int, ...]]]:
        """New value of each written cell: a constant's index, or a table over one cell."""
        out: dict[int, tuple[int | None, tuple[int, ...]]] = {}
        for cell, term in self.overlay.items():
            source, values = term.resolve()
            if source is not None and source.kind == "input":
                term = self.const(term.force())
                source, values = term.resolve()
            domain = self.space.domains[cell]
            table = tuple(_index(domain, v) for v in values)
            if source is None:
                out[cell] = (None, table)
                continue
            allowed = self.allowed(source)
            images = {t for i, t in enumerate(table) if allowed >> i & 1}
            if len(images) == 1:
                out[cell] = (None, (images.pop(),))
            elif source.number != cell or table != tuple(range(len(table))):
                out[cell] = (source.number, table)
        return out

    def chosen(self) -> dict[str, object]:
        """The inputs and what was chosen: the first member that the decisions left."""
        picks: dict[str, object] = {}
        for name, source in self.inputs:
            allowed = self.allowed(source)
            picks[name] = source.labels[(allowed & -allowed).bit_length() - 1]
        return picks


def _index(domain: tuple[object, ...], value: object) -> int:
    for i, member in enumerate(domain):
        if member is value or (type(member) is type(value) and member == value):
            return i
    return domain.index(value)


class _Before:
    """A view of a run's state before the step; reads only."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def read(self, record: Record, field: Field[Any]) -> object:
        value = self.run._read({}, record, field)
        # What a reference leads to is looked at as it was before the step, too.
        return type(value)(cast(Any, self), *value.index) if isinstance(value, Record) else value


def runs(
    space: Space,
    design: Design,
    current: int,
    text: Callable[[Any], Any],
    state: Valuation | None = None,
    switched_off: frozenset[str] = frozenset(),
    watch: Watch | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Iterator[Outcome]:
    """Every run of ``text`` by task ``current``: one per sequence of decisions.

    ``watch`` may ask questions about each event as it happens; their answers are in the
    outcome and do not split the run.  ``fixed`` inputs have the value they are given.
    """
    stack: list[tuple[bool, ...]] = [()]
    known: Known = {}
    while stack:
        prefix = stack.pop()
        run = Run(space, design, current, prefix, state, switched_off, watch, fixed, known)
        outcome = _execute(run, text)
        stack += untaken(run.decisions, len(prefix))
        yield outcome


def untaken(decisions: Sequence[Decision], known: int) -> list[tuple[bool, ...]]:
    """What was not decided after the ``known`` ones: the prefixes of those runs."""
    taken = tuple(d[2] for d in decisions)
    return [(*taken[:at], False) for at in range(len(decisions) - 1, known - 1, -1)]


def _execute(run: Run, text: Callable[[Any], Any]) -> Outcome:
    try:
        text(run)
        updates = run.updates()
    except Disabled:
        return Outcome(run.decisions, "disabled")
    except Impossible:
        return Outcome(run.decisions, "impossible")
    except Saturated as full:
        return Outcome(run.decisions, "saturated", saturated=full.sort, findings=run.findings)
    return Outcome(run.decisions, "done", updates, run.events, run.chosen(), findings=run.findings)


def runs_step(
    space: Space,
    design: Design,
    current: int,
    step: Step,
    state: Valuation | None = None,
    switched_off: frozenset[str] = frozenset(),
    watch: Watch | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Iterator[Outcome]:
    """Every run of a step: its control-state guard, then its text."""
    text = functools.partial(take, step)
    return runs(space, design, current, text, state, switched_off, watch, fixed)


def take(step: Step, k: Run) -> None:
    """The step as a text.  Raises what ends a run."""
    k.require(k.current.ctl.isin(step.at))
    # Typing: a live task has a group and an mm.
    if k.current.group == NULL:
        raise Impossible("a live task without a group")
    if k.current.mm == NULL:
        raise Impossible("a task without an mm")
    step.run(cast(Any, k))
