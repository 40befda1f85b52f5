"""The symbolic world against the finite world, on states that are given.

A z3 term becomes a Python function of a finite interpretation: tables for the state
variables, values for the constants.  What it computes owes nothing to a solver, and the same
interpretation serves any number of tasks and a bound's, quantifiers included.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, cast

import z3

from model.designs import Design
from model.events import Event
from model.kernel import STEPS, Step
from model.state import LEFT, NULL, Ctl, Exit, Kind, Off, Record, Sort, Task, fields
from properties import EventConjunct
from shstk.build import CLAIMS
from shstk.finite import Finding, Outcome, Run
from shstk.proof.invariants import Invariant
from shstk.proof.paths import Path
from shstk.proof.sorts import INDEX, NAMES, Universe, encode, functions
from shstk.running import runs, runs_step
from shstk.space import Cell, Space, Valuation

# What a size that is not zero may be.
SIZES = (1, 4096, 1 << 20, 1 << 32, (1 << 64) - 4096)
SORT_OF = {name: sort for sort, name in NAMES.items()}

# -- terms as Python ---------------------------------------------------------------

Compiled = Callable[["Interpretation", Mapping[str, Any]], Any]
_BITS = (1 << 64) - 1
_INFIX = {
    z3.Z3_OP_AND: (" and ", "True"),
    z3.Z3_OP_OR: (" or ", "False"),
}
_WORDS = {
    z3.Z3_OP_BADD: "(({0} + {1}) & {m})",
    z3.Z3_OP_BSUB: "(({0} - {1}) & {m})",
    z3.Z3_OP_BMUL: "(({0} * {1}) & {m})",
    z3.Z3_OP_BAND: "({0} & {1})",
    z3.Z3_OP_BOR: "({0} | {1})",
    z3.Z3_OP_BXOR: "({0} ^ {1})",
    z3.Z3_OP_BNOT: "({0} ^ {m})",
    z3.Z3_OP_BUDIV: "({0} // {1} if {1} else {m})",
    z3.Z3_OP_BUDIV_I: "({0} // {1})",
    z3.Z3_OP_BUREM: "({0} % {1} if {1} else {0})",
    z3.Z3_OP_BUREM_I: "({0} % {1})",
    z3.Z3_OP_ULEQ: "({0} <= {1})",
    z3.Z3_OP_ULT: "({0} < {1})",
    z3.Z3_OP_UGEQ: "({0} >= {1})",
    z3.Z3_OP_UGT: "({0} > {1})",
    z3.Z3_OP_NOT: "(not {0})",
    z3.Z3_OP_IMPLIES: "(not {0} or {1})",
    z3.Z3_OP_ITE: "({1} if {0} else {2})",
}


class _Writer:
    """Writes the body of a function that computes a term; ``bound`` are variables' names."""

    def __init__(self, known: list[Any], bound: tuple[str, ...], indent: str, names: Any) -> None:
        self.known, self.bound, self.indent, self.names = known, bound, indent, names
        self.lines: list[str] = []
        self.done: dict[int, str] = {}

    def value(self, term: Any) -> str:
        """The name of the variable that holds the term's value; writes what computes it."""
        stack = [term]
        while stack:
            t = stack[-1]
            missing = [] if z3.is_quantifier(t) else t.children()
            missing = [a for a in missing if a.get_id() not in self.done]
            if missing:
                stack += missing
                continue
            stack.pop()
            if t.get_id() not in self.done:
                name = f"t{next(self.names)}"
                text = self._quantified(t) if z3.is_quantifier(t) else self._applied(t)
                self.lines.append(f"{self.indent}{name} = {text}")
                self.done[t.get_id()] = name
        return self.done[term.get_id()]

    def _quantified(self, t: Any) -> str:
        own = [f"v{next(self.names)}" for _ in range(t.num_vars())]
        inner = _Writer(self.known, (*self.bound, *own), self.indent + "  ", self.names)
        result = inner.value(t.body())
        function = f"q{next(self.names)}"
        self.lines += [f"{self.indent}def {function}({', '.join(own)}):", *inner.lines]
        self.lines.append(f"{inner.indent}return {result}")
        loops = " ".join(f"for {v} in S.carrier[{str(t.var_sort(n))!r}]" for n, v in enumerate(own))
        return f"{'all' if t.is_forall() else 'any'}({function}({', '.join(own)}) {loops})"

    def _constant(self, value: object) -> str:
        self.known.append(value)
        return f"K[{len(self.known) - 1}]"

    def _applied(self, t: Any) -> str:
        if z3.is_var(t):
            return self.bound[-1 - int(z3.get_var_index(t))]
        if z3.is_bv_value(t):
            return str(t.as_long())
        kind, args = t.decl().kind(), [self.done[a.get_id()] for a in t.children()]
        if kind in (z3.Z3_OP_TRUE, z3.Z3_OP_FALSE):
            return str(kind == z3.Z3_OP_TRUE)
        if kind in _INFIX:
            word, empty = _INFIX[kind]
            return f"({word.join(args)})" if args else empty
        if kind in (z3.Z3_OP_EQ, z3.Z3_OP_DISTINCT):
            assert len(args) == 2
            return f"({args[0]} {'==' if kind == z3.Z3_OP_EQ else '!='} {args[1]})"
        if kind == z3.Z3_OP_DT_CONSTRUCTOR:
            return self._constant(member(t.decl().name()))
        if kind in (z3.Z3_OP_DT_IS, z3.Z3_OP_DT_RECOGNISER):
            return f"({args[0]} == {self._constant(member(t.decl().params()[0].name()))})"
        if kind == z3.Z3_OP_UNINTERPRETED:
            name = t.decl().name()
            if args:
                return f"S.tables[{name!r}][{', '.join(args)}]"
            return self._constant(SPECIAL[name]) if name in SPECIAL else f"C[{name!r}]"
        return self._word(t, kind, args)

    def _word(self, t: Any, kind: int, args: list[str]) -> str:
        if kind == z3.Z3_OP_EXTRACT:
            high, low = t.params()
            return f"({args[0]} >> {low} & {(1 << high - low + 1) - 1})"
        if kind == z3.Z3_OP_CONCAT:
            out = args[0]
            for part, name in zip(t.children()[1:], args[1:], strict=True):
                out = f"({out} << {part.size()} | {name})"
            return out
        mask = (1 << t.size()) - 1 if z3.is_bv(t) else _BITS
        form, out = _WORDS[kind], args[0]
        if len(args) > 2 and kind != z3.Z3_OP_ITE:
            for arg in args[1:]:
                out = form.format(out, arg, m=mask)
            return out
        return form.format(*args, m=mask)


