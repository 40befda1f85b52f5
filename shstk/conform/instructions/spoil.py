"""Letting one thing be other than an instruction needs it."""

from __future__ import annotations

from shstk.conform.instructions import places
from shstk.conform.instructions.draft import Draft
from shstk.conform.instructions.table import GENERAL

BITS = (1, 2, 3, 4, 8, 1 << 12, 1 << 32, 1 << 40, 1 << 47, 1 << 63)
SELECTORS = (0, 0x03, 0x08, 0x10, 0x13, 0x20, 0x21, 0x23, 0x2B, 0x30, 0x33, 0x3B, 0x37, 0xFFF8)
#: The register that holds an instruction's address or target.
OPERANDS = {
    **{"call_abs": "rax", "incsspd": "rcx", "incsspq": "rcx", "map_shadow_stack": "rdi"},
    **dict.fromkeys(("rstorssp", "wrssd", "wrssq", "wrussd", "wrussq"), "rdi"),
    **dict.fromkeys(("clrssbsy", "store", "load"), "rdi"),
}
SIZES = (0, 1, 7, 8, 4096, 4097, 8192, (1 << 64) - 1, (1 << 64) - 4096)


def spoil(d: Draft) -> None:
    """One thing, chosen at random."""
    kinds = ["stack", "shadow stack", "flag"]
    if d.looked_at:
        kinds += ["word"] * 4
    if d.name in OPERANDS:
        kinds += ["operand"] * 4
    _SPOILERS[d.random.choice(kinds)](d)


def _word(d: Draft) -> None:
    at = d.random.choice(d.looked_at) & ~7
    old = d.word(at)
    if old is None or not d.run.can_plant(at):
        return
    new = d.random.choice(
        (
            old ^ d.random.choice(BITS),
            old ^ d.random.choice(BITS),
            d.random.choice(SELECTORS),
            places.elsewhere(d.random, d.place),
            0,
        )
    )
    d.words[at] = new


def _operand(d: Draft) -> None:
    name = OPERANDS[d.name]
    assert name in GENERAL
    if d.name == "map_shadow_stack" and d.chance(0.6):
        d.registers["rsi"] = d.random.choice(SIZES)
        return
    if d.name == "map_shadow_stack" and d.chance(0.3):
        d.registers["rdx"] = d.random.choice((2, 3, 1 << 32, (1 << 32) | 1))
        return
    old = d.get(name)
    choices = (old ^ 1, old ^ 4, old ^ 2, old + 4, old - 4, places.elsewhere(d.random, d.place))
    value = d.random.choice((*choices, choices[-1], choices[-1])) & d.mask
    d.registers[name] = value if d.name != "map_shadow_stack" else value or 4096


def _stack(d: Draft) -> None:
    old = d.get("rsp")
    others = (old ^ 4, old ^ 1, old & ~0xFFF, (old & ~0xFFF) + 4, (old & ~0xFFF) + 0xFFC)
    d.registers["rsp"] = d.random.choice((*others, places.elsewhere(d.random, d.place))) & d.mask


def _shadow_stack(d: Draft) -> None:
    if not d.run.regs.u_cet:
        return
    if d.chance(0.5):
        d.odd_ssp = True
        return
    value = places.elsewhere(d.random, d.place)
    if places.fits(value, d.long_mode):
        d.registers["ssp"] = value


def _flag(d: Draft) -> None:
    d.registers["cf"] = 1 - d.get("cf")


_SPOILERS = {
    "word": _word,
    "operand": _operand,
    "stack": _stack,
    "shadow stack": _shadow_stack,
    "flag": _flag,
}
