"""Train a Keras model on a given batch schedule, recording every step; `torch_models/training.py` is its mirror."""

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_models.weights import layouts

# Steps in one compiled call: enough to hide the cost of the call, few enough that their batches stay small in memory.
STEPS_PER_CALL = 128


def columns(model: keras.Model) -> list[str]:
    """Name what `train` records at each step: loss, norms of all gradients and updates, a checksum of the batch."""
    tensors = [name for layout in layouts(model) for name in layout.names]
    return ["loss", *(f"gradient/{name}" for name in tensors), *(f"update/{name}" for name in tensors), "batch"]


def train(
    model: keras.Model,
    loss: keras.losses.Loss,
    optimizer: keras.optimizers.Optimizer,
    inputs: np.ndarray,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model and yield (epoch, rows) as the steps are done, one row of `columns` a step.

    Inputs (windows, time, features), targets (windows, outputs), schedule (epochs, windows): the order of the windows
    in each epoch. The last, smaller batch of an epoch is kept. At every yield the model holds its current weights.
    """
    backend = importlib.import_module(f"keras_models.training_{keras.backend.backend()}")
    # Only JAX needs compiling to be fast; elsewhere XLA would round in other places than the framework itself does.
    model.compile(optimizer=optimizer, loss=loss, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(model.trainable_variables)
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    run_steps = backend.compile_steps(model, layouts(model), capacity=min(full_batches, STEPS_PER_CALL))
    for epoch, order in enumerate(schedule):
        batches = order[: full_batches * batch_size].reshape(full_batches, batch_size)
        for start in range(0, full_batches, STEPS_PER_CALL):
            chosen = batches[start : start + STEPS_PER_CALL]
            yield epoch, _record(run_steps, inputs[chosen], targets[chosen])
        if rest:
            chosen = order[None, -rest:]
            yield epoch, _record(run_steps, inputs[chosen], targets[chosen])


def _record(run_steps: Callable[..., np.ndarray], inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Run steps and add a checksum of each batch, so that a difference in what was trained on is seen as such."""
    checksums = [zlib.crc32(y.tobytes(), zlib.crc32(x.tobytes())) for x, y in zip(inputs, targets, strict=True)]
    return np.column_stack([run_steps(inputs, targets), checksums])


def execution(model: keras.Model, inputs: np.ndarray) -> dict[str, Any]:
    """Say what runs a training step: kernel, flags that change its result, device, compute dtype of every layer."""
    backend = importlib.import_module(f"keras_models.training_{keras.backend.backend()}")
    return backend.execution(model, inputs) | {"dtypes": {layer.name: layer.compute_dtype for layer in model.layers}}


def predict(model: keras.Model, inputs: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs (windows, outputs) for inputs (windows, time, features)."""
    # Not model.predict: on the torch backend it imports TensorFlow into the same process, where that is installed.
    parts = [
        np.asarray(model.predict_on_batch(np.ascontiguousarray(inputs[start : start + batch_size])))
        for start in range(0, len(inputs), batch_size)
    ]
    return np.concatenate(parts)
