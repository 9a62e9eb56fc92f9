"""How far trainings stay finite, and from which step on it cannot be decided whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compare.trace.trace import Trace


@dataclass(frozen=True)
class Undecidable:
    """The first step of which nothing can be said, and why."""

    step: int
    reason: str


def undecidable_from(expected: Trace, obtained: Trace, others: Sequence[Trace]) -> Undecidable | None:
    """Tell from which step on nothing can be decided: both sides, or a perturbed training, become infinite there.

    Where one side alone does, and no perturbed training, that is a difference.
    """
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
