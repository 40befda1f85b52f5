"""What switching shadow stacks on and off does, and what it leaves where it fails."""

from model.events import Failed, FeatureChanged
from model.kernel.errno import EOPNOTSUPP
from model.state import NULL, SHADOW_KINDS, Off, Task
from model.world import Cond
from properties.vocabulary import Judged, declare, on


def _was_on(k: Judged, e: FeatureChanged) -> Cond:
    """The call switches shadow stacks off, not on."""
    return k.design.enabled(k.before(e.task))


switched = declare(
    "switch-takes-effect",
    "enabling that succeeds puts the task on an empty stack of its own, disabling leaves it "
    "on none, and what fails changes nothing",
    "Documentation/arch/x86/shstk.rst, 6.12; shstk_setup(), shstk_disable()",
)


@switched.whenever(FeatureChanged, "on-its-own", premise=lambda k, e: ~_was_on(k, e))
def _(k: Judged, event: FeatureChanged) -> Cond:
    t = event.task
    stack = t.mm.at(t.ssp)
    own = on(t) & (t.base == t.ssp) & stack.kind.isin(SHADOW_KINDS) & (stack.owner == t)
    return _was_on(k, event) | (k.design.enabled(t) & own)


@switched.whenever(FeatureChanged, "at-the-top", premise=lambda k, e: ~_was_on(k, e))
def _(k: Judged, event: FeatureChanged) -> Cond:
    return _was_on(k, event) | (event.task.off == Off.TOP)


@switched.whenever(FeatureChanged, "off", premise=_was_on)
def _(k: Judged, event: FeatureChanged) -> Cond:
    t = event.task
    return ~_was_on(k, event) | (~k.design.enabled(t) & (t.ssp == NULL))


@switched.every_task("no-offset", premise=lambda k, t: _resets(k) & ~on(t))
def _(k: Judged, t: Task) -> Cond | bool:
    return ~(_resets(k) & ~on(t)) | (t.off == Off.TOP)


def _resets(k: Judged) -> bool:
    """Where shadow stacks are off SSP is 0; arm64 leaves GCSPR_EL0 as it is."""
    return k.design.architecture != "arm64"


@switched.whenever(Failed, "nothing-changed")
def _(k: Judged, event: Failed) -> Cond:
    now, before = event.task, k.before(event.task)
    same: Cond = (
        (now.base == before.base)
        & (now.size == before.size)
        & (now.ssp == before.ssp)
        & (now.shstk == before.shstk)
    )
    return same


@switched.whenever(Failed, "unsupported", premise=lambda k, e: e.errno == EOPNOTSUPP)
def _(k: Judged, event: Failed) -> Cond | bool:
    # in_ia32_syscall(): a 32-bit caller is refused and stays without.
    return event.errno != EOPNOTSUPP or ~k.design.enabled(event.task)
