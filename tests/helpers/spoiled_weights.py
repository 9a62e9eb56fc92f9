"""Canonical weights with a fault in them, as a wrong conversion would leave them."""

from collections.abc import Callable

import numpy as np

Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors], Tensors]


def _each(change: Callable[[np.ndarray], np.ndarray], part: str) -> Change:
    """Change every tensor that has this in its name."""
    return lambda tensors: {name: change(tensor) if part in name else tensor for name, tensor in tensors.items()}


def _swapped(first: str, second: str) -> Change:
    """Give each of two parts of a name the tensors of the other."""
    other = {first: second, second: first}

    def swap(tensors: Tensors) -> Tensors:
        names = {name: "/".join(other.get(part, part) for part in name.split("/")) for name in tensors}
        return {name: tensors.get(names[name], tensor) for name, tensor in tensors.items()}

    return swap


without_biases = _each(np.zeros_like, "bias")

SPOILED: dict[str, Change] = {
    "transposed": _each(lambda kernel: np.ascontiguousarray(kernel.T), "/recurrent_kernel"),
    "bit": _each(lambda kernel: np.nextafter(kernel, np.inf, dtype=kernel.dtype), "head/kernel"),
    "no-biases": without_biases,
    "update-reset": _swapped("update", "reset"),
    "two-biases": _swapped("input_bias", "recurrent_bias"),
    "directions": _swapped("forward", "backward"),
    "gamma-beta": _swapped("gamma", "beta"),
    "embedding": _each(lambda table: table[::-1].copy(), "embedding"),
}
