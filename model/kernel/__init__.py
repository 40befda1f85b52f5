"""The paths Linux shares between designs, as steps of the state machine.

Each function reads like the C it models: same names, same order, same early
returns.  A step is a section that no other task can observe half-done; what
survives a step boundary is a state variable.
"""

from model.kernel import exec, exit, fork, prctl, signal, tokens, user
from model.kernel.steps import FAMILIES, STEPS, Environment, Family, Step

__all__ = [
    "FAMILIES",
    "STEPS",
    "Environment",
    "Family",
    "Step",
    "exec",
    "exit",
    "fork",
    "prctl",
    "signal",
    "tokens",
    "user",
]
