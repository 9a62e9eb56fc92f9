"""How far rounding alone carries two trainings apart, measured from twins; every tolerance of the journey.

Twins are trainings of the PyTorch side whose initial weights, and the powers of Adam's betas, differ in the last bit of
the working precision. What separates twins is rounding, carried on and magnified by the training itself; the envelope
is the largest such separation seen up to each step, among all twins and all tensors of a phase. Where numbers cancel in
a step (as in a normalisation's gradient) its own rounding can outweigh a last bit of the weights: the envelope is no
narrower than what the reference, rounded at random, strays in the steps that are taken apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compare.trace.trace import Trace

# A matched training may stray this many times as far as the twins did. A twin is perturbed once, while two frameworks
# round differently at every operation, and four twins are a small sample of a maximum; `benchmarks/power.md` holds
# the distribution of (strayed / envelope) over clean runs, from which this is taken.
MARGIN = 8.0

# No envelope is narrower than this many units of the working precision, or twins that happen to agree to the last bit
# at the first steps would allow nothing at all: a loss of n terms is summed in another order on each side, with an
# error of a few units (Higham 2002, section 4.2: log2(n) units for pairwise sums, n = 32 in a default batch).
FLOOR_UNITS = 4.0

PHASES = ("loss", "gradient", "update")


@dataclass(frozen=True)
class Errors:
    """Relative errors of one phase: (steps, tensors), and the names of the tensors."""

    phase: str
    tensors: tuple[str, ...]
    values: np.ndarray


def errors_by_phase(expected: Trace, obtained: Trace, steps: int) -> list[Errors]:
    """Compute the relative error of every recorded figure at every step that both traces have, in order of phase.

    Each figure is measured by what its phase has in the whole epoch, not by itself: by the root mean square norm of the
    whole gradient or update, since a tensor whose true gradient is near zero has no digits of its own, and neither has
    the whole gradient of a batch that happens to be predicted well. For the same reason the roots of the losses are
    compared, |sqrt(a) - sqrt(b)| <= rms(outputs a - outputs b) for MSE, by the root of the epoch's mean loss: where all
    batches have like losses that is half the relative difference.
    """
    found = []
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for phase in PHASES:
            # Columns are matched by name: the sides list gates in their own order.
            columns = [column for column in expected.columns if column.partition("/")[0] == phase]
            if not columns:
                continue  # what must be recorded is asked for elsewhere
            reference = expected.rows[:steps, [expected.columns.index(column) for column in columns]]
            other = obtained.rows[:steps, [obtained.columns.index(column) for column in columns]]
            if phase == "loss":
                reference, other = np.sqrt(reference), np.sqrt(other)
            scale = _scale(expected, phase, steps)[:, None]
            difference = np.abs(other - reference)
            values = np.where(difference == 0, 0.0, difference / scale)
            # NaN on one side, or on both, is not agreement.
            values[np.isnan(values)] = np.inf
            tensors = tuple(column.partition("/")[2] for column in columns)
            found.append(Errors(phase, tensors, values))
    return found


def _scale(trace: Trace, phase: str, steps: int) -> np.ndarray:
    """The root mean square of a phase's norm, or of the root of the loss, over the epoch of each step."""
    epochs = np.arange(steps) // max(1, int(trace.manifest["steps"]) // int(trace.manifest["epochs"]))
    chosen = [index for index, column in enumerate(trace.columns) if column.partition("/")[0] == phase]
    with np.errstate(invalid="ignore", over="ignore"):
        figures = trace.rows[:steps, chosen]
        squares = np.sum(np.abs(figures) if phase == "loss" else np.square(figures), axis=1)
        scale = np.sqrt(np.bincount(epochs, squares) / np.bincount(epochs))[epochs]
    return np.maximum(scale, np.finfo(np.float64).tiny)


def _shapes(trace: Trace) -> dict[str, tuple[int, ...]]:
    predictions, forecast = (() if found is None else found.shape for found in (trace.predictions, trace.forecast))
    found = {
        f"{epoch}/{name}": part.shape for epoch, tensors in trace.checkpoints.items() for name, part in tensors.items()
    }
    return found | {"predictions": predictions, "forecast": forecast}


def _norm(tensors: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.sum(np.square(tensor, dtype=np.float64))) for tensor in tensors.values())))


