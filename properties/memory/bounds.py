"""The ends of a stack: nobody steps over a guard gap."""

from __future__ import annotations

from model.cpu.world import Flag, Word
from model.kernel.mmap import TASK_SIZE_MAX
from model.world import PAGE_SIZE
from properties.memory.vocabulary import FAR_CALLS, NEAR_BRANCHES, Step, state
from properties.memory.words import LINUX, USUAL, from_user_mode, usual_ssp

STACK = "SSP is in [lo, hi] of a shadow stack with the design's guard gaps, its last page mapped"


def on_a_stack(s: Step) -> Flag:
    """SSP is in [lo, hi], the ends of a stack with the design's guard gaps."""
    lo, hi = s.any("lo"), s.any("hi")
    pages = (lo & (PAGE_SIZE - 1) == 0) & (hi & (PAGE_SIZE - 1) == 0) & (lo < hi)
    room = (2 * PAGE_SIZE <= lo) & (hi <= TASK_SIZE_MAX) & s.before.shadow(hi - 1)
    inside = (lo <= s.before.ssp) & (s.before.ssp <= hi)
    return pages & room & inside & s.no(s.before.shadow(lo - 1)) & gap_above(s, hi)


def gap_above(s: Step, hi: Word) -> Flag:
    """What the design promises of the page above a stack that ends at ``hi``."""
    if s.guard_gaps == "both":
        return s.no(s.before.shadow(hi))
    # A stack that began at hi would have its own gap below.
    return s.implies(s.before.shadow(hi), s.no(s.before.shadow(hi - 1)))


def in_bounds(s: Step) -> Flag:
    return (s.any("lo") <= s.after.ssp) & (s.after.ssp <= s.any("hi"))


state(
    "no-step-over-a-gap",
    "CALL, RET and INCSSP that do not fault leave SSP on the stack it is on",
    "v1 18/35; alloc_shstk() (6.12), comment on the guard gap; SDM vol. 1, 'Shadow Stacks'",
    NEAR_BRANCHES,
    lambda s: from_user_mode(s) & usual_ssp(s) & on_a_stack(s) & s.done,
    in_bounds,
    serves="guard-gap/stays-on-its-stack",
    assumptions=(LINUX, USUAL, STACK),
    asks_gaps=True,
    remains="bounded: that the gaps are there, which a chosen address (6.12) can undo",
)


state(
    "ssp-in-bounds-step",
    "a far CALL or signal delivery leaves SSP on the stack it is on",
    "KERNEL: base <= SSP <= base + size, and SSP == base + size means empty",
    (*FAR_CALLS, "deliver"),
    lambda s: from_user_mode(s) & usual_ssp(s) & on_a_stack(s) & s.no(s.faulted),
    in_bounds,
    serves="ssp-in-bounds/in-bounds",
    assumptions=(LINUX, USUAL, STACK),
    asks_gaps=True,
    remains="with no-step-over-a-gap for CALL, RET and INCSSP, and round-trip for sigreturn; "
    "bounded: far RET, IRET, what the kernel installs, and that the gaps are there",
)
