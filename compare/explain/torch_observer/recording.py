"""What a session writes down: arrays that are copies, states, the order of rows."""

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn


def copied(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor now, half precision as float32."""
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()


def copied_or_none(tensor: Any) -> np.ndarray | None:
    """As `copied`; None for None."""
    return None if tensor is None else copied(tensor)


def loose_state(whole: nn.Module) -> dict[nn.Module, dict[str, Any]]:
    """Attributes that could carry a state from one batch to the next: tensors, tuples of them, None."""
    return {
        module: {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_") and (value is None or isinstance(value, torch.Tensor | tuple | list))
        }
        for module in whole.modules()
    }


def restore_loose_state(state: dict[nn.Module, dict[str, Any]]) -> None:
    """Put back what `loose_state` found."""
    for module, attributes in state.items():
        for name, value in attributes.items():
            with contextlib.suppress(AttributeError, TypeError):
                setattr(module, name, value)


def row_order(batch: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """Find the order with which `seen` is `batch[order]`; None where that is the order it has, or there is none."""
    if seen.shape[:1] != batch.shape[:1] or seen.size != batch.size or np.array_equal(seen.ravel(), batch.ravel()):
        return None
    locations: dict[bytes, list[int]] = {}
    for number, row in enumerate(batch):
        locations.setdefault(row.tobytes(), []).append(number)
    order = []
    for row in seen.astype(batch.dtype):
        numbers = locations.get(row.tobytes())
        if not numbers:
            return None
        order.append(numbers.pop(0))
    return np.array(order)
