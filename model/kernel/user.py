"""What user code does to mappings and to SSP.

CALL and RET are here only as touching the stack that SSP points into; what they do
to its contents, signal frames included, belongs to the CPU's text, and the executable
reference machine checks that these steps are what comes of it.  Left out: mprotect of a
shadow stack (the life cycle sees it as munmap that can be undone), WRSS and hand-made
tokens, more than one token on a stack, and SAVEPREVSSP later than right after RSTORSSP.
"""

from __future__ import annotations

from model.kernel.signal import fatal_signal_pending, force_fatal_sig
from model.kernel.steps import step
from model.state import NO, NULL, SHADOW_KINDS, YES, Ctl, Kind, Off
from model.world import Cond, World


def stack_is_there(k: World) -> Cond:
    """SSP points into a mapped shadow stack."""
    current = k.current
    return current.mm.at(current.ssp).kind.isin(SHADOW_KINDS)


def begin_user(k: World) -> None:
    """The task runs in user mode."""
    k.require(~fatal_signal_pending(k.current))


@step(Ctl.USER, family="run", function="CALL", source="SDM vol. 2, CALL")
def call(k: World) -> None:
    """CALL, or a signal delivered: the task writes below SSP"""
    current = k.current
    begin_user(k)
    k.require(current.ssp != NULL)
    if ~stack_is_there(k):
        force_fatal_sig(k, current)
        return
    current.off = Off.INSIDE
    stack = current.mm.at(current.ssp)
    if stack.token == YES:  # below SSP, it may be what is overwritten
        stack.token = k.choose("token after", (True, False))


@step(Ctl.USER, family="pivot", function="setup_signal_shadow_stack", source="")
def signal_with_token(k: World) -> None:
    """a signal is delivered; its frame on the shadow stack is a restore token"""
    current = k.current
    begin_user(k)
    k.require(k.design.signal_frame_is_token)
    k.require(current.ssp != NULL)
    k.require(stack_is_there(k))
    current.off = Off.INSIDE
    current.mm.at(current.ssp).token = True


@step(Ctl.USER, family="fault", function="force_sig_fault", source="arch/x86/kernel/traps.c, 6.12")
def fault(k: World) -> None:
    """an exception that the program does not handle: SIGSEGV"""
    begin_user(k)
    force_fatal_sig(k, k.current)


@step(Ctl.USER, family="run", function="RET", source="SDM vol. 2, RET")
def ret(k: World) -> None:
    """RET, INCSSP or sigreturn: the task reads at SSP and moves it up"""
    current = k.current
    begin_user(k)
    k.require(current.ssp != NULL)
    if ~stack_is_there(k):
        force_fatal_sig(k, current)
        return
    if current.off == Off.TOP:
        k.require(k.may("fault"))
        force_fatal_sig(k, current)
        return
    current.off = k.choose("SSP after", (Off.INSIDE, Off.TOP))


@step(Ctl.USER, family="mmap", source="mm/mmap.c, 6.12")
def mmap(k: World) -> None:
    """user code maps something at a free address"""
    begin_user(k)
    mm = k.current.mm
    mm.at(k.fresh_addr(mm, "addr")).kind = Kind.ORDINARY


@step(Ctl.USER, family="mmap", source="mm/mmap.c, 6.12")
def munmap(k: World) -> None:
    """user code unmaps ordinary memory of its own"""
    begin_user(k)
    mapping = k.current.mm.at(k.any_addr("addr"))
    k.require(mapping.kind == Kind.ORDINARY)
    k.reset(mapping)


@step(Ctl.USER, family="map-shadow-stack", source="arch/x86/kernel/shstk.c, 6.12")
def map_shadow_stack(k: World) -> None:
    """map_shadow_stack(2), with a restore token or without"""
    begin_user(k)
    k.require(k.design.configured)
    mm = k.current.mm
    mapping = mm.at(k.fresh_addr(mm, "addr"))
    mapping.kind = Kind.MAP
    mapping.token = k.choose("SHADOW_STACK_SET_TOKEN", (True, False))


@step(Ctl.USER, family="pivot", function="RSTORSSP", source="SDM vol. 2, RSTORSSP")
def rstorssp(k: World) -> None:
    """RSTORSSP to a stack with a restore token; SAVEPREVSSP may leave one on the old

    RSTORSSP puts SSP at the token, SAVEPREVSSP above it: at the top, where the token was
    the kernel's.  RSTORSSP does not touch the old stack, which may be gone.
    """
    current = k.current
    begin_user(k)
    k.require(current.ssp != NULL)
    addr = k.any_addr("to")
    target = current.mm.at(addr)
    k.require(target.kind.isin(SHADOW_KINDS))
    k.require(target.token == YES)
    save = k.may("pivot", "SAVEPREVSSP")
    if save:
        k.require(stack_is_there(k))
    target.token = False
    if save:
        current.mm.at(current.ssp).token = True
        current.off = k.choose("SSP after", (Off.TOP, Off.INSIDE))
    else:
        current.off = Off.INSIDE
    current.ssp = addr


@step(Ctl.USER, family="mseal", source="mm/mseal.c, 6.12")
def mseal(k: World) -> None:
    """mseal(2) of a shadow stack"""
    begin_user(k)
    k.require(k.design.has_mseal)
    mapping = k.current.mm.at(k.any_addr("addr"))
    k.require(mapping.kind.isin(SHADOW_KINDS))
    k.require(mapping.sealed == NO)
    mapping.sealed = True


@step(Ctl.USER, family="munmap-shstk", function="munmap", source="mm/mmap.c, 6.12")
def munmap_shadow_stack(k: World) -> None:
    """user code unmaps a shadow stack, its own or another's"""
    begin_user(k)
    mapping = k.current.mm.at(k.any_addr("addr"))
    k.require(mapping.kind.isin(SHADOW_KINDS))
    k.require(mapping.sealed == NO)
    k.reset(mapping)


@step(Ctl.USER, family="mremap-shstk", function="mremap", source="mm/mremap.c, 6.12")
def mremap_shadow_stack(k: World) -> None:
    """user code moves a shadow stack to a free address"""
    begin_user(k)
    mm = k.current.mm
    old = mm.at(k.any_addr("addr"))
    k.require(old.kind.isin(SHADOW_KINDS))
    k.require(old.sealed == NO)
    new = mm.at(k.fresh_addr(mm, "to"))
    k.copy_fields(old, new)
    new.token = False  # a restore token names its own address
    k.reset(old)
