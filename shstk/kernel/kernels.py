"""Kernels to boot: Debian's, fetched and unpacked, or an engineer's own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from shstk.kernel import store
from shstk.kernel.apt import Apt
from shstk.kernel.bzimage import header
from shstk.kernel.missing import Missing

# The signed package's image differs by the signature only.
PACKAGE = re.compile(r"linux-image-(6\.12\.(\d+)\+deb\d+)-cloud-amd64-unsigned")
PREFIX = "linux-image-6.12."


@dataclass(frozen=True)
class Kernel:
    """A bzImage, and what `uname -r` says in it."""

    image: Path
    version: str


def own_kernel(path: Path) -> Kernel:
    """The kernel in a bzImage; the version is from its header.

    Raises Missing if the file cannot be read or is no bzImage.
    """
    try:
        image = path.read_bytes()
    except OSError as error:
        raise Missing(f"{path}: {error.strerror}; --kernel wants a bzImage") from None
    return Kernel(path, header(image, str(path)).version)


def cached() -> Kernel | None:
    """The newest of Debian's kernels that were fetched earlier, if any was."""
    folders = [p for p in store.directory().glob("linux-*") if (p / "bzImage").exists()]
    if not folders:
        return None
    newest = max(folders, key=lambda path: _numbers(path.name))
    return own_kernel(newest / "bzImage")


def debian_kernel(say: Callable[[str], None], *, newest: bool = False) -> Kernel:
    """Debian's Linux 6.12: the one fetched earlier, or the newest there is.

    With ``newest`` the archive is asked even if one was fetched earlier.  Raises Missing if
    it cannot be fetched.
    """
    known = cached()
    if known is not None and not newest:
        return known
    with store.one_at_a_time():
        known = cached()
        if known is None or newest:
            known = _fetch(say)
    return known


def newest_package(names: Iterable[str]) -> str:
    """The newest of the packages that are a kernel to boot; Missing if none is."""
    found = [name for name in names if PACKAGE.fullmatch(name)]
    if not found:
        raise Missing(
            "this machine's apt sources have no Linux 6.12 of Debian's: add Debian 12's security "
            "archive, or give a kernel of your own with --kernel bzImage"
        )
    return max(found, key=_numbers)


def _fetch(say: Callable[[str], None]) -> Kernel:
    say("Linux: fetching the indexes")
    apt = Apt("linux")
    complaint = apt.update()
    names = apt.names(PREFIX)
    if complaint and not names:
        raise Missing(f"the package archive's indexes cannot be fetched: {complaint}")
    package = newest_package(names)
    match = PACKAGE.fullmatch(package)
    assert match is not None
    name = f"linux-{match.group(1)}"
    if not (store.directory() / name / "bzImage").exists():
        say(f"Linux: fetching {package}")
        with store.made(name) as folder:
            _unpack(apt.download(package, folder), folder)
    return own_kernel(store.directory() / name / "bzImage")


def _unpack(package: Path, folder: Path) -> None:
    """Keep the kernel of a package's file as ``bzImage``, and its configuration."""
    tree = folder / "tree"
    done = subprocess.run(
        ["dpkg", "-x", str(package), str(tree)], capture_output=True, text=True, check=False
    )
    images = list(tree.glob("boot/vmlinuz-*"))
    if done.returncode != 0 or len(images) != 1:
        raise Missing(
            f"{package.name} cannot be unpacked: {done.stderr.strip() or 'no kernel in it'}"
        )
    images[0].rename(folder / "bzImage")
    for config in tree.glob("boot/config-*"):
        config.rename(folder / "config")
    package.unlink()
    shutil.rmtree(tree)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]
