"""The emulated machine's memory at power-on: a boot loader's work, done beforehand.

Documentation/arch/x86/boot.rst ("64-bit boot protocol") and zero-page.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from shstk.kernel.bzimage import LONG_ENTRY, SETUP_SECTORS, Header, header, vmlinux
from shstk.kernel.missing import Missing

SIZE = 512 << 20  # bytes of memory the machine has
ENTRY = 0x8000  # here is the address at which the kernel is entered
PAGE_TABLES = 0x9000  # three pages
PARAMETERS = 0x10000  # struct boot_params
COMMAND_LINE = 0x20000
KERNEL = 0x100000  # a kernel that unpacks itself
LOW_END = 0x9FC00  # above it a BIOS would have its extended data
RAM, RESERVED = 1, 2  # in a map of the memory
PRESENT_WRITABLE, LARGE = 3, 0x80  # in page tables
PAGE, LARGE_PAGE = 4096, 2 << 20

# Offsets in struct boot_params.
E820_ENTRIES, LOADER, RAMDISK, COMMAND_LINE_AT, E820_TABLE = 0x1E8, 0x210, 0x218, 0x228, 0x2D0
UNKNOWN_LOADER = 0xFF

Content = tuple[int, bytes]  # a physical address, and what is there


def write_memory(path: Path, image: bytes, command_line: str, ramdisk: bytes, name: str) -> None:
    """Write what is in memory, from address 0 on; ``image`` is a bzImage called ``name``.

    Raises Missing if it is none, or if all does not fit.
    """
    found = header(image, name)
    high = _rounded(found.preferred + found.init_size)
    if high + len(ramdisk) > SIZE:
        raise Missing(f"{name} and {len(ramdisk)} bytes of files do not fit {SIZE >> 20} MiB")
    entry, kernel = loaded(image, found)
    contents = (
        (ENTRY, struct.pack("<Q", entry)),
        (PAGE_TABLES, page_tables()),
        (PARAMETERS, parameters(found, high, len(ramdisk))),
        (COMMAND_LINE, command_line.encode() + b"\0"),
        *kernel,
        (high, ramdisk),
    )
    with path.open("wb") as file:
        for address, content in contents:
            file.seek(address)
            file.write(content)


def loaded(image: bytes, found: Header) -> tuple[int, Sequence[Content]]:
    """Where a kernel is entered, and what is where: unpacked, or to unpack itself."""
    unpacked = vmlinux(image, found)
    if unpacked is None:
        return KERNEL + LONG_ENTRY, [(KERNEL, image[found.body :])]
    return unpacked.entry, unpacked.segments


def parameters(found: Header, ramdisk: int, size: int) -> bytes:
    """struct boot_params: the kernel's own header, the initramfs, a map of the memory."""
    out = bytearray(PAGE)
    out[SETUP_SECTORS : SETUP_SECTORS + len(found.setup)] = found.setup
    out[LOADER] = UNKNOWN_LOADER
    struct.pack_into("<II", out, RAMDISK, ramdisk, size)
    struct.pack_into("<I", out, COMMAND_LINE_AT, COMMAND_LINE)
    areas = (
        (0, LOW_END, RAM),
        (LOW_END, 0xA0000 - LOW_END, RESERVED),
        (0xF0000, 0x10000, RESERVED),
        (KERNEL, SIZE - KERNEL, RAM),
    )
    out[E820_ENTRIES] = len(areas)
    for number, area in enumerate(areas):
        struct.pack_into("<QQI", out, E820_TABLE + 20 * number, *area)
    return bytes(out)


def page_tables() -> bytes:
    """Three levels that map the first GiB to itself, in large pages."""
    top = struct.pack("<Q", (PAGE_TABLES + PAGE) | PRESENT_WRITABLE).ljust(PAGE, b"\0")
    middle = struct.pack("<Q", (PAGE_TABLES + 2 * PAGE) | PRESENT_WRITABLE).ljust(PAGE, b"\0")
    pages = range(0, PAGE // 8 * LARGE_PAGE, LARGE_PAGE)
    return top + middle + b"".join(struct.pack("<Q", p | LARGE | PRESENT_WRITABLE) for p in pages)


def _rounded(address: int) -> int:
    return (address + LARGE_PAGE - 1) // LARGE_PAGE * LARGE_PAGE
