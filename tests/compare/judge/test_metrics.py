"""Test metrics are what their definitions say, in the series' own units."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from damaged_traces import RUNNERS, DamagedTraces
from small_runs import Run

from compare.judge.metrics import forecast_metrics

TRUTH = np.array([[1.0], [2.0], [4.0], [9.0]])
PREDICTIONS = np.array([[1.5], [2.0], [3.0], [9.0]])


def test_metrics_are_their_definitions() -> None:
    """Mean squared error, mean absolute error and R squared of a forecast worked out by hand."""
    metrics = forecast_metrics(TRUTH, PREDICTIONS)
    assert metrics["mse"] == pytest.approx((0.25 + 1) / 4)
    assert metrics["mae"] == pytest.approx((0.5 + 1) / 4)
    assert metrics["r2"] == pytest.approx(1 - 1.25 / (9 + 4 + 0 + 25))


def test_metrics_of_a_perfect_forecast() -> None:
    """A forecast that is the truth has no error and an R squared of 1."""
    assert forecast_metrics(TRUTH, TRUTH) == {"mse": 0, "mae": 0, "r2": 1}


def test_errors_of_both_signs_do_not_cancel() -> None:
    """A forecast that is too high as often as too low is still wrong."""
    metrics = forecast_metrics(TRUTH, TRUTH + np.array([[1], [-1], [1], [-1]]))
    assert (metrics["mse"], metrics["mae"]) == (1, 1)


@pytest.mark.parametrize(
    "predictions",
    [
        pytest.param(PREDICTIONS * np.nan, id="nan"),
        pytest.param(PREDICTIONS + np.array([[0], [np.inf], [0], [0]]), id="infinite"),
        pytest.param(PREDICTIONS * 1e200, id="squares-overflow"),
    ],
)
def test_metrics_that_are_not_defined_are_none(predictions: np.ndarray) -> None:
    """What cannot be computed is None, which JSON has, and not NaN or infinity, which it has not."""
    metrics = forecast_metrics(TRUTH, predictions)
    json.dumps(metrics, allow_nan=False)
    assert metrics["mse"] is None


def test_r2_of_a_single_window_is_none() -> None:
    """One window has no variance to explain."""
    metrics = forecast_metrics(TRUTH[:1], PREDICTIONS[:1])
    assert metrics["r2"] is None
    assert metrics["mae"] == 0.5


def test_a_comparison_has_metrics_of_both_sides_in_own_units(clean_run: Run, tmp_path: Path) -> None:
    """The metrics of a run are those of the stored predictions after their scaling is undone."""
    traces = DamagedTraces(clean_run.folder / "gru", tmp_path / "gru")
    comparison = clean_run.comparison("gru", "keras-tensorflow")
    start = traces.start
    truth = start.windows.test_targets.astype(np.float64)
    assert comparison.metrics.keys() == set(RUNNERS.values())
    for side, runner in RUNNERS.items():
        predictions = traces.read(side).predictions
        assert predictions is not None
        error = (predictions.astype(np.float64) - truth) * start.scaling.standard_deviation
        assert comparison.metrics[runner]["mse"] == pytest.approx(np.mean(error**2), rel=1e-9)
        assert comparison.metrics[runner]["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-9)
        r2 = 1 - np.sum(error**2) / np.sum((start.scaling.undo(truth) - start.scaling.undo(truth).mean()) ** 2)
        assert comparison.metrics[runner]["r2"] == pytest.approx(r2, rel=1e-9)
    assert math.isfinite(comparison.max_prediction_difference)
