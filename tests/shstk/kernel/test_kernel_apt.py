"""The package archive: its indexes, what is chosen from them, and what goes wrong."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from shstk.kernel import apt, bochs, kernels, store
from shstk.kernel.missing import Missing

SOURCES = """\
Package: bochs
Binary: bochs, bochs-doc,
 bochsbios
Version: 3.0+dfsg-1
Files:
 00000000000000000000000000000001 100 bochs_3.0+dfsg-1.dsc
Checksums-Sha256:
 aa01 2554 bochs_3.0+dfsg-1.dsc
 aa02 3896488 bochs_3.0+dfsg.orig.tar.xz
 aa03 833 bochs_3.0+dfsg.orig.tar.xz.asc
 aa04 30720 bochs_3.0+dfsg-1.debian.tar.xz
Directory: pool/b

Package: bochs
Version: 2.7+dfsg-4
Checksums-Sha256:
 bb01 1 bochs_2.7+dfsg.orig.tar.xz
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a PATH of their own; the folder that programs are to be put in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(folder: Path, name: str, text: str) -> None:
    """Put a shell script into a folder of programs."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_stanzas_are_read_with_continued_lines() -> None:
    """Fields of several lines keep all of them, and stanzas are told apart."""
    first, second = apt.stanzas(SOURCES)
    assert first["Binary"].split() == ["bochs,", "bochs-doc,", "bochsbios"]
    assert second["Version"] == "2.7+dfsg-4"


def test_the_upstream_source_of_bochs_3_is_chosen() -> None:
    """Not the signature, not the packaging, not another version."""
    assert bochs.original(apt.stanzas(SOURCES)) == apt.Item(
        "bochs_3.0+dfsg.orig.tar.xz", "aa02", 3896488
    )
    with pytest.raises(Missing, match=r"no source of Bochs 3\.0"):
        bochs.original(apt.stanzas(SOURCES)[1:])


def test_the_newest_kernel_is_chosen_by_number() -> None:
    """6.12.117 is newer than 6.12.99; debugging and other flavours do not count."""
    names = [
        "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.200+deb12-cloud-amd64-dbg",
        "linux-image-6.12.201+deb12-rt-amd64-unsigned",
        "linux-image-6.12-cloud-amd64",
    ]
    assert kernels.newest_package(names) == names[1]
    with pytest.raises(Missing, match="--kernel bzImage"):
        kernels.newest_package(names[2:])


def test_the_main_archive_is_asked_first() -> None:
    """Sites of updates come after those of whole releases, each once."""
    lines = ["r-security\tS", "r\tM", "r-updates\tM", "", "r\tN"]
    assert apt.ordered_sites(lines) == ["M", "N", "S"]


def test_errors_are_apt_s_own() -> None:
    """An error is preferred to a warning, and there is always a reason."""
    done = subprocess.CompletedProcess[str]([], 100, "", "W: slow\nE: no such host\nE: more\n")
    assert apt.complaint(done) == "no such host"
    done = subprocess.CompletedProcess[str]([], 7, "", "")
    assert apt.complaint(done) == "exit status 7"


def test_a_machine_without_apt_is_told_so(tools: Path) -> None:
    """Neither kernel nor emulator can be had without apt, and the message says so."""
    with pytest.raises(Missing, match="apt-get is not on this machine"):
        kernels.debian_kernel(lambda _: None)
    for name in ("g++", "make"):
        script(tools, name, "exit 0")
    with pytest.raises(Missing, match="apt-get is not on this machine"):
        bochs.bochs(lambda _: None)


def test_a_compiler_is_asked_for_before_anything_is_fetched(tools: Path) -> None:
    """Without g++ or make the message names the package to install."""
    with pytest.raises(Missing, match=r"install g\+\+"):
        bochs.bochs(lambda _: None)


def test_an_archive_out_of_reach_is_told(tools: Path) -> None:
    """Without network the message is one line, with apt's own words."""
    told = 'case "$*" in *indextargets*) printf "r\\tM\\n"; exit;; esac'
    failing = f'{told}; echo "E: no network" >&2; exit 100'
    for name in ("apt-get", "apt-cache", "dpkg", "g++", "make"):
        script(tools, name, failing)
    for get in (kernels.debian_kernel, bochs.bochs):
        with pytest.raises(Missing, match=r"indexes cannot be fetched: no network$"):
            get(lambda _: None)
    assert not list(store.directory().glob(".making-*"))


def test_a_file_that_is_not_what_the_index_names_is_refused(tmp_path: Path) -> None:
    """A wrong checksum removes the file and says so; a right one is silent."""
    path = tmp_path / "package.deb"
    path.write_bytes(b"content")
    store.verify(path, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(Missing, match=r"package\.deb is not what the archive's index names"):
        store.verify(path, hashlib.sha256(b"other").hexdigest())
    assert not path.exists()


def test_a_download_is_checked_against_the_index(tools: Path, tmp_path: Path) -> None:
    """What apt-get brings is not believed: its checksum has to be the one of the index."""
    right = hashlib.sha256(b"good").hexdigest()
    script(tools, "dpkg", "exit 0")
    script(tools, "apt-cache", f"echo 'Package: p'; echo 'SHA256: {right}'")
    script(tools, "apt-get", "echo evil > p_1_all.deb")
    with pytest.raises(Missing, match="is not what the archive's index names"):
        apt.Apt("test").download("p", tmp_path)
    script(tools, "apt-get", "printf good > p_1_all.deb")
    assert apt.Apt("test").download("p", tmp_path).read_bytes() == b"good"


def test_a_source_needs_only_the_file_that_is_wanted(tools: Path, tmp_path: Path) -> None:
    """An archive that lacks the other files of a source package makes apt-get fail; no matter."""
    for name in ("dpkg", "apt-cache"):
        script(tools, name, "exit 0")
    script(tools, "apt-get", "printf good > b.tar.xz; exit 100")
    wanted = apt.Item("b.tar.xz", hashlib.sha256(b"good").hexdigest(), 4)
    assert apt.Apt("test").download_source("b", wanted, tmp_path).name == "b.tar.xz"
    with pytest.raises(Missing, match=r"c\.tar\.xz cannot be fetched"):
        apt.Apt("test").download_source("b", apt.Item("c.tar.xz", "", 1), tmp_path)
