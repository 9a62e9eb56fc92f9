"""What stands between two layers, recognised from the numbers: a choice of timesteps and a function of each number."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.explain.selections import of_directions, of_time

# How near a recognised function must come, by the largest number: float32 functions of float32 numbers.
NEAR = 2e-5


OF_TIME = of_time(np.max)
OF_DIRECTIONS = of_directions(np.concatenate)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    moved = x - x.max(-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(-1, keepdims=True))


_erf = np.vectorize(math.erf, otypes=[np.float64])

FUNCTIONS: dict[str, Any] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}


@dataclass(frozen=True)
class Between:
    """A choice of timesteps, then a function; `arguments` are what was estimated of it."""

    select: str
    function: str
    arguments: dict[str, float] = field(default_factory=dict)

    def as_change(self) -> dict[str, Any]:
        """How the PyTorch side is asked for it."""
        return {"select": self.select, "function": self.function, "arguments": self.arguments}

    @property
    def description(self) -> str:
        """What the function is called, with its figures."""
        if self.function == "leaky_relu":
            return f"leaky_relu with slope {self.arguments['slope']:.3g}"
        if self.function == "affine":
            return f"{self.arguments['scale']:.4g}·x + {self.arguments['shift']:.4g}"
        return "nothing" if self.function == "identity" else self.function


def recognise(before: np.ndarray, after: np.ndarray, directions: int = 1) -> Between | None:
    """Say which choice and function turn `before` into `after`; None where none that is known does."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if not np.isfinite(before).all() or not np.isfinite(after).all() or not after.size:
        return None
    for select, value in _selections(before, after, directions):
        for name, function in FUNCTIONS.items():
            if _near(function(value), after):
                return Between(select, name)
        slope = _slope(value, after)
        if slope is not None:
            return Between(select, "leaky_relu", {"slope": slope})
    for select, value in _selections(before, after, directions):
        fitted = _affine(value, after)
        if fitted is not None:
            return Between(select, "affine", {"scale": fitted[0], "shift": fitted[1]})
    return None


def _selections(before: np.ndarray, after: np.ndarray, directions: int) -> Iterator[tuple[str, np.ndarray]]:
    known: Any = {"all": lambda x: x}
    if before.ndim == 3:
        extra = OF_DIRECTIONS.items() if directions == 2 else ()
        known = dict(itertools.chain(known.items(), extra, OF_TIME.items()))
    for name, select in known.items():
        if name == "last but one" and before.shape[1] < 2:
            continue
        value = select(before)
        if value.shape == after.shape:
            yield name, value
        elif value.squeeze().shape == after.squeeze().shape:
            yield name, value.reshape(after.shape)


def _near(value: np.ndarray, after: np.ndarray) -> bool:
    return bool(np.max(np.abs(value - after)) <= NEAR * max(float(np.max(np.abs(after))), 1e-30))


def _slope(value: np.ndarray, after: np.ndarray) -> float | None:
    below = value < 0
    if not below.any() or not _near(np.where(below, after, value), after):
        return None
    slope = float(np.sum(value[below] * after[below]) / np.sum(value[below] ** 2))
    slope = float(f"{slope:.5g}")
    return slope if _near(np.where(below, slope * value, value), after) else None


def _affine(value: np.ndarray, after: np.ndarray) -> tuple[float, float] | None:
    x, y = value.ravel(), after.ravel()
    if np.ptp(x) == 0 or x.size < 3:
        return None
    scale, shift = np.polyfit(x, y, 1)
    return (float(scale), float(shift)) if _near(scale * value + shift, after) else None


# What a user's code may have made of the windows before the first layer.
OF_WINDOWS: dict[str, Any] = {
    "without the first timestep": lambda x: x[:, 1:],
    "without the last timestep": lambda x: x[:, :-1],
    "backwards in time": lambda x: x[:, ::-1],
    "one timestep later": lambda x: np.roll(x, -1, 1),
    "one timestep earlier": lambda x: np.roll(x, 1, 1),
}


def of_windows(inputs: np.ndarray, obtained: np.ndarray) -> str | None:
    """Say which windows a side was given instead of `inputs`; None where that is not known."""
    if inputs.ndim < 2:
        return None
    for name, change in OF_WINDOWS.items():
        value = change(inputs)
        if (
            value.shape == obtained.shape
            and value.size
            and _near(value.astype(np.float64), obtained.astype(np.float64))
        ):
            return name
    for steps in range(2, inputs.shape[1]):
        for name, value in (
            (f"without the first {steps} timesteps", inputs[:, steps:]),
            (f"without the last {steps} timesteps", inputs[:, :-steps]),
        ):
            if value.shape == obtained.shape and _near(value.astype(np.float64), obtained.astype(np.float64)):
                return name
    return None
