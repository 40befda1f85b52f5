"""User memory of any size and with any contents, over z3 terms.

Contents are an arbitrary function from addresses to words, and the stores since; what a page is,
is an arbitrary function of its number.  A byte of the memory now is a term without arrays: for
each store, is the address in it.  Nothing is mapped where an address is not canonical.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import z3

from model.kernel.mmap import TASK_SIZE_MAX
from model.world import PAGE_SIZE
from shstk.proof.terms import BITS

PAGE_SHIFT = PAGE_SIZE.bit_length() - 1
KIND_BITS = 3

#: Terms that have been made, by what of; the first of each pair keeps its number in use.
_AMONG: dict[tuple[str, int | None, int, tuple[int, ...]], tuple[Any, z3.BoolRef]] = {}
_LOADED: dict[tuple[str, int, int], tuple[Any, z3.BitVecRef]] = {}


class Kind(IntEnum):
    """What a page is: every value of three bits is one."""

    UNMAPPED = 0
    ORDINARY = 1  # may be read and written
    READ_ONLY = 2
    SHADOW = 3  # a shadow stack: shadow-stack accesses, and ordinary loads
    SHADOW_READ_ONLY = 4  # a shadow stack without VM_WRITE: ordinary loads only
    KERNEL = 5
    KERNEL_SHADOW = 6
    NO_ACCESS = 7  # PROT_NONE


USER = (Kind.ORDINARY, Kind.READ_ONLY, Kind.SHADOW, Kind.SHADOW_READ_ONLY)
STACKS = (Kind.SHADOW, Kind.SHADOW_READ_ONLY)


def allowing(*, write: bool, shadow: bool, user: bool) -> tuple[Kind, ...]:
    """The kinds of page that allow an access (SDM Vol. 3A, "Determination of Access Rights").

    On Linux a shadow stack area without VM_WRITE refuses even shadow-stack loads
    (access_error(), arch/x86/mm/fault.c, 6.12).  Supervisor accesses to user pages are not
    kept apart by SMAP here.
    """
    if shadow:
        return (Kind.SHADOW,) if user else (Kind.KERNEL_SHADOW,)
    if write:
        return (Kind.ORDINARY,) if user else (Kind.ORDINARY, Kind.KERNEL)
    return USER if user else (*USER, Kind.KERNEL, Kind.KERNEL_SHADOW)


def word(value: int) -> z3.BitVecRef:
    """A 64-bit constant."""
    return z3.BitVecVal(value & ((1 << BITS) - 1), BITS)


def canonical(address: z3.BitVecRef) -> z3.BoolRef:
    """Bits 63:47 are all equal."""
    high = z3.Extract(63, 47, address)
    return z3.Or(high == 0, high == (1 << 17) - 1)


@dataclass(frozen=True)
class Pages:
    """What each page is.

    ``below``: no page at or above this address is a user's, as on Linux (TASK_SIZE_MAX);
    None: the upper half may have user pages too, as the CPU would allow.
    """

    name: str = "kind"
    below: int | None = TASK_SIZE_MAX

    def kind(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The kind of the page that ``address`` is in, were it not for ``below``."""
        page = z3.BitVecSort(BITS - PAGE_SHIFT)
        function = z3.Function(self.name, page, z3.BitVecSort(KIND_BITS))
        return function(z3.Extract(BITS - 1, PAGE_SHIFT, address))

    def among(self, address: z3.BitVecRef, kinds: tuple[Kind, ...]) -> z3.BoolRef:
        """The page of ``address`` is of one of these kinds."""
        key = (self.name, self.below, address.get_id(), kinds)
        if key not in _AMONG:
            _AMONG[key] = (address, z3.simplify(self._among(address, kinds)))
        return _AMONG[key][1]

    def _among(self, address: z3.BitVecRef, kinds: tuple[Kind, ...]) -> z3.BoolRef:
        at = self.kind(address)
        low = [at == int(k) for k in kinds if k in USER]
        rest = [at == int(k) for k in kinds if k not in USER]
        user = z3.Or(*low)
        if self.below is not None:
            user = z3.And(z3.ULT(address, word(self.below)), user)
        return z3.And(canonical(address), z3.Or(user, *rest))

    def is_stack(self, address: z3.BitVecRef) -> z3.BoolRef:
        """A store that goes through there is a shadow-stack store."""
        at = self.kind(address)
        return z3.Or(at == int(Kind.SHADOW), at == int(Kind.KERNEL_SHADOW))

    def mapped(self, address: z3.BitVecRef) -> z3.BoolRef:
        """Something is mapped there, whatever it allows."""
        rest = (Kind.KERNEL, Kind.KERNEL_SHADOW, Kind.NO_ACCESS)
        return self.among(address, (*USER, *rest))

    def allow(
        self, address: z3.BitVecRef, width: int, kinds: tuple[Kind, ...]
    ) -> tuple[z3.BoolRef, z3.BoolRef]:
        """Whether the pages of the first and of the last byte of an access are of these kinds."""
        last = z3.simplify(address + word(width - 1))
        first_is, last_is = self.among(address, kinds), self.among(last, kinds)
        return first_is, z3.If(_aligned(address, width), first_is, last_is)


