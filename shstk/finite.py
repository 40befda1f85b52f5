"""The finite world: a run of the text over a bound, with state read lazily or given.

Every value comes from one *source*: a constant, a state cell that has not been read
yet, or an input (an arbitrary choice).  A condition on a source that both outcomes
are possible for is a *decision*: the text is run again for each outcome, and the
decisions of all runs form the step's decision tree.  With a given state, cells are
constants and only inputs are decided: that is the explicit execution used by replay
and by the oracle in the tests.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from model.designs import Design
from model.events import Event
from model.state import (
    LEFT,
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
from model.world import Cond, Term, copied_kind, copied_owner
from shstk.finite_terms import (
    AnyOf,
    Decision,
    FiniteCond,
    FiniteTerm,
    Later,
    Source,
    Values,
    input_source,
)
from shstk.identities import Identities
from shstk.situations import Noting, Situations
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

Tape = list[Any] | deque[Any]
NOWHERE: deque[Any] = deque(maxlen=0)  # a tape that nobody will need


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


@dataclass(slots=True)
class Branch:
    """A decision taken the other way: what the text was told before it, and a run's state there."""

    told: list[Any]
    decisions: list[Decision]
    restricted: dict[Source, int]
    overlay: dict[int, FiniteTerm]
    events: list[Event]
    inputs: list[tuple[str, Source]]
    findings: list[Finding]
    found: list[tuple[FiniteTerm, Values]]


T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def _whole(method: Method) -> Method:
    """What the text is told by it is its result, and no part of what it does."""

    @functools.wraps(method)
    def told(run: Run, *arguments: Any) -> Any:
        if run.script:
            return run.script.pop()
        tape, run.tape = run.tape, NOWHERE
        result = method(run, *arguments)
        run.tape = tape
        tape.append(result)
        return result

    return cast(Method, told)


