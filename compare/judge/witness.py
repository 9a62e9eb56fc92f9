"""The reference's own training as a witness: it bounds the ensemble, sees what both do wrong, names who is off."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.drift import PhaseDrift, drift_by_phase, weight_drift
from compare.judge.ensemble import EnsembleDrift
from compare.judge.margins import ENSEMBLE_MARGIN, SUSPICIOUS_DRIFT
from compare.judge.ratios import tolerance_ratios
from compare.judge.replay import LONG_REPLAY_SECONDS, REPLAY_SECONDS, Replay, affordable_steps, batch_checksum
from compare.judge.step_reference import StepReference
from compare.judge.trajectory import BEYOND, check_phase
from compare.judge.verdict import Difference
from compare.trace.trace import State, Trace

# The kind of what both sides do alike, and not as the reference does.
SHARED = "shared"

# A side that is so many times as far from the reference as the other is off, where neither is beyond its tolerance.
CLEARLY = 3.0


class Witness:
    """The reference's training of an experiment, beside those of two sides that are held against one another."""

    def __init__(
        self, experiment: Experiment, expected: Trace, obtained: Trace, references: Sequence[StepReference]
    ) -> None:
        self.experiment, self.references = experiment, references
        self.sides = {trace.manifest["runner"]: trace for trace in (expected, obtained)}
        self.like, self.precision = expected, str(obtained.manifest["precision"])
        self.exact = self._train(REPLAY_SECONDS)

    def _train(self, seconds: float, seed: int | None = None) -> Trace:
        steps = affordable_steps(self.experiment, seconds)
        return Replay(self.experiment, self.like, self.precision, seed).train(min(steps, len(self.like.rows)))

    @cached_property
    def long(self) -> Trace:
        """The exact training as far as it is affordable where there is something to be seen."""
        is_whole = len(self.exact.rows) == len(self.like.rows)
        return self.exact if is_whole else self._train(LONG_REPLAY_SECONDS)

    def bound(self, ensemble: EnsembleDrift) -> EnsembleDrift:
        """Bound the drift of an ensemble by that of the reference where it could hide a fault."""
        if max(float(drift.max(initial=0.0)) for drift in ensemble.by_phase.values()) < SUSPICIOUS_DRIFT:
            return ensemble
        return ensemble.bounded(self.long, [self._train(LONG_REPLAY_SECONDS, seed=1)])

    def shared_differences(self, ensemble: EnsembleDrift) -> list[Difference]:
        """Find where both sides are further from the reference than rounding carries them, though not apart.

        And where both were given a batch that is not the step's.
        """
        column = self.like.columns.index("batch")
        steps = min(len(self.exact.rows), *(len(trace.rows) for trace in self.sides.values()))
        wrong = [trace.rows[:steps, column] != self.exact.rows[:steps, column] for trace in self.sides.values()]
        both = np.flatnonzero(wrong[0] & wrong[1])
        if both.size:
            message = "both sides were given another batch than the schedule has"
            return [Difference(SHARED, int(both[0]), "forward", message, "inputs", off_side="both")]
        first = [self._first_beyond(trace, self.exact, ensemble) for trace in self.sides.values()]
        if any(difference is None for difference in first):
            return []
        difference = min((d for d in first if d is not None), key=lambda d: d.order)
        if self._follows_from_a_state(difference.step, ensemble):
            return []
        message = "both sides are further from the reference's own training than rounding carries them"
        return [replace(difference, kind=SHARED, message=message, off_side="both")]

    def _follows_from_a_state(self, step: int, ensemble: EnsembleDrift) -> bool:
        """Whether PyTorch's last state before a step is the reference's, and both sides go on from there as it does.

        Where it is so they differ in its last bits alone, which a relu at its kink turns into another gradient.
        """
        before = [r for r in self.references if 0 < r.step <= step and r.step <= len(self.exact.rows)]
        if not before:
            return False
        last = max(before, key=lambda reference: reference.step)
        replay = Replay(self.experiment, self.like, self.precision)
        replay.train(last.step)
        per_epoch = self.experiment.steps_per_epoch
        tolerance = min(drift for epoch, drift in ensemble.weights.items() if epoch * per_epoch >= last.step)
        if max(weight_drift(replay.weights, dict(last.weights)).values()) > ENSEMBLE_MARGIN * tolerance:
            return False
        state = State(dict(last.weights), dict(last.slots), dict(last.non_trainable))
        from_state = replay.train(step + 1, last.step, state)
        return all(self._first_beyond(trace, from_state, ensemble) is None for trace in self.sides.values())

    def with_off_side(self, difference: Difference, ensemble: EnsembleDrift, is_first: bool) -> Difference:
        """Name the side that is off in a difference of the trajectory: the one that leaves the reference's training.

        Where nothing else differs before, `is_first`, a loss may be moved to the update that has led to it.
        """
        if difference.kind == "batch":
            given = {
                side: trace.rows[difference.step, trace.columns.index("batch")] for side, trace in self.sides.items()
            }
            expected = batch_checksum(self.experiment, difference.step)
            off = [side for side, checksum in given.items() if checksum != expected]
            return replace(difference, off_side=off[0] if len(off) == 1 else "both")
        if difference.kind != BEYOND or difference.off_side != "unknown":
            return difference
        exact = self._training_up_to(difference.step)
        if exact is None:
            return difference
        first = {side: self._first_beyond(trace, exact, ensemble) for side, trace in self.sides.items()}
        off = [side for side, beyond in first.items() if beyond is not None and beyond.step <= difference.step]
        if not off:
            near, far = sorted(self.sides, key=lambda side: self._distance(side, exact, difference))
            if self._distance(far, exact, difference) > CLEARLY * self._distance(near, exact, difference):
                off = [far]
        if is_first and len(off) == 1 and self._is_led_elsewhere(self.sides[off[0]], exact, ensemble, difference):
            message = f"the update of {off[0]}, whose norm is as it should be, leads elsewhere"
            difference = replace(difference, step=difference.step - 1, phase="update", message=message)
        return replace(difference, off_side=off[0] if len(off) == 1 else "both" if off else "unknown")

    def _is_led_elsewhere(self, trace: Trace, exact: Trace, ensemble: EnsembleDrift, difference: Difference) -> bool:
        """Whether a loss differs for the weights it is of, by the step before: as what follows from them does too."""
        step = difference.step
        if difference.phase != "loss" or step == 0:
            return False
        if trace.rows[step, trace.columns.index("batch")] != batch_checksum(self.experiment, step):
            return False  # it is of another batch
        beyond = {
            drift.phase: tolerance_ratios(drift.values, ensemble.tolerance(drift.phase)[: len(drift.values), None]) > 1
            for drift in self._drifts(trace, exact)
        }
        gradients, updates = beyond.get("gradient"), beyond.get("update")
        if updates is not None and updates[step - 1].any():
            return False  # its norm tells it already
        return bool(beyond["loss"][step : step + 2].all()) and (gradients is None or bool(gradients[step].any()))

    def _training_up_to(self, step: int) -> Trace | None:
        """The exact training up to a step: from the start, or from the last state of the expected side before it."""
        step = min(step, len(self.like.rows) - 1)
        for trace in (self.exact, self.long) if step >= len(self.exact.rows) else (self.exact,):
            if step < len(trace.rows):
                return trace
        near = [
            r for r in self.references if 0 <= step - r.step < affordable_steps(self.experiment, LONG_REPLAY_SECONDS)
        ]
        if not near:
            return None
        last = max(near, key=lambda reference: reference.step)
        state = State(dict(last.weights), dict(last.slots), dict(last.non_trainable))
        trace = Replay(self.experiment, self.like, self.precision).train(step + 1, last.step, state)
        return trace if step < len(trace.rows) else None

    def _first_beyond(self, trace: Trace, exact: Trace, ensemble: EnsembleDrift) -> Difference | None:
        """The first difference between a side and the exact training, in the order of computation."""
        found = [check_phase(drift, ensemble).difference for drift in self._drifts(trace, exact)]
        return min((difference for difference in found if difference is not None), key=lambda d: d.order, default=None)

    def _drifts(self, trace: Trace, exact: Trace) -> list[PhaseDrift]:
        steps = min(len(trace.rows), len(exact.rows))
        return drift_by_phase(exact, trace, steps) if steps else []

    def _distance(self, side: str, exact: Trace, difference: Difference) -> float:
        """How far a side is from the exact training in what differs."""
        trace, epoch = self.sides[side], (difference.step + 1) // self.experiment.steps_per_epoch
        if difference.relative_error is not None and epoch in exact.checkpoints.keys() & trace.checkpoints.keys():
            return max(weight_drift(exact.checkpoints[epoch], trace.checkpoints[epoch]).values())
        return max(float(np.max(drift.values[: difference.step + 1])) for drift in self._drifts(trace, exact))
