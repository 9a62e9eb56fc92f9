"""Keras's own values in the place of what PyTorch computes: the last resort where no program makes them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from compare.explain.alignment import Index, Value, squeezed
from compare.explain.torch_observer.recorder import Operation, Recorder


def fitting(index: Index, output: np.ndarray) -> Iterator[tuple[Value, np.ndarray]]:
    """Keras's values of an output's size, in its shape, also with their axes turned; no inputs or targets."""
    for value in index.values:
        leaf = value.label[:1] in "xy" and value.label[1:2] in ("", "[")
        if leaf or value.array.size != output.size or value.array.dtype.kind != "f":
            continue
        array = squeezed(value.array)
        yield value, array.reshape(output.shape)
        if array.ndim in (2, 3):
            yield value, array.swapaxes(0, 1).reshape(output.shape)
        if array.ndim == 3:
            yield value, array.swapaxes(1, 2).reshape(output.shape)


def put(tensor: torch.Tensor, output: int) -> Any:
    """Keras's value in the place of an output; gradients go on as if it were the user's."""

    def patch(recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        leaves = tree_leaves(result)
        new = leaves[output] + (tensor.to(leaves[output].dtype).reshape(leaves[output].shape) - leaves[output]).detach()
        if torch.is_tensor(result):
            return new
        parts = [new if i == output else leaf for i, leaf in enumerate(result)]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)

    patch.by_value = True  # type: ignore[attr-defined]  # Setup.without_values asks for it
    return patch