@dataclass(frozen=True)
class Envelope:
    """What rounding explains: by phase at each step, by epoch for the weights, and for the predictions."""

    by_phase: Mapping[str, np.ndarray]
    weights: Mapping[int, float]
    predictions: float
    forecast: float

    def tolerance(self, phase: str) -> np.ndarray:
        """The largest relative error at each step that rounding explains."""
        return MARGIN * self.by_phase[phase]


def measure_envelope(
    reference: Trace, members: Sequence[Trace], rounded_norms: Mapping[int, Mapping[str, float]], precision: str
) -> Envelope:
    """Measure the envelope of a reference training from its twins, in the given working precision.

    `rounded_norms` are, by step and phase, how far rounding moves the root of the loss or the norm of a tensor.

    Raises ValueError where there are no twins, or one is not finite or not of the same length.
    """
    if not members:
        raise ValueError("no twins: an envelope cannot be measured")
    unit = float(np.finfo(precision).eps)
    floor = FLOOR_UNITS * unit
    steps = len(reference.rows)
    by_phase = {phase: np.full(steps, floor) for phase in PHASES}
    # An update is recorded as new minus old weights, each rounded: where a small step is taken by large weights that is
    # all there is to see, and twins that start a last bit apart do not show it. Both sides together are within one unit
    # of the norm of the weights.
    for phase in ("loss", "gradient"):
        rounded = np.zeros(steps)
        for step, norms in rounded_norms.items():
            rounded[step : step + 1] = norms[phase]
        # With only the loss recorded a gradient has no scale, and is not asked for.
        if any(column.partition("/")[0] == phase for column in reference.columns):
            by_phase[phase] = np.maximum(floor, np.maximum.accumulate(rounded) / _scale(reference, phase, steps))
    size = max((_norm(tensors) for tensors in reference.checkpoints.values()), default=0.0)
    by_phase["update"] = np.maximum(floor, unit * size / (MARGIN * _scale(reference, "update", steps)))
    weights: dict[int, float] = dict.fromkeys(reference.checkpoints, floor)
    predictions = forecast = floor
    for member in members:
        if member.rows.shape != reference.rows.shape or member.predictions is None or reference.predictions is None:
            raise ValueError(f"twin {member.folder.name} has {len(member.rows)} steps, its reference {steps}")
        if _shapes(member) != _shapes(reference):
            raise ValueError(f"twin {member.folder.name} does not hold the tensors that its reference holds")
        for errors in errors_by_phase(reference, member, steps):
            if errors.values.size:
                strayed = np.maximum.accumulate(errors.values.max(axis=1))
                by_phase[errors.phase] = np.maximum(by_phase[errors.phase], strayed)
        for epoch, tensors in reference.checkpoints.items():
            weights[epoch] = max(weights[epoch], *weight_errors(tensors, member.checkpoints[epoch]).values())
        predictions = max(predictions, prediction_error(reference.predictions, member.predictions))
        if reference.forecast is not None and member.forecast is not None:
            forecast = max(forecast, prediction_error(reference.forecast, member.forecast))
    measured = [*by_phase.values(), np.asarray([*weights.values(), predictions, forecast])]
    if not all(np.isfinite(part).all() for part in measured):
        raise ValueError("a training or a twin of it is not finite, so that no envelope can be measured")
    epochs = sorted(weights)
    accumulated = np.maximum.accumulate([weights[epoch] for epoch in epochs])
    return Envelope(by_phase, dict(zip(epochs, map(float, accumulated), strict=True)), predictions, forecast)


def weight_errors(expected: Mapping[str, np.ndarray], obtained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Measure how far each tensor is from the expected one, by the norm of all weights together."""
    scale = _norm(expected)
    found = {}
    for name, tensor in expected.items():
        distance = float(np.linalg.norm(np.float64(tensor) - np.float64(obtained[name])))
        error = distance / scale if scale else distance
        found[name] = error if np.isfinite(error) else np.inf
    return found


def prediction_error(expected: np.ndarray, obtained: np.ndarray) -> float:
    """Measure the largest difference of two predictions, in units of the scaled series."""
    error = float(np.max(np.abs(np.float64(expected) - np.float64(obtained))))
    return error if np.isfinite(error) else np.inf
