"""The reference's gradients, against central differences in extended precision and against float64 autograd."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.model_options import OPTIONS, check_same
from helpers.model_options import example as draw_example
from helpers.reference_steps import loss_of, reference_step, whole_loss

from compare.config.gates import gated
from compare.reference.activations import ACTIVATIONS
from compare.reference.cells import Cell, Layer
from compare.reference.losses import LOSSES
from compare.reference.recurrent import Direction

CENTRAL_DIFFERENCES = 1e-8
AUTOGRAD = 1e-12

CELLS = {
    "simple_rnn": Cell("simple_rnn"),
    "lstm": Cell("lstm"),
    "gru": Cell("gru"),
    "gru reset before": Cell("gru", reset_after=False),
} | {
    # The exponential grows without bound through time, so it stands in one gate only, where it is bounded.
    f"{kind} {name}": Cell(kind, activation=name if name != "exponential" else "tanh", recurrent_activation=recurrent)
    for kind in ("simple_rnn", "lstm", "gru")
    for name in ACTIVATIONS
    for recurrent in ("hard_sigmoid" if name == "relu" else "sigmoid",)
}


def draw(cell: Cell, features: int, units: int) -> dict[str, np.ndarray]:
    """Draw weights."""
    generator = np.random.default_rng(7)
    biases = ("input_bias", "recurrent_bias") if cell.kind == "gru" and cell.reset_after else ("bias",)
    shapes = {"kernel": (features, units), "recurrent_kernel": (units, units)} | dict.fromkeys(biases, (units,))
    return {gate: generator.normal(0, 0.4, shape) for name, shape in shapes.items() for gate in gated(name, cell.kind)}


def slope(function: Any, weights: dict[str, np.ndarray], name: str, direction: np.ndarray) -> np.longdouble:
    """The central difference of a function of weights along a direction in one of them."""
    step = np.longdouble(1e-7)
    up, down = (function(weights | {name: weights[name] + sign * step * direction}) for sign in (1, -1))
    return (up - down) / (2 * step)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_central_differences(name: str) -> None:
    """Every gradient of every model is the slope of the loss, and a gradient off by 1e-6 is not."""
    example, generator = draw_example(name).as_type(np.longdouble), np.random.default_rng(1)
    _, passed = whole_loss(example, example.weights)
    gradients = passed.backward(loss_of(example, passed.outputs)[1])

    assert gradients.keys() == example.weights.keys()
    largest = max(np.linalg.norm(np.float64(gradient)) for gradient in gradients.values())
    for tensor, gradient in gradients.items():
        assert gradient.shape == example.weights[tensor].shape
        direction = generator.normal(size=gradient.shape).astype(np.longdouble)
        expected = slope(lambda weights: whole_loss(example, weights)[0], example.weights, tensor, direction)
        # A tensor that hardly reaches the loss has a small gradient, with fewer digits.
        length = np.linalg.norm(np.float64(direction))
        scale = max(np.linalg.norm(np.float64(gradient)), 1e-3 * largest) * length
        assert abs(np.sum(gradient * direction) - expected) <= CENTRAL_DIFFERENCES * scale, tensor
        wrong = gradient + 1e-6 * scale * direction / length**2
        assert abs(np.sum(wrong * direction) - expected) > CENTRAL_DIFFERENCES * scale, tensor


@pytest.mark.parametrize("name", OPTIONS)
def test_networks_are_what_autograd_differentiates(name: str, frameworks: FrameworkProcesses) -> None:
    """What every part computes, the loss, every gradient and the non-trainable state are those of the PyTorch side."""
    example = draw_example(name)
    obtained = frameworks.call("torch", "model_probes.single_step", example)

    check_same(obtained=obtained, expected=reference_step(example), tolerance=AUTOGRAD)


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_what_autograd_differentiates(name: str, frameworks: FrameworkProcesses) -> None:
    """Outputs and gradients of every cell and activation are those of the same formula under float64 autograd."""
    cell, generator = CELLS[name], np.random.default_rng(2)
    weights, inputs, weighting = draw(cell, 2, 4), generator.normal(size=(3, 7, 2)), generator.normal(size=(3, 7, 4))
    passed, gradients = Direction(Layer(cell, weights), "x", inputs), {}
    passed.backward(weighting, gradients)

    outputs, expected = frameworks.call("torch", "autograd.cell_gradients", vars(cell), weights, inputs, weighting)

    np.testing.assert_allclose(passed.output, outputs, rtol=AUTOGRAD, atol=AUTOGRAD)
    assert {key.removeprefix("x/") for key in gradients} == expected.keys()
    for key, gradient in expected.items():
        error = np.linalg.norm(gradients[f"x/{key}"] - gradient) / np.linalg.norm(gradient)
        assert error <= AUTOGRAD, f"{key}: {error}"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_what_autograd_differentiates(name: str, frameworks: FrameworkProcesses) -> None:
    """Every loss and its gradient are those of torch's own function, and of central differences."""
    generator = np.random.default_rng(3)
    outputs = generator.normal(size=(5, 3))
    if name in ("binary_crossentropy", "categorical_crossentropy"):
        outputs = generator.uniform(0.05, 0.95, (5, 3))
    targets = generator.uniform(0, 1, (5, 3))
    if name.startswith("categorical"):
        targets = np.eye(3)[generator.integers(3, size=5)]

    value, gradient = LOSSES[name](outputs, targets)
    expected_value, expected_gradient = frameworks.call("torch", "autograd.loss_gradient", name, outputs, targets)

    assert abs(float(value) - expected_value) <= AUTOGRAD * abs(expected_value)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=AUTOGRAD, atol=AUTOGRAD)
    direction = generator.normal(size=outputs.shape)
    extended = {"outputs": outputs.astype(np.longdouble)}
    expected = slope(lambda inputs: LOSSES[name](inputs["outputs"], targets)[0], extended, "outputs", direction)
    assert abs(np.sum(gradient * direction) - expected) <= CENTRAL_DIFFERENCES * np.linalg.norm(gradient)
