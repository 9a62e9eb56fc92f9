"""Same trajectory: the free-running trainings may drift apart only as far as rounding carries them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from compare.data.text_sampling import Sample
from compare.judge.drift import PhaseDrift, prediction_drift, weight_drift
from compare.judge.ensemble import EnsembleDrift
from compare.judge.margins import ENSEMBLE_MARGIN
from compare.judge.ratios import tolerance_ratio, tolerance_ratios
from compare.judge.verdict import Difference
from compare.trace.trace import Trace

BEYOND = "beyond-rounding"
MESSAGE = "further apart than rounding carries them"


class DriftCheck(NamedTuple):
    """What was checked against one tolerance: the largest error / tolerance, and the difference where it is above 1."""

    tolerance_ratio: float
    difference: Difference | None


def check_phase(drift: PhaseDrift, ensemble: EnsembleDrift) -> DriftCheck:
    """Compare the drift of one phase with the ensemble's; the difference is at the first step beyond it."""
    tolerance = ensemble.tolerance(drift.phase)[: len(drift.values)]
    ratios = tolerance_ratios(drift.values, tolerance[:, None])
    beyond = np.flatnonzero((ratios > 1).any(axis=1))
    if not beyond.size:
        return DriftCheck(float(ratios.max()), None)
    step = int(beyond[0])
    worst = int(np.argmax(drift.values[step]))
    error, tensor = float(drift.values[step, worst]), drift.tensors[worst] or None
    expected, obtained = (float(figures[step, worst]) for figures in (drift.expected, drift.obtained))
    difference = Difference(
        BEYOND, step, drift.phase, MESSAGE, tensor, error, float(tolerance[step]), expected=expected, obtained=obtained
    )
    return DriftCheck(float(ratios.max()), difference)


def check_weights(
    expected: Trace, obtained: Trace, ensemble: EnsembleDrift, step_of: dict[int, int]
) -> Iterator[DriftCheck]:
    """Compare the weights after each epoch of `step_of` whose checkpoint both traces have, with the same tensors."""
    for epoch in sorted(step_of.keys() & expected.checkpoints.keys() & obtained.checkpoints.keys()):
        left, right = expected.checkpoints[epoch], obtained.checkpoints[epoch]
        if _shapes(left) != _shapes(right):
            continue  # reported as missing or of another shape
        tolerance = ENSEMBLE_MARGIN * ensemble.weights[epoch]
        drift = weight_drift(left, right)
        worst = max(drift, key=lambda name: drift[name])
        message = f"weights after epoch {epoch} {MESSAGE}"
        beyond = Difference(BEYOND, step_of[epoch], "update", message, worst, drift[worst], tolerance)
        ratio = tolerance_ratio(drift[worst], tolerance)
        yield DriftCheck(ratio, beyond if ratio > 1 else None)


def check_predictions(
    expected: np.ndarray, obtained: np.ndarray, ensemble: float, step: int, subject: str = "predictions"
) -> DriftCheck:
    """Compare the predictions for the held-out windows, of which the metrics are made, with the ensemble's drift."""
    tolerance = ENSEMBLE_MARGIN * ensemble
    error = prediction_drift(expected, obtained)
    message = f"{subject} {MESSAGE}"
    beyond = Difference(BEYOND, step, "forward", message, relative_error=error, tolerance=tolerance)
    ratio = tolerance_ratio(error, tolerance)
    return DriftCheck(ratio, beyond if ratio > 1 else None)


def sample_difference(expected: Sample, obtained: Sample, tolerance: float, step: int) -> Difference | None:
    """Find the first id that the two sides sampled differently though its choice was no near thing.

    `tolerance` is how far rounding may move a cumulative probability; from there on the texts may rightly diverge.
    """
    different = np.flatnonzero(expected.ids != obtained.ids)
    if not different.size or tolerance_ratio(float(expected.margins[different[0]]), tolerance) <= 1:
        return None
    position, margin = int(different[0]), float(expected.margins[different[0]])
    message = f"the sampled texts differ from position {position} on, where the choice was clear"
    return Difference(BEYOND, step, "forward", message, relative_error=margin, tolerance=tolerance)


def batch_difference(expected: Trace, obtained: Trace) -> Difference | None:
    """Find the first step that the two sides trained on different batches, by the checksums of what each was given."""
    steps = min(len(expected.rows), len(obtained.rows))
    left, right = (trace.rows[:steps, trace.columns.index("batch")] for trace in (expected, obtained))
    different = np.flatnonzero(left != right)
    if not different.size:
        return None
    step = int(different[0])
    message = "the two sides were given different batches"
    return Difference(
        "batch", step, "forward", message, "inputs", expected=float(left[step]), obtained=float(right[step])
    )


def _shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}
