"""RET whose two stacks disagree."""

from __future__ import annotations

from model.cpu.world import ControlProtection, Flag, Vector
from properties.memory.vocabulary import Step, state
from properties.memory.words import LINUX, USUAL, from_user_mode, kept, usual_ssp


def stacks_disagree(s: Step) -> Flag:
    """Both stacks can be read, and what RET would pop is not the same."""
    m = s.before
    last = m.long_mode
    long = last & (m.word(m.rsp) != m.word(m.ssp)) & m.readable(m.rsp + 7) & m.shadow(m.ssp + 7)
    short = s.no(last) & (m.dword(m.rsp) != m.dword(m.ssp))
    short = short & m.readable(m.rsp + 3) & m.shadow(m.ssp + 3)
    return from_user_mode(s) & usual_ssp(s) & m.readable(m.rsp) & m.shadow(m.ssp) & (long | short)


state(
    "ret-mismatch",
    "a RET whose two stacks disagree is #CP(NEAR-RET), and changes nothing",
    "SDM vol. 2, RET",
    ("ret",),
    stacks_disagree,
    lambda s: (
        s.raised(Vector.CP, ControlProtection.NEAR_RET) & s.registers_kept & kept(s, s.any("at"))
    ),
    serves="vfork-return-faults/near-ret-fault",
    assumptions=(LINUX, USUAL, "both stacks can be read where RET pops"),
    remains="bounded: that the child's stacks disagree, which is the C library's protocol",
)