def _aligned(address: z3.BitVecRef, width: int) -> z3.BoolRef:
    """A multiple of ``width``: such an access is within a page.

    It is said beside what is true at any alignment, because it spares the solver arithmetic.
    """
    return z3.simplify(z3.Extract(width.bit_length() - 2, 0, address) == 0)


@dataclass(frozen=True)
class Write:
    """``width`` bytes, 4 or 8, of ``value`` at ``address``; ``shadow``: to a shadow stack."""

    address: z3.BitVecRef
    width: int
    value: z3.BitVecRef
    shadow: bool

    def covers(self, address: z3.BitVecRef) -> z3.BoolRef:
        """The byte at ``address`` is one of them."""
        low = self.width.bit_length() - 1
        same = z3.Extract(63, low, address) == z3.Extract(63, low, self.address)
        return z3.If(
            _aligned(self.address, self.width),
            same,
            z3.ULT(address - self.address, word(self.width)),
        )

    def byte(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """What it puts at an address that it covers."""
        number = z3.Extract(2, 0, address) - z3.Extract(2, 0, self.address)
        return _byte_of(self.value, number)

    def clean(self, address: z3.BitVecRef) -> z3.BoolRef:
        """``over`` is right for the 8 bytes at ``address``."""
        apart = z3.And(
            z3.UGE(address - self.address, word(self.width)),
            z3.UGE(self.address - address, word(8)),
        )
        halves = [self.address == address + word(4)] if self.width == 4 else []
        aligned = z3.And(_aligned(address, 8), _aligned(self.address, self.width))
        return z3.Or(aligned, self.address == address, *halves, apart)

    def over(self, address: z3.BitVecRef, was: z3.BitVecRef) -> z3.BitVecRef:
        """The 8 bytes at ``address``, which were ``was``, if it is no odd overlap."""
        if self.width == 8:
            return z3.If(self.address == address, self.value, was)
        half = z3.Extract(31, 0, self.value)
        low = z3.Concat(z3.Extract(63, 32, was), half)
        high = z3.Concat(half, z3.Extract(31, 0, was))
        at_high = self.address == address + word(4)
        return z3.If(self.address == address, low, z3.If(at_high, high, was))


def _byte_of(value: z3.BitVecRef, number: z3.BitVecRef) -> z3.BitVecRef:
    """The ``number``-th byte, a 3-bit number."""
    bits = z3.Concat(z3.BitVecVal(0, BITS - 6), number, z3.BitVecVal(0, 3))
    return z3.Extract(7, 0, z3.LShR(value, bits))


@dataclass
class Memory:
    """Contents: what was there, under what has been written since.

    A store goes only where a page allows it: one to a shadow stack changes no other page, and an
    ordinary one no shadow stack.  So what is on a shadow stack is looked for among the stores
    of the one kind, and what is not among those of the other.
    """

    pages: Pages
    name: str = "mem"
    writes: list[Write] = field(default_factory=list)

    def copy(self) -> Memory:
        """The memory as it is now."""
        return Memory(self.pages, self.name, list(self.writes))

    def store(
        self, address: z3.BitVecRef, width: int, value: z3.BitVecRef, *, shadow: bool
    ) -> None:
        """Put the low ``width`` bytes of ``value`` at ``address``, which the pages allow."""
        self.writes.append(Write(address, width, value, shadow))

    def byte(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The byte at ``address``, 8 bits."""
        stack = self._byte(address, [w for w in self.writes if w.shadow])
        other = self._byte(address, [w for w in self.writes if not w.shadow])
        return z3.simplify(z3.If(self.pages.is_stack(address), stack, other))

    def _byte(self, address: z3.BitVecRef, writes: list[Write]) -> z3.BitVecRef:
        now = _byte_of(self._initial(z3.Extract(63, 3, address)), z3.Extract(2, 0, address))
        for w in writes:
            now = z3.If(w.covers(address), w.byte(address), now)
        return now

    def load(self, address: z3.BitVecRef, width: int) -> z3.BitVecRef:
        """The little-endian value at ``address``, zero-extended to 64 bits."""
        if width == 1:
            return z3.ZeroExt(BITS - 8, self.byte(address))
        key = (self.name, address.get_id(), width)
        if self.writes:
            return self._load(address, width)
        if key not in _LOADED:
            _LOADED[key] = (address, self._load(address, width))
        return _LOADED[key][1]

    def _load(self, address: z3.BitVecRef, width: int) -> z3.BitVecRef:
        value = self._word(address)
        if width == 4:
            value = value & word((1 << 32) - 1)
        return z3.simplify(value)

    def _word(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The 8 bytes at ``address``.

        Where each store is that very word, half of it, or lies elsewhere, it is put together from
        words; else from bytes.
        """
        if not self.writes:
            return self._initial_word(address)
        last = z3.simplify(address + word(7))
        first_is = self.pages.is_stack(address)
        last_is = z3.If(_aligned(address, 8), first_is, self.pages.is_stack(last))
        stack = [w for w in self.writes if w.shadow]
        other = [w for w in self.writes if not w.shadow]
        bytes_ = [self.byte(z3.simplify(address + word(i))) for i in reversed(range(8))]
        slow = z3.Concat(*bytes_)
        return z3.If(
            z3.And(first_is, last_is, *(w.clean(address) for w in stack)),
            self._fast(address, stack),
            z3.If(
                z3.And(z3.Not(first_is), z3.Not(last_is), *(w.clean(address) for w in other)),
                self._fast(address, other),
                slow,
            ),
        )

    def _fast(self, address: z3.BitVecRef, writes: list[Write]) -> z3.BitVecRef:
        now = self._initial_word(address)
        for w in writes:
            now = w.over(address, now)
        return now

    def _initial(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """The ``index``-th word of all aligned ones, in the beginning."""
        function = z3.Function(self.name, z3.BitVecSort(BITS - 3), z3.BitVecSort(BITS))
        return function(z3.simplify(index))

    def _initial_word(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The 8 bytes at any address, in the beginning."""
        index, low = z3.Extract(63, 3, address), z3.Extract(2, 0, address)
        here, above = self._initial(index), self._initial(index + 1)
        bits = z3.Concat(z3.BitVecVal(0, 2 * BITS - 6), low, z3.BitVecVal(0, 3))
        both = z3.LShR(z3.Concat(above, here), bits)
        return z3.If(low == 0, here, z3.Extract(BITS - 1, 0, both))
