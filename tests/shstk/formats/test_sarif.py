"""SARIF 2.1.0: what its specification requires, and what is a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from format_samples import SMALL, expecting, known, plain, strange

from shstk.assessment import assess
from shstk.formats import sarif
from shstk.formats.cases import suites
from shstk.loader import load_design
from shstk.verdicts import VIOLATED


def location(value: dict[str, Any]) -> None:
    """A location object: a file and a line, or a function, each with what it needs."""
    assert {"physicalLocation", "logicalLocations", "message"} & set(value)
    if "physicalLocation" in value:
        physical = value["physicalLocation"]
        assert not physical["artifactLocation"]["uri"].startswith("/")
        assert physical["region"]["startLine"] >= 1
    for logical in value.get("logicalLocations", []):
        assert logical["name"] and logical["fullyQualifiedName"]
        assert logical["kind"] in ("function", "module")
    assert "text" in value.get("message", {"text": ""})


def sarif_log(text: str) -> dict[str, Any]:
    """The log, if it has what SARIF 2.1.0 requires of each object in it."""
    log: dict[str, Any] = json.loads(text)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        assert run["tool"]["driver"]["name"] == "shstk"
        assert len({r["id"] for r in rules}) == len(rules)
        assert all(r["shortDescription"]["text"] for r in rules)
        for result in run["results"]:
            assert result["message"]["text"]
            assert result["kind"] in ("fail", "open", "review")
            assert result["level"] in ("none", "note", "warning", "error")
            assert (result["kind"] == "fail") or result["level"] == "none"  # 3.27.10
            if "ruleIndex" in result:
                assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            for each in result["locations"] + result.get("relatedLocations", []):
                location(each)
            for flow in result.get("codeFlows", []):
                assert flow["threadFlows"]
                for thread in flow["threadFlows"]:
                    assert thread["locations"]
                    for step in thread["locations"]:
                        assert step["executionOrder"] >= 0
                        location(step["location"])
            for suppression in result.get("suppressions", []):
                assert suppression["kind"] in ("inSource", "external")
                assert suppression["status"] in ("accepted", "underReview", "rejected")
    return log


def test_sarif_has_a_result_for_each_violation() -> None:
    """With what the specification requires; its steps are the run's, in the kernel's functions."""
    log = sarif_log(sarif.render(plain()))
    assert len(log["runs"]) == len(plain())
    case = next(c for c in plain()[0].cases if c.name == "not-in-use")
    results = [r for r in log["runs"][0]["results"] if r["ruleId"] == "not-in-use"]
    assert len(results) == len(case.violations)
    assert results[0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "properties/freeing.py"},
        "region": {"startLine": int(case.violations[0].where.split(":")[1])},
    }
    (thread,) = results[0]["codeFlows"][0]["threadFlows"]
    functions = [s["location"]["logicalLocations"][0]["name"] for s in thread["locations"]]
    assert functions == [s.function for s in case.violations[0].steps]
    prints = [r["partialFingerprints"]["shstk/v1"] for run in log["runs"] for r in run["results"]]
    assert len(set(prints)) == len(prints)


def test_sarif_points_at_the_file_of_a_users_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a design that is a file, the class is the place, and the property is related."""
    file = tmp_path / "mine.py"
    file.write_text("from model.designs.v1 import V1\n\n\nclass Mine(V1):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    design = load_design("mine.py")
    wanted = frozenset({"not-in-use"})
    reports, _ = assess([design], bound=SMALL, wanted=wanted, proofs=False)
    log = sarif_log(sarif.render(suites(reports, {"mine": design}, None)))
    result = log["runs"][0]["results"][0]
    physical = result["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": "mine.py"}, "region": {"startLine": 4}}
    related = result["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert related == "properties/freeing.py"


def test_sarif_suppresses_what_is_expected() -> None:
    """An expected violation is a suppressed note; a property that holds unexpectedly is listed."""
    log = sarif_log(sarif.render(known()))
    results = [r for run in log["runs"] for r in run["results"]]
    assert results and all(r["suppressions"] and r["level"] == "note" for r in results)
    log = sarif_log(sarif.render([expecting(inherited=VIOLATED)]))
    (open_,) = [r for r in log["runs"][0]["results"] if "suppressions" not in r]
    assert (open_["ruleId"], open_["kind"]) == ("inherited", "review")


def test_sarif_writes_any_text() -> None:
    """Whatever is in a message, the log is JSON in ASCII."""
    text = sarif.render([strange()])
    assert text.isascii() and sarif_log(text)["runs"][0]["results"]
