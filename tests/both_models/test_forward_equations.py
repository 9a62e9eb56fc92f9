"""Both sides compute the cells as they are defined."""

import numpy as np
import pytest
from helpers.equations import forward
from helpers.framework_processes import KERAS_SIDES, SIDES, FrameworkProcesses
from helpers.probes import canonical_shapes
from helpers.small_runs import CELLS
from helpers.spoiled_weights import SPOILED

# Largest difference of an output of the size of 1, in ulps of the working precision. Seven steps of two layers add up
# some tens of roundings; the largest seen is 3.5. The smallest planted fault below is off by 1e6.
TOLERANCE_ULPS = 40


def model(cell: str, layers: int, dtype: str) -> tuple[dict, dict[str, np.ndarray], np.ndarray]:
    """A model's shape, its weights, biases included, and a batch of inputs."""
    generator = np.random.default_rng(11)
    shape = {"cell": cell, "features": 3, "units": 5, "layers": layers, "outputs": 2}
    tensors = {name: generator.normal(0, 0.6, size).astype(dtype) for name, size in canonical_shapes(**shape).items()}
    return shape | {"dtype": dtype}, tensors, generator.normal(size=(4, 7, 3)).astype(dtype)


def check_same_outputs(*, obtained: np.ndarray, expected: np.ndarray, precision: str) -> None:
    """Raise AssertionError where outputs differ by more than rounding."""
    assert obtained.shape == expected.shape
    difference = np.abs(obtained.astype(np.float64) - expected.astype(np.float64)) / np.maximum(1, np.abs(expected))
    ulps = difference.max() / np.finfo(precision).eps
    assert ulps <= TOLERANCE_ULPS, f"outputs are {ulps:.1f} ulps of {precision} apart, tolerance {TOLERANCE_ULPS}"


@pytest.mark.parametrize("layers", [1, 2], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("side", SIDES)
def test_float32_outputs_are_the_equations(frameworks: FrameworkProcesses, side: str, cell: str, layers: int) -> None:
    """A float32 model's outputs are those of the equations in float64, but for rounding."""
    shape, tensors, inputs = model(cell, layers, "float32")
    obtained = frameworks.call(side, "probes.outputs", shape, tensors, inputs)
    assert obtained.dtype == np.float32
    check_same_outputs(obtained=obtained, expected=forward(cell, tensors, inputs), precision="float32")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_float64_outputs_are_the_equations(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """Where float64 is really computed in, the outputs are those of the equations to float64's own rounding."""
    shape, tensors, inputs = model(cell, 2, "float64")
    obtained = frameworks.call(side, "probes.outputs", shape, tensors, inputs)
    assert obtained.dtype == np.float64
    check_same_outputs(obtained=obtained, expected=forward(cell, tensors, inputs), precision="float64")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("side", KERAS_SIDES)
def test_both_sides_give_the_same_outputs(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """Whatever order each side stores its gates in, the same canonical weights give the same outputs on both."""
    shape, tensors, inputs = model(cell, 2, "float32")
    expected, obtained = (frameworks.call(name, "probes.outputs", shape, tensors, inputs) for name in ("torch", side))
    check_same_outputs(obtained=obtained, expected=expected, precision="float32")


@pytest.mark.parametrize("windows", [256, 257, 600])
@pytest.mark.parametrize("side", SIDES)
def test_predictions_keep_every_window(frameworks: FrameworkProcesses, side: str, windows: int) -> None:
    """Predictions come in batches, and there is one for every window, in order."""
    shape, tensors, _ = model("lstm", 1, "float32")
    inputs = np.random.default_rng(12).normal(size=(windows, 3, 3)).astype(np.float32)
    obtained = frameworks.call(side, "probes.outputs", shape, tensors, inputs)
    check_same_outputs(obtained=obtained, expected=forward("lstm", tensors, inputs), precision="float32")


@pytest.mark.parametrize(
    ("cell", "spoiled"),
    [
        ("simple_rnn", "transposed"),
        ("simple_rnn", "no-biases"),
        ("lstm", "input-forget"),
        ("lstm", "candidate-output"),
        ("lstm", "transposed"),
        ("lstm", "no-biases"),
        ("gru", "update-reset"),
        ("gru", "two-biases"),
        ("gru", "transposed"),
        ("gru", "no-biases"),
    ],
)
@pytest.mark.parametrize("side", SIDES)
def test_wrong_weights_are_caught(frameworks: FrameworkProcesses, side: str, cell: str, spoiled: str) -> None:
    """A swapped gate, a transposed recurrent kernel or a dropped bias is no rounding: the check fails."""
    shape, tensors, inputs = model(cell, 1, "float32")
    obtained = frameworks.call(side, "probes.outputs", shape, SPOILED[spoiled](tensors), inputs)
    with pytest.raises(AssertionError, match="ulps of float32 apart"):
        check_same_outputs(obtained=obtained, expected=forward(cell, tensors, inputs), precision="float32")
