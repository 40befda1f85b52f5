"""What is read out of a bzImage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_samples import BODY, INIT_SIZE, PREFERRED, bzimage, elf

from shstk.kernel.bzimage import header, vmlinux
from shstk.kernel.kernels import own_kernel
from shstk.kernel.missing import Missing

KERNEL = elf(0x1000000, [(0x1000000, BODY), (0x2000000, b"data")])
SIZE = len(KERNEL).to_bytes(4, "little")


def test_the_header_is_read() -> None:
    """Version, sizes and addresses are those of the image."""
    found = header(bzimage(), "it")
    assert found.version == "6.12.9-mine"
    assert (found.preferred, found.init_size) == (PREFERRED, INIT_SIZE)
    assert found.body == 1024
    assert found.setup[0x11:0x15] == b"HdrS" and len(found.setup) == 0x202 + 0x66 - 0x1F1


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda data: lzma.compress(data) + SIZE,
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE) + SIZE,
        lambda data: bz2.compress(data) + SIZE,
    ],
    ids=["gzip", "xz", "lzma", "bzip2"],
)
def test_the_kernel_is_unpacked(pack: Callable[[bytes], bytes]) -> None:
    """Entry and segments are found whatever the kernel was packed with; notes are not loaded."""
    image = bzimage(pack(KERNEL))
    found = vmlinux(image, header(image, "it"))
    assert found is not None
    assert found.entry == 0x1000000
    assert found.segments == ((0x1000000, BODY), (0x2000000, b"data"))


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_the_kernel_is_unpacked_with_zstd() -> None:
    """A kernel packed as Debian's is unpacked where zstd is installed."""
    packed = subprocess.run(["zstd", "-cq"], input=KERNEL, capture_output=True, check=True).stdout
    image = bzimage(packed + SIZE)
    found = vmlinux(image, header(image, "it"))
    assert found is not None and found.segments[1] == (0x2000000, b"data")


def test_without_the_tool_the_kernel_unpacks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstd, or with a packing that is not known, nothing is unpacked here."""
    monkeypatch.setenv("PATH", "")
    for packed in (b"\x28\xb5\x2f\xfd" + bytes(40), b"\x02\x21\x4c\x18" + bytes(40)):
        image = bzimage(packed)
        assert vmlinux(image, header(image, "it")) is None


def test_a_damaged_kernel_unpacks_itself_too() -> None:
    """Damage is left to the kernel's own boot code, which says so on the console."""
    image = bzimage(gzip.compress(KERNEL)[:-20])
    assert vmlinux(image, header(image, "it")) is None


def test_other_files_are_refused(tmp_path: Path) -> None:
    """What is no bzImage is refused in one line that names the file and says what to give."""
    path = tmp_path / "vmlinux"
    path.write_bytes(KERNEL)
    with pytest.raises(Missing, match=r"vmlinux is no bzImage: give .*arch/x86/boot/bzImage"):
        own_kernel(path)
    with pytest.raises(Missing, match="nowhere: No such file"):
        own_kernel(tmp_path / "nowhere")
    old = bytearray(bzimage())
    old[0x236] = 0
    with pytest.raises(Missing, match="no 64-bit kernel"):
        header(bytes(old), "it")


def test_an_own_kernel_has_its_version(tmp_path: Path) -> None:
    """``--kernel`` knows what `uname -r` will say."""
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    assert own_kernel(path).version == "6.12.9-mine"
