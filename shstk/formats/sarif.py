"""SARIF 2.1.0: a run for each design and environment, a result for each violation.

The steps are one thread flow, in the order of the run: how tasks interleave is the point of
it, and viewers show one thread flow after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from counterexamples.told import Told
from properties import PROPERTIES
from properties.cpu import MACHINE_PROPERTIES
from shstk.formats.cases import Case, Outcome, Suite, Violation

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = [(p.id, p.claim, p.source) for p in PROPERTIES.values()]
RULES += [(p.id, p.claim, p.source) for p in MACHINE_PROPERTIES.values()]
INDEX = {rule[0]: number for number, rule in enumerate(RULES)}
Object = dict[str, Any]


def render(suites: Sequence[Suite]) -> str:
    """Every violation, and whatever else is not as expected."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(s) for s in suites]}
    return json.dumps(log, indent=2)


def _run(suite: Suite) -> Object:
    name = f"shstk/{suite.design.name}/{suite.environment}"
    if suite.without:
        name += f"/without {', '.join(suite.without)}"
    driver = {
        "name": "shstk",
        "version": metadata.version("shstk"),
        "rules": [_rule(*rule) for rule in RULES],
    }
    return {
        "tool": {"driver": driver},
        # What follows the last slash would tell runs of one category apart.
        "automationDetails": {"id": f"{name}/", "description": _said(suite.design.title)},
        "results": [r for case in suite.cases for r in _results(suite, case)],
    }


def _rule(id_: str, claim: str, source: str) -> Object:
    return {
        "id": id_,
        "shortDescription": _said(claim),
        "fullDescription": _said(f"{claim} (from {source})"),
        "defaultConfiguration": {"level": "error"},
    }


def _said(text: str) -> Object:
    return {"text": text}


def _results(suite: Suite, case: Case) -> list[Object]:
    if case.violations:
        return [_violation(suite, case, v) for v in case.violations]
    if case.outcome in (Outcome.PASSED, Outcome.SKIPPED):
        return []
    kind = "open" if case.outcome is Outcome.ERROR else "review"
    where = _claim(case.property)
    result = _result(suite, case, case.name, where) | {"kind": kind, "level": "none"}
    return [result | {"message": _said(f"{case.name}: {case.message}")}]


def _claim(id_: str) -> str:
    """File and line of a property's first conjunct; '' where there is no such property."""
    if id_ in PROPERTIES:
        return PROPERTIES[id_].conjuncts[0].where
    return MACHINE_PROPERTIES[id_].conjuncts[0].where if id_ in MACHINE_PROPERTIES else ""


def _result(suite: Suite, case: Case, of: str, where: str) -> Object:
    """What a result has in any case; ``of`` tells it apart, whatever line it is written at."""
    out: Object = {"ruleId": case.property}
    if case.property in INDEX:
        out["ruleIndex"] = INDEX[case.property]
    claim = [_at(*_place(where))] if where else []
    if suite.file is not None:
        out |= {"locations": [_at(_uri(suite.file[0]), suite.file[1])], "relatedLocations": claim}
    else:
        out["locations"] = claim
    words = f"{suite.design.name} {suite.environment} {of}"
    out["partialFingerprints"] = {"shstk/v1": _digest(words)}
    return out


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode(errors="replace")).hexdigest()


def _violation(suite: Suite, case: Case, violation: Violation) -> Object:
    many = f"{len(violation.steps)} step{'' if len(violation.steps) == 1 else 's'}"
    text = f"{case.name}/{violation.conjunct}" if "/" not in case.name else case.name
    out = _result(suite, case, f"{text} {violation.step}", violation.where)
    text = f"{text} is violated by {suite.design.name} in {many}: {violation.why}"
    last = violation.steps[-1] if violation.steps else None
    if last is not None and last.function and out["locations"]:
        out["locations"][0]["logicalLocations"] = [_function(last)]
    if violation.loop is not None:
        text += f" (the run repeats from step {violation.loop + 1} for ever)"
    out |= {"kind": "fail", "level": "error", "message": _said(text)}
    if case.expected is not None and not case.surprise:
        accepted = {"kind": "external", "status": "accepted", "justification": "expected"}
        out |= {"level": "note", "suppressions": [accepted]}
    steps = [{"location": _step(s), "executionOrder": n} for n, s in enumerate(violation.steps, 1)]
    if steps:
        out["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return out


def _step(step: Told) -> Object:
    """A step, at its text here, in the kernel's function."""
    text = "; ".join([f"{step.who}: {step.what}", *step.changes])
    out: Object = {"message": _said(text)}
    if step.place is not None:
        out |= _at(*step.place)
    if step.function:
        out["logicalLocations"] = [_function(step)]
    return out


def _function(step: Told) -> Object:
    """For example copy_process in kernel/fork.c, 6.12."""
    name = f"{step.source}: {step.function}"
    return {"name": step.function, "fullyQualifiedName": name, "kind": "function"}


def _at(uri: str, line: int) -> Object:
    physical = {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
    return {"physicalLocation": physical}


def _place(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(line)


def _uri(path: Path) -> str:
    """Relative to where the command runs, if the file is below that."""
    return path.as_uri().removeprefix(Path.cwd().as_uri() + "/")
