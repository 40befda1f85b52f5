"""Signals, sigreturn, map_shadow_stack and arch_prctl, on the words of a user's memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.designs.user_memory import SHADOW_STACK_SET_TOKEN, UserMemoryDesign
from model.designs.user_memory_6_12 import ARCH_SHSTK_UNLOCK, UserMemory612
from model.designs.user_memory_v1 import UserMemoryV1
from model.kernel.errno import (
    ECANCELED,
    EEXIST,
    EFAULT,
    EINTR,
    EINVAL,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    ERANGE,
)
from model.kernel.uaccess import CET_SHSTK_EN, CET_WRSS_EN, MASK64
from model.world import Cond
from shstk.text import check_source

V1, L612 = UserMemoryV1(), UserMemory612()
BOTH = pytest.mark.parametrize("design", [V1, L612], ids=["v1", "6.12"])

PAGE = 4096
TASK_SIZE_MAX = (1 << 47) - PAGE
BASE, TOP = 0x7FFF_F000_0000, 0x7FFF_F000_2000  # current's own stack, two pages
LOW = 0x2000_0000  # where a stack below 4 GiB is put
DATA = 0x7000_0000_0000  # a page of ordinary memory
RESTORER = 0x40_1000
BIT63 = 1 << 63
TOKEN = SHADOW_STACK_SET_TOKEN


@dataclass
class FakeMemory:
    """Current's memory: 4-byte words by address, and areas (start, end, shadow)."""

    ssp: int = TOP
    u_cet: int = CET_SHSTK_EN
    features: int = 1
    features_locked: int = 0
    wrss: Cond | bool = False
    shstk_base: int = BASE
    shstk_size: int = TOP - BASE
    missing: bool = False
    ia32: bool = False
    lock: int = 0  # what mmap_read_lock_killable() returns
    no_room: bool = False
    words: dict[int, int] = field(default_factory=dict)
    areas: list[tuple[int, int, bool]] = field(
        default_factory=lambda: [(DATA, DATA + PAGE, False), (BASE, TOP, True)]
    )
    calls: list[str] = field(default_factory=list)

    def user_shstk_missing(self) -> bool:
        return self.missing

    def in_ia32_syscall(self) -> bool:
        return self.ia32

    def inside(self, addr: int, size: int, *kinds: bool) -> bool:
        """The bytes are all in areas of these kinds."""
        return all(
            any(a <= byte < b and shadow in kinds for a, b, shadow in self.areas)
            for byte in range(addr, addr + size)
        )

    def store(self, addr: int, value: int, size: int) -> int:
        for offset in range(0, size, 4):
            self.words[addr + offset] = value >> 8 * offset & 0xFFFF_FFFF
        return 0

    def load(self, addr: int) -> int:
        return self.words.get(addr, 0) | self.words.get(addr + 4, 0) << 32

    def write_user_shstk_64(self, addr: int, value: int) -> int:
        if addr % 8 or not self.inside(addr, 8, True):
            return EFAULT
        return self.store(addr, value, 8)

    def write_user_shstk_32(self, addr: int, value: int) -> int:
        if addr % 4 or not self.inside(addr, 4, True):
            return EFAULT
        return self.store(addr, value, 4)

    def get_user(self, addr: int) -> tuple[int, int]:
        if not self.inside(addr, 8, False, True):
            return 0, EFAULT
        return self.load(addr), 0

    def put_user(self, addr: int, value: int) -> int:
        if not self.inside(addr, 8, False):
            return EFAULT
        return self.store(addr, value, 8)

    def copy_to_user(self, addr: int, words: tuple[int, ...]) -> int:
        for done, value in enumerate(words):
            if self.put_user(addr + 8 * done, value):
                return 8 * (len(words) - done)
        return 0

    def vma_is_shadow_stack(self, addr: int) -> bool:
        above = [(a, shadow) for a, b, shadow in self.areas if addr < b]
        return bool(above) and min(above)[1]

    def mmap_read_lock_killable(self) -> int:
        return self.lock

    def mmap_shadow_stack(
        self, addr: int, size: int, *, fixed_noreplace: Cond | bool, above_4g: bool
    ) -> tuple[int, int]:
        self.calls.append(f"mmap {addr:#x} {size:#x} fixed={fixed_noreplace} above={above_4g}")
        if size == 0:
            return 0, EINVAL
        if size > TASK_SIZE_MAX or self.no_room:
            return 0, ENOMEM
        if not fixed_noreplace:
            high = above_4g and not self.ia32
            addr = max(b for _, b, _ in self.areas) + PAGE if high else LOW
        if addr > TASK_SIZE_MAX - size:
            return 0, ENOMEM
        if addr % PAGE:
            return 0, EINVAL
        if any(a < addr + size and addr < b for a, b, _ in self.areas):
            return 0, EEXIST
        self.areas.append((addr, addr + size, True))
        return addr, 0

    def munmap(self, addr: int, size: int) -> int:
        self.calls.append(f"munmap {addr:#x} {size:#x}")
        self.areas.remove((addr, addr + size, True))
        return 0

    # -- the design's hooks --------------------------------------------------------------
    def shstk_setup(self) -> int:
        self.calls.append("shstk_setup")
        self.features, self.u_cet = 1, CET_SHSTK_EN
        self.shstk_base, self.shstk_size = BASE, TOP - BASE
        return 0

    def shstk_disable(self) -> int:
        self.calls.append("shstk_disable")
        self.features = self.u_cet = self.shstk_base = self.shstk_size = 0
        self.wrss = False
        return 0