SPECIAL = {f"NULL.{name}": NULL for name in NAMES.values()} | {"LEFT.Task": LEFT}
ENUMS = (Ctl, Exit, Kind, Off)
_MEMBERS: dict[str, object] = {f"{e.__name__}.{m.name}": m for e in ENUMS for m in e}


@cache
def member(name: str) -> object:
    """What a constant of an enumeration stands for, as the finite world has it."""
    if name in _MEMBERS:
        return _MEMBERS[name]
    name = name.partition("/")[0]
    if name in SPECIAL:
        return SPECIAL[name]
    sort = name.rstrip("0123456789")
    assert sort in SORT_OF, name
    return int(name.removeprefix(sort))


_COMPILED: dict[int, tuple[Any, Compiled]] = {}  # with the term, so that its id stays its own


def compiled(term: Any) -> Compiled:
    """The term as a function of an interpretation and of the values of its constants."""
    known = _COMPILED.get(term.get_id())
    if known is None:
        constants: list[Any] = []
        writer = _Writer(constants, (), "  ", itertools.count())
        result = writer.value(term)
        text = "\n".join(["def f(S, C):", *writer.lines, f"  return {result}"])
        scope: dict[str, Any] = {"K": constants}
        exec(compile(text, "<term>", "exec"), scope)
        known = _COMPILED[term.get_id()] = term, scope["f"]
    return known[1]


@dataclass
class Interpretation:
    """A state of the finite world: tables for the variables, and what sorts have in them.

    What a variable of NULL holds is arbitrary, and so is a size that is not zero.
    """

    tables: dict[str, dict[Any, Any]]
    carrier: dict[str, list[object]]

    @classmethod
    def of(cls, space: Space, state: Valuation, chance: random.Random) -> Interpretation:
        """The interpretation that a valuation stands for."""
        carrier: dict[str, list[object]] = {
            name: [NULL, *([LEFT] if sort is Sort.TASK else []), *range(space.bound.size(sort))]
            for sort, name in NAMES.items()
        }
        tables: dict[str, dict[Any, Any]] = {}
        for record, sorts in INDEX.items():
            for f in fields(record):
                table = tables[f"{record.__name__.lower()}.{f.name}"] = {}
                for index in itertools.product(*(carrier[NAMES[s]] for s in sorts)):
                    if all(type(i) is int for i in index):
                        cell = space.number(record, cast(tuple[int, ...], index), f.name)
                        value = space.domains[cell][state[cell]]
                    else:
                        value = chance.choice(space.domain(f))
                    if f.store is not None and value:
                        value = chance.choice(SIZES)
                    table[index if len(index) > 1 else index[0]] = value
        return cls(tables, carrier)


