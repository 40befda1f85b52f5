"""Compiling for the guest with the machine's C compiler."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shstk.kernel import machine, memory, store
from shstk.kernel.missing import Missing

ROOT = Path(__file__).resolve().parent.parent.parent
GUESTS = ROOT / "guest"
FIRMWARE = Path(__file__).resolve().parent / "firmware.S"
FLAGS = ("-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fcf-protection=none")
# The last page below 1 MiB, and its last 16 bytes, where an x86 CPU starts.
FIRMWARE_AT, RESET_AT = 0xFF000, 0xFFFF0


def guest_program(name: str, *, flags: Sequence[str] = ()) -> Path:
    """The static program of all C and assembler files in a folder of ``guest``.

    ``name`` is the folder's name; ``guest`` is the folder ``guest`` itself.  Compiled with FLAGS,
    then what the folder's file ``cflags`` says, then ``flags``; once for each source text.
    Raises Missing without a compiler, and with the compiler's first complaint if the text is
    wrong.
    """
    folder = GUESTS if name == "guest" else GUESTS / name
    sources = sorted(p for end in ("c", "S") for p in folder.glob(f"*.{end}"))
    if not sources:
        raise Missing(f"there is no guest program {name}: no C file in {folder.name}/")
    own = folder / "cflags"
    written = shlex.split(own.read_text(), comments=True) if own.exists() else []
    return program(name, sources, (*FLAGS, f"-I{GUESTS}", *written, *flags))


def program(name: str, sources: Sequence[Path], flags: Sequence[str] = FLAGS) -> Path:
    """The program of some source files, compiled or as kept from earlier.

    Raises Missing as ``guest_program`` does.
    """
    command = [*compiler(), *flags]
    headers = sorted({p for source in sources for p in source.parent.glob("*.h")})
    if sources[0].is_relative_to(GUESTS):
        headers = sorted({*headers, *GUESTS.rglob("*.h")})
    entry = store.PROGRAM + _key(command, [*sources, *headers])
    path = store.directory() / entry / name
    if not path.exists():
        with store.made(entry) as folder:
            _run([*command, "-o", str(folder / name), *map(str, sources)], name)
    return path


def firmware() -> bytes:
    """The machine's firmware, a page, as it is at the end of the address space."""
    values = {
        "AT": FIRMWARE_AT,
        "BLOCK": machine.BLOCK_KIB << 10,
        "ENTRY": memory.ENTRY,
        "PAGE_TABLES": memory.PAGE_TABLES,
        "PARAMETERS": memory.PARAMETERS,
        "SIZE": memory.SIZE,
    }
    link = (f"-Ttext={FIRMWARE_AT:#x}", f"--section-start=.reset={RESET_AT:#x}", "--oformat=binary")
    flags = (
        *("-m64", "-nostdlib", "-static", "-Wl,--build-id=none", f"-Wl,-e,{RESET_AT:#x}"),
        *(f"-Wl,{option}" for option in link),
        *(f"-D{name}={value:#x}" for name, value in values.items()),
    )
    return program("firmware", [FIRMWARE], flags).read_bytes()


def compiler() -> list[str]:
    """The C compiler: ``$CC``, or gcc or cc; Missing if there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    for words in (named, ["gcc"], ["cc"]):
        if words and shutil.which(words[0]):
            return words
    raise Missing("no C compiler for the guest program: install gcc and libc6-dev")


def _key(command: Sequence[str], sources: Sequence[Path]) -> str:
    out = hashlib.sha256(repr(list(command)).encode())
    for path in sources:
        content = path.read_bytes()
        out.update(f"{path.name} {len(content)}\0".encode() + content)
    return out.hexdigest()[:32]


def _run(command: Sequence[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.splitlines()
        first = [*(line for line in said if re.match(r"\S.*\berror:", line)), *said, "no word why"][
            0
        ]
        raise Missing(f"{command[0]} cannot compile the program {name}: {first}")
