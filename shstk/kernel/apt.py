"""Fetching from the package archive that this machine uses, without touching its state.

Lists, cache and sources are private folders, so nothing here needs root and nothing is installed.
apt checks signatures; SHA-256 sums are checked once more against its index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.kernel import store
from shstk.kernel.missing import Missing

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
WHERE = "$(RELEASE)\t$(REPO_URI)"
SECONDS = 600


@dataclass(frozen=True)
class Item:
    """A file of the archive, as an index names it."""

    name: str
    sha256: str
    size: int  # bytes


class Apt:
    """apt with lists, cache and perhaps sources of its own, in a folder of the store."""

    def __init__(self, name: str, sources: Sequence[str] | None = None) -> None:
        """``name`` of its folder; ``sources``: lines of a sources list, or the machine's own.

        Raises Missing on a machine without apt.
        """
        for tool in ("apt-get", "apt-cache", "dpkg"):
            if shutil.which(tool) is None:
                raise Missing(
                    f"{tool} is not on this machine: kernel and emulator come from Debian's archive"
                )
        self.folder = store.directory() / "apt" / name
        for part in ("lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.options = [
            *("-q", "-o", f"Dir::State::lists={self.folder / 'lists'}"),
            *("-o", f"Dir::Cache={self.folder / 'cache'}"),
            *("-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"),
            *("-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=30"),
        ]
        if sources is not None:
            listed = self.folder / "sources.list"
            listed.write_text("".join(f"{line}\n" for line in sources))
            self.options += ["-o", f"Dir::Etc::sourcelist={listed}"]
            self.options += ["-o", "Dir::Etc::sourceparts=-"]

    def update(self) -> str:
        """Fetch the indexes; what went wrong, empty if nothing did.

        No error by itself: of several sources, one that fails need not be the one wanted.
        """
        done = self._run("apt-get", "update", "--error-on=any")
        return "" if done.returncode == 0 else complaint(done)

    def stanzas(self, *words: str) -> list[dict[str, str]]:
        """What `apt-cache WORDS` prints, as fields; empty if it knows nothing."""
        done = self._run("apt-cache", *words)
        return stanzas(done.stdout) if done.returncode == 0 else []

    def names(self, prefix: str) -> list[str]:
        """The binary packages there are whose names start with ``prefix``."""
        return sorted(self._run("apt-cache", "pkgnames", prefix).stdout.split())

    def download(self, package: str, folder: Path) -> Path:
        """Fetch a binary package's file into ``folder`` and check it.

        Raises Missing if it cannot be had.
        """
        found = self.stanzas("show", "--no-all-versions", package)
        if not found:
            raise Missing(f"the package archive has no {package}")
        done = self._run("apt-get", "download", package, folder=folder)
        files = list(folder.glob("*.deb"))
        if done.returncode != 0 or len(files) != 1:
            raise Missing(f"{package} cannot be fetched: {complaint(done)}")
        store.verify(files[0], found[0]["SHA256"])
        return files[0]

    def download_source(self, package: str, wanted: Item, folder: Path) -> Path:
        """Fetch a source package into ``folder``; the checked file that is wanted of it.

        Archives without all of its files make apt fail: only the wanted one counts.  Raises
        Missing if it cannot be had.
        """
        done = self._run("apt-get", "source", "--download-only", package, folder=folder)
        path = folder / wanted.name
        if not path.exists():
            raise Missing(f"{wanted.name} cannot be fetched: {complaint(done)}")
        store.verify(path, wanted.sha256)
        return path

    def _run(
        self, tool: str, *words: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [tool, *self.options, *words],
                cwd=folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"the package archive does not answer ({tool} {words[0]})") from None


def debian_sites() -> list[str]:
    """Where this machine's apt sources have Debian, the main archive's site first.

    Raises Missing without apt.
    """
    if shutil.which("apt-get") is None:
        raise Missing(
            "apt-get is not on this machine: kernel and emulator come from Debian's archive"
        )
    done = subprocess.run(
        ["apt-get", "indextargets", "--no-release-info", "--format", WHERE],
        capture_output=True,
        text=True,
        check=False,
    )
    return ordered_sites(done.stdout.splitlines())


def ordered_sites(lines: Iterable[str]) -> list[str]:
    """Sites from lines of WHERE: those of whole releases before those of updates to one."""
    pairs = [line.split("\t") for line in lines if line.count("\t") == 1]
    return list(dict.fromkeys(uri for _, uri in sorted(pairs, key=lambda pair: "-" in pair[0])))


def source_line(site: str, release: str) -> str:
    """The line of a sources list for the sources of a release."""
    signed = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
    return f"deb-src{signed} {site} {release} main"


def stanzas(text: str) -> list[dict[str, str]]:
    """Stanzas of a Debian control file: fields to values, continued lines joined by newlines."""
    out: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                fields[last] = fields.get(last, "") + "\n" + line.strip()
            elif ":" in line:
                last, _, value = line.partition(":")
                fields[last] = value.strip()
        if fields:
            out.append(fields)
    return out


def items(stanza: dict[str, str]) -> list[Item]:
    """The files of a source package, from the field Checksums-Sha256 of its stanza."""
    rows = [line.split() for line in stanza.get("Checksums-Sha256", "").splitlines()]
    return [Item(row[2], row[0], int(row[1])) for row in rows if len(row) == 3]


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Why apt failed, in its own words: its first error, or else its first warning."""
    lines = [line for kind in ("E:", "W:") for line in done.stderr.splitlines() if line[:2] == kind]
    return lines[0][2:].strip() if lines else f"exit status {done.returncode}"
