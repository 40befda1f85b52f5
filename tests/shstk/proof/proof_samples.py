"""Batches like those that steps and invariants make: tasks, mms and addresses without number.

A small life cycle of shadow stacks, written in z3 terms as the machinery writes it: NULL is
an element that no quantifier ranges over, an update is an if-then-else over the old function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3

from shstk.proof.batch import Batch, batch

TASK, MM, ADDR = (z3.DeclareSort(n) for n in ("Task", "Mm", "Addr"))
CTL, (USER, COPIED, WAITS, EXITING, DEAD) = z3.EnumSort(
    "SampleCtl", ["Ctl.USER", "Ctl.COPIED", "Ctl.VFORK_WAIT", "Ctl.EXIT_MM", "Ctl.DEAD"]
)
KIND, (NOTHING, SHADOW, COPY, OTHER) = z3.EnumSort(
    "SampleKind", ["Kind.NOTHING", "Kind.SHSTK", "Kind.COPY", "Kind.OTHER"]
)
NO_TASK, NO_MM, NO_ADDR = (z3.Const(f"NULL.{s.name()}", s) for s in (TASK, MM, ADDR))
WORD = z3.BitVecSort(64)
FIELDS: dict[str, tuple[Any, ...]] = {
    "task.ctl": (TASK, CTL),
    "task.mm": (TASK, MM),
    "task.base": (TASK, ADDR),
    "task.size": (TASK, WORD),
    "task.ssp": (TASK, ADDR),
    "task.vfork_done": (TASK, TASK),
    "task.worker": (TASK, z3.BoolSort()),
    "mapping.kind": (MM, ADDR, KIND),
    "mapping.owner": (MM, ADDR, TASK),
}
State = dict[str, Callable[..., Any]]


def start() -> State:
    """The variables before the step."""
    return {name: z3.Function(name, *sorts) for name, sorts in FIELDS.items()}


def written(s: State, name: str, at: tuple[Any, ...], value: Any) -> State:
    """The state in which one variable of one object has changed."""
    old = s[name]

    def new(*index: Any) -> Any:
        same = z3.And(*(a == b for a, b in zip(index, at, strict=True)))
        return z3.If(same, value, old(*index))

    return s | {name: new}


def every(sorts: tuple[Any, ...], body: Callable[..., Any]) -> Any:
    """``body`` is true of all objects."""
    nulls = {TASK: NO_TASK, MM: NO_MM, ADDR: NO_ADDR}
    bound = [z3.FreshConst(s, s.name().lower()) for s in sorts]
    real = [v != nulls[s] for v, s in zip(bound, sorts, strict=True)]
    return z3.ForAll(bound, z3.Implies(z3.And(*real), body(*bound)))


def some(sorts: tuple[Any, ...], body: Callable[..., Any]) -> Any:
    """``body`` is true of some objects."""
    return z3.Not(every(sorts, lambda *v: z3.Not(body(*v))))


def invariant(s: State) -> dict[str, Any]:
    """Claims about a state that the steps below keep."""
    ctl, mm, base, size = s["task.ctl"], s["task.mm"], s["task.base"], s["task.size"]
    ssp, vfork = s["task.ssp"], s["task.vfork_done"]
    kind, owner = s["mapping.kind"], s["mapping.owner"]
    alive = lambda t: ctl(t) != DEAD  # noqa: E731
    has = lambda t: z3.And(alive(t), base(t) != NO_ADDR)  # noqa: E731
    return {
        "alive-has-mm": every((TASK,), lambda t: z3.Implies(alive(t), mm(t) != NO_MM)),
        "base-and-size": every((TASK,), lambda t: (base(t) == NO_ADDR) == (size(t) == 0)),
        "size-is-pages": every((TASK,), lambda t: z3.URem(size(t), 4096) == 0),
        "dead-has-nothing": every(
            (TASK,), lambda t: z3.Implies(ctl(t) == DEAD, base(t) == NO_ADDR)
        ),
        "base-is-owned": every(
            (TASK,),
            lambda t: z3.Implies(
                has(t), z3.And(kind(mm(t), base(t)) == SHADOW, owner(mm(t), base(t)) == t)
            ),
        ),
        "ssp-is-mapped": every(
            (TASK,), lambda t: z3.Implies(has(t), kind(mm(t), ssp(t)) != NOTHING)
        ),
        "separate": every(
            (TASK, TASK),
            lambda t, u: z3.Implies(
                z3.And(has(t), has(u), t != u, mm(t) == mm(u)), base(t) != base(u)
            ),
        ),
        "owned-has-owner": every(
            (MM, ADDR),
            lambda m, a: z3.Implies(
                kind(m, a) == SHADOW,
                some((TASK,), lambda t: z3.And(has(t), mm(t) == m, base(t) == a)),
            ),
        ),
        "nothing-is-nobodys": every(
            (MM, ADDR), lambda m, a: (kind(m, a) == NOTHING) == (owner(m, a) == NO_TASK)
        ),
        "waits-for-somebody": every(
            (TASK,),
            lambda t: z3.Implies(
                ctl(t) == WAITS,
                some((TASK,), lambda u: z3.And(alive(u), vfork(u) == t, mm(u) == mm(t))),
            ),
        ),
        "ssp-on-own-stack": every((TASK,), lambda t: z3.Implies(has(t), ssp(t) == base(t))),
    }


def exit_mm(s: State, t: Any) -> State:
    """The task's stack is unmapped, its bookkeeping reset, whoever waits for it is woken."""
    m, a = s["task.mm"](t), s["task.base"](t)
    mine = z3.And(a != NO_ADDR, s["mapping.owner"](m, a) == t)
    parent = s["task.vfork_done"](t)
    after = written(s, "mapping.kind", (m, a), z3.If(mine, NOTHING, s["mapping.kind"](m, a)))
    gone = z3.If(mine, NO_TASK, s["mapping.owner"](m, a))
    after = written(after, "mapping.owner", (m, a), gone)
    after = written(after, "task.base", (t,), NO_ADDR)
    after = written(after, "task.size", (t,), z3.BitVecVal(0, 64))
    after = written(after, "task.vfork_done", (t,), NO_TASK)
    waits = z3.And(parent != NO_TASK, s["task.ctl"](parent) == WAITS)
    after = written(after, "task.ctl", (parent,), z3.If(waits, USER, s["task.ctl"](parent)))
    return written(after, "task.ctl", (t,), DEAD)


