"""The page of a sweep says what is in its table, and stands alone."""

import re
from pathlib import Path
from typing import Any

import pytest

from compare.config.case import load_case
from compare.report.sweep_page import sweep_conclusion, write_sweep_page
from compare.sweep.grid import Sweep
from compare.sweep.ranking import rank
from compare.sweep.running import Outcome


def row(case: str, units: int, **changed: Any) -> dict[str, Any]:
    """A row of the table, that of an agreeing comparison unless it is changed."""
    figures = {"steps": 4, "max_relative_loss_difference": 1e-7, "max_prediction_difference": 2e-7}
    shares = {"largest_share_of_allowed": 0.1, "largest_step_share": 0.2}
    first = {f"first_{name}": None for name in ("step", "phase", "tensor", "message")}
    status = {"runner": "keras-torch", "status": "agrees", "expected": False, "error": None, "retried": 0}
    return {"case": case, "model.units": units, "seed": 0} | figures | shares | first | status | changed


def page_of(rows: list[dict[str, Any]], folder: Path) -> str:
    """The page of a sweep with these rows."""
    statuses = [row["status"] for row in rows]
    counts = (statuses.count(status) for status in ("agrees", "differs", "failed"))
    outcome = Outcome(rows, *counts, 0)
    sweep = Sweep("sweep.toml", load_case("lstm"), {}, ["torch"], {"model.units": [4, 8], "seed": [0]})
    path = folder / "report.html"
    ranking = rank(sweep, rows, "mse")
    write_sweep_page(sweep, outcome, {"machine": "this one"}, folder / "table.csv", path, "mse", ranking)
    return path.read_text("utf-8")


def text_of(page: str) -> list[str]:
    """What stands in a page's cells, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in rows]


DIFFERENCE = {
    "status": "differs", "largest_step_share": 40.0,
    "first_step": 2, "first_phase": "update", "first_tensor": "head/bias", "first_message": "40 units off",
}  # fmt: skip
FAILURE = {
    "status": "failed", "error": "RuntimeError: <b>broken</b>", "steps": 0, "max_relative_loss_difference": None,
    "max_prediction_difference": None, "largest_share_of_allowed": None, "largest_step_share": None,
}  # fmt: skip


def test_what_does_not_agree_comes_first(tmp_path: Path) -> None:
    """Comparisons that differ or failed are listed before those that agree, each with its place or its error."""
    page = page_of([row("a", 4), row("b", 4, **DIFFERENCE), row("c", 8, **FAILURE)], tmp_path)
    rows = text_of(page)
    places = [next(i for i, text in enumerate(rows) if text.endswith(name)) for name in ("b", "c", "a")]
    assert places == sorted(places)
    assert rows[places[0] + 1] == "first at step 2, update, head/bias: 40 units off"
    assert rows[places[1] + 1] == "RuntimeError: &lt;b&gt;broken&lt;/b&gt;"
    assert 'class="conclusion differs"' in page
    assert "1 of 3 cases agree, 1 differ, 1 could not be run." in page


def test_values_are_counted(tmp_path: Path) -> None:
    """For each value of a list it is counted how many comparisons agree, differ and failed."""
    rows = text_of(page_of([row("a", 4), row("b", 4, **DIFFERENCE), row("c", 8, **FAILURE)], tmp_path))
    assert "runner keras-torch 1 1 1 40" in rows
    assert "model.units 4 1 1 – 40" in rows
    assert "8 – – 1 –" in rows


@pytest.mark.parametrize("changed", [{}, DIFFERENCE, FAILURE], ids=["agrees", "differs", "failed"])
def test_the_page_is_self_contained(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Nothing is fetched: no script, style, font or picture from elsewhere."""
    page = page_of([row("a", 4, **changed)], tmp_path)
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert re.findall(r"https?://|@import|<script|<link|(?:src|href)=[\"'](?!#)", without_names) == []
    assert page.count("<svg") == 1


def test_a_long_sweep_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page lists no more than can be read, and says how many more there are."""
    monkeypatch.setattr("compare.report.sweep_page.LISTED", 3)
    page = page_of([row(f"case{number}", 4) for number in range(10)], tmp_path)
    assert page.count("<code>case") == 3
    assert "7 more are in the table" in page


def test_the_conclusion_counts() -> None:
    """The conclusion has every count that is not zero."""
    assert sweep_conclusion(Outcome([], 3, 0, 0, 2)) == "3 of 3 cases agree, 2 were found done."
