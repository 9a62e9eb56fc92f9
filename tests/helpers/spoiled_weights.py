"""Canonical weights with a fault in them, as a wrong conversion would leave them."""

from collections.abc import Callable

import numpy as np

Tensors = dict[str, np.ndarray]


def transposed_recurrent_kernels(tensors: Tensors) -> Tensors:
    """Every recurrent kernel is transposed, which its square shape hides."""
    return {
        name: np.ascontiguousarray(tensor.T) if "/recurrent_kernel" in name else tensor
        for name, tensor in tensors.items()
    }


def swapped(first: str, second: str) -> Callable[[Tensors], Tensors]:
    """Return a function that gives each of two parts of a name the tensors of the other."""

    def swap(tensors: Tensors) -> Tensors:
        renamed = {}
        for name in tensors:
            parts = [{first: second, second: first}.get(part, part) for part in name.split("/")]
            renamed[name] = tensors.get("/".join(parts), tensors[name])
        return renamed

    return swap


def last_bit(tensors: Tensors) -> Tensors:
    """One number of the head's kernel is moved to its neighbour."""
    kernel = tensors["head/kernel"].copy()
    kernel[0, 0] = np.nextafter(kernel[0, 0], np.inf, dtype=kernel.dtype)
    return tensors | {"head/kernel": kernel}


def without_biases(tensors: Tensors) -> Tensors:
    """All biases are zero, as if the second part of a layer had been dropped."""
    return {name: np.zeros_like(tensor) if "bias" in name else tensor for name, tensor in tensors.items()}


def embedding_turned(tensors: Tensors) -> Tensors:
    """The rows of the embedding stand in the opposite order."""
    return {name: tensor[::-1].copy() if name.startswith("embedding") else tensor for name, tensor in tensors.items()}


SPOILED: dict[str, Callable[[Tensors], Tensors]] = {
    "transposed": transposed_recurrent_kernels,
    "bit": last_bit,
    "no-biases": without_biases,
    "update-reset": swapped("update", "reset"),
    "two-biases": swapped("input_bias", "recurrent_bias"),
    "directions": swapped("forward", "backward"),
    "gamma-beta": swapped("gamma", "beta"),
    "embedding": embedding_turned,
}
