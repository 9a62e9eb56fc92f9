"""JUnit XML, so that a CI server shows each comparison as a test."""

import re
from pathlib import Path
from xml.etree import ElementTree

from compare.judge.verdict import Verdict
from compare.report.wording import explain, explain_cause
from compare.storage import whole_file

# What XML 1.0 has no way to hold, though a framework may print it.
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(verdict: Verdict, path: Path) -> None:
    """Write one test case a comparison: differing ones as failures, runners that could not work as errors.

    A framework's defect that was expected is skipped, as the exit code counts it as no failure.
    """
    unexpected = [comparison for comparison in verdict.comparisons if not comparison.expected]
    count = {status: sum(c.status == status for c in unexpected) for status in ("differs", "failed", "undecidable")}
    suite = ElementTree.Element(
        "testsuite",
        name="rnn-parity",
        tests=str(len(verdict.comparisons)),
        failures=str(count["differs"]),
        errors=str(count["failed"] + count["undecidable"]),
        skipped=str(len(verdict.comparisons) - len(unexpected)),
    )
    for comparison in verdict.comparisons:
        case = ElementTree.SubElement(suite, "testcase", classname=comparison.case, name=comparison.runner)
        if comparison.expected:
            causes = [f"{explain(comparison)}\n", *map(explain_cause, comparison.causes)]
            ElementTree.SubElement(case, "skipped", message=NOT_XML.sub("", "".join(causes)))
        elif comparison.status != "agrees":
            tag = "failure" if comparison.status == "differs" else "error"
            message = NOT_XML.sub("", explain(comparison))
            text = NOT_XML.sub("", comparison.log or message)
            ElementTree.SubElement(case, tag, message=message).text = text
    with whole_file(path) as partial:
        ElementTree.ElementTree(suite).write(partial, encoding="utf-8", xml_declaration=True)
