"""An overflow is told as one, and not as something that a side was not given."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compare.judge.finite import undecidable_from
from compare.judge.single_step import _message_of_infinite
from compare.judge.step_errors import StepError

REFERENCE: Any = SimpleNamespace(computed=SimpleNamespace(exact={"forward/layer0": np.zeros(1)}))


@pytest.mark.parametrize(
    ("phase", "tensor", "message"),
    [
        ("forward", "inputs", "does not hold what was given to it"),
        ("forward", "layer0/forward/kernel", "does not hold what was given to it"),
        ("forward", "layer0", "has infinity, NaN"),
        ("gradient", "layer0/forward/kernel", "has infinity, NaN"),
        ("update", "layer0/forward/kernel", "has infinity, NaN"),
    ],
)
def test_only_what_was_given_is_not_held(phase: str, tensor: str, message: str) -> None:
    """Inputs, targets and weights are given; what a side computes itself and is not finite has overflowed."""
    assert message in _message_of_infinite(REFERENCE, "torch", StepError(0, phase, tensor, np.inf, 0.0))


@pytest.mark.parametrize(
    ("largest", "rounding", "normalization", "step"),
    [
        (1.0, 1e-7, None, None),
        (1e38, 1e30, None, None),
        (1e39, 1e32, None, 3),
        (1.0, np.inf, None, 3),
        (1.0, np.nan, None, 3),
        (np.nan, 1e-7, None, 3),
        (np.inf, 1e-7, None, 3),
        (1e12, 1e5, "batch", None),
        (1e13, 1e6, "batch", 3),
    ],
)
def test_what_the_precision_cannot_hold_is_not_decided(
    largest: float, rounding: float, normalization: str | None, step: int | None
) -> None:
    """A step that even the reference takes beyond float32, or of which it cannot tell the rounding, is left open.

    So is one that normalises numbers whose cubes are beyond it, as the gradient has them.
    """
    case = SimpleNamespace(model=SimpleNamespace(normalization=normalization))

    def reference(number: int, size: float, error: float) -> Any:
        exact, rounding = {"forward/layer0": np.array([size])}, {"forward/layer0": np.array([error])}
        computed, experiment = SimpleNamespace(exact=exact, rounding=rounding), SimpleNamespace(case=case)
        return SimpleNamespace(step=number, precision="float32", computed=computed, experiment=experiment)

    losses: Any = SimpleNamespace(losses=np.ones(5))
    references = [reference(4, 1.0, 1e-7), reference(3, largest, rounding), reference(0, 1.0, 1e-7)]
    undecidable = undecidable_from(losses, losses, [], references)
    assert (None if undecidable is None else (undecidable.step, undecidable.errors_tell)) == (
        None if step is None else (step, False)
    )
