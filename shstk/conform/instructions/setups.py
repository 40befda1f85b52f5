"""What has to be there for an instruction to succeed."""

from __future__ import annotations

from collections.abc import Callable

from model.cpu.concrete import USER32_CS, USER_CS
from model.cpu.words import MASK32, MASK64, TOKEN_BUSY, TOKEN_L, TOKEN_PREVIOUS, restore_token
from model.reference.vma import PAGE_SIZE, SZ_4G
from shstk.conform.instructions import layout, places
from shstk.conform.instructions.ahead import FLAGS, USER_DS
from shstk.conform.instructions.draft import Draft
from shstk.conform.instructions.layout import Kind, in_code
from shstk.conform.instructions.table import INSTRUCTIONS, MAP_SHADOW_STACK

STACKS = (Kind.SHADOW,)


def follows(d: Draft) -> bool:
    """An earlier step has left what the instruction looks for: a CALL, or an RSTORSSP."""
    top = d.value(d.get("ssp"), 8)
    if d.name == "saveprevssp":
        return top is not None and top & (TOKEN_PREVIOUS | TOKEN_L) == TOKEN_PREVIOUS | d.lbit
    if d.name == "ret":
        back = d.value(d.get("rsp"), d.width)
        return back is not None and back == d.value(d.get("ssp"), d.width) and in_code(back)
    if d.name == "ret_far":
        return top is not None and top in (d.get("ssp") + 24, d.get("ssp") + 28)
    return False


def exists(name: str, long_mode: bool) -> bool:
    """The mode has the instruction, in some form."""
    encode = INSTRUCTIONS[name].encode
    if name in WITH_WIDTH:
        return True
    return bool(encode(long_mode, 0) if name == "call_rel" else encode(long_mode))


WITH_WIDTH = ("jmp_far", "call_far", "ret_far", "iret")
#: They make sense in whatever state there is.
FLOWING = (
    *("ret", "ret_far", "saveprevssp", "incsspd", "incsspq", "rdsspd", "rdsspq"),
    *("endbr64", "endbr32", "push", "pop"),
)
Setup = Callable[[Draft], None]


# -- near branches -----------------------------------------------------------------


def _call_rel(d: Draft) -> None:
    displacement = 0
    if d.chance(0.85):
        target = places.code(d.random, d.place)
        displacement = target - d.get("rip") - 5
    if d.place.code == layout.CODE_HIGH and d.chance(0.5):
        displacement = d.random.choice((0x7FFF_FFF0, 0x7FFF_FFFF - 0x1000))
    d.arguments = (displacement,)


def _call_abs(d: Draft) -> None:
    d.registers["rax"] = places.code(d.random, d.place)


def _ret(d: Draft) -> None:
    back = places.code(d.random, d.place)
    d.plant(d.get("rsp"), d.width, back)
    d.plant(d.get("ssp"), d.width, back)
    if d.chance(0.3):
        d.arguments = (d.random.choice((4, 8, 16, 0x100, 0xFFFF)),)


# -- far branches ------------------------------------------------------------------


def _width(d: Draft) -> int:
    return 8 if d.long_mode and d.chance(0.7) else 4


def _target(d: Draft) -> tuple[int, int]:
    """Selector and address of a far branch."""
    selector = USER_CS if d.long_mode else USER32_CS
    if d.chance(0.25):
        selector = USER_CS + USER32_CS - selector
    return selector, places.code(d.random, d.place) & (MASK32 if selector == USER32_CS else MASK64)


def _far_operand(d: Draft) -> None:
    width = _width(d)
    selector, target = _target(d)
    d.arguments = (width,)
    d.registers["rdi"] = layout.OPERAND
    d.plant(layout.OPERAND, width, target)
    d.plant(layout.OPERAND + width, 4, selector)


def _far_frame(d: Draft, selector: int, back: int) -> int:
    """What a far CALL would have pushed on the shadow stack; the SSP in it."""
    ssp = d.get("ssp")
    old = d.random.choice((ssp + 24, ssp + 24, ssp + 28, d.pointer(*STACKS)))
    d.plant(ssp, 8, old)
    d.plant(ssp + 8, 8, back)
    d.plant(ssp + 16, 8, selector)
    return old


def _ret_far(d: Draft) -> None:
    width = _width(d)
    selector, back = _target(d)
    rsp = d.get("rsp")
    d.plant(rsp, width, back)
    d.plant(rsp + width, width, selector)
    _far_frame(d, selector, back & ((1 << 8 * width) - 1))
    d.arguments = (width, d.random.choice((4, 8, 0xFFFF))) if d.chance(0.3) else (width,)


