"""Theorems about one instruction, one signal or one sigreturn, on a stack of any size and contents.

A statement speaks of one move: registers and memory before and after it.  It is written with
``+ - & |``, ``== != < <=`` and ``s.implies``, ``s.no``, so that it can be asked of a solver's
terms and of the numbers of a concrete machine alike.  ``s.any("at")`` is an arbitrary word: what
is said of it is said of every one.  Flags and words are those of ``model.cpu.world``.
"""

# Each registers its statements; they are reported in this order.
# isort: off
from properties.memory import instructions
from properties.memory import frames
from properties.memory import tokens
from properties.memory import bounds
from properties.memory import signals
from properties.memory import installed
from properties.memory import returns

# isort: on
from properties.memory.vocabulary import STATEMENTS, Statement, conjuncts_proved

__all__ = [
    "STATEMENTS",
    "Statement",
    "bounds",
    "conjuncts_proved",
    "frames",
    "installed",
    "instructions",
    "returns",
    "signals",
    "tokens",
]
