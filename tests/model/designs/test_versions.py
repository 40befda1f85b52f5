"""What differs from one version to the next: in the classes, and at the memory level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

import model.reference.memcalls  # noqa: F401 - registers the operations
from model.designs import DESIGNS, Design
from model.events import Allocated, Unmapped, Warned
from model.kernel.errno import EFAULT, EINTR, EINVAL, ENOMEM, ENOSYS, ERANGE
from model.kernel.uaccess import UserMemory
from model.reference.areas import MMAP_BASE, PMD_SIZE
from model.reference.machine import Machine, Returned
from model.reference.operations import do
from model.reference.tokens import is_restore_token
from model.world import PAGE_SIZE
from shstk.build import CLAIMS, extract
from shstk.space import Bound
from shstk.tables import Forest, Leaf, Mask

NAMES = {"name", "title", "cite", "source", "__doc__", "__module__"}
RC1, RELEASE, LINUX = "linux-6.6-rc1", "linux-6.6", "linux-6.12"

# Between neighbours in history: what is not the same in both classes, beside names.
DIFFERENCES = [
    (
        "v3",
        RC1,
        {
            *("shstk_free", "unmap_or_retry", "shstk_disable"),
            *("map_above4g", "shstk_pop_sigframe", "map_shadow_stack"),
            *("alloc_shstk", "set_token_at_error", "arch_prctl_check"),
        },
    ),
    (
        RC1,
        "fix-vfork-clone-failure",
        {"shstk_alloc_thread_stack", "shstk_free", "deactivate_mm"},
    ),
    ("fix-vfork-clone-failure", "fix-clone-error-handling", {"copy_thread"}),
    ("fix-clone-error-handling", "fix-double-unmap-warning", {"shstk_free"}),
    ("fix-double-unmap-warning", RELEASE, set()),
    (
        RELEASE,
        LINUX,
        {
            *("ssp_before_frame", "x32_setup_rt_frame", "shstk_pop_sigframe"),
            *("has_mseal", "huge_pages", "gap_below_new"),
        },
    ),
    (LINUX, "linux-6.18", {"shstk_pop_sigframe"}),
]


@pytest.mark.parametrize(("older", "newer", "what"), DIFFERENCES)
def test_what_a_version_changed(older: str, newer: str, what: set[str]) -> None:
    """Two neighbours differ in these functions and values, and in no other."""
    one, other = type(DESIGNS[older]), type(DESIGNS[newer])
    everything = {n for n in {*dir(one), *dir(other)} if not n.startswith("__")} - NAMES
    missing = object()
    pairs = {n: (getattr(one, n, missing), getattr(other, n, missing)) for n in everything}
    assert {name for name, (a, b) in pairs.items() if a is not b} == what


def test_the_chain_is_whole() -> None:
    """Every version from v3 on is compared with the next."""
    chain = [older for older, _, _ in DIFFERENCES] + [DIFFERENCES[-1][1]]
    known = list(DESIGNS)
    assert chain == known[known.index("v3") : known.index("linux-6.18") + 1]


# -- signals -----------------------------------------------------------------------------

STACK, DATA = 0x7000_0000_0000, 0x6000_0000_0000
BIT63 = 1 << 63


@dataclass
class Memory:
    """Words by address; all that is at or above STACK is a shadow stack."""

    ssp: int = STACK + 0x800
    features: int = 1
    lock: int = 0
    words: dict[int, int] = field(default_factory=dict)

    def user_shstk_missing(self) -> bool:
        return False

    def in_ia32_syscall(self) -> bool:
        return False

    def get_user(self, addr: int) -> tuple[int, int]:
        return self.words.get(addr, 0), 0

    def write_user_shstk_64(self, addr: int, value: int) -> int:
        if addr < STACK:
            return EFAULT
        self.words[addr] = value
        return 0

    def vma_is_shadow_stack(self, addr: int) -> bool:
        return addr >= STACK

    def mmap_read_lock_killable(self) -> int:
        return self.lock


def user(memory: Memory) -> UserMemory:
    return cast(UserMemory, memory)


@pytest.mark.parametrize(
    ("name", "x64", "x32", "x32_pushes"),
    [
        ("v3", 16, 0, 0),
        (RC1, 16, 0, 0),
        (RELEASE, 16, 0, 0),
        (LINUX, 0, 16, 16),
        ("linux-6.18", 0, 16, 16),
        ("not-configured", 0, 0, 0),
    ],
)
def test_a_failed_delivery(name: str, x64: int, x32: int, x32_pushes: int) -> None:
    """31255e072b2e keeps SSP where the frame cannot be written, 2883f01ec37d pushes for x32."""
    design = DESIGNS[name]
    moved = []
    for setup in (design.x64_setup_rt_frame, design.x32_setup_rt_frame):
        memory = Memory()
        assert setup(user(memory), 0x40_1000, lambda: EFAULT) == EFAULT
        moved.append(STACK + 0x800 - memory.ssp)
    assert moved == [x64, x32]
    memory = Memory()
    assert design.x32_setup_rt_frame(user(memory), 0x40_1000, lambda: 0) == 0
    assert STACK + 0x800 - memory.ssp == x32_pushes


# What sigreturn says to a frame's word in ordinary memory, and to a lock that cannot be had.
SIGRETURN = [
    ("v3", DATA, 0, 0),
    ("v3", DATA + 8, 0, 0),
    ("v3", DATA + 4, 0, 0),
    (RELEASE, DATA, 0, EFAULT),
    (RELEASE, DATA + 8, 0, 0),
    (RELEASE, DATA + 4, 0, EINVAL),
    (RELEASE, STACK, EINTR, 0),
    (LINUX, DATA, 0, EFAULT),
    (LINUX, DATA + 8, 0, EFAULT),
    (LINUX, STACK, EINTR, EINTR),
    ("linux-6.18", DATA, 0, EINVAL),
    ("linux-6.18", DATA + 8, 0, EINVAL),
    ("linux-6.18", STACK, EINTR, EINTR),
    ("linux-6.18", STACK + 4, 0, EINVAL),
]


@pytest.mark.parametrize(("name", "ssp", "lock", "error"), SIGRETURN)
def test_what_sigreturn_checks(name: str, ssp: int, lock: int, error: int) -> None:
    """v3 takes a frame anywhere, 6.6 where SSP is not the start of a page, 6.12 nowhere else."""
    memory = Memory(ssp=ssp, lock=lock, words={ssp: STACK | BIT63})
    assert DESIGNS[name].restore_signal_shadow_stack(user(memory)) == error
    assert memory.ssp == (ssp if error else STACK)


# -- map_shadow_stack(2), places ---------------------------------------------------------


def returned(machine: Machine, *what: Any, **more: Any) -> int:
    """What P's system call returns."""
    (value,) = [e.value for e in do(machine, "P", *what, **more).effects if isinstance(e, Returned)]
    return value


