"""How far rounding alone carries two trainings apart, measured from an ensemble; every tolerance of the trajectory.

Members of the ensemble are trainings of the PyTorch side whose initial weights, and the powers of Adam's betas, differ
in the last bit of the working precision. What separates them is rounding, carried on and magnified by the training
itself; the ensemble's drift is the largest separation seen up to each step, among all members and all tensors of a
phase. Where numbers cancel in a step its own rounding can outweigh a last bit of the weights. In a normalisation's
gradient the Monte Carlo samples of the reference show that, and the drift counts as no less than theirs in the checked
steps; in gates near saturation, whose units a last bit of a weight does not move, one member in float64 does, from
which a training in float32 differs by all its rounding.

A fault of the PyTorch side that strikes other steps in every member would widen its own tolerance. So one training of
the Keras side is perturbed too, the witness: what it does not part by, times a margin, no rounding explains.

From the step on at which rounding alone may carry two trainings as far apart as their figures are large, the horizon,
nothing can be said of the trajectory: there the single-step checks alone are left.

Source: Baker et al. 2015, "A new ensemble-based consistency test for the Community Earth System Model" (the method).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compare.judge.drift import drift_by_phase, epoch_scale, norm, prediction_drift, weight_drift
from compare.judge.margins import ENSEMBLE_FLOOR_ULPS, ENSEMBLE_MARGIN, STEADY_GROWTH, WITNESS_MARGIN, ulp
from compare.judge.phases import TRAJECTORY_PHASES, Phase
from compare.trace.trace import Trace


@dataclass(frozen=True)
class EnsembleDrift:
    """How far rounding carries: by phase at each step (steps,), by epoch for the weights, and for the predictions.

    `unexplained` marks the steps at which the PyTorch side's members part further than the witness allows;
    `steps_per_epoch` is that of the trainings.
    """

    by_phase: Mapping[Phase, np.ndarray]
    weights: Mapping[int, float]
    predictions: float
    forecast: float
    steps_per_epoch: int = 1
    unexplained: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def margin(self) -> np.ndarray:
        """What the drift is multiplied by at each step (steps,); infinite from the horizon on.

        Where separations grow g-fold within one step a single direction is amplified far above all others, and how much
        of it a training's rounding has is chance: the margin grows by the root of g beyond a steady growth.
        """
        growths = [drift[1:] / drift[:-1] for drift in self.by_phase.values()]
        growth = np.maximum.accumulate([1.0, *np.max(growths, axis=0)])
        margin = ENSEMBLE_MARGIN * np.sqrt(np.maximum(1.0, growth / STEADY_GROWTH))
        known = np.maximum(self.by_phase["loss"], self.by_phase["gradient"]) * margin < 1
        return np.where(np.logical_and.accumulate(known), margin, np.inf)

    @property
    def horizon(self) -> int | None:
        """The first step of which nothing can be said; None where there is none."""
        unknown = np.flatnonzero(np.isinf(self.margin))
        return int(unknown[0]) if unknown.size else None

    def tolerance(self, phase: Phase) -> np.ndarray:
        """The largest drift of a phase at each step (steps,) that rounding explains."""
        return self.margin * self.by_phase[phase]

    def weights_tolerance(self, epoch: int) -> float:
        """The same of the weights after an epoch."""
        step = min(max(epoch * self.steps_per_epoch - 1, 0), len(self.margin) - 1)
        return float(self.margin[step]) * self.weights[epoch]

    @property
    def last_margin(self) -> float:
        """The margin at the end of the training."""
        return float(self.margin[-1])


def measure_ensemble(
    reference: Trace,
    members: Sequence[Trace],
    rounded_norms: Mapping[int, Mapping[str, float]],
    precision: str,
    witness: tuple[Trace, Trace] | None = None,
    steps: int | None = None,
) -> EnsembleDrift:
    """Measure the drift of an ensemble from the training that it perturbs, in the given working precision.

    `rounded_norms` are, by step and phase, how far rounding moves the root of the loss or the norm of a tensor. The
    witness is a training of the Keras side and the same perturbed. Where not all trainings stay finite, `steps` is how
    many of them do so in all: of the rest, and of weights and predictions, nothing is measured.

    Raises ValueError where there are no members, or one is not finite, not of the same length or lacks a tensor.
    """
    if not members:
        raise ValueError("no members: the drift of an ensemble cannot be measured")
    whole = steps is None
    steps = len(reference.rows) if steps is None else steps
    if whole:
        for trace in members:
            _refuse_other_shapes(trace, reference)
    floor = ENSEMBLE_FLOOR_ULPS * ulp(precision)
    measured = _separation(reference, members, steps, whole, floor)
    rounding = _rounding_of_steps(reference, rounded_norms, precision, floor)
    by_phase, weights, predictions, forecast = measured
    unexplained = np.zeros(steps, bool)
    if witness is not None:
        bound, of_weights, of_predictions, of_forecast = _separation(witness[0], witness[1:], steps, whole, floor)
        for phase in by_phase:
            limit = WITNESS_MARGIN * np.maximum(bound[phase], rounding[phase][:steps])
            unexplained |= by_phase[phase] > limit
            by_phase[phase] = np.minimum(by_phase[phase], limit)
        weights = {epoch: min(drift, WITNESS_MARGIN * of_weights[epoch]) for epoch, drift in weights.items()}
        predictions = min(predictions, WITNESS_MARGIN * of_predictions)
        forecast = min(forecast, WITNESS_MARGIN * of_forecast)
    by_phase = {phase: np.maximum(drift, rounding[phase][:steps]) for phase, drift in by_phase.items()}
    if not np.isfinite(np.concatenate([*by_phase.values(), [*weights.values(), predictions, forecast]])).all():
        raise ValueError("a training or a member of its ensemble is not finite, so that no drift can be measured")
    per_epoch = max(1, int(reference.manifest["steps"]) // int(reference.manifest["epochs"]))
    return EnsembleDrift(by_phase, weights, predictions, forecast, per_epoch, np.logical_or.accumulate(unexplained))


_Separation = tuple[dict[Phase, np.ndarray], dict[int, float], float, float]


def _separation(reference: Trace, members: Sequence[Trace], steps: int, whole: bool, floor: float) -> _Separation:
    """The largest separation of members from what they perturb: by phase and step, of weights, of what is predicted."""
    by_phase: dict[Phase, np.ndarray] = {phase: np.full(steps, floor) for phase in TRAJECTORY_PHASES}
    weights = dict.fromkeys(reference.checkpoints if whole else (), floor)
    predictions = forecast = floor
    for member in members:
        for drift in drift_by_phase(reference, member, steps):
            if drift.values.size:
                so_far = np.maximum.accumulate(drift.values.max(axis=1))
                by_phase[drift.phase] = np.maximum(by_phase[drift.phase], so_far)
        for epoch in weights:
            drifts = weight_drift(reference.checkpoints[epoch], member.checkpoints[epoch])
            weights[epoch] = max(weights[epoch], *drifts.values())
        if whole and reference.predictions is not None and member.predictions is not None:
            predictions = max(predictions, prediction_drift(reference.predictions, member.predictions))
            if reference.forecast is not None and member.forecast is not None:
                forecast = max(forecast, prediction_drift(reference.forecast, member.forecast))
    epochs = sorted(weights)
    so_far = np.maximum.accumulate([weights[epoch] for epoch in epochs])
    return by_phase, dict(zip(epochs, map(float, so_far), strict=True)), predictions, forecast


def _refuse_other_shapes(member: Trace, reference: Trace) -> None:
    """Raise ValueError where a member's trace has other steps or tensors than what it perturbs."""
    name, steps = f"ensemble member {member.folder.name}", len(reference.rows)
    if member.rows.shape != reference.rows.shape or member.predictions is None or reference.predictions is None:
        raise ValueError(f"{name} has {len(member.rows)} steps, its reference {steps}")
    if _shapes(member) != _shapes(reference):
        raise ValueError(f"{name} does not hold the tensors that its reference holds")


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
