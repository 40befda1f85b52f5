"""Bochs 3.0, built from the source package of Debian 13.

Debian 12's packaged Bochs 2.7 does not save shadow-stack state with XSAVES; newer Debian's
packages need a newer C library.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.kernel import store
from shstk.kernel.apt import Apt, Item, debian_sites, items, source_line
from shstk.kernel.missing import Missing

RELEASE = "trixie"
NAME = "bochs-3.0"
CONFIGURE = (
    *("--with-nogui", "--enable-x86-64", "--enable-cpu-level=6", "--enable-all-optimizations"),
    *("--enable-handlers-chaining", "--enable-trace-linking", "--enable-cet", "--enable-avx"),
    *("--enable-evex", "--enable-protection-keys", "--enable-memtype", "--enable-pci"),
    *("--enable-fpu", "--enable-long-phy-address", "--enable-monitor-mwait", "--enable-uintr"),
    *("--enable-configurable-msrs", "--enable-vmx=0", "--disable-docbook", "--disable-debugger"),
)
FLAGS = "-O2"
COMPILES = re.compile(r"\S*(gcc|g\+\+|cc|c\+\+) (.* )?-c ")


@dataclass(frozen=True)
class Bochs:
    """A built emulator; it needs no BIOS (firmware.S)."""

    program: Path


def cached() -> Bochs | None:
    """The emulator that was built earlier, if one was."""
    program = store.directory() / NAME / "bochs"
    return Bochs(program) if program.exists() else None


def bochs(say: Callable[[str], None]) -> Bochs:
    """The emulator, built now if it was not; ``say`` is told how far it is.

    Raises Missing if the source cannot be fetched or compiled.
    """
    known = cached()
    if known is not None:
        return known
    _tools()
    with store.one_at_a_time():
        known = cached()
        if known is None:
            with store.made(NAME) as folder:
                archive = _fetch(folder, say)
                tree = _unpack(archive, folder)
                _build(tree, say)
                shutil.copy2(tree / "bochs", folder / "bochs")
                shutil.rmtree(tree)
                for left in folder.glob("*.tar.*"):
                    left.unlink()
            known = Bochs(store.directory() / NAME / "bochs")
    return known


def original(stanzas: list[dict[str, str]]) -> Item:
    """The upstream archive of Bochs 3.0 among its packages' stanzas; Missing if it is not."""
    for stanza in stanzas:
        if re.match(r"(\d+:)?3\.0\b", stanza.get("Version", "")):
            for item in items(stanza):
                if ".orig.tar." in item.name and not item.name.endswith(".asc"):
                    return item
    raise Missing(f"the package archive has no source of Bochs 3.0 in {RELEASE}")


def _tools() -> None:
    for tool, package in (("g++", "g++"), ("make", "make")):
        if shutil.which(tool) is None:
            raise Missing(
                f"{tool} is not on this machine, and Bochs has to be built: install {package}"
            )


def _fetch(folder: Path, say: Callable[[str], None]) -> Path:
    say("Bochs: fetching the source")
    trouble = Missing("this machine's apt sources name no archive: Bochs comes from Debian's")
    for site in debian_sites():
        apt = Apt("bochs", [source_line(site, RELEASE)])
        complaint = apt.update()
        if complaint:
            trouble = Missing(f"the package archive's indexes cannot be fetched: {complaint}")
            continue
        wanted = original(apt.stanzas("showsrc", "bochs"))
        return apt.download_source("bochs", wanted, folder)
    raise trouble


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)
    (tree,) = (p for p in folder.iterdir() if (p / "configure").exists())
    return tree


def _build(tree: Path, say: Callable[[str], None]) -> None:
    say("Bochs: configuring")
    _all_well("configured", _output(tree, ["./configure", *CONFIGURE]), tree / "Makefile")
    total = sum(1 for line in _output(tree, ["make", "--dry-run", "bochs"]) if COMPILES.match(line))
    make = _output(tree, ["make", f"--jobs={os.cpu_count() or 1}", "bochs"])
    _all_well("built", _counted(make, total, say), tree / "bochs")


def _counted(lines: Iterator[str], total: int, say: Callable[[str], None]) -> Iterator[str]:
    compiled = 0
    for line in lines:
        if COMPILES.match(line):
            compiled += 1
            say(f"Bochs: compiling, {compiled} of {total}")
        yield line


def _all_well(verb: str, lines: Iterator[str], result: Path) -> None:
    """Let it run; raises Missing with its first error unless the result is there."""
    said = [line.strip() for line in lines]
    if not result.exists():
        errors = [line for line in said if re.search(r"\berror\b", line, re.IGNORECASE)]
        raise Missing(f"Bochs cannot be {verb}: {[*errors, *said[-1:], 'no word why'][0]}")


def _output(tree: Path, command: Sequence[str]) -> Iterator[str]:
    """The lines that a command writes, which ends with the generator."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    with subprocess.Popen(
        command,
        cwd=tree,
        env={**env, "LC_ALL": "C", "CFLAGS": FLAGS, "CXXFLAGS": FLAGS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None
            yield from process.stdout
        finally:
            process.terminate()
