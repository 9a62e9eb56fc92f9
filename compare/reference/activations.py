"""Keras's common activations and their derivatives, elementwise; source of each: `keras.activations`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.reference.formulas import elementwise, library_function
from compare.reference.rounding import Array


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


ACTIVATIONS = {
    "linear": Activation(lambda x: x, lambda x, y: np.ones_like(x)),
    "tanh": Activation(np.tanh, lambda x, y: 1 - y**2, smooth=True),
    "sigmoid": Activation(sigmoid, lambda x, y: y * (1 - y), smooth=True),
    # clip(x / 6 + 1 / 2, 0, 1) in Keras 3; Keras 2 had a slope of 0.2.
    "hard_sigmoid": Activation(
        lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x, y: np.where((x > -3) & (x < 3), 1 / 6, 0.0)
    ),
    "relu": Activation(lambda x: np.maximum(x, 0), lambda x, y: np.where(x > 0, 1.0, 0.0)),
    "elu": Activation(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x, y: np.where(x > 0, 1, y + 1)),
    "softplus": Activation(softplus, lambda x, y: sigmoid(x)),
    "softsign": Activation(lambda x: x / (1 + np.abs(x)), lambda x, y: (1 - np.abs(y)) ** 2),
}
