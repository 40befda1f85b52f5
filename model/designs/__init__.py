"""The designs under test, by name: those of x86 in the order of their history."""

from model.designs.arm64 import Arm64
from model.designs.arm64_6_13 import Arm64Merged
from model.designs.clone3_token import Clone3Token
from model.designs.design import Design
from model.designs.fix_clone_error_handling import FixCloneErrorHandling
from model.designs.fix_double_unmap_warning import FixDoubleUnmapWarning
from model.designs.fix_vfork_clone_failure import FixVforkCloneFailure
from model.designs.linux_6_6 import Linux66
from model.designs.linux_6_6_rc1 import Linux66RC1
from model.designs.linux_6_12 import Linux612
from model.designs.linux_6_18 import Linux618
from model.designs.not_configured import NotConfigured
from model.designs.proposed import Proposed
from model.designs.riscv import Riscv
from model.designs.riscv_v6 import RiscvV6
from model.designs.v1 import V1
from model.designs.v3 import V3
from model.kernel import Step

_ALL: tuple[Design, ...] = (
    V1(),
    V3(),
    Linux66RC1(),
    FixVforkCloneFailure(),
    FixCloneErrorHandling(),
    FixDoubleUnmapWarning(),
    Linux66(),
    Linux612(),
    Linux618(),
    Clone3Token(),
    Proposed(),
    NotConfigured(),
    Arm64Merged(),
    Arm64(),
    RiscvV6(),
    Riscv(),
)
# Where the steps of model/kernel/prctl.py are where the system call is prctl(2).
PRCTL_FUNCTIONS = {
    "enable": "arch_set_shadow_stack_status",
    "disable": "arch_set_shadow_stack_status",
    "shstk_disable": "arch_set_shadow_stack_status",
    "wrss_control": "arch_set_shadow_stack_status",
    "lock": "arch_lock_shadow_stack_status",
}
DESIGNS: dict[str, Design] = {d.name: d for d in _ALL}
# What the reference machine can run.
X86_DESIGNS = {name: d for name, d in DESIGNS.items() if d.architecture == "x86"}


def source_of(step: Step, design: Design | None) -> str:
    """The file and version that a step was read from, where it is the design's own too."""
    return step.source or (design.source if design else "the design's own file")


def function_of(step: Step, design: Design | None) -> str:
    """The kernel function that a step is in, as the design's architecture calls it."""
    if design and design.prctl_call == "prctl":
        return PRCTL_FUNCTIONS.get(step.name, step.function)
    return step.function


def in_words(text: str, design: Design | None) -> str:
    """A text about a design's run, with the system call that its architecture has."""
    return text.replace("arch_prctl", design.prctl_call) if design else text


__all__ = ["DESIGNS", "X86_DESIGNS", "Design", "function_of", "in_words", "source_of"]
