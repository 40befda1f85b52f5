"""What the kernel tests share: a bzImage made of nothing, and an emulator that is a script."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

BODY = b"\xf4" * 64
PREFERRED, INIT_SIZE = 0x1000000, 0x123456


def elf(entry: int, segments: list[tuple[int, bytes]]) -> bytes:
    """A 64-bit ELF file with the given physical addresses and contents, and one note."""
    count = len(segments) + 1
    at = 64 + 56 * count
    table = struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, 0, 0, 4)
    content = b""
    for address, data in segments:
        offset = at + len(content)
        table += struct.pack(
            "<IIQQQQQQ", 1, 5, offset, 0xFFFFFFFF80000000 + address, address, len(data), 4096, 1
        )
        content += data
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return head + table + content


def bzimage(payload: bytes = gzip.compress(elf(0x1000000, [(0x1000000, BODY)]))) -> bytes:
    """A bzImage of one setup sector whose kernel is ``payload``, as it is."""
    out = bytearray(0x400)
    out[0x1F1] = 1
    out[0x200:0x206] = b"\xeb\x66HdrS"
    struct.pack_into("<H", out, 0x206, 0x20F)
    struct.pack_into("<H", out, 0x20E, 0x100)
    struct.pack_into("<H", out, 0x236, 1)
    struct.pack_into("<II", out, 0x248, 16, len(payload))
    struct.pack_into("<QI", out, 0x258, PREFERRED, INIT_SIZE)
    out[0x300:0x320] = b"6.12.9-mine (me@here) #1 SMP".ljust(0x20, b"\0")
    return (bytes(out) + bytes(16) + payload).ljust(0x2000, b"\0")


def emulator(folder: Path, script: str) -> Path:
    """A program that is started as Bochs is; ``$log`` is the log that it is to write."""
    path = folder / "bochs"
    path.write_text(f'#!/bin/sh\nlog=$(dirname "$3")/log\n{script}\n')
    path.chmod(0o755)
    return path
