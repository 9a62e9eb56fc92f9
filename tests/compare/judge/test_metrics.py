"""Test metrics are what their definitions say: forecasts in the series' own units, classes from logits."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_traces import RUNNERS, DamagedTraces
from helpers.small_runs import STEPS_PER_EPOCH, Run

from compare.config.case import make_case
from compare.experiment.experiment import make_experiment
from compare.judge.metrics import (
    accuracy_by_timestep,
    class_metrics,
    confusion_matrix,
    epoch_losses,
    forecast_metrics,
    judged,
    metrics_of,
    predictions_shape,
)

TRUTH = np.array([[1.0], [2.0], [4.0], [9.0]])
PREDICTIONS = np.array([[1.5], [2.0], [3.0], [9.0]])


def test_metrics_are_their_definitions() -> None:
    """Mean squared error, mean absolute error and R squared of a forecast worked out by hand."""
    metrics = forecast_metrics(TRUTH, PREDICTIONS)
    assert metrics["mse"] == pytest.approx((0.25 + 1) / 4)
    assert metrics["rmse"] == pytest.approx(math.sqrt(1.25 / 4))
    assert metrics["mae"] == pytest.approx((0.5 + 1) / 4)
    assert metrics["r2"] == pytest.approx(1 - 1.25 / (9 + 4 + 0 + 25))


def test_metrics_of_a_perfect_forecast() -> None:
    """A forecast that is the truth has no error and an R squared of 1."""
    assert forecast_metrics(TRUTH, TRUTH) == {"mse": 0, "rmse": 0, "mae": 0, "r2": 1}


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
    assert metrics["mse"] is metrics["rmse"] is None


def test_r2_of_a_single_window_is_none() -> None:
    """One window has no variance to explain."""
    metrics = forecast_metrics(TRUTH[:1], PREDICTIONS[:1])
    assert metrics["r2"] is None
    assert metrics["mae"] == 0.5


# Four examples of three classes: the first three are right, the last is taken for class 0.
LABELS = np.array([0, 1, 2, 2])
LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.7, 0.2, 0.1]]))


def test_class_metrics_are_their_definitions() -> None:
    """Accuracy counts the largest logit; perplexity is one over the geometric mean of the right class's probability."""
    metrics = class_metrics(LABELS, LOGITS)
    assert metrics["accuracy"] == 0.75
    assert metrics["perplexity"] == pytest.approx((0.5 * 0.8 * 0.6 * 0.1) ** (-1 / 4))
    assert class_metrics(LABELS, np.zeros((4, 3)))["perplexity"] == pytest.approx(3), "a guess among three"


def test_class_metrics_take_logits() -> None:
    """A number added to all logits of an example changes nothing; probabilities in their place do."""
    expected = class_metrics(LABELS, LOGITS)
    for shift in (100, -1000, 1e6):
        assert class_metrics(LABELS, LOGITS + shift)["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-6)
    assert class_metrics(LABELS, np.exp(LOGITS))["perplexity"] != pytest.approx(expected["perplexity"], rel=0.01)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        pytest.param(LABELS, LOGITS * np.nan, id="nan"),
        pytest.param(LABELS, LOGITS + np.array([[0], [0], [np.inf], [0]]), id="one-infinite"),
        pytest.param(LABELS[:0], LOGITS[:0], id="nothing-to-judge"),
    ],
)
def test_class_metrics_that_are_not_defined_are_none(labels: np.ndarray, logits: np.ndarray) -> None:
    """Nothing is counted right or wrong where a prediction is not finite, or where there is none."""
    assert class_metrics(labels, logits) == {"accuracy": None, "perplexity": None}
    assert confusion_matrix(labels, logits) is None


def test_a_perplexity_beyond_numbers_is_none() -> None:
    """A model that is certain and wrong has a perplexity that no number holds; JSON has no infinity."""
    metrics = class_metrics(np.array([1]), np.array([[1e6, 0.0]]))
    assert metrics == {"accuracy": 0, "perplexity": None}
    json.dumps(metrics, allow_nan=False)


def test_masked_timesteps_do_not_count() -> None:
    """Of labels at every timestep those that are masked change nothing, whatever was predicted there."""
    labels, logits = LABELS.reshape(2, 2), LOGITS.reshape(2, 2, 3)
    mask = np.array([[True, True], [True, False]])
    expected = class_metrics(*judged(labels, logits, mask))
    assert expected["accuracy"] == 1
    wrong = logits.copy()
    wrong[1, 1] = [50, -50, 3]
    assert class_metrics(*judged(labels, wrong, mask)) == expected
    wrong[1, 0] = [50, -50, 3]
    assert class_metrics(*judged(labels, wrong, mask)) != expected
    assert class_metrics(*judged(labels, logits, None))["accuracy"] == 0.75


def test_the_mask_of_inputs_does_not_touch_a_label_of_the_whole() -> None:
    """Where each example has one label, all count, however much of an example is padding."""
    mask = np.zeros((4, 7), bool)
    assert class_metrics(*judged(LABELS, LOGITS, mask)) == class_metrics(LABELS, LOGITS)