# -- the finite world ----------------------------------------------------------------


@dataclass
class Case:
    """A way that a step of the finite world goes, for so many values of its inputs."""

    status: str
    inputs: dict[str, list[object]] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)  # the inputs' names by their numbers
    outcome: Outcome | None = None
    no_object: bool = False  # it writes through NULL, or the task has no group or mm
    no_mm: bool = False  # it unmaps, copies or renames all of an mm, and that is NULL

    def samples(self, chance: random.Random) -> Iterator[dict[str, object]]:
        """Values of the inputs; each value of each input is in one of them."""
        values = {n: chance.sample(v, len(v)) for n, v in self.inputs.items()}
        for at in range(max(map(len, values.values()), default=1)):
            yield {n: v[at % len(v)] for n, v in values.items()}

    def combinations(self) -> Iterator[dict[str, object]]:
        """Every combination of values."""
        for each in itertools.product(*self.inputs.values()):
            yield dict(zip(self.inputs, each, strict=True))

    def said(self, finding: Finding, chosen: Mapping[str, object]) -> bool | None:
        """The answer to a question for some values of the inputs; None: through NULL."""
        answers = {
            answer
            for decisions, answer in finding.answers
            if all(
                (mask >> source.labels.index(chosen[self.sources[source.number]]) & 1) == outcome
                for source, mask, outcome in decisions
            )
        }
        (answer,) = answers
        return answer


def cases(
    space: Space,
    design: Design,
    state: Valuation,
    task: int,
    step: Step,
    switched_off: frozenset[str] = frozenset(),
) -> Iterator[Case]:
    """Every way that a step can go in a state, those that are impossible too."""
    met: list[Run] = []
    missing: list[str] = []

    def text(k: Any) -> None:
        met.append(k)
        if "write" in vars(k):  # of a run that begins as another one
            step.run(k)
            return
        write, inside = k.write, [False]

        def noted(record: Record, f: Any, value: object) -> None:
            index = [cast(Any, t).force() for t in record.index]
            if not all(isinstance(i, int) for i in index):
                missing.append("bulk" if inside[0] else "write")
            write(record, f, value)

        def bulk(primitive: Callable[..., None], *arguments: Any) -> None:
            inside[0] = True
            primitive(*arguments)
            inside[0] = False

        k.write = noted
        for name in ("copy_mappings", "clear_mappings", "replace_owner"):
            setattr(k, name, partial(bulk, getattr(k, name)))
        step.run(k)

    watched = replace(step, run=text)
    for outcome in runs_step(space, design, task, watched, state, switched_off, _watch):
        case = Case(outcome.status, outcome=outcome)
        if met:
            run = met.pop()
            names = [name for name, _ in run.inputs]
            assert len(set(names)) == len(names), "an input is known by its name"
            for name, source in run.inputs:
                allowed = run.allowed(source)
                case.inputs[name] = [v for i, v in enumerate(source.labels) if allowed >> i & 1]
                case.sources[source.number] = name
            case.no_object, case.no_mm = "write" in missing, "bulk" in missing
        elif outcome.status == "impossible":
            case.no_object = True
        missing.clear()
        yield case


def _watch(run: Run, event: Event) -> list[tuple[object, Callable[[], bool]]]:
    """Ask of an event what every claim about its type says, in the order of the paths' claims."""
    out: list[tuple[object, Callable[[], bool]]] = []
    for part in CLAIMS:
        c = part.conjunct
        if isinstance(c, EventConjunct) and isinstance(event, c.event):
            for text in (c.holds, c.premise):
                out.append((part.name, partial(_truth, text, run, event)))
    return out


def _truth(claim: Callable[..., object], *arguments: object) -> bool:
    return bool(claim(*arguments))


