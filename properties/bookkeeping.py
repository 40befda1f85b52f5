"""Features, locks and what exec resets."""

from model.events import ExecStarted, FeatureChanged, Unmapped
from model.state import NO, NULL, SHADOW_KINDS, YES, Task
from model.world import Cond
from properties.clone import inherited, off_is_noop
from properties.vocabulary import Judged, can_run, declare, on


@inherited.whenever(FeatureChanged, "lock-respected")
def _(k: Judged, event: FeatureChanged) -> Cond:
    return ~event.locked


@inherited.every_task("wrss-implies-on", premise=lambda k, t: can_run(t) & (t.wrss == YES))
def _(k: Judged, t: Task) -> Cond:
    return ~(can_run(t) & (t.wrss == YES)) | on(t)


exec_resets = declare(
    "exec-resets",
    "a started image has nothing of the old one's shadow-stack state",
    "Documentation/arch/x86/shstk.rst, 6.12",
)


@exec_resets.whenever(ExecStarted, "bookkeeping-reset")
def _(k: Judged, event: ExecStarted) -> Cond:
    t = event.task
    return (
        (t.base == NULL)
        & (t.size == 0)
        & (t.ssp == NULL)
        & (t.shstk == NO)
        & (t.wrss == NO)
        & (t.locked_shstk == NO)
        & (t.locked_wrss == NO)
    )


@exec_resets.whenever(ExecStarted, "no-old-stack-in-new-mm")
def _(k: Judged, event: ExecStarted) -> Cond:
    mm = event.task.mm
    return ~k.exists_addr(lambda a: mm.at(a).kind.isin(SHADOW_KINDS))


@off_is_noop.whenever(Unmapped, "no-unmapping")
def _(k: Judged, event: Unmapped) -> Cond:
    return k.design.enabled(k.before(event.task)) | k.design.enabled(k.before(k.current))
