"""Booting a guest program and listening to it.

    for line in run(debian_kernel(say), guest_program("guest"), files, say=say, timeout=60):
        ...

The guest is PID 1.  It writes its lines to port 0xE9 and ends by writing "Shutdown" to port 0x8900.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from shstk.kernel.bochs import Bochs, bochs
from shstk.kernel.compiler import firmware, guest_program, program
from shstk.kernel.initramfs import initramfs
from shstk.kernel.kernels import Kernel, debian_kernel, own_kernel
from shstk.kernel.machine import COMMAND_LINE, settings
from shstk.kernel.memory import write_memory
from shstk.kernel.missing import Hung, Missing

__all__ = [
    "Bochs",
    "Hung",
    "Kernel",
    "Missing",
    "bochs",
    "debian_kernel",
    "guest_program",
    "own_kernel",
    "program",
    "run",
]

CONSOLE_LINES = 60
# Bochs writes byte by byte: reading what has come in a while is cheaper than reading each.
PAUSE = 0.005  # seconds
# Bochs says so when the guest has asked for its end.
ENDED = "shutdown requested"


def run(
    kernel: Kernel | None,
    init: Path,
    files: Mapping[str, bytes],
    *,
    say: Callable[[str], None],
    timeout: float,
    mode: Literal["bochs", "host"] = "bochs",
) -> Iterator[str]:
    """Boot ``init`` as PID 1 and yield each line it writes, as it comes.

    ``files`` maps paths to contents.  ``timeout`` is the longest silence in seconds, before the
    first line and between lines.  With ``mode="host"`` the program runs on this machine's own
    kernel (``kernel`` may be None) as ``INIT --host FILE``, FILE being the first of ``files``, and
    writes to standard output.

    Raises Hung if the guest is silent for too long or stops without ending, Missing if
    something cannot be had.  Closing the generator ends the guest.
    """
    if mode == "host":
        yield from _on_host(init, files, timeout)
        return
    if kernel is None:
        raise Missing("a kernel is needed to boot: Debian's, or one of your own")
    emulator = bochs(say).program
    with tempfile.TemporaryDirectory(prefix="shstk-boot-") as name:
        folder = Path(name)
        _prepare(folder, kernel, init, files)
        say(f"booting Linux {kernel.version}")
        command = [str(emulator), "-q", "-f", str(folder / "bochsrc")]
        with _started(command, folder) as process:
            yield from _after_banner(_lines(process, timeout, folder))
            process.wait()
        if ENDED not in _text(folder / "log"):
            raise Hung("the machine stopped before the guest was done", console(folder))


def console(folder: Path) -> list[str]:
    """The last lines that the kernel wrote to its console, without empty ones."""
    lines = [line.strip() for line in _text(folder / "console").splitlines()]
    return [line for line in lines if line][-CONSOLE_LINES:]


def _prepare(folder: Path, kernel: Kernel, init: Path, files: Mapping[str, bytes]) -> None:
    (folder / "firmware").write_bytes(firmware())
    (folder / "bochsrc").write_text(settings(folder))
    image = kernel.image.read_bytes()
    ramdisk = initramfs(init.read_bytes(), files)
    write_memory(folder / "memory", image, COMMAND_LINE, ramdisk, str(kernel.image))


def _on_host(init: Path, files: Mapping[str, bytes], timeout: float) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="shstk-host-") as name:
        folder = Path(name)
        for path, content in files.items():
            target = folder / path.strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        given = [str(folder / path.strip("/")) for path in list(files)[:1]]
        with _started([str(init), "--host", *given], folder) as process:
            yield from _lines(process, timeout, folder)
            status = process.wait()
        if status != 0:
            complaint = (_text(folder / "errors").splitlines() or [f"exit status {status}"])[-1]
            raise Hung(f"the guest program failed: {complaint}", ())


@contextmanager
def _started(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, of which nothing is left afterwards.

    Its own session: Ctrl-C in a terminal is for us, and we end it.  Where we are killed, setpriv
    sees to its end.
    """
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _lines(process: subprocess.Popen[bytes], timeout: float, folder: Path) -> Iterator[str]:
    """Each line of standard output; the last may lack its end."""
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout):
                raise Hung(f"the guest was silent for {timeout:g} s", console(folder))
            time.sleep(PAUSE)
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *whole, pending = (pending + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
    if pending:
        yield pending.decode("utf-8", "replace")


def _after_banner(lines: Iterator[str]) -> Iterator[str]:
    """What follows Bochs's own words, which the firmware ends with a line of its own."""
    for line in lines:
        if line == "\0":
            yield from lines


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
