"""Gradient clipping as Keras does it, as equations over canonical tensors.

Source: `_clip_gradients`, `_clip_by_norm` and `clip_by_global_norm` of `keras/src/optimizers/base_optimizer.py`;
Pascanu, Mikolov and Bengio 2013, algorithm 1 (clipping by norm).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from compare.config.model_facts import GATES
from compare.config.training import TrainingConfig
from compare.reference.rounding import EXACT, Array, Rounding

_GATE_NAMES = frozenset(gate.removeprefix("/") for gates in GATES.values() for gate in gates if gate)


def clip(training: TrainingConfig, gradients: Mapping[str, Array], rounding: Rounding = EXACT) -> dict[str, Array]:
    """Return the clipped gradients of all canonical tensors, or equal ones where no clipping is asked for."""
    if training.clipvalue is not None:
        limit = rounding(training.clipvalue)
        return {name: np.clip(gradient, -limit, limit) for name, gradient in gradients.items()}
    if training.clipnorm is not None:
        return by_variable_norm(training.clipnorm, gradients, rounding)
    if training.global_clipnorm is not None:
        return by_global_norm(training.global_clipnorm, gradients, rounding)
    return dict(gradients)


def by_variable_norm(limit: float, gradients: Mapping[str, Array], rounding: Rounding = EXACT) -> dict[str, Array]:
    """Scale the gradient g of each Keras variable: g * limit / max(|g|, limit)."""
    members: dict[str, list[str]] = {}
    for name in gradients:
        members.setdefault(keras_variable(name), []).append(name)
    clipped: dict[str, Array] = {}
    for names in members.values():
        divisor = np.maximum(norm((gradients[name] for name in names), rounding), limit)
        clipped |= {name: rounding(rounding(gradients[name] * rounding(limit)) / divisor) for name in names}
    return {name: clipped[name] for name in gradients}


def by_global_norm(limit: float, gradients: Mapping[str, Array], rounding: Rounding = EXACT) -> dict[str, Array]:
    """Scale all gradients by one number: limit * min(1 / norm, 1 / limit)."""
    length = norm(gradients.values(), rounding)
    with np.errstate(divide="ignore"):
        scale = rounding(rounding(limit) * np.minimum(rounding(1 / length), rounding(1 / limit)))
    return {name: rounding(gradient * scale) for name, gradient in gradients.items()}


def norm(tensors: Iterable[Array], rounding: Rounding = EXACT) -> Array:
    """Return the Euclidean norm of tensors taken together."""
    squares = np.concatenate([np.ravel(rounding(np.square(tensor))) for tensor in tensors])
    return np.asarray(rounding(np.sqrt(rounding.sum(squares))))


def keras_variable(name: str) -> str:
    """Name the Keras variable to which a canonical tensor belongs: all gates of a kernel, both biases of a GRU."""
    owner, _, last = name.rpartition("/")
    tensor = owner if last in _GATE_NAMES else name
    for bias in ("input_bias", "recurrent_bias"):
        tensor = tensor.removesuffix(bias) + "bias" if tensor.endswith(f"/{bias}") else tensor
    return tensor
