"""Test metrics by task: forecasts in the series' own units, classes from logits."""

from collections.abc import Mapping

import numpy as np

from compare.data.examples import Examples
from compare.experiment.experiment import Experiment
from compare.trace.trace import Trace

Metrics = Mapping[str, float | None]


def predictions_shape(examples: Examples) -> tuple[int, ...]:
    """Return the shape of predictions for the held-out part: values as they are, logits with an axis of classes."""
    targets = examples.test.targets
    return targets.shape if _are_values(targets) else (*targets.shape, examples.outputs)


def metrics_of(experiment: Experiment, predictions: np.ndarray) -> Metrics:
    """Return the metrics of predictions for the held-out part, by task."""
    test = experiment.examples.test
    if _are_values(test.targets):
        undo = experiment.scaling.undo if experiment.scaling is not None else lambda values: values.astype(np.float64)
        return forecast_metrics(undo(test.targets), undo(predictions))
    return class_metrics(*judged(test.targets, predictions, test.mask))


def forecast_metrics(truth: np.ndarray, predictions: np.ndarray) -> Metrics:
    """Return mse, rmse, mae and r2 of predictions (windows, horizon); None where a figure is not defined.

    Undefined: any metric of predictions that are not finite or too large to square, and r2 of a single window.
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score  # takes a second to import

    if not np.isfinite(predictions).all():
        return dict.fromkeys(("mse", "rmse", "mae", "r2"))
    with np.errstate(over="ignore", invalid="ignore"):
        mse = float(mean_squared_error(truth, predictions))
        figures = {
            "mse": mse,
            "rmse": float(np.sqrt(mse)),
            "mae": float(mean_absolute_error(truth, predictions)),
            "r2": float(r2_score(truth, predictions)) if len(truth) > 1 else np.nan,
        }
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def judged(labels: np.ndarray, logits: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels (n,) and logits (n, classes) that count: of labels at every timestep those not masked."""
    if labels.ndim == 2 and mask is not None:
        return labels[mask], logits[mask]
    return labels.ravel(), logits.reshape(-1, logits.shape[-1])


def class_metrics(labels: np.ndarray, logits: np.ndarray) -> Metrics:
    """Return accuracy and perplexity of logits (n, classes) for labels (n,); None where a figure is not defined.

    Perplexity is exp of the mean cross-entropy in nats: 1 for certainty, the number of classes for a guess. Undefined:
    any metric of no labels and of logits that are not finite, and a perplexity too large for a number.
    """
    from scipy.special import log_softmax

    if not len(labels) or not np.isfinite(logits).all():
        return dict.fromkeys(("accuracy", "perplexity"))
    of_truth = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(-of_truth.mean()))
    return {
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "perplexity": perplexity if np.isfinite(perplexity) else None,
    }


def confusion_matrix(labels: np.ndarray, logits: np.ndarray) -> np.ndarray | None:
    """Count (classes, classes) how often each class (row) was taken for each (column); None of logits not finite."""
    from sklearn.metrics import confusion_matrix as count

    if not len(labels) or not np.isfinite(logits).all():
        return None
    return count(labels, logits.argmax(axis=1), labels=np.arange(logits.shape[1]))


def accuracy_by_timestep(labels: np.ndarray, logits: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Return the accuracy at each timestep (time,) of labels (examples, time), NaN where all are masked.

    None where there is one label an example, and of logits that are not finite.
    """
    if labels.ndim != 2 or not np.isfinite(logits).all():
        return None
    right = logits.argmax(axis=2) == labels
    real = np.ones(labels.shape, bool) if mask is None else mask
    counts = real.sum(axis=0)
    return np.where(counts > 0, (right & real).sum(axis=0) / np.maximum(counts, 1), np.nan)


def epoch_losses(trace: Trace, experiment: Experiment) -> list[float | None]:
    """Return the mean loss of each whole epoch, each step weighted by its batch size; None where it is not finite."""
    if "loss" not in trace.columns:
        return []
    losses = trace.losses
    steps = experiment.steps_per_epoch
    sizes = np.array([len(experiment.batch(step)) for step in range(steps)], np.float64)
    whole = losses[: len(losses) // steps * steps].reshape(-1, steps)
    with np.errstate(invalid="ignore", over="ignore"):
        means = whole @ sizes / sizes.sum()
    return [float(mean) if np.isfinite(mean) else None for mean in means]


def _are_values(targets: np.ndarray) -> bool:
    """Tell values to predict from class labels, which are whole numbers."""
    return targets.dtype.kind == "f"