@pytest.mark.parametrize(("name", "written"), [("v3", True), (RC1, False), (LINUX, False)])
def test_v3_writes_a_token_where_nothing_was_mapped(name: str, written: bool) -> None:
    """v3 looks at the wrong value for an error, so user code chooses where a token goes."""
    machine = Machine.boot(DESIGNS[name])
    assert returned(machine, "arch_prctl", "ENABLE", "SHSTK") == 0
    thread = machine.thread("P")
    where = thread.ssp - 64
    assert returned(machine, "map_shadow_stack", where + 8 + ENOMEM, token=True) == -ENOMEM
    word = machine.system.space(thread).load(where, 8, True, True)
    assert is_restore_token(where, word) == written
    assert returned(machine, "map_shadow_stack", where + 9 + ENOMEM, token=True) == (
        -EINVAL if written else -ENOMEM
    )


@pytest.mark.parametrize(("name", "value"), [("v3", 0x2000_0000), (RC1, -ERANGE)])
def test_low_addresses(name: str, value: int) -> None:
    """v3 maps below 4 GiB where it is asked to."""
    machine = Machine.boot(DESIGNS[name])
    assert returned(machine, "map_shadow_stack", 4096, addr=0x2000_0000) == value


@pytest.mark.parametrize(("name", "adjacent"), [("v3", True), (RELEASE, True), (LINUX, False)])
def test_a_hole_of_the_right_size(name: str, adjacent: bool) -> None:
    """Up to 6.10 a new shadow stack can begin where another one ends."""
    space = Machine.boot(DESIGNS[name]).system.new_space()
    end = MMAP_BASE - 8 * PAGE_SIZE
    for start, size, shadow in ((end - PAGE_SIZE, 1, True), (end + PAGE_SIZE, 7, False)):
        space.map(start, size * PAGE_SIZE, shadow=shadow, read=True, write=True)
    got = space.unmapped_area(PAGE_SIZE, shadow=True, above4g=True)
    assert (got == end) == adjacent
    assert got + PAGE_SIZE <= end - 2 * PAGE_SIZE or got == end


