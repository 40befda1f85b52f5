"""The address space: areas, their contents, and the system calls that change them (6.12).

The calls return what they return in the kernel: an address or 0, or -errno.  A call that fails
changes nothing, with two exceptions that are the kernel's own: mprotect() has changed what lies
before the area it stopped at, and mremap() to a fixed address has unmapped what was there, and
the tail that a shrinking one loses.

Protection is PROT_READ | PROT_WRITE; PROT_EXEC is accepted and has no effect, since nothing
fetches instructions here.  Lengths are in bytes.
"""

from __future__ import annotations

from typing import Unpack

from model.cpu.concrete import PageFault
from model.kernel.errno import EEXIST, EFAULT, EINVAL, ENOMEM, EPERM
from model.reference.areas import (
    MMAP_BASE,
    MMAP_MIN_ADDR,
    PAGE_SIZE,
    SZ_4G,
    TASK_SIZE_MAX,
    Annotations,
    Flags,
    GuardGaps,
    Vma,
    Wanted,
    mmap_base,
    offset_in_page,
    page_align,
)
from model.reference.memory import Memory, Pages
from model.world import U64

__all__ = [
    "MMAP_BASE",
    "MREMAP_DONTUNMAP",
    "MREMAP_FIXED",
    "MREMAP_MAYMOVE",
    "PAGE_SIZE",
    "PROT_READ",
    "PROT_WRITE",
    "SZ_4G",
    "TASK_SIZE_MAX",
    "AddressSpace",
    "GuardGaps",
    "PageFault",
    "Vma",
    "mmap_base",
    "page_align",
]

PROT_READ, PROT_WRITE, PROT_EXEC, PROT_SEM = 1, 2, 4, 8
MAX_ERRNO = 4095
_new = object.__new__
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


