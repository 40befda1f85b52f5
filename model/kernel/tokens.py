"""clone3 with a token: the child runs on a shadow stack that user space has made ready.

The clone3 series is not merged; read from its v23.  A token that is given is used whatever
the flags are.  Left out: flags other than these three, and an address in a stack that has
a token at which that token does not lie.
"""

from __future__ import annotations

from model.kernel.fork import CLONE_THREAD, CLONE_VFORK, CLONE_VM, CloneArgs, copy_process
from model.kernel.steps import step
from model.state import Ctl
from model.world import World

SERIES = "kernel/fork.c, clone3 series v23"


def clone3_with_token(k: World, flags: int) -> None:
    """clone3(2) with a shstk_token: the token of any stack, or none where it is said to be."""
    k.require(k.design.has_clone_token)
    copy_process(k, CloneArgs(flags, shstk_token=k.any_addr("addr")))


@step(Ctl.USER, family="clone3-token", function="copy_process", source=SERIES)
def clone_token_thread(k: World) -> None:
    """clone3 of a thread on a token's stack: CLONE_VM|CLONE_THREAD"""
    clone3_with_token(k, CLONE_VM | CLONE_THREAD)


@step(Ctl.USER, family="clone3-token", function="copy_process", source=SERIES)
def clone_token_vfork(k: World) -> None:
    """clone3 of a vfork child on a token's stack: CLONE_VM|CLONE_VFORK"""
    clone3_with_token(k, CLONE_VM | CLONE_VFORK)


@step(Ctl.USER, family="clone3-token", function="copy_process", source=SERIES)
def clone_token_fork(k: World) -> None:
    """clone3 of a process on its copy of a token's stack: without CLONE_VM"""
    clone3_with_token(k, 0)
