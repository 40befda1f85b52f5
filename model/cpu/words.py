"""Words: wrapping, alignment, canonical addresses, and the formats of tokens.

A token is an 8-byte word on a shadow stack with flags in its low bits (SDM Vol. 1,
"Shadow Stacks"):

=====================  ==========================================  ======
restore token          the SSP it restores, ``address + 8``        0, L
previous-ssp token     the SSP that RSTORSSP left                  1, L
supervisor token       its own address                             0, busy
=====================  ==========================================  ======

L is 1 if the token was made in 64-bit mode.
"""

from __future__ import annotations

from model.cpu.world import Flag, Word

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1

#: Four-level paging: linear addresses have 48 bits, and bits 63:47 are equal.
LINEAR_BITS = 48
_LINEAR_MASK = (1 << LINEAR_BITS) - 1
_SIGN = 1 << (LINEAR_BITS - 1)

TOKEN_L = 1 << 0
TOKEN_BUSY = 1 << 0
TOKEN_PREVIOUS = 1 << 1
TOKEN_HOLE = 1 << 2  # the SSP in a restore token is aligned to 4 bytes, not to 8

_NOT_1 = MASK64 - 1
_NOT_3 = MASK64 - 3
_NOT_7 = MASK64 - 7
_NOT_31 = MASK64 - 31


def high32(word: Word) -> Word:
    """Bits 63:32."""
    return word >> 32


def misaligned(address: Word, size: int) -> Flag:
    """``address`` is no multiple of ``size``, a power of two."""
    return (address & (size - 1)) != 0


def align8(address: Word) -> Word:
    """The multiple of 8 at or below ``address``."""
    return address & _NOT_7


def crosses_32(ssp: Word) -> Flag:
    """The 24 bytes below ``ssp`` and the word at it are not in one 32-byte line."""
    return (ssp & _NOT_31) != (((ssp - 24) & MASK64) & _NOT_31)


def noncanonical(address: Word) -> Flag:
    """Bits 63:47 are not all equal."""
    return (((address + _SIGN) & MASK64) >> LINEAR_BITS) != 0


def la_adjust(address: Word) -> Word:
    """LA_adjust: "bits 63:N get the value of bit N-1" (SYSCALL)."""
    return (((address & _LINEAR_MASK) ^ _SIGN) - _SIGN) & MASK64


def restore_token(address: Word, l_bit: Word) -> Word:
    """The restore token that lies at ``address`` and restores the SSP above itself."""
    return ((address + 8) & MASK64) | l_bit


def restore_token_address(token: Word) -> Word:
    """Where a restore token with this value has to lie."""
    return align8(((token & _NOT_1) - 8) & MASK64)


def previous_ssp_token(ssp: Word, l_bit: Word) -> Word:
    """The token that RSTORSSP leaves in place of the restore token."""
    return ssp | l_bit | TOKEN_PREVIOUS


def previous_ssp(token: Word) -> Word:
    """The SSP in a previous-ssp token."""
    return token & _NOT_3
