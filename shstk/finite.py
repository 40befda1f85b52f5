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
    fields,
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
        self._current: Task | None = None
        self._objects: dict[Sort, list[Any]] = _Objects(self)
        self._before: dict[int, FiniteTerm] = {}
        self._handles: dict[int, Any] = {}  # on what cells refer to, the last made
        # An overlay and restrictions that must stay as they are.
        self._held: dict[int, FiniteTerm] | None = None
        self._kept: dict[Source, int] | None = None

    # -- values ------------------------------------------------------------------
    def const(self, value: object) -> FiniteTerm:
        """A constant."""
        return FiniteTerm(self, (None, (value,)))

    @property
    def current(self) -> Task:
        """The task whose step this is."""
        if self._current is None:
            self._current = self._objects[Sort.TASK][self._me]
        return self._current

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
        allowed = self.restricted.get(source)
        if allowed is None:
            allowed = self.allowed(source)
        left = allowed & mask
        if left == allowed:
            return True
        if not left:
            return False
        if self.read_fields is not None and source.kind == "cell":
            self.read_fields.add(self.space.cells[source.number].field.name)
        at = len(self.decisions)
        outcome = self.prefix[at] if at < len(self.prefix) else True
        self.decisions.append((source, mask, outcome))
        if self.restricted is self._kept:
            self.restricted = dict(self.restricted)
        self.restricted[source] = left if outcome else allowed & ~mask
        return outcome

    # -- state -------------------------------------------------------------------
    def _cell(self, record: Record, name: str) -> int:
        index: Any = record.index
        cells = self.space.columns[type(record)][name]
        for term in index:
            number = term.number
            cells = cells[self._object(term, record, name) if number is None else number]
        cell: int = cells
        return cell

    def _object(self, term: FiniteTerm, record: Record, name: str) -> int:
        """The object that a term refers to, found out."""
        value = term.force()
        if not isinstance(value, int):
            raise Impossible(f"{type(record).__name__}.{name} through {value}")
        return value

    def _load(self, overlay: dict[int, FiniteTerm], cell: int) -> FiniteTerm:
        term = overlay.get(cell)
        return self._unwritten(cell) if term is None else term

    def _unwritten(self, cell: int) -> FiniteTerm:
        """What a cell holds before the step."""
        term = self._before.get(cell)
        if term is None:
            domain = self.space.domains[cell]
            if self.state is not None:
                term = FiniteTerm(self, (None, (domain[self.state[cell]],)))
            else:
                term = FiniteTerm(self, (cell_source(cell), domain))
            self._before[cell] = term
        return term

    def read(self, record: Record, field: Field[Any]) -> object:
        """The value now; found out later when the record itself is not known yet."""
        return self._read(self.overlay, record, field)

    def _read(self, overlay: dict[int, FiniteTerm], record: Record, field: Field[Any]) -> object:
        index: Any = record.index
        for each in index:
            if each.number is None:
                # Which cell it is will be decided when the value is; what it held is fixed now.
                if overlay is self.overlay:
                    self._held = overlay
                term = FiniteTerm(
                    self, lambda: self._load(overlay, self._cell(record, field.name)).resolve()
                )
                break
        else:
            cell = self._cell(record, field.name)
            written = overlay.get(cell)
            term = self._unwritten(cell) if written is None else written
            if field.sort is None:
                return term
            known = self._handles.get(cell)
            if known is None or known.index[0] is not term:
                known = self._handles[cell] = _record_of(field)(self, term)
            return known
        if field.sort is None:
            return term
        handle: object = _record_of(field)(self, term)
        return handle

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""
        return type(record)(cast(Any, _Before(self)), *record.index)

    def write(self, record: Record, field: Field[Any], value: object) -> None:
        self._write(self._cell(record, field.name), field, value)

    def _write(self, cell: int, field: Field[Any], value: object) -> None:
        if isinstance(value, Record):
            value = value.index[0]
        known = value.samples if isinstance(value, FiniteTerm) else (value,)
        if field.sort is None and field.store is None and known and known[0] not in field.values:
            can_be = ", ".join(map(str, field.values))
            raise ValueError(f"{field.name} is set to {known[0]!r}; it can be {can_be}")
        if not isinstance(value, FiniteTerm):
            value = self.const(value)
        if field.store is not None:
            value = value._map(field.store)
        if self.overlay is self._held:
            self.overlay = dict(self.overlay)
        self.overlay[cell] = value

    def copy_fields(self, src: Record, dst: Record) -> None:
        index: Any = src.index
        kind: Any = type(src)
        known = all(term.number is not None for term in index)
        for each in _fields(kind):
            # No handle is made of a reference that is only copied.
            value = self._load(self.overlay, self._cell(src, each.name)) if known else None
            self.write(dst, each, self.read(src, each) if value is None else value)

    # -- quantifiers -------------------------------------------------------------
    def _exists(self, sort: Sort, predicate: Callable[[Any], Cond]) -> Cond:
        conditions = [predicate(o) for o in self._objects[sort]]
        return FiniteCond(self, lambda: any(conditions), conditions)

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
            key = tuple([d[2] for d in self.decisions]), len(self.events)
            if key not in self.known:
                self.known[key] = self._found(self.watch(self, event))
            self.findings += self.known[key]

    def _found(self, questions: list[tuple[object, Callable[[], bool]]]) -> list[Finding]:
        allowed = self._kept = self.restricted
        return [Finding(q, self._every_answer(evaluate), allowed) for q, evaluate in questions]

    def counterparts(self, claim: Callable[[], Cond | bool]) -> Sequence[Cond]:
        """Conditions each of which makes the claim false, or none where it is no negated
        disjunction that can be written down without a decision."""
        count, restricted = len(self.decisions), self.restricted
        self.asking, self._kept = True, restricted
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
        count, restricted, prefix = len(self.decisions), self.restricted, self.prefix
        outer = tuple([d[2] for d in self.decisions])
        self.asking = True
        answers: Answers = []
        stack: list[tuple[bool, ...]] = [()]
        while stack:
            inner = stack.pop()
            self.prefix = outer + inner
            self.restricted = self._kept = restricted
            try:
                answer = evaluate()
            except Impossible:
                answer = None
            taken = self.decisions[count:]
            del self.decisions[count:]
            answers.append((taken, answer))
            if taken:
                stack += untaken(taken, len(inner))
        self.asking, self.prefix, self.restricted = False, prefix, restricted
        return answers

    def end(self) -> None:
        """Let go of the values: they know their run, and only together could they be freed.

        What was emitted keeps its own; the state after the run cannot be read any more.
        """
        self.overlay, self._before, self.events = _Ended(), {}, []
        self._objects, self._current, self._held, self._handles = {}, None, None, {}

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
            table = self._table(domain, source, values)
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

    def _table(
        self, domain: tuple[object, ...], source: Source | None, values: tuple[object, ...]
    ) -> tuple[int, ...]:
        """Where in a domain values are."""
        if source is None or values is not self.space.domains[source.number]:
            return tuple([_index(domain, v) for v in values])
        # A copy of a cell: domains live as long as the space, and are the keys.
        key = (id(domain), id(values))
        known = self.space.copied.get(key)
        if known is None:
            known = self.space.copied[key] = tuple([_index(domain, v) for v in values])
        return known

    def chosen(self) -> dict[str, object]:
        """The inputs and what was chosen: the first member that the decisions left."""
        picks: dict[str, object] = {}
        for name, source in self.inputs:
            allowed = self.allowed(source)
            picks[name] = source.labels[(allowed & -allowed).bit_length() - 1]
        return picks


