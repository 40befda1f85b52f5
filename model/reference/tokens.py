"""Tokens that lie on a shadow stack now: what RSTORSSP could use."""

from __future__ import annotations

from model.cpu.words import TOKEN_L, TOKEN_PREVIOUS, restore_token, restore_token_address
from model.kernel.errno import EFAULT, EINVAL
from model.reference.memory import PAGE_SHIFT
from model.reference.values import Range
from model.reference.vma import AddressSpace, Vma
from model.state import Off

FLAGS = TOKEN_L | TOKEN_PREVIOUS
SHSTK_TOKEN = "shstk_token"  # what clone3 was given, among the decisions of its step


def is_restore_token(address: int, word: int) -> bool:
    """RSTORSSP in 64-bit mode accepts ``word`` at ``address``."""
    return word & FLAGS == TOKEN_L and restore_token_address(word) == address


def restore_tokens(space: AddressSpace, area: Vma) -> list[int]:
    """Addresses in ``area`` at which a restore token lies."""
    return [address for address, word in space.find_words(area) if is_restore_token(address, word)]


def all_tokens(space: AddressSpace) -> list[int]:
    """Addresses of all restore tokens on shadow stacks of an address space."""
    found = []
    pages = space.pages.present
    for number in sorted(pages):
        start = number << PAGE_SHIFT
        words = pages[number].words.items()
        there = [
            start + o for o, w in words if w & FLAGS == TOKEN_L and is_restore_token(start + o, w)
        ]
        if there:
            area = space.find(start)
            if area is not None and area.shadow:
                found += sorted(there)
    return found


def choices(space: AddressSpace, token: int) -> dict[str, object]:
    """clone3's token at an address, as the decisions of its step."""
    area = space.find(token)
    where = Range(area.start, area.size) if area else Range(token, 0)
    off = Off.INSIDE if area and token + 8 != area.end else Off.TOP
    return {SHSTK_TOKEN: token, "addr": where, "SSP after": off}


def unseen_error(space: AddressSpace, token: int) -> int:
    """Why clone3 refuses a token, where the life cycle knows of no reason: an errno, or 0.

    The stack is not writable, or has a token, but not this one, at this address.
    """
    area = space.find(token)
    if area is None or not area.shadow:
        return 0
    if not area.write:
        return EFAULT
    fits = space.load(token, 8, shadow=False, user=False) == restore_token(token, TOKEN_L)
    return 0 if fits or not restore_tokens(space, area) else EINVAL
