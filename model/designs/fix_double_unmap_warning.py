"""fix-double-unmap-warning: the third fix of September 2023, on top of the other two.

"x86/shstk: Add warning for shadow stack double unmap", 509ff51ee652.  After a free the size
is 0 and the base stays; a free that finds the size 0 warns and returns.  With it the life
cycle is that of 6.6, which is told here: the files of the two fixes below this one each take
one patch back.
"""

from __future__ import annotations

from model.designs.linux_6_6 import Linux66


class FixDoubleUnmapWarning(Linux66):
    """6.6-rc2 with all three fixes."""

    name = "fix-double-unmap-warning"
    title = "6.6-rc2 with a warning for a second free (third fix of September 2023)"
    cite = "509ff51ee652, on 748c90c69336 and 331955600ddf"
    source = "arch/x86/kernel/shstk.c, 509ff51ee652"
