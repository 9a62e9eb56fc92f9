"""Reports of classes, of notes on the data and of cross-validations."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from compare.config.case import Case, fold_cases, load_case, make_case, with_fields
from compare.judge import Comparison, Verdict
from compare.judge.folds import summarise_folds
from compare.judge.verdict import ClassResults
from compare.report.charts import charts_of, embedded
from compare.report.console import print_verdict
from compare.report.html import write_html
from compare.report.wording import data, exactly, model

COUNTS = np.array([[5, 1], [0, 4]])
LABELS = ("bad $x$", "<b>good</b>")
NOTE = "59 of 2,284 values <were> filled"


def classified(runner: str = "keras-jax", counts: np.ndarray = COUNTS, by_timestep: bool = False) -> Comparison:
    """A comparison of a classification, with the matrix of its Keras side."""
    accuracy = {"torch": np.array([0.5, 1]), runner: np.array([0.5, np.nan])} if by_timestep else {}
    return Comparison(
        case="digits",
        runner=runner,
        reference="torch",
        dtype="float32",
        status="agrees",
        metrics={side: {"accuracy": 0.9, "perplexity": 1.25} for side in ("torch", runner)},
        data_notes=(NOTE,),
        epoch_losses={"torch": [0.75, 0.5], runner: [0.75, None]},
        classes=ClassResults(LABELS, {"torch": COUNTS, runner: counts}, accuracy),
    )


def html_of(verdict: Verdict, cases: list[Case], folder: Path) -> str:
    """Write a report and read it."""
    write_html(verdict, cases, {}, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def console_of(verdict: Verdict, width: int = 200) -> str:
    """Print a verdict and read it."""
    text = io.StringIO()
    print_verdict(Console(file=text, width=width), verdict)
    return text.getvalue()


def test_equal_confusion_matrices_are_drawn_once(tmp_path: Path) -> None:
    """Sides with the same matrix share a picture; one that differs has its own."""
    other = np.array([[4, 2], [0, 4]])
    comparisons = [classified("keras-jax"), classified("keras-torch"), classified("keras-tensorflow", other)]
    html = html_of(Verdict(comparisons), [load_case("digits")], tmp_path)
    titles = re.findall("Confusion matrix of ([^<]*)<", html)
    assert titles == ["torch, keras-jax, keras-torch", "keras-tensorflow"]


def test_a_confusion_matrix_shows_its_counts_and_labels() -> None:
    """The chart has each count that is not zero and each label as text, whatever signs it has."""
    (chart,) = charts_of([classified(counts=COUNTS)])
    source = chart.figure.renderers[-1].data_source.data
    cells = zip(source["truth"], source["predicted"], source["text"], strict=True)
    names = ("0: bad $x$", "1: <b>good</b>")
    assert {(row, column): text for row, column, text in cells} == {
        (names[0], names[0]): "5",
        (names[0], names[1]): "1",
        (names[1], names[0]): "",
        (names[1], names[1]): "4",
    }
    document, _ = embedded([chart])
    assert names[1] in document


def test_accuracy_by_timestep_is_drawn(tmp_path: Path) -> None:
    """Labels at every timestep have a picture of where they are right; a label of the whole has none."""
    for by_timestep in (True, False):
        html = html_of(Verdict([classified(by_timestep=by_timestep)]), [load_case("digits")], tmp_path)
        assert ("Accuracy at each timestep" in html) == by_timestep


def test_the_metrics_are_those_of_the_task(tmp_path: Path) -> None:
    """A classification's table has its own metrics and the epoch losses; a loss that is not finite is a dash."""
    html = html_of(Verdict([classified()]), [load_case("digits")], tmp_path)
    table = html[html.index("Test metrics") :]
    table = table[: table.index("</table>")]
    headings = re.findall("<th scope=.col.[^>]*>([^<]*)</th>", table)
    assert headings == ["side", "accuracy", "perplexity", "training loss, first epoch", "last epoch"]
    cells = re.findall("<t(?:d|h scope=.row.)[^>]*>([^<]*)</t[dh]>", table)
    assert cells == ["torch", "0.9", "1.25", "0.75", "0.5", "keras-jax", "0.9", "1.25", "0.75", "–"]


def test_the_console_shows_the_metric_of_the_task() -> None:
    """Accuracy stands in a column of its own beside the error of forecasts, each where there is one."""
    forecast = Comparison("lstm", "keras-jax", "torch", "float32", "agrees", metrics={"keras-jax": {"mse": 0.5}})
    failed = Comparison("gru", "keras-jax", "torch", "float32", "failed", error="it broke")
    assert console_of(Verdict([forecast])).splitlines()[1].split()[-2:] == ["tolerance", "MSE"]
    assert console_of(Verdict([failed])).splitlines()[1].split()[-2:] == ["tolerance", "MSE"]
    assert console_of(Verdict([classified()])).splitlines()[1].split()[-2:] == ["tolerance", "accuracy"]
    both = console_of(Verdict([forecast, classified()])).splitlines()
    assert both[1].split()[-3:] == ["tolerance", "MSE", "accuracy"]
    assert both[2].split()[-2:] == ["5.0e-01", "–"]
    whole = replace(forecast, metrics={"keras-jax": {"mse": 0.5, "mae": 0.25, "r2": 0.75}})
    for width, metrics in ((80, ["MSE", "MAE", "R²"]), (50, ["MSE"])):
        lines = console_of(Verdict([whole]), width).splitlines()
        assert lines[1].split()[lines[1].split().index("tolerance") + 1 :] == metrics
    assert "2.5e-01  0.750" in console_of(Verdict([whole]))
    assert both[3].split()[-2:] == ["–", "90.0%"]


