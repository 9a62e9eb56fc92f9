"""An overflow is told as one, and not as something that a side was not given."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

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