def off(**changes: int | bool) -> FakeMemory:
    """A task without shadow stacks."""
    u = FakeMemory(features=0, u_cet=0, shstk_base=0, shstk_size=0, ssp=0)
    for name, value in changes.items():
        setattr(u, name, value)
    return u


def prctl(design: UserMemoryDesign, u: FakeMemory, option: int, arg2: int) -> tuple[int, int]:
    return design.arch_prctl(u, option, arg2, u.shstk_setup, u.shstk_disable)


def sigreturn(design: UserMemoryDesign, word: int, ssp: int = BASE + 8) -> tuple[int, int]:
    """(errno, SSP after) of a sigreturn that finds ``word`` at SSP."""
    u = FakeMemory(ssp=ssp)
    u.store(ssp, word, 8)
    return design.restore_signal_shadow_stack(u), u.ssp


words64 = st.integers(0, MASK64)
inside_stack = st.integers(BASE // 8, TOP // 8).map(lambda n: 8 * n)
canonical = st.integers(1, TASK_SIZE_MAX // 8 - 1).map(lambda n: 8 * n)


# -- the files ---------------------------------------------------------------------------
MODEL = Path(__file__).parents[3] / "model"
FILES = [
    *(MODEL / "kernel" / name for name in ("errno.py", "uaccess.py")),
    *sorted((MODEL / "designs").glob("user_memory*.py")),
]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_text_keeps_the_rules(path: Path) -> None:
    """No loops, no exceptions, no state: other worlds can run it."""
    check_source(path)


# -- tokens --------------------------------------------------------------------------------
def test_restore_tokens() -> None:
    """A token leads just above itself: EINVAL if that is unaligned, EFAULT if it has no place."""
    u = FakeMemory()
    assert L612.create_rstor_token(u, TOP) == (TOP - 8, 0)
    assert V1.create_rstor_token(u, TOP - 8, False) == (TOP - 16, 0)
    assert V1.create_rstor_token(u, TOP - 12, True) == (TOP - 24, 0)
    assert [u.load(TOP - n) for n in (8, 16, 24)] == [TOP | 1, TOP - 8 | 1, TOP - 12]
    for proc32 in (False, True):
        assert V1.create_rstor_token(u, TOP - (2 if proc32 else 4), proc32)[1] == EINVAL
        assert V1.create_rstor_token(u, DATA, proc32)[1] == EFAULT
    assert L612.create_rstor_token(u, TOP - 4)[1] == EINVAL
    assert L612.create_rstor_token(u, DATA)[1] == EFAULT


# -- delivery ------------------------------------------------------------------------------
@BOTH
def test_delivery_pushes_two_words(design: UserMemoryDesign) -> None:
    """SSP goes down by 16: the word that leads back, and the restorer below it."""
    u = FakeMemory()
    assert design.setup_signal_shadow_stack(u, RESTORER) == 0
    assert u.ssp == TOP - 16
    assert u.load(TOP - 8) == (TOP | 1 if design is V1 else TOP | BIT63)
    assert u.load(TOP - 16) == RESTORER


@BOTH
@given(ssp=inside_stack, depth=st.integers(1, 5))
def test_sigreturn_undoes_delivery(design: UserMemoryDesign, ssp: int, depth: int) -> None:
    """Nested handlers return to the SSP they interrupted; words at and above it are untouched."""
    assume(ssp - 16 * depth >= BASE)
    u = FakeMemory(ssp=ssp, words={a: a & 0xFFFF_FFFF for a in range(ssp, TOP, 4)})
    before = dict(u.words)
    seen = []
    for _ in range(depth):
        seen.append(u.ssp)
        assert design.setup_signal_shadow_stack(u, RESTORER) == 0
    while seen:
        assert u.load(u.ssp) == RESTORER
        u.ssp += 8  # the handler's RET
        assert design.restore_signal_shadow_stack(u) == 0
        assert u.ssp == seen.pop()
    assert before.items() <= u.words.items()


@BOTH
@pytest.mark.parametrize(
    ("ssp", "restorer", "err"),
    [
        (TOP, 0, EINVAL),
        (0, RESTORER, EINVAL),
        (TOP - 4, RESTORER, EINVAL),
        (BASE, RESTORER, EFAULT),
        (BASE + 8, RESTORER, EFAULT),
        (DATA + 64, RESTORER, EFAULT),
        (8, RESTORER, EFAULT),
    ],
    ids=["no restorer", "no SSP", "unaligned", "full", "room for one", "not shadow", "wraps"],
)
def test_failed_delivery_leaves_ssp(
    design: UserMemoryDesign, ssp: int, restorer: int, err: int
) -> None:
    """Every error of the hook itself, in both designs, leaves SSP where it was."""
    u = FakeMemory(ssp=ssp)
    assert design.setup_signal_shadow_stack(u, restorer) == err
    assert u.ssp == ssp


@given(ssp=words64, restorer=words64, words=st.dictionaries(inside_stack, words64))
def test_what_a_failed_delivery_may_have_written(
    ssp: int, restorer: int, words: dict[int, int]
) -> None:
    """6.12: after an error, SSP and all memory but the word at SSP-8 are what they were."""
    u = FakeMemory(ssp=ssp)
    for addr, word in words.items():
        u.store(addr, word, 8)
    before = dict(u.words)
    if L612.setup_signal_shadow_stack(u, restorer) == 0:
        return
    assert u.ssp == ssp
    changed = {a for a in u.words if u.words[a] != before.get(a, 0)}
    assert changed <= {ssp - 8, ssp - 4}


def test_the_word_below_ssp_may_be_lost() -> None:
    """With room for one word only, delivery fails after it has overwritten that word."""
    u = FakeMemory(ssp=BASE + 8)
    u.store(BASE, 7, 8)
    assert L612.setup_signal_shadow_stack(u, RESTORER) == EFAULT
    assert u.load(BASE) == BASE + 8 | BIT63


def test_an_ssp_in_the_kernels_half_is_refused() -> None:
    """An SSP with bit 63 set cannot be told from a frame's word: EFAULT, nothing written."""
    u = FakeMemory(ssp=BIT63 | TOP, areas=[(BIT63 | BASE, BIT63 | TOP, True)])
    assert L612.setup_signal_shadow_stack(u, RESTORER) == EFAULT
    assert not u.words


@BOTH
def test_without_shadow_stacks_signals_are_what_they_were(design: UserMemoryDesign) -> None:
    """With the feature off, or without a CPU that has it, neither end does anything."""
    for u in (off(), FakeMemory(missing=True)):
        ssp = u.ssp
        assert design.setup_signal_shadow_stack(u, 0) == 0
        assert design.restore_signal_shadow_stack(u) == 0
        assert u.ssp == ssp and not u.words


@given(ssp=canonical)
def test_a_frame_of_6_12_is_nothing_else(ssp: int) -> None:
    """Its word is no restore token in either mode, no previous-ssp token, no return address."""
    u = FakeMemory(ssp=ssp, areas=[(0, TASK_SIZE_MAX, True)])
    assume(L612.setup_signal_shadow_stack(u, RESTORER) == 0)
    addr, word = ssp - 8, u.load(ssp - 8)
    leads_back = ((word & ~1) - 8) & ~7 == addr
    assert not (word & 3 == 1 and leads_back)
    assert not (word & 3 == 0 and word >> 32 == 0 and leads_back)
    assert word & 2 == 0
    assert word >> 47 not in (0, 0x1FFFF)


@given(ssp=inside_stack)
def test_a_frame_of_v1_is_a_restore_token(ssp: int) -> None:
    """RSTORSSP would accept what v1's delivery pushes."""
    u = FakeMemory(ssp=ssp)
    assume(V1.setup_signal_shadow_stack(u, RESTORER) == 0)
    word = u.load(ssp - 8)
    assert word & 3 == 1 and ((word & ~1) - 8) & ~7 == ssp - 8


# -- delivery and the frame on the user's stack ----------------------------------------------
def deliver(design: UserMemoryDesign, abi: str, frame: int) -> tuple[int, FakeMemory]:
    """A delivery in which writing the user's frame returns ``frame``; SSP is noted then."""
    u = FakeMemory()

    def put_frame() -> int:
        u.calls.append(f"frame at SSP-{TOP - u.ssp}")
        return frame

    setup = {
        "x64": design.x64_setup_rt_frame,
        "x32": design.x32_setup_rt_frame,
        "ia32": design.ia32_setup_rt_frame,
    }[abi]
    return setup(u, RESTORER, put_frame), u


@pytest.mark.parametrize(
    ("design", "abi", "at_frame", "after"),
    [
        (V1, "x64", 16, 16),
        (V1, "x32", 16, 16),
        (V1, "ia32", 12, 12),
        (L612, "x64", 0, 16),
        (L612, "x32", 16, 16),
        (L612, "ia32", 0, 0),
    ],
)
def test_when_ssp_moves(design: UserMemoryDesign, abi: str, at_frame: int, after: int) -> None:
    """v1 and x32 move SSP before the frame is written; 6.12 pushes nothing for ia32."""
    err, u = deliver(design, abi, 0)
    assert err == 0 and u.calls == [f"frame at SSP-{at_frame}"] and u.ssp == TOP - after
    err, u = deliver(design, abi, EFAULT)
    assert err == EFAULT and u.ssp == TOP - at_frame
    assert bool(u.words) == (at_frame != 0)


@pytest.mark.parametrize("abi", ["x64", "x32", "ia32"])
@BOTH
def test_any_error_of_the_hook_is_efault(design: UserMemoryDesign, abi: str) -> None:
    """The caller sees EFAULT where there is no room on the shadow stack."""
    u = FakeMemory(ssp=BASE)
    setup = {"x64": design.x64_setup_rt_frame, "x32": design.x32_setup_rt_frame}
    if abi in setup:
        assert setup[abi](u, 0, lambda: 0) == EFAULT
    else:
        assert design.ia32_setup_rt_frame(u, 0, lambda: 0) == (EFAULT if design is V1 else 0)


# -- sigreturn ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("u", "err"),
    [
        (FakeMemory(ssp=0), EINVAL),
        (FakeMemory(ssp=TOP - 4), EINVAL),
        (FakeMemory(ssp=TOP - 4, lock=EINTR), EINVAL),
        (FakeMemory(ssp=TOP, lock=EINTR), EINTR),
        (FakeMemory(ssp=TOP), EFAULT),
        (FakeMemory(ssp=TOP - 8), EINVAL),
    ],
    ids=["no SSP", "unaligned", "alignment first", "dying", "off the end", "no frame"],
)
def test_sigreturn_refuses(u: FakeMemory, err: int) -> None:
    """6.12's errors up to the word itself, in its order; SSP stays."""
    ssp = u.ssp
    assert L612.restore_signal_shadow_stack(u) == err
    assert u.ssp == ssp


def test_bit_63_is_looked_at_before_the_area() -> None:
    """In ordinary memory a frame's word is EFAULT, and any other is EINVAL."""
    u = FakeMemory(ssp=DATA)
    assert L612.restore_signal_shadow_stack(u) == EINVAL
    u.store(DATA, TOP | BIT63, 8)
    assert L612.restore_signal_shadow_stack(u) == EFAULT
    assert u.ssp == DATA


@pytest.mark.parametrize(
    ("word", "err"),
    [
        (BIT63 | TOP, 0),
        (BIT63 | TOP - 4, EINVAL),
        (BIT63 | TASK_SIZE_MAX - 8, 0),
        (BIT63 | TASK_SIZE_MAX, EINVAL),
        (MASK64 - 7, EINVAL),
        (BIT63, 0),
        (TOP | 1, EINVAL),
        (DATA | BIT63, 0),
    ],
)
def test_where_a_frame_may_lead(word: int, err: int) -> None:
    """6.12: to any aligned user address, 0 and ordinary memory among them; not only just above."""
    before = BASE + 8
    assert sigreturn(L612, word) == (err, before if err else word & ~BIT63)


@pytest.mark.parametrize(
    ("word", "err"),
    [
        (BASE + 16 | 1, 0),
        (BASE + 16, EINVAL),
        (BASE + 16 | 3, EINVAL),
        (BASE + 20 | 1, EINVAL),
        (BASE + 24 | 1, EINVAL),
        (BASE + 16 | BIT63, EINVAL),
        (0, EINVAL),
    ],
    ids=["token", "32-bit", "busy", "unaligned", "misplaced", "6.12's", "nothing"],
)
def test_v1_takes_a_restore_token(word: int, err: int) -> None:
    """v1: only a 64-bit restore token that lies just below what it leads to."""
    before = BASE + 8
    assert sigreturn(V1, word) == (err, before if err else before + 8)


def test_v1_refuses_tokens_beyond_user_space() -> None:
    """A token in the last user word would lead to TASK_SIZE_MAX: EINVAL; without memory EFAULT."""
    u = FakeMemory(ssp=TASK_SIZE_MAX - 8, areas=[(BASE, TASK_SIZE_MAX, True)])
    u.store(TASK_SIZE_MAX - 8, TASK_SIZE_MAX | 1, 8)
    assert V1.restore_signal_shadow_stack(u) == EINVAL
    assert V1.restore_signal_shadow_stack(FakeMemory(ssp=TOP)) == EFAULT
    assert V1.restore_signal_shadow_stack(FakeMemory(ssp=0)) == EINVAL


def test_sigreturn_without_a_signal() -> None:
    """map_shadow_stack's token lets v1 sigreturn through; 6.12 refuses it."""
    for design, err in ((V1, 0), (L612, EINVAL)):
        u = FakeMemory()
        addr, _ = design.map_shadow_stack(u, 0, PAGE, TOKEN)
        u.ssp = addr + PAGE - 8
        assert design.restore_signal_shadow_stack(u) == err


def test_v1_does_not_look_at_the_area() -> None:
    """v1 reads its token from ordinary memory too, where any program can write it."""
    u = FakeMemory(ssp=DATA)
    u.put_user(DATA, DATA + 8 | 1)
    assert V1.restore_signal_shadow_stack(u) == 0
    assert u.ssp == DATA + 8


def test_ia32_sigreturn() -> None:
    """An ia32 sigreturn needs a 32-bit token in v1; in 6.12 it needs nothing."""
    for design, err in ((V1, EINVAL), (L612, 0)):
        u = FakeMemory(ia32=True)
        u.ssp = TOP - 8
        u.store(TOP - 8, TOP | 1, 8)
        assert design.ia32_rt_sigreturn(u) == err
        assert u.ssp == TOP - 8


@given(ssp=st.integers(BASE // 4 + 4, TOP // 4).map(lambda n: 4 * n))
def test_v1_ia32_round_trip(ssp: int) -> None:
    """v1's 32-bit frame restores a 4-aligned SSP."""
    u = FakeMemory(ssp=ssp, ia32=True)
    assert V1.ia32_setup_rt_frame(u, RESTORER, lambda: 0) == 0
    assert u.words[u.ssp] == RESTORER and u.ssp % 4 == 0
    u.ssp += 4
    assert V1.ia32_rt_sigreturn(u) == 0
    assert u.ssp == ssp


@BOTH
@given(data=st.data(), ssp=st.one_of(words64, inside_stack))
def test_every_installed_ssp_is_sound(
    design: UserMemoryDesign, data: st.DataObject, ssp: int
) -> None:
    """Whatever the memory holds, an SSP the kernel sets is 8-aligned and below TASK_SIZE_MAX."""
    word = data.draw(
        st.one_of(words64, st.just(ssp + 8 | 1), canonical.map(lambda a: a | BIT63)), "word"
    )
    u = FakeMemory(ssp=ssp, areas=[(0, TASK_SIZE_MAX, data.draw(st.booleans(), "shadow"))])
    u.store(ssp, word, 8)
    if data.draw(st.booleans(), "deliver"):
        err = design.setup_signal_shadow_stack(u, data.draw(words64, "restorer"))
    else:
        err = design.restore_signal_shadow_stack(u)
    if err:
        assert u.ssp == ssp
    else:
        assert u.ssp % 8 == 0 and u.ssp < TASK_SIZE_MAX


# -- map_shadow_stack -------------------------------------------------------------------------
@BOTH
@given(words=st.integers(1, 2000), token=st.booleans())
def test_where_the_token_lies(design: UserMemoryDesign, words: int, token: bool) -> None:
    """A token ends at addr + size, the size not rounded; without the flag there is none."""
    u, size = FakeMemory(), 8 * words
    addr, err = design.map_shadow_stack(u, 0, size, TOKEN if token else 0)
    assert err == 0 and addr % PAGE == 0
    assert (addr, addr + (size + PAGE - 1) // PAGE * PAGE, True) in u.areas
    written = {a: w for a, w in u.words.items() if w}
    at = addr + size - 8
    assert written.keys() <= ({at, at + 4} if token else set())
    assert u.load(at) == (addr + size | 1 if token else 0)


@BOTH
@given(size=st.integers(9, 3 * PAGE).filter(lambda n: n % 8))
def test_an_unaligned_token(design: UserMemoryDesign, size: int) -> None:
    """A token that cannot be aligned is EINVAL, and nothing stays mapped or written."""
    u = FakeMemory()
    areas = list(u.areas)
    assert design.map_shadow_stack(u, 0, size, TOKEN)[1] == EINVAL
    assert u.areas == areas and not u.words
    assert design.map_shadow_stack(u, 0, size, 0)[1] == 0


def test_6_12_places() -> None:
    """Without an address: above 4 GiB; with one: there, and only if nothing is."""
    u = FakeMemory()
    addr, err = L612.map_shadow_stack(u, 0, PAGE, 0)
    assert err == 0 and addr >= 1 << 32
    assert L612.map_shadow_stack(u, 1 << 32, PAGE, TOKEN) == (1 << 32, 0)
    assert u.calls == [
        "mmap 0x0 0x1000 fixed=False above=True",
        "mmap 0x100000000 0x1000 fixed=True above=True",
    ]
    assert L612.map_shadow_stack(u, 1 << 32, PAGE, TOKEN)[1] == EEXIST
    assert L612.map_shadow_stack(u, (1 << 32) + 8, PAGE, TOKEN)[1] == EINVAL


@pytest.mark.parametrize(
    ("addr", "size", "flags", "err"),
    [
        (LOW, MASK64, TOKEN | 2, EINVAL),
        (LOW, 7, TOKEN, ENOSPC),
        (LOW, 0, TOKEN, ENOSPC),
        (LOW, MASK64, TOKEN, ERANGE),
        (LOW, 0, 0, ERANGE),
        (1, PAGE, 0, ERANGE),
        ((1 << 32) - 1, PAGE, 0, ERANGE),
        (0, MASK64, TOKEN, EOVERFLOW),
        (1 << 32, MASK64 - PAGE + 2, 0, EOVERFLOW),
        (0, 0, 0, EINVAL),
        (0, MASK64 - PAGE + 1, 0, ENOMEM),
        (0, 1 << 47, 0, ENOMEM),
        (TASK_SIZE_MAX, PAGE, 0, ENOMEM),
        (0, PAGE, 1 << 32, 0),
    ],
)
def test_6_12_errors_in_order(addr: int, size: int, flags: int, err: int) -> None:
    """EINVAL for flags, ENOSPC, ERANGE, EOVERFLOW, then mmap's own; flags are 32 bits wide."""
    u = FakeMemory()
    assert L612.map_shadow_stack(u, addr, size, flags)[1] == err
    assert L612.map_shadow_stack(FakeMemory(missing=True), addr, size, flags)[1] == EOPNOTSUPP


@pytest.mark.parametrize(
    ("size", "flags", "err"),
    [
        (PAGE, MASK64 - 1, 0),
        (7, TOKEN, EINVAL),
        (0, TOKEN, EINVAL),
        (MASK64, TOKEN, EOVERFLOW),
        (1 << 47, 0, ENOMEM),
    ],
)
def test_v1_errors(size: int, flags: int, err: int) -> None:
    """v1 ignores the flags it does not know and has no error of its own for a small size."""
    for addr in (0, 1, DATA):
        assert V1.map_shadow_stack(FakeMemory(), addr, size, flags)[1] == err
    assert V1.map_shadow_stack(FakeMemory(missing=True), 0, size, flags)[1] == ENOSYS


def test_v1_ia32_token_below_its_stack() -> None:
    """v1, ia32, size 4: the token is written below the new area, into whatever stack is there."""
    alone = FakeMemory(ia32=True)
    assert V1.map_shadow_stack(alone, 0, 4, TOKEN)[1] == EINVAL
    u = FakeMemory(ia32=True)
    u.areas.append((LOW - PAGE, LOW, True))
    assert V1.map_shadow_stack(u, 0, 4, TOKEN) == (LOW, 0)
    assert u.load(LOW - 8) == LOW + 4


def test_ia32_map_shadow_stack_is_below_4g() -> None:
    """6.12 maps a shadow stack for an ia32 syscall, in reach of 32-bit code."""
    addr, err = L612.map_shadow_stack(FakeMemory(ia32=True), 0, PAGE, TOKEN)
    assert err == 0 and addr < 1 << 32


def test_no_room() -> None:
    """Without room, ENOMEM, and no token is written anywhere."""
    for design in (V1, L612):
        u = FakeMemory(no_room=True)
        assert design.map_shadow_stack(u, 0, PAGE, TOKEN)[1] == ENOMEM
        assert not u.words


# -- arch_prctl -----------------------------------------------------------------------------------
ENABLE, DISABLE, LOCK, UNLOCK, STATUS = 0x5001, 0x5002, 0x5003, 0x5004, 0x5005
SHSTK, WRSS = 1, 2


@pytest.mark.parametrize("option", [ENABLE, DISABLE, UNLOCK])
@pytest.mark.parametrize(
    ("features", "locked", "err"),
    [
        (SHSTK, SHSTK, EPERM),
        (SHSTK | WRSS, WRSS, EPERM),
        (4, MASK64, EPERM),
        (SHSTK | WRSS, 0, EINVAL),
        (BIT63 | 4, 0, EINVAL),
        (4, 0, EINVAL),
        (BIT63, 0, EINVAL),
        (0, MASK64, EINVAL),
        (SHSTK, WRSS, 0),
        (WRSS, SHSTK, 0),
    ],
)
def test_6_12_checks(option: int, features: int, locked: int, err: int) -> None:
    """Locked bits, then more than one bit, then unknown ones; an error changes nothing."""
    u = FakeMemory(features_locked=locked)
    assert L612.arch_prctl_check(u, option, features) == err
    if err:
        assert prctl(L612, u, option, features) == (0, err)
        assert u == FakeMemory(features_locked=locked)


@pytest.mark.parametrize("option", [ENABLE, DISABLE, UNLOCK])
def test_wrss_needs_shadow_stacks(option: int) -> None:
    """WRSS without shadow stacks is EPERM, to switch off as well."""
    assert L612.arch_prctl_check(off(), option, WRSS) == EPERM
    assert prctl(L612, off(), option, WRSS) == (0, EPERM)
    assert L612.wrss_control(off(), option != DISABLE) == EPERM


@pytest.mark.parametrize("option", [ENABLE, UNLOCK])
def test_unlock_of_oneself_enables(option: int) -> None:
    """ARCH_SHSTK_UNLOCK without ptrace does what ARCH_SHSTK_ENABLE does; it unlocks nothing."""
    u = off(features_locked=4)
    assert prctl(L612, u, option, SHSTK) == (0, 0)
    assert u.calls == ["shstk_setup"] and u.features_locked == 4
    assert prctl(L612, u, option, SHSTK) == (0, 0)
    assert u.calls == ["shstk_setup"]
    assert prctl(L612, u, option, WRSS) == (0, 0)
    assert (u.features, u.u_cet) == (SHSTK | WRSS, CET_SHSTK_EN | CET_WRSS_EN)
    assert prctl(L612, u, ARCH_SHSTK_UNLOCK, 4) == (0, EPERM)


def test_wrss_on_and_off() -> None:
    """WRSS is a bit of features and one of U_CET; what is so already is left alone."""
    for design in (V1, L612):
        u = FakeMemory()
        assert prctl(design, u, design.prctl.enable, design.prctl.wrss) == (0, 0)
        assert u.u_cet == CET_SHSTK_EN | CET_WRSS_EN
        again = design.wrss_control(u, True)
        assert prctl(design, u, design.prctl.disable, design.prctl.wrss) == (0, 0)
        assert (u.u_cet, u.features, u.wrss) == (CET_SHSTK_EN, SHSTK, False)
        assert again == design.wrss_control(u, False) == (1 if design is V1 else 0)


def test_disabling_takes_what_is_there() -> None:
    """6.12: disabling calls the hook once; where nothing is on it is success."""
    u = FakeMemory()
    assert prctl(L612, u, DISABLE, SHSTK) == (0, 0)
    assert prctl(L612, u, DISABLE, SHSTK) == (0, 0)
    assert u.calls == ["shstk_disable"]


def test_without_the_cpu_feature() -> None:
    """EOPNOTSUPP: v1 for every option, 6.12 only to change a known feature."""
    u = off(missing=True)
    for option in (0x3001, 0x3002, 0x3003, 0x3004, ENABLE):
        assert V1.arch_prctl_check(u, option, 0) == EOPNOTSUPP
    assert V1.wrss_control(u, True) == 1
    for option in (ENABLE, DISABLE):
        assert L612.arch_prctl_check(u, option, SHSTK) == EOPNOTSUPP
        assert L612.arch_prctl_check(u, option, WRSS) == EOPNOTSUPP
        assert L612.arch_prctl_check(u, option, 4) == EINVAL
    assert L612.wrss_control(u, True) == EOPNOTSUPP
    assert prctl(L612, u, LOCK, SHSTK) == (0, 0)
    assert prctl(L612, u, STATUS, DATA) == (0, 0)


def test_32_bit_entry() -> None:
    """6.12 has no such options for an ia32 syscall: EINVAL; v1 takes them from either."""
    for option in (ENABLE, DISABLE, LOCK, UNLOCK, STATUS):
        assert L612.arch_prctl_check(FakeMemory(ia32=True), option, SHSTK) == EINVAL
    assert V1.arch_prctl_check(FakeMemory(ia32=True), 0x3004, 2) == 0


@BOTH
def test_unknown_options(design: UserMemoryDesign) -> None:
    """EINVAL for the other design's numbers and for anything else."""
    theirs = (L612 if design is V1 else V1).prctl
    for option in (0, 0x5006, 0x3005, theirs.enable, theirs.disable, theirs.lock, theirs.status):
        assert prctl(design, FakeMemory(), option, 0) == (0, EINVAL)


@BOTH
@given(masks=st.lists(words64, max_size=4), feature=words64)
def test_locks_only_grow(design: UserMemoryDesign, masks: list[int], feature: int) -> None:
    """LOCK adds any bits, and no later request gets at a locked feature."""
    u, locked = FakeMemory(), 0
    for mask in masks:
        assert prctl(design, u, design.prctl.lock, mask) == (0, 0)
        locked |= mask
        assert u.features_locked == locked
    for option in (design.prctl.enable, design.prctl.disable):
        if feature & locked:
            assert prctl(design, u, option, feature) == (0, EPERM)
    assert u == FakeMemory(features_locked=locked) or not feature & locked


def test_status() -> None:
    """6.12 writes its features, v1 bits, base and size; to v1 a bad pointer is no error."""
    u = FakeMemory(features=SHSTK | WRSS, wrss=True)
    assert prctl(L612, u, STATUS, DATA) == (0, 0)
    assert u.load(DATA) == SHSTK | WRSS
    assert prctl(L612, u, STATUS, BASE) == (0, EFAULT)
    assert prctl(V1, u, 0x3001, DATA) == (0, 0)
    assert [u.load(DATA + n) for n in (0, 8, 16)] == [0x12, BASE, TOP - BASE]
    assert prctl(V1, u, 0x3001, BASE) == (24, 0)
    assert prctl(V1, u, 0x3001, DATA + PAGE - 8) == (16, 0)
    assert prctl(V1, off(), 0x3001, DATA) == (0, 0)
    assert [u.load(DATA + n) for n in (0, 8, 16)] == [0x12, BASE, TOP - BASE]


@pytest.mark.parametrize(
    ("u", "option", "features", "err", "calls"),
    [
        (off(), 0x3004, 0x2, 0, ["shstk_setup"]),
        (off(), 0x3004, 0x12, 0, ["shstk_setup"]),
        (off(), 0x3004, 0x3, ECANCELED, ["shstk_setup"]),
        (off(), 0x3004, 0x10, ECANCELED, []),
        (off(), 0x3004, 0, 0, []),
        (FakeMemory(), 0x3004, 0x2, ECANCELED, []),
        (FakeMemory(), 0x3004, 0x12, ECANCELED, []),
        (FakeMemory(), 0x3002, 0x2, 0, ["shstk_disable"]),
        (FakeMemory(wrss=True), 0x3002, 0x12, 0, ["shstk_disable"]),
        (FakeMemory(), 0x3002, 0x12, ECANCELED, ["shstk_disable"]),
        (FakeMemory(wrss=True), 0x3002, 0x2, 0, ["shstk_disable"]),
        (off(), 0x3002, 0x2, ECANCELED, []),
        (FakeMemory(shstk_base=0), 0x3002, 0x2, ECANCELED, []),
        (off(shstk_base=BASE), 0x3004, 0x2, ECANCELED, []),
        (off(features_locked=0x10), 0x3004, 0x12, EPERM, []),
        (FakeMemory(features_locked=1), 0x3002, 0x3, EPERM, []),
    ],
)
def test_v1_switches_what_it_can(
    u: FakeMemory, option: int, features: int, err: int, calls: list[str]
) -> None:
    """v1: several bits at once; ECANCELED if one did not change, and the others stay changed."""
    assert prctl(V1, u, option, features) == (0, err)
    assert u.calls == calls
