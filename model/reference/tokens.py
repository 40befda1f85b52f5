"""Tokens that lie on a shadow stack now: what RSTORSSP could use."""

from __future__ import annotations

from model.cpu.words import TOKEN_L, TOKEN_PREVIOUS, restore_token_address
from model.reference.vma import AddressSpace, Vma


def is_restore_token(address: int, word: int) -> bool:
    """RSTORSSP in 64-bit mode accepts ``word`` at ``address``."""
    return word & (TOKEN_L | TOKEN_PREVIOUS) == TOKEN_L and restore_token_address(word) == address


def restore_tokens(space: AddressSpace, area: Vma) -> list[int]:
    """Addresses in ``area`` at which a restore token lies."""
    return [address for address, word in space.find_words(area) if is_restore_token(address, word)]


def all_tokens(space: AddressSpace) -> list[int]:
    """Addresses of all restore tokens on shadow stacks of an address space."""
    return [a for area in space.areas if area.shadow for a in restore_tokens(space, area)]
