"""The document of findings has every defect that is named, each with its version, its command and its place."""

import re

import pytest
from helpers.paths import ROOT

from compare.config.case import built_in_names
from compare.known.defects import DEFECTS, Defect

TEXT = (ROOT / "docs" / "findings.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
NAMES = [*(defect.name for defect in DEFECTS), "missing-mask"]


def test_the_findings_are_the_defects() -> None:
    """Each defect has a section and each section is of a defect."""
    assert sorted(SECTIONS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_finding_is_whole(name: str) -> None:
    """A section says which side is off, what it does, where, how to see it and how it is answered."""
    rows = dict(re.findall(r"^\| (\w+) \| (.+) \|$", SECTIONS[name], re.MULTILINE))
    assert rows.keys() == {"off", "what", "place", "command", "answer"}
    (case,) = re.findall(r"python -m compare (?:run|record) (\w+)", rows["command"])
    assert case in built_in_names()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_place_is_that_of_the_defect(defect: Defect) -> None:
    """The document and the comparison name the same file of the framework's source."""
    assert defect.source.partition(",")[0] in SECTIONS[defect.name]
