"""What computes a model, and what it computes with; `torch_models/execution.py` is the mirror."""

import importlib.metadata
import os
import random
from functools import cache
from typing import Any

import keras
import numpy as np

from keras_models import backends
from keras_models.training import Arrays
from keras_models.weights import Model

# Where Keras's dtype promotion has been seen to turn float64 into float32 on some backend.
PROBES = {
    "matmul": lambda x: keras.ops.matmul(x, x),
    "tanh": lambda x: keras.ops.tanh(x),
    "sigmoid": lambda x: keras.ops.sigmoid(x),
    "mean": lambda x: keras.ops.mean(x),
    "MeanSquaredError": lambda x: keras.losses.MeanSquaredError()(x, x),
}


def execution(model: Model, inputs: Arrays) -> dict[str, Any]:
    """Say what runs a training step: kernel, flags that change its result, device, compute dtype of every layer."""
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    return backends.load().execution(model, inputs) | {"dtypes": dtypes}


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that compute."""
    backend = keras.backend.backend()
    return {"keras": keras.__version__, backend: importlib.metadata.version(backend)}


def threads() -> int:
    """Return how many threads compute."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def set_precision(dtype: str) -> None:
    """Compute in a precision from now on, as far as the backend can."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
    keras.config.set_floatx(dtype)


@cache
def narrowed_operations(dtype: str) -> list[str]:
    """Name the operations that return something narrower than `dtype` for inputs of it; none if all keep it."""
    value = keras.ops.convert_to_tensor(np.full((2, 2), 0.5, dtype=dtype))
    return [name for name, probe in PROBES.items() if keras.backend.standardize_dtype(probe(value).dtype) != dtype]


def place(model: Model, device: str) -> None:
    """Put a model on a device, "cpu" or "cuda"; what it is given goes there too.

    Raises RuntimeError where there is no such device.
    """
    # A backend chooses one device for everything, before anything is built: the environment of the process says which.
    obtained = backends.load().device_of(model)
    if obtained != device:
        name = keras.backend.backend()
        raise RuntimeError(f"device {device} was asked for, and {name} {versions()[name]} computes on {obtained}")


def set_seed(seed: int, sample: int = 0) -> None:
    """Seed what draws initial weights and dropout masks; `sample` numbers trainings that differ in their masks."""
    if keras.backend.backend() == "tensorflow":
        # Elsewhere this too would import TensorFlow, where it is installed, beside the backend.
        keras.utils.set_random_seed(seed)
    elif keras.backend.backend() == "torch":
        import torch

        # Layers without a seed of their own draw from torch; seeds of cases end below 2^32, so that these masks are not
        # those of the PyTorch side.
        torch.manual_seed(2**32 + seed + sample)
    # Layers that draw numbers take their seeds from here.
    random.seed(seed + sample)


def release() -> None:
    """Return the memory of models that are no longer used."""
    keras.backend.clear_session(free_memory=True)
