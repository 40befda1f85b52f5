"""Booting and listening, with a script in the emulator's place, and once for real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_samples import bzimage, emulator

from shstk.kernel import boot, machine
from shstk.kernel.bochs import Bochs
from shstk.kernel.kernels import Kernel
from shstk.kernel.missing import Hung, Missing
from shstk.kernel.prepare import ready

BANNER = r"echo Bochs says hello; printf '\000\n'"
END = 'echo "shutdown requested" > $log'
HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def quiet(_: str) -> None:
    """Progress that nobody wants to see."""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel that no machine could run."""
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    return Kernel(path, "6.12.9-mine")


def listen(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, folder: Path, script: str, timeout: float = 20
) -> Iterator[str]:
    """What a boot yields with a script in the emulator's place."""
    program = emulator(folder, script)
    monkeypatch.setattr(boot, "bochs", lambda say: Bochs(program))
    return boot.run(kernel, program, {"scenarios": b""}, say=quiet, timeout=timeout)


def gone(pid: int) -> bool:
    """Whether a process is no more, within a second or two."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_the_guest_s_lines_and_no_others_are_heard(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    """Bochs's own words are left out; empty lines and a last line without end are the guest's."""
    script = f"{BANNER}; echo one; echo; printf two; {END}"
    assert list(listen(monkeypatch, kernel, tmp_path, script)) == ["one", "", "two"]


def test_lines_come_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    """The first line is there while the guest still runs."""
    lines = listen(monkeypatch, kernel, tmp_path, f"{BANNER}; echo one; sleep 60")
    assert next(lines) == "one"
    lines.close()  # type: ignore[attr-defined]


def test_nothing_is_left_when_the_listener_stops(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    """Closing the generator ends the emulator, its children, and its folder."""
    lines = listen(monkeypatch, kernel, tmp_path, f"{BANNER}; pwd; sleep 60 & echo $!; wait")
    folder, child = Path(next(lines)), int(next(lines))
    assert folder.is_dir()
    lines.close()  # type: ignore[attr-defined]
    assert gone(child) and not folder.exists()


def test_a_silent_guest_is_given_up(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    """After the longest silence the console's telling line is the message."""
    console = 'echo "x\nKernel panic - not syncing\nCall Trace:" > $(dirname "$3")/console'
    lines = listen(monkeypatch, kernel, tmp_path, f"{BANNER}; echo one; {console}; sleep 60", 3)
    assert next(lines) == "one"
    with pytest.raises(Hung, match="silent for 3 s; the console says: Kernel panic") as caught:
        next(lines)
    assert caught.value.console == ("x", "Kernel panic - not syncing", "Call Trace:")


def test_a_machine_that_stops_early_is_no_success(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    """Unless the guest has asked for the end, it is an error, though all lines were heard."""
    lines = listen(monkeypatch, kernel, tmp_path, f"{BANNER}; echo one; exit 1")
    assert next(lines) == "one"
    with pytest.raises(Hung, match="stopped before the guest was done"):
        next(lines)


def test_ctrl_c_leaves_nothing(tmp_path: Path, kernel: Kernel) -> None:
    """Ctrl-C ends the emulator and removes its folder."""
    program = emulator(tmp_path, f"{BANNER}; pwd; echo $$; exec sleep 60")
    text = f"""
import sys
from pathlib import Path
from shstk.kernel import boot
from shstk.kernel.bochs import Bochs
from shstk.kernel.kernels import Kernel
program = Path({str(program)!r})
boot.bochs = lambda say: Bochs(program)
for line in boot.run(Kernel(Path({str(kernel.image)!r}), ""), program, {{}}, say=str, timeout=60):
    print(line, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder, child = Path(process.stdout.readline().strip()), int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert gone(child) and not folder.exists()


def test_the_same_program_runs_on_this_machine_s_kernel(tmp_path: Path) -> None:
    """In mode "host" the program gets the file's path, and its failure is an error."""
    program = tmp_path / "init"
    program.write_text('#!/bin/sh\necho "$1"; cat "$2"; echo why >&2; exit $(wc -l < "$2")\n')
    program.chmod(0o755)

    def told(content: bytes) -> Iterator[str]:
        return boot.run(None, program, {"cases": content}, say=quiet, timeout=20, mode="host")

    assert list(told(b"a case")) == ["--host", "a case"]
    with pytest.raises(Hung, match="the guest program failed: why"):
        list(told(b"a case\n"))
    with pytest.raises(Missing, match="a kernel is needed"):
        next(boot.run(None, program, {}, say=quiet, timeout=20))


def test_the_machine_is_the_same_in_every_boot(tmp_path: Path) -> None:
    """The clock starts at a fixed time and does not follow this machine's."""
    text = machine.settings(tmp_path / "a b")
    assert "clock: sync=none, time0=1700000000" in text
    assert f'romimage: file="{tmp_path / "a b" / "firmware"}"' in text
    assert len(machine.COMMAND_LINE) < 2048


GUEST = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static void tell(const char *text, int port)
{
	while (*text)
		outb(*text++, port);
}

int main(void)
{
	static char line[4096];
	struct timespec now;
	struct utsname name;
	unsigned long random, ssp = 0;
	long enabled;
	FILE *file = fopen("/scenarios", "r");

	if (iopl(3) || !file || !fgets(line, 100, file) || uname(&name))
		return 1;
	tell(line, 0xe9);
	clock_gettime(CLOCK_REALTIME, &now);
	getrandom(&random, sizeof(random), 0);
	snprintf(line, sizeof(line), "%s\n%ld %ld %lx %llx %p\n", name.release,
		(long)now.tv_sec, now.tv_nsec, random, __rdtsc(), malloc(100000));
	tell(line, 0xe9);
	/* arch_prctl(ARCH_SHSTK_ENABLE, ARCH_SHSTK_SHSTK) */
	asm volatile("syscall"
		: "=a"(enabled) : "a"(158), "D"(0x5001), "S"(1) : "rcx", "r11", "memory");
	asm volatile("rdsspq %0" : "+r"(ssp));
	snprintf(line, sizeof(line), "%ld %lx\n", enabled, ssp);
	tell(line, 0xe9);
	tell("Shutdown", 0x8900);
	for (;;)
		pause();
}
"""


@pytest.mark.skipif(not ready(), reason="no kernel in the cache: run `make kernel` first")
def test_two_boots_are_the_same_and_have_shadow_stacks(tmp_path: Path) -> None:
    """Times, random numbers, cycles, addresses agree between boots of a kernel with SSP."""
    source = tmp_path / "sample.c"
    source.write_text(GUEST)
    kernel = boot.debian_kernel(quiet)
    program = boot.program("sample", [source])
    files = {"scenarios": b"from the initramfs\n"}
    runs = [list(boot.run(kernel, program, files, say=quiet, timeout=120)) for _ in range(2)]
    assert runs[0] == runs[1]
    (read, version, numbers, shadow) = runs[0]
    assert (read, version) == ("from the initramfs", kernel.version)
    assert int(numbers.split()[0]) - machine.STARTED in range(1, 60)
    enabled, ssp = shadow.split()
    assert enabled == "0" and int(ssp, 16) % 8 == 0 and int(ssp, 16) > 1 << 32
