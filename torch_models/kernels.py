"""Which recurrent kernel really runs, seen from the operations that torch dispatches."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torch_models.recurrent import Recurrent
from torch_models.training import Arrays, to_tensors
from torch_models.weights import load_non_trainable, read_non_trainable

# The operations by which a kernel is known; looked for in this order.
MARKS = {"cudnn": "_cudnn_rnn", "onednn": "mkldnn_rnn_layer", "fused": "_thnn_fused"}


class _Operations(TorchDispatchMode):
    """Collects the names of all operations dispatched within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))


def execution(model: Recurrent, inputs: Arrays) -> dict[str, Any]:
    """Say which recurrent kernel a training step runs, and the flags that change its result.

    "loop" is ATen's own loop over timesteps, one operation at a time.
    """
    device = next(model.parameters()).device
    non_trainable = read_non_trainable(model)
    with _Operations() as operations:
        model(to_tensors(model, inputs))
    load_non_trainable(model, non_trainable)  # to look is not to take a step
    kernel = next((name for name, mark in MARKS.items() if any(mark in seen for seen in operations.names)), "loop")
    return {
        "kernel": kernel,
        "tf32": device.type == "cuda" and bool(torch.backends.cudnn.allow_tf32),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "device": device.type,
        "dtypes": {
            name: str(next(module.parameters()).dtype).removeprefix("torch.")
            for name, module in model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        },
    }
