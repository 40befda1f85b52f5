"""What the kernel makes SSP."""

from __future__ import annotations

from model.cpu.words import (
    misaligned,
)
from model.cpu.world import Flag
from model.kernel.mmap import TASK_SIZE_MAX
from properties.memory.vocabulary import SIGNALS, Step, state
from properties.memory.words import LINUX, USUAL, WORD, from_user_mode, usual_ssp


def installs(s: Step) -> Flag:
    """The kernel has set SSP to a value of its own."""
    return from_user_mode(s) & usual_ssp(s) & (s.after.ssp != s.before.ssp)


NOT_PRCTL = "arch_prctl and clone install the end of a fresh area; that is bounded"
state(
    "installed-aligned",
    "every SSP that delivery or sigreturn sets is a multiple of 8",
    "shstk_pop_sigframe() (6.12); v1 30/35 shstk_check_rstor_token()",
    SIGNALS,
    installs,
    lambda s: s.no(misaligned(s.after.ssp, WORD)),
    serves="installed-ssp/aligned",
    assumptions=(LINUX, USUAL),
    remains=NOT_PRCTL,
)
state(
    "installed-below-task-size",
    "every SSP that delivery or sigreturn sets is below TASK_SIZE_MAX",
    "shstk_pop_sigframe() (6.12); v1 30/35 shstk_check_rstor_token()",
    SIGNALS,
    installs,
    lambda s: s.after.ssp < TASK_SIZE_MAX,
    serves="installed-ssp/below-task-size",
    assumptions=(LINUX, USUAL),
    remains=NOT_PRCTL,
)
