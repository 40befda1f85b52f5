"""JUnit XML, by the rules of xunit2."""

from __future__ import annotations

from xml.etree import ElementTree

from format_samples import known, plain, strange

from shstk.formats import junit

PROTOCOL = "vfork-return-faults/near-ret-fault (glibc 2019)"
# junit-10.xsd: what an element may have in it, and its attributes; the first are required.
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}
REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}}
REQUIRED |= {"property": {"name", "value"}}
ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "disabled"},
    "testsuite": {
        *("name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname"),
        *("id", "package", "file", "log", "url", "version", "group"),
    },
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time", "group"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set(),
}


def xunit2(text: str) -> ElementTree.Element:
    """The document, if it keeps the rules of xunit2."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert {c.tag for c in element} <= CHILDREN.get(element.tag, set()), element.tag
        assert REQUIRED.get(element.tag, set()) <= set(element.attrib) <= ALLOWED[element.tag]
    for suite in root.iter("testsuite"):
        for attribute, tag in (("failures", "failure"), ("errors", "error")):
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    return root


def test_junit_keeps_the_rules_of_xunit2() -> None:
    """Elements, attributes and counts; one suite for each design, one case for each verdict."""
    for group in (plain(), known()):
        root = xunit2(junit.render(group))
        assert [s.attrib["name"] for s in root] == [s.name for s in group]
        names = [c.attrib["name"] for c in root.iter("testcase")]
        assert names == [c.name for s in group for c in s.cases]


def test_junit_has_the_trace_in_the_failure() -> None:
    """The message is one line, the text is the trace as check prints it."""
    root = xunit2(junit.render(plain()))
    failure = root.find("testsuite/testcase[@name='not-in-use']/failure")
    assert failure is not None and failure.text is not None
    assert "\n" not in failure.attrib["message"]
    assert "VIOLATED not-in-use/nobody-else-on-it" in failure.text
    scenario = root.find(f"testsuite/testcase[@name='{PROTOCOL}']/failure")
    assert scenario is not None and "vfork C" in (scenario.text or "")


def test_junit_has_no_failure_for_what_is_expected() -> None:
    """The trace of an expected violation is output, not failure."""
    root = xunit2(junit.render(known()))
    assert not list(root.iter("failure"))
    output = root.find("testsuite/testcase[@name='not-in-use']/system-out")
    assert output is not None and "violated" in (output.text or "")


def test_junit_escapes_what_xml_cannot_write() -> None:
    """Control characters and lone surrogates are written in Python's way."""
    root = xunit2(junit.render([strange()]))
    (case,) = root.iter("testcase")
    assert '\\x1b[1m\\x00<&>"\\ud800 #' in case.attrib["name"]
    assert case[0].text is not None and "\\x00" in case[0].text
