"""Gradient clipping as Keras does it, as equations over canonical tensors.

Source: `_clip_gradients`, `_clip_by_norm` and `clip_by_global_norm` of `keras/src/optimizers/base_optimizer.py`;
Pascanu, Mikolov and Bengio 2013, algorithm 1 (clipping by norm).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from compare.config.gates import GATES
from compare.config.training import TrainingConfig
from compare.reference.formulas import rounded_like
from compare.reference.rounding import Array

_GATE_NAMES = frozenset(gate for gates in GATES.values() for gate in gates)


def clip(
    training: TrainingConfig, gradients: Mapping[str, Array], measured: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Return the clipped gradients of all canonical tensors, or equal ones where no clipping is asked for.

    Norms are those of `measured`, by default of the gradients.
    """
    measured = gradients if measured is None else measured
    if training.clipvalue is not None:
        limit = rounded_like(next(iter(gradients.values())), training.clipvalue)
        return {name: np.clip(gradient, -limit, limit) for name, gradient in gradients.items()}
    if training.clipnorm is not None:
        return by_variable_norm(training.clipnorm, gradients, measured)
    if training.global_clipnorm is not None:
        return by_global_norm(training.global_clipnorm, gradients, measured)
    return dict(gradients)


def by_variable_norm(limit: float, gradients: Mapping[str, Array], measured: Mapping[str, Array]) -> dict[str, Array]:
    """Scale the gradient g of each Keras variable: g * limit / max(|g|, limit)."""
    members: dict[str, list[str]] = {}
    for name in gradients:
        members.setdefault(keras_variable(name), []).append(name)
    clipped: dict[str, Array] = {}
    for names in members.values():
        divisor = np.maximum(norm(measured[name] for name in names), limit)
        clipped |= {name: gradients[name] * rounded_like(divisor, limit) / divisor for name in names}
    return {name: clipped[name] for name in gradients}


def by_global_norm(limit: float, gradients: Mapping[str, Array], measured: Mapping[str, Array]) -> dict[str, Array]:
    """Scale all gradients by one number: limit * min(1 / norm, 1 / limit)."""
    length = norm(measured.values())
    with np.errstate(divide="ignore"):
        scale = rounded_like(length, limit) * np.minimum(1 / length, rounded_like(length, 1 / limit))
    return {name: gradient * scale for name, gradient in gradients.items()}


def norm(tensors: Iterable[Array]) -> Array:
    """Return the Euclidean norm of tensors taken together."""
    return np.sqrt(np.sum(np.concatenate([np.ravel(np.square(tensor)) for tensor in tensors])))


def keras_variable(name: str) -> str:
    """Name the Keras variable to which a canonical tensor belongs: all gates of a kernel, both biases of a GRU."""
    owner, _, last = name.rpartition("/")
    tensor = owner if last in _GATE_NAMES else name
    for bias in ("input_bias", "recurrent_bias"):
        tensor = tensor.removesuffix(bias) + "bias" if tensor.endswith(f"/{bias}") else tensor
    return tensor
