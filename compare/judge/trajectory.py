"""Same journey: the free-running trainings may drift apart only as far as rounding carries them."""

from collections.abc import Iterator

import numpy as np

from compare.data.text_sampling import Sample
from compare.judge.tolerance import MARGIN, Envelope, Errors, prediction_error, weight_errors
from compare.judge.verdict import Difference
from compare.trace.trace import Trace

BEYOND = "beyond-rounding"
WORDS = "further apart than rounding carries them"


def other_batch(expected: Trace, obtained: Trace) -> Difference | None:
    """Find the first step that the two sides trained on different batches, by the checksums of what each was given."""
    steps = min(len(expected.rows), len(obtained.rows))
    left, right = (trace.rows[:steps, trace.columns.index("batch")] for trace in (expected, obtained))
    different = np.flatnonzero(left != right)
    if not different.size:
        return None
    words = "the two sides were given different batches"
    return Difference("batch", int(different[0]), "forward", words, tensor="inputs")


def strayed(errors: Errors, envelope: Envelope) -> tuple[float, Difference | None]:
    """Compare one phase's errors with the envelope: the largest share of what is allowed, and the first step beyond."""
    tolerance = envelope.tolerance(errors.phase)[: len(errors.values)]
    shares = errors.values / tolerance[:, None]
    largest = float(shares.max())
    beyond = np.flatnonzero((shares > 1).any(axis=1))
    if not beyond.size:
        return largest, None
    step = int(beyond[0])
    worst = int(np.argmax(errors.values[step]))
    tensor = errors.tensors[worst] or None
    error = float(errors.values[step, worst])
    return largest, Difference(BEYOND, step, errors.phase, WORDS, tensor, error, float(tolerance[step]))


def strayed_weights(
    expected: Trace, obtained: Trace, envelope: Envelope, step_of: dict[int, int]
) -> Iterator[tuple[float, Difference | None]]:
    """Compare the weights after each epoch that both traces keep whole."""
    for epoch in sorted(expected.checkpoints.keys() & obtained.checkpoints.keys()):
        left, right = expected.checkpoints[epoch], obtained.checkpoints[epoch]
        if _shapes(left) != _shapes(right):
            continue  # reported as absent or of another shape
        tolerance = MARGIN * envelope.weights[epoch]
        errors = weight_errors(left, right)
        worst = max(errors, key=lambda name: errors[name])
        error = errors[worst]
        words = f"weights after epoch {epoch} {WORDS}"
        beyond = Difference(BEYOND, step_of[epoch], "update", words, worst, error, tolerance)
        yield error / tolerance, beyond if error > tolerance else None


def strayed_predictions(
    expected: np.ndarray, obtained: np.ndarray, envelope: float, step: int, subject: str = "predictions"
) -> tuple[float, Difference | None]:
    """Compare the predictions for the held-out windows; the test metrics are made of these and can stray no further."""
    tolerance = MARGIN * envelope
    error = prediction_error(expected, obtained)
    words = f"{subject} {WORDS}"
    beyond = Difference(BEYOND, step, "forward", words, relative_error=error, tolerance=tolerance)
    return error / tolerance, beyond if error > tolerance else None


def other_sample(expected: Sample, obtained: Sample, tolerance: float, step: int) -> Difference | None:
    """Find the first id that the two sides sampled differently though its choice was no near thing.

    `allowed` is how far rounding may move a cumulative probability; from there on they may rightly part.
    """
    different = np.flatnonzero(expected.ids != obtained.ids)
    if not different.size or expected.margins[different[0]] <= tolerance:
        return None
    location, margin = int(different[0]), float(expected.margins[different[0]])
    words = f"the sampled texts part at place {location}, where the choice was clear"
    return Difference(BEYOND, step, "forward", words, relative_error=margin, tolerance=tolerance)


def loss_errors(expected: Trace, obtained: Trace) -> np.ndarray:
    """The relative difference of the loss at every step that both traces have; infinite where one is not finite."""
    steps = min(len(expected.rows), len(obtained.rows))
    left, right = expected.losses[:steps], obtained.losses[:steps]
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(right - left) / np.maximum(np.abs(left), np.finfo(np.float64).tiny)
    return np.where(np.isnan(errors), np.inf, errors)


def _shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}