def test_the_confusion_matrix_counts_by_truth() -> None:
    """Rows are what is, columns what it was taken for; classes that do not occur have their row too."""
    counts = confusion_matrix(LABELS, LOGITS)
    assert counts is not None
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    missing = confusion_matrix(LABELS[:1], LOGITS[:1])
    assert missing is not None
    assert missing.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_accuracy_at_each_timestep() -> None:
    """Each timestep has the share of its own labels, NaN where all are masked; a label of the whole has none."""
    labels, logits = LABELS.reshape(2, 2), LOGITS.reshape(2, 2, 3)
    whole = accuracy_by_timestep(labels, logits, None)
    assert whole is not None
    assert whole.tolist() == [1, 0.5]
    masked = accuracy_by_timestep(labels, logits, np.array([[True, False], [True, False]]))
    assert masked is not None
    assert masked[0] == 1
    assert np.isnan(masked[1])
    assert accuracy_by_timestep(LABELS, LOGITS, None) is None
    assert accuracy_by_timestep(labels, logits * np.nan, None) is None


@pytest.mark.parametrize(
    ("task", "data", "shape"),
    [
        ("classification", {"dataset": "digits", "examples": 50}, (10, 10)),
        ("tagging", {"dataset": "signals", "examples": 50, "padding": "left"}, (10, 10, 3)),
        ("forecasting", {"dataset": "signals", "examples": 50, "horizon": 2}, (10, 2)),
        ("forecasting", {"dataset": "sine", "points": 100, "horizon": 2}, (19, 2)),
    ],
)
def test_metrics_follow_from_the_task(task: str, data: dict[str, object], shape: tuple[int, ...]) -> None:
    """Predictions have the shape of the task's targets, with an axis of classes; perfect ones have perfect metrics."""
    model = {"cell": "gru", "units": 2, "head": "every_output" if task == "tagging" else "last_state"}
    training = {"loss": "mse" if task == "forecasting" else "sparse_categorical_crossentropy"}
    fields = {"name": "a", "task": task, "model": model, "data": data, "training": training}
    experiment = make_experiment(make_case(fields, "a"))
    targets = experiment.examples.test.targets
    assert predictions_shape(experiment.examples) == shape
    if task == "forecasting":
        assert metrics_of(experiment, targets)["mse"] == 0
        assert metrics_of(experiment, targets + 1)["mse"] == pytest.approx(
            experiment.scaling.standard_deviation**2 if experiment.scaling else 1
        )
    else:
        assert metrics_of(experiment, 50 * np.eye(experiment.examples.outputs)[targets])["accuracy"] == 1


def test_epoch_losses_weigh_each_step_by_its_batch(clean_run: Run, tmp_path: Path) -> None:
    """An epoch's loss is the mean over its examples: 5 batches of 16 and one of 6, not a mean of batch means."""
    traces = DamagedTraces(clean_run.folder / "gru", tmp_path / "gru")
    trace = traces.read("obtained")
    losses = trace.losses.reshape(-1, STEPS_PER_EPOCH)
    expected = (losses[:, :5].sum(axis=1) * 16 + losses[:, 5] * 6) / 86
    obtained = epoch_losses(trace, traces.experiment)
    np.testing.assert_allclose(obtained, expected, rtol=1e-12)
    assert not np.allclose(obtained, losses.mean(axis=1), rtol=1e-6)
    comparison = clean_run.comparison("gru", "keras-tensorflow")
    assert comparison.epoch_losses.keys() == set(RUNNERS.values())
    assert comparison.epoch_losses["keras-tensorflow"] == obtained
    assert comparison.as_json()["epoch_losses"]["keras-tensorflow"] == obtained


def test_epochs_that_were_not_finished_have_no_loss(clean_run: Run, tmp_path: Path) -> None:
    """An epoch cut short is left out, one with a loss that is not finite is None, and no losses give none."""
    traces = DamagedTraces(clean_run.folder / "gru", tmp_path / "gru")
    trace = traces.read("obtained")
    rows = trace.rows[: 2 * STEPS_PER_EPOCH - 1].copy()
    assert len(epoch_losses(replace(trace, rows=rows), traces.experiment)) == 1
    rows[0, trace.columns.index("loss")] = np.nan
    assert epoch_losses(replace(trace, rows=rows), traces.experiment) == [None]
    assert epoch_losses(replace(trace, columns=tuple("x" * len(trace.columns))), traces.experiment) == []


def test_a_comparison_has_metrics_of_both_sides_in_own_units(clean_run: Run, tmp_path: Path) -> None:
    """The metrics of a run are those of the stored predictions after their scaling is undone."""
    traces = DamagedTraces(clean_run.folder / "gru", tmp_path / "gru")
    comparison = clean_run.comparison("gru", "keras-tensorflow")
    experiment = traces.experiment
    truth = experiment.windows.test_targets.astype(np.float64)
    assert comparison.metrics.keys() == set(RUNNERS.values())
    for side, runner in RUNNERS.items():
        predictions = traces.read(side).predictions
        assert predictions is not None
        error = (predictions.astype(np.float64) - truth) * experiment.scaling.standard_deviation
        assert comparison.metrics[runner]["mse"] == pytest.approx(np.mean(error**2), rel=1e-9)
        assert comparison.metrics[runner]["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-9)
        r2 = 1 - np.sum(error**2) / np.sum(
            (experiment.scaling.undo(truth) - experiment.scaling.undo(truth).mean()) ** 2
        )
        assert comparison.metrics[runner]["r2"] == pytest.approx(r2, rel=1e-9)
    assert math.isfinite(comparison.max_prediction_difference)
