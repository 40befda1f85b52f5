"""JUnit XML, in the form that is called xunit2 (junit-10.xsd of Jenkins' xunit plugin)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from shstk.formats.cases import Case, Outcome, Suite

# What XML 1.0 has no way to write at all, not even as a reference.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(suites: Sequence[Suite]) -> str:
    """A testsuite for each design and environment, a testcase for each verdict."""
    root = ElementTree.Element("testsuites", {"name": "shstk"} | _counts(suites))
    for suite in suites:
        own = {"name": _text(suite.name), "skipped": _many([suite], Outcome.SKIPPED)}
        element = ElementTree.SubElement(root, "testsuite", own | _counts([suite]))
        properties = ElementTree.SubElement(element, "properties")
        of = {"design": suite.design.name, "cite": suite.design.cite}
        of |= {"environment": suite.environment, "without": " ".join(suite.without)}
        for name, value in of.items():
            ElementTree.SubElement(properties, "property", name=name, value=_text(value))
        for case in suite.cases:
            element.append(_case(suite, case))
    ElementTree.indent(root)
    head = "<?xml version='1.0' encoding='utf-8'?>\n"
    return head + ElementTree.tostring(root, encoding="unicode")


def _counts(suites: Sequence[Suite]) -> dict[str, str]:
    return {
        "tests": str(sum(len(s.cases) for s in suites)),
        "failures": _many(suites, Outcome.FAILED),
        "errors": _many(suites, Outcome.ERROR),
        "time": f"{sum(s.seconds for s in suites):.3f}",
    }


def _many(suites: Sequence[Suite], outcome: Outcome) -> str:
    return str(sum(s.count(outcome) for s in suites))


def _case(suite: Suite, case: Case) -> ElementTree.Element:
    # Dots separate packages there: a design's name keeps its own only as text.
    group = re.sub(r"[^\w+-]", "_", f"{suite.design.name}-{suite.environment}")
    element = ElementTree.Element(
        "testcase", classname=f"shstk.{group}", name=_text(case.name), time=f"{case.seconds:.3f}"
    )
    tag = {Outcome.FAILED: "failure", Outcome.ERROR: "error", Outcome.SKIPPED: "skipped"}
    if case.outcome in tag:
        result = ElementTree.SubElement(
            element, tag[case.outcome], type=case.status, message=_text(case.message)
        )
        result.text = _text(case.details) or None
    else:
        said = " (expected)" * (case.expected is not None)
        output = ElementTree.SubElement(element, "system-out")
        output.text = _text("\n".join([case.message + said, case.details]).rstrip())
    return element


def _text(text: str) -> str:
    r"""What XML can have in it; other characters in Python's way: ``\x1b``."""
    return UNWRITABLE.sub(lambda m: ascii(m[0])[1:-1], text)
