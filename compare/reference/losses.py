"""Losses and their gradients; mean over batch and outputs, as Keras reduces them.

Every function takes outputs and targets (batch, outputs) and returns the loss and its gradient by the outputs.
"""

from collections.abc import Callable

import numpy as np

from compare.reference.rounding import Array
from compare.reference.sums import sum_over_examples

Loss = Callable[[Array, Array], tuple[Array, Array]]


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
}
