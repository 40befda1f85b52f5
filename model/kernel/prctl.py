"""arch_prctl of shadow-stack features (arch/x86/kernel/shstk.c of 6.12, elf_feature_prctl.c of v1).

Disabling is two steps, so that a fatal signal can arrive in between.  UNLOCK (ptrace,
CONFIG_CHECKPOINT_RESTORE) is left out.
"""

from __future__ import annotations

from model.events import Failed, FeatureChanged
from model.kernel.signal import fatal_signal_pending
from model.kernel.steps import step
from model.state import NO, YES, Ctl
from model.world import World

SHSTK, WRSS = "SHSTK", "WRSS"


@step(Ctl.USER, family="enable", function="arch_prctl", source="")
def enable(k: World) -> None:
    """arch_prctl: enable shadow stacks"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    k.require(current.locked_shstk == NO)
    k.require(~k.design.enabled(current))
    err = k.design.shstk_setup(k)
    if err != 0:
        k.emit(Failed(current, err))
        return
    k.emit(FeatureChanged(current, current.locked_shstk == YES))


@step(Ctl.USER, family="disable", function="arch_prctl", source="")
def disable(k: World) -> None:
    """arch_prctl: disable shadow stacks"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    k.require(current.locked_shstk == NO)
    k.require(k.design.enabled(current))
    current.ctl = Ctl.PRCTL_DISABLE


@step(Ctl.PRCTL_DISABLE, source="")
def shstk_disable(k: World) -> None:
    """shadow stacks are switched off and the stack is given up"""
    current = k.current
    if k.design.shstk_disable(k) != 0:
        return
    k.emit(FeatureChanged(current, current.locked_shstk == YES))
    current.ctl = Ctl.USER


@step(Ctl.USER, family="lock", function="arch_prctl", source="")
def lock(k: World) -> None:
    """arch_prctl: lock a feature"""
    current = k.current
    k.require(~fatal_signal_pending(current))
    k.require(k.design.can_lock(current))
    if k.choose("feature", k.design.lockable) == SHSTK:
        current.locked_shstk = True
        return
    current.locked_wrss = True


@step(Ctl.USER, family="wrss", function="wrss_control", source="")
def wrss_control(k: World) -> None:
    """arch_prctl: WRSS on or off"""
    current = k.current
    k.require(k.design.has_wrss)
    k.require(~fatal_signal_pending(current))
    k.require(current.locked_wrss == NO)
    k.require(k.design.enabled(current))
    if current.wrss == YES:
        current.wrss = False
        return
    current.wrss = True
