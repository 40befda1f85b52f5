"""Operations: what a task can be told to do, by name, with typed arguments.

An operation is a function ``(machine, thread, arguments)``; its signature is its syntax in
scenario files, its docstring their documentation.  It may return a number: an address, or
what was read.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType, TypeVar

from model.reference.machine import Effect, Machine
from model.reference.system import Thread

Address = NewType("Address", int)  # a number, a name, a register, or one of these plus bytes
Bytes = NewType("Bytes", int)  # a size
NewTask = NewType("NewTask", str)  # the name of a task to be made
TaskName = NewType("TaskName", str)  # the name of a task there is


Run = TypeVar("Run", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """An argument of an operation.  ``choices``: the words it can be; empty: anything."""

    name: str
    kind: Any
    choices: tuple[str, ...]
    default: Any  # inspect.Parameter.empty: it must be given

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Operation:
    """Something a task can be told to do.  ``chapter`` groups them in the documentation.

    ``gives``: it returns a number, or None where it fails.
    """

    name: str
    chapter: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., int | None]
    gives: bool

    @property
    def meaning(self) -> str:
        """The first line of its docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0].rstrip(".")

    @property
    def syntax(self) -> str:
        """For example ``ret [imm=0]``."""
        words = [self.name]
        for p in self.parameters:
            word = "|".join(p.choices) or p.name.upper()
            if p.kind is bool:
                words.append(f"[{p.name}]")
            elif p.required:
                words.append(word)
            else:
                words.append(f"[{p.name}={word if p.choices else p.name.upper()}]")
        return " ".join(words)


OPERATIONS: dict[str, Operation] = {}


def operation(chapter: str, name: str = "") -> Callable[[Run], Run]:
    """Register an operation; ``name`` where it is no Python name."""

    def register(run: Run) -> Run:
        hints = typing.get_type_hints(run)
        parameters = [
            Parameter(p.name, _kind(hints[p.name]), _choices(hints[p.name]), p.default)
            for p in list(inspect.signature(run).parameters.values())[2:]
        ]
        called = name or run.__name__
        gives = int in _alternatives(hints["return"])
        OPERATIONS[called] = Operation(called, chapter, tuple(parameters), run, gives)
        return run

    return register


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows: X | None allows X and NoneType."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _given(hint: Any) -> Any:
    """The type of an argument that is given: X of X | None."""
    return next(each for each in _alternatives(hint) if each is not types.NoneType)


def _kind(hint: Any) -> Any:
    given = _given(hint)
    return str if typing.get_origin(given) is typing.Literal else given


def _choices(hint: Any) -> tuple[str, ...]:
    given = _given(hint)
    return typing.get_args(given) if typing.get_origin(given) is typing.Literal else ()


@dataclass(frozen=True)
class Done:
    """What an operation did: its effects in order, and the number it gives."""

    effects: tuple[Effect, ...]
    value: int | None


def do(machine: Machine, task: str, name: str, /, *args: Any, **arguments: Any) -> Done:
    """A task does an operation, and the kernel carries on by itself if the machine is settled.

    Raises NotNow where it cannot happen in this state, KeyError for unknown names.
    """
    start = len(machine.effects)
    thread = machine.thread(task)
    value = OPERATIONS[name].run(machine, thread, *args, **arguments)
    if machine.settled:
        settle(machine)
    return Done(tuple(machine.effects[start:]), value)


def settle(machine: Machine) -> None:
    """The kernel, and the user code that is still to run, until nothing goes on by itself."""
    machine.settle()
    while any(user_code(machine, t) for t in list(machine.system.threads.values())):
        machine.settle()


def user_code(machine: Machine, thread: Thread) -> bool:
    """Run the next operation that a task still has to do, if it can."""
    if thread.tid not in machine.system.threads or not thread.todo:
        return False
    if not machine.can_run(thread):
        return False
    name, args, arguments = thread.todo.popleft()
    OPERATIONS[name].run(machine, thread, *args, **arguments)
    return True
