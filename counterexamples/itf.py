"""Traces as files: the Informal Trace Format (ITF, Apalache's ADR-015), JSON.

A state's variables are ``tasks``, ``groups`` and ``mms`` (a list per mm of its mappings by
address), lists of records; objects are numbers from 0, enumeration members their names.
The step that led to a state is ``mbt::actionTaken``, ``init`` in the first; its task and
its choices are ``mbt::nondetPicks``.  What a reader can do without is ``#meta``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from counterexamples.trace import Extent, Fields, Pick, StateView, Trace, TraceStep, Value
from model.designs import DESIGNS, function_of, in_words, source_of
from model.kernel import STEPS
from model.state import Field, Group, Mapping, Record, Sort, Task, fields
from properties import PROPERTIES

FORMAT = "https://apalache-mc.org/docs/adr/015adr-trace.html"
ACTION, PICKS, INIT = "mbt::actionTaken", "mbt::nondetPicks", "init"
VARS = ("groups", ACTION, PICKS, "mms", "tasks")
BY_NAME = {step.name: step for step in STEPS}
DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,39}")


class ItfError(ValueError):
    """What is wrong with a file, where, and what would be right, in one line."""


# -- writing -----------------------------------------------------------------------


def write(trace: Trace, path: Path) -> None:
    """Write a trace to a file, whose name ends in ``.itf.json``."""
    if not path.name.endswith(".itf.json"):
        raise ItfError(f"{path.name}: the name of a trace's file ends in .itf.json")
    path.write_text(dumps(trace), encoding="utf-8")


def dumps(trace: Trace) -> str:
    """A trace in ITF; equal traces give equal bytes."""
    states = [_state(trace.initial, 0, INIT, {}, {})]
    for index, step in enumerate(trace.steps, 1):
        if "task" in step.picks:
            raise ItfError("a choice is called 'task': ITF keeps that name for whose step it is")
        meta: dict[str, object] = {"notes": step.notes, "violations": step.violations}
        if step.step in BY_NAME:
            known = BY_NAME[step.step]
            design = DESIGNS.get(trace.design)
            meta["meaning"] = in_words(known.meaning, design)
            meta["function"] = function_of(known, design)
            meta["source"] = source_of(known, design)
        picks = {"task": step.task, **step.picks}
        states.append(_state(step.state, index, step.step, picks, meta))
    meta = {
        "format": "ITF",
        "format-description": FORMAT,
        "description": f"{trace.design} violates {trace.claim}",
        "design": trace.design,
        "property": trace.property,
        "conjunct": trace.conjunct,
        "where": trace.where,
        "environment": trace.environment,
        "bound": trace.bound._asdict(),
    }
    if trace.aftermath:
        meta["aftermath"] = trace.aftermath
    lines = ["{", f' "#meta": {_json(meta)},']
    if trace.loop is not None:
        lines.append(f' "loop": {trace.loop},')
    lines += [' "states": [', ",\n".join(states), " ],", f' "vars": {_json(VARS)}', "}"]
    return "\n".join(lines) + "\n"


def _state(
    state: StateView,
    index: int,
    action: str,
    picks: dict[str, Pick],
    meta: dict[str, object],
) -> str:
    """A state, a variable per line."""
    variables = {
        "#meta": {"index": index, **meta},
        "groups": [_record(group) for group in state["groups"]],
        ACTION: action,
        PICKS: {"#map": [[name, _value(pick)] for name, pick in sorted(picks.items())]},
        "mms": [[_record(mapping) for mapping in mm] for mm in state["mms"]],
        "tasks": [_record(task) for task in state["tasks"]],
    }
    body = ",\n".join(f"   {_json(name)}: {_json(value)}" for name, value in variables.items())
    return f"  {{\n{body}\n  }}"


def _record(fields_: Fields) -> dict[str, object]:
    return {name: _value(value) for name, value in fields_.items()}


def _value(value: Value | Pick) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int) and not isinstance(value, bool):
        return {"#bigint": str(value)}
    return value


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


# -- reading -----------------------------------------------------------------------


def read(path: Path) -> Trace:
    """Read a trace from a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ItfError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ItfError(f"{path}: not text in UTF-8, as ITF is") from None
    try:
        return loads(text)
    except ItfError as error:
        raise ItfError(f"{path}: {error}") from None


