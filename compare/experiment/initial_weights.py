"""Initial weights in the canonical form, drawn once in NumPy and given to both sides."""

from collections.abc import Callable

import numpy as np

from compare.config.case import Case
from compare.config.gates import gate_count, gated
from compare.config.model import ModelConfig
from compare.config.streams import Stream, random_stream


def draw_initial_weights(
    case: Case, features: int, outputs: int, vocabulary: int | None = None
) -> dict[str, np.ndarray]:
    """Draw the weights of a case's model as canonical tensors, with Keras's or PyTorch's default initialisers."""
    generator = random_stream(case.seed, Stream.WEIGHTS)
    model, keras = case.model, case.training.initial_weights == "keras"
    draw = _keras_layer if keras else _torch_layer
    tensors: dict[str, np.ndarray] = {}
    width = features
    if model.embedding:
        size = (vocabulary or 0, model.embedding)
        tensors["embedding/embeddings"] = generator.uniform(-0.05, 0.05, size) if keras else generator.normal(size=size)
        width = model.embedding
    for layer in range(model.layers):
        for direction in ("forward", "backward") if model.bidirectional else ("forward",):
            tensors |= draw(generator, model, f"layer{layer}/{direction}", width)
        width = 2 * model.units if model.bidirectional == "concat" else model.units
        if model.normalization:
            tensors |= {f"normalization{layer}/gamma": np.ones(width), f"normalization{layer}/beta": np.zeros(width)}
    if keras:
        tensors["head/kernel"] = _glorot_uniform(generator, width, outputs)
        tensors["head/bias"] = np.zeros(outputs)
    else:
        bound = 1 / np.sqrt(width)
        tensors["head/kernel"] = generator.uniform(-bound, bound, (width, outputs))
        tensors["head/bias"] = generator.uniform(-bound, bound, outputs)
    return {name: np.ascontiguousarray(tensor, dtype=case.dtype) for name, tensor in tensors.items()}


def _keras_layer(generator: np.random.Generator, model: ModelConfig, prefix: str, width: int) -> dict[str, np.ndarray]:
    """Glorot uniform kernel, orthogonal recurrent kernel, each drawn for all gates at once; zero biases, forget 1.

    Source: the defaults of `keras.layers.SimpleRNN`, `LSTM` (`unit_forget_bias`) and `GRU` (`reset_after`).
    """
    columns = model.units * gate_count(model.cell)
    kernel = _glorot_uniform(generator, width, columns)
    recurrent_kernel = _orthogonal(generator, model.units, columns)

    def bias(name: str) -> np.ndarray:
        return np.ones(model.units) if name == "bias/forget" else np.zeros(model.units)

    return _layer(model, prefix, kernel, recurrent_kernel, bias)


def _torch_layer(generator: np.random.Generator, model: ModelConfig, prefix: str, width: int) -> dict[str, np.ndarray]:
    """Everything uniform within 1/sqrt(units); where Keras has one bias, the sum of PyTorch's two.

    Source: `torch.nn.RNNBase.reset_parameters`.
    """
    bound = 1 / np.sqrt(model.units)
    columns = model.units * gate_count(model.cell)
    kernel = generator.uniform(-bound, bound, (width, columns))
    recurrent_kernel = generator.uniform(-bound, bound, (model.units, columns))

    def bias(name: str) -> np.ndarray:
        summed = 1 if model.cell == "gru" and model.reset_after else 2
        return generator.uniform(-bound, bound, (summed, model.units)).sum(axis=0)

    return _layer(model, prefix, kernel, recurrent_kernel, bias)


def _layer(
    model: ModelConfig,
    prefix: str,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: Callable[[str], np.ndarray],
) -> dict[str, np.ndarray]:
    tensors = {}
    for name, value in {"kernel": kernel, "recurrent_kernel": recurrent_kernel}.items():
        gates = gated(name, model.cell)
        for gate, part in zip(gates, np.split(value, len(gates), axis=1), strict=True):
            tensors[f"{prefix}/{gate}"] = part
    if not model.use_bias:
        return tensors
    for name in ("input_bias", "recurrent_bias") if model.cell == "gru" and model.reset_after else ("bias",):
        tensors |= {f"{prefix}/{gate}": bias(gate) for gate in gated(name, model.cell)}
    return tensors


def _glorot_uniform(generator: np.random.Generator, width: int, outputs: int) -> np.ndarray:
    """Uniform within sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010, equation 16."""
    bound = np.sqrt(6 / (width + outputs))
    return generator.uniform(-bound, bound, (width, outputs))


def _orthogonal(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal rows, or columns if those are fewer. Source: Saxe et al. 2013; Mezzadri 2007 (the signs)."""
    q, r = np.linalg.qr(generator.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q.T if rows < columns else q