class AddressSpace(Memory):
    """An mm_struct of a 64-bit task.

    ``base`` is its mmap_base.  ``limit_bytes`` stands for whatever refuses to map more than that
    in total (RLIMIT_AS, overcommit); None: nothing does.  ``huge_pages``: a multiple of 2 MiB is
    placed at one (CONFIG_TRANSPARENT_HUGEPAGE, since 6.7).
    """

    def __init__(
        self,
        gaps: GuardGaps = GuardGaps.merged,
        *,
        base: int = MMAP_BASE,
        limit_bytes: int | None = None,
        huge_pages: bool = True,
    ) -> None:
        super().__init__(gaps, base=base, huge_pages=huge_pages)
        self.limit_bytes = limit_bytes
        self.pages = Pages()

    # -- the whole ---------------------------------------------------------------
    @property
    def total(self) -> int:
        """Mapped bytes (mm->total_vm)."""
        return sum(vma.size for vma in self.areas)

    def fork(self) -> AddressSpace:
        """dup_mmap(): the same areas, sealed ones too; pages are shared until one side writes.

        Both sides' page table entries are write-protected, a shadow stack's too (pte_wrprotect()).
        Those of an area without an anon_vma are not copied (vma_needs_copy(), mm/memory.c).
        """
        self.pages.shadow.clear()
        child = self.copy()
        for vma in child.areas:
            if not vma.anon:
                child.pages.forget(vma.start, vma.end)
        return child

    def copy(self) -> AddressSpace:
        """An equal address space; that pages are shared until one side writes is not seen."""
        other = _new(AddressSpace)
        other.gaps = self.gaps
        other.mmap_base = self.mmap_base
        other.huge_pages = self.huge_pages
        other.limit_bytes = self.limit_bytes
        other.areas = [vma.at(vma.start, vma.end) for vma in self.areas]
        other.pages = Pages()
        self.pages.share(other.pages)
        return other

    def clear(self) -> None:
        """exit_mmap(): nothing is mapped any more, whatever is sealed."""
        self.areas.clear()
        self.pages.forget(0, TASK_SIZE_MAX)

    def may_expand(self, length: int) -> bool:
        """``limit_bytes`` allows to map ``length`` more (may_expand_vm(), mm/mmap.c, 6.12)."""
        return self.limit_bytes is None or self.total + length <= self.limit_bytes

    # -- mmap(2) -----------------------------------------------------------------
    def map(self, start: int, length: int, **flags: Unpack[Flags]) -> Vma:
        """Put an area at a free, aligned place; ValueError where there is none.

        For what exec maps: no limits and no gaps apply.
        """
        end = start + length
        if offset_in_page(start | length) or length <= 0 or not 0 <= start < end <= TASK_SIZE_MAX:
            raise ValueError(f"no place for an area: {start:#x}, {length:#x} bytes")
        if self.overlapping(start, end):
            raise ValueError(f"something is mapped in {start:#x}-{end:#x}")
        return self._insert(Vma(start, end, **flags))

    def mmap(
        self,
        addr: int,
        length: int,
        prot: int,
        *,
        fixed: bool = False,
        noreplace: bool = False,
        shadow: bool = False,
        above4g: bool = False,
        below4g: bool = False,
        **annotations: Unpack[Annotations],
    ) -> int:
        """do_mmap() of private anonymous memory: its address (mm/mmap.c, 6.12).

        ``fixed``, ``noreplace``, ``above4g``: MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_ABOVE4G;
        ``shadow``: VM_SHADOW_STACK | VM_WRITE; ``below4g``: in a 32-bit system call.
        -EINVAL: length 0, or a fixed address that is not aligned.  -ENOMEM: no room.
        -EPERM: a fixed address below mmap_min_addr, or something sealed is there.
        -EEXIST: something is mapped at an address not to be replaced.
        """
        if length == 0:
            return -EINVAL
        fixed = fixed or noreplace
        length = page_align(length)
        if length == 0 or length > TASK_SIZE_MAX:
            return -ENOMEM
        if not fixed:
            addr = self._get_unmapped_area(
                _round_hint_to_min(addr), Wanted(length, shadow, above4g, below4g)
            )
            if addr < 0:
                return addr
        if fixed and addr >= U64 - MAX_ERRNO:
            return addr - U64  # __get_unmapped_area() takes it for an error (IS_ERR_VALUE())
        error = _check_address(addr, length)
        if error:
            return error
        there = self.overlapping(addr, addr + length)
        if noreplace and there:
            return -EEXIST
        if any(vma.sealed for vma in there):
            return -EPERM
        replaced = sum(vma.covered(addr, addr + length) for vma in there)
        if not self.may_expand(length - replaced):
            return -ENOMEM
        if there:
            self._unmap(addr, addr + length)
        read, write = bool(prot & PROT_READ), bool(prot & PROT_WRITE)
        self._insert(Vma(addr, addr + length, read, write or shadow, shadow, **annotations))
        return addr

    # -- munmap(2) ---------------------------------------------------------------
    def munmap(self, start: int, length: int) -> int:
        """do_vmi_munmap() (mm/vma.c, 6.12): 0, also where nothing is mapped.

        -EINVAL: not aligned, length 0, or beyond TASK_SIZE.  -EPERM: something is sealed.
        """
        if offset_in_page(start) or start > TASK_SIZE_MAX or length > TASK_SIZE_MAX - start:
            return -EINVAL
        if length == 0:
            return -EINVAL
        end = start + page_align(length)
        if any(vma.sealed for vma in self.overlapping(start, end)):
            return -EPERM
        self._unmap(start, end)
        return 0

    def _unmap(self, start: int, end: int) -> None:
        self._remove(start, end)
        self.pages.forget(start, end)

    # -- mprotect(2), mseal(2) -----------------------------------------------------
    def mprotect(self, start: int, length: int, prot: int) -> int:
        """do_mprotect_pkey() (mm/mprotect.c, 6.12).

        A shadow stack stays one: PROT_READ alone makes shadow stack accesses fail, but only of
        pages that none has touched yet, and of all after a fork; PROT_NONE of all;
        PROT_WRITE allows them again and still no ordinary store.
        -EINVAL: not aligned, or unknown bits.  -ENOMEM: nothing mapped somewhere in the range.
        -EPERM: something is sealed.  In the last two cases what lies before has been changed.
        """
        if offset_in_page(start):
            return -EINVAL
        if length == 0:
            return 0
        end = (start + page_align(length)) % U64
        if end <= start:
            return -ENOMEM
        if prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM):
            return -EINVAL
        self.pages.flush()
        done = start
        for vma in self.overlapping(start, end):
            if vma.start > done:
                return -ENOMEM
            if vma.sealed:
                return -EPERM
            done = min(vma.end, end)
            self._mprotect_fixup(vma, max(vma.start, start), done, prot)
        return 0 if done == end else -ENOMEM

    def _mprotect_fixup(self, vma: Vma, start: int, end: int, prot: int) -> None:
        read, write = bool(prot & PROT_READ), bool(prot & PROT_WRITE)
        if (vma.read, vma.write) == (read, write):
            return
        for part in self._carve(start, end):
            part.read, part.write = read, write

    def mseal(self, start: int, length: int) -> int:
        """do_mseal() (mm/mseal.c, 6.12): 0, also for what is sealed already, or for no bytes.

        -EINVAL: not aligned, or too long.  -ENOMEM: nothing mapped somewhere in the range.
        """
        if offset_in_page(start):
            return -EINVAL
        aligned = page_align(length)
        end = start + aligned
        if (length and not aligned) or end >= U64:
            return -EINVAL
        if end == start:
            return 0
        areas = self.overlapping(start, end)
        if sum(vma.covered(start, end) for vma in areas) < end - start:
            return -ENOMEM
        for vma in areas:
            if not vma.sealed:
                for part in self._carve(max(vma.start, start), min(vma.end, end)):
                    part.sealed = True
        return 0

    # -- mremap(2) -----------------------------------------------------------------
    def mremap(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int = 0) -> int:
        """mremap(2): the new address (mm/mremap.c, 6.12).

        A shadow stack may be moved and resized like anything else, and no gap is asked for: not
        below its new place, and not below the shadow stack that it grows up to.
        -EINVAL: wrong flags, not aligned, new length 0, old length 0, the ranges overlap or the
        new one is beyond TASK_SIZE.  -EFAULT: [addr, addr + old_len) is not one area's.
        -ENOMEM: no room, or it may not move.  -EPERM: something is sealed.
        """
        if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP):
            return -EINVAL
        if flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE:
            return -EINVAL
        if flags & MREMAP_DONTUNMAP and (not flags & MREMAP_MAYMOVE or old_len != new_len):
            return -EINVAL
        old_len, new_len = page_align(old_len), page_align(new_len)
        if offset_in_page(addr) or new_len == 0:
            return -EINVAL
        vma = self.find(addr)
        if vma is None:
            return -EFAULT
        if vma.sealed:
            return -EPERM
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            return self._mremap_to(addr, old_len, new_len, flags, new_addr)
        if old_len == new_len:
            return addr
        if old_len > new_len:
            return self.munmap(addr + new_len, old_len - new_len) or addr
        error = self._check_resize(addr, old_len, new_len)
        if error:
            return error
        end = addr + new_len
        expandable = end <= TASK_SIZE_MAX and not self.overlapping(vma.end, end)
        if addr + old_len == vma.end and expandable:
            vma.end = end
            return addr
        if not flags & MREMAP_MAYMOVE:
            return -ENOMEM
        new_addr = self._get_unmapped_area(0, Wanted(new_len))
        if new_addr < 0:
            return new_addr
        return self._move_vma(addr, old_len, new_len, new_addr, keep=False)

    def _mremap_to(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
        """mremap_to(): MREMAP_FIXED, or MREMAP_DONTUNMAP with ``new_addr`` as a hint."""
        if offset_in_page(new_addr):
            return -EINVAL
        if new_len > TASK_SIZE_MAX or new_addr > TASK_SIZE_MAX - new_len:
            return -EINVAL
        if (addr + old_len) % U64 > new_addr and new_addr + new_len > addr:
            return -EINVAL
        if flags & MREMAP_FIXED:
            error = self.munmap(new_addr, new_len)
            if error:
                return error
        if old_len > new_len:
            error = self.munmap(addr + new_len, old_len - new_len)
            if error:
                return error
            old_len = new_len
        error = self._check_resize(addr, old_len, new_len)
        if error:
            return error
        keep = bool(flags & MREMAP_DONTUNMAP)
        if keep and not self.may_expand(old_len):
            return -ENOMEM
        if not flags & MREMAP_FIXED:
            new_addr = self._get_unmapped_area(new_addr, Wanted(new_len))
            if new_addr < 0:
                return new_addr
        error = _check_address(new_addr, new_len)
        if error:
            return error
        return self._move_vma(addr, old_len, new_len, new_addr, keep)

    def _check_resize(self, addr: int, old_len: int, new_len: int) -> int:
        """vma_to_resize(): 0, or why the area at ``addr`` does not take part."""
        vma = self.find(addr)
        if vma is None:
            return -EFAULT
        if old_len == 0:
            return -EINVAL
        if old_len > vma.end - addr:
            return -EFAULT
        if not self.may_expand(new_len - old_len):
            return -ENOMEM
        return 0

    def _move_vma(self, addr: int, old_len: int, new_len: int, new_addr: int, keep: bool) -> int:
        """move_vma(): the contents go along, the annotations too; ``keep`` leaves an empty area."""
        vma = self.find(addr)
        assert vma is not None
        self._insert(vma.at(new_addr, new_addr + new_len))
        self.pages.move(addr, old_len, new_addr)
        if not keep:
            self._unmap(addr, addr + old_len)
        return new_addr


def _round_hint_to_min(hint: int) -> int:
    """round_hint_to_min() (mm/mmap.c, 6.12)."""
    hint &= -PAGE_SIZE
    return max(hint, MMAP_MIN_ADDR) if hint else 0


def _check_address(addr: int, length: int) -> int:
    """What __get_unmapped_area() checks of any address, also a fixed one (mm/mmap.c, 6.12)."""
    if addr > TASK_SIZE_MAX - length:
        return -ENOMEM
    if offset_in_page(addr):
        return -EINVAL
    return -EPERM if addr < MMAP_MIN_ADDR else 0
