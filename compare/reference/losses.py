"""Losses and their gradients; mean over batch and outputs, as Keras reduces them.

Every function takes outputs and targets (batch, outputs) and returns the loss and its gradient by the outputs.
"""

from collections.abc import Callable

import numpy as np

from compare.reference.activations import sigmoid, softplus
from compare.reference.formulas import library_function
from compare.reference.rounding import Array
from compare.reference.sums import sum_over_examples

Loss = Callable[[Array, Array], tuple[Array, Array]]

# Keras clips probabilities this far from 0 and 1: `keras.config.epsilon()`.
PROBABILITY_EPSILON = 1e-7


def mean_squared_error(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """mean((y - t)^2). Source: `keras.losses.MeanSquaredError`."""
    error = outputs - targets
    return _mean(error**2), 2 * error / error.size


def mean_absolute_error(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """mean(|y - t|). Source: `keras.losses.MeanAbsoluteError`."""
    error = outputs - targets
    return _mean(np.abs(error)), np.sign(error) / error.size


def huber(outputs: Array, targets: Array, delta: float = 1.0) -> tuple[Array, Array]:
    """e^2 / 2 where |e| <= delta, else delta * |e| - delta^2 / 2. Source: Huber 1964; `keras.losses.Huber`."""
    error = outputs - targets
    value = np.where(np.abs(error) <= delta, error**2 / 2, delta * np.abs(error) - delta**2 / 2)
    return _mean(value), np.clip(error, -delta, delta) / error.size


def binary_crossentropy(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """-mean(t log p + (1 - t) log(1 - p)) of probabilities. Source: `keras.losses.BinaryCrossentropy`."""
    clipped = np.clip(outputs, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    value = -(targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped))
    inside = (outputs >= PROBABILITY_EPSILON) & (outputs <= 1 - PROBABILITY_EPSILON)
    slope = (clipped - targets) / (clipped * (1 - clipped))
    return _mean(value), np.where(inside, slope / outputs.size, 0.0)


def binary_crossentropy_of_logits(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """mean(softplus(x) - t x). Source: `keras.losses.BinaryCrossentropy(from_logits=True)`."""
    value = library_function(softplus, outputs) - targets * outputs
    return _mean(value), (library_function(sigmoid, outputs) - targets) / outputs.size


def categorical_crossentropy(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """-mean over the batch of sum(t log(p / sum p)), clipped. Source: `keras.losses.CategoricalCrossentropy`."""
    total = np.sum(outputs, axis=-1, keepdims=True)
    probabilities = outputs / total
    clipped = np.clip(probabilities, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    value = -np.sum(targets * np.log(clipped), axis=-1)
    inside = (probabilities >= PROBABILITY_EPSILON) & (probabilities <= 1 - PROBABILITY_EPSILON)
    d_probabilities = np.where(inside, -targets / clipped, 0.0)
    shared = np.sum(d_probabilities * probabilities, axis=-1, keepdims=True)
    return _mean(value), (d_probabilities - shared) / (total * len(outputs))


def categorical_crossentropy_of_logits(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """mean over the batch of sum(t) logsumexp(x) - sum(t x).

    Source: `keras.losses.CategoricalCrossentropy(from_logits=True)`.
    """
    shifted = outputs - np.max(outputs, axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = np.sum(exponentials, axis=-1, keepdims=True)
    value = -np.sum(targets * (shifted - np.log(total)), axis=-1)
    gradient = np.sum(targets, axis=-1, keepdims=True) * (exponentials / total) - targets
    return _mean(value), gradient / len(outputs)


def total(name: str, outputs: Array, targets: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Return a loss by its name in a case, over what the mask (batch, time) counts, and its gradient by the outputs.

    Outputs (batch, …, width); targets alike, or class labels without the last axis for logits. A batch of which nothing
    counts has no loss. Source: `keras.losses.loss.apply_mask`.
    """
    rows = outputs.reshape(-1, outputs.shape[-1])
    counted = np.ones(len(rows), bool) if mask is None else mask.ravel()
    if not counted.any():
        return np.zeros(()), np.zeros_like(outputs)
    loss: Loss
    if name == "sparse_categorical_crossentropy":
        wanted = np.eye(outputs.shape[-1])[targets.ravel().astype(int)]
        loss = categorical_crossentropy_of_logits
    else:
        wanted, loss = targets.reshape(rows.shape), LOSSES[name]
    value, d_counted = loss(rows[counted], wanted[counted])
    gradient = np.zeros_like(rows)
    gradient[counted] = d_counted
    return value, gradient.reshape(outputs.shape)


def _mean(values: Array) -> Array:
    return sum_over_examples(values.reshape(-1, 1))[..., 0] / values.size


LOSSES: dict[str, Loss] = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "huber": huber,
    "binary_crossentropy": binary_crossentropy,
    "binary_crossentropy_of_logits": binary_crossentropy_of_logits,
    "categorical_crossentropy": categorical_crossentropy,
    "categorical_crossentropy_of_logits": categorical_crossentropy_of_logits,
}
