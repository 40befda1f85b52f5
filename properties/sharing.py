"""Who is on which stack: sharing, dangling pointers."""

from model.state import SHADOW_KINDS, Task
from model.world import Cond
from properties.vocabulary import Judged, can_run, declare, on

separate_stacks = declare(
    "separate-stacks",
    "no two tasks that can run are on one mapping",
    "v1 28/35, log: CLONE_VM child and parent must have separate shadow stacks",
)


@separate_stacks.every_task(
    "one-task-per-stack",
    premise=lambda k, t: (
        can_run(t) & on(t) & k.exists_task(lambda u: (u != t) & can_run(u) & on(u))
    ),
)
def _(k: Judged, t: Task) -> Cond:
    return ~(
        can_run(t)
        & on(t)
        & k.exists_task(lambda u: (u != t) & (u.mm == t.mm) & (u.ssp == t.ssp) & can_run(u))
    )


no_dangling_ssp = declare(
    "no-dangling-ssp",
    "a task that can run with shadow stacks on has SSP in a mapped shadow stack",
    "v1 28/35, log: 'CET does not add any additional limitations for vfork()'",
)


@no_dangling_ssp.every_task("ssp-mapped", premise=lambda k, t: can_run(t) & on(t))
def _(k: Judged, t: Task) -> Cond:
    return ~(can_run(t) & on(t)) | t.mm.at(t.ssp).kind.isin(SHADOW_KINDS)
