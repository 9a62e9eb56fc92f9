"""Keras's common activations and their derivatives, elementwise; source of each: `keras.activations`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.reference.formulas import elementwise, library_function
from compare.reference.rounding import Array

# scipy is not asked for two numbers: Klambauer et al. 2017, equation 14.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True)
class Activation:
    """A function y(x) and its derivative, given as a function of x and y.

    Of a smooth one errors go through the derivative, which is a formula of `y` alone; others may have a kink.
    """

    function: Callable[[Array], Array]
    derivative: Callable[[Any, Array], Array]
    smooth: bool = False

    def __call__(self, x: Array) -> Array:
        """Return y(x)."""
        return library_function(self.function, x, self.derivative if self.smooth else None)

    def slope(self, x: Array | None, y: Array) -> Array:
        """Return y'(x); a smooth one needs no `x`."""
        return self.derivative(x, y) if self.smooth else elementwise(self.derivative, x, y)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for any x."""
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + tail), tail / (1 + tail))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow for any x."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu_tanh(x: Array) -> Array:
    return np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def _gelu_derivative(x: Array, y: Array) -> Array:
    inner = _gelu_tanh(x)
    return (1 + inner) / 2 + x / 2 * (1 - inner**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)


ACTIVATIONS = {
    "linear": Activation(lambda x: x, lambda x, y: np.ones_like(x)),
    "tanh": Activation(np.tanh, lambda x, y: 1 - y**2, smooth=True),
    "sigmoid": Activation(sigmoid, lambda x, y: y * (1 - y), smooth=True),
    # clip(x / 6 + 1 / 2, 0, 1) in Keras 3; Keras 2 had a slope of 0.2.
    "hard_sigmoid": Activation(
        lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x, y: np.where((x > -3) & (x < 3), 1 / 6, 0.0)
    ),
    "relu": Activation(lambda x: np.maximum(x, 0), lambda x, y: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": Activation(lambda x: np.where(x > 0, x, 0.2 * x), lambda x, y: np.where(x > 0, 1.0, 0.2)),
    "elu": Activation(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x, y: np.where(x > 0, 1, y + 1)),
    "selu": Activation(
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x, y: np.where(x > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    ),
    "exponential": Activation(np.exp, lambda x, y: y, smooth=True),
    "softplus": Activation(softplus, lambda x, y: sigmoid(x)),
    "softsign": Activation(lambda x: x / (1 + np.abs(x)), lambda x, y: (1 - np.abs(y)) ** 2),
    "silu": Activation(lambda x: x * sigmoid(x), lambda x, y: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    # approximate=True has the tanh form; keras.activations.gelu itself defaults to the error function.
    "gelu_tanh": Activation(lambda x: x / 2 * (1 + _gelu_tanh(x)), _gelu_derivative),
}
