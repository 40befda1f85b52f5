"""What is in a bzImage: its setup header and the kernel proper (Documentation/arch/x86)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from shstk.kernel.missing import Missing

# Offsets in the file; from SETUP_SECTORS on also in struct boot_params.
SETUP_SECTORS, JUMP, MAGIC, PROTOCOL, VERSION, FLAGS = 0x1F1, 0x200, 0x202, 0x206, 0x20E, 0x236
PAYLOAD, PREFERRED, INIT_SIZE = 0x248, 0x258, 0x260
OLDEST = 0x20C  # the protocol that tells 64-bit kernels, of Linux 3.8
LONG_MODE = 1  # in FLAGS
LONG_ENTRY = 0x200  # where a 64-bit boot loader enters, from the kernel proper's start
LOADED = 1  # a program header's type
DAMAGED = (EOFError, OSError, ValueError, lzma.LZMAError, struct.error, zlib.error)


@dataclass(frozen=True)
class Header:
    """What a bzImage says of itself; sizes and addresses in bytes."""

    setup: bytes  # the header that is handed on to the kernel, from SETUP_SECTORS on
    version: str  # as `uname -r`
    body: int  # where in the file the kernel proper starts
    payload: tuple[int, int]  # the packed vmlinux: start in the kernel proper, length
    preferred: int  # where it wants to be unpacked
    init_size: int  # how much memory it needs there


@dataclass(frozen=True)
class Vmlinux:
    """An unpacked kernel: where to enter it, and what is where, in physical addresses."""

    entry: int
    segments: tuple[tuple[int, bytes], ...]


def header(image: bytes, name: str) -> Header:
    """The setup header of a bzImage; ``name`` is for the error.

    Raises Missing if it is none, or not of a 64-bit kernel.
    """
    if len(image) < 0x1000 or image[MAGIC : MAGIC + 4] != b"HdrS":
        raise Missing(f"{name} is no bzImage: give the file arch/x86/boot/bzImage of a build")
    (protocol,) = struct.unpack_from("<H", image, PROTOCOL)
    (flags,) = struct.unpack_from("<H", image, FLAGS)
    if protocol < OLDEST or not flags & LONG_MODE:
        raise Missing(f"{name} is no 64-bit kernel: shadow stacks need one")
    (at,) = struct.unpack_from("<H", image, VERSION)
    text = image[at + 0x200 : at + 0x300].split(b"\0")[0].decode("ascii", "replace")
    (start, length) = struct.unpack_from("<II", image, PAYLOAD)
    (preferred, init_size) = struct.unpack_from("<QI", image, PREFERRED)
    return Header(
        setup=image[SETUP_SECTORS : MAGIC + image[JUMP + 1]],
        version=text.split(" ")[0],
        body=((image[SETUP_SECTORS] or 4) + 1) * 512,
        payload=(start, length),
        preferred=preferred,
        init_size=init_size,
    )


def vmlinux(image: bytes, found: Header) -> Vmlinux | None:
    """The kernel, unpacked here as the boot code would do on the slow machine.

    None if this host has nothing to unpack it with, or if it is damaged: the boot code says so.
    """
    start, length = found.payload
    packed = image[found.body + start :][:length]
    for magic, unpack in UNPACKERS:
        if packed.startswith(magic):
            try:
                elf = unpack(packed)
                return None if elf is None else _segments(elf)
            except DAMAGED:
                return None
    return None


def _segments(elf: bytes) -> Vmlinux | None:
    if elf[:4] != b"\x7fELF":
        return None
    (entry, table) = struct.unpack_from("<QQ", elf, 24)
    (size, count) = struct.unpack_from("<HH", elf, 54)
    out = []
    for at in range(table, table + size * count, size):
        (kind, _, offset, _, physical, length) = struct.unpack_from("<IIQQQQ", elf, at)
        if kind == LOADED:
            out.append((physical, elf[offset : offset + length]))
    return Vmlinux(entry, tuple(out))


def _with_size(unpack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """All but gzip's have the unpacked size after them, in 4 bytes."""
    return lambda packed: unpack(packed[:-4])


def _zstd(packed: bytes) -> bytes | None:
    if shutil.which("zstd") is None:
        return None
    done = subprocess.run(["zstd", "-dcq"], input=packed[:-4], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


UNPACKERS: tuple[tuple[bytes, Callable[[bytes], bytes | None]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"\xfd7zXZ\0", _with_size(lzma.decompress)),
    (b"\x5d\0\0", _with_size(lzma.decompress)),
    (b"BZh", _with_size(bz2.decompress)),
)
