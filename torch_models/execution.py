"""What computes a model, and what it computes with; `keras_models/execution.py` is the mirror."""

import statistics
import time
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torch_models.training import Arrays, to_tensors
from torch_models.weights import Model, device_of, load_non_trainable, read_non_trainable

# The operations by which a kernel is known, looked for in this order; else it is "loop", ATen's own over the timesteps.
MARKS = {"cudnn": "_cudnn_rnn", "onednn": "mkldnn_rnn_layer", "fused": "_thnn_fused"}


class _Operations(TorchDispatchMode):
    """Collects the names of all operations dispatched within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))


def execution(model: Model, inputs: Arrays) -> dict[str, Any]:
    """Say what runs a training step: kernel, flags that change its result, device, compute dtype of every layer."""
    device = device_of(model)
    non_trainable = read_non_trainable(model)
    with _Operations() as operations:
        model(to_tensors(model, inputs))
    load_non_trainable(model, non_trainable)  # to look is not to take a step
    kernels = (name for name, mark in MARKS.items() if any(mark in operation for operation in operations.names))
    return {
        "kernel": next(kernels, "loop"),
        "tf32": device.type == "cuda" and bool(torch.backends.cudnn.allow_tf32),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "device": device.type,
        "dtypes": {
            name: str(next(module.parameters()).dtype).removeprefix("torch.")
            for name, module in model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that compute."""
    return {"torch": torch.__version__}


def threads() -> int:
    """Return how many threads compute."""
    return torch.get_num_threads()


def set_precision(dtype: str) -> None:
    """Compute in a precision from now on, as far as the backend can."""
    del dtype  # each PyTorch model has its own


def narrowed_operations(dtype: str) -> list[str]:
    """Name the operations that return something narrower than `dtype` for inputs of it; none if all keep it."""
    del dtype
    return []


def place(model: Model, device: str) -> None:
    """Put a model on a device, "cpu" or "cuda"; what it is given goes there too.

    Raises RuntimeError where there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device cuda was asked for, and torch {torch.__version__} finds no CUDA device")
    model.to(device)


def set_seed(seed: int, sample: int = 0) -> None:
    """Seed what draws initial weights and dropout masks; `sample` numbers trainings that differ in their masks."""
    torch.manual_seed(seed + sample)


def release() -> None:
    """Return the memory of models that are no longer used."""
    # PyTorch returns what nothing refers to.


def operations_per_second(width: int = 1024, products: int = 9) -> float:
    """Measure how many floating-point operations a second a product of square matrices does, the median of several."""
    left, right = torch.rand(width, width), torch.rand(width, width)
    seconds = []
    for _ in range(products):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * width**3 / statistics.median(seconds)
