"""What stands beside the recurrent layers: embedding, normalisation, dropout, the head; each with its gradient.

Every function returns a layer's output and a function from the output's gradient to the input's, which adds the
gradients of the layer's weights to a dict.
"""

from collections.abc import Callable, Mapping

import numpy as np

from compare.reference.rounding import Rounding

Array = np.ndarray
Weights = Mapping[str, Array]
Backward = Callable[[Array, dict[str, Array]], Array]

# Keras's defaults of `LayerNormalization` and `BatchNormalization`.
NORMALIZATION_EPSILON = 1e-3
BATCH_MOMENTUM = 0.99


def embedding(weights: Weights, tokens: Array, rounding: Rounding) -> tuple[Array, Backward]:
    """Rows of a table by token id; the gradient of a row is the sum over all places where it was looked up."""
    table = weights["embedding/embeddings"]

    def backward(d_output: Array, gradients: dict[str, Array]) -> Array:
        gradients["embedding/embeddings"] = rounding.sum_rows(d_output, tokens, len(table))
        return d_output

    return table[tokens], backward


def dense(weights: Weights, values: Array, rounding: Rounding) -> tuple[Array, Backward]:
    """x @ W + b on the last axis. Source: `keras.layers.Dense`."""
    rows = values.reshape(-1, values.shape[-1])
    output = rounding(rounding.matmul(rows, weights["head/kernel"]) + weights["head/bias"])

    def backward(d_output: Array, gradients: dict[str, Array]) -> Array:
        d_rows = d_output.reshape(-1, d_output.shape[-1])
        gradients["head/kernel"] = rounding.sum_over_examples(d_rows, rows)
        gradients["head/bias"] = rounding.sum_over_examples(d_rows)
        return rounding.matmul(d_rows, weights["head/kernel"].T).reshape(values.shape)

    return output.reshape(*values.shape[:-1], -1), backward


def dropout(values: Array, kept: Array, rate: float, rounding: Rounding) -> tuple[Array, Backward]:
    """x * kept / (1 - rate), with a given mask of ones and zeros. Source: `keras.layers.Dropout` (the scale)."""
    scale = rounding(kept / (1 - rate))
    return rounding(values * scale), lambda d_output, gradients: rounding(d_output * scale)


def normalization(
    kind: str, weights: Weights, name: str, values: Array, rounding: Rounding
) -> tuple[Array, Backward, Array, Array]:
    """(x - mean) / sqrt(variance + 1e-3) * gamma + beta, over the last axis ("layer") or over all others ("batch").

    Returns the mean and the (biased) variance too. Source: Ba et al. 2016; Ioffe and Szegedy 2015; Keras's layers of
    these names. Rounded, the variance is E[x^2] - E[x]^2, the less accurate of the forms that frameworks use.
    """
    axes = (-1,) if kind == "layer" else tuple(range(values.ndim - 1))
    count = int(np.prod([values.shape[axis] for axis in axes]))

    def mean_of(numbers: Array) -> Array:
        return np.expand_dims(rounding(rounding.sum(numbers, axis=axes) / count), axes)

    mean = mean_of(values)
    variance = rounding(mean_of(rounding(values**2)) - rounding(mean**2))
    deviation = rounding.function(np.sqrt(rounding(variance + NORMALIZATION_EPSILON)))
    normalized = rounding(rounding(values - mean) / deviation)
    gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]

    def backward(d_output: Array, gradients: dict[str, Array]) -> Array:
        for weight, terms in {"gamma": rounding(d_output * normalized), "beta": d_output}.items():
            gradients[f"{name}/{weight}"] = rounding.sum_over_examples(terms.reshape(-1, terms.shape[-1]))
        d_normalized = rounding(d_output * gamma)
        shared = rounding(mean_of(d_normalized) + rounding(normalized * mean_of(rounding(d_normalized * normalized))))
        return rounding(rounding(d_normalized - shared) / deviation)

    return rounding(rounding(normalized * gamma) + beta), backward, mean.squeeze(axes), variance.squeeze(axes)
