"""The guest program as a file: what its tasks execute, and how it is called."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from guest_samples import Native

from model.reference.operations import OPERATIONS
from shstk.conform.causable import NO_WAY

SITES = 1024


def task_code(guest: Path) -> list[str]:
    """The instructions between the start of a task's loop and the end of task.S."""
    if not shutil.which("objdump"):
        pytest.skip("objdump is not there")
    command = ["objdump", "-d", "--no-show-raw-insn", guest]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    start = text.index("<task_loop>:")
    end = text.index("hlt", text.index("<signal_restorer>:"))
    return re.findall(r"^ +[0-9a-f]+:\t(\S.*)$", text[start:end], re.MULTILINE)


def test_only_scripted_instructions_of_a_task_use_its_stacks(guest: Path) -> None:
    """CALL stands at the call sites and before its own next instruction, RET in three variants."""
    mnemonics = Counter(line.split()[0] for line in task_code(guest))
    assert mnemonics["call"] == SITES + 1
    assert mnemonics["ret"] == 3
    assert {name: n for name, n in mnemonics.items() if re.match("push|pop|enter|leave", name)} == {
        "push": 1,
        "pop": 1,
    }


def test_call_sites_are_evenly_spaced(guest: Path, native: Native) -> None:
    """What the first line of a report says of the call sites is where the calls return to."""
    begin = native("")[0]
    first, distance, count = begin["sites"]
    assert count == SITES
    command = ["objdump", "-d", "--no-show-raw-insn", guest]
    if not shutil.which("objdump"):
        pytest.skip("objdump is not there")
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    calls = re.findall(r"^ +([0-9a-f]+):\tcall +[0-9a-f]+ <task_loop>", text, re.MULTILINE)
    assert [int(at, 16) + 5 for at in calls] == [first + distance * n for n in range(count)]


def test_every_operation_of_the_machine_that_can_be_caused_is_known(native: Native) -> None:
    """The guest knows each operation that the host does not refuse."""
    names = [name for name in OPERATIONS if name not in NO_WAY]
    lines = native("".join(f"scenario {n}\n1 9 {name} x=1\nend\n" for n, name in enumerate(names)))
    errors = [line for line in lines if "error" in line]
    assert len(errors) == len(names)
    assert not [line for line in errors if "no such operation" in line["error"]]


@pytest.mark.parametrize("arguments", [(), ("--host",), ("/scenarios",), ("--host", "a", "b")])
def test_without_host_it_does_nothing_unless_it_is_pid_1(
    guest: Path, arguments: tuple[str, ...]
) -> None:
    """It changes the settings of no machine that is not a guest."""
    done = subprocess.run([guest, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "usage: guest --host CAMPAIGN\n",
    )


def test_a_campaign_that_is_not_there_is_an_error(guest: Path, tmp_path: Path) -> None:
    """The report says so, and the exit status is 1."""
    command = [guest, "--host", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert '"error":"the campaign cannot be read"' in done.stdout
