"""Who is on which stack."""

from model.kernel.signal import fatal_signal_pending
from model.state import NULL, SHADOW_KINDS, Ctl, Sort, Task
from model.world import Cond, World
from properties.vocabulary import lemma, on

PAST_USER = (
    Ctl.EXITING,
    Ctl.EXIT_RELEASED,
    Ctl.EXEC_RELEASED,
    Ctl.EXEC_SWITCHED,
    Ctl.EXEC_DE_THREAD,
)


def goes_on(t: Task) -> Cond:
    """``t`` may yet run in user mode on the stack that SSP points into."""
    return on(t) & ~t.ctl.isin((*PAST_USER, Ctl.DEAD, Ctl.WORKER)) & ~fatal_signal_pending(t)


@lemma("on-its-own", "a task that may run is on a stack of its own", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    at = t.mm.at(t.ssp)
    return ~goes_on(t) | ((at.owner == t) & at.kind.isin(SHADOW_KINDS))


@lemma("runs-on-mapped", "a task that may run is on a mapped shadow stack", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~goes_on(t) | t.mm.at(t.ssp).kind.isin(SHADOW_KINDS)


@lemma("on-its-record", "a task that may run on a recorded stack is on that one", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return ~goes_on(t) | (t.base == NULL) | (t.ssp == t.base)
