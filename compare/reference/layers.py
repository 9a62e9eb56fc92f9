"""What stands beside the recurrent layers: embedding, normalisation, dropout, the head.

An object is a layer applied to values: it has the `output`, and its `backward` takes the output's gradient to the
input's and adds the gradients of the layer's weights to a dict.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from compare.reference.formulas import library_function
from compare.reference.rounding import Array
from compare.reference.sums import sum_over_examples, sum_rows

Weights = Mapping[str, Array]

# Keras's defaults of `LayerNormalization` and `BatchNormalization`.
NORMALIZATION_EPSILON = 1e-3
BATCH_MOMENTUM = 0.99


class Applied(Protocol):
    """A layer applied to values."""

    output: Array

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return the gradient of the input, given that of the output; add those of the layer's weights."""


class Embedding:
    """Rows of a table by token id; the gradient of a row is the sum over all places where it was looked up."""

    def __init__(self, weights: Weights, tokens: Array) -> None:
        self.table, self.tokens = weights["embedding/embeddings"], tokens
        self.output = self.table[tokens]

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Tokens have no gradient: what is returned is the output's."""
        gradients["embedding/embeddings"] = sum_rows(d_output, self.tokens, len(self.table))
        return d_output


class Dense:
    """The head, x @ W + b on the last axis. Source: `keras.layers.Dense`."""

    def __init__(self, weights: Weights, values: Array) -> None:
        self.kernel, self.values = weights["head/kernel"], values
        output = _rows(values) @ self.kernel + weights["head/bias"]
        self.output = output.reshape(*values.shape[:-1], -1)

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return d_output @ W^T."""
        d_rows = _rows(d_output)
        gradients["head/kernel"] = sum_over_examples(d_rows, _rows(self.values))
        gradients["head/bias"] = sum_over_examples(d_rows)
        return (d_rows @ self.kernel.T).reshape(self.values.shape)


class Dropout:
    """x * kept / (1 - rate), with a given mask of ones and zeros. Source: `keras.layers.Dropout` (the scale)."""

    def __init__(self, kept: Array, rate: float, values: Array) -> None:
        self.scale = kept / (1 - rate)
        self.output = values * self.scale

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return the gradient, dropped alike."""
        return d_output * self.scale


class Normalization:
    """(x - mean) / sqrt(variance + 1e-3) * gamma + beta, over the last axis ("layer") or over all others ("batch").

    The variance is the biased one. Source: Ba et al. 2016; Ioffe and Szegedy 2015; Keras's layers of these names.
    It is written as E[x^2] - E[x]^2, the less accurate of the forms that frameworks use.
    """

    def __init__(self, kind: str, weights: Weights, name: str, values: Array) -> None:
        self.name, self.gamma = name, weights[f"{name}/gamma"]
        self.axes = (-1,) if kind == "layer" else tuple(range(values.ndim - 1))
        self.mean = self._mean(values)
        self.variance = self._mean(values**2) - self.mean**2
        self.deviation = library_function(np.sqrt, self.variance + NORMALIZATION_EPSILON)
        self.normalized = (values - self.mean) / self.deviation
        self.output = self.normalized * self.gamma + weights[f"{name}/beta"]

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return (d - E[d] - y E[d y]) / deviation, where y are the normalised values and d = d_output * gamma."""
        y = self.normalized
        gradients[f"{self.name}/gamma"] = sum_over_examples(_rows(d_output * y))
        gradients[f"{self.name}/beta"] = sum_over_examples(_rows(d_output))
        d = d_output * self.gamma
        return (d - (self._mean(d) + y * self._mean(d * y))) / self.deviation

    def moved(self, non_trainable: Weights) -> dict[str, Array]:
        """Return batch normalisation's running figures after the step: m * old + (1 - m) * new, m = 0.99."""
        return {
            f"{self.name}/{figure}": non_trainable[f"{self.name}/{figure}"] * BATCH_MOMENTUM
            + np.squeeze(value, self.axes) * (1 - BATCH_MOMENTUM)
            for figure, value in {"moving_mean": self.mean, "moving_variance": self.variance}.items()
        }

    def _mean(self, values: Array) -> Array:
        count = values.size // np.prod(np.delete(values.shape, self.axes), dtype=int)
        return np.sum(values, axis=self.axes, keepdims=True) / count


def _rows(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])
