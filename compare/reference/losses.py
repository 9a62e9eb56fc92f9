"""Losses and their gradients; mean over batch and outputs, as Keras reduces them.

Every function takes outputs and targets (batch, outputs) and returns the loss and its gradient by the outputs.
"""

from collections.abc import Callable

import numpy as np

from compare.reference.activations import sigmoid, softplus
from compare.reference.rounding import EXACT, Rounding

Array = np.ndarray
Loss = Callable[[Array, Array, Rounding], tuple[Array, Array]]

# Keras clips probabilities this far from 0 and 1: `keras.config.epsilon()`.
PROBABILITY_EPSILON = 1e-7


def mean_squared_error(outputs: Array, targets: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """mean((y - t)^2). Source: `keras.losses.MeanSquaredError`."""
    error = rounding(outputs - targets)
    return _mean(rounding(error**2), rounding), rounding(2 * error / error.size)


def mean_absolute_error(outputs: Array, targets: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """mean(|y - t|). Source: `keras.losses.MeanAbsoluteError`."""
    error = rounding(outputs - targets)
    return _mean(np.abs(error), rounding), rounding(np.sign(error) / error.size)


def huber(outputs: Array, targets: Array, rounding: Rounding = EXACT, delta: float = 1.0) -> tuple[Array, Array]:
    """e^2 / 2 where |e| <= delta, else delta * |e| - delta^2 / 2. Source: Huber 1964; `keras.losses.Huber`."""
    error = rounding(outputs - targets)
    inside = np.abs(error) <= delta
    value = np.where(inside, error**2 / 2, delta * np.abs(error) - delta**2 / 2)
    return _mean(rounding(value, 2), rounding), rounding(np.clip(error, -delta, delta) / error.size)


def binary_crossentropy(outputs: Array, targets: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """-mean(t log p + (1 - t) log(1 - p)) of probabilities. Source: `keras.losses.BinaryCrossentropy`."""
    clipped = np.clip(outputs, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    from_ones, from_zeros = rounding.function(np.log(clipped)), rounding.function(np.log1p(-clipped))
    value = -rounding(targets * from_ones + (1 - targets) * from_zeros)
    inside = (outputs >= PROBABILITY_EPSILON) & (outputs <= 1 - PROBABILITY_EPSILON)
    slope = rounding((clipped - targets) / rounding(clipped * rounding(1 - clipped)))
    return _mean(value, rounding), np.where(inside, rounding(slope / outputs.size), 0.0)


def binary_crossentropy_of_logits(outputs: Array, targets: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """mean(softplus(x) - t x). Source: `keras.losses.BinaryCrossentropy(from_logits=True)`."""
    value = rounding(rounding.function(softplus(outputs)) - rounding(targets * outputs))
    return _mean(value, rounding), rounding(rounding(rounding.function(sigmoid(outputs)) - targets) / outputs.size)


def categorical_crossentropy(outputs: Array, targets: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """-mean over the batch of sum(t log(p / sum p)), clipped. Source: `keras.losses.CategoricalCrossentropy`."""
    total = rounding.sum(outputs, axis=-1)[:, None]
    probabilities = rounding(outputs / total)
    clipped = np.clip(probabilities, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    value = -rounding.sum(rounding(targets * rounding.function(np.log(clipped))), axis=-1)
    inside = (probabilities >= PROBABILITY_EPSILON) & (probabilities <= 1 - PROBABILITY_EPSILON)
    d_probabilities = np.where(inside, rounding(-targets / clipped), 0.0)
    shared = rounding.sum(rounding(d_probabilities * probabilities), axis=-1)[:, None]
    return _mean(value, rounding), rounding(rounding(d_probabilities - shared) / (total * len(outputs)))


def categorical_crossentropy_of_logits(
    outputs: Array, targets: Array, rounding: Rounding = EXACT
) -> tuple[Array, Array]:
    """mean over the batch of sum(t) logsumexp(x) - sum(t x).

    Source: `keras.losses.CategoricalCrossentropy(from_logits=True)`.
    """
    shifted = rounding(outputs - outputs.max(axis=-1, keepdims=True))
    exponentials = rounding.function(np.exp(shifted))
    total = rounding.sum(exponentials, axis=-1)[:, None]
    log_probabilities = rounding(shifted - rounding.function(np.log(total)))
    value = -rounding.sum(rounding(targets * log_probabilities), axis=-1)
    whole = np.sum(targets, axis=-1, keepdims=True)
    gradient = rounding(rounding(whole * rounding(exponentials / total)) - targets)
    return _mean(value, rounding), rounding(gradient / len(outputs))


def total(
    name: str, outputs: Array, targets: Array, mask: Array | None = None, rounding: Rounding = EXACT
) -> tuple[Array, Array]:
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
    value, d_counted = loss(rows[counted], wanted[counted], rounding)
    gradient = np.zeros_like(rows)
    gradient[counted] = d_counted
    return value, gradient.reshape(outputs.shape)


def _mean(values: Array, rounding: Rounding) -> Array:
    return rounding(rounding.sum_over_examples(values.reshape(-1, 1))[0] / values.size)


LOSSES: dict[str, Loss] = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "huber": huber,
    "binary_crossentropy": binary_crossentropy,
    "binary_crossentropy_of_logits": binary_crossentropy_of_logits,
    "categorical_crossentropy": categorical_crossentropy,
    "categorical_crossentropy_of_logits": categorical_crossentropy_of_logits,
}
