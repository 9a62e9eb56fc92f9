"""Every kind of data is trained on by both sides, judged and measured, from where it comes from to its metrics."""

from typing import Any

import numpy as np
import pytest
from helpers.small_runs import Run, run_cases_in

from compare.config.case import fold_cases, load_case, with_fields
from compare.experiment.experiment import read_experiment
from compare.trace.trace import read_trace
from compare.workers.pool import Pool

# Built-in cases, made small enough for a test.
SMALL: dict[str, dict[str, Any]] = {
    "co2": {"data.window": 5, "training.batch_size": 512},
    "digits": {"data.examples": 60},
    "text": {"data.window": 8, "data.examples": 40},
    "tokens": {"data.examples": 40},
    "speech": {"data.examples": 40},
}
EPOCHS = 1

# One backend stands for the others: what differs between them is the models' business, and is tested there.
RUNNER = "keras-torch"


@pytest.fixture(scope="module")
def run(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short training of each kind of data, and of the folds of a series, on one backend."""
    common = {"training.epochs": EPOCHS, "model.units": 4}
    cases = [with_fields(load_case(name), common | fields) for name, fields in SMALL.items()]
    folded = with_fields(load_case("gru"), common | {"data.points": 50})
    return run_cases_in(tmp_path_factory.mktemp("tasks") / "out", pool, [*cases, *fold_cases(folded, 2)], ["torch"])


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_data_agrees(run: Run, name: str) -> None:
    """Both sides agree, and both have the metrics of the task."""
    comparison = run.comparison(name, RUNNER)
    assert (comparison.status, comparison.first_difference, comparison.error) == ("agrees", None, None)
    metrics = {"mse", "rmse", "mae", "r2"} if name == "co2" else {"accuracy", "perplexity"}
    for side in ("torch", RUNNER):
        assert comparison.metrics[side].keys() == metrics
        assert None not in comparison.metrics[side].values()
        assert len(comparison.epoch_losses[side]) == EPOCHS
    left, right = comparison.metrics.values()
    for metric in metrics:
        assert left[metric] == pytest.approx(right[metric], rel=1e-3)


def test_accuracy_is_that_of_the_stored_predictions(run: Run) -> None:
    """The accuracy of a tagging is the share of right labels among the timesteps that are no padding, counted here."""
    folder = run.folder / "speech"
    test = read_experiment(folder / "experiment").examples.test
    predictions = read_trace(folder / RUNNER).predictions
    assert predictions is not None
    assert test.mask is not None
    assert not test.mask.all()
    right = total = 0
    for logits, labels, mask in zip(predictions, test.targets, test.mask, strict=True):
        for step in np.flatnonzero(mask):
            right += int(logits[step].argmax() == labels[step])
            total += 1
    assert run.comparison("speech", RUNNER).metrics[RUNNER]["accuracy"] == pytest.approx(right / total)


def test_notes_on_the_data_are_in_the_verdict(run: Run) -> None:
    """That gaps of the CO₂ series were filled is said of every comparison of it, and of no other."""
    noted = {comparison.case for comparison in run.verdict.comparisons if comparison.data_notes}
    assert noted == {"co2"}


def test_folds_are_trained_and_summarised(run: Run) -> None:
    """Each fold is a comparison of its own; their metrics have mean and spread for every side."""
    names = [f"gru-fold{fold}" for fold in (1, 2)]
    for name in names:
        assert run.comparison(name, RUNNER).status == "agrees"
    assert [(fold.case, fold.side) for fold in run.verdict.folds] == [("gru", "torch"), ("gru", RUNNER)]
    for summary in run.verdict.folds:
        values = [run.comparison(name, RUNNER).metrics["torch"]["mse"] for name in names]
        assert summary.metrics["mse"].values == pytest.approx(values, rel=1e-3)
        assert summary.metrics["mse"].mean == pytest.approx(np.mean(values), rel=1e-3)
