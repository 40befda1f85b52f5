"""Traces as ITF files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterexamples import itf
from counterexamples.trace import Extent, StateView, Trace, TraceStep
from model.kernel import STEPS
from model.state import Group, Mapping, Record, Sort, Task, fields
from properties import PROPERTIES

CLAIMS = [(p.id, c.name) for p in PROPERTIES.values() for c in p.conjuncts]
NAMES = [step.name for step in STEPS]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def records(record: type[Record], bound: Extent) -> st.SearchStrategy[Any]:
    """Objects with any value in every field."""
    count = {Sort.MM: bound.mms, Sort.ADDR: bound.stacks}
    values: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(record):
        domain = list(field.values)
        if field.sort is not None:
            domain += range(count.get(field.sort, bound.tasks))
        values[field.name] = st.sampled_from(domain)
    return st.fixed_dictionaries(values)


def states(bound: Extent) -> st.SearchStrategy[StateView]:
    """Any state of a bound."""

    def several(record: type[Record], count: int) -> st.SearchStrategy[Any]:
        return st.lists(records(record, bound), min_size=count, max_size=count).map(tuple)

    mms = st.lists(several(Mapping, bound.stacks), min_size=bound.mms, max_size=bound.mms)
    tasks, groups = several(Task, bound.tasks), several(Group, bound.tasks)
    view = st.fixed_dictionaries({"tasks": tasks, "groups": groups, "mms": mms.map(tuple)})
    return view  # type: ignore[return-value]


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any trace, also such as no design has."""
    bound = Extent(*(draw(st.integers(1, 2)) for _ in range(3)))
    pick = st.booleans() | st.integers(0, 1 << 64) | st.text()
    picks = st.dictionaries(st.text().filter(lambda name: name != "task"), pick, max_size=3)
    texts = st.lists(st.text(), max_size=2).map(tuple)
    step = st.builds(
        TraceStep,
        st.integers(0, bound.tasks - 1),
        st.sampled_from(NAMES),
        picks,
        states(bound),
        texts,
        texts,
    )
    steps = draw(st.lists(step, max_size=2))
    prop, conjunct = draw(st.sampled_from(CLAIMS))
    loop = draw(st.none() | st.integers(0, len(steps) - 1)) if steps else None
    texts_ = [draw(st.text()) for _ in range(3)]
    return Trace(
        design=texts_[0],
        property=prop,
        conjunct=conjunct,
        where=texts_[1],
        environment=texts_[2],
        bound=bound,
        initial=draw(states(bound)),
        steps=tuple(steps),
        loop=loop,
    )


@settings(max_examples=50)
@given(traces())
def test_round_trip(trace: Trace) -> None:
    """What is read is what was written, types included."""
    text = itf.dumps(trace)
    back = itf.loads(text)
    assert back == trace
    assert itf.dumps(back) == text


@settings(max_examples=50)
@given(traces())
def test_shape(trace: Trace) -> None:
    """Every variable is in every state, without bare numbers; states are numbered from 0."""
    data = json.loads(itf.dumps(trace))
    for index, state in enumerate(data["states"]):
        assert set(state) == {"#meta", *data["vars"]}
        assert state.pop("#meta")["index"] == index
        for path in places(state):
            assert isinstance(part_of(state, path), (bool, str, list, dict))
    assert data["states"][0]["mbt::actionTaken"] == "init"


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of a JSON value is."""
    found = [path]
    if isinstance(data, (dict, list)):
        keys = data if isinstance(data, dict) else range(len(data))
        for key in keys:
            found += places(data[key], (*path, key))
    return found


def part_of(data: Any, path: Sequence[Any]) -> Any:
    """The part of a JSON value at a place."""
    for key in path:
        data = data[key]
    return data


@settings(max_examples=50)
@given(traces(), st.data())
def test_damaged_files_are_refused_in_one_line(trace: Trace, data: st.DataObject) -> None:
    """A part replaced or removed gives a trace or an ItfError of one line."""
    whole = json.loads(itf.dumps(trace))
    *path, last = data.draw(st.sampled_from(places(whole)[1:]))
    part = part_of(whole, path)
    if data.draw(st.booleans()):
        del part[last]
    else:
        part[last] = data.draw(JSON)
    refuse_or_read(json.dumps(whole))


@given(st.text() | JSON.map(json.dumps))
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    """No text gives another exception."""
    refuse_or_read(text)


@pytest.mark.parametrize(
    "text", ["[" * 100000, '{"a":' * 5000, "1" * 5000, '{"vars": 1, "vars": 2}', "NaN", '"\\ud800"']
)
def test_hostile_json_is_refused(text: str) -> None:
    """Nesting, endless numbers, keys given twice and NaN are refused too."""
    with pytest.raises(itf.ItfError):
        itf.loads(text)


def refuse_or_read(text: str) -> None:
    """Reading succeeds, or fails with one line."""
    try:
        itf.loads(text)
    except itf.ItfError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("states", 0, "tasks", 0, "ctl"), "USERS", "states[0].tasks[0].ctl"),
        (("states", 1, "tasks", 0, "mm"), {"#bigint": "9"}, "N < 2"),
        (("states", 1, "tasks", 0, "mm"), 0, 'expected NULL, or {"#bigint": "N"}'),
        (("states", 1, "mbt::actionTaken"), "vforc", "did you mean 'vfork'?"),
        (("#meta", "property"), "own-mmm", "did you mean 'own-mm'?"),
        (("#meta", "bound", "tasks"), 3, "expected 3"),
        (("loop",), 1, "before the last"),
    ],
)
def test_errors_say_where_and_what_would_be_right(
    path: tuple[Any, ...], value: object, message: str
) -> None:
    """The message names the place and what is expected there."""
    whole = json.loads(itf.dumps(SMALL))
    part_of(whole, path[:-1])[path[-1]] = value
    with pytest.raises(itf.ItfError) as error:
        itf.loads(json.dumps(whole))
    assert message in str(error.value)


def initial(record: type[Record]) -> dict[str, Any]:
    """An object nobody has used yet."""
    return {field.name: field.values[0] for field in fields(record)}


NOTHING: StateView = {
    "tasks": (initial(Task),) * 2,
    "groups": (initial(Group),) * 2,
    "mms": ((initial(Mapping),) * 2,) * 2,
}
SMALL = Trace(
    "v1",
    "own-mm",
    "nothing-else-hit",
    "?",
    "ordinary",
    Extent(2, 2, 2),
    NOTHING,
    (TraceStep(0, "vfork", {}, NOTHING),),
)


def test_files(tmp_path: Path) -> None:
    """A trace is written to a file of the right name and read from it."""
    path = tmp_path / "trace.itf.json"
    itf.write(SMALL, path)
    assert itf.read(path) == SMALL
    with pytest.raises(itf.ItfError, match="ends in .itf.json"):
        itf.write(SMALL, tmp_path / "trace.json")


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is missing, a directory, or not text is refused in one line."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", ".", "binary"):
        with pytest.raises(itf.ItfError) as caught:
            itf.read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
    (tmp_path / "scenario").write_text("P vfork C\n")
    with pytest.raises(itf.ItfError) as caught:
        itf.read(tmp_path / "scenario")
    assert str(caught.value).startswith(f"{tmp_path / 'scenario'}: line 1: not JSON")


def test_a_choice_called_task_is_refused() -> None:
    """The task that takes a step has that name among its choices."""
    step = TraceStep(0, "vfork", {"task": 1}, NOTHING)
    trace = Trace(**{**vars(SMALL), "steps": (step,)})
    with pytest.raises(itf.ItfError, match="'task'"):
        itf.dumps(trace)
