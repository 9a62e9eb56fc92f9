"""The PyTorch side's Adam is Keras's."""

import numpy as np
import pytest
from helpers.equations import KerasAdam
from helpers.framework_processes import FrameworkProcesses

LEARNING_RATE = 0.01

# The betas are cast to float32 first, as Keras does on TensorFlow, which moves them by 1.3e-8, and 1 - beta_2 is 1e-3:
# half of their quotient is 6.5e-6.
TOLERANCE = 1e-5


def gradients(steps: int) -> list[np.ndarray]:
    """Gradients of very different sizes, some as small as epsilon."""
    generator = np.random.default_rng(4)
    return [generator.normal(size=6) * np.array([1e-8, 1e-6, 1e-4, 1e-2, 1.0, 1e2]) for _ in range(steps)]


def largest_error(frameworks: FrameworkProcesses, *, stock: bool) -> float:
    """How far the updates are from the equation, relative to each other's size."""
    given = gradients(steps=12)
    obtained = frameworks.call("torch", "probes.adam_updates", given, LEARNING_RATE, stock)
    equation = KerasAdam(LEARNING_RATE)
    expected = [equation.update(gradient) for gradient in given]
    return max(np.max(np.abs(o - e) / np.abs(e)) for o, e in zip(obtained, expected, strict=True))


def test_updates_are_the_equation(frameworks: FrameworkProcesses) -> None:
    """Every update is Adam's with epsilon added before the bias correction, for gradients as small as epsilon too."""
    assert largest_error(frameworks, stock=False) <= TOLERANCE


def test_stock_adam_is_caught(frameworks: FrameworkProcesses) -> None:
    """PyTorch's own Adam, which adds another epsilon after the bias correction, is not within what is allowed."""
    assert largest_error(frameworks, stock=True) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("cell", "both", "trained"),
    [
        ("simple_rnn", False, {"bias_ih_l0": True, "bias_hh_l0": False}),
        ("lstm", False, {"bias_ih_l0": True, "bias_hh_l0": False}),
        ("gru", False, {"bias_ih_l0": True, "bias_hh_l0": True}),
        ("lstm", True, {"bias_ih_l0": True, "bias_hh_l0": True}),
    ],
    ids=["simple_rnn", "lstm", "gru", "stock-lstm"],
)
def test_as_many_biases_are_trained_as_keras_has(
    frameworks: FrameworkProcesses, cell: str, both: bool, trained: dict[str, bool]
) -> None:
    """The second bias is frozen at zero where Keras has one, and trained where it has two or stock is asked for."""
    assert frameworks.call("torch", "probes.trainable_biases", cell, both) == trained