def alloc(s: State, t: Any, a: Any, size: Any) -> State:
    """A stack of a rounded size is allocated for a task that has none, where nothing is."""
    m = s["task.mm"](t)
    rounded = (size + z3.BitVecVal(4095, 64)) & z3.BitVecVal(~4095 & (1 << 64) - 1, 64)
    after = written(s, "mapping.kind", (m, a), SHADOW)
    after = written(after, "mapping.owner", (m, a), t)
    after = written(after, "task.base", (t,), a)
    after = written(after, "task.ssp", (t,), a)
    return written(after, "task.size", (t,), rounded)


def steps() -> list[Batch]:
    """Two steps keep the invariant."""
    s = start()
    t, a = z3.Const("current", TASK), z3.Const("addr", ADDR)
    size = z3.Const("size", WORD)
    inv = list(invariant(s).values())
    common = [*inv, t != NO_TASK, s["task.ctl"](t) == EXITING, s["task.mm"](t) != NO_MM]
    free = [
        *inv,
        t != NO_TASK,
        a != NO_ADDR,
        s["task.ctl"](t) == USER,
        s["task.base"](t) == NO_ADDR,
        s["mapping.kind"](s["task.mm"](t), a) == NOTHING,
        size != 0,
        z3.ULE(size, z3.BitVecVal(1 << 32, 64)),
    ]
    return [
        batch("sample/exit_mm/1", common, invariant(exit_mm(s, t))),
        batch("sample/alloc/1", free, invariant(alloc(s, t, a, size))),
    ]


def pages() -> Batch:
    """Facts about PAGE_ALIGN on 64 bits."""
    x, page = z3.Const("x", WORD), z3.BitVecVal(4096, 64)
    mask = z3.BitVecVal((1 << 64) - 4096, 64)
    up = (x + z3.BitVecVal(4095, 64)) & mask
    down = x & mask
    small = z3.ULE(x, z3.BitVecVal((1 << 64) - 4096, 64))
    return batch(
        "sample/pages/1",
        [small],
        {
            "multiple": z3.URem(up, page) == 0,
            "not-below": z3.UGE(up, x),
            "less-than-a-page": z3.ULT(up - x, page),
            "shift": z3.UDiv(x, page) == z3.LShR(x, 12),
            "down-up": z3.Implies(z3.URem(x, page) == 0, z3.And(up == x, down == x)),
            "quarter": z3.ULE(z3.UDiv(up, 4), up),
            "idempotent": (up + z3.BitVecVal(4095, 64)) & mask == up,
            "simplified": z3.simplify(z3.UDiv(up, page) * page) == up,
        },
    )


def all_samples() -> list[Batch]:
    """All of them."""
    return [*steps(), pages()]
