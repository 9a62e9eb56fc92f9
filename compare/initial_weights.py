"""Initial weights in the canonical form, drawn once in NumPy and given to both sides."""

from collections.abc import Callable

import numpy as np

from compare.case import Case

GATES = {
    "simple_rnn": ("",),
    "lstm": ("/input", "/forget", "/candidate", "/output"),
    "gru": ("/update", "/reset", "/candidate"),
}


def draw_initial_weights(case: Case, features: int, outputs: int) -> dict[str, np.ndarray]:
    """Draw the weights of a case's model as canonical tensors, with Keras's or PyTorch's default initialisers."""
    generator = np.random.default_rng([case.seed, 2])
    draw = {"keras": _keras_layer, "torch": _torch_layer}[case.training.initial_weights]
    tensors: dict[str, np.ndarray] = {}
    width = features
    for layer in range(case.model.layers):
        tensors |= draw(generator, case.model.cell, f"layer{layer}/forward", width, case.model.units)
        width = case.model.units
    if case.training.initial_weights == "keras":
        tensors["head/kernel"] = _glorot_uniform(generator, width, outputs)
        tensors["head/bias"] = np.zeros(outputs)
    else:
        bound = 1 / np.sqrt(width)
        tensors["head/kernel"] = generator.uniform(-bound, bound, (width, outputs))
        tensors["head/bias"] = generator.uniform(-bound, bound, outputs)
    return {name: np.ascontiguousarray(tensor, dtype=case.dtype) for name, tensor in tensors.items()}


def _keras_layer(
    generator: np.random.Generator, cell: str, prefix: str, width: int, units: int
) -> dict[str, np.ndarray]:
    """Glorot uniform kernel, orthogonal recurrent kernel, each drawn for all gates at once; zero biases, forget 1.

    Source: the defaults of `keras.layers.SimpleRNN`, `LSTM` (`unit_forget_bias`) and `GRU` (`reset_after`).
    """
    gates = GATES[cell]
    kernel = _glorot_uniform(generator, width, units * len(gates))
    recurrent_kernel = _orthogonal(generator, units, units * len(gates))

    def bias(name: str, gate: str) -> np.ndarray:
        return np.ones(units) if gate == "/forget" else np.zeros(units)

    return _layer(cell, prefix, kernel, recurrent_kernel, bias)


def _torch_layer(
    generator: np.random.Generator, cell: str, prefix: str, width: int, units: int
) -> dict[str, np.ndarray]:
    """Everything uniform within 1/sqrt(units); where Keras has one bias, the sum of PyTorch's two.

    Source: `torch.nn.RNNBase.reset_parameters`.
    """
    bound = 1 / np.sqrt(units)
    gates = GATES[cell]
    kernel = generator.uniform(-bound, bound, (width, units * len(gates)))
    recurrent_kernel = generator.uniform(-bound, bound, (units, units * len(gates)))

    def bias(name: str, gate: str) -> np.ndarray:
        return generator.uniform(-bound, bound, (2 if name == "bias" else 1, units)).sum(axis=0)

    return _layer(cell, prefix, kernel, recurrent_kernel, bias)


def _layer(
    cell: str, prefix: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: Callable[[str, str], np.ndarray]
) -> dict[str, np.ndarray]:
    gates = GATES[cell]
    tensors = {}
    for name, value in {"kernel": kernel, "recurrent_kernel": recurrent_kernel}.items():
        for gate, part in zip(gates, np.split(value, len(gates), axis=1), strict=True):
            tensors[f"{prefix}/{name}{gate}"] = part
    for name in ("input_bias", "recurrent_bias") if cell == "gru" else ("bias",):
        for gate in gates:
            tensors[f"{prefix}/{name}{gate}"] = bias(name, gate)
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
