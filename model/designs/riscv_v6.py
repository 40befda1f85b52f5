"""riscv-v6: Zicfiss as posted in October 2024, when exit_thread() gave the stack up.

At the end of do_exit() the mm is NULL, so exit_thread() frees nothing there: only the error
exit of copy_process() and disabling do.  v7 took HAVE_EXIT_THREAD away and made it
deactivate_mm().  exec left the lock alone.  Read from v6 16/33, its review, and the change
log of v7.
"""

from __future__ import annotations

from model.designs.riscv import Riscv
from model.state import NULL, Off, Task
from model.world import World


class RiscvV6(Riscv):
    """Zicfiss before v7."""

    name = "riscv-v6"
    title = "RISC-V Zicfiss as posted, v6: freed in exit_thread()"
    cite = "Message-ID 20241008-v5_user_cfi_series-v6-16-60d9fe073f37@rivosinc.com"
    source = "arch/riscv/kernel/usercfi.c, v6 16/33"

    def deactivate_mm(self, k: World, tsk: Task) -> int:
        return 0

    def exit_thread(self, k: World, tsk: Task) -> int:
        return self.shstk_release(k, tsk)

    def start_thread(self, k: World, tsk: Task) -> None:
        tsk.shstk = False
        tsk.wrss = False
        tsk.base = NULL
        tsk.size = 0
        tsk.ssp = NULL
        tsk.off = Off.TOP
