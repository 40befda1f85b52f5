"""Who is there: task slots, groups, exec, and address spaces without users."""

from model.kernel.signal import fatal_signal_pending
from model.state import LEFT, NO, NULL, Addr, Ctl, Group, Kind, Mm, Sort, Task
from model.world import Cond, World
from properties.vocabulary import lemma


@lemma("dead-has-no-mm", "a free task slot uses no mm and is in no group", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.DEAD) | ((t.mm == NULL) & (t.group == NULL))


@lemma("dead-has-no-stack", "a free task slot has no stack, no waiter and no child", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    nothing: Cond = (
        (t.base == NULL)
        & (t.size == 0)
        & (t.ssp == NULL)
        & (t.vfork_done == NULL)
        & (t.child == NULL)
    )
    return (t.ctl != Ctl.DEAD) | nothing


@lemma("live-has-mm", "a task that is there has an mm and a group", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl == Ctl.DEAD) | ((t.mm != NULL) & (t.group != NULL))


@lemma("references-are-tasks", "what a task waits for or makes is a task", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.child != LEFT) & (t.vfork_done != LEFT)


@lemma("not-its-own-child", "no task is its own child, or waits for itself", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.child != t) & (t.vfork_done != t)


@lemma("exec-task-is-a-task", "who is in de_thread() is a task", Sort.GROUP)
def _(k: World, g: Group) -> Cond:
    return g.exec_task != LEFT


@lemma("exec-task-is-there", "a group's exec_task is its member, and in de_thread()", Sort.GROUP)
def _(k: World, g: Group) -> Cond:
    e = g.exec_task
    return (e == NULL) | ((e.group == g) & (e.ctl == Ctl.EXEC_DE_THREAD))


@lemma("de-thread-is-noted", "a task in de_thread() is its group's exec_task", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.ctl != Ctl.EXEC_DE_THREAD) | (t.group.exec_task == t)


@lemma(
    "exec-is-alone-in-group", "past de_thread() a task is alone in its group", Sort.TASK, Sort.TASK
)
def _(k: World, t: Task, u: Task) -> Cond:
    past = t.ctl.isin((Ctl.EXEC_RELEASED, Ctl.EXEC_SWITCHED))
    return ~past | (t == u) | (t.group != u.group)


@lemma("nobody-nowhere", "an mm with something mapped in it has a user", Sort.MM, Sort.ADDR)
def _(k: World, m: Mm, a: Addr) -> Cond:
    return (m.at(a).kind == Kind.FREE) | k.exists_task(lambda t: t.mm == m)


@lemma(
    "new-image-is-alone", "nobody else uses the mm of an image to be started", Sort.TASK, Sort.TASK
)
def _(k: World, t: Task, u: Task) -> Cond:
    return (t.ctl != Ctl.EXEC_SWITCHED) | (t == u) | (t.mm != u.mm)


@lemma(
    "switched-in-exec-only",
    "mm_switched is true of an image to be started, or of the dying",
    Sort.TASK,
)
def _(k: World, t: Task) -> Cond:
    return (
        (t.mm_switched == NO)
        | (t.ctl == Ctl.EXEC_SWITCHED)
        | fatal_signal_pending(t)
        | (t.ctl.isin((Ctl.EXITING, Ctl.EXIT_RELEASED)))
    )


@lemma("leaving-for-good", "past exec's release a task in user mode is dying", Sort.TASK)
def _(k: World, t: Task) -> Cond:
    return (t.mm_switched == NO) | (t.ctl != Ctl.USER) | fatal_signal_pending(t)
