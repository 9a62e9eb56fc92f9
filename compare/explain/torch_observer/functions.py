"""What may stand between two layers, by name; `compare.explain.causes.between` recognises the same names."""

from typing import Any

import torch
from torch.nn import functional

from compare.explain.selections import of_directions, of_time

FUNCTIONS: dict[str, Any] = {
    "identity": lambda x: x,
    "relu": functional.relu,
    "leaky_relu": lambda x, slope: functional.leaky_relu(x, slope),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "softplus": functional.softplus,
    "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "affine": lambda x, scale, shift: x * scale + shift,
}


# From what a layer gives at every timestep to what the next takes.
SELECTIONS: dict[str, Any] = {"all": lambda x: x, **of_time(torch.amax), **of_directions(torch.cat)}

EPSILON = 1e-7  # keras.config.epsilon(): where probabilities are clipped


def _clipped(p: torch.Tensor) -> torch.Tensor:
    return p.clamp(EPSILON, 1 - EPSILON)


def _like(y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    y = y.to(p.dtype)
    return y.reshape(p.shape) if y.numel() == p.numel() else y


def _binary(p: torch.Tensor, y: torch.Tensor, from_logits: bool) -> torch.Tensor:
    y = _like(y, p)
    if from_logits:
        return functional.binary_cross_entropy_with_logits(p, y)
    p = _clipped(p)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def _categorical(p: torch.Tensor, y: torch.Tensor, from_logits: bool) -> torch.Tensor:
    logs = p.log_softmax(-1) if from_logits else _clipped(p / p.sum(-1, keepdim=True)).log()
    if y.shape == p.shape and y.is_floating_point():
        return -(y * logs).sum(-1).mean()
    index = y.long().reshape(*p.shape[:-1], 1)
    return -logs.gather(-1, index).mean()


# Keras's losses, reduced as Keras reduces them: the mean over batch and axes.
LOSSES: dict[str, Any] = {
    "mean_squared_error": lambda p, y: (p - _like(y, p)).square().mean(),
    "mean_absolute_error": lambda p, y: (p - _like(y, p)).abs().mean(),
    "huber": lambda p, y, delta=1.0: functional.huber_loss(p, _like(y, p), delta=delta),
    "log_cosh": lambda p, y: (
        (e := p - _like(y, p)) + functional.softplus(-2 * e) - torch.log(torch.tensor(2.0, dtype=p.dtype))
    ).mean(),
    "mean_absolute_percentage_error": lambda p, y: (
        100 * ((_like(y, p) - p) / _like(y, p).abs().clamp_min(EPSILON)).abs().mean()
    ),
    "binary_crossentropy": lambda p, y, from_logits=False: _binary(p, y, from_logits),
    "categorical_crossentropy": lambda p, y, from_logits=False: _categorical(p, y, from_logits),
    "sparse_categorical_crossentropy": lambda p, y, from_logits=False: _categorical(p, y, from_logits),
}
