"""How far trainings stay finite, and from which step on it cannot be decided whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compare.judge.step_reference import StepReference
from compare.trace.trace import Trace


@dataclass(frozen=True)
class Undecidable:
    """The first step of which nothing can be said, and why; of one that is checked its errors may still tell."""

    step: int
    reason: str
    errors_tell: bool = True


def undecidable_from(
    expected: Trace, obtained: Trace, others: Sequence[Trace], references: Sequence[StepReference] = ()
) -> Undecidable | None:
    """Tell from which step on nothing can be decided: both sides, or a perturbed training, become infinite there.

    So does what even the reference computes beyond the range of the working precision, in which each program overflows
    in its own way. Where one side alone becomes infinite, and no perturbed training, that is a difference.
    """
    of_trainings = _undecidable_trainings(expected, obtained, others)
    of_range = _beyond_range(references)
    undecidable = [each for each in (of_range, of_trainings) if each is not None]
    return min(undecidable, key=lambda each: each.step, default=None)


def _beyond_range(references: Sequence[StepReference]) -> Undecidable | None:
    """The first checked step of which a number, or the rounding of one, is beyond the working precision.

    The gradient of a normalisation by v has v^(-3/2), the cube of what is normalised, which is lost below that range.
    """
    for reference in sorted(references, key=lambda reference: reference.step):
        largest, computed = float(np.finfo(reference.precision).max), reference.computed
        cubed = reference.experiment.case.model.normalization is not None
        for name, tensor in computed.exact.items():
            limit = np.cbrt(largest) if cubed and name.startswith("forward/") else largest
            sizes = np.max(np.abs(tensor), initial=0.0), np.max(computed.rounding[name], initial=0.0)
            if not max(sizes) <= limit or np.isnan(sizes).any():
                reason = f"{name} of step {reference.step} is beyond the range of {reference.precision}"
                return Undecidable(reference.step, f"cannot be decided: {reason}, and before it nothing differs", False)
    return None


def _undecidable_trainings(expected: Trace, obtained: Trace, others: Sequence[Trace]) -> Undecidable | None:
    sides = [_first_not_finite(trace) for trace in (expected, obtained)]
    perturbed = {trace.folder.name: step for trace in others if (step := _first_not_finite(trace)) is not None}
    if not perturbed and None in sides:
        return None
    step = min(step for step in (*sides, *perturbed.values()) if step is not None)
    if perturbed:
        name, first = min(perturbed.items(), key=lambda item: item[1])
        reason = f"the perturbed training {name} is not finite from step {first} on"
    else:
        reason = f"the losses of both sides are not finite, from steps {sides[0]} and {sides[1]} on"
    return Undecidable(step, f"cannot be decided: {reason}, and before step {step} nothing differs")


def _first_not_finite(trace: Trace) -> int | None:
    """The first step whose loss is not finite."""
    steps = np.flatnonzero(~np.isfinite(trace.losses))
    return int(steps[0]) if steps.size else None
