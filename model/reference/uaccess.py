"""The reference machine as kernel code sees it that touches current's user memory."""

from __future__ import annotations

from model.kernel.errno import EFAULT
from model.kernel.uaccess import UserMemory
from model.reference.system import System, Thread
from model.reference.vma import PageFault
from model.state import NULL, Kind
from model.world import Cond


class KernelAccess(UserMemory):
    """``UserMemory`` over a thread and its address space."""

    def __init__(self, system: System, thread: Thread) -> None:
        self.system = system
        self.thread = thread
        self.space = system.space(thread)

    # -- registers and bookkeeping ---------------------------------------------------
    @property
    def ssp(self) -> int:
        return self.thread.ssp

    @ssp.setter
    def ssp(self, value: int) -> None:
        self.thread.ssp = value

    @property
    def u_cet(self) -> int:
        return self.thread.regs.u_cet

    @u_cet.setter
    def u_cet(self, value: int) -> None:
        self.thread.regs.u_cet = value

    @property
    def features(self) -> int:
        bits = self.system.design.prctl
        return bits.shstk * self.thread.shstk | bits.wrss * self.thread.wrss

    @features.setter
    def features(self, value: int) -> None:
        # SHSTK is the life cycle's, which sets it with the stack that goes with it.
        self.thread.wrss = bool(value & self.system.design.prctl.wrss)

    @property
    def features_locked(self) -> int:
        bits, thread = self.system.design.prctl, self.thread
        known = bits.shstk * thread.locked_shstk | bits.wrss * thread.locked_wrss
        return known | thread.locked_others

    @features_locked.setter
    def features_locked(self, value: int) -> None:
        bits, thread = self.system.design.prctl, self.thread
        thread.locked_shstk = bool(value & bits.shstk)
        thread.locked_wrss = bool(value & bits.wrss)
        thread.locked_others = value & ~(bits.shstk | bits.wrss)

    @property
    def wrss(self) -> Cond | bool:
        return self.thread.wrss

    @wrss.setter
    def wrss(self, value: Cond | bool) -> None:
        self.thread.wrss = bool(value)

    @property
    def shstk_base(self) -> int:
        return self.thread.base

    @property
    def shstk_size(self) -> int:
        return self.thread.size

    def user_shstk_missing(self) -> bool:
        return False

    def in_ia32_syscall(self) -> bool:
        return self.thread.compat

    # -- memory ------------------------------------------------------------------------
    def write_user_shstk_64(self, addr: int, value: int) -> int:
        return self._store(addr, 8, value, shadow=True)

    def write_user_shstk_32(self, addr: int, value: int) -> int:
        return self._store(addr, 4, value, shadow=True)

    def _store(self, addr: int, width: int, value: int, shadow: bool) -> int:
        if shadow and addr % width:
            return EFAULT
        try:
            # WRUSS is a user access, whoever executes it (SDM vol. 2, WRUSS).
            self.space.store(addr, width, value, shadow, shadow)
        except PageFault:
            return EFAULT
        return 0

    def get_user(self, addr: int) -> tuple[int, int]:
        try:
            return self.space.load(addr, 8, False, False), 0
        except PageFault:
            return 0, EFAULT

    def put_user(self, addr: int, value: int) -> int:
        return self._store(addr, 8, value, shadow=False)

    def copy_to_user(self, addr: int, words: tuple[int, ...]) -> int:
        for number, word in enumerate(words):
            if self.put_user(addr + 8 * number, word):
                return 8 * (len(words) - number)
        return 0

    # -- areas -------------------------------------------------------------------------
    def vma_is_shadow_stack(self, addr: int) -> bool:
        area = self.space.find_vma(addr)
        return area is not None and area.shadow

    def mmap_read_lock_killable(self) -> int:
        return 0  # nobody holds the lock while another task is here

    def mmap_shadow_stack(
        self, addr: int, size: int, *, fixed_noreplace: Cond | bool, above_4g: bool
    ) -> tuple[int, int]:
        space, low = self.space, self.thread.compat
        if addr == 0 and self.system.place is not None:
            addr, fixed_noreplace = self.system.place, True
        start = space.mmap(
            addr,
            size,
            1,
            noreplace=bool(fixed_noreplace),
            shadow=True,
            above4g=above_4g and not low,
            below4g=low,
        )
        if start < 0:
            return 0, -start
        area = space.find(start)
        assert area is not None
        area.kind, area.owner, area.label = Kind.MAP, NULL, "shadow stack"
        return start, 0

    def munmap(self, addr: int, size: int) -> int:
        return -self.space.munmap(addr, size)
