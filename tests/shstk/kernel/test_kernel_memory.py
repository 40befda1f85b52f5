"""The machine's memory at power-on."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from kernel_samples import BODY, INIT_SIZE, PREFERRED, bzimage

from shstk.kernel import memory
from shstk.kernel.bzimage import header
from shstk.kernel.missing import Missing


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    """The memory with a small kernel, a command line and an initramfs."""
    memory.write_memory(tmp_path / "memory", bzimage(), "quiet nopku", b"files", "it")
    return (tmp_path / "memory").read_bytes()


def test_the_kernel_is_where_it_is_entered(written: bytes) -> None:
    """The address to enter is kept at ENTRY, and the kernel's text is there."""
    (entry,) = struct.unpack_from("<Q", written, memory.ENTRY)
    assert entry == PREFERRED
    assert written[entry : entry + len(BODY)] == BODY


def test_parameters_point_to_what_is_there(written: bytes) -> None:
    """struct boot_params names the initramfs and the command line."""
    parameters = written[memory.PARAMETERS :][:4096]
    assert parameters[0x202:0x206] == b"HdrS" and parameters[0x210] == 0xFF
    ramdisk, size = struct.unpack_from("<II", parameters, 0x218)
    assert written[ramdisk : ramdisk + size] == b"files"
    assert ramdisk >= PREFERRED + INIT_SIZE and ramdisk % 4096 == 0
    (at,) = struct.unpack_from("<I", parameters, 0x228)
    assert written[at : at + 12] == b"quiet nopku\0"


def test_the_map_of_memory_is_whole() -> None:
    """The areas are in order, do not overlap, and end where memory does."""
    out = memory.parameters(header(bzimage(), "it"), 0, 0)
    areas = [struct.unpack_from("<QQI", out, 0x2D0 + 20 * n) for n in range(out[0x1E8])]
    ends = [start + size for start, size, _ in areas]
    assert all(end <= areas[n + 1][0] for n, end in enumerate(ends[:-1]))
    assert ends[-1] == memory.SIZE
    usable = [(start, end) for (start, _, kind), end in zip(areas, ends, strict=True) if kind == 1]
    for address in (memory.PARAMETERS, memory.COMMAND_LINE, memory.PAGE_TABLES, PREFERRED):
        assert any(start <= address < end for start, end in usable)


def test_page_tables_map_memory_to_itself() -> None:
    """Walking the tables gives every address back."""
    tables = memory.page_tables()

    def entry(table: int, index: int) -> int:
        (value,) = struct.unpack_from("<Q", tables, table - memory.PAGE_TABLES + 8 * index)
        assert value & 1
        return int(value)

    for address in (0, 0xFF000, 0x1234567, memory.SIZE - 1):
        middle = entry(memory.PAGE_TABLES, address >> 39) & ~0xFFF
        low = entry(middle, address >> 30) & ~0xFFF
        page = entry(low, address >> 21 & 511)
        assert page & 0x80 and (page & ~0xFFF) | (address & 0x1FFFFF) == address


def test_a_packed_kernel_is_entered_where_64_bit_loaders_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kernel that is not unpacked here lies whole at 1 MiB and is entered 0x200 bytes on."""
    monkeypatch.setenv("PATH", "")
    image = bzimage(b"\x28\xb5\x2f\xfd" + bytes(40))
    entry, contents = memory.loaded(image, header(image, "it"))
    assert entry == 0x100200
    assert contents == [(0x100000, image[1024:])]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A kernel that wants more memory than there is is refused, in one line."""
    image = bytearray(bzimage(gzip.compress(b"")))
    struct.pack_into("<I", image, 0x260, memory.SIZE)
    with pytest.raises(Missing, match="do not fit 512 MiB"):
        memory.write_memory(tmp_path / "memory", bytes(image), "", b"", "it")
