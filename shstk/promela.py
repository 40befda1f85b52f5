"""A program as a Promela model: a second opinion on the engine, by Spin.

The model has one variable per cell and one process, a loop.  Its reachable states
are those of an exploration without symmetry and without pruning, one for one:

* the variables start with the first initial state, so that the state before any step is
  that of the loop; other initial states are steps from the first one;
* each effect that a transition tree can have is an option of the loop, one indivisible
  step, under the condition that some path leads to it;
* subtrees with many effects become options of options; where none of those is enabled the
  process returns to the loop in the state it was in;
* updates are sequences of assignments; where they need temporaries these are hidden, so
  not part of the state;
* what cannot give a new state is left out: saturated leaves, and updates without effect;
* variables that nothing reads are tested for values that they cannot have, as Spin leaves
  out of the state what is only written;
* a TRAP, in a tree or in an update's table, is a failed assertion.

State predicates are left out, and transitions with the same effect are one: only numbers
of states compare.  Run with

    spin -a MODEL && cc -O1 -DNOREDUCE -DSAFETY -o pan pan.c && ./pan -E -mDEPTH

where DEPTH is so great that Spin does not find it too small; -O0 for the compiler is
better for searches of a few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shstk.engine.program import LEAF, TEST, TRAP, Leaf, Program

#: Subtrees with this many effects become options of options.
_LARGE: Final = 8
_INDENT: Final = "   "
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

#: The values that the cells tested on a path have.
_Known = Mapping[int, frozenset[int]]


def to_promela(program: Program, names: Sequence[str], header: str) -> str:
    """The model; cell ``task0.ctl`` becomes variable ``task0_ctl``, ``header`` a comment."""
    program.validate()
    return _Model(program, names).text(header)


@dataclass(frozen=True)
class _Effect:
    """What happens in one step, or a choice among such steps."""

    statements: tuple[str, ...]
    label: str = ""
    nested: bool = False

    def option(self, condition: str, inside: bool) -> str:
        """An option of a loop, or of a choice ``inside`` an atomic sequence."""
        comment = f" /* {self.label} */" if self.label else ""
        if not self.nested:
            return f":: d_step {{ {condition} -> {'; '.join(self.statements)} }}{comment}"
        body = [_INDENT + line for option in self.statements for line in option.splitlines()]
        choice = ["if", *body, f"{_INDENT}:: else", "fi"]
        if inside:
            first, last = [f":: {condition} ->"], []
        else:
            first, last = [f":: atomic {{ {condition} ->"], ["}"]
        return "\n".join([*first, *(_INDENT + line for line in choice), *last])


#: Effects, each with the condition under which it is possible: any of the strings.
_Effects = dict[_Effect, tuple[str, ...]]

_FAILURE: Final = _Effect(("assert(false)",))
#: The condition that always holds.
_ALWAYS: Final = ("true",)


class _Model:
    """The program and the names of its variables."""

    def __init__(self, program: Program, names: Sequence[str]) -> None:
        self.program = program
        self.sizes = program.layout.cell_size
        self.names = [name.replace(".", "_") for name in names]
        if len(names) != len(self.sizes) or len(set(self.names)) != len(names):
            raise ValueError(f"{len(set(self.names))} names for {len(self.sizes)} cells")
        for name in self.names:
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"no Promela identifier: {name!r}")
        self.temporaries = 0

    def text(self, header: str) -> str:
        """The whole model."""
        variables = list(zip(self.names, self.sizes, strict=True))
        options = self._initial_options()
        for root in self.program.roots:
            options += _options(self._effects(root, {}), inside=False)
        code = re.sub(r"/\*.*?\*/", "", "\n".join(options))
        read = set(re.findall(r"\b(\w+)\b(?! = )", code))
        unread = [f"{name} > {max(1, size)}" for name, size in variables if name not in read]
        if unread or not options:
            options.append(f":: d_step {{ {_any(unread or ['false'])} -> assert(false) }}")
        lines = [f"/* {line} */" for line in header.replace("*/", "* /").splitlines()]
        lines.append("")
        first = self.program.initial[0]
        for (name, size), value in zip(variables, first, strict=True):
            lines.append(f"{_type(size)} {name} = {value};")
        kind = _type(max((3, *self.sizes)))
        lines += [f"hidden {kind} saved{i};" for i in range(self.temporaries)]
        lines += ["", "init {", "end:", f"{_INDENT}do"]
        for option in options:
            lines += [_INDENT + line for line in option.splitlines()]
        lines += [f"{_INDENT}od", "}", ""]
        return "\n".join(lines)

    def _initial_options(self) -> list[str]:
        """Steps from the first initial state to the others."""
        first, *others = self.program.initial
        here = [self._member(cell, {value}) for cell, value in enumerate(first)]
        options = []
        for other in dict.fromkeys(others):
            effect = self._update(Leaf(0, consts=tuple(enumerate(other))), "initial state")
            if other != first:
                options.append(effect.option(_all(here), inside=False))
        return options

    # Trees.

    def _effects(self, node: int, known: _Known) -> _Effects:
        """The effects of a tree where the cells in ``known`` have those values."""
        if node == TRAP:
            return {_FAILURE: _ALWAYS}
        if node < 0:
            return {}
        kind, operand = self.program.nodes[node], self.program.nodes[node + 1]
        if kind == LEAF:
            leaf = self.program.leaves[operand]
            if leaf.saturated or self._is_idle(leaf, known):
                return {}
            return {self._update(leaf, f"action {leaf.action}"): _ALWAYS}
        if kind == TEST:
            return self._test(operand, self.program.children(node), known)
        effects: _Effects = {}
        for child in self.program.children(node):
            for effect, ways in self._effects(child, known).items():
                effects[effect] = _any_of((*effects.get(effect, ()), *ways))
        return effects

    def _test(self, cell: int, children: Sequence[int], known: _Known) -> _Effects:
        """The effects of a TEST node; values that make no difference go together."""
        possible = known.get(cell, frozenset(range(self.sizes[cell])))
        groups: dict[int, set[int]] = {}
        for value in sorted(possible):
            groups.setdefault(children[value], set()).add(value)
        values: dict[_Effect, dict[tuple[str, ...], set[int]]] = {}
        for child, group in groups.items():
            effects = self._effects(child, {**known, cell: frozenset(group)})
            if len(effects) >= _LARGE and len(groups) > 1:
                choice = _Effect(tuple(_options(effects, inside=True)), nested=True)
                effects = {choice: _ALWAYS}
            for effect, ways in effects.items():
                values.setdefault(effect, {}).setdefault(ways, set()).update(group)
        return {
            effect: _any_of(
                _all([self._member(cell, members, possible), _any(ways)])
                for ways, members in by_ways.items()
            )
            for effect, by_ways in values.items()
        }

    def _member(
        self, cell: int, values: Iterable[int], possible: Iterable[int] | None = None
    ) -> str:
        """That a cell has one of the values, whichever of two forms is shorter."""
        name, size = self.names[cell], self.sizes[cell]
        members = set(values)
        others = set(range(size) if possible is None else possible) - members
        if not others:
            return "true"
        inside = [_range(name, run, "==", ">=", "&&", "<=") for run in _runs(members)]
        outside = [_range(name, run, "!=", "<", "||", ">") for run in _runs(others)]
        if len(outside) < len(inside) or len(others) < len(members):
            return " && ".join(outside)
        return _any(inside)

    # Updates.

    def _is_idle(self, leaf: Leaf, known: _Known) -> bool:
        """Whether a leaf leads back to every state in which cells have the known values."""

        def stays(dst: int, src: int, table: Sequence[int]) -> bool:
            before = known.get(src, frozenset(range(self.sizes[src])))
            after = {table[value] for value in before}
            if dst == src and all(table[value] == value for value in before):
                return True
            return len(after) == 1 and after == known.get(dst, frozenset())

        return all(stays(d, s, self.program.tables[t]) for d, s, t in leaf.moves) and all(
            known.get(dst) == frozenset({value}) for dst, value in leaf.consts
        )

    def _update(self, leaf: Leaf, label: str) -> _Effect:
        """The assignments of a leaf, in an order in which each reads old values."""
        asserts: list[str] = []
        todo: dict[int, tuple[int, Sequence[int]]] = {}
        for dst, src, number in leaf.moves:
            table = self.program.tables[number]
            if TRAP in table:
                possible = [value for value, to in enumerate(table) if to != TRAP]
                asserts.append(f"assert({self._member(src, possible) if possible else 'false'})")
            if dst != src or not _is_identity(table):
                todo[dst] = src, table
        saved: dict[int, str] = {}
        writes: list[str] = []
        while todo:
            needed = {src for dst, (src, _) in todo.items() if src != dst} - saved.keys()
            unread = [dst for dst in todo if dst not in needed]
            if not unread:
                # Each of the rest is read by another: save one.
                unread = [next(iter(todo))]
                name = saved[unread[0]] = f"saved{len(saved)}"
                writes.append(f"{name} = {self.names[unread[0]]}")
            src, entries = todo.pop(unread[0])
            source = saved.get(src, self.names[src])
            writes.append(f"{self.names[unread[0]]} = {_lookup(source, entries)}")
        self.temporaries = max(self.temporaries, len(saved))
        writes += [f"{self.names[dst]} = {value}" for dst, value in leaf.consts]
        return _Effect((*asserts, *writes), label)


def _options(effects: _Effects, *, inside: bool) -> list[str]:
    """Effects as options."""
    return [effect.option(_any(ways), inside) for effect, ways in effects.items()]


def _all(conditions: Iterable[str]) -> str:
    """A conjunction."""
    return " && ".join(c for c in conditions if c != "true") or "true"


def _any(conditions: Sequence[str]) -> str:
    """A disjunction."""
    return conditions[0] if len(conditions) == 1 else f"({' || '.join(conditions)})"


def _any_of(conditions: Iterable[str]) -> tuple[str, ...]:
    """Conditions of which any will do."""
    ways = tuple(dict.fromkeys(conditions))
    return _ALWAYS if "true" in ways else ways


def _type(size: int) -> str:
    """The type of a variable with that many values."""
    return "bit" if size <= 2 else "byte" if size <= 256 else "short"


def _runs(values: set[int]) -> list[tuple[int, int]]:
    """Runs of consecutive values, first and last of each."""
    runs: list[tuple[int, int]] = []
    for value in sorted(values):
        if runs and runs[-1][1] == value - 1:
            runs[-1] = runs[-1][0], value
        else:
            runs.append((value, value))
    return runs


def _range(name: str, run: tuple[int, int], one: str, least: str, join: str, most: str) -> str:
    """A condition on one run of values, with the operators given."""
    low, high = run
    if low == high:
        return f"{name} {one} {low}"
    return f"({name} {least} {low} {join} {name} {most} {high})"


def _is_identity(table: Sequence[int]) -> bool:
    return list(table) == list(range(len(table)))


def _lookup(source: str, table: Sequence[int]) -> str:
    """An expression for a table's entry; entries that are TRAP are asserted not to matter."""
    if _is_identity(table):
        return source
    results: dict[int, list[int]] = {}
    for value, to in enumerate(table):
        if to != TRAP:
            results.setdefault(to, []).append(value)
    if not results:
        return "0"
    # The most frequent result needs no condition.
    *rare, default = sorted(results.items(), key=lambda item: len(item[1]))
    text = str(default[0])
    for to, values in reversed(rare):
        test = " || ".join(f"{source} == {value}" for value in values)
        text = f"({test} -> {to} : {text})"
    return text
