"""The settings of a sweep are ranked by a test metric, which the task has."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from compare.config.case import load_case
from compare.report.sweep_page import print_ranking
from compare.sweep.grid import Sweep
from compare.sweep.ranking import rank

SWEEP = Sweep(
    "sweep.toml", load_case("lstm"), {}, ["torch"], {"model.units": [4, 8, 16], "seed": [0, 1], "dtype": ["float32"]}
)


def row(units: int, seed: int, torch: float | None, keras: float | None, status: str = "agrees") -> dict[str, Any]:
    """A row of a sweep's table."""
    figures = {"mse_torch": torch, "mse_keras": keras, "r2_torch": torch, "r2_keras": keras}
    return {"model.units": units, "seed": seed, "dtype": "float32", "status": status, **figures}


@given(scores=st.lists(st.floats(0.01, 9), min_size=3, max_size=3, unique=True))
def test_the_best_mean_over_seeds_comes_first(scores: list[float]) -> None:
    """Settings are ranked by the mean of both sides over the seeds; of r2 the largest comes first."""
    rows = [
        row(units, seed, score + seed, score - seed)
        for units, score in zip((4, 8, 16), scores, strict=True)
        for seed in (0, 1)
    ]
    order = [settings.fields["model.units"] for settings in rank(SWEEP, rows, "mse")]
    assert order == [units for _, units in sorted(zip(scores, (4, 8, 16), strict=True))]
    assert [settings.fields["model.units"] for settings in rank(SWEEP, rows, "r2")] == order[::-1]


def test_what_has_no_score_comes_last() -> None:
    """A setting one of whose comparisons failed has no score: it is not the best by what is missing."""
    rows = [row(4, 0, 0.1, None, "failed"), row(4, 1, 0.1, 0.1), row(8, 0, 0.5, 0.5, "differs"), row(8, 1, 0.7, 0.7)]
    first, last = rank(SWEEP, rows, "mse")
    assert (first.fields, first.sides, first.agree, first.comparisons) == (
        {"model.units": 8}, {"torch": 0.6, "keras": 0.6}, 1, 2,
    )  # fmt: skip
    assert (last.fields, last.score) == ({"model.units": 4}, None)


def test_the_ranking_fits_a_terminal() -> None:
    """The table names the fields and the metric, and is no wider than 80 columns."""
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_ranking(console, "mse", rank(SWEEP, [row(4, 0, 0.25, 0.5), row(8, 0, 0.125, 0.125)], "mse"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["8", "0.125", "0.125", "1", "of", "1"],
        ["4", "0.25", "0.5", "1", "of", "1"],
    ]
    assert "MSE" in text
    assert max(map(len, lines)) <= 80


def test_a_metric_that_the_task_has_not_is_refused(refused: Callable) -> None:
    """A series has no accuracy: the sweep says which metrics there are before anything is trained."""
    Path("sweep.toml").write_text('case = "lstm"\n')
    assert "metric 'accuracy' is none of task 'forecasting'" in refused("sweep", "sweep.toml", "--metric", "accuracy")
