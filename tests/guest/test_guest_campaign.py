"""Wrong campaigns: each is told in a line, and what is right is run."""

from __future__ import annotations

import pytest
from guest_samples import Native

WRONG = {
    "1 0 jump": "there is no such operation",
    "1 0": "a step is a number, a slot, an operation and its arguments",
    "0 0 call": "a step's number is from 1 to 511",
    "512 0 call": "a step's number is from 1 to 511",
    "x 0 call": "a step's number is from 1 to 511",
    "1 128 call": "a slot is from 0 to 127",
    "1 0 mmap": "the operation lacks an argument",
    "1 0 mmap size": "an argument lacks its value",
    "1 0 mmap size=": "an argument has a wrong value",
    "1 0 mmap size=8Q": "an argument has a wrong value",
    "1 0 mmap size=1++2": "an argument has a wrong value",
    "1 0 mmap size=r512": "an argument has a wrong value",
    "1 0 mmap size=1 size=2": "an argument is given twice",
    "1 0 mmap size=1 prot=x": "an argument has a wrong value",
    "1 0 mmap size=1 fixed=0": "an argument has a wrong value",
    "1 0 call compat": "the operation has no argument of that name",
    "1 0 clone child=1 flags=VM|NOPE": "an argument has a wrong value",
    "1 0 clone child=1 flags=": "an argument has a wrong value",
    "1 0 kill signal=SIGFOO": "an argument has a wrong value",
    "1 0 call a b c d e f g h i": "there are too many arguments",
    "1 0 call\n1 0 call": "the numbers of steps go up",
}


@pytest.mark.parametrize(("lines", "complaint"), WRONG.items())
def test_a_wrong_line_leaves_its_scenario_out(native: Native, lines: str, complaint: str) -> None:
    """It is told with its number, and the scenario behind it is run."""
    report = native(f"# first\nscenario 1\n{lines}\nend\nscenario 2\n1 0 endbr64\nend\n")
    number = 3 + lines.count("\n")
    assert report[1]["error"] == f"line {number}: {complaint}"
    assert [line.get("scenario") for line in report[2:]] == [2, 2, 2, None]
    assert report[-1] == {"campaign": "done"}


def test_a_campaign_that_ends_early_is_told(native: Native) -> None:
    """A scenario without its end is not run."""
    report = native("scenario 1\n1 0 call\n")
    assert report[1:] == [
        {"error": "line 2: a scenario lacks its `end`"},
        {"campaign": "done"},
    ]


def test_lines_outside_of_scenarios_are_told(native: Native) -> None:
    """What does not belong to a scenario is wrong."""
    report = native("1 0 call\nscenario x\n1 0 call\nend\n\n")
    assert [line["error"] for line in report[1:-1]] == [
        "line 1: a scenario begins with `scenario NUMBER`",
        "line 2: a scenario's number has at most 9 digits",
    ]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("2 0 munmap addr=r1 size=8", "a range is used that no step has made"),
        ("2 0 store addr=s5 value=1", "a register or stack is used of a task that there is not"),
        ("2 0 load addr=b0", "a shadow stack is used of a task that has none of its own"),
        ("2 3 call", "there is no task of that number"),
        ("2 0 fork child=0", "the slot of the new task is in use"),
        ("2 0 fork child=128", "a slot is from 0 to 127"),
    ],
)
def test_a_step_that_cannot_be_done_ends_its_scenario(
    native: Native, step: str, reason: str
) -> None:
    """It says why, and nothing that follows is done."""
    report = native(f"scenario 7\n1 0 endbr64\n{step}\n3 0 endbr64\nend\n")
    assert report[3:-1] == [
        {"scenario": 7, "step": 2, "cannot": reason},
        {"scenario": 7, "done": True},
    ]
