"""Every instruction: what a fault leaves, and what SSP stays."""

from __future__ import annotations

from model.cpu.words import (
    la_adjust,
)
from model.cpu.world import Flag
from properties.memory.vocabulary import EVERY, SIGNALS, Moment, state
from properties.memory.words import LINUX, from_user_mode, kept

state(
    "fault-changes-nothing",
    "an instruction that faults leaves every register and every byte as it was",
    "SDM vol. 3, a fault: the state 'prior to the beginning of execution of the faulting "
    "instruction'",
    EVERY,
    lambda s: s.faulted,
    lambda s: s.registers_kept & kept(s, s.any("at")),
)


def multiples_of_4(m: Moment) -> Flag:
    return (m.ssp & 3 == 0) & (m.pl3_ssp & 3 == 0)


def canonical_ssp(m: Moment) -> Flag:
    """``la_adjust``, which is what entering the kernel does with SSP, changes nothing."""
    return (la_adjust(m.ssp) == m.ssp) & (la_adjust(m.pl3_ssp) == m.pl3_ssp)


state(
    "ssp-multiple-of-4",
    "SSP and IA32_PL3_SSP stay multiples of 4",
    "SDM vol. 1, 'Shadow Stacks'; vol. 4, IA32_PL3_SSP",
    (*EVERY, *SIGNALS),
    lambda s: multiples_of_4(s.before) & from_user_mode(s),
    lambda s: multiples_of_4(s.after),
    assumptions=(LINUX,),
)

state(
    "ssp-canonical",
    "SSP stays a canonical address",
    "SDM vol. 1, 'Shadow Stacks'; vol. 2, RET and IRET; vol. 4, IA32_PL3_SSP",
    (*EVERY, *SIGNALS),
    lambda s: from_user_mode(s) & canonical_ssp(s.before),
    lambda s: canonical_ssp(s.after),
    assumptions=(LINUX,),
)
