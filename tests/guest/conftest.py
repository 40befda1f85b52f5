"""What the tests of the guest share: the program, and a run of it on this machine's kernel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from guest_samples import Lines, Native

from shstk.kernel.compiler import guest_program
from shstk.kernel.missing import Missing

SECONDS = 60


@pytest.fixture(scope="session")
def guest() -> Path:
    """The guest program, compiled."""
    try:
        return guest_program("guest")
    except Missing as missing:
        if "no C compiler" in str(missing):
            pytest.skip(str(missing))
        raise


@pytest.fixture
def native(guest: Path, tmp_path: Path) -> Native:
    """Runs a campaign on this machine's kernel: the lines of its report."""

    def run(campaign: str) -> Lines:
        file = tmp_path / "campaign"
        file.write_text(campaign)
        done = subprocess.run(
            [guest, "--host", file], capture_output=True, text=True, timeout=SECONDS, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
