"""Train a Keras model on a given batch schedule, recording every step; `torch_models/training.py` is the mirror."""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from keras_models import backends
from keras_models.layers import inner
from keras_models.weights import Model, layouts

Arrays = np.ndarray | Mapping[str, np.ndarray]
Draw = Callable[[int, int], Mapping[str, np.ndarray]]

# Steps in one compiled call: enough to hide the cost of the call, few enough that their batches stay small in memory.
STEPS_PER_CALL = 128


def columns(model: Model, norms: bool = True) -> list[str]:
    """Name what `train` records at each step: loss, norms of all gradients and updates, a checksum of the batch."""
    tensors = [name for layout in layouts(model) for name in layout.names] if norms else []
    return ["loss", *(f"gradient/{name}" for name in tensors), *(f"update/{name}" for name in tensors), "batch"]


def train(
    model: Model,
    loss: keras.losses.Loss,
    optimizer: keras.optimizers.Optimizer,
    inputs: Arrays,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
    draw: Draw | None = None,
    norms: bool = True,
    pauses: Collection[int] = (),
    programs: dict[str, Any] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model and yield (epoch, rows) as the steps are done, one row of `columns` a step.

    Inputs (windows, time, features), or a dict of what the model takes, targets (windows, outputs), schedule (epochs,
    windows): the order of the windows in each epoch. The last, smaller batch of an epoch is trained on too. At every
    yield the model holds its current weights, and there is one before every step of `pauses`. `draw` gives what a step
    gets beside the windows, by name, from the number of the step and of its windows: masks for dropout. States are
    reset before every epoch. Without `norms` only the loss and the batch's checksum are recorded. What is compiled is
    put into `programs`, with which the same model can be trained again, with the same loss and optimizer and as many
    batches, without compiling anew.
    """
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    steps_per_epoch = full_batches + bool(rest)
    programs = {} if programs is None else programs
    if "steps" not in programs:
        prepare(model, loss, optimizer)
        capacity = min(full_batches, STEPS_PER_CALL)
        programs["steps"] = backends.load().compile_steps(model, layouts(model), capacity, norms)
    run_steps = programs["steps"]
    for epoch, order in enumerate(schedule):
        reset_states(model)
        first = epoch * steps_per_epoch
        batches = order[: full_batches * batch_size].reshape(full_batches, batch_size)
        before = {step - first for step in pauses} & set(range(full_batches))
        bounds = sorted({*range(0, full_batches, STEPS_PER_CALL), full_batches} | before)
        for start, end in pairwise(bounds):
            chosen = batches[start:end]
            yield epoch, _record(run_steps, gather(inputs, chosen, first + start, draw), targets[chosen])
        if rest:
            chosen = order[None, -rest:]
            yield epoch, _record(run_steps, gather(inputs, chosen, first + full_batches, draw), targets[chosen])


def prepare(model: Model, loss: keras.losses.Loss, optimizer: keras.optimizers.Optimizer) -> None:
    """Make a model ready for training."""
    if model.compiled and model.optimizer is optimizer and model.loss is loss:
        return
    # Only JAX needs compiling to be fast; elsewhere XLA would round in other places than the framework itself does.
    model.compile(optimizer=optimizer, loss=loss, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(model.trainable_variables)


def gather(inputs: Arrays, chosen: np.ndarray, first: int, draw: Draw | None) -> Arrays:
    """Pick the windows of some steps (steps, batch) from each array, and add what is drawn for the steps."""
    if not isinstance(inputs, Mapping):
        return inputs[chosen]
    drawn = [draw(first + step, chosen.shape[1]) for step in range(len(chosen))] if draw else [{}]
    return {name: array[chosen] for name, array in inputs.items()} | {
        name: np.stack([masks[name] for masks in drawn]) for name in drawn[0]
    }


def _record(run_steps: Callable[..., np.ndarray], inputs: Arrays, targets: np.ndarray) -> np.ndarray:
    return np.column_stack([run_steps(inputs, targets), checksums(inputs, targets)])


def checksums(inputs: Arrays, targets: np.ndarray) -> list[int]:
    """Return a checksum of each step's batch, so that a difference in what was trained on is seen as such."""
    arrays = [inputs[name] for name in sorted(inputs)] if isinstance(inputs, Mapping) else [inputs]
    sums = []
    for step, labels in enumerate(targets):
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(array[step].tobytes(), checksum)
        sums.append(zlib.crc32(labels.tobytes(), checksum))
    return sums


def reset_states(model: Model) -> None:
    """Set the states of a stateful model to zero, as between epochs."""
    for layer in map(inner, model.layers):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            layer.reset_state()


def to_tensors(model: Model, arrays: Any) -> Any:
    """Turn a batch's arrays into tensors, in the layout that the model takes."""
    return keras.tree.map_structure(lambda array: keras.ops.convert_to_tensor(np.ascontiguousarray(array)), arrays)


def predict(model: Model, inputs: Arrays, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs (windows, outputs) for inputs (windows, time, features), or a dict of arrays.

    A stateful model starts from zero states and takes the windows in its own batch size.
    """
    if model.settings.stateful:
        reset_states(model)
        batch_size = model.settings.batch_size
    count = len(keras.tree.flatten(inputs)[0])
    if isinstance(model.input, Mapping):
        # A functional model wants all its inputs, the masks for dropout too, though it drops nothing here.
        time = inputs["sequence"].shape[1]
        unused = {
            name: np.ones((count, *(size or time for size in tensor.shape[1:])), tensor.dtype)
            for name, tensor in model.input.items()
            if name not in inputs
        }
        inputs = {**inputs, **unused}
    outputs = []
    for start in range(0, count, batch_size):
        batch = keras.tree.map_structure(
            lambda array, start=start: np.ascontiguousarray(array[start : start + batch_size]), inputs
        )
        # Not model.predict: on the torch backend it imports TensorFlow into the same process, where it is installed.
        outputs.append(np.asarray(model.predict_on_batch(batch)))
    return np.concatenate(outputs)


def train_stock(model: Model, inputs: np.ndarray, targets: np.ndarray, batch_size: int) -> Callable[[int], None]:
    """Return what trains a number of epochs as a framework's users do, with Adam and mse, nothing recorded."""
    model.compile(optimizer="adam", loss="mse")

    def train_epochs(epochs: int) -> None:
        model.fit(inputs, targets, batch_size=batch_size, epochs=epochs, verbose=0)

    return train_epochs