class Run(Identities):
    """One execution of a text: a world, a prefix of decisions to follow, and a record.

    ``switched_off`` are the event families that ``may`` never grants; ``fixed`` are inputs
    that are known, by name, and no choice any more.

    A run can follow the beginning of another one (``follow``): until the text gets to where they
    part, it is told what it was told there, and nothing is done.
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
    ) -> None:
        self.fixed = fixed or {}
        self.space = space
        self.design = design
        self.prefix = prefix
        self.state = state
        self.switched_off = switched_off
        self.watch = watch
        self.findings: list[Finding] = []
        self.read_fields: set[str] | None = None  # collects, while a claim is evaluated
        self.decisions: list[Decision] = []
        self.restricted: dict[Source, int] = {}
        self.overlay: dict[int, FiniteTerm] = {}
        self.events: list[Event] = []
        self.inputs: list[tuple[str, Source]] = []
        # Which values of inputs, by name, are looked at: all if None.
        self.admits: Callable[[str, object], bool] | None = None
        self.tape: Tape = NOWHERE  # what the text is told, in order
        self.script: list[Any] = []  # what it is still to be told, last first
        self.found: Tape = NOWHERE  # what was found out late
        self.situations = Situations()
        self.branches: list[Branch] | None = None  # of its decisions, where they are wanted
        self._me = current
        self._current: Task | None = None
        self._objects: dict[Sort, list[Any]] = _Objects(self)
        self._before: dict[int, FiniteTerm] = {}
        self._tables: dict[tuple[int, int], tuple[tuple[int, ...], object]] = {}
        self._constants: dict[int, FiniteTerm] = {}  # by the identity of their values
        self._stored: dict[tuple[Field[Any], int], tuple[FiniteTerm, object]] = {}
        self._handles: dict[int, Any] = {}  # on what cells refer to, the last made
        # An overlay and restrictions that must stay as they are.
        self._held: dict[int, FiniteTerm] | None = None
        self._kept: dict[Source, int] | None = None

    # -- values ------------------------------------------------------------------
    def const(self, value: object) -> FiniteTerm:
        """A constant."""
        known = self._constants.get(id(value))
        if known is None:
            known = self._constants[id(value)] = FiniteTerm(self, (None, (value,)))
        return known

    @property
    def current(self) -> Task:
        """The task whose step this is."""
        if self._current is None:
            self._current = self._objects[Sort.TASK][self._me]
        return self._current

    def allowed(self, source: Source) -> int:
        """The domain indices that the decisions so far leave to a source."""
        return self.restricted.get(source) or source.full

    def decide(self, source: Source, mask: int) -> bool:
        """Is the source's value in ``mask``?  Splits the path when it can be either."""
        allowed = self.restricted.get(source) or source.full
        left = allowed & mask
        if left == allowed:
            return True
        if not left:
            return False
        if self.read_fields is not None and source.kind == "cell":
            self.read_fields.add(self.space.cells[source.number].field.name)
        if self.branches is not None:
            self.branches.append(self._branch((source, mask, False), allowed & ~mask))
        at = len(self.decisions)
        outcome = self.prefix[at] if at < len(self.prefix) else True
        self.decisions.append((source, mask, outcome))
        if self.restricted is self._kept:
            self.restricted = self.restricted.copy()
        self.restricted[source] = left if outcome else allowed & ~mask
        return outcome

    # -- following another run -----------------------------------------------------
    def collect(self) -> None:
        """From now on, keep the branches of its decisions."""
        self._told: list[Any] = []
        self.tape, self.found, self.branches = self._told, [], []

    def _branch(self, other: Decision, left: int) -> Branch:
        self._held = self.overlay
        return Branch(
            self._told[:],
            [*self.decisions, other],
            {**self.restricted, other[0]: left},
            self.overlay,
            self.events[:],
            self.inputs[:],
            self.findings[:],
            list(self.found),
        )

    def follow(self, branch: Branch) -> None:
        """Become the run that a branch begins; the text is to be run again."""
        self.tape = self._told = branch.told
        self.script = branch.told[::-1]
        self.decisions, self.restricted = branch.decisions, branch.restricted
        self.overlay = self._held = branch.overlay
        self.events, self.inputs = branch.events, branch.inputs
        self.findings, self.branches = branch.findings, []
        # Its terms are those of the other run, where later decisions have found out more.
        for term, _ in self.found:
            term.known = None
        self.found = branch.found
        for term, values in self.found:
            term.known = values

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
                term = self.const(domain[self.state[cell]])
            else:
                term = FiniteTerm(self, (self.space.sources[cell], domain))
            self._before[cell] = term
        return term

    def held(self, record: Record, field: Field[Any], overlay: dict[int, FiniteTerm]) -> FiniteTerm:
        """What a variable held; finds out of which object."""
        return self._load(overlay, self._cell(record, field.name))

    def read(self, record: Record, field: Field[Any]) -> object:
        """The value now; found out later when the record itself is not known yet."""
        if self.script:
            return self.script.pop()
        value = self._read(self.overlay, record, field)
        self.tape.append(value)
        return value

    def _read(self, overlay: dict[int, FiniteTerm], record: Record, field: Field[Any]) -> object:
        index: Any = record.index
        for each in index:
            if each.number is None:
                # Which cell it is will be decided when the value is; what it held is fixed now.
                if overlay is self.overlay:
                    self._held = overlay
                later = FiniteTerm(self, Later(self, record, field, overlay))
                return later if field.sort is None else _record_of(field)(self, later)
        cell = self._cell(record, field.name)
        term = overlay.get(cell)
        if term is None:
            term = self._unwritten(cell)
        if field.sort is None:
            return term
        known = self._handles.get(cell)
        if known is None or known.index[0] is not term:
            known = self._handles[cell] = _record_of(field)(self, term)
        return known

    def before(self, record: Record) -> Any:
        """The same object as it was before the step."""
        return type(record)(cast(Any, _Before(self)), *record.index)

    def write(self, record: Record, field: Field[Any], value: object) -> None:
        if self.script:
            self.script.pop()
            return
        self._write(self._cell(record, field.name), field, value)
        self.tape.append(None)

    def _write(self, cell: int, field: Field[Any], value: object) -> None:
        if isinstance(value, Record):
            value = value.index[0]
        if isinstance(value, FiniteTerm):
            term = self._stored_as(field, value)
        else:
            key = field, id(value)
            if key not in self._stored:  # with the value, so that nothing else is it
                self._stored[key] = self._stored_as(field, self.const(value)), value
            term = self._stored[key][0]
        if self.overlay is self._held:
            self.overlay = dict(self.overlay)
        self.overlay[cell] = term

    def _stored_as(self, field: Field[Any], value: FiniteTerm) -> FiniteTerm:
        """What a variable holds after it was set to a value."""
        known = value.samples
        if field.sort is None and field.store is None and known and known[0] not in field.values:
            can_be = ", ".join(map(str, field.values))
            raise ValueError(f"{field.name} is set to {known[0]!r}; it can be {can_be}")
        return value if field.store is None else value._map(field.store)

    @_whole
    def copy_fields(self, src: Record, dst: Record) -> None:
        index: Any = src.index
        kind: Any = type(src)
        known = all(term.number is not None for term in index)
        for each in _fields(kind):
            # No handle is made of a reference that is only copied.
            value = self._load(self.overlay, self._cell(src, each.name)) if known else None
            self.write(dst, each, self.read(src, each) if value is None else value)

    @_whole
    def reset(self, record: Record) -> None:
        super().reset(record)

    # -- quantifiers -------------------------------------------------------------
    @_whole
    def _exists(self, sort: Sort, predicate: Callable[[Any], Cond]) -> Cond:
        return AnyOf(self, [predicate(o) for o in self._objects[sort]])

    # -- choices -----------------------------------------------------------------
    def require(self, condition: Cond | bool) -> None:
        if not condition:
            raise Disabled

    @_whole
    def choose(self, name: str, values: Sequence[object], family: str = "") -> FiniteTerm:
        if name in self.fixed:
            values = (self.fixed[name],)
        source = input_source(len(self.inputs), tuple(values), family)
        self.inputs.append((name, source))
        if self.admits is not None:
            self._narrow(source, [self.admits(name, v) for v in source.labels])
        return FiniteTerm(self, (source, source.labels))

    def _narrow(self, source: Source, admitted: Sequence[bool]) -> None:
        """Leave only some of its values to a source."""
        left = sum(1 << i for i, yes in enumerate(admitted) if yes)
        if not left:
            raise Disabled
        if left != source.full:
            self.restricted = {**self.restricted, source: left}

    def number(self, name: str, samples: Sequence[int]) -> FiniteTerm:
        return self.choose(name, samples)

    def _flag(self, name: str, family: str) -> Cond:
        return self.choose(name, (False, True), family) == True  # noqa: E712 - a term

    def _never(self) -> Cond:
        return FiniteCond(self, lambda: False)

    @_whole
    def _settled(self, term: Term) -> Any:
        """What a value is, decided."""
        return cast(FiniteTerm, term).force()

    def _any(self, sort: Sort, name: str) -> Any:
        values = range(self.space.bound.size(sort))
        return RECORD_OF[sort](cast(Any, self), self.choose(name, tuple(values)))

    def _fresh(self, sort: Sort, name: str, free: Callable[[Any], Cond]) -> Any:
        # The choice comes first, so that each candidate's path asks only about itself.
        objects = self._objects[sort]
        number = self._settled(self.choose(name, (*range(len(objects)), None)))
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
        owner_id = self._settled(owner.index[0])
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
        old_id = self._settled(old.index[0])
        for addr in cast(list[Addr], self._objects[Sort.ADDR]):
            mapping = mm.at(addr)
            term = cast(FiniteTerm, mapping.owner.index[0])
            mapping.owner = term._map(lambda v: new if v == old_id and v is not True else v)

    @_whole
    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self.watch:
            branches, self.branches = self.branches, None
            self.findings += self._of_alike(
                "watch", event, functools.partial(self._found, self.watch, event)
            )
            self.branches = branches

    def _found(self, watch: Watch, event: Event) -> list[Finding]:
        allowed = self.restricted
        return [Finding(q, self._every_answer(ask), allowed) for q, ask in watch(self, event)]

    @_whole
    def seen(self, event: Event, look: Callable[[], T]) -> T:
        """What an onlooker sees in an event; the decisions that it takes are the run's."""
        return self._of_alike("onlooker", event, look)

    def _of_alike(self, who: str, event: Event, look: Callable[[], T]) -> T:
        """What ``look`` gives, or has given the same one of an event that is alike."""
        self._held = self.overlay
        situation = self.situations.of(who, event, self.overlay)
        found: Any = situation.recall(self.restricted)
        if found is None:
            allowed, wanted, count = self.restricted, dict[Source, None](), len(self.decisions)
            self.restricted = Noting(allowed, wanted)
            found = look()
            if len(self.decisions) == count:
                situation.learn(tuple(wanted), allowed, found)
                self.restricted = self._kept = allowed
            else:
                self.restricted = dict(self.restricted)
        return cast(T, found)

    def counterparts(self, claim: Callable[[], Cond | bool]) -> Sequence[Cond]:
        """Conditions each of which makes the claim false, or none where it is no negated
        disjunction that can be written down without a decision."""
        count = len(self.decisions)
        aside = self._step_aside()
        try:
            condition = claim()
        except Impossible:
            condition = True
        decided = len(self.decisions) > count
        self._step_back(aside)
        if decided or not isinstance(condition, FiniteCond):
            return ()
        return condition.none_of

    def _every_answer(self, evaluate: Callable[[], bool]) -> Answers:
        """Evaluate a condition for every decision it can take, without splitting the run."""
        count, prefix = len(self.decisions), self.prefix
        outer = tuple([d[2] for d in self.decisions])
        answers: Answers = []
        stack: list[tuple[bool, ...]] = [()]
        while stack:
            inner = stack.pop()
            self.prefix = outer + inner
            aside = self._step_aside()
            try:
                answer = evaluate()
            except Impossible:
                answer = None
            taken = self.decisions[count:]
            self._step_back(aside)
            answers.append((taken, answer))
            if taken:
                stack += untaken(taken, len(inner))
        self.prefix = prefix
        return answers

    def _step_aside(self) -> tuple[dict[Source, int], Tape, int]:
        """Begin something whose decisions are not the run's."""
        self._kept, found, self.found = self.restricted, self.found, []
        return self._kept, found, len(self.decisions)

    def _step_back(self, aside: tuple[dict[Source, int], Tape, int]) -> None:
        for term, _ in self.found:
            term.known = None
        self.restricted, self.found, count = aside
        del self.decisions[count:]

    def end(self) -> None:
        """Let go of the values: they know their run, and only together could they be freed.

        What was emitted keeps its own; the state after the run cannot be read any more.
        """
        self.overlay, self._before, self.events = _Ended(), {}, []
        self._objects, self._current, self._held, self._handles = {}, None, None, {}
        self.tape = self.found = NOWHERE
        self._told, self.script, self.branches = [], [], None
        self._constants, self._stored = {}, {}
        self.situations = Situations()

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
        self,
        domain: tuple[object, ...],
        source: Source | None,
        values: tuple[object, ...],
    ) -> tuple[int, ...]:
        """Where in a domain values are."""
        if source is not None and values is not source.labels:
            return tuple([_index(domain, v) for v in values])
        # Constants and copies: kept with the values, so that nothing else is these.
        key = id(domain), id(values)
        known = self._tables.get(key)
        if known is None:
            known = self._tables[key] = tuple([_index(domain, v) for v in values]), values
        return known[0]

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


def untaken(decisions: Sequence[Decision], known: int) -> list[tuple[bool, ...]]:
    """What was not decided after the ``known`` ones: the prefixes of those runs."""
    taken = tuple([d[2] for d in decisions])
    return [(*taken[:at], False) for at in range(len(decisions) - 1, known - 1, -1)]
