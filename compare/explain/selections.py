"""What the next layer may take of what a layer gives at every timestep, by name, for NumPy arrays and torch tensors.

From (batch, time, units), of layers that run both ways with the two directions side by side.
"""

from collections.abc import Callable
from typing import Any

Selections = dict[str, Callable[[Any], Any]]


def of_time(largest: Callable[[Any, int], Any]) -> Selections:
    """Name the choices of timesteps; `largest` is the framework's maximum over an axis."""
    return {
        "last": lambda x: x[:, -1],
        "first": lambda x: x[:, 0],
        "last but one": lambda x: x[:, -2],
        "mean": lambda x: x.mean(1),
        "sum": lambda x: x.sum(1),
        "maximum": lambda x: largest(x, 1),
        "flat": lambda x: x.reshape(len(x), -1),
    }


def of_directions(join: Callable[[Any, int], Any]) -> Selections:
    """Name what can be made of two directions; `join` is the framework's concatenation along an axis."""
    return {
        "last states": lambda x: join(_states(x), -1),
        "last states swapped": lambda x: join(_states(x)[::-1], -1),
        "last states summed": lambda x: sum(_states(x)),
        "last states averaged": lambda x: sum(_states(x)) / 2,
        "last states multiplied": lambda x: _states(x)[0] * _states(x)[1],
        "forward state": lambda x: _states(x)[0],
        "backward state": lambda x: _states(x)[1],
        "last outputs summed": lambda x: sum(_halves(x[:, -1])),
        "last outputs averaged": lambda x: sum(_halves(x[:, -1])) / 2,
        "last outputs multiplied": lambda x: _halves(x[:, -1])[0] * _halves(x[:, -1])[1],
        "all swapped": lambda x: join(_halves(x)[::-1], -1),
        "all summed": lambda x: sum(_halves(x)),
        "all averaged": lambda x: sum(_halves(x)) / 2,
        "all multiplied": lambda x: _halves(x)[0] * _halves(x)[1],
    }


def _halves(x: Any) -> tuple[Any, Any]:
    units = x.shape[-1] // 2
    return x[..., :units], x[..., units:]


def _states(x: Any) -> tuple[Any, Any]:
    forward, backward = _halves(x)
    return forward[:, -1], backward[:, 0]
