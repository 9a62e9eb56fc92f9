"""What may stand between two layers, by name; `compare.explain.causes.between` recognises the same names."""

from typing import Any

import torch
from torch.nn import functional

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


def _halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    units = x.shape[-1] // 2
    return x[..., :units], x[..., units:]


def _states(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    forward, backward = _halves(x)
    return forward[:, -1], backward[:, 0]


# From what a layer gives at every timestep, (batch, time, units), both directions side by side, to what the next takes.
SELECTIONS: dict[str, Any] = {
    "all": lambda x: x,
    "last": lambda x: x[:, -1],
    "first": lambda x: x[:, 0],
    "last but one": lambda x: x[:, -2],
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum(1),
    "maximum": lambda x: x.amax(1),
    "flat": lambda x: x.flatten(1),
    "last states": lambda x: torch.cat(_states(x), -1),
    "last states swapped": lambda x: torch.cat(_states(x)[::-1], -1),
    "last states summed": lambda x: sum(_states(x)),
    "last states averaged": lambda x: sum(_states(x)) / 2,
    "last states multiplied": lambda x: _states(x)[0] * _states(x)[1],
    "forward state": lambda x: _states(x)[0],
    "backward state": lambda x: _states(x)[1],
    "last outputs summed": lambda x: sum(_halves(x[:, -1])),
    "last outputs averaged": lambda x: sum(_halves(x[:, -1])) / 2,
    "last outputs multiplied": lambda x: _halves(x[:, -1])[0] * _halves(x[:, -1])[1],
    "all swapped": lambda x: torch.cat(_halves(x)[::-1], -1),
    "all summed": lambda x: sum(_halves(x)),
    "all averaged": lambda x: sum(_halves(x)) / 2,
    "all multiplied": lambda x: _halves(x)[0] * _halves(x)[1],
}

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