@functools.cache
def _fields(record: Any) -> list[Field[Any]]:
    return fields(record)


@functools.cache
def _record_of(field: Field[Any]) -> Any:
    """What a reference refers to."""
    assert field.sort is not None
    return RECORD_OF[field.sort]


class _Ended(dict[int, FiniteTerm]):
    """The state after a run that has ended."""

    def get(self, _key: int, _default: Any = None) -> Any:
        raise AssertionError("the run has ended")


class _Objects(dict[Sort, list[Any]]):
    """The handles on all objects of a run, by sort, made when they are asked for."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def __missing__(self, sort: Sort) -> list[Any]:
        run, record = self._run, RECORD_OF[sort]
        numbers = range(run.space.bound.size(sort))
        made = self[sort] = [record(cast(Any, run), run.const(n)) for n in numbers]
        return made


def _index(domain: tuple[object, ...], value: object) -> int:
    for i, member in enumerate(domain):
        if member is value or (type(member) is type(value) and member == value):
            return i
    if value in domain:
        return domain.index(value)
    can_be = ", ".join(map(str, domain))
    raise ValueError(f"a variable is set to {value}; it can be {can_be}")


_NOTHING: dict[int, FiniteTerm] = {}  # written before the step


class _Before:
    """A view of a run's state before the step; reads only."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def read(self, record: Record, field: Field[Any]) -> object:
        value = self.run._read(_NOTHING, record, field)
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
        try:
            yield outcome
        finally:
            run.end()


def untaken(decisions: Sequence[Decision], known: int) -> list[tuple[bool, ...]]:
    """What was not decided after the ``known`` ones: the prefixes of those runs."""
    taken = tuple([d[2] for d in decisions])
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
