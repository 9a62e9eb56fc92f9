"""How far rounding alone carries two trainings apart, measured from an ensemble; every tolerance of the trajectory.

The members of the ensemble are trainings of the PyTorch side whose initial weights, and the powers of Adam's betas,
differ in the last bit of the working precision. What separates them is rounding, carried on and magnified by the
training itself; the ensemble's drift is the largest separation seen up to each step, among all members and all tensors
of a phase. Where numbers cancel in a step (as in a normalisation's gradient) its own rounding can outweigh a last bit
of the weights: the drift counts as no less than that of the Monte Carlo samples of the reference in the checked steps.

Source: Baker et al. 2015, "A new ensemble-based consistency test for the Community Earth System Model" (the method).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compare.judge.drift import drift_by_phase, epoch_scale, norm, prediction_drift, weight_drift
from compare.judge.margins import ENSEMBLE_FLOOR_ULPS, ENSEMBLE_MARGIN, ulp
from compare.judge.phases import TRAJECTORY_PHASES, Phase
from compare.trace.trace import Trace


@dataclass(frozen=True)
class EnsembleDrift:
    """How far rounding carries: by phase at each step (steps,), by epoch for the weights, and for the predictions."""

    by_phase: Mapping[Phase, np.ndarray]
    weights: Mapping[int, float]
    predictions: float
    forecast: float

    def tolerance(self, phase: Phase) -> np.ndarray:
        """The largest drift of a phase at each step (steps,) that rounding explains."""
        return ENSEMBLE_MARGIN * self.by_phase[phase]


def measure_ensemble(
    reference: Trace, members: Sequence[Trace], rounded_norms: Mapping[int, Mapping[str, float]], precision: str
) -> EnsembleDrift:
    """Measure the drift of an ensemble from the training that it perturbs, in the given working precision.

    `rounded_norms` are, by step and phase, how far rounding moves the root of the loss or the norm of a tensor.

    Raises ValueError where there are no members, or one is not finite, not of the same length or lacks a tensor.
    """
    if not members:
        raise ValueError("no members: the drift of an ensemble cannot be measured")
    steps = len(reference.rows)
    for member in members:
        if member.rows.shape != reference.rows.shape or member.predictions is None or reference.predictions is None:
            name = f"ensemble member {member.folder.name}"
            raise ValueError(f"{name} has {len(member.rows)} steps, its reference {steps}")
        if _shapes(member) != _shapes(reference):
            name = f"ensemble member {member.folder.name}"
            raise ValueError(f"{name} does not hold the tensors that its reference holds")
    floor = ENSEMBLE_FLOOR_ULPS * ulp(precision)
    by_phase = _rounding_of_steps(reference, rounded_norms, precision, floor)
    weights = dict.fromkeys(reference.checkpoints, floor)
    predictions = forecast = floor
    for member in members:
        for drift in drift_by_phase(reference, member, steps):
            if drift.values.size:
                so_far = np.maximum.accumulate(drift.values.max(axis=1))
                by_phase[drift.phase] = np.maximum(by_phase[drift.phase], so_far)
        for epoch, tensors in reference.checkpoints.items():
            weights[epoch] = max(weights[epoch], *weight_drift(tensors, member.checkpoints[epoch]).values())
        assert reference.predictions is not None and member.predictions is not None  # noqa: PT018 - seen above
        predictions = max(predictions, prediction_drift(reference.predictions, member.predictions))
        if reference.forecast is not None and member.forecast is not None:
            forecast = max(forecast, prediction_drift(reference.forecast, member.forecast))
    measured = np.concatenate([*by_phase.values(), [*weights.values(), predictions, forecast]])
    if not np.isfinite(measured).all():
        raise ValueError("a training or a member of its ensemble is not finite, so that no drift can be measured")
    epochs = sorted(weights)
    so_far = np.maximum.accumulate([weights[epoch] for epoch in epochs])
    return EnsembleDrift(by_phase, dict(zip(epochs, map(float, so_far), strict=True)), predictions, forecast)


def _rounding_of_steps(
    reference: Trace, rounded_norms: Mapping[int, Mapping[str, float]], precision: str, floor: float
) -> dict[Phase, np.ndarray]:
    """How far the rounding of the steps themselves carries, by phase and step: what an ensemble need not show."""
    steps = len(reference.rows)
    by_phase: dict[Phase, np.ndarray] = {phase: np.full(steps, floor) for phase in TRAJECTORY_PHASES}
    for phase in ("loss", "gradient"):
        rounded = np.zeros(steps)
        for step, norms in rounded_norms.items():
            rounded[step : step + 1] = norms[phase]
        # With only the loss recorded a gradient has no scale, and is not asked for.
        if any(column.partition("/")[0] == phase for column in reference.columns):
            by_phase[phase] = np.maximum(floor, np.maximum.accumulate(rounded) / epoch_scale(reference, phase, steps))
    # An update is recorded as new minus old weights, each rounded: where a small step is taken by large weights that is
    # all there is to see, and members perturbed in the last bit do not show it. Both sides together are within two ulps
    # of the norm of the weights.
    size = max((norm(tensors) for tensors in reference.checkpoints.values()), default=0.0)
    last_bits = 2 * ulp(precision) * size
    by_phase["update"] = np.maximum(floor, last_bits / (ENSEMBLE_MARGIN * epoch_scale(reference, "update", steps)))
    return by_phase


def _shapes(trace: Trace) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"{epoch}/{name}": tensor.shape
        for epoch, tensors in trace.checkpoints.items()
        for name, tensor in tensors.items()
    }
    for name, values in {"predictions": trace.predictions, "forecast": trace.forecast}.items():
        shapes[name] = () if values is None else values.shape
    return shapes
