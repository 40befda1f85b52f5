"""An initramfs: a cpio archive in "newc" format (Documentation/driver-api/early-userspace)."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

FOLDERS = ("dev", "proc", "sys", "tmp")
# Character device 5:1, which the kernel opens as standard input and output of PID 1.
CONSOLE = (5, 1)


@dataclass(frozen=True)
class Entry:
    """A file of the archive: path without a leading slash, st_mode, content, device number."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(init: bytes, files: Mapping[str, bytes]) -> bytes:
    """The archive of a guest: ``/init``, the given files, folders to mount on, the console.

    ``files`` maps paths (with or without a leading slash) to contents; folders that they
    need are made.
    """
    wanted = {name.strip("/"): content for name, content in files.items()}
    folders = {*FOLDERS, *(part for name in wanted for part in _parents(name))}
    entries = [
        *(Entry(name, stat.S_IFDIR | 0o755) for name in sorted(folders)),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE),
        Entry("init", stat.S_IFREG | 0o755, init),
        *(Entry(name, stat.S_IFREG | 0o644, wanted[name]) for name in sorted(wanted)),
    ]
    return newc(entries)


def newc(entries: list[Entry]) -> bytes:
    """A newc archive: entries in order, a trailer, everything padded to 4 bytes.

    All belongs to root and is of the year 1970, so that equal entries give equal bytes.
    """
    out = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (
            *(number, entry.mode, 0, 0, links, 0, len(entry.content)),
            *(0, 0, *entry.device, len(name), 0),
        )
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        _pad(out)
        out += entry.content
        _pad(out)
    return bytes(out)


def _pad(out: bytearray) -> None:
    out += bytes(-len(out) % 4)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