def loads(text: str) -> Trace:
    """A trace from its ITF text."""
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ItfError:
        raise
    except json.JSONDecodeError as error:
        _refuse(f"line {error.lineno}", f"not JSON: {error.msg}", "ITF is JSON")
    except (ValueError, RecursionError):
        _refuse("the file", "numbers too long or nesting too deep", "ITF writes #bigint strings")
    top = _object(data, "the file", ("#meta", "states", "vars"), ("loop", "params"))
    variables = _list(top["vars"], "vars")
    if sorted(map(_show, variables)) != sorted(map(_show, VARS)):
        _refuse("vars", _show(variables), f"expected {', '.join(VARS)}")
    meta = _any_object(top["#meta"], "#meta")
    bound = _bound(meta)
    states = _list(top["states"], "states")
    if not states:
        _refuse("states", "there is none", "a trace has at least its initial state")
    initial, *steps = [_read_state(s, i, bound) for i, s in enumerate(states)]
    if not isinstance(initial, dict):
        _refuse(f"states[0].{ACTION}", _show(initial.step), f"the first state is {INIT!r}'s")
    prop, conjunct = _claim(meta)
    return Trace(
        design=_text(meta, "design"),
        property=prop,
        conjunct=conjunct,
        where=_text(meta, "where"),
        environment=_text(meta, "environment"),
        bound=bound,
        initial=initial,
        steps=tuple(_as_step(s, i) for i, s in enumerate(steps, 1)),
        loop=_loop(top, len(states)),
        aftermath=_texts(meta, "aftermath", "the file"),
    )


def _bound(meta: dict[str, Any]) -> Extent:
    bound = _object(meta.get("bound"), "#meta.bound", Extent._fields)
    for name, number in bound.items():
        if type(number) is not int or not 1 <= number <= 1000:
            _refuse(f"#meta.bound.{name}", _show(number), "expected a number from 1 to 1000")
    return Extent(**bound)


def _claim(meta: dict[str, Any]) -> tuple[str, str]:
    if meta.get("format") != "ITF":
        _refuse("#meta.format", _show(meta.get("format")), 'expected "ITF"')
    prop, conjunct = _text(meta, "property"), _text(meta, "conjunct")
    if prop not in PROPERTIES:
        _refuse("#meta.property", _show(prop), f"no such property{_near(prop, PROPERTIES)}")
    names = [c.name for c in PROPERTIES[prop].conjuncts]
    if conjunct not in names:
        _refuse("#meta.conjunct", _show(conjunct), f"{prop} has {', '.join(names)}")
    return prop, conjunct


def _loop(top: dict[str, Any], states: int) -> int | None:
    if "loop" not in top:
        return None
    loop = top["loop"]
    if type(loop) is not int or not 0 <= loop < states - 1:
        _refuse("loop", _show(loop), "expected the number of a state before the last")
    return int(loop)


def _as_step(state: StateView | TraceStep, index: int) -> TraceStep:
    if not isinstance(state, TraceStep):
        _refuse(f"states[{index}].{ACTION}", f'"{INIT}"', "only the first state is the initial one")
    return state


def _read_state(data: object, index: int, bound: Extent) -> StateView | TraceStep:
    """The initial state, or a later one with the step that led to it."""
    where = f"states[{index}]"
    state = _object(data, where, VARS, ("#meta",))
    meta = _any_object(state.get("#meta", {}), f"{where}.#meta")
    if type(meta.get("index", index)) is not int or meta.get("index", index) != index:
        _refuse(f"{where}.#meta.index", _show(meta["index"]), f"expected {index}")
    view: StateView = {
        "tasks": _records(state["tasks"], f"{where}.tasks", Task, bound.tasks, bound),
        "groups": _records(state["groups"], f"{where}.groups", Group, bound.tasks, bound),
        "mms": tuple(
            _records(mm, f"{where}.mms[{i}]", Mapping, bound.stacks, bound)
            for i, mm in enumerate(_list(state["mms"], f"{where}.mms", bound.mms))
        ),
    }
    action = state[ACTION]
    picks = _picks(state[PICKS], f"{where}.{PICKS}")
    if action == INIT:
        if picks:
            _refuse(f"{where}.{PICKS}", "the initial state has choices", "expected none")
        return view
    if not isinstance(action, str) or action not in BY_NAME:
        _refuse(f"{where}.{ACTION}", _show(action), f"no such step{_near(action, BY_NAME)}")
    task = picks.pop("task", None)
    if type(task) is not int or not 0 <= task < bound.tasks:
        _refuse(f"{where}.{PICKS}", f"task {_show(task)}", f"expected one of {bound.tasks} tasks")
    notes, violations = (_texts(meta, key, where) for key in ("notes", "violations"))
    return TraceStep(task, action, picks, view, notes, violations)


