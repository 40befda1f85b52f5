"""linux-6.6: the first release with shadow stacks.

The life cycle is that of 6.12.  What came later: a failed delivery keeps SSP (31255e072b2e,
6.7), multiples of 2 MiB are placed at one (6.7), x32 programs may have shadow stacks and get
signals on them (2883f01ec37d, 6.10), a new shadow stack is placed with its gap free below it
(6.10), mseal(2) (6.10).  Read from arch/x86/kernel/shstk.c, process.c and signal_64.c of 6.6.

Not seen here: up to 6.10 arch_prctl(ARCH_SHSTK_ENABLE) by an x32 syscall is EOPNOTSUPP; the
life cycle has one 32-bit entry, which is ia32's and refused by all.
"""

from __future__ import annotations

from model.designs.linux_6_12 import Linux612
from model.designs.user_memory_6_6 import UserMemory66


class Linux66(UserMemory66, Linux612):
    """The first release."""

    name = "linux-6.6"
    title = "the first release with shadow stacks, October 2023"
    cite = "b2926a36b97a, with 331955600ddf 748c90c69336 509ff51ee652 83bc7940a701 (6.6)"
    source = "arch/x86/kernel/shstk.c, 6.6"
    has_mseal = False
    huge_pages = False
    gap_below_new = False
