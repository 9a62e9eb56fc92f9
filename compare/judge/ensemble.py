"""How far rounding alone carries two trainings apart, measured from an ensemble; every tolerance of the trajectory.

The members of the ensemble are trainings of the PyTorch side whose initial weights, gradients in every step, and the
powers of Adam's betas differ in the last bit of the working precision. What separates them is rounding, carried on and
magnified by the training itself; the ensemble's drift is the largest separation seen up to each step, among all members
and all tensors of a phase. Where numbers cancel in a step (as in a normalisation's gradient) its own rounding can
outweigh these last bits: the drift counts as no less than that of the Monte Carlo samples of the reference in the
checked steps.

Where rounding may carry a figure as far as it is large, nothing can be said of it: there the single-step checks alone
are left. The step from which on that is so of the whole trajectory is the horizon.

A fault of the PyTorch side that strikes other steps in every member would widen its own tolerance. Where the members
part far, the reference trains with and without rounding at random (`compare.judge.witness`), and bounds their drift.

Source: Baker et al. 2015, "A new ensemble-based consistency test for the Community Earth System Model" (the method).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compare.judge.drift import drift_by_phase, epoch_scale, norm, prediction_drift, weight_drift
from compare.judge.margins import ENSEMBLE_FLOOR_ULPS, ENSEMBLE_MARGIN, WITNESS_MARGIN, ulp
from compare.judge.phases import TRAJECTORY_PHASES, Phase
from compare.trace.trace import Trace


@dataclass(frozen=True)
class EnsembleDrift:
    """How far rounding carries: by phase at each step (steps,), by epoch for the weights, and for the predictions.

    `rounding` is, by phase and step, what the rounding of the steps themselves comes to, and never less than a floor.
    """

    by_phase: Mapping[Phase, np.ndarray]
    weights: Mapping[int, float]
    predictions: float
    forecast: float
    rounding: Mapping[Phase, np.ndarray]

    def tolerance(self, phase: Phase) -> np.ndarray:
        """The largest drift of a phase at each step (steps,) that rounding explains; infinite where it explains all.

        Where there is a horizon trainings part tenfold and more from one step to the next: one may be a step ahead.
        """
        drift = self.by_phase[phase]
        return _explained(drift if self.horizon is None else np.append(drift[1:], drift[-1:]))

    @property
    def horizon(self) -> int | None:
        """The first step from which on neither losses nor gradients can be judged; None where there is none."""
        unknown = np.isinf(_explained(self.by_phase["loss"])) & np.isinf(_explained(self.by_phase["gradient"]))
        return int(np.argmax(unknown)) if unknown.any() else None

    def bounded(self, exact: Trace, rounded: Sequence[Trace]) -> "EnsembleDrift":
        """Bound the drift, as far as they go, by that of trainings of the reference that round from the exact one."""
        by_phase, weights = {phase: drift.copy() for phase, drift in self.by_phase.items()}, dict(self.weights)
        steps = min(len(trace.rows) for trace in (exact, *rounded))
        drifts = largest_drifts(exact, rounded, steps)
        for phase, drift in drifts.items():
            limit = WITNESS_MARGIN * np.maximum(drift, self.rounding[phase][:steps])
            by_phase[phase][:steps] = np.minimum(by_phase[phase][:steps], limit)
        floor = min(float(floors.min()) for floors in self.rounding.values())
        for epoch in weights.keys() & set.intersection(*(set(trace.checkpoints) for trace in (exact, *rounded))):
            drifts_of_weights = (weight_drift(exact.checkpoints[epoch], trace.checkpoints[epoch]) for trace in rounded)
            farthest = max(max(of_tensors.values()) for of_tensors in drifts_of_weights)
            weights[epoch] = min(weights[epoch], WITNESS_MARGIN * max(farthest, floor))
        return replace(self, by_phase=by_phase, weights=weights)


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
        if member.rows.shape != reference.rows.shape:
            name = f"ensemble member {member.folder.name}"
            raise ValueError(f"{name} has {len(member.rows)} steps, its reference {steps}")
        if _shapes(member) != _shapes(reference):
            name = f"ensemble member {member.folder.name}"
            raise ValueError(f"{name} does not hold the tensors that its reference holds")
    floor = ENSEMBLE_FLOOR_ULPS * ulp(precision)
    rounding = _rounding_of_steps(reference, rounded_norms, precision, floor)
    by_phase = {p: np.maximum(rounding[p], drift) for p, drift in largest_drifts(reference, members, steps).items()}
    by_phase = {**rounding, **by_phase}
    # Each step rounds every weight once, however small its update is: sqrt(n) ulps (Higham and Mary 2019).
    weights = dict.fromkeys(reference.checkpoints, max(floor, float(np.sqrt(steps)) * ulp(precision)))
    predictions = forecast = floor
    for member in members:
        for epoch, tensors in reference.checkpoints.items():
            weights[epoch] = max(weights[epoch], *weight_drift(tensors, member.checkpoints[epoch]).values())
        if reference.predictions is not None and member.predictions is not None:
            predictions = max(predictions, prediction_drift(reference.predictions, member.predictions))
        if reference.forecast is not None and member.forecast is not None:
            forecast = max(forecast, prediction_drift(reference.forecast, member.forecast))
    measured = np.concatenate([*by_phase.values(), [*weights.values(), predictions, forecast]])
    if not np.isfinite(measured).all():
        raise ValueError("a training or a member of its ensemble is not finite, so that no drift can be measured")
    epochs = sorted(weights)
    so_far = np.maximum.accumulate([weights[epoch] for epoch in epochs])
    weights = dict(zip(epochs, map(float, so_far), strict=True))
    return EnsembleDrift(by_phase, weights, predictions, forecast, rounding)


def _explained(drift: np.ndarray) -> np.ndarray:
    tolerance = ENSEMBLE_MARGIN * drift
    return np.where(tolerance < 1, tolerance, np.inf)


def largest_drifts(reference: Trace, others: Sequence[Trace], steps: int) -> dict[Phase, np.ndarray]:
    """Return the largest drift of any tensor of a phase in any of the trainings up to each step, by recorded phase."""
    largest: dict[Phase, np.ndarray] = {}
    for other in others:
        for drift in drift_by_phase(reference, other, steps):
            if drift.values.size:
                so_far = np.maximum.accumulate(drift.values.max(axis=1))
                largest[drift.phase] = np.maximum(largest.get(drift.phase, 0.0), so_far)
    return largest


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