def _records(
    data: object, where: str, record: type[Record], count: int, bound: Extent
) -> tuple[Fields, ...]:
    known = {f.name: f for f in fields(record)}
    records = []
    for i, item in enumerate(_list(data, where, count)):
        values = _object(item, f"{where}[{i}]", known)
        records.append(
            {n: _field(f, values[n], f"{where}[{i}].{n}", bound) for n, f in known.items()}
        )
    return tuple(records)


def _field(field: Field[Any], data: object, where: str, bound: Extent) -> Value:
    """A state variable's value: a member of its domain."""
    names = {v.name: v for v in field.values if isinstance(v, Enum)}
    if isinstance(data, str) and data in names:
        return names[data]
    if field.sort is not None:
        count = {Sort.MM: bound.mms, Sort.ADDR: bound.stacks}.get(field.sort, bound.tasks)
        if isinstance(data, dict) and 0 <= (number := _bigint(data, where)) < count:
            return number
        number_ = '{"#bigint": "N"}'
        _refuse(where, _show(data), f"expected {', '.join(names)}, or {number_}, N < {count}")
    if isinstance(field.values[0], bool):
        if not isinstance(data, bool):
            _refuse(where, _show(data), "expected true or false")
        return data
    if names:
        _refuse(where, _show(data), f"expected one of {', '.join(names)}")
    number = _bigint(data, where)
    if not 0 <= number < 1 << 64:
        _refuse(where, _show(data), "expected an unsigned number of 64 bits")
    return number


def _picks(data: object, where: str) -> dict[str, Pick]:
    picks: dict[str, Pick] = {}
    for item in _list(_object(data, where, ("#map",))["#map"], where):
        pair = _list(item, where, 2)
        name, value = pair
        if not isinstance(name, str) or name in picks:
            _refuse(where, _show(name), "expected the name of a choice, each once")
        if not isinstance(value, (bool, str)):
            value = _bigint(value, f"{where}[{_show(name)}]")
        picks[name] = value
    return picks


def _bigint(data: object, where: str) -> int:
    digits = data.get("#bigint") if isinstance(data, dict) and len(data) == 1 else None
    if not isinstance(digits, str) or not DECIMAL.fullmatch(digits):
        _refuse(where, _show(data), 'expected an integer as {"#bigint": "5"}')
    return int(digits)


def _text(meta: dict[str, Any], key: str) -> str:
    value = meta.get(key)
    if not isinstance(value, str):
        _refuse(f"#meta.{key}", _show(value), "expected a string")
    return value


def _texts(meta: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _list(meta.get(key, []), f"{where}.#meta.{key}")
    for value in values:
        if not isinstance(value, str):
            _refuse(f"{where}.#meta.{key}", _show(value), "expected strings")
    return tuple(values)


def _list(data: object, where: str, count: int | None = None) -> list[Any]:
    if not isinstance(data, list):
        _refuse(where, _show(data), "expected a list")
    if count is not None and len(data) != count:
        _refuse(where, f"{len(data)} elements", f"expected {count}")
    return data


def _any_object(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        _refuse(where, _show(data), "expected an object")
    return data


def _object(
    data: object, where: str, needed: Iterable[str], allowed: Iterable[str] = ()
) -> dict[str, Any]:
    """An object with exactly the keys that are needed, and perhaps some that are allowed."""
    found = _any_object(data, where)
    names = list(needed)
    for name in names:
        if name not in found:
            _refuse(where, f"{name!r} is missing", f"expected {', '.join(names)}")
    for name in found:
        if name not in names and name not in allowed:
            _refuse(where, f"{_show(name)} is unknown", f"expected {', '.join(names)}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("the file", f"an object has one of {_show(list(found))} twice", "expected it once")
    return found


def _no_constant(name: str) -> NoReturn:
    _refuse("the file", name, "JSON has no such number")


def _near(name: object, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name)[:100], names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _show(data: object) -> str:
    """A short form of what was found, in one line of ASCII."""
    try:
        text = json.dumps(data)
    except RecursionError:
        text = "something nested deep"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse(where: str, found: str, right: str) -> NoReturn:
    raise ItfError(f"{where}: {found}; {right}")
