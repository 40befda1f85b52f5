"""Nested vforks: the tasks on one stack are a chain, and only the youngest of them runs.

A vfork child runs on its parent's stack while that waits, and may vfork again.  Who made whom
on a stack cannot be said of two tasks at a time; who is older can (``k.older``).
"""

from model.kernel.signal import fatal_signal_pending
from model.state import LEFT, NULL, Ctl, Sort, Task
from model.world import Cond, World
from properties.lemmas.cloning import cloning
from properties.vocabulary import Dated, chain_lemma, on

NOT_ON = (
    *(Ctl.DEAD, Ctl.NEW, Ctl.WORKER),
    *(Ctl.EXIT_RELEASED, Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED),
)


def waits(t: Task) -> Cond:
    """A vfork parent whose child has not let go of its mm."""
    return (t.ctl == Ctl.VFORK_WAIT) & (t.child != NULL)


def stays(t: Task) -> Cond:
    """``t`` has not let go of the stack it is on, or of who waits for that."""
    alive = ~fatal_signal_pending(t) | (t.size != 0) | (t.vfork_done != NULL) | waits(t)
    return on(t) & ~t.ctl.isin(NOT_ON) & alive


def same_stack(t: Task, u: Task) -> Cond:
    """SSP of both points into the same mapping."""
    return (t.mm == u.mm) & (t.ssp == u.ssp)


def on_top(t: Task) -> Cond:
    """``t`` is on a stack and does not wait for a child on it."""
    return stays(t) & ~(waits(t) & same_stack(t, t.child))


@chain_lemma("owner-is-on-its-stack", "a stack that a task is on has its owner on it", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    owner = t.mm.at(t.ssp).owner
    there = (owner != NULL) & (owner != LEFT) & stays(owner) & (owner.ssp == t.ssp)
    return ~stays(t) | there


@chain_lemma("forked-has-its-stack", "a clone in flight with its own mm owns its stack", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    child = t.child
    forked = cloning(t) & (child.mm != t.mm) & on(child)
    return ~forked | (child.mm.at(child.ssp).owner == child)


@chain_lemma("parent-is-older", "who makes a child or waits for it is older", Sort.TASK)
def _(k: Dated, t: Task) -> Cond:
    return (t.child == NULL) | k.older(t, t.child)


@chain_lemma("owner-is-oldest", "a stack's owner is the oldest task on it", Sort.TASK)
def _(k: Dated, t: Task) -> Cond:
    owner = t.mm.at(t.ssp).owner
    return ~stays(t) | (owner == t) | k.older(owner, t)


@chain_lemma(
    "top-is-youngest",
    "on a stack, who does not wait for a child on it is the youngest",
    Sort.TASK,
    Sort.TASK,
)
def _(k: Dated, t: Task, u: Task) -> Cond:
    both = on_top(t) & stays(u) & same_stack(t, u)
    return ~both | (t == u) | k.older(u, t)


@chain_lemma(
    "nobody-between",
    "nobody on a stack is younger than a vfork parent on it and older than its child there",
    Sort.TASK,
    Sort.TASK,
)
def _(k: Dated, t: Task, u: Task) -> Cond:
    child = t.child
    chain = waits(t) & stays(t) & same_stack(t, child) & stays(u) & same_stack(t, u)
    return ~chain | (u == t) | (u == child) | k.older(u, t) | k.older(child, u)
