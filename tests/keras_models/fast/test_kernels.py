"""The kernels alone: the loops' way back is the gradient of their equations, and oneDNN computes what the loop does."""

import pytest
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"

# By the largest number of a tensor or by 1. The largest seen is 8e-7, of 200 timesteps.
TOLERANCE = 1e-5


@pytest.mark.parametrize(
    "cell", ["simple_rnn", pytest.param("lstm", marks=pytest.mark.slow), pytest.param("gru", marks=pytest.mark.slow)]
)
def test_the_way_back_is_the_gradient(frameworks: FrameworkProcesses, cell: str) -> None:
    """In float64, in any shape, with any activations and masks, gradients are those that differences give, twice."""
    frameworks.call(SIDE, "fast_probes.check_way_back", cell)


@pytest.mark.parametrize("fault", ["last-timestep-alone", "half-a-gradient"])
@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_a_wrong_way_back_is_caught(frameworks: FrameworkProcesses, cell: str, fault: str) -> None:
    """The check fails where the way back leaves something out."""
    with pytest.raises(AssertionError, match="gradients"):
        frameworks.call(SIDE, "fast_probes.check_way_back", cell, fault)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 2, 4), (1, 7, 1, 33), (5, 200, 2, 16)], ids=str)
def test_onednn_computes_what_the_loop_does(frameworks: FrameworkProcesses, shape: tuple[int, int, int, int]) -> None:
    """An LSTM in oneDNN has the outputs, states and gradients of the loop, whatever the sizes."""
    differences = frameworks.call(SIDE, "fast_probes.onednn_beside_loop", shape)
    assert len(differences) == 9
    assert max(differences.values()) <= TOLERANCE, differences