def _iret(d: Draft) -> None:
    width = _width(d)
    selector, back = _target(d)
    frame = [back, selector, FLAGS | d.chance(0.5)]
    if d.long_mode:
        frame += [d.pointer(Kind.RW), USER_DS]
    for number, word in enumerate(frame):
        d.plant(d.get("rsp") + number * width, width, word & ((1 << 8 * width) - 1))
    del d.looked_at[2:]  # RFLAGS and SS stay what they have to be
    _far_frame(d, selector, back & ((1 << 8 * width) - 1))
    if d.chance(0.5):
        above = d.get("ssp") + 24
        d.plant(above, 8, above | d.random.choice((0, TOKEN_BUSY)))
    d.arguments = (width,)


# -- the shadow stack ----------------------------------------------------------------


def _incssp(d: Draft) -> None:
    width = 8 if d.name == "incsspq" else 4
    area = d.run.space.find(d.get("ssp"))
    counts = [0, 1, 2, 3, 16, 255, 256, 0x1_0000_0001, MASK64]
    if area is not None:
        left = (area.end - d.get("ssp")) // width
        counts += [n for n in (left - 1, left, left + 1, left + 2) if 0 <= n < 256]
    d.registers["rcx"] = d.random.choice(counts) & d.mask


def _rstorssp(d: Draft) -> None:
    at = d.pointer(*STACKS)
    d.registers["rdi"] = at
    token = restore_token(at, d.lbit)
    if d.chance(0.25):  # an alignment hole above the token
        token += 4
    d.plant(at, 8, token)


def _saveprevssp(d: Draft) -> None:
    ssp = d.get("ssp")
    old = d.pointer(*STACKS) + 4 * d.chance(0.25)
    d.plant(ssp, 8, old | TOKEN_PREVIOUS | d.lbit)
    if not d.long_mode and d.chance(0.5):
        d.registers["cf"] = 1
        d.plant(ssp + 8, 4, 0)
    else:
        d.registers["cf"] = 0


def _write(d: Draft) -> None:
    odd = 4 if d.name in ("wrssd", "wrussd") and d.chance(0.5) else 0
    d.registers["rdi"] = d.pointer(*STACKS) + odd
    _value(d)


def _value(d: Draft) -> None:
    values = (d.pointer(*STACKS) | 1, 0, MASK64, 0x0123_4567_89AB_CDEF, d.get("rip"))
    d.registers["rax"] = d.random.choice(values) & d.mask


def _access(d: Draft) -> None:
    d.registers["rdi"] = d.pointer(
        *d.random.choice(((Kind.RW,), (Kind.RW,), STACKS))
    ) + d.random.choice((0, 0, 1, 4))
    _value(d)


def _push(d: Draft) -> None:
    if d.chance(0.3):
        d.registers["rsp"] = d.pointer(*d.random.choice(((Kind.RW,), STACKS)))
    _value(d)


def _map(d: Draft) -> None:
    here = layout.slot(d.place.areas[0].start & ~0xFFFF)
    d.registers.update(
        rax=MAP_SHADOW_STACK,
        rdi=here if here >= SZ_4G else layout.slot(layout.HIGH),
        rsi=d.random.choice((PAGE_SIZE, PAGE_SIZE, 8, 16, 100, PAGE_SIZE - 8)),
        rdx=int(d.chance(0.6)),
    )


def _nothing(d: Draft) -> None:
    pass


SETUPS: dict[str, Setup] = {
    **{"call_rel": _call_rel, "call_abs": _call_abs, "ret": _ret},
    **dict.fromkeys(("endbr64", "endbr32", "saveprevssp", "setssbsy"), _nothing),
    **dict.fromkeys(("jmp_far", "call_far"), _far_operand),
    **{"ret_far": _ret_far, "iret": _iret},
    **dict.fromkeys(("rdsspd", "rdsspq"), _value),
    **dict.fromkeys(("incsspd", "incsspq"), _incssp),
    **{"rstorssp": _rstorssp, "saveprevssp": _saveprevssp},
    **dict.fromkeys(("wrssd", "wrssq", "wrussd", "wrussq", "clrssbsy"), _write),
    **dict.fromkeys(("store", "load"), _access),
    **{"push": _push, "pop": _push, "map_shadow_stack": _map},
}
assert SETUPS.keys() == INSTRUCTIONS.keys()
