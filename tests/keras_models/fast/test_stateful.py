"""Stateful fast layers train on torch."""

import numpy as np
import pytest
from helpers.fast_probes import CELLS
from helpers.framework_processes import FrameworkProcesses

# Four steps of rounding in float32; without kept states the second loss is off by 1e-2.
TOLERANCE = 1e-5


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_training(frameworks: FrameworkProcesses, cell: str) -> None:
    """Losses, weights and states are those of the stock layer on TensorFlow."""
    losses, variables = frameworks.call("keras-torch", "fast_switch_probes.train_stateful", "fast", cell)
    expected_losses, expected = frameworks.call("keras-tensorflow", "fast_switch_probes.train_stateful", "stock", cell)
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    assert variables.keys() == expected.keys()
    assert len(expected) == (7 if cell == "LSTM" else 6)
    for name, value in expected.items():
        np.testing.assert_allclose(variables[name], value, atol=TOLERANCE, err_msg=name)
