"""Same step: both sides take the same step from the same state, and each phase is compared with the reference.

So the judge says which side is off.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.margins import ulp
from compare.judge.phases import STEP_PHASES
from compare.judge.step_errors import StepError, largest, step_errors
from compare.judge.step_reference import StepReference, Tensors, in_float64, in_order
from compare.judge.verdict import Difference
from compare.reference.update_rules import initial_slots
from compare.trace.trace import read_state

# The kind of a difference that a checked step shows: a side is further from the reference than rounding carries it.
OFF_REFERENCE = "off-reference"


def initial_state_differences(experiment: Experiment, folders: Mapping[str, Path], precision: str) -> list[Difference]:
    """Compare the weights and slots with which each side starts, by the folders of the traces, with the expected."""
    differences = []
    for side, folder in folders.items():
        state = read_state(folder, 0)
        if state is None:
            differences.append(Difference("missing-state", 0, "update", f"{side} has no initial slots", off_side=side))
            continue
        weights, slots, _ = state
        for name in in_order(experiment.weights):
            if name not in weights or not np.array_equal(weights[name], experiment.weights[name]):
                message = f"{side} does not start from the weights that were given to it"
                differences.append(Difference("initial-weights", 0, "forward", message, name, off_side=side))
        expected = initial_slots(experiment.case.training, in_float64(weights))
        for name in sorted(expected.keys() | slots.keys()):
            difference = _slot_difference(name, expected.get(name), slots.get(name), side, ulp(precision))
            if difference is not None:
                differences.append(difference)
    return differences


def _slot_difference(
    name: str, expected: np.ndarray | None, obtained: np.ndarray | None, side: str, last_bit: float
) -> Difference | None:
    tensor = name.partition("/")[2]
    if expected is None or obtained is None:
        message = f"the slot {name} of {side} is {'missing' if obtained is None else 'not expected'}"
        return Difference("missing-tensor", 0, "update", message, tensor, off_side=side)
    error, tolerance = largest(obtained - expected), last_bit * largest(expected)
    if error <= tolerance:
        return None
    message = f"the slot {name} of {side} does not start with what the rule has"
    return Difference("initial-slot", 0, "update", message, tensor, error, tolerance, off_side=side)


def step_differences(
    reference: StepReference, records: Mapping[str, Tensors | None]
) -> tuple[list[Difference], dict[str, list[StepError]]]:
    """Compare the sides' records of a step with the reference: a difference for each tensor, and every error by side.

    Of each phase the tensor to blame comes first.
    """
    errors: dict[str, list[StepError]] = {}
    for side, record in records.items():
        if record is None:
            message = f"{side} has no record of the step"
            # Whatever else differs in this step says more than that it could not be checked.
            return [Difference("missing-step", reference.step, "update", message, off_side=side)], {}
        try:
            errors[side] = list(step_errors(reference, record))
        except KeyError as missing:
            message = f"{side} has no {missing.args[0]}"
            return [Difference("missing-tensor", reference.step, "forward", message, off_side=side)], {}
    differences = []
    for phase in STEP_PHASES:
        # Both sides are measured in the same order, that of computation.
        by_tensor = [
            {
                side: error
                for side, error in zip(errors, of_tensor, strict=True)
                if error.phase == phase and error.tolerance_ratio > 1
            }
            for of_tensor in zip(*errors.values(), strict=True)
        ]
        beyond = [off for off in by_tensor if off]
        # Forward, the first tensor beyond its tolerance is to blame; in the other phases the one furthest beyond.
        if phase != "forward":
            beyond.sort(key=lambda off: max(error.tolerance_ratio for error in off.values()), reverse=True)
        differences += [_difference(reference, off) for off in beyond]
    return differences, errors


def _message_of_infinite(reference: StepReference, side: str, error: StepError) -> str:
    """Say what an infinite error is: something given that is not held, or an overflow."""
    if error.phase == "forward" and f"forward/{error.tensor}" not in reference.computed.exact:
        return f"{side} does not hold what was given to it"
    return f"{side} has infinity, NaN or another shape where the reference has finite numbers"


def _difference(reference: StepReference, off: Mapping[str, StepError]) -> Difference:
    side, worst = max(off.items(), key=lambda item: item[1].tolerance_ratio)
    if np.isinf(worst.error):
        message = _message_of_infinite(reference, side, worst)
    else:
        ulps, tolerance = worst.error / reference.ulp, worst.tolerance / reference.ulp
        message = f"{side} is {ulps:.0f} ulps from the reference, tolerance {tolerance:.0f}"
    return Difference(
        OFF_REFERENCE,
        worst.step,
        worst.phase,
        message,
        worst.tensor.removeprefix("slot/") or None,
        worst.error,
        worst.tolerance,
        off_side=side if len(off) == 1 else "both",
        timestep=worst.timestep,
    )