@pytest.mark.parametrize(("name", "aligned"), [(RELEASE, False), (LINUX, True)])
def test_huge_pages(name: str, aligned: bool) -> None:
    """Since 6.7 a multiple of 2 MiB is placed at one."""
    space = Machine.boot(DESIGNS[name]).system.new_space()
    space.map(MMAP_BASE - PAGE_SIZE, PAGE_SIZE, shadow=False, read=True, write=True)
    got = space.unmapped_area(8 << 20, shadow=True, above4g=True)
    assert (got % PMD_SIZE == 0) == aligned


@pytest.mark.parametrize(("name", "value"), [(RELEASE, -ENOSYS), (LINUX, 0)])
def test_mseal_came_later(name: str, value: int) -> None:
    """mseal(2) is a system call of 6.10."""
    machine = Machine.boot(DESIGNS[name])
    start = returned(machine, "map_shadow_stack", 4096)
    assert returned(machine, "mseal", start, 4096) == value


# -- not configured ----------------------------------------------------------------------


def test_without_shadow_stacks_every_call_fails() -> None:
    """arch_prctl() knows no such option, and map_shadow_stack(2) is not built."""
    machine = Machine.boot(DESIGNS["not-configured"])
    for option in ("ENABLE", "DISABLE", "LOCK", "UNLOCK", "STATUS"):
        for feature in ("SHSTK", "WRSS"):
            assert returned(machine, "arch_prctl", option, feature) == -EINVAL
    assert returned(machine, "map_shadow_stack", 4096) == -ENOSYS
    thread = machine.thread("P")
    assert (thread.shstk, thread.locked_shstk, thread.ssp, thread.base) == (False, False, 0, 0)


def leaves(forest: Forest, root: int) -> Iterator[Leaf | Mask]:
    """How a step's tree ends: not at all where it cannot happen."""
    if root < 0:
        return
    node = forest.nodes[root]
    if isinstance(node, (Leaf, Mask)):
        yield node
        return
    for child in node.children:
        yield from leaves(forest, child)


def test_without_shadow_stacks_nothing_happens_to_any() -> None:
    """No step of the text maps or unmaps a shadow stack, locks a feature or warns."""
    design: Design = DESIGNS["not-configured"]
    tables = extract(design, Bound(2, 1, 1))
    about = {
        bit
        for bit, part in enumerate(CLAIMS)
        if getattr(part.conjunct, "event", None) in (Allocated, Unmapped, Warned)
    }
    nodes = [node for node in tables.forest.nodes if hasattr(node, "witnesses")]
    seen = {bit for bit in about for node in nodes if node.witnesses >> bit & 1}
    assert about and not seen
    for step in ("lock", "map_shadow_stack"):
        assert not list(leaves(tables.forest, tables.steps[step]))
