"""How far two trainings are apart, relative to what their phases have in an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compare.judge.phases import TRAJECTORY_PHASES, Phase
from compare.trace.trace import Trace


@dataclass(frozen=True)
class PhaseDrift:
    """The drift of one phase: `values`, relative, and both sides' figures (steps, tensors), by the tensors' names."""

    phase: Phase
    tensors: tuple[str, ...]
    values: np.ndarray
    expected: np.ndarray
    obtained: np.ndarray


def drift_by_phase(expected: Trace, obtained: Trace, steps: int) -> list[PhaseDrift]:
    """Measure the drift of every recorded figure at every step that both traces have, in the order of the phases.

    Each figure is measured by what its phase has in the whole epoch, not by itself: by the root mean square norm of the
    whole gradient or update, since a tensor whose true gradient is near zero has no digits of its own, and neither has
    the whole gradient of a batch that happens to be predicted well. For the same reason the roots of the losses are
    compared, |sqrt(a) - sqrt(b)| <= rms(outputs a - outputs b) for MSE, by the root of the epoch's mean loss: where all
    batches have like losses that is half the relative difference. NaN on one side, or on both, is infinite drift.
    """
    drifts = []
    for phase in TRAJECTORY_PHASES:
        # Columns are matched by name: the sides list gates in their own order.
        columns = [column for column in expected.columns if column.partition("/")[0] == phase]
        if not columns:
            continue  # what must be recorded is asked for elsewhere
        figures = [
            trace.rows[:steps, [trace.columns.index(column) for column in columns]] for trace in (expected, obtained)
        ]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            left, right = map(np.sqrt, figures) if phase == "loss" else figures
            difference = np.abs(right - left)
            values = np.where(difference == 0, 0.0, difference / epoch_scale(expected, phase, steps)[:, None])
        values[np.isnan(values)] = np.inf
        drifts.append(PhaseDrift(phase, tuple(column.partition("/")[2] for column in columns), values, *figures))
    return drifts


def epoch_scale(trace: Trace, phase: Phase, steps: int) -> np.ndarray:
    """Return the root mean square of a phase's norm, or of the root of the loss, over the epoch of each step."""
    epochs = np.arange(steps) // max(1, int(trace.manifest["steps"]) // int(trace.manifest["epochs"]))
    columns = [index for index, column in enumerate(trace.columns) if column.partition("/")[0] == phase]
    with np.errstate(invalid="ignore", over="ignore"):
        figures = trace.rows[:steps, columns]
        squares = np.sum(np.abs(figures) if phase == "loss" else np.square(figures), axis=1)
        scale = np.sqrt(np.bincount(epochs, squares) / np.bincount(epochs))[epochs]
    return np.maximum(scale, np.finfo(np.float64).tiny)


def weight_drift(expected: Mapping[str, np.ndarray], obtained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Measure how far each tensor is from the expected one, by the norm of all weights together."""
    scale = norm(expected)
    drift = {}
    for name, tensor in expected.items():
        distance = float(np.linalg.norm(np.float64(tensor) - np.float64(obtained[name])))
        drift[name] = _finite_or_infinite(distance / scale if scale else distance)
    return drift


def prediction_drift(expected: np.ndarray, obtained: np.ndarray) -> float:
    """Measure the largest difference of two predictions, absolute: the series that they predict is scaled."""
    return _finite_or_infinite(float(np.max(np.abs(np.float64(expected) - np.float64(obtained)))))


def relative_loss_differences(expected: Trace, obtained: Trace) -> np.ndarray:
    """Return |difference| / loss at every step that both traces have; infinite where one is not finite."""
    steps = min(len(expected.rows), len(obtained.rows))
    left, right = expected.losses[:steps], obtained.losses[:steps]
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(right - left) / np.maximum(np.abs(left), np.finfo(np.float64).tiny)
    return np.where(np.isnan(errors), np.inf, errors)


def norm(tensors: Mapping[str, np.ndarray]) -> float:
    """Return the Euclidean norm of all tensors together."""
    return float(np.sqrt(sum(float(np.sum(np.square(tensor, dtype=np.float64))) for tensor in tensors.values())))


def _finite_or_infinite(error: float) -> float:
    return error if np.isfinite(error) else np.inf