def test_notes_on_the_data_reach_the_reader(tmp_path: Path) -> None:
    """What was done to the data is said once for a case, on the console, in HTML and in JSON; markup in it is text."""
    verdict = Verdict([classified("keras-jax"), classified("keras-torch")])
    assert console_of(verdict).count(f"digits: {NOTE}") == 1
    folds = Verdict([replace(classified(), case="a-fold1"), classified(), replace(classified(), case="a-fold2")])
    assert f"a-fold1, digits, a-fold2: {NOTE}" in console_of(folds)
    assert console_of(folds).count(NOTE) == 1
    html = html_of(verdict, [load_case("digits")], tmp_path)
    assert html.count("59 of 2,284 values &lt;were&gt; filled") == 1
    assert verdict.as_json()["comparisons"][0]["data_notes"] == [NOTE]


def test_the_verdict_has_the_confusion_matrix_as_json() -> None:
    """Counts stand by side, with the names of the classes; comparisons without one have null."""
    content = classified().as_json()
    assert content["confusion_matrix"] == {
        "labels": list(LABELS),
        "torch": [[5, 1], [0, 4]],
        "keras-jax": [[5, 1], [0, 4]],
    }
    assert content["epoch_losses"] == {"torch": [0.75, 0.5], "keras-jax": [0.75, None]}
    assert replace(classified(), classes=None).as_json()["confusion_matrix"] is None
    assert replace(classified(), classes=ClassResults(LABELS, {}, {})).as_json()["confusion_matrix"] is None


def test_folds_are_reported_with_mean_and_spread(tmp_path: Path) -> None:
    """Each side has its mean and deviation over the folds on the console, and every fold's figure in HTML."""
    cases = fold_cases(load_case("lstm"), 2)
    comparisons = [
        Comparison(case.name, "keras-jax", "torch", "float32", "agrees", metrics={"torch": {"mse": a}, "keras-jax": b})
        for case, a, b in zip(cases, (0.25, 0.75), ({"mse": 0.25}, {}), strict=True)
    ]
    verdict = Verdict(comparisons, summarise_folds(cases, comparisons))
    lines = [line.split() for line in console_of(verdict).splitlines()]
    assert ["cross-validation", "folds", "side", "MSE"] in lines
    assert ["lstm", "2", "torch", "0.5", "±", "0.354"] in lines
    assert ["lstm", "2", "keras-jax", "–"] in lines
    html = html_of(verdict, cases, tmp_path)
    section = html[html.index("Cross-validation") :]
    section = section[: section.index("</section>")]
    cells = re.findall("<td[^>]*>([^<]*)</td>", section)
    assert cells == ["torch", "MSE", "0.5 ± 0.354", "0.25", "0.75", "keras-jax", "MSE", "–", "0.25", "–"]
    assert "Cross-validation" not in html_of(Verdict(comparisons), cases, tmp_path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "sine, windows of 10 → 1"),
        ({"data.folds": 5, "data.fold": 2}, "sine, windows of 10 → 1, fold 2 of 5"),
        ({"data.dataset": "csv", "data.csv": "a.csv", "data.target": "b"}, "a.csv, windows of 10 → 1"),
        ({"data.dataset": "digits", "task": "classification"}, "digits, row by row"),
        ({"data.dataset": "text", "data.file": "a.txt", "task": "tagging"}, "a.txt, pieces of 10 characters"),
        ({"data.dataset": "sequences", "data.padding": "left"}, "sequences, up to 10 timesteps, padding left"),
        ({"data.dataset": "signals"}, "signals, up to 10 timesteps"),
    ],
)
def test_data_are_described_by_their_kind(fields: dict[str, Any], text: str) -> None:
    """A series has windows, images rows, a text pieces, sequences a longest one."""
    assert data(with_fields(make_case({"name": "a", "model": {"cell": "gru"}}, "a"), fields)) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lstm", "lstm, 1 layer of 50 units"),
        ("no_bias", "lstm, 1 layer of 16 units, use_bias = false"),
        (
            "native_dropout",
            "lstm, 2 layers of 16 units, dropout = 0.2, input_dropout = 0.1, dropout_masks = independent",
        ),
    ],
)
def test_models_are_described_by_what_is_special(name: str, text: str) -> None:
    """The reader sees what a model has that others have not."""
    assert model(load_case(name)) == text


def test_many_cases_have_an_overview(tmp_path: Path) -> None:
    """The verdict of each case on each runner stands at the top of a long report, and leads to the case."""
    cases = [with_fields(load_case("digits"), {"name": f"digits{index}"}) for index in range(5)]
    verdict = Verdict([replace(classified(), case=case.name) for case in cases])
    html = html_of(verdict, cases, tmp_path)
    for case in cases:
        assert f'<a href="#{case.name}">' in html
        assert f'<section class="case" id="{case.name}">' in html
    assert "Overview" not in html_of(Verdict(verdict.comparisons[:4]), cases[:4], tmp_path)


def test_figures_that_are_missing_are_dashes() -> None:
    """A number is written with the digits in which two sides may differ, anything else as a dash."""
    assert exactly(0.123456789) == "0.12345679"
    assert exactly(None) == "–"
