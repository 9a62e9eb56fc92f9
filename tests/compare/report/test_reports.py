"""Every report can be written of every outcome, and says what the judge found."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.damaged_traces import DamagedTraces
from helpers.small_runs import CELLS, Run, tiny_case
from rich.console import Console

from compare.judge import Comparison, Difference, Verdict
from compare.report.console import print_known_differences, print_verdict
from compare.report.explain_page import write_explanation
from compare.report.html import write_html
from compare.report.junit import write_junit
from compare.report.wording import conclusion, explain

LOCATION = Difference("beyond-rounding", 7, "gradient", "further apart", "head/kernel", 2e-3, 1e-6)
AGREES = Comparison("lstm", "keras-jax", "torch", "float32", "agrees", steps=18, max_relative_loss_difference=1.25e-7)
DIFFERS = Comparison("lstm", "keras-torch", "torch", "float32", "differs", differences=[LOCATION], steps=18)
FAILED = Comparison("lstm", "keras-tensorflow", "torch", "float32", "failed", error="keras-tensorflow: it broke")

# What a framework may print: colours, zeros, markup of several kinds, other alphabets.
NASTY = "\x1b[31mred\x1b[0m \x00\x08 <script>alert(1)</script> ]]> & [bold]not bold[/bold] [/] 日本"


def html_of(verdict: Verdict, folder: Path) -> str:
    """Write a report and read it."""
    file = folder / "report.html"
    write_html(verdict, [tiny_case(cell) for cell in CELLS], {"machine": "a <fast> one"}, file)
    return file.read_text("utf-8")


def read_junit(folder: Path) -> ElementTree.Element:
    """Read a JUnit file, which must be valid XML."""
    return ElementTree.parse(folder / "junit.xml").getroot()  # noqa: S314 - written by this test


def console_of(verdict: Verdict, width: int = 200) -> str:
    """Print a verdict and read it."""
    text = io.StringIO()
    print_verdict(Console(file=text, width=width), verdict)
    return text.getvalue()


@pytest.mark.parametrize(
    ("comparisons", "text"),
    [
        ([AGREES], "The comparison agrees: losses within 1.2e-07 relative at every step."),
        ([AGREES, AGREES], "All 2 comparisons agree: losses within 1.2e-07 relative at every step."),
        (
            [AGREES, replace(AGREES, max_relative_loss_difference=3.0)],
            "All 2 comparisons agree: ensemble members drift as far, 3.0e+00 relative at some step.",
        ),
        ([AGREES, DIFFERS], "1 of 2 differs: lstm on keras-torch."),
        ([DIFFERS, DIFFERS], "2 of 2 differ: lstm on keras-torch, lstm on keras-torch."),
        ([FAILED], "1 of 1 could not be run: lstm on keras-tensorflow."),
        (
            [DIFFERS, FAILED, AGREES],
            "1 of 3 differs; 1 of 3 could not be run: lstm on keras-torch, lstm on keras-tensorflow.",
        ),
    ],
    ids=["one-agrees", "two-agree", "far-apart", "one-differs", "two-differ", "one-failed", "one-of-each"],
)
def test_conclusions(comparisons: list[Comparison], text: str) -> None:
    """The conclusion counts what differs and what could not be run, and names it."""
    assert conclusion(Verdict(comparisons)) == text


def test_long_conclusions_name_three() -> None:
    """Of many comparisons that differ three are named, and the others counted."""
    verdict = Verdict([replace(DIFFERS, case=name) for name in "abcde"])
    assert conclusion(verdict) == "5 of 5 differ: a on keras-torch, b on keras-torch, c on keras-torch and 2 more."


def test_explanations_have_location_and_numbers() -> None:
    """A difference is explained by its step, phase, tensor, error and tolerance; a failure by its error."""
    assert explain(DIFFERS) == (
        "first at step 7, gradient, head/kernel: further apart: relative error 2.0e-03, tolerance 1.0e-06"
    )
    assert explain(FAILED) == "keras-tensorflow: it broke"
    assert "before the first step" in explain(replace(DIFFERS, differences=[replace(LOCATION, phase="start", step=0)]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda t: None, id="nothing"),
        pytest.param(lambda t: t.set_figure("obtained", "loss", 5, float("nan")), id="loss-not-a-number"),
        pytest.param(lambda t: t.set_figure("obtained", "loss", 5, float("inf")), id="loss-infinite"),
        pytest.param(lambda t: t.set_figure("expected", "loss", 0, float("nan")), id="reference-not-a-number"),
        pytest.param(lambda t: t.change_rows("obtained", lambda c, r: (c, r[:0])), id="empty"),
        pytest.param(lambda t: t.change_rows("obtained", lambda c, r: (c, r[:1])), id="one-step"),
        pytest.param(lambda t: t.change_predictions("obtained", lambda p: None), id="no-predictions"),
        pytest.param(lambda t: t.change_predictions("obtained", lambda p: p * np.float32("nan")), id="predictions-nan"),
        pytest.param(lambda t: t.change_predictions("obtained", lambda p: p * 1e30), id="predictions-huge"),
    ],
)
def test_every_outcome_can_be_reported(clean_run: Run, tmp_path: Path, damage: Callable[[DamagedTraces], None]) -> None:
    """Whatever was recorded, all reports are written, with the pictures that there are figures for."""
    traces = DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")
    damage(traces)
    comparison = traces.judge()
    verdict = Verdict([comparison])
    html = html_of(verdict, tmp_path)
    assert html.endswith("</html>")
    pictures = ("Loss of both sides", "Drift of the losses", "Predictions for held-out data", "Error / tolerance, ")
    drawn = comparison.curves is not None
    has_truth = comparison.curves is not None and comparison.curves.truth.size > 0
    assert [f"<h4>{name}" in html for name in pictures] == [drawn, drawn, has_truth, drawn]
    assert f'class="status {comparison.status}"' in html
    assert comparison.status in console_of(verdict)
    write_junit(verdict, tmp_path / "junit.xml")
    suite = read_junit(tmp_path)
    assert suite.attrib["failures"] == ("0" if comparison.status == "agrees" else "1")


@pytest.mark.parametrize("comparison", [DIFFERS, FAILED], ids=lambda comparison: comparison.status)
def test_an_expected_defect_is_skipped(comparison: Comparison, tmp_path: Path) -> None:
    """As the exit code is 0 where a defect was expected, so is the count of failures and errors; why is said."""
    verdict = Verdict([AGREES, replace(comparison, expected=True)])
    assert verdict.exit_code == 0
    write_junit(verdict, tmp_path / "junit.xml")
    suite = read_junit(tmp_path)
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2",
        "failures": "0",
        "errors": "0",
        "skipped": "1",
    }
    (skipped,) = suite.findall("testcase/skipped")
    assert (comparison.error or "further apart") in skipped.attrib["message"]


@pytest.mark.parametrize("comparison", [replace(FAILED, error=NASTY), replace(FAILED, log=NASTY)], ids=["error", "log"])
def test_what_a_framework_prints_breaks_no_report(comparison: Comparison, tmp_path: Path) -> None:
    """Colours, markup and control characters in an error or a log are neither interpreted nor make a file invalid."""
    verdict = Verdict([comparison])
    html = html_of(verdict, tmp_path)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "[bold]not bold[/bold]" in console_of(verdict)
    write_junit(verdict, tmp_path / "junit.xml")
    (error,) = read_junit(tmp_path).findall("testcase/error")
    assert "<script>" in f"{error.attrib['message']}{error.text}"


def test_the_environment_is_in_the_report(tmp_path: Path) -> None:
    """The report says on what the run was made, as text."""
    assert "a &lt;fast&gt; one" in html_of(Verdict([AGREES]), tmp_path)


@pytest.mark.parametrize(
    ("cell", "causes"),
    [
        ("simple_rnn", {"transposed-kernel", "two-biases", "adam-epsilon", "adam-epsilon-placement"}),
        ("lstm", {"transposed-kernel", "two-biases", "adam-epsilon", "adam-epsilon-placement"}),
        ("gru", {"transposed-kernel", "gru-gate-order", "adam-epsilon", "adam-epsilon-placement"}),
    ],
)
def test_known_differences_are_named(cell: str, causes: set[str]) -> None:
    """Each known difference that touches a cell is named and said to be matched, or with stock left as it is."""
    for stock in (False, True):
        text = io.StringIO()
        print_known_differences(Console(file=text, width=300), [tiny_case(cell, {"training.stock": stock})])
        lines = [line.split() for line in text.getvalue().splitlines()]
        named = {line[3] if line[0] == "as" else line[1]: line[0] == "matched" for line in lines}
        assert causes <= named.keys()
        assert named["adam-epsilon"] is not stock
        assert named["transposed-kernel"] is True


def test_steps_and_figures_are_in_the_table() -> None:
    """The table has a line for each comparison, with its steps, its loss difference and its status."""
    text = console_of(Verdict([AGREES, DIFFERS, FAILED]))
    assert text.splitlines()[2].split()[:5] == ["lstm", "keras-jax", "agrees", "18", "1.2e-07"]
    assert "lstm on keras-torch: first at step 7, gradient, head/kernel" in text
    assert "lstm on keras-tensorflow: keras-tensorflow: it broke" in text


def test_long_names_are_not_cut_where_it_is_narrow() -> None:
    """Where it is narrow a long name has a line of its own, above its runners; elsewhere it has none."""
    long = [replace(c, case="bidirectional_last_output") for c in (AGREES, DIFFERS)]
    verdict = Verdict([replace(AGREES, case="gru"), *long])

    rows = [line.split() for line in console_of(verdict, width=70).split("\n\n")[0].splitlines()[2:9]]
    assert [row[0] for row in rows[:5]] == ["gru", "keras-jax", "bidirectional_last_output", "keras-jax", "keras-torch"]
    assert rows[1][1:4] == ["agrees", "18", "1.2e-07"]
    wide = [line.split()[:2] for line in console_of(verdict).splitlines()[2:5]]
    assert wide == [[c.case, c.runner] for c in verdict.comparisons]


def test_the_users_line_is_marked_among_its_neighbours(tmp_path: Path) -> None:
    """The page of `explain` has the line of a difference in its file, or the line alone where the file has changed."""
    file = tmp_path / "pair.py"
    file.write_text("first\nsecond\n<third>\nfourth\n", "utf-8")
    source = {"file": str(file), "line": 3, "text": "<third>", "side": "torch"}
    page = tmp_path / "report.html"
    differing = replace(DIFFERS, differences=[replace(LOCATION, source=source)])
    write_explanation(differing, {}, page)
    content = page.read_text("utf-8")
    assert "<mark>   3  &lt;third&gt;</mark>" in content
    assert "   2  second" in content
    file.write_text("something else\n", "utf-8")
    write_explanation(differing, {}, page)
    content = page.read_text("utf-8")
    assert "<mark>   3  &lt;third&gt;</mark>" in content
    assert "something else" not in content