def claim_in(
    space: Space, design: Design, state: Valuation, claim: Invariant, objects: Sequence[int]
) -> bool | None:
    """What the finite world says of a claim about objects; None: it looks through NULL."""
    answers: list[bool] = []

    def ask(k: Any) -> None:
        handles = [k._objects[s][o] for s, o in zip(claim.sorts, objects, strict=True)]
        answers.append(bool(claim.claim(k, *handles)))

    for outcome in runs(space, design, 0, ask, state):
        if outcome.status == "impossible":
            return None
    return answers[0]


# -- states --------------------------------------------------------------------------

GENTLE = 0.95  # few tasks die
DEADLY = frozenset({"exit", "exit-group", "sigkill", "exec", "exec-failure", "fault"})


def walk(space: Space, design: Design, chance: random.Random, longest: int = 20) -> Valuation:
    """A reachable state; the steps on the way are arbitrary, but few tasks die."""
    state = space.initial
    for _ in range(chance.randrange(longest)):
        task = chance.randrange(space.bound.tasks)
        ctl = space.value(state, Task, task, "ctl")
        able = [s for s in STEPS if ctl in s.at]
        able = [s for s in able if s.family not in DEADLY or chance.random() > GENTLE]
        if not able:
            continue
        taken = runs_step(space, design, task, chance.choice(able), state)
        after = [following(state, o) for o in taken if o.status == "done"]
        state = chance.choice(after) if after else state
    return state


def following(state: Valuation, outcome: Outcome) -> Valuation:
    """The state after a step's outcome in a given state."""
    values = list(state)
    for cell, (source, table) in outcome.updates.items():
        assert source is None, "an update of a given state is a constant"
        values[cell] = table[0]
    return tuple(values)


def any_state(space: Space, design: Design, chance: random.Random) -> Valuation:
    """A reachable state, one that differs from it in a few variables, or any at all."""
    kind = chance.randrange(5)
    if kind == 0:
        return tuple(chance.randrange(len(d)) for d in space.domains)
    state = list(walk(space, design, chance))
    for _ in range(0 if kind < 3 else chance.randrange(1, 5)):
        cell = chance.randrange(len(state))
        state[cell] = chance.randrange(len(space.domains[cell]))
    return tuple(state)


def witness(
    space: Space, path: Path, chance: random.Random | None = None
) -> tuple[Valuation, int] | None:
    """A state of a bound, and a task, whose step takes this path; None: a solver knows none.

    With ``chance`` the state is as arbitrary as the path lets it be.
    """
    universe, base = path.world.universe, functions(path.world.universe)
    assert universe.elements is not None
    elements = universe.elements
    solver = z3.Solver()
    (current,) = path.world.index(path.world.current)
    solver.add(path.condition, *(real for _, real in path.needs))
    solver.add(universe.is_object(Sort.TASK, current))
    cells = []
    for cell in space.cells:
        sorts = INDEX[cell.record]
        index = [elements[s][i] for s, i in zip(sorts, cell.index, strict=True)]
        term = base[cell.field](*index)
        if cell.field.sort is Sort.TASK and LEFT not in cell.domain:
            solver.add(term != universe.left)
        cells.append((cell, term))
    if solver.check() != z3.sat:
        return None
    if chance:
        wishes = [term == _some_value(universe, cell, chance) for cell, term in cells]
        _wish(solver, chance.sample(wishes, len(wishes)))
        solver.check()
    model = solver.model()
    values = []
    for cell, term in cells:
        value = compiled(model.eval(term, model_completion=True))(Interpretation({}, {}), {})
        kept = cell.field.store(value) if cell.field.store is not None else value
        values.append(cell.domain.index(kept))
    task = model.eval(current, model_completion=True)
    return tuple(values), cast(int, member(task.decl().name()))


def _some_value(universe: Universe, cell: Cell, chance: random.Random) -> Any:
    value = chance.choice(cell.domain)
    if cell.field.store is not None and value:
        value = chance.choice(SIZES)
    return encode(universe, cell.field, value)


def _wish(solver: z3.Solver, wishes: Sequence[Any]) -> None:
    """Assert as many of the wishes as agree with what is asserted and come first."""
    if solver.check(*wishes) == z3.sat:
        solver.add(*wishes)
    elif len(wishes) > 1:
        _wish(solver, wishes[: len(wishes) // 2])
        _wish(solver, wishes[len(wishes) // 2 :])
